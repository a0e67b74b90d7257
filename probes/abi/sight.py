"""How much of the memory a call points to is read, and its layouts by word size: what peek.py and values.py share.

Source: include/linux/socket.h, include/net/compat.h, include/vdso/time32.h. Every size that the caller chose is capped,
because nobody vouches for it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final

#: Reads up to size bytes at an address of the calling process; fewer come back where memory ends.
Reader = Callable[[int, int], bytes]

ADDRESS: Final = 128  # sizeof(struct __kernel_sockaddr_storage): the kernel takes no longer one
DATA: Final = 64
CONTROL: Final = 128
IOVECS: Final = 4
MESSAGES: Final = 8
POLLFDS: Final = 8
INT: Final = 4
SOCKET_PAIR: Final = 8
F_OWNER_EX: Final = 8

#: struct user_msghdr, mmsghdr and iovec, by word size: name, namelen, iov, iovlen, control, controllen, flags.
HEADER: Final = {32: struct.Struct("<IiIIIII"), 64: struct.Struct("<Qi4xQQQQI4x")}
MMSGHDR: Final = {32: struct.Struct("<28xI"), 64: struct.Struct("<56xI4x")}
IOVEC: Final = {32: struct.Struct("<II"), 64: struct.Struct("<QQ")}
#: struct old_timeval32 and old_timespec32; the native ones of x86-64.
TIME: Final = {32: struct.Struct("<ii"), 64: struct.Struct("<qq")}
IFREQ: Final = {32: 32, 64: 40}
IFCONF: Final = {32: 8, 64: 16}


class Sight:
    """One look at one call: its words, the memory behind them, and the blobs seen so far."""

    __slots__ = ("blobs", "read", "ret", "word", "words")

    def __init__(self, words: Sequence[int], read: Reader, ret: int | None, word: int) -> None:
        self.word = 64 if word == 64 else 32
        mask = (1 << self.word) - 1
        self.words = [value & mask for value in words[:6]] + [0] * (6 - len(words))
        self.read = read
        self.ret = 0 if ret is None else ret
        self.blobs: dict[str, bytes] = {}

    def take(self, name: str, address: int, size: int) -> bytes:
        """Reads and keeps; nothing for NULL or a size that is not positive."""
        if not address or size <= 0:
            return b""
        raw = self.read(address, size)[:size]
        if raw:
            self.blobs[name] = raw
        return raw

    def vector(self, name: str, at: int, count: int) -> list[tuple[str, bytes]]:
        """An array of mmsghdr: name and bytes of its whole entries."""
        stride = MMSGHDR[self.word].size
        raw = self.take(name, at, min(count, MESSAGES) * stride)
        return [(f"{name}.{i}", raw[i * stride : (i + 1) * stride]) for i in range(len(raw) // stride)]

    def message(self, name: str, raw: bytes, left: int | None) -> None:
        """What a msghdr points to; `left` as in `iovecs`."""
        layout = HEADER[self.word]
        if len(raw) < layout.size:
            return
        who, length, iov, count, control, room, _flags = layout.unpack(raw[: layout.size])
        self.take(f"{name}.name", who, min(length, ADDRESS))
        self.iovecs(f"{name}.", iov, count, left)
        self.take(f"{name}.control", control, min(room, CONTROL))

    def room(self, name: str, raw: bytes) -> None:
        """Where a msghdr wants its data: the array, not what is in the buffers."""
        layout = HEADER[self.word]
        if len(raw) >= layout.size:
            _who, _length, iov, count, *_rest = layout.unpack(raw[: layout.size])
            self.iovecs(f"{name}.", iov, count, 0)

    def iovecs(self, prefix: str, at: int, count: int, left: int | None) -> None:
        """The array, and of each buffer its beginning: of all (`left` None) or while `left` received bytes last."""
        layout = IOVEC[self.word]
        raw = self.take(f"{prefix}iov", at, min(count, IOVECS) * layout.size)
        for i in range(len(raw) // layout.size):
            base, size = layout.unpack_from(raw, i * layout.size)
            filled = size if left is None else min(size, left)
            self.take(f"{prefix}data.{i}", base, min(filled, DATA))
            left = None if left is None else left - filled
