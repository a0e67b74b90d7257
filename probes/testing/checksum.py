"""The checksum of Internet protocols."""

from __future__ import annotations

import struct


def checksum(data: bytes) -> int:
    """Returns the Internet checksum of an even number of bytes (RFC 1071); 0 if they have a right one in them."""
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    return 0xFFFF - (total % 0xFFFF or 0xFFFF)
