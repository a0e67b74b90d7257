"""Addresses and memory that tests of decoders share: a call is decoded from what lies at its pointers."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

from probes.abi.decode import decode
from probes.abi.fetch import Reader, fetch
from probes.abi.notation import text
from probes.abi.operations import BY_NAME

LOCAL = struct.pack("<H", 2) + struct.pack(">H", 80) + b"\x7f\0\0\1" + bytes(8)
DECODED = {"family": "AF_INET", "host": "127.0.0.1", "port": 80}
PEER = struct.pack("<H", 2) + struct.pack(">H", 4660) + b"\x0a\0\0\2" + bytes(8)
DECODED_PEER = {"family": "AF_INET", "host": "10.0.0.2", "port": 4660}
A, B, C, D, E, F = 0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000


def reader(regions: Mapping[int, bytes]) -> Reader:
    """Return memory of regions by address; test_fetch.py has one that notes what is read."""

    def read(address: int, size: int) -> bytes:
        for start, raw in regions.items():
            if start <= address < start + len(raw):
                return raw[address - start :][:size]
        return b""

    return read


def i32(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}i", *values)


def u32(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def decoded_call(
    op: str, words: list[int], before: Mapping[int, bytes], ret: int | None, after: Mapping[int, bytes], word: int = 32
) -> tuple[dict[str, Any], str]:
    """Decode a call from its entry to its exit, with the memory at both."""
    operation = BY_NAME[op]
    entry = fetch(operation, words, reader(before), None, word)
    leave = {} if ret is None else fetch(operation, words, reader({**before, **after}), ret, word)
    decoded = decode(operation, words, entry, leave, ret, word)
    json.dumps(decoded)
    return decoded, text(op, decoded, ret)


def buffer(raw: bytes, shown: str, **more: int) -> dict[str, Any]:
    return {"hex": raw.hex(), "text": shown, **more}
