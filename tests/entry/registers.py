"""Loads the registers of a call over a route, and compares all of them before and after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import SupportsInt

from probes.abi.operations import OPERATIONS, SOCKETCALL
from probes.abi.syscalls import SYSCALLS
from probes.entry.gate import REGISTERS, WORD, Gate, Result
from probes.entry.memory import Memory

#: The register of the number and the result, those of the six arguments, and the others.
RESULT, ARGUMENTS = REGISTERS[WORD][0], REGISTERS[WORD][1:7]
OTHERS = REGISTERS[WORD][7:]
#: Values that no register holds by chance: no pointer, no small number, a different one in each register.
PATTERN = {name: 0x9E3779B97F4A7C15 * (1 + index) & ((1 << WORD) - 1) for index, name in enumerate(REGISTERS[WORD])}
#: The numbers of calls by name, from the kernel's i386 table.
NUMBER = {name: number for number, (name, _, _) in SYSCALLS.items()}


def values_of_call(route: str, name: str, words: Sequence[SupportsInt], memory: Memory) -> list[int]:
    """Returns the values of eax, ebx, … that make a call over a route. A call that is none of the 20 has its number."""
    values = [int(word) for word in words]
    if name not in OPERATIONS:
        return [NUMBER[name], *values]
    operation = OPERATIONS[name]
    if route == "direct":
        return [NUMBER[operation.direct_name], *values, *operation.fill]
    return [SOCKETCALL, operation.call, int(memory.words(*values))]


@dataclass(frozen=True)
class Registers:
    """Holds every general register by name, before or after a call."""

    values: Mapping[str, int]

    @classmethod
    def filled(cls, values: Sequence[int]) -> Registers:
        """Puts values into the lower halves of the first registers, eax first, and PATTERN into everything else."""
        lower = dict(zip(PATTERN, values, strict=False))
        return cls(PATTERN | {name: PATTERN[name] >> 32 << 32 | value & 0xFFFFFFFF for name, value in lower.items()})

    def enter(self, gate: Gate) -> Result:
        """Makes the call that these registers are."""
        first = [self.values[name] for name in (RESULT, *ARGUMENTS)]
        return gate.enter(*first, others={name: self.values[name] for name in OTHERS})

    def without_result(self) -> dict[str, int]:
        """Returns all registers but eax (rax), which a call must leave as they were."""
        return {name: value for name, value in self.values.items() if name != RESULT}
