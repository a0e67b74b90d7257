"""Defines what an argument of a system call is, and the arguments that are numbers, flags and mere pointers.

Source: socket(2), listen(2), shutdown(2), send(2), accept(2), setsockopt(2), dup(2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from probes.abi import names
from probes.abi.arguments.fetcher import Fetcher
from probes.abi.record import Decoded, signed

NULL = "NULL"


@dataclass(frozen=True)
class Fetched:
    """Holds the words of one call and the memory fetched for it.

    `before` is the memory at its entry, `after` at its exit: empty until the call returned without an error. `ret` is
    None for a call that did not return, `word` 64 for a native x86-64 call, else 32.
    """

    words: Sequence[int]
    before: Mapping[str, bytes]
    after: Mapping[str, bytes]
    ret: int | None
    word: int

    def at(self, index: int) -> int:
        """Return the word at an index, 0 if there is none."""
        return self.words[index] if index < len(self.words) else 0

    def pointer(self, index: int) -> str:
        """Format the word at an index as a pointer."""
        return format_pointer(self.at(index))


#: Decodes the argument at an index. Never raises: what cannot be decoded stays a pointer or a number.
Decoder = Callable[[Fetched, int], Decoded]
#: Fetches what the argument at an index points to, under the argument's name.
Step = Callable[[Fetcher, str, int], None]


@dataclass(frozen=True)
class Argument:
    """Describes an argument: its name in the manual page, its decoder, its fetch steps at entry and at exit."""

    name: str
    decode: Decoder
    entry: Step | None = None
    exit: Step | None = None


def format_pointer(address: int) -> str:
    """Format an address of the caller: `0x1000`, `NULL`."""
    return hex(address) if address else NULL


def word(name: str, decode: Callable[[int], Decoded]) -> Argument:
    """Make an argument that is decoded from its word alone."""
    return Argument(name, lambda fetched, index: decode(fetched.at(index)))


def integer(name: str) -> Argument:
    """Make an argument of type int."""
    return word(name, signed)


def size(name: str) -> Argument:
    """Make an argument of type size_t or unsigned int."""
    return word(name, lambda value: value)


def pointer(name: str) -> Argument:
    """Make an argument that is a pointer to memory that is not fetched."""
    return word(name, format_pointer)


def bits(name: str, table: Mapping[int, str]) -> Argument:
    """Make an argument of flags that a table names."""
    return word(name, lambda value: names.flags(table, value))


def _protocol(fetched: Fetched, index: int) -> Decoded:
    return names.protocol(fetched.at(0), fetched.at(index))


FD = integer("fd")
FAMILY = word("family", names.family)
TYPE = word("type", names.socktype)
PROTOCOL = Argument("protocol", _protocol)
HOW = word("how", lambda value: names.named(names.HOW, value))
MESSAGE_FLAGS = word("flags", names.message_flags)
ACCEPT_FLAGS = bits("flags", names.TYPE_FLAGS)
FILE_FLAGS = bits("flags", names.FILE_FLAGS)
