"""Copies the memory that a call points to while its caller is stopped.

Every size that the caller chose is capped: it may be any number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

#: Reads up to size bytes at an address of the calling process, fewer where memory ends.
Reader = Callable[[int, int], bytes]

#: The most bytes of a socket address: sizeof(struct __kernel_sockaddr_storage), the kernel accepts no longer one.
ADDRESS: Final = 128
#: The most bytes of a buffer, and of an option's value that has no structure of its own.
DATA: Final = 64
INT: Final = 4


class Fetcher:
    """Copies the memory behind the words of one call, at one of its two stops.

    `ret` is the call's result at its exit, 0 at its entry; `blobs` is the copied memory by the argument's name.
    """

    __slots__ = ("blobs", "read", "ret", "word", "words")

    def __init__(self, words: Sequence[int], read: Reader, ret: int | None, word: int) -> None:
        """Complete the words to six, as wide as the entry makes them."""
        self.word = 64 if word == 64 else 32
        mask = (1 << self.word) - 1
        self.words = [value & mask for value in words[:6]] + [0] * (6 - len(words))
        self.read = read
        self.ret = 0 if ret is None else ret
        self.blobs: dict[str, bytes] = {}

    def take(self, name: str, address: int, size: int) -> bytes:
        """Copy and keep; nothing for NULL or a size that is not positive."""
        if not address or size <= 0:
            return b""
        raw = self.read(address, size)[:size]
        if raw:
            self.blobs[name] = raw
        return raw
