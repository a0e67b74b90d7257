"""Judges the same call over both routes, each in a fresh state, by a table of the results that it must return."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from socket import SOCK_NONBLOCK

from probes.entry.calls import Calls
from probes.entry.gate import Gate, Result
from probes.entry.memory import Memory
from probes.testing import Broke, procfs
from probes.testing.caller import Caller
from probes.testing.expect import Expect
from probes.testing.socket_kinds import TCP, UDP, UNIX_STREAM, SocketKind
from probes.testing.states import Prepare
from tests.multiplexer.call_words import PlacedWords, Word
from tests.multiplexer.socket_view import Found, SocketView

#: The states of the descriptor, by column: arguments of probes.testing.states.Prepare. A listening socket is
#: non-blocking, so that accept returns EAGAIN where there is nothing to accept.
COLUMNS: dict[str, tuple[str] | tuple[str, SocketKind] | tuple[str, SocketKind, int]] = {
    "none": ("none",),
    "minus-one": ("none",),
    "pipe": ("pipe",),
    "path": ("path",),
    "tcp": ("unbound", TCP),
    "bound": ("bound", TCP),
    "served": ("beside-server", TCP),
    "listening": ("listening", TCP, SOCK_NONBLOCK),
    "pending": ("pending", TCP, SOCK_NONBLOCK),
    "connected": ("connected", TCP),
    "sent": ("with-data", TCP),
    "shut": ("half-closed", TCP),
    "ended": ("peer-half-closed", TCP),
    "udp": ("unbound", UDP),
    "udp-served": ("beside-server", UDP),
    "udp-connected": ("connected", UDP),
    "udp-sent": ("with-data", UDP),
    "unix": ("unbound", UNIX_STREAM),
    "unix-pending": ("pending", UNIX_STREAM),
    "unix-pair": ("connected", UNIX_STREAM),
    "unix-sent": ("with-data", UNIX_STREAM),
    "rights": ("with-rights", UNIX_STREAM),
}
ROUTES = ("direct", "socketcall")
#: The cell of a call that returns the lowest free descriptor.
DESCRIPTOR = "fd"
#: What net.core.somaxconn is in these tests, as in a new network namespace (SOMAXCONN since Linux 5.4).
MOST_BACKLOG = 4096
#: What a check of the two routes expects to find between what they left.
NO_DIFFERENCE = "no difference"
#: Returns what the call of a cell leaves, given its row, its column and its result.
Effects = Callable[[str, str, int | str], Found]
#: Stands for what a call may leave or not: no document says, and kernels differ. That both routes agree is judged.
UNSTATED = object()


@dataclass(frozen=True)
class Called:
    """Holds what a call returned, the lowest descriptor that was free before it, and what it left."""

    result: Result
    free: int
    left: Found


class Dispatch:
    """Makes the calls of a table over both routes, and judges them.

    Each route prepares the states of its own calls, by a gate that is not traced.
    """

    def __init__(self, gate: Gate, memory: Memory, expect: Expect, caller: Caller) -> None:
        self._memory, self._expect, self._caller = memory, expect, caller
        quiet = gate.quieted()
        self._calls = {route: Calls(gate, route, memory) for route in ROUTES}
        self._quiet = Calls(quiet, "socketcall", memory)
        self._prepare = {route: Prepare(Calls(quiet, route, memory)) for route in ROUTES}
        self._untouched: dict[tuple[str, str], Found] = {}
        #: False once what a peer should find was waited for in vain: then the next calls are not waited for.
        self._patient = True

    def judge(self, op: str, rows: Mapping[str, Sequence[Word]], table: str, effects: Effects) -> None:
        """Judges every cell over each route: the result, and what the call changed; and once that both routes agree.

        A row is a name of argument words, a column a state of the descriptor. `effects(row, column, result)` is what the
        call of a cell leaves, by name: memory by the words that point to it, how many descriptors were `made`, and of the
        sockets `fd`, `peer` and `made 0` what SocketView reads. Of a call that leaves nothing the result is judged, and what
        it changed nevertheless. An operation without a direct call (accept, send, recv) is compared with the direct call
        that stands for it.
        """
        agree = self._expect(NO_DIFFERENCE, left="the-same")
        left: dict[str, Found] = {route: {} for route in ROUTES}
        results: list[Result] = []
        for row, column, expected in cells(table):
            leaves, case = effects(row, column, expected), {"state": column, "words": row}
            stated = {name: value for name, value in leaves.items() if value is not UNSTATED}
            checks = [
                (
                    route,
                    self._expect(expected, **case),
                    self._expect(stated, **case, left="effects") if stated else None,
                )
                for route in ROUTES
            ]
            for route, returned, effect in checks:
                called = self._call(op, rows[row], route, column, expected, leaves)
                result = called.result
                lowest = expected == DESCRIPTOR and int(result) == called.free
                shown = DESCRIPTOR if lowest else result
                changed = {name: value for name, value in called.left.items() if leaves.get(name) is not UNSTATED}
                if effect is None:
                    returned.of({"result": shown, **changed} if changed else shown, result)
                else:
                    returned.of(shown, result)
                    effect.of(changed, result)
                left[route] |= {f"{row} {column} {name}": value for name, value in called.left.items()}
                results.append(result)
        agree.of(differences(*left.values()) or NO_DIFFERENCE, *results)

    def _call(
        self, op: str, words: Sequence[Word], route: str, column: str, expected: int | str, leaves: Found
    ) -> Called:
        """Makes the call of a cell in a fresh state, and returns what it returned and left."""
        untouched = self._view(route, column)
        state, before = self._prepare[route](*COLUMNS[column]), procfs.descriptors()
        placed, free = PlacedWords(self._memory, state.fd), next(fd for fd in count() if fd not in before)
        numbers = placed.place(op, words)
        was, now = self._option(op, state.fd, numbers), {}
        result = self._calls[route].make(op, *numbers)
        now |= self._option(op, state.fd, numbers)
        made = [fd for fd in procfs.descriptors() if fd not in before]
        was_in_memory, in_memory = placed.contents(made)
        ends = {"fd": state.fd, "peer": state.peer, **{f"made {index}": fd for index, fd in enumerate(made)}}
        arriving = leaves if self._patient and failing(int(result)) == failing(expected) else {}
        arriving = {name: value for name, value in arriving.items() if name.startswith("peer ")}
        found = {"made": len(made)} | in_memory | now | self._views(ends, arriving)
        self._patient &= all(found.get(name) == value for name, value in arriving.items())
        known = {"made": 0} | was_in_memory | was | untouched
        left = {name: value for name, value in found.items() if name in leaves or value != known.get(name)}
        state.made += made
        state.close()
        return Called(result, free, left)

    def _option(self, op: str, fd: int, numbers: Sequence[int]) -> Found:
        """Returns the value of the option that a setsockopt is about."""
        if op != "setsockopt":
            return {}
        with SocketView(fd, self._caller, self._quiet) as view:
            return {"option": view.option(numbers[1], numbers[2])}

    def _view(self, route: str, column: str) -> Found:
        """Returns what can be read of the sockets of a state in which no call was made."""
        if (route, column) not in self._untouched:
            state = self._prepare[route](*COLUMNS[column])
            self._untouched[route, column] = self._views({"fd": state.fd, "peer": state.peer}, {})
            state.close()
        return self._untouched[route, column]

    def _views(self, ends: Mapping[str, int], leaves: Found) -> Found:
        found: Found = {}
        for end, fd in ends.items():
            awaited = {name.removeprefix(f"{end} "): leaves[name] for name in leaves if name.startswith(f"{end} ")}
            with SocketView(fd, self._caller, self._quiet) as view:
                found |= {f"{end} {name}": value for name, value in view.read(awaited).items()}
        return found


def failing(expected: int | str) -> bool:
    """Returns True if a cell expects an error."""
    return isinstance(expected, int) and expected < 0


def differences(one: Found, other: Found) -> dict[str, list[object]]:
    """Returns what the two calls left that is not the same: [over the direct call, over socketcall] by name."""
    return {name: [one.get(name), other.get(name)] for name in one | other if one.get(name) != other.get(name)}


def cells(table: str) -> Iterator[tuple[str, str, int | str]]:
    """Yields (row, column, expected) for the cells of a table.

    A cell is the name of an error, a number, `fd` for the lowest free descriptor, or a point where no call is made.
    """
    head, *lines = (line.split() for line in table.splitlines() if line.strip())
    for row, *found in lines:
        if len(found) != len(head):
            raise Broke(f"row {row} has {len(found)} cells for {len(head)} columns")
        for column, cell in zip(head, found, strict=True):
            if cell != ".":
                yield row, column, expected_of(cell)


def expected_of(cell: str) -> int | str:
    """Returns the expected value that a cell stands for."""
    if hasattr(errno, cell):
        return -int(getattr(errno, cell))
    return cell if cell == DESCRIPTOR else int(cell)
