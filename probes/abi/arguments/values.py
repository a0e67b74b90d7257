"""Decodes typed values: what an option or a control message holds, as a structure, an address, an int or bytes.

Source: socket(7), ip(7), ipv6(7), packet(7), unix(7), cmsg(3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from probes.abi.arguments.buffers import decode_buffer
from probes.abi.arguments.fetcher import ADDRESS
from probes.abi.layouts import Layout
from probes.abi.record import Decoded
from probes.abi.sockaddr import describe


@dataclass(frozen=True)
class Value:
    """Describes a type of value: the most bytes that are fetched of it, and its decoder.

    The decoder gets the bytes that were fetched, the size that the value is said to have, and the word size of the
    caller. It returns None for a value of another type.
    """

    size: int
    decode: Callable[[bytes, int, int], Decoded]


def structure(*layouts: Layout | Mapping[int, Layout]) -> Value:
    """Make the type of a value that is one of some structures, by its size."""
    by_word = {
        word: [layout if isinstance(layout, Layout) else layout[word] for layout in layouts] for word in (32, 64)
    }

    def decode(raw: bytes, size: int, word: int) -> Decoded:
        if len(raw) == size:
            for layout in by_word[word]:
                if layout.size == size:
                    return layout.decode(raw)
        return None

    return Value(max(layout.size for found in by_word.values() for layout in found), decode)


def growing(layout: Layout) -> Value:
    """Make the type of a structure that new kernels append members to: it may end earlier or later."""

    def decode(raw: bytes, size: int, _word: int) -> Decoded:
        decoded = layout.decode_beginning(raw)
        more = size - len(raw) + decoded.pop("more", 0)
        return decoded | ({"more": more} if more else {})

    return Value(layout.size, decode)


def followed(heads: Mapping[int, Layout], name: str, show: Callable[[bytes], Decoded], step: int, most: int) -> Value:
    """Make the type of a structure that ends in an array `name`: entries of `step` bytes, `most` of them fetched."""

    def decode(raw: bytes, size: int, word: int) -> Decoded:
        head = heads[word]
        if len(raw) < head.size:
            return None
        ends = range(head.size + step, len(raw) + 1, step)
        more = size - head.size - len(ends) * step
        array = {name: [show(raw[end - step : end]) for end in ends]}
        return head.decode(raw) | array | ({"more": more} if more > 0 else {})

    return Value(max(head.size for head in heads.values()) + most * step, decode)


def _decode_address(raw: bytes, size: int, _word: int) -> Decoded:
    return describe(raw) if len(raw) == size else None


SOCKET_ADDRESS = Value(ADDRESS, _decode_address)


def decode_value(value: Value | None, raw: bytes, size: int, word: int) -> Decoded:
    """Decode a value of `size` bytes, of which `raw` were fetched: by its type, else as an int, else as bytes."""
    decoded = value.decode(raw, size, word) if value else None
    if decoded is not None:
        return decoded
    return int.from_bytes(raw, "little", signed=size == 4) if size == len(raw) in (1, 4) else decode_buffer(raw, size)
