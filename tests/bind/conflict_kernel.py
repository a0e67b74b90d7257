"""Makes the calls of conflict_model.py, and writes them as text."""

from __future__ import annotations

import fcntl
import os
import socket
import string
import struct
from collections.abc import Callable, Iterable, Sequence
from errno import errorcode
from typing import NamedTuple

from probes.abi import sockaddr
from probes.entry.calls import Calls
from probes.entry.gate import Result
from probes.testing import need
from probes.testing.settling import Settling
from tests.bind.conflict_model import Call, Step

AF = {4: socket.AF_INET, 6: socket.AF_INET6}
TYPE_AND_PROTOCOL = {"tcp": (1, 6), "udp": (2, 17), "udp-lite": (2, 136)}
#: The options of the model: level and number (include/uapi/asm-generic/socket.h, linux/in6.h), and the name.
OPTIONS = {
    "reuse": (1, 2, "SO_REUSEADDR"), "reuseport": (1, 15, "SO_REUSEPORT"), "device": (1, 25, "SO_BINDTODEVICE"),
    "v6only": (41, 26, "IPV6_V6ONLY"), "deaf": (1, 26, "SO_ATTACH_FILTER"),
}  # fmt: skip
SO_RCVTIMEO, SO_SNDTIMEO = 20, 21
#: A filter of one instruction that drops every packet: struct sock_filter {BPF_RET | BPF_K, 0, 0, 0}.
DROP = struct.pack("<HBBI", 6, 0, 0, 0)
#: The number of setresuid in the i386 table, for ids of 32 bits.
_SETRESUID32 = 208
#: Where the model is wrong a connect or an accept may block: it then fails after one second. struct timeval.
ONE_SECOND = struct.pack("<ii", 1, 0)
BACKLOG = 16


class Made(NamedTuple):
    """A call that was made, the predicted result, and the result."""

    call: Call
    predicted: int
    result: Result

    @property
    def answer(self) -> int:
        """The result as the model predicts it: 0 for a descriptor."""
        return min(int(self.result), 0)

    @property
    def agrees(self) -> bool:
        """True if the result is the predicted one."""
        return self.answer == self.predicted


class Kernel:
    """The sockets by slot. Their calls are made over `calls`.

    With `users` each socket is made as the user of its call, which needs root. `shift` is added to every port.
    """

    def __init__(self, calls: Calls, users: bool = False, shift: int = 0) -> None:
        self.calls, self.users, self.shift = calls, users, shift
        self._quiet = Calls(calls.gate.quieted(), calls.route, calls.memory)
        self.fds: dict[int, int] = {}
        self._owners: dict[int, int] = {}
        self._limited: set[int] = set()
        self._ends: set[int] = set()
        self._makers: dict[str, Callable[[Call], Result]] = {
            "socket": self._socket, "set": self._set, "bind": self._bind, "listen": self._listen,
            "connect": self._connect, "close": self._close, "shutdown": self._shutdown, "syn": self._syn,
        }  # fmt: skip

    def make(self, step: Step) -> list[Made]:
        """Makes the call of a step; after a connect of TCP accepts the connection too."""
        made = [Made(step.call, step.predicted, self._makers[step.call.op](step.call))]
        if step.accepted and made[0].result == 0:
            listener, end = step.accepted
            accept = Call("accept", listener, end=end)
            made.append(Made(accept, 0, self._accept(accept)))
            self._ends |= {step.call.slot, end}
        return made

    def play(self, steps: Iterable[Step]) -> list[Made]:
        """Makes the calls of all steps, up to one whose result is not the predicted one."""
        made: list[Made] = []
        for step in steps:
            made += self.make(step)
            if not made[-1].agrees:
                break
        return made

    def forget(self, slots: Iterable[int]) -> None:
        """Closes the sockets of some slots, untraced."""
        for slot in slots:
            fd = self.fds.pop(slot, None)
            self._ends.discard(slot)
            if fd is not None:
                self._limited.discard(fd)
                self._quiet.close(fd)

    def _socket(self, call: Call) -> Result:
        self._owners[call.slot] = call.user
        words = AF[call.family], *TYPE_AND_PROTOCOL[call.protocol]
        result = self._as_owner(call.slot, lambda: self.calls.socket(*words))
        if result >= 0:
            self.fds[call.slot] = int(result)
        return result

    def _as_owner(self, slot: int, make: Callable[[], Result]) -> Result:
        """Makes a call with the effective user of the socket of a slot."""
        user = self._owners.get(slot, 0)
        if not self.users or not user:
            return make()
        self._become(user)
        try:
            return make()
        finally:
            self._become(0)

    def _become(self, user: int) -> None:
        """Changes the effective user of the process that makes the calls, untraced (setresuid(2))."""
        need(self._quiet.gate.enter(_SETRESUID32, -1, user, -1), "setresuid")

    def _set(self, call: Call) -> Result:
        level, option, _ = OPTIONS[call.option]
        if call.option == "deaf":
            filter = struct.pack("<II", 1, self.calls.memory.put(DROP).address)
            return self.calls.setsockopt(self.fds[call.slot], level, option, filter)
        value = call.value.encode() + b"\0" if isinstance(call.value, str) else int(call.value)
        return self.calls.setsockopt(self.fds[call.slot], level, option, value)

    def _bind(self, call: Call) -> Result:
        return self.calls.bind(self.fds[call.slot], address(call.host, call.port + self.shift))

    def _listen(self, call: Call) -> Result:
        return self.calls.listen(self.fds[call.slot], BACKLOG)

    def _connect(self, call: Call) -> Result:
        self._limit(call.slot, SO_SNDTIMEO)
        return self.calls.connect(self.fds[call.slot], address(call.host, call.port + self.shift))

    def _accept(self, call: Call) -> Result:
        self._limit(call.slot, SO_RCVTIMEO)
        result = self._as_owner(call.slot, lambda: self.calls.accept(self.fds[call.slot]))
        if result >= 0:
            self._owners[call.end] = self._owners.get(call.slot, 0)
            self.fds[call.end] = int(result)
        return result

    def _shutdown(self, call: Call) -> Result:
        result = self.calls.make("shutdown", self.fds[call.slot], socket.SHUT_WR)
        self._settle()
        return result

    def _settle(self) -> None:
        """Awaits packets in flight.

        On a busy machine a close returns before its FIN is received by the other end, which would then be closed at the
        same time, not after it.
        """
        settling = Settling(self._quiet)
        settling.settle()
        settling.close()

    def _syn(self, call: Call) -> Result:
        need(self._quiet.syscall("fcntl64", self.fds[call.slot], fcntl.F_SETFL, os.O_NONBLOCK))
        return self.calls.connect(self.fds[call.slot], address(call.host, call.port + self.shift))

    def _limit(self, slot: int, option: int) -> None:
        fd = self.fds[slot]
        if fd not in self._limited:
            need(self.calls.setsockopt(fd, 1, option, ONE_SECOND))
            self._limited.add(fd)

    def _close(self, call: Call) -> Result:
        fd = self.fds.pop(call.slot)
        self._limited.discard(fd)
        result = self.calls.close(fd)
        if call.slot in self._ends:
            self._ends.remove(call.slot)
            self._settle()
        return result


_addresses: dict[tuple[str, int], bytes] = {}


def address(host: str, port: int) -> bytes:
    """Returns the socket address of a numeric host and a port."""
    found = _addresses.get((host, port))
    if found is None:
        found = _addresses[host, port] = sockaddr.inet6(host, port) if ":" in host else sockaddr.inet(host, port)
    return found


def shown(value: int) -> str:
    """Returns a result as text: 0, or -EADDRINUSE."""
    return f"-{errorcode.get(-value, -value)}" if value < 0 else str(value)


def transcript(made: Sequence[Made]) -> list[str]:
    """Returns calls as lines of text: the call, its result, and the predicted result where that is another."""
    return [
        f"{written(one.call)} = {shown(one.answer)}"
        + ("" if one.agrees else f", the model predicts {shown(one.predicted)}")
        for one in made
    ]


def written(call: Call) -> str:
    """Returns a call as a line of code in which sockets are letters."""
    name = string.ascii_lowercase
    if call.op == "socket":
        owner = f" as user {call.user}" if call.user else ""
        return f"{name[call.slot]} = socket({call.protocol} over IPv{call.family}){owner}"
    if call.op == "accept":
        return f"{name[call.end]} = {name[call.slot]}.accept()"
    if call.op == "set":
        return f"{name[call.slot]}.setsockopt({OPTIONS[call.option][2]}, {call.value!r:.8})"
    host = f"[{call.host}]" if ":" in call.host else call.host
    return f"{name[call.slot]}.{call.op}({f'{host}:{call.port}' if host else ''})"
