"""Bytes and numbers that remember where in the caller's memory they were read.

A value that a test judges may be a part of what it read, or a number unpacked from that. The script of the test needs the
place, so that it can hold the same bytes there against what is expected.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any, SupportsIndex

from probes.entry.calls import Output

_MEMBER = re.compile(r"(\d*)([a-zA-Z?])")
_NUMBERS = "bBhHiIlLqQ"
_unpack, _unpack_from = struct.unpack, struct.unpack_from


class SeenInt(int):
    """Is a number read from memory: `size` bytes from `offset` of a read on, in the order `order`.

    `sorted`: the test has compared it with another, so that where it is in a list may follow from its value.
    """

    read: int
    offset: int
    size: int
    order: str
    sorted = False

    @classmethod
    def at(cls, value: int, place: Seen, start: int, size: int, order: str = "little") -> SeenInt:
        """Returns a number with its place, `size` bytes from `start` of the bytes on."""
        made = cls(value)
        made.read, made.offset, made.size, made.order = place.read, place.offset + start, size, order
        return made

    def __lt__(self, other: int) -> bool:
        """Compares the numbers, as sorted() does."""
        self.sorted = True
        if isinstance(other, SeenInt):
            other.sorted = True
        return int(self) < int(other)

    def encoded(self, value: int) -> bytes:
        """Returns the bytes that another value has in that place. Raises OverflowError: it has none."""
        return value.to_bytes(self.size, "big" if self.order == "big" else "little", signed=value < 0)


class Seen(bytes):
    """Holds bytes from `offset` of a read on.

    `bound` is the number, read from memory too, by which the test cut them off; `left_out` are the indexes of bytes that
    the test has replaced.
    """

    read: int
    offset: int
    bound: SeenInt | None
    left_out: frozenset[int]

    @classmethod
    def at(
        cls, data: bytes, read: int, offset: int = 0, bound: SeenInt | None = None,
        left_out: frozenset[int] = frozenset(),
    ) -> Seen:  # fmt: skip
        """Returns bytes with their place."""
        made = cls(data)
        made.read, made.offset, made.bound, made.left_out = read, offset, bound, left_out
        return made

    def __getitem__(self, part: Any) -> Any:
        """Returns a part with its place."""
        found = super().__getitem__(part)
        if isinstance(part, slice) and part.step in (None, 1):
            start = part.indices(len(self))[0]
            bound = part.stop if isinstance(part.stop, SeenInt) and not start else None
            left_out = frozenset(index - start for index in self.left_out if 0 <= index - start < len(found))
            return Seen.at(found, self.read, self.offset + start, bound, left_out)
        return found if isinstance(part, slice) else SeenInt.at(found, self, part % len(self), 1)

    def replace(self, old: Any, new: Any, count: SupportsIndex = -1, /) -> bytes:
        """Returns the bytes with others in the place of some, which are left out of what is judged."""
        found = super().replace(old, new, count)
        at = self.find(old)
        if count != 1 or len(old) != len(new) or at < 0:
            return found
        return Seen.at(found, self.read, self.offset, self.bound, self.left_out | set(range(at, at + len(old))))


def follow() -> None:
    """Lets struct and Output keep the places of what they convert, for the rest of this process."""
    struct.unpack, struct.unpack_from = _followed, _followed_from
    changes: dict[str, Callable[[Output], Output]] = {"as_int": _as_int, "as_unsigned": _as_unsigned}
    for name, function in changes.items():
        setattr(Output, name, function)


def _followed(layout: str | bytes, data: Any, /) -> tuple[Any, ...]:
    return _placed(layout, data, 0, _unpack(layout, data))


def _followed_from(layout: str | bytes, /, buffer: Any, offset: int = 0) -> tuple[Any, ...]:
    return _placed(layout, buffer, offset, _unpack_from(layout, buffer, offset))


def _as_int(output: Output) -> Output:
    return _as_number(output, True)


def _as_unsigned(output: Output) -> Output:
    return _as_number(output, False)


def _as_number(output: Output, signed: bool) -> Output:
    data = output._bytes
    number = int.from_bytes(data, "little", signed=signed)
    if isinstance(data, Seen):
        number = SeenInt.at(number, data, 0, len(data))
    return Output(output.result, number, output.written_by_failure)


def _placed(layout: Any, data: object, start: int, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns unpacked values with their places, as they are where the layout has members without a fixed place."""
    if not isinstance(data, Seen) or not isinstance(layout, str) or layout[:1] not in tuple("<>=!"):
        return values
    order, placed, at = "big" if layout[0] in ">!" else "little", list[Any](), start
    left = iter(values)
    for count, kind in _MEMBER.findall(layout[1:]):
        size = struct.calcsize(f"={kind}")
        if kind == "x":
            at += int(count or 1)
        elif kind == "s":
            placed.append(data[at : at + int(count or 1)])
            next(left)
            at += int(count or 1)
        else:
            for _ in range(int(count or 1)):
                value = next(left)
                placed.append(SeenInt.at(value, data, at, size, order) if kind in _NUMBERS else value)
                at += size
    return tuple(placed)
