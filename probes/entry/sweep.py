"""Ranges of calls by a machine-code loop (probes/entry/machine/loop.s): every port, every number, no Python between.

A sweep is a small program: calls whose registers are cells, one of which takes each value of a range. The result of
one call is judged; a result may be the argument of a later call, as a descriptor is.
"""

from __future__ import annotations

import ctypes
import struct
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import SupportsInt

from probes.abi.operations import OPERATIONS, OTHER_CALLS, SOCKETCALL
from probes.abi.record import unsigned
from probes.entry.calls import Calls
from probes.entry.gate import WORD, Gate, Result, enterable
from probes.entry.machine.code import LOOP
from probes.entry.memory import Block

#: Values between two looks at signals and the deadline.
_CHUNK = 1 << 16
_PLAN = struct.Struct("<8I")
#: Seven registers, then the places that take the result: its cell, and two arrays of argument words at most.
_STEP = struct.Struct("<10I")
_REGISTERS, _RESULTS = 7, 3


@dataclass(eq=False)
class Cell:
    """A 32-bit word in memory that registers are loaded from. `copies` are argument words that get its value too."""

    block: Block
    copies: list[Block]

    def store(self, value: int) -> None:
        """Puts a value into the cell and its copies."""
        for block in (self.block, *self.copies):
            block.write(struct.pack("<I", unsigned(value)))


@dataclass(frozen=True)
class Swept:
    """What a range answered: the values, a result for each, and how to make one of the calls again, traced."""

    values: range
    results: Sequence[int]
    sweep: Sweep
    #: What the machine code took.
    seconds: float

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.values, self.results, strict=True)

    @property
    def histogram(self) -> dict[int, int]:
        """How often each result came."""
        return dict(Counter(self.results))

    def again(self, value: int) -> Result:
        """The judged result of one value, by calls through the gate that a tracer sees."""
        return self.sweep.once(value)


class Sweep:
    """The program: add calls with `call`, `plain` and `raw`, one of them judged, then `run` it over a range.

    `value` is the cell that varies. `varied_port` has the loop store the value into an address instead.
    """

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.value = self._cell(0)
        self._zero, self._waste = self._cell(0), self._cell(0)
        self._big_endian = False
        self._steps: list[tuple[tuple[Cell, ...], Cell]] = []
        self._judged: Cell | None = None

    def varied_port(self, address: Block, offset: int) -> None:
        """The value goes, as 16 bits in network order, to `offset` in an address."""
        self.value.block = address.part(offset, 2)
        self._big_endian = True

    def call(self, op: str, *words: Cell | SupportsInt, judged: bool = False) -> Cell:
        """Adds one of the 20 operations, on the route of the sweep's calls. Its result is the cell that comes back."""
        operation = OPERATIONS[op]
        if len(words) != operation.words:
            raise TypeError(f"{op} takes {operation.words} words, not {len(words)}")
        if self.calls.route == "direct":
            return self.raw(operation.direct, *words, *operation.fill, judged=judged)
        array = self.calls.memory.guarded(4 * operation.words)
        for index, word in enumerate(words):
            place = array.part(4 * index, 4)
            if not isinstance(word, Cell):
                place.write(struct.pack("<I", unsigned(int(word))))
            elif word is self.value:
                self._vary_word(place)
            elif len(word.copies) + 1 == _RESULTS:
                raise TypeError(f"a result may be a word of {_RESULTS - 1} socketcalls at most")
            else:
                word.copies.append(place)
        return self.raw(SOCKETCALL, operation.call, array.address, judged=judged)

    def plain(self, name: str, *words: Cell | SupportsInt, judged: bool = False) -> Cell:
        """Adds a plain call."""
        return self.raw(OTHER_CALLS[name].direct, *words, judged=judged)

    def raw(self, *registers: Cell | SupportsInt, judged: bool = False) -> Cell:
        """Adds a call by its registers: eax, ebx, ecx, …"""
        cells = tuple(r if isinstance(r, Cell) else self._cell(int(r)) for r in registers)
        result = self._cell(0)
        self._steps.append((cells, result))
        if judged:
            self._judged = result
        return result

    def _cell(self, value: int) -> Cell:
        return Cell(self.calls.memory.words(value), [])

    def _vary_word(self, place: Block) -> None:
        # The loop writes the value to one place. Registers load from a cell, so they follow it there.
        if self._big_endian or self.value.copies:
            raise TypeError("the value can be one word of one socketcall")
        self.value.block = place
        self.value.copies.append(place)

    def once(self, value: int) -> Result:
        """Makes the calls for one value through the gate, where a tracer sees them, and returns the judged result."""
        self.value.block.write(struct.pack(">H", value) if self._big_endian else struct.pack("<I", unsigned(value)))
        answer: Result | None = None
        for cells, place in self._steps:
            result = self.calls.gate.enter(*(cell.block.words()[0] for cell in cells))
            place.store(result)
            if place is self._judged:
                answer = result
        if answer is None:
            raise TypeError("no call of this sweep is judged")
        return answer

    def run(self, values: range) -> Swept:
        """Makes the calls for every value by the loop."""
        if values.step != 1 or self._judged is None:
            raise TypeError("a sweep needs a range of step 1, and a call that is judged")
        memory = self.calls.memory
        table = memory.put(b"".join(self._step(cells, result) for cells, result in self._steps))
        buffer = memory.alloc(4 * min(_CHUNK, len(values)))
        plan = memory.alloc(_PLAN.size)
        loop = _loop(self.calls.gate)
        results, seconds = array("i"), 0.0
        for first in range(values.start, values.stop, _CHUNK):
            count = min(_CHUNK, values.stop - first)
            varied = int(self.value.block), int(self._big_endian), unsigned(first), count
            plan.write(_PLAN.pack(int(table), len(self._steps), *varied, int(buffer), int(self._judged.block)))
            start = time.perf_counter()
            loop(plan.address)
            seconds += time.perf_counter() - start
            results.frombytes(buffer.part(0, 4 * count).read())
        return Swept(values, results, self, seconds)

    def _step(self, cells: tuple[Cell, ...], result: Cell) -> bytes:
        places = [result.block, *result.copies]
        places += [self._waste.block] * (_RESULTS - len(places))
        registers = [cell.block for cell in cells] + [self._zero.block] * (_REGISTERS - len(cells))
        return _STEP.pack(*map(int, registers), *map(int, places))


_loops: dict[str, Callable[[int], None]] = {}


def _loop(gate: Gate) -> Callable[[int], None]:
    if gate.name not in _loops:
        code, slot = LOOP[WORD]
        _loops[gate.name] = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(enterable(code, slot, gate.name))
    return _loops[gate.name]
