"""A socket of a caller on another machine, of which this process has no copy: untraced calls there read it."""

from __future__ import annotations

import os
import socket
import struct

from probes.entry.calls import Calls
from probes.entry.gate import Result

#: What a structure of a call has room for: a name, parts, an option.
_ROOM = 256
#: struct msghdr and struct cmsghdr of 32-bit processes.
_MSGHDR, _CMSGHDR = "<7I", "<Iii"
#: Where things lie in the scratch memory of one call.
_HEADER, _PART, _NAME, _CONTROL, _DATA, _SIZE = 0, 32, 64, 192, 320, 448


class CallerSocket:
    """Has those methods of socket.socket that SocketView uses. Raises OSError where a call fails."""

    def __init__(self, fd: int, calls: Calls) -> None:
        """Takes a descriptor of a socket, and calls that should not be traced."""
        self._fd, self._calls = fd, calls
        self.type = self.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)

    def fileno(self) -> int:
        """Returns the descriptor, which is the caller's."""
        return self._fd

    def close(self) -> None:
        """Does nothing: the descriptor is the caller's."""

    def getsockopt(self, level: int, name: int, room: int = 0) -> int | bytes:
        """Returns the value of an option, a number where no room is given."""
        block = self._calls.memory.scratch(struct.pack("<I", room or 4) + bytes(_ROOM), "view")
        _require(self._calls.make("getsockopt", self._fd, level, name, block.part(4), block))
        data = block.read()
        size = int.from_bytes(data[:4], "little")
        return data[4 : 4 + size] if room else int.from_bytes(data[4:8], "little", signed=True)

    def getsockname(self) -> object:
        """Returns the name, as Python shows it."""
        return self._name("getsockname")

    def getpeername(self) -> object:
        """Returns the name of the peer."""
        return self._name("getpeername")

    def recvmsg(self, size: int, room: int, flags: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, object]:
        """Receives a message: data, control data, flags and name."""
        block = self._calls.memory.scratch(bytes(_SIZE + size), "view")
        at = block.address
        block.write(struct.pack(_MSGHDR, at + _NAME, 128, at + _PART, 1, at + _CONTROL, room, 0))
        block.part(_PART).write(struct.pack("<2I", at + _DATA, size))
        count = _require(self._calls.make("recvmsg", self._fd, at, flags))
        data = block.read()
        _, name, _, _, _, control, found = struct.unpack_from(_MSGHDR, data)
        messages = _control(data[_CONTROL : _CONTROL + control])
        return data[_DATA : _DATA + count], messages, found, _shown(data[_NAME : _NAME + name]) if name else None

    def events(self, wanted: int) -> int:
        """Returns the events of these that there are, as poll(2) has them."""
        block = self._calls.memory.scratch(struct.pack("<ihh", self._fd, wanted, 0), "view")
        _require(self._calls.syscall("poll", block, 1, 0))
        return int.from_bytes(block.read()[6:8], "little")

    def queued(self, request: int) -> int:
        """Returns the number that an ioctl(2) writes."""
        block = self._calls.memory.scratch(bytes(4), "view")
        _require(self._calls.syscall("ioctl", self._fd, request, block))
        return int.from_bytes(block.read(), "little", signed=True)

    def close_received(self, descriptor: int) -> None:
        """Closes a descriptor that a message brought."""
        _require(self._calls.close(descriptor))

    def _name(self, op: str) -> object:
        block = self._calls.memory.scratch(struct.pack("<I", 128) + bytes(128), "view")
        _require(self._calls.make(op, self._fd, block.part(4), block))
        data = block.read()
        return _shown(data[4 : 4 + int.from_bytes(data[:4], "little")])


def _require(result: Result) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return int(result)


def _shown(name: bytes) -> object:
    """Returns a name as Python shows it, for the families of the tables."""
    family = int.from_bytes(name[:2], "little")
    if family == socket.AF_INET:
        return socket.inet_ntoa(name[4:8]), int.from_bytes(name[2:4], "big")
    if family == socket.AF_NETLINK:
        return struct.unpack_from("<2I", name, 4)
    path = name[2:]
    return path if path[:1] == b"\0" else path.partition(b"\0")[0].decode()


def _control(data: bytes) -> list[tuple[int, int, bytes]]:
    head, at, found = struct.calcsize(_CMSGHDR), 0, []
    while at + head <= len(data):
        size, level, type_ = struct.unpack_from(_CMSGHDR, data, at)
        found.append((level, type_, data[at + head : at + size]))
        at += max(head, -(-size // 4) * 4)
    return found
