"""Prepares calls that block: the words of each, what lets it return, and its result then."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from functools import partial
from typing import SupportsInt

from probes.entry.calls import Calls
from probes.entry.memory import Block
from probes.testing import need
from probes.testing.blocking import Step, drain, fill
from probes.testing.caller import Caller
from probes.testing.procfs import lowest

_POLLIN = 1
#: A timeout in seconds that no test reaches.
LONG = 10_000

_RECEIVING = ("read", "readv", "recv", "recvfrom", "recvmsg", "recvmmsg")
_SENDING = ("write", "writev", "send", "sendto", "sendmsg", "sendmmsg")
#: The documented calls that the kernel restarts after a handler with SA_RESTART (signal(7)).
RESTARTED = (*_RECEIVING, *_SENDING, "accept", "accept4", "connect")
#: Those that do not restart on a socket with SO_RCVTIMEO or SO_SNDTIMEO (signal(7)).
TIMED = ("accept", "recv", "recvfrom", "recvmsg", "recvmmsg", "connect", "send", "sendto", "sendmsg", "read", "write")


@dataclass(frozen=True)
class BlockingCall:
    """A call that blocks until another process takes the step `end`; `returns` is its result then."""

    name: str
    words: tuple[SupportsInt, ...]
    returns: int
    end: Step


class BlockingCalls:
    """Prepares sockets on which a call blocks."""

    def __init__(self, calls: Calls, caller: Caller) -> None:
        """Takes the calls to make sockets by, which are not traced, and the process that makes them."""
        self._calls, self._caller, self._memory = calls, caller, calls.memory
        self._open = list[socket.socket]()
        self._text, self._room = self._memory.put(b"abc"), self._memory.alloc(16)

    def prepare(self, name: str, timeout: bool = False) -> BlockingCall:
        """Returns one of RESTARTED. `timeout` sets SO_RCVTIMEO or SO_SNDTIMEO of its socket to LONG."""
        if name in _RECEIVING:
            return self._receiving(name, timeout)
        if name in _SENDING:
            return self._sending(name, timeout)
        return self._connect(timeout) if name == "connect" else self._accepting(name, timeout)

    def pair(self) -> tuple[int, int]:
        """Returns two connected sockets of the caller."""
        ends = self._memory.alloc(8)
        need(self._calls.make("socketpair", socket.AF_UNIX, socket.SOCK_STREAM, 0, ends))
        left, right = ends.words()
        return left, right

    def lent(self, fd: int) -> socket.socket:
        """Returns a socket of the caller as one of this process, which acts on it while the caller is blocked."""
        return self._kept(socket.socket(fileno=self._caller.lend(fd)))

    def _kept(self, sock: socket.socket) -> socket.socket:
        self._open.append(sock)
        return sock

    def _new(self) -> int:
        return need(self._calls.socket(socket.AF_UNIX, socket.SOCK_STREAM), "a socket to block on")

    def _message(self, block: Block) -> Block:
        """Returns a struct mmsghdr with one vector of three bytes."""
        return self._memory.words(0, 0, self._memory.words(block, 3), 1, 0, 0, 0, 0)

    def _listener(self, backlog: int) -> tuple[int, socket.socket, bytes]:
        """Returns a listening AF_UNIX socket of the caller, the same as one of this process, and its abstract name."""
        listening = self._new()
        need(self._calls.bind(listening, struct.pack("<H", socket.AF_UNIX)))
        need(self._calls.listen(listening, backlog))
        lent = self.lent(listening)
        return listening, lent, lent.getsockname()

    def _receiving(self, name: str, timeout: bool) -> BlockingCall:
        left, right = self.pair()
        if timeout:
            _set_timeout(self.lent(right), socket.SO_RCVTIMEO)
        room, message = self._room, self._message(self._room)
        words: dict[str, tuple[SupportsInt, ...]] = {
            "read": (room, 3), "readv": (self._memory.words(room, 3), 1), "recv": (room, 3, 0),
            "recvfrom": (room, 3, 0, 0, 0), "recvmsg": (message, 0), "recvmmsg": (message, 1, 0, 0),
        }  # fmt: skip
        returns = 1 if name == "recvmmsg" else 3
        return BlockingCall(name, (right, *words[name]), returns, partial(self.lent(left).send, b"abc"))

    def _sending(self, name: str, timeout: bool) -> BlockingCall:
        left, right = self.pair()
        sender = self.lent(left)
        fill(sender)
        if timeout:
            _set_timeout(sender, socket.SO_SNDTIMEO)
        text, message = self._text, self._message(self._text)
        words: dict[str, tuple[SupportsInt, ...]] = {
            "write": (text, 3), "writev": (self._memory.words(text, 3), 1), "send": (text, 3, 0),
            "sendto": (text, 3, 0, 0, 0), "sendmsg": (message, 0), "sendmmsg": (message, 1, 0),
        }  # fmt: skip
        returns = 1 if name == "sendmmsg" else 3
        return BlockingCall(name, (left, *words[name]), returns, partial(drain, self.lent(right)))

    def _accepting(self, name: str, timeout: bool) -> BlockingCall:
        listening, lent, address = self._listener(1)
        if timeout:
            _set_timeout(lent, socket.SO_RCVTIMEO)
        client = self._kept(socket.socket(socket.AF_UNIX))
        words = (0, 0) if name == "accept" else (0, 0, 0)
        return BlockingCall(name, (listening, *words), lowest()[0], partial(client.connect, address))

    def _connect(self, timeout: bool) -> BlockingCall:
        _, listening, address = self._listener(0)
        self._kept(socket.socket(socket.AF_UNIX)).connect(address)
        second = self._new()
        if timeout:
            _set_timeout(self.lent(second), socket.SO_SNDTIMEO)
        name = self._memory.put(struct.pack("<H", socket.AF_UNIX) + address)
        return BlockingCall("connect", (second, name, 2 + len(address)), 0, listening.accept)

    def multiplexing(self, name: str) -> BlockingCall:
        """Returns poll, ppoll, _newselect or pselect6 with timeout LONG, for a socket that has nothing to read."""
        left, right = self.pair()
        fds = self._memory.put(struct.pack("<ihh", right, _POLLIN, 0))
        bits = self._memory.put(struct.pack("<Q", 1 << right))
        timeout = self._memory.words(LONG, 0)
        beyond = right + 1
        words: dict[str, tuple[SupportsInt, ...]] = {
            "poll": (fds, 1, LONG * 1000), "ppoll": (fds, 1, timeout, 0, 0),
            "_newselect": (beyond, bits, 0, 0, timeout), "pselect6": (beyond, bits, 0, 0, timeout, 0),
        }  # fmt: skip
        return BlockingCall(name, words[name], 1, partial(self.lent(left).send, b"abc"))


def _set_timeout(sock: socket.socket, option: int) -> None:
    sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", LONG, 0))
