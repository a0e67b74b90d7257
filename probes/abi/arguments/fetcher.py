"""Copies the memory that a call points to while its caller is stopped.

Every size that the caller chose is capped: it may be any number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

#: Returns the protocol of a descriptor that is a socket of AF_NETLINK, None for any other.
Ask = Callable[[int], int | None]
#: Reads up to size bytes at an address of the calling process, fewer where memory ends.
Reader = Callable[[int, int], bytes]

#: The most bytes of a socket address: sizeof(struct __kernel_sockaddr_storage), the kernel accepts no longer one.
ADDRESS: Final = 128
#: The most bytes of a buffer, and of an option's value that has no structure of its own.
DATA: Final = 64
INT: Final = 4
#: The most bytes of messages of netlink, and the size of the header of one.
_NETLINK, _NLMSGHDR = 65536, 16


@dataclass(frozen=True)
class Limits:
    """Says how much is copied at most: bytes of a buffer and of control messages, entries of arrays by their type."""

    data: int = DATA
    control: int = 128
    iovecs: int = 4
    messages: int = 8
    pollfds: int = 8
    instructions: int = 8
    #: Bytes of a set of descriptors.
    fds: int = DATA


#: Those of evidence: a record stays small.
EVIDENCE: Final = Limits()


class Fetcher:
    """Copies the memory behind the words of one call, at one of its two stops.

    `ret` is the call's result at its exit, 0 at its entry; `blobs` is the copied memory by the argument's name, and as
    "netlink" a byte with the protocol of the socket if its data is messages of netlink.
    """

    __slots__ = ("ask", "blobs", "limits", "read", "ret", "word", "words")

    def __init__(
        self,
        words: Sequence[int],
        read: Reader,
        ret: int | None,
        word: int,
        limits: Limits = EVIDENCE,
        ask: Ask | None = None,
    ) -> None:
        """Complete the words to six, as wide as the entry makes them."""
        self.word = 64 if word == 64 else 32
        mask = (1 << self.word) - 1
        self.words = [value & mask for value in words[:6]] + [0] * (6 - len(words))
        self.read, self.limits, self.ask = read, limits, ask
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

    def take_data(self, name: str, address: int, size: int) -> None:
        """Copy and keep the beginning of a buffer, or all of it where it is messages of netlink."""
        raw = self.take(name, address, min(size, self.limits.data))
        if self.ask is None or size < _NLMSGHDR or not address:
            return
        # (Asking costs two system calls: text and most other data do not begin with a length within the buffer.)
        head = raw or self.read(address, 4)
        if (
            _NLMSGHDR <= int.from_bytes(head[:4], "little") <= size
            and (protocol := self.ask(self.words[0])) is not None
        ):
            self.blobs["netlink"] = bytes((protocol, self.word))
            self.take(name, address, min(size, _NETLINK))
