"""Lists every documented call once, with words for which it succeeds and the result that is documented for them."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from errno import EINTR
from typing import Protocol, SupportsInt, TypeVar

from probes.abi import sockaddr
from probes.abi.operations import OPERATIONS
from probes.entry.memory import Memory
from probes.testing.caller import Caller
from probes.testing.procfs import lowest

_FIONREAD, _F_GETFD, _F_GETFL, _POLLIN = 0x541B, 1, 3, 1
#: Descriptors above all others of these tests, for dup2 and dup3.
_HIGH = (100, 101)


class Named(Protocol):
    """Anything that is about one call: `name` is the call's name in the i386 table."""

    @property
    def name(self) -> str:
        """The call's name."""


_Call = TypeVar("_Call", bound=str | Named)


@dataclass(frozen=True)
class DocumentedCall:
    """A call by its name in the i386 table, with its words and the result that is documented for them."""

    name: str
    words: tuple[SupportsInt, ...]
    returns: int


def judged_over(route: str, calls: Iterable[_Call]) -> Iterator[_Call]:
    """Yields the calls, or names of calls, that the run over a route judges.

    The run over `direct` judges all, the run over `socketcall` the 20 operations. Another call (read, close, …) has one
    number, so both runs would judge the same call.
    """
    for call in calls:
        name = call if isinstance(call, str) else call.name
        if route == "direct" or name in OPERATIONS:
            yield call


def documented_calls(memory: Memory, caller: Caller) -> Iterator[DocumentedCall]:
    """Yields each call when it is to be made: the words of some depend on the calls before.

    No operation depends on a call that is none, so a run over `socketcall` may leave those out. A new descriptor is the
    lowest free one.
    """
    yield from _connection(memory, caller)
    yield from _pair(memory)
    yield DocumentedCall("getpid", (), caller.pid)
    # No interrupted call is there to go on with: do_no_restart_syscall.
    yield DocumentedCall("restart_syscall", (), -EINTR)


def _connection(memory: Memory, caller: Caller) -> Iterator[DocumentedCall]:
    """Yields the calls on the two ends of a TCP connection."""
    address, text, one = memory.put(sockaddr.inet("127.0.0.1", 5000)), memory.put(b"abc"), memory.words(1)
    room, length = memory.alloc(16), memory.words(16)
    vector = memory.words(text, 3), memory.words(room, 3)
    out, into = (memory.words(0, 0, iov, 1, 0, 0, 0, 0) for iov in vector)
    server = lowest()[0]
    yield DocumentedCall("socket", (socket.AF_INET, socket.SOCK_STREAM, 0), server)
    yield DocumentedCall("setsockopt", (server, socket.SOL_SOCKET, socket.SO_KEEPALIVE, one, 4), 0)
    yield DocumentedCall("bind", (server, address, 16), 0)
    yield DocumentedCall("listen", (server, 1), 0)
    client = caller.adopt(socket.socket(socket.AF_INET, socket.SOCK_STREAM).detach())
    yield DocumentedCall("connect", (client, address, 16), 0)
    peer = lowest()[0]
    yield DocumentedCall("accept4", (server, room, length, 0), peer)
    yield DocumentedCall("getsockname", (peer, room, length), 0)
    yield DocumentedCall("getpeername", (client, room, length), 0)
    yield DocumentedCall("getsockopt", (client, socket.SOL_SOCKET, socket.SO_TYPE, room, length), 0)
    yield DocumentedCall("sendto", (client, text, 3, 0, 0, 0), 3)
    yield DocumentedCall("recvfrom", (peer, room, 3, 0, 0, 0), 3)
    yield DocumentedCall("sendmsg", (client, out, 0), 3)
    yield DocumentedCall("recvmsg", (peer, into, 0), 3)
    yield DocumentedCall("sendmmsg", (client, out, 1, 0), 1)
    yield DocumentedCall("recvmmsg", (peer, into, 1, 0, 0), 1)
    yield DocumentedCall("shutdown", (client, socket.SHUT_WR), 0)


def _pair(memory: Memory) -> Iterator[DocumentedCall]:
    """Yields the calls on the two ends of a socket pair."""
    pair, text, room = memory.alloc(8), memory.put(b"abc"), memory.alloc(96)
    yield DocumentedCall("socketpair", (socket.AF_UNIX, socket.SOCK_STREAM, 0, pair), 0)
    left, right = pair.words()
    readable = struct.pack("<ihh", right, _POLLIN, 0)
    bits = struct.pack("<Q", 1 << right)
    now = memory.words(0, 0)
    yield DocumentedCall("write", (left, text, 3), 3)
    yield DocumentedCall("ioctl", (right, _FIONREAD, room), 0)
    yield DocumentedCall("poll", (memory.put(readable), 1, 0), 1)
    yield DocumentedCall("ppoll", (memory.put(readable), 1, now, 0, 0), 1)
    yield DocumentedCall("_newselect", (right + 1, memory.put(bits), 0, 0, now), 1)
    yield DocumentedCall("pselect6", (right + 1, memory.put(bits), 0, 0, now, 0), 1)
    yield DocumentedCall("read", (right, room, 96), 3)
    yield DocumentedCall("writev", (left, memory.words(text, 3), 1), 3)
    yield DocumentedCall("readv", (right, memory.words(room, 96), 1), 3)
    yield DocumentedCall("fcntl", (left, _F_GETFD, 0), 0)
    yield DocumentedCall("fcntl64", (left, _F_GETFL, 0), os.O_RDWR)
    yield DocumentedCall("fstat64", (left, room), 0)
    yield DocumentedCall("dup", (left,), lowest()[0])
    yield DocumentedCall("dup2", (left, _HIGH[0]), _HIGH[0])
    yield DocumentedCall("dup3", (left, _HIGH[1], os.O_CLOEXEC), _HIGH[1])
    yield DocumentedCall("close", (left,), 0)
