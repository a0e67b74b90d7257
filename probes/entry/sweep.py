"""Sweep a range of values by a machine-code loop (probes/entry/machine/loop.s): every port, every call number.

A sweep is a sequence of calls whose registers are loaded from cells. One cell takes each value of the range; the result
of one call is judged; a result may be an argument of later calls, as a descriptor is.
"""

from __future__ import annotations

import struct
import time
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import lt
from typing import SupportsInt

from probes.abi.operations import OPERATIONS, OTHER_CALLS, SOCKETCALL
from probes.abi.record import unsigned
from probes.entry.calls import Calls
from probes.entry.gate import Gate, Result
from probes.entry.machine.code import LOOP
from probes.entry.memory import Block

#: Values for one run of the loop: Python handles signals, and so the deadline, between two runs.
_CHUNK = 1 << 16
_PLAN = struct.Struct("<8I")
#: Seven registers, then where the result is stored: its cell, and words of two argument arrays at most.
_STEP = struct.Struct("<10I")
_REGISTERS, _RESULTS = 7, 3


@dataclass(eq=False)
class Cell:
    """Is a 32-bit word in memory from which a register is loaded. `copies` are argument words that have the same value."""

    block: Block
    copies: list[Block]

    def store(self, value: int) -> None:
        """Write a value to the cell and its copies."""
        for block in (self.block, *self.copies):
            block.write(struct.pack("<I", unsigned(value)))


@dataclass(frozen=True)
class Swept:
    """Holds the values of a sweep, in ascending order, with the judged result of each."""

    values: Sequence[int]
    results: Sequence[int]
    sweep: Sweep
    #: Seconds spent in the machine code.
    seconds: float

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield (value, result)."""
        return zip(self.values, self.results, strict=True)

    @property
    def histogram(self) -> dict[int, int]:
        """Return how often each result occurred."""
        return dict(Counter(self.results))

    def again(self, value: int) -> Result:
        """Repeat the calls for one value through the traced gate, and return the judged result."""
        return self.sweep.once(value)


@dataclass
class Loop:
    """Makes the calls of a sweep, untraced: its words of the plan do not change, but for the values."""

    _enter: Callable[[int], None]
    _fixed: tuple[int, int, int, int, int]
    _plan: Block
    _results: Block
    #: Seconds spent in the machine code.
    seconds: float = 0.0

    def run(self, first: int, count: int) -> bytes:
        """Make the calls for `count` values from `first` on, and return the judged results as words in native order."""
        results = self._results.part(0, 4 * count)
        table, steps, cell, order, judged = self._fixed
        self._plan.write(_PLAN.pack(table, steps, cell, order, unsigned(first), count, int(results), judged))
        start = time.perf_counter()
        self._enter(self._plan.address)
        self.seconds += time.perf_counter() - start
        return results.read()


class Sweep:
    """Collects calls by `call`, `syscall` and `raw`, one of them judged, and runs them for a range of values.

    `value` is the cell that varies. After `varied_port` the value goes into a socket address instead.
    """

    def __init__(self, calls: Calls) -> None:
        """Begin a sweep over the route, the gate and the memory of `calls`."""
        self.calls = calls
        self.value = self._cell(0)
        self._zero, self._waste = self._cell(0), self._cell(0)
        self._big_endian = False
        self._steps: list[tuple[tuple[Cell, ...], Cell]] = []
        self._judged: Cell | None = None

    def varied_port(self, address: Block, offset: int) -> None:
        """Make the value two bytes in network order at `offset` of a socket address."""
        self.value.block = address.part(offset, 2)
        self._big_endian = True

    def call(self, op: str, *words: Cell | SupportsInt, judged: bool = False) -> Cell:
        """Add one of the 20 operations over the route of `calls`, and return the cell of its result.

        Raises TypeError: the number of words is wrong, or a word varies in more places than the loop can store.
        """
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
                raise TypeError(f"a result can be a word of at most {_RESULTS - 1} socketcalls")
            else:
                word.copies.append(place)
        return self.raw(SOCKETCALL, operation.call, array.address, judged=judged)

    def syscall(self, name: str, *words: Cell | SupportsInt, judged: bool = False) -> Cell:
        """Add another documented system call (close, read, …), and return the cell of its result."""
        return self.raw(OTHER_CALLS[name].direct, *words, judged=judged)

    def raw(self, *registers: Cell | SupportsInt, judged: bool = False) -> Cell:
        """Add a call by its registers eax, ebx, ecx, … (missing ones are 0), and return the cell of its result."""
        cells = tuple(r if isinstance(r, Cell) else self._cell(int(r)) for r in registers)
        result = self._cell(0)
        self._steps.append((cells, result))
        if judged:
            self._judged = result
        return result

    def _cell(self, value: int) -> Cell:
        return Cell(self.calls.memory.words(value), [])

    def _vary_word(self, place: Block) -> None:
        # The loop stores the value in one place only: this word becomes the cell that registers load from.
        if self._big_endian or self.value.copies:
            raise TypeError("the varied value can be one word of one socketcall only")
        self.value.block = place
        self.value.copies.append(place)

    def once(self, value: int) -> Result:
        """Make the calls for one value through the traced gate, and return the judged result.

        Raises TypeError: no call is judged.
        """
        self.value.block.write(struct.pack(">H", value) if self._big_endian else struct.pack("<I", unsigned(value)))
        judged: Result | None = None
        for cells, place in self._steps:
            result = self.calls.gate.enter(*(cell.block.words()[0] for cell in cells))
            place.store(result)
            if place is self._judged:
                judged = result
        if judged is None:
            raise TypeError("no call of this sweep is judged; pass judged=True to one")
        return judged

    def run(self, values: Sequence[int]) -> Swept:
        """Make the calls for every value by the loop, untraced.

        Raises TypeError: the values do not ascend, or no call is judged.
        """
        ascend = values.step == 1 if isinstance(values, range) else all(map(lt, values, values[1:]))
        if not ascend or self._judged is None:
            raise TypeError("a sweep needs values that ascend, a range by 1, and one call with judged=True")
        loop = self.loop(min(_CHUNK, len(values)))
        results = array("i")
        for first, count in _chunks(values):
            results.frombytes(loop.run(first, count))
        return Swept(values, results, self, loop.seconds)

    def loop(self, most: int) -> Loop:
        """Return the loop over the calls added so far, for at most so many values in one run.

        Raises TypeError: no call is judged.
        """
        if self._judged is None:
            raise TypeError("a sweep needs one call with judged=True")
        memory = self.calls.memory
        table = memory.put(b"".join(self._step(cells, result) for cells, result in self._steps))
        fixed = int(table), len(self._steps), int(self.value.block), int(self._big_endian), int(self._judged.block)
        return Loop(_loop(self.calls.gate), fixed, memory.alloc(_PLAN.size), memory.alloc(4 * most))

    def _step(self, cells: tuple[Cell, ...], result: Cell) -> bytes:
        places = [result.block, *result.copies]
        places += [self._waste.block] * (_RESULTS - len(places))
        registers = [cell.block for cell in cells] + [self._zero.block] * (_REGISTERS - len(cells))
        return _STEP.pack(*map(int, registers), *map(int, places))


def _chunks(values: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first value and the number of values of each run of the loop, which counts up by one."""
    start = 0
    while start < len(values):
        first, stop = values[start], min(len(values), start + _CHUNK)
        gap = bisect_left(range(start + 1, stop), True, key=lambda at: values[at] - first > at - start)
        yield first, gap + 1
        start += gap + 1


_loops: dict[Gate, Callable[[int], None]] = {}


def _loop(gate: Gate) -> Callable[[int], None]:
    if gate not in _loops:
        _loops[gate] = gate.function(LOOP)
    return _loops[gate]
