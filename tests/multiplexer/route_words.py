"""The words of a call as a table of calls writes them: numbers, marks, and what pointers point to."""

import socket
import struct
from dataclasses import dataclass


def inet(port, host=0x7F000001, family=socket.AF_INET):
    """struct sockaddr_in: not by the suite's own encoder."""
    return struct.pack("<H", family) + struct.pack(">HI8x", port, host)


@dataclass(frozen=True)
class Mark:
    """A word that each call fills in for itself."""

    name: str


#: The descriptor of the state, and an address that cannot be read or written.
FD, BAD = Mark("FD"), Mark("BAD")


@dataclass(frozen=True)
class Put:
    """A pointer to these bytes, hard against a page without access."""

    data: bytes


def room(size):
    """A pointer to so many bytes that the call may write."""
    return Put(b"\xa5" * size)


def length(value):
    """A pointer to a value-result length."""
    return Put(struct.pack("<i", value))


@dataclass(frozen=True)
class Words:
    """A pointer to 32-bit words, some of which may point further."""

    words: tuple[object, ...]


def message(*parts, name=0, namelen=0, control=0, controllen=0, count=None):
    """A pointer to a struct msghdr, with a scatter/gather array of (base, length) parts."""
    vector = Words(tuple(word for part in parts for word in part)) if parts else 0
    return Words((name, namelen, vector, len(parts) if count is None else count, control, controllen, 0))


def messages(*headers):
    """A pointer to an array of struct mmsghdr."""
    return Words(tuple(word for header in headers for word in (*header.words, 0)))


class Placed:
    """The words of one call, with the memory that they point to."""

    def __init__(self, memory, fd):
        self._memory, self._fd, self._blocks = memory, fd, []

    def word(self, value):
        """The number that goes into the word."""
        if value is FD:
            return self._fd
        if value is BAD:
            return self._memory.unmapped()
        if isinstance(value, Put):
            block = self._memory.guarded(value.data)
            self._blocks.append((block, ()))
            return block.address
        if isinstance(value, Words):
            block = self._memory.guarded(4 * len(value.words))
            block.write(struct.pack(f"<{len(value.words)}I", *(self.word(word) & 0xFFFFFFFF for word in value.words)))
            self._blocks.append((block, tuple(not isinstance(word, int) for word in value.words)))
            return block.address
        return int(value)

    def read(self):
        """What the memory holds now, without the pointers in it."""
        return [
            b"".join(b"" if skip else block.part(4 * index, 4).read() for index, skip in enumerate(pointers))
            if pointers
            else block.read()
            for block, pointers in self._blocks
        ]
