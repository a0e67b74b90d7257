"""Writes the words of a call in a table: numbers, the descriptor, and pointers to bytes or to further words."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from probes.entry.memory import Block, Memory


@dataclass(frozen=True)
class Placeholder:
    """Stands for a word that differs from call to call."""

    name: str


#: The descriptor of the prepared state, and an address that can be neither read nor written.
FD, BAD = Placeholder("FD"), Placeholder("BAD")


@dataclass(frozen=True)
class PointerTo:
    """Points to these bytes, whose end lies at the edge of a page without access."""

    data: bytes


@dataclass(frozen=True)
class PointerToWords:
    """Points to 32-bit words, some of which may be pointers."""

    words: tuple[Word, ...]


Word = int | Placeholder | PointerTo | PointerToWords


def inet(port: int, host: int = 0x7F000001, family: int = socket.AF_INET) -> bytes:
    """Packs a struct sockaddr_in, independently of the suite's own encoder."""
    return struct.pack("<H", family) + struct.pack(">HI8x", port, host)


def buffer(size: int) -> PointerTo:
    """Points to so many bytes that the call may write."""
    return PointerTo(b"\xa5" * size)


def length(value: int) -> PointerTo:
    """Points to a value-result length."""
    return PointerTo(struct.pack("<i", value))


def message(
    *parts: tuple[Word, int],
    name: Word = 0,
    namelen: int = 0,
    control: Word = 0,
    controllen: int = 0,
    count: int | None = None,
) -> PointerToWords:
    """Points to a struct msghdr with a scatter/gather array of (base, length) parts; `count` overrides msg_iovlen."""
    vector = PointerToWords(tuple(word for part in parts for word in part)) if parts else 0
    return PointerToWords(
        (name, namelen, vector, len(parts) if count is None else count, control, controllen, 0)
    )  # fmt: skip


def messages(*headers: PointerToWords) -> PointerToWords:
    """Points to an array of struct mmsghdr, with msg_len 0."""
    return PointerToWords(tuple(word for header in headers for word in (*header.words, 0)))


class PlacedWords:
    """Places the words of one call, and the memory that they point to."""

    def __init__(self, memory: Memory, fd: int) -> None:
        self._memory, self._fd = memory, fd
        # A block, and for one of words which of them are pointers.
        self._blocks: list[tuple[Block, tuple[bool, ...]]] = []

    def place(self, word: Word) -> int:
        """Returns the number of a word. Puts what it points to into memory."""
        if isinstance(word, int):
            return word
        if isinstance(word, Placeholder):
            return self._fd if word is FD else self._memory.unmapped()
        if isinstance(word, PointerTo):
            block = self._memory.guarded(word.data)
            self._blocks.append((block, ()))
            return block.address
        block = self._memory.guarded(4 * len(word.words))
        block.write(struct.pack(f"<{len(word.words)}I", *(self.place(one) & 0xFFFFFFFF for one in word.words)))
        self._blocks.append((block, tuple(not isinstance(one, int) for one in word.words)))
        return block.address

    def contents(self) -> list[bytes]:
        """Returns what each block of memory holds now, without the pointers in it, which differ from call to call."""
        return [
            b"".join(b"" if skip else block.part(4 * index, 4).read() for index, skip in enumerate(pointers))
            if pointers
            else block.read()
            for block, pointers in self._blocks
        ]
