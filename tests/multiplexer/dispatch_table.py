"""Judges the same call over both routes, each in a fresh state, by a table of the results that it must return."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from socket import SOCK_NONBLOCK

from probes.entry.calls import Calls
from probes.entry.gate import Gate
from probes.entry.memory import Memory
from probes.testing import Broke, procfs
from probes.testing.caller import Caller
from probes.testing.expect import Expect
from probes.testing.socket_kinds import TCP, UDP, UNIX_STREAM, SocketKind
from probes.testing.states import Prepare
from tests.multiplexer.call_words import PlacedWords, Word
from tests.multiplexer.socket_view import socket_view

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
}
ROUTES = ("direct", "socketcall")
#: The cell of a call that returns the lowest free descriptor.
DESCRIPTOR = "fd"
#: What a check of the two routes expects to find between what they left.
NO_DIFFERENCE = "no difference"
Left = dict[str, object]


class Dispatch:
    """Makes the calls of a table over both routes, and judges them.

    Each route prepares the states of its own calls, by a gate that is not traced.
    """

    def __init__(self, gate: Gate, memory: Memory, expect: Expect, caller: Caller) -> None:
        self._memory, self._expect, self._caller = memory, expect, caller
        quiet = gate.quieted()
        self._calls = [Calls(gate, route, memory) for route in ROUTES]
        self._quiet = [Calls(quiet, route, memory) for route in ROUTES]
        self._prepare = [Prepare(calls) for calls in self._quiet]

    def judge(self, op: str, rows: Mapping[str, Sequence[Word]], table: str, *, delivers: bool = False) -> None:
        """Judges every cell: the result over each route, and that both leave the same memory and sockets.

        A row is a name of argument words, a column a state of the descriptor. With `delivers`, a call that succeeds
        sends to the peer, and the sockets are compared after the arrival. An operation without a direct call (accept,
        send, recv) is compared with the direct call that stands for it.
        """
        for row, column, expected in cells(table):
            checks = [self._expect(expected, state=column, words=row) for _ in ROUTES]
            same = self._expect(NO_DIFFERENCE, state=column, words=row, left="the-same")
            left, results = [], []
            for check, calls, prepare in zip(checks, self._calls, self._prepare, strict=True):
                state, before = prepare(*COLUMNS[column]), procfs.descriptors()
                placed, free = PlacedWords(self._memory, state.fd), next(fd for fd in count() if fd not in before)
                result = calls.make(op, *(placed.place(word) for word in rows[row]))
                check.of(DESCRIPTOR if expected == DESCRIPTOR and result == free else int(result), result)
                if delivers and result > 0 and state.peer >= 0:
                    state.wait(state.peer)
                made = [fd for fd in procfs.descriptors() if fd not in before]
                left.append(self._left(placed, state.fd, state.peer, made))
                results.append(result)
                state.made += made
                state.close()
            same.of(differences(*left) or NO_DIFFERENCE, *results)

    def _left(self, placed: PlacedWords, fd: int, peer: int, made: Sequence[int]) -> Left:
        """Returns what a call left: the memory it was given, and each socket."""
        left: Left = {f"memory {index}": data for index, data in enumerate(placed.contents())} | {"made": len(made)}
        for name, one in {"fd": fd, "peer": peer, **{f"made {index}": one for index, one in enumerate(made)}}.items():
            view = socket_view(one, self._caller, self._quiet[0])
            left |= {f"{name} {field}": value for field, value in view.items()}
        return left


def differences(one: Left, other: Left) -> dict[str, list[object]]:
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
