"""struct iovec, msghdr, mmsghdr and cmsghdr of i386, packed independently of the suite's own encoder.

They have 8, 28, 32 and 12 bytes (net/compat.c and include/net/compat.h; on native i386 include/linux/socket.h with a long
of 4 bytes).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import SupportsInt

from probes.entry.memory import POISON, Block, Memory

IOVEC = struct.Struct("<II")
#: name, namelen, iov, iovlen, control, controllen, flags; of struct mmsghdr msg_len too.
MSGHDR, MMSGHDR = struct.Struct("<Ii5I"), struct.Struct("<Ii6I")
#: len, level, type.
CMSGHDR = struct.Struct("<Iii")
#: msg_flags and msg_len before a call: a value that no call reports.
UNSET = 0xA5A5A5A5
POISONED = bytes([POISON])


def array(memory: Memory, parts: Sequence[tuple[SupportsInt, int]]) -> Block:
    """Returns an array of struct mmsghdr, each with one part, in memory that ends at a page without access."""
    vectors = memory.put(b"".join(IOVEC.pack(int(base), length) for base, length in parts))
    places = range(vectors.address, vectors.end, IOVEC.size)
    return memory.guarded(b"".join(MMSGHDR.pack(0, 0, place, 1, 0, 0, UNSET, UNSET) for place in places))


def lengths(block: Block) -> list[int]:
    """Returns msg_len of each message of an array."""
    return [one[7] for one in MMSGHDR.iter_unpack(block.read())]


def flags(block: Block) -> list[int]:
    """Returns msg_flags of each message of an array."""
    return [one[6] for one in MMSGHDR.iter_unpack(block.read())]
