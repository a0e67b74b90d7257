"""Calls that block: for each its words, what it answers in the end, and what somebody else has to do for that."""

import os
import socket
import struct
from functools import partial
from typing import NamedTuple

from probes.testing.blocking import drain, fill

POLLIN = 1
#: Seconds that never pass.
LONG = 10_000

RECEIVING = ("read", "readv", "recv", "recvfrom", "recvmsg", "recvmmsg")
SENDING = ("write", "writev", "send", "sendto", "sendmsg", "sendmmsg")
WAITING = ("accept", "accept4", "connect")
#: The documented calls that signal(7) has start again after a handler with SA_RESTART.
RESTARTED = (*RECEIVING, *SENDING, *WAITING)


class Blocked(NamedTuple):
    """A call that blocks. `end` lets it go on, in another process; `value` is its result then."""

    name: str
    words: tuple
    value: int
    end: object


class Blocking:
    """Makes sockets on which calls block; `timeout` sets SO_RCVTIMEO or SO_SNDTIMEO to what never passes."""

    def __init__(self, memory):
        self.memory, self.kept = memory, []
        self.text, self.room = memory.put(b"abc"), memory.alloc(16)

    def __call__(self, name, timeout=False):
        """The call of that name."""
        if name in RECEIVING:
            return self._receiving(name, timeout)
        if name in SENDING:
            return self._sending(name, timeout)
        return self._connect(timeout) if name == "connect" else self._accepting(name, timeout)

    def _kept(self, *ends):
        self.kept += ends
        return ends

    def _message(self, block):
        return self.memory.words(0, 0, self.memory.words(block, 3), 1, 0, 0, 0, 0)

    def pair(self):
        """Two connected sockets."""
        return self._kept(*socket.socketpair())

    def listener(self, backlog):
        """A listening socket, and its address as Python has it."""
        (listening,) = self._kept(socket.socket(socket.AF_UNIX))
        listening.bind(b"")
        listening.listen(backlog)
        return listening, listening.getsockname()

    def _receiving(self, name, timeout):
        left, right = self.pair()
        if timeout:
            right.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", LONG, 0))
        room, message = self.room, self._message(self.room)
        words = {
            "read": (room, 3), "readv": (self.memory.words(room, 3), 1), "recv": (room, 3, 0),
            "recvfrom": (room, 3, 0, 0, 0), "recvmsg": (message, 0), "recvmmsg": (message, 1, 0, 0),
        }[name]  # fmt: skip
        return Blocked(name, (right.fileno(), *words), 1 if name == "recvmmsg" else 3, partial(left.send, b"abc"))

    def _sending(self, name, timeout):
        left, right = self.pair()
        fill(left)
        if timeout:
            left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", LONG, 0))
        text, message = self.text, self._message(self.text)
        words = {
            "write": (text, 3), "writev": (self.memory.words(text, 3), 1), "send": (text, 3, 0),
            "sendto": (text, 3, 0, 0, 0), "sendmsg": (message, 0), "sendmmsg": (message, 1, 0),
        }[name]  # fmt: skip
        return Blocked(name, (left.fileno(), *words), 1 if name == "sendmmsg" else 3, partial(drain, right))

    def _accepting(self, name, timeout):
        listening, address = self.listener(1)
        if timeout:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", LONG, 0))
        (client,) = self._kept(socket.socket(socket.AF_UNIX))
        free = os.dup(0)
        os.close(free)
        words = (0, 0) if name == "accept" else (0, 0, 0)
        return Blocked(name, (listening.fileno(), *words), free, partial(client.connect, address))

    def _connect(self, timeout):
        listening, address = self.listener(0)
        first, second = self._kept(socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX))
        first.connect(address)
        if timeout:
            second.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", LONG, 0))
        name = self.memory.put(struct.pack("<H", socket.AF_UNIX) + address)
        return Blocked("connect", (second.fileno(), name, 2 + len(address)), 0, listening.accept)

    def multiplexing(self, name):
        """poll, select and theirs, for a descriptor on which nothing happens, with a timeout that does not pass."""
        left, right = self.pair()
        fds = self.memory.put(struct.pack("<ihh", right.fileno(), POLLIN, 0))
        bits = self.memory.put(struct.pack("<Q", 1 << right.fileno()))
        moment = self.memory.words(LONG, 0)
        beyond = right.fileno() + 1
        words = {
            "poll": (fds, 1, LONG * 1000), "ppoll": (fds, 1, moment, 0, 0),
            "_newselect": (beyond, bits, 0, 0, moment), "pselect6": (beyond, bits, 0, 0, moment, 0),
        }[name]  # fmt: skip
        return Blocked(name, words, 1, partial(left.send, b"abc"))
