"""Writes the words of a call in a table: numbers, the descriptor, and pointers to bytes or to further words."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from probes.abi.operations import OPERATIONS
from probes.entry.memory import POISON, Block, Memory


@dataclass(frozen=True)
class Placeholder:
    """Stands for a word that differs from call to call."""

    name: str


#: The descriptor of the prepared state, an address that can be neither read nor written, and room for a descriptor that
#: the call makes.
FD, BAD, ROOM = Placeholder("FD"), Placeholder("BAD"), Placeholder("ROOM")
#: A word of which no byte was written.
POISONED = int.from_bytes(bytes([POISON] * 4), "little")


@dataclass(frozen=True)
class PointerTo:
    """Points to these bytes, whose end lies at the edge of a page without access."""

    data: bytes


@dataclass(frozen=True)
class PointerToWords:
    """Points to 32-bit words, some of which may be pointers. `names` are those of the words, by default their numbers."""

    words: tuple[Word, ...]
    names: tuple[str, ...] = ()

    def name(self, index: int) -> str:
        """Returns the name of a word."""
        return self.names[index] if self.names else str(index)

    def entry(self, index: int) -> str:
        """Returns the name of a word among contents: of a pointer not that of what it points to."""
        is_pointer = isinstance(self.words[index], PointerTo | PointerToWords)
        return self.name(index) + " pointer" * is_pointer


Word = int | Placeholder | PointerTo | PointerToWords
#: What lies in memory, by name ("addr", "msg.flags", "msg.iov.0"): bytes; of a word in an array its number, of one that
#: holds a descriptor which the call has made its name ("made 0").
Contents = dict[str, bytes | int | str]

#: The members of struct msghdr, and how many words a struct cmsghdr has.
_MSGHDR = ("name", "namelen", "iov", "iovlen", "control", "controllen", "flags")
_CMSGHDR = 3


def inet(port: int, host: int = 0x7F000001, family: int = socket.AF_INET) -> bytes:
    """Packs a struct sockaddr_in, independently of the suite's own encoder."""
    return struct.pack("<H", family) + struct.pack(">HI8x", port, host)


def buffer(size: int) -> PointerTo:
    """Points to so many bytes that the call may write."""
    return PointerTo(written(b"", size))


def written(data: bytes, size: int) -> bytes:
    """Returns what a buffer of so many bytes holds with data at its start, cut off at its end, and the rest untouched."""
    return data[:size].ljust(size, bytes([POISON]))


def descriptors(count: int) -> PointerToWords:
    """Points to room for so many descriptors that the call makes."""
    return PointerToWords((ROOM,) * count)


def length(value: int) -> PointerTo:
    """Points to a value-result length."""
    return PointerTo(number(value))


def number(value: int) -> bytes:
    """Packs a signed 32-bit number."""
    return struct.pack("<i", value)


def message(
    *parts: tuple[Word, int],
    name: Word = 0,
    namelen: int = 0,
    control: Word = 0,
    controllen: int = 0,
    count: int | None = None,
) -> PointerToWords:
    """Points to a struct msghdr with a scatter/gather array of (base, length) parts; `count` overrides msg_iovlen.

    Its msg_flags are what no call leaves there: no call reads them, and one that receives writes them.
    """
    vector = PointerToWords(tuple(word for part in parts for word in part)) if parts else 0
    words = (name, namelen, vector, len(parts) if count is None else count, control, controllen, POISONED)
    return PointerToWords(words, _MSGHDR)


def messages(*headers: PointerToWords) -> PointerToWords:
    """Points to an array of struct mmsghdr, whose msg_len a call writes that sends or receives the message."""
    words = tuple(word for header in headers for word in (*header.words, POISONED))
    return PointerToWords(
        words, tuple(f"{index}.{name}" for index in range(len(headers)) for name in (*_MSGHDR, "len"))
    )


def control(level: int, type_: int, *data: Word) -> PointerToWords:
    """Points to control data: a struct cmsghdr of 12 bytes, and words of data."""
    return _control(12 + 4 * len(data), level, type_, *data)


def control_room(words: int) -> PointerToWords:
    """Points to room for control data of so many words, which may be descriptors behind the struct cmsghdr."""
    return _control(*[POISONED] * min(words, _CMSGHDR), *[ROOM] * (words - _CMSGHDR))


def _control(*words: Word) -> PointerToWords:
    return PointerToWords(words, ("len", "level", "type", *(f"data.{index}" for index in range(len(words) - _CMSGHDR))))


class PlacedWords:
    """Places the words of one call, and the memory that they point to."""

    def __init__(self, memory: Memory, fd: int) -> None:
        self._memory, self._fd = memory, fd
        # Blocks by name, for those of words with the words.
        self._blocks: list[tuple[str, Block, PointerToWords | None]] = []
        self._before: Contents = {}

    def place(self, op: str, words: Sequence[Word]) -> list[int]:
        """Returns the numbers of the words of an operation. Puts what they point to into memory."""
        arguments = OPERATIONS[op].arguments
        return [self._place(word, argument.name) for word, argument in zip(words, arguments, strict=True)]

    def _place(self, word: Word, name: str) -> int:
        if isinstance(word, int):
            return word
        if isinstance(word, Placeholder):
            return {FD: self._fd, ROOM: POISONED}.get(word) or self._memory.unmapped()
        if isinstance(word, PointerTo):
            block = self._memory.guarded(word.data)
            self._blocks.append((name, block, None))
            self._before[name] = word.data
            return block.address
        block = self._memory.guarded(4 * len(word.words))
        placed = [self._place(one, f"{name}.{word.name(index)}") & 0xFFFFFFFF for index, one in enumerate(word.words)]
        block.write(struct.pack(f"<{len(placed)}I", *placed))
        self._blocks.append((name, block, word))
        self._before |= {f"{name}.{word.entry(index)}": value for index, value in enumerate(placed)}
        return block.address

    def contents(self, made: Sequence[int]) -> tuple[Contents, Contents]:
        """Returns what the memory held before the call, and what it holds now. `made` are the descriptors made."""
        after: Contents = {}
        for name, block, words in self._blocks:
            if words is None:
                after[name] = block.read()
                continue
            for index, value in enumerate(block.words()):
                is_descriptor = words.words[index] is ROOM and value in made
                after[f"{name}.{words.entry(index)}"] = f"made {made.index(value)}" if is_descriptor else value
        return self._before, after
