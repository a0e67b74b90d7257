"""Loads the registers of a call over a route, and compares all of them before and after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import SupportsInt

from probes.abi.operations import OPERATIONS, SOCKETCALL
from probes.abi.syscalls import SYSCALLS
from probes.entry.gate import REGISTERS, Gate, Result
from probes.entry.memory import Memory

#: Values that no register holds by chance, by word size: no pointer, no small number, a different one in each register.
PATTERN = {
    word: {name: 0x9E3779B97F4A7C15 * (1 + index) & ((1 << word) - 1) for index, name in enumerate(names)}
    for word, names in REGISTERS.items()
}
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
    def filled(cls, word: int, values: Sequence[int]) -> Registers:
        """Puts values into the lower halves of the first registers, eax first, and PATTERN into everything else."""
        pattern = PATTERN[word]
        lower = dict(zip(pattern, values, strict=False))
        return cls(pattern | {name: pattern[name] >> 32 << 32 | value & 0xFFFFFFFF for name, value in lower.items()})

    def enter(self, gate: Gate) -> Result:
        """Makes the call that these registers are."""
        first, others = list(self.values.values())[:7], list(self.values)[7:]
        return gate.enter(*first, others={name: self.values[name] for name in others})

    def without_result(self) -> dict[str, int]:
        """Returns all registers but eax (rax), which a call must leave as they were."""
        return {name: self.values[name] for name in list(self.values)[1:]}
