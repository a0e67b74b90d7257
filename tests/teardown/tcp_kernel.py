"""Makes the calls of tcp_model.py, polls every open socket after each, and writes both as text."""

from __future__ import annotations

import socket
import string
import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import cycle
from typing import NamedTuple

from probes.abi.record import errno_name
from probes.entry.calls import Calls
from probes.entry.gate import Result
from probes.testing import need
from probes.testing.readiness import WANTED
from probes.testing.settling import Settling
from probes.testing.socket_kinds import TCP, TCP6, SocketKind
from probes.testing.states import Prepare
from tests.teardown.tcp_model import DARK, Call, Step

KINDS = {4: TCP, 6: TCP6}
SOL_SOCKET, SO_REUSEADDR, SO_LINGER, SO_RCVTIMEO, SO_SNDTIMEO = 1, 2, 13, 20, 21
ON, RESETS = struct.pack("<i", 1), struct.pack("<ii", 1, 0)
#: Where the model is wrong a connect or an accept may block: it then fails after one second. struct timeval.
ONE_SECOND = struct.pack("<ii", 1, 0)
NOW = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
BACKLOG, MOST = 16, 16
#: The ports of a sequence begin at 5000 and a multiple of STRIDE: they stay below ip_local_port_range.
FIRST_PORT, STRIDE = 5000, 8
_shifts = cycle(range(FIRST_PORT, 32000, STRIDE))
_POLLFD = struct.Struct("<iHH")
Predicted = int | dict[int, int]


class Made(NamedTuple):
    """A call that was made, or a poll of all sockets; what was predicted, and what came of it."""

    call: Call | None
    predicted: Predicted
    answer: Predicted
    result: Result

    @property
    def agrees(self) -> bool:
        """True if the answer is the predicted one."""
        return self.answer == self.predicted


class Surroundings:
    """What all sequences of a test share: a listener for each family that drops every SYN, and what awaits packets."""

    def __init__(self, calls: Calls, families: Iterable[int]) -> None:
        """Makes the sockets, by calls that are not traced."""
        self.dark = {family: Prepare(calls, 4000, 4001)("backlog-full", KINDS[family]).server for family in families}
        self.settle = Settling(calls).settle


class Kernel:
    """The sockets of a sequence by slot."""

    def __init__(self, calls: Calls, around: Surroundings, family: int) -> None:
        """Makes the calls of the sequence over `calls`."""
        self.calls, self._around, self._kind = calls, around, KINDS[family]
        self._quiet = Calls(calls.gate.quieted(), calls.route, calls.memory)
        self._dark, self._shift = around.dark[family], next(_shifts)
        self._room = calls.memory.alloc(MOST)
        self.fds: dict[int, int] = {}
        self._make: dict[str, Callable[[int, int], Result]] = {
            "bind": lambda fd, port: self.calls.bind(fd, self._address(port)),
            "connect": lambda fd, port: self.calls.connect(fd, self._address(port)),
            "listen": lambda fd, _: self.calls.listen(fd, BACKLOG),
            "send": lambda fd, count: self.calls.make("send", fd, self._room, count, NOW),
            "recv": lambda fd, count: self.calls.make("recv", fd, self._room, count, NOW),
            "shutdown": lambda fd, how: self.calls.make("shutdown", fd, how),
            "peer": lambda fd, _: self.calls.name("getpeername", fd).result,
            "disconnect": lambda fd, _: self.calls.connect(fd, bytes(16)),
        }  # fmt: skip

    def _address(self, port: int) -> bytes:
        return self._dark if port == DARK else self._kind.address(port + self._shift)

    def play(self, steps: Iterable[Step]) -> list[Made]:
        """Makes the calls of all steps, up to one that does not agree, and closes the sockets."""
        made: list[Made] = []
        for step in steps:
            made.append(self._one(step))
            if made[-1].agrees:
                self._around.settle()
                made += self._poll(step.events)
            if not made[-1].agrees:
                break
        for fd in self.fds.values():
            self._quiet.close(fd)
        self._around.settle()
        return made

    def _one(self, step: Step) -> Made:
        call = step.call
        if call.op == "error":
            output = self.calls.getsockopt(self.fds[call.slot], SOL_SOCKET, socket.SO_ERROR).as_int()
            return Made(call, step.predicted, int(str(output.actual)), output.result)
        result = self._socket(call) if call.op == "socket" else self._other(call)
        answer = int(result) if call.op in ("send", "recv") else min(int(result), 0)
        return Made(call, step.predicted, answer, result)

    def _socket(self, call: Call) -> Result:
        family, type_, protocol = self._kind.triple
        result = self.calls.socket(family, type_ | (socket.SOCK_NONBLOCK if call.value else 0), protocol)
        if result >= 0:
            self._keep(call.slot, result)
        return result

    def _keep(self, slot: int, fd: int) -> None:
        self.fds[slot] = int(fd)
        # A listener's port stays in use by the connections that it accepted.
        need(self._quiet.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, ON))
        # Nagle's algorithm holds data back until the peer acknowledges what came before, which it may delay.
        need(self._quiet.setsockopt(fd, socket.IPPROTO_TCP, socket.TCP_NODELAY, ON))
        for option in (SO_RCVTIMEO, SO_SNDTIMEO):
            need(self._quiet.setsockopt(fd, SOL_SOCKET, option, ONE_SECOND))

    def _other(self, call: Call) -> Result:
        fd = self.fds[call.slot]
        if call.op in ("close", "abort"):
            if call.op == "abort":
                need(self._quiet.setsockopt(fd, SOL_SOCKET, SO_LINGER, RESETS))
            return self.calls.close(self.fds.pop(call.slot))
        if call.op == "accept":
            result = self.calls.accept(fd)
            if result >= 0:
                self._keep(call.value, result)
            return result
        return self._make[call.op](fd, call.value)

    def _poll(self, events: dict[int, int]) -> list[Made]:
        if not events:
            return []
        rows = b"".join(_POLLFD.pack(self.fds[slot], WANTED, 0) for slot in events)
        block = self.calls.memory.scratch(rows, "pollfds")
        result = self.calls.syscall("poll", block, len(events), 0)
        found = [revents for _, _, revents in _POLLFD.iter_unpack(block.read())]
        if result != sum(map(bool, found)):
            found = [int(result)] * len(found)
        return [Made(None, events, dict(zip(events, found, strict=True)), result)]


def transcript(made: Sequence[Made]) -> list[str]:
    """Returns calls as lines of text, and the polls whose events are not the predicted ones."""
    lines = []
    for one in made:
        if one.call is None:
            if not one.agrees:
                lines += [f"poll finds {_events(one.answer)}, the model predicts {_events(one.predicted)}"]
        else:
            wrong = "" if one.agrees else f", the model predicts {_shown(one.predicted)}"
            lines.append(f"{_written(one.call)} = {_shown(one.answer)}{wrong}")
    return lines


def _shown(value: Predicted) -> str:
    assert isinstance(value, int)
    return f"{value} {errno_name(value)}" if value < 0 else str(value)


def _events(events: Predicted) -> str:
    assert isinstance(events, dict)
    return " ".join(f"{string.ascii_lowercase[slot]}:{value:#x}" for slot, value in events.items())


def _written(call: Call) -> str:
    name = string.ascii_lowercase
    if call.op == "accept":
        return f"{name[call.value]} = {name[call.slot]}.accept()"
    value = "the dark port" if call == Call("connect", call.slot, DARK) else str(call.value)
    has_value = call.op in ("socket", "bind", "connect", "send", "recv", "shutdown")
    return f"{name[call.slot]}.{call.op}({value if has_value else ''})"


def kinds_of(protocols: Iterable[str]) -> dict[int, SocketKind]:
    """Returns the kinds of TCP socket that a kernel with these protocols has, by family."""
    return {family: kind for family, kind in KINDS.items() if family == 4 or "TCPv6" in protocols}
