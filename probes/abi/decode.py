"""What the memory that a call points to says, for people and for evidence. See `look` and `decode`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

#: Reads up to size bytes at an address of the calling process; fewer come back where memory ends.
Reader = Callable[[int, int], bytes]


def look(op: str, words: Sequence[int], read: Reader, ret: int | None, word: int) -> dict[str, bytes]:
    return {}


def decode(
    op: str, words: Sequence[int], before: Mapping[str, bytes], after: Mapping[str, bytes], ret: int | None, word: int
) -> dict[str, Any]:
    return {}
