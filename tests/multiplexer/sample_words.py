"""Argument words of each operation, with the result that they get: for tests of the words, not of the operation."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from errno import EAGAIN, EDESTADDRREQ, EINVAL, ENOTCONN, EOPNOTSUPP, EPROTONOSUPPORT
from typing import SupportsInt

from probes.abi.operations import OPERATIONS
from probes.entry.memory import Memory, pack_words

#: A struct msghdr or mmsghdr of zeros: no name, no data, no control.
_NO_MESSAGE = bytes(32)


@dataclass(frozen=True)
class Sample:
    """Argument words of one operation, as the bytes of the array, and the result that they get."""

    words: bytes
    result: int

    @property
    def values(self) -> tuple[int, ...]:
        """Returns the words as unsigned numbers."""
        return struct.unpack(f"<{len(self.words) // 4}I", self.words)


def samples_around(udp: int, memory: Memory) -> dict[int, Sample]:
    """Returns a sample of each operation, by its number, around an unbound datagram socket.

    The kernel returns the result only if it has got all of the words: it is never EBADF, which a displaced descriptor
    gets, and never EFAULT. No operation has a lasting effect.
    """
    address = memory.put(pack_words(socket.AF_INET | 5000 << 24, 0x0100007F, 0, 0))
    buffer, length, message = memory.alloc(16), memory.words(16), memory.put(_NO_MESSAGE)
    no_wait, type_of = socket.MSG_DONTWAIT, (socket.SOL_SOCKET, socket.SO_TYPE)
    words: dict[str, tuple[SupportsInt, ...]] = {
        "socket": (-EPROTONOSUPPORT, socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_UDP),
        "bind": (-EINVAL, udp, address, 15),
        "connect": (-EINVAL, udp, address, 15),
        "listen": (-EOPNOTSUPP, udp, 1),
        "accept": (-EOPNOTSUPP, udp, buffer, length),
        "getsockname": (0, udp, buffer, length),
        "getpeername": (-ENOTCONN, udp, buffer, length),
        "socketpair": (-EOPNOTSUPP, socket.AF_INET, socket.SOCK_DGRAM, 0, buffer),
        "send": (-EDESTADDRREQ, udp, buffer, 1, 0),
        "recv": (-EAGAIN, udp, buffer, 1, no_wait),
        "sendto": (-EINVAL, udp, buffer, 1, 0, address, 15),
        "recvfrom": (-EAGAIN, udp, buffer, 1, no_wait, buffer, length),
        "shutdown": (-ENOTCONN, udp, socket.SHUT_RD),
        "setsockopt": (0, udp, socket.SOL_SOCKET, socket.SO_REUSEADDR, length, 4),
        "getsockopt": (0, udp, *type_of, buffer, length),
        "sendmsg": (-EDESTADDRREQ, udp, message, 0),
        "recvmsg": (-EAGAIN, udp, message, no_wait),
        "accept4": (-EINVAL, udp, buffer, length, 1),
        "recvmmsg": (-EAGAIN, udp, message, 1, no_wait, 0),
        "sendmmsg": (-EDESTADDRREQ, udp, message, 1, 0),
    }
    return {
        OPERATIONS[name].call: Sample(pack_words(*(int(word) for word in operands)), int(result))
        for name, (result, *operands) in words.items()
    }
