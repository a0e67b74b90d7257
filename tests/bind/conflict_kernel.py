"""Makes the calls of conflict_model.py, and tells them as people write them."""

import os
import socket
import string
import struct
from errno import errorcode

from probes.abi import sockaddr
from probes.entry.gate import Result
from probes.testing import need
from tests.bind.conflict_model import Call

AF = {4: 2, 6: 10}
TYPE_AND_PROTOCOL = {"tcp": (1, 6), "udp": (2, 17), "udp-lite": (2, 136)}
#: The options of the model as setsockopt takes them: level and number (include/uapi/asm-generic/socket.h, linux/in6.h).
OPTIONS = {"reuse": (1, 2), "reuseport": (1, 15), "device": (1, 25), "v6only": (41, 26)}
OPTION_NAMES = {
    "reuse": "SO_REUSEADDR", "reuseport": "SO_REUSEPORT", "device": "SO_BINDTODEVICE", "v6only": "IPV6_V6ONLY",
}  # fmt: skip
SO_RCVTIMEO, SO_SNDTIMEO = 20, 21
#: Where the model is wrong a connect or an accept may wait for an answer that never comes: a second, and it is told.
PATIENCE = struct.pack("<ii", 1, 0)
BACKLOG = 16
#: Seconds that a packet may take over loopback.
SETTLING = 10


class Kernel:
    """Sockets by slot, made over `calls`. `users` says that sockets are made as the user that the model says, which
    takes root."""

    def __init__(self, calls, users=False):
        self.calls, self.users = calls, users
        self.fds = {}
        self._owners = {}
        self._patient = set()
        self._ends = set()

    def make(self, step):
        """Makes the call of a step; the result of each call that is judged, with what was predicted, as a list of
        (call, predicted, result)."""
        call = step.call
        result = getattr(self, f"_{call.op}")(call)
        made = [(call, step.predicted, result)]
        if step.accepted and result == 0:
            listener, end = step.accepted
            accept = Call("accept", listener, end)
            made.append((accept, 0, self._accept(accept)))
            self._ends |= {call.slot, end}
        return made

    def play(self, steps):
        """Makes the calls of all steps, up to one that answers what was not predicted."""
        made = []
        for step in steps:
            made += self.make(step)
            if answer(made[-1][2]) != made[-1][1]:
                break
        return made

    def forget(self, slots):
        """Closes what is open in some slots, unseen."""
        for slot in slots:
            fd = self.fds.pop(slot, None)
            self._ends.discard(slot)
            if fd is not None:
                self._patient.discard(fd)
                os.close(fd)

    def _socket(self, call):
        protocol, family, *user = call.first
        self._owners[call.slot] = user[0] if user else 0
        result = self._as_owner(call.slot, self.calls.socket, AF[family], *TYPE_AND_PROTOCOL[protocol])
        if result >= 0:
            self.fds[call.slot] = int(result)
        return result

    def _as_owner(self, slot, make, *words):
        user = self._owners.get(slot, 0)
        if not self.users or not user:
            return make(*words)
        os.seteuid(user)
        try:
            return make(*words)
        finally:
            os.seteuid(0)

    def _set(self, call):
        level, option = OPTIONS[call.first]
        value = call.second.encode() + b"\0" if call.first == "device" else int(call.second)
        return self.calls.setsockopt(self.fds[call.slot], level, option, value)

    def _bind(self, call):
        return self.calls.bind(self.fds[call.slot], address(call.first, call.second))

    def _listen(self, call):
        return self.calls.listen(self.fds[call.slot], BACKLOG)

    def _connect(self, call):
        self._limit(call.slot, SO_SNDTIMEO)
        return self.calls.connect(self.fds[call.slot], address(call.first, call.second))

    def _accept(self, call):
        self._limit(call.slot, SO_RCVTIMEO)
        result = self._as_owner(call.slot, self.calls.accept, self.fds[call.slot])
        if result >= 0:
            self._owners[call.first] = self._owners.get(call.slot, 0)
            self.fds[call.first] = int(result)
        return result

    def _limit(self, slot, option):
        fd = self.fds[slot]
        if fd not in self._patient:
            need(self.calls.setsockopt(fd, 1, option, PATIENCE))
            self._patient.add(fd)

    def _close(self, call):
        fd = self.fds.pop(call.slot)
        self._patient.discard(fd)
        result = self.calls.close(fd)
        if call.slot in self._ends:
            self._ends.remove(call.slot)
            settle()
        return result


def settle():
    """Waits until what is on its way over loopback has arrived, and its answer. On a busy machine a close returns before
    its FIN has got to the other end, which would then be closed at the same time, not after it. A CPU's packets arrive one
    after the other (process_backlog), so these come last."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
        last.settimeout(SETTLING)
        last.bind(("127.0.0.1", 0))
        last.connect(last.getsockname())
        for _ in ("what was sent", "what that was answered"):
            last.send(b".")
            last.recv(1)


_addresses = {}


def address(host, port):
    """An address as bind and connect take it."""
    found = _addresses.get((host, port))
    if found is None:
        found = _addresses[host, port] = sockaddr.inet6(host, port) if ":" in host else sockaddr.inet(host, port)
    return found


def answer(result):
    """A result as the model tells it: a descriptor is 0."""
    return min(int(result), 0)


def shown(value):
    """0, or -EADDRINUSE."""
    return f"-{errorcode.get(-value, -value)}" if value < 0 else str(value)


def told(made):
    """Calls as lines that can be read and typed: what was called, what it answered, what the model said instead."""
    lines = []
    for call, predicted, result in made:
        got = answer(result)
        line = f"{written(call)} = {shown(got)}"
        lines.append(line if got == predicted else f"{line}, the model says {shown(predicted)}")
    return lines


def written(call):
    """A call as one writes it, its sockets as letters."""
    name = string.ascii_lowercase
    if call.op == "socket":
        protocol, family, *user = call.first
        owner = f" as user {user[0]}" if user and user[0] else ""
        return f"{name[call.slot]} = socket({protocol} over IPv{family}){owner}"
    if call.op == "accept":
        return f"{name[call.first]} = {name[call.slot]}.accept()"
    if call.op == "set":
        return f"{name[call.slot]}.setsockopt({OPTION_NAMES[call.first]}, {call.second!r:.8})"
    words = (
        ""
        if call.first is None
        else f"[{call.first}]:{call.second}"
        if ":" in call.first
        else f"{call.first}:{call.second}"
    )
    return f"{name[call.slot]}.{call.op}({words})"


__all__ = ["Kernel", "Result", "answer", "told"]
