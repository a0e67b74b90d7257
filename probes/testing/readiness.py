"""Makes the calls that wait for descriptors, and collects what they found: select, poll and epoll, in all their forms."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from select import POLLIN, POLLOUT, POLLPRI
from typing import SupportsInt

from probes.abi.layouts import EPOLL_EVENT, POLLFD
from probes.entry.calls import Calls, Output
from probes.entry.gate import Result
from probes.entry.memory import Block
from probes.testing.expect import need

POLLRDHUP = 0x2000
#: select.EPOLLET is a negative number in 32-bit Python.
EPOLLET = 1 << 31
#: Events that a call can wait for, and every bit that poll(2) names.
WANTED = POLLIN | POLLPRI | POLLOUT | POLLRDHUP
EVERY = WANTED | 0x7C0
ADD, DELETE, MODIFY = 1, 2, 3
#: Descriptors of an fd_set here: two words of i386.
SET_BITS = 64


@dataclass(frozen=True)
class Ready(Output):
    """Holds the result of a call that waits, and what it found; both are judged."""

    @property
    def actual(self) -> object:
        """Returns what is judged."""
        return self.value


class Readiness:
    """Waits for descriptors of the caller. A timeout is 0 unless given: the call returns what is so now."""

    def __init__(self, calls: Calls) -> None:
        """Takes the calls. Each method makes one of them."""
        self.calls, self.memory = calls, calls.memory

    def poll(self, fd: SupportsInt, events: int = EVERY, timeout: int = 0) -> Ready:
        """Polls a descriptor: [result, revents], or the error."""
        block = self.memory.scratch(POLLFD.struct.pack(int(fd), events, 0), "pollfds")
        result = self.calls.syscall("poll", block, 1, timeout)
        return Ready(result, [result, struct.unpack_from("<H", block.read(), 6)[0]] if result >= 0 else result)

    def select(self, fd: SupportsInt) -> Ready:
        """Waits for a descriptor by all three sets: [result, whether it is in each], or the error.

        A set that has another bit is shown as it is.
        """
        asked = 1 << int(fd)
        sets = [self.memory.scratch(struct.pack("<Q", asked), f"set-{number}") for number in range(3)]
        result = self.calls.syscall("_newselect", SET_BITS, *sets, self.memory.scratch(bytes(8), "time"))
        found = [struct.unpack("<Q", block.read())[0] for block in sets]
        ready = [bits == asked if bits in (0, asked) else bits for bits in found]
        return Ready(result, [result, ready] if result >= 0 else result)

    def epoll(self) -> int:
        """Makes an epoll instance, for set-up."""
        return need(self.calls.syscall("epoll_create1", 0), "epoll_create1")

    def control(self, epoll: int, op: int, fd: SupportsInt, events: int = 0, data: int = 0) -> Result:
        """Adds, modifies or deletes an entry of an interest list."""
        event = self.memory.scratch(EPOLL_EVENT.struct.pack(events, data), "event")
        return self.calls.syscall("epoll_ctl", epoll, op, fd, event)

    def watching(self, fd: SupportsInt, events: int, data: int = 0) -> int:
        """Makes an epoll instance that watches one descriptor, for set-up."""
        epoll = self.epoll()
        need(self.control(epoll, ADD, fd, events, data), "epoll_ctl")
        return epoll

    def wait(self, epoll: int, most: int = 4, timeout: int = 0) -> Ready:
        """Waits on an epoll instance: [result, events and data of each entry], or the error."""
        room = self.memory.scratch(bytes(most * EPOLL_EVENT.size), "events")
        result = self.calls.syscall("epoll_wait", epoll, room, most, timeout)
        return Ready(result, [result, *entries(room, result)] if result >= 0 else result)


def entries(room: Block, count: int) -> Sequence[list[int]]:
    """Returns [events, data] of the first entries of an array of struct epoll_event."""
    raw = room.read()
    return [list(struct.unpack_from("<IQ", raw, at * EPOLL_EVENT.size)) for at in range(count)]
