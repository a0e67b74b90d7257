"""Sweeps chunks of a plan, each in a sandbox, and narrows down members whose calls end their process.

The sandbox writes how far it came, and the results that were not expected, into memory that it shares with its parent, so
that they survive its death.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from probes.abi.record import Record, shown
from probes.entry.calls import Calls
from probes.entry.gate import gate
from probes.entry.memory import Memory
from probes.entry.sweep import Loop
from probes.report.sweep import Deviations, Outcome
from probes.sandbox import namespaces, sandbox
from probes.sandbox.channel import Channel
from probes.sandbox.messages import SandboxFailed
from probes.sandbox.sandbox import SandboxResult, SandboxSpec
from probes.sandbox.trial import Found
from probes.testing import procfs
from probes.testing.socket_model import OK
from probes.testing.spaces import Expected, Plan

#: Members of one run of the loop. Before and after it the sandbox says how far it came.
BLOCK = 1 << 14
#: A block whose process dies is swept again in blocks smaller by this factor, down to single members.
_NARROWER = 1 << 7
#: Deaths in one chunk after which the rest of each dying block is lost: each costs a sandbox.
_MOST_DEATHS = 200
#: Seconds for a chunk, and for a block that is narrowed down, on the reference machine (probes.sandbox.sandbox.DEADLINE).
_DEADLINE, _SHORT_DEADLINE = sandbox.DEADLINE, 10.0

_HEAD = struct.Struct("<QIIiI")
_RUN = struct.Struct("<QIi")
_ROOM, _AT, _TEXT = 4000, 64, 400
_RUNNING, _FINISHED, _FULL, _FAILED = range(4)


class SweepFailed(Exception):
    """A chunk could not be swept, through no answer of the implementation: why."""


@dataclass(frozen=True)
class Task:
    """Describes how the members of a plan are swept: `found` are the sandboxes, `slowness` multiplies the deadlines."""

    plan: Plan
    gate: str
    route: str
    found: Found
    slowness: float


@dataclass(frozen=True)
class _Attempt:
    """Holds how far a sandbox came: all members before `position` were swept. `death` says how it died, "" if it did not."""

    position: int
    runs: Sequence[tuple[int, int, int]]
    left_open: int
    full: bool = False
    death: str = ""


class Board:
    """Shares the progress of a sandbox with its parent: position, unexpected results as runs, and how it ended."""

    def __init__(self) -> None:
        """Maps it. Raises OSError."""
        self._map = mmap.mmap(-1, _AT + _ROOM * _RUN.size + _TEXT)
        self.clear(0)

    def clear(self, start: int) -> None:
        """Begins at a member."""
        self._runs, self._position = 0, start
        self._put(_RUNNING)

    def _put(self, state: int, left_open: int = 0, text: int = 0) -> None:
        _HEAD.pack_into(self._map, 0, self._position, self._runs, state, left_open, text)

    # In the sandbox

    def add(self, runs: Sequence[tuple[int, int, int]], position: int) -> bool:
        """Adds runs (member, count, result) of a block, and the member that follows it.

        Returns False if there is no room.
        """
        if self._runs + len(runs) > _ROOM:
            self._put(_FULL)
            return False
        for run in runs:
            _RUN.pack_into(self._map, _AT + self._runs * _RUN.size, *run)
            self._runs += 1
        self._position = position
        self._put(_RUNNING)
        return True

    def finish(self, left_open: int) -> None:
        """Says that all members were swept, and how many descriptors are open that were not before."""
        self._put(_FINISHED, left_open)

    def fail(self, why: str) -> None:
        """Says that the sweep failed, not the kernel."""
        text = why.encode(errors="backslashreplace")[:_TEXT]
        self._map[len(self._map) - _TEXT : len(self._map) - _TEXT + len(text)] = text
        self._put(_FAILED, text=len(text))

    # In the parent, which does not trust the sandbox

    @property
    def position(self) -> int:
        """Returns the member that a sandbox is at."""
        return int(_HEAD.unpack_from(self._map)[0])

    def attempt(self, start: int, stop: int, death: str) -> _Attempt:
        """Returns what a sandbox left that swept the members start to stop - 1. Raises SweepFailed."""
        position, count, state, left_open, length = _HEAD.unpack_from(self._map)
        if state == _FAILED:
            at = len(self._map) - _TEXT
            raise SweepFailed(self._map[at : at + min(length, _TEXT)].decode(errors="replace"))
        runs = [_RUN.unpack_from(self._map, _AT + index * _RUN.size) for index in range(min(count, _ROOM))]
        ends = [start, *(first + size for first, size, _ in runs)]
        ordered = all(run[0] >= end and run[1] for run, end in zip(runs, ends, strict=False))
        if not (start <= position <= stop and ordered and ends[-1] <= position and count <= _ROOM):
            raise SweepFailed(f"the sandbox damaged its notes at members {start} to {stop - 1}")
        if state == _FINISHED and position == stop:
            return _Attempt(position, runs, left_open)
        return _Attempt(position, runs, 0, state == _FULL, death or "ended early")


def sweep(task: Task, start: int, stop: int, board: Board, channel: Channel, work: Path) -> Outcome:
    """Sweeps the members start to stop - 1, and returns what was found. Raises SweepFailed, CannotSandbox."""
    outcome = Outcome()
    _cover(task, start, stop, BLOCK, board, channel, work, outcome)
    return outcome


def _cover(
    task: Task, start: int, stop: int, step: int, board: Board, channel: Channel, work: Path, outcome: Outcome
) -> None:
    while start < stop:
        found = _attempt(task, start, stop, step, board, channel, work)
        _judge(task.plan, found, outcome.deviations)
        if found.left_open:
            outcome.left_open.append((start, found.position - start, found.left_open))
        at = found.position
        if not found.death:
            return
        if found.full and at > start:
            start = at
            continue
        end = min(at + step, stop)
        if not found.full:
            outcome.deaths += 1
        if step == 1:
            (expected,) = task.plan.expected(at, end)
            outcome.deviations.add(_shown(expected.answer), f"the process {found.death}", at, 1)
        elif outcome.deaths > _MOST_DEATHS:
            outcome.lost.append((at, end - at, f"the process {found.death}"))
        else:
            _cover(task, at, end, max(1, step // _NARROWER), board, channel, work, outcome)
        start = end


def _attempt(task: Task, start: int, stop: int, step: int, board: Board, channel: Channel, work: Path) -> _Attempt:
    board.clear(start)
    deadline = task.slowness * (_DEADLINE if step == BLOCK else _SHORT_DEADLINE)
    result = sandbox.run(
        lambda: _body(task, start, stop, step, board),
        SandboxSpec(trace="none", isolation=task.found.isolation), channel, work, deadline,
    )  # fmt: skip
    _require_sandbox(result)
    return board.attempt(start, stop, _death(result, deadline))


def _require_sandbox(result: SandboxResult) -> None:
    for message in result.messages:
        if isinstance(message, SandboxFailed):
            raise SweepFailed(f"no sandbox: {message.why}")


def _death(result: SandboxResult, deadline: float) -> str:
    if result.late:
        return f"did not end within {deadline:.0f} s"
    if result.status is None or not os.WIFSIGNALED(result.status):
        return ""
    number = os.WTERMSIG(result.status)
    try:
        return f"was killed by {signal.Signals(number).name}"
    except ValueError:
        return f"was killed by signal {number}"


def _judge(plan: Plan, found: _Attempt, deviations: Deviations) -> None:
    for member, count, result in found.runs:
        for expected in plan.expected(member, member + count):
            deviations.add(_shown(expected.answer), shown(result), expected.start, expected.count)


def _shown(answer: int | str | None) -> str:
    return "no answer stated" if answer is None else shown(answer)


# In the sandbox


def _body(task: Task, start: int, stop: int, step: int, board: Board) -> None:
    try:
        before = len(procfs.descriptors())
        for runs, position in _blocks(task, start, stop, step):
            if not board.add(runs, position):
                return
        board.finish(len(procfs.descriptors()) - before)
    except Exception as error:
        board.fail(f"{type(error).__name__}: {error}")


def _blocks(task: Task, start: int, stop: int, step: int) -> Iterator[tuple[list[tuple[int, int, int]], int]]:
    """Yields the unexpected results of each block as runs (member, count, result), and the member that follows it."""
    memory = Memory()
    (free,) = procfs.lowest()
    for track, first, last, member in task.plan.parts(start, stop):
        if not track.privileged:
            namespaces.keep_capabilities(())
        loop = track.sweep(Calls(gate(task.gate), task.route, memory)).loop(min(step, last - first + 1))
        pending = task.plan.expected(member, member + last - first + 1)
        yield from _compared(loop, first - member, pending, step, free)


def _compared(
    loop: Loop, offset: int, pending: Iterator[Expected], step: int, free: int
) -> Iterator[tuple[list[tuple[int, int, int]], int]]:
    """Yields as _blocks does for members of one track. `offset` makes a member its value, `free` is a new descriptor."""
    for expected in pending:
        answer = free if expected.answer == OK else expected.answer
        uniform = b"" if answer is None else struct.pack("=i", answer) * min(step, expected.count)
        for at in range(expected.start, expected.stop, step):
            count = min(step, expected.stop - at)
            data = loop.run(at + offset, count)
            if answer is None or data == uniform or (count < step and data == uniform[: 4 * count]):
                yield [], at + count
            else:
                yield [*_odd(array("i", data), int(answer), at)], at + count


def _odd(results: Sequence[int], answer: int, member: int) -> Iterator[tuple[int, int, int]]:
    for result, group in groupby(results):
        count = len(list(group))
        if result != answer:
            yield member, count, result
        member += count


# Evidence


def traced(task: Task, member: int, channel: Channel, work: Path) -> tuple[list[Record], str]:
    """Makes the calls for one member again, traced, and returns their records and the judged result, as it is shown.

    Raises SweepFailed, CannotSandbox.
    """
    board = Board()
    board.clear(member)
    deadline = task.slowness * _SHORT_DEADLINE
    spec = task.found.spec(SandboxSpec(isolation=task.found.isolation))
    result = sandbox.run(lambda: _once(task, member, board), spec, channel, work, deadline)
    _require_sandbox(result)
    found = board.attempt(member, member + 1, _death(result, deadline))
    return result.records(), f"the process {found.death}" if found.death else shown(found.runs[0][2])


def _once(task: Task, member: int, board: Board) -> None:
    try:
        track, value = task.plan.track_at(member)
        if not track.privileged:
            namespaces.keep_capabilities(())
        result = track.sweep(Calls(gate(task.gate), task.route, Memory())).once(value)
        board.add([(member, 1, result)], member + 1)
        board.finish(0)
    except Exception as error:
        board.fail(f"{type(error).__name__}: {error}")
