"""Lists the pointer arguments of the documented calls: what each points to, and a call around it that succeeds."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import SupportsInt

from probes.abi import sockaddr
from probes.entry.memory import Block, Memory, pack_words
from probes.testing.caller import Caller

_ADDRESS = sockaddr.inet("127.0.0.1", 5000)
_FIONREAD, _F_GETOWN_EX, _POLLIN = 0x541B, 16, 1
FIONBIO, F_SETOWN_EX = 0x5421, 15
MESSAGE = b"abc"
KEEPALIVE = (socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@dataclass(frozen=True)
class PointerArgument:
    """A pointer argument of a call.

    `content` is what it points to, `words` returns the words of the call for a pointer, and `returns` is the result for
    a pointer to `content`, None if that call is not made.
    """

    name: str
    argument: str
    content: bytes
    words: Callable[[int], tuple[SupportsInt, ...]]
    returns: int | None


class PointerArguments:
    """Makes a UDP socket and a socket pair with a message queued, and lists calls on them that have a pointer."""

    def __init__(self, memory: Memory, caller: Caller) -> None:
        """Takes the memory that all other pointers of the calls point to."""
        self._memory, self._caller = memory, caller
        udp, (left, right) = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socketpair()
        left.send(MESSAGE)
        self._text, self._room = memory.put(MESSAGE), memory.alloc(96)
        self._udp, self._left, self._right = (caller.adopt(one.detach()) for one in (udp, left, right))

    def _set_of_right(self) -> Block:
        """Returns an fd_set with the readable end, in whole words, as the kernel copies it."""
        return self._memory.put((1 << self._right).to_bytes(self._right // 32 * 4 + 4, "little"))

    def read(self) -> list[PointerArgument]:
        """Returns the arguments through which a call reads memory."""
        return [*self._read_of_operations(), *self._read_of_others()]

    def _read_of_operations(self) -> list[PointerArgument]:
        udp, left, right = self._udp, self._left, self._right
        put, room, iov = self._memory.put, self._room, pack_words(self._text.address, 3)
        vector = put(iov)
        header = pack_words(0, 0, vector.address, 1, 0, 0, 0)
        named = pack_words(put(_ADDRESS).address, 16, vector.address, 1, 0, 0, 0)

        def name_at(pointer: int) -> Block:
            return put(pack_words(pointer, 16, vector.address, 1, 0, 0, 0))

        def iov_at(pointer: int) -> Block:
            return put(pack_words(0, 0, pointer, 1, 0, 0, 0))

        def in_time(pointer: int) -> tuple[SupportsInt, ...]:
            return right, put(header + bytes(4)), 1, socket.MSG_PEEK | socket.MSG_DONTWAIT, pointer

        return [
            PointerArgument("sendto", "addr", _ADDRESS, lambda p: (udp, self._text, 3, 0, p, 16), 3),
            PointerArgument("sendto", "buf", MESSAGE, lambda p: (udp, p, 3, 0, put(_ADDRESS), 16), 3),
            PointerArgument("sendmsg", "msg", named, lambda p: (udp, p, 0), 3),
            PointerArgument("sendmsg", "name", _ADDRESS, lambda p: (udp, name_at(p), 0), 3),
            PointerArgument("sendmsg", "iov", iov, lambda p: (left, iov_at(p), 0), 3),
            PointerArgument("sendmmsg", "msgvec", header, lambda p: (left, p, 1, 0), None),
            PointerArgument("send", "buf", MESSAGE, lambda p: (left, p, 3, 0), 3),
            PointerArgument("setsockopt", "optval", pack_words(1), lambda p: (udp, *KEEPALIVE, p, 4), 0),
            PointerArgument("connect", "addr", _ADDRESS, lambda p: (udp, p, 16), 0),
            PointerArgument("bind", "addr", _ADDRESS, lambda p: (self._new_udp(), p, 16), 0),
            PointerArgument("getsockname", "addrlen", pack_words(16), lambda p: (left, room, p), 0),
            PointerArgument("getpeername", "addrlen", pack_words(16), lambda p: (left, room, p), 0),
            PointerArgument("getsockopt", "optlen", pack_words(4), lambda p: (left, *KEEPALIVE, room, p), 0),
            PointerArgument("recvmmsg", "timeout", pack_words(9, 9), in_time, 1),
        ]

    def _read_of_others(self) -> list[PointerArgument]:
        udp, left, right = self._udp, self._left, self._right
        put, bits, beyond = self._memory.put, self._set_of_right(), self._right + 1
        readable, owner = struct.pack("<ihh", right, _POLLIN, 0), struct.pack("<ii", 1, self._caller.pid)
        iov = pack_words(self._text.address, 3)
        return [
            PointerArgument("write", "buf", MESSAGE, lambda p: (left, p, 3), 3),
            PointerArgument("writev", "iov", iov, lambda p: (left, p, 1), 3),
            PointerArgument("poll", "fds", readable, lambda p: (p, 1, 0), 1),
            PointerArgument("ppoll", "fds", readable, lambda p: (p, 1, put(bytes(8)), 0, 0), 1),
            PointerArgument("ppoll", "timeout", bytes(8), lambda p: (put(readable), 1, p, 0, 0), 1),
            PointerArgument("ppoll", "sigmask", bytes(8), lambda p: (put(readable), 1, put(bytes(8)), p, 8), 1),
            PointerArgument("_newselect", "readfds", bits.read(), lambda p: (beyond, p, 0, 0, put(bytes(8))), 1),
            PointerArgument("_newselect", "timeout", bytes(8), lambda p: (beyond, bits, 0, 0, p), 1),
            PointerArgument("pselect6", "writefds", bits.read(), lambda p: (beyond, 0, p, 0, put(bytes(8)), 0), 1),
            PointerArgument("pselect6", "timeout", bytes(8), lambda p: (beyond, self._set_of_right(), 0, 0, p, 0), 1),
            PointerArgument("ioctl", "FIONBIO", pack_words(0), lambda p: (udp, FIONBIO, p), 0),
            PointerArgument("fcntl64", "F_SETOWN_EX", owner, lambda p: (udp, F_SETOWN_EX, p), 0),
            PointerArgument("readv", "iov", pack_words(self._room.address, 3), lambda p: (right, p, 1), 3),
        ]

    def written(self) -> list[PointerArgument]:
        """Returns the arguments through which a call writes memory."""
        udp, right, put = self._udp, self._right, self._memory.put
        bits, beyond = self._set_of_right(), self._right + 1
        readable = struct.pack("<ihh", right, _POLLIN, 0)
        pair = (socket.AF_UNIX, socket.SOCK_STREAM, 0)

        def into(pointer: int) -> Block:
            return put(pack_words(0, 0, put(pack_words(pointer, 3)).address, 1, 0, 0, 0))

        return [
            PointerArgument("getsockname", "addr", _ADDRESS, lambda p: (udp, p, put(pack_words(16))), 0),
            PointerArgument("getsockopt", "optval", bytes(4), lambda p: (udp, *KEEPALIVE, p, put(pack_words(4))), 0),
            PointerArgument("socketpair", "sv", bytes(8), lambda p: (*pair, p), 0),
            PointerArgument("poll", "fds", readable, lambda p: (p, 1, 0), 1),
            PointerArgument("ppoll", "fds", readable, lambda p: (p, 1, put(bytes(8)), 0, 0), 1),
            PointerArgument("_newselect", "readfds", bits.read(), lambda p: (beyond, p, 0, 0, put(bytes(8))), 1),
            PointerArgument("fstat64", "statbuf", bytes(96), lambda p: (udp, p), 0),
            PointerArgument("ioctl", "FIONREAD", bytes(4), lambda p: (right, _FIONREAD, p), 0),
            PointerArgument("fcntl64", "F_GETOWN_EX", bytes(8), lambda p: (udp, _F_GETOWN_EX, p), 0),
            PointerArgument("recvmsg", "buf", MESSAGE, lambda p: (right, into(p), socket.MSG_PEEK), 3),
            PointerArgument("recvfrom", "buf", MESSAGE, lambda p: (right, p, 3, socket.MSG_PEEK, 0, 0), 3),
            PointerArgument("recv", "buf", MESSAGE, lambda p: (right, p, 3, socket.MSG_PEEK), 3),
            PointerArgument("readv", "buf", MESSAGE, lambda p: (right, put(pack_words(p, 3)), 1), 3),
        ]

    def _new_udp(self) -> int:
        return self._caller.adopt(socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach())
