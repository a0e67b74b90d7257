"""Defines arguments that are socket addresses, the value-result lengths that go with them, and a pair of descriptors.

Source: bind(2), connect(2), sendto(2), accept(2), getsockname(2), recvfrom(2), socketpair(2); net/socket.c
move_addr_to_kernel, move_addr_to_user.
"""

from __future__ import annotations

from probes.abi.arguments.argument import Argument, Fetched, Step, format_pointer
from probes.abi.arguments.fetcher import ADDRESS, INT, Fetcher
from probes.abi.record import Decoded, signed
from probes.abi.sockaddr import describe

_PAIR = 2 * INT


def read_int(raw: bytes | None) -> int | None:
    """Return the C int at the beginning of some bytes, None if they are fewer than four."""
    return int.from_bytes(raw[:INT], "little", signed=True) if raw and len(raw) >= INT else None


def decode_address(raw: bytes | None, length: int, where: int) -> Decoded:
    """Decode a socket address of `length` bytes; the pointer to it if nothing of it was fetched."""
    return describe(raw[:length]) if raw and length > 0 else format_pointer(where)


def fixed(size: int) -> Step:
    """Make a step that fetches `size` bytes."""

    def fetch(fetcher: Fetcher, name: str, at: int) -> None:
        fetcher.take(name, fetcher.words[at], size)

    return fetch


def address_in(name: str, length: int) -> Argument:
    """Make an argument that is an address the call reads; `length` is the index of its length."""

    def fetch(fetcher: Fetcher, name: str, at: int) -> None:
        fetcher.take(name, fetcher.words[at], min(signed(fetcher.words[length]), ADDRESS))

    def decode(fetched: Fetched, index: int) -> Decoded:
        return decode_address(fetched.before.get(name), ADDRESS, fetched.at(index))

    return Argument(name, decode, entry=fetch)


def address_out(name: str, length: str) -> Argument:
    """Make an argument that is an address the call writes; `length` is the name of its value-result length.

    The length that comes back may exceed the room (accept(2)): as much is decoded as both cover.
    """

    def fetch(fetcher: Fetcher, name: str, at: int) -> None:
        raw = fetcher.blobs.get(length, b"")
        if len(raw) == INT:
            fetcher.take(name, fetcher.words[at], min(int.from_bytes(raw, "little", signed=True), ADDRESS))

    def decode(fetched: Fetched, index: int) -> Decoded:
        room, written = (read_int(blobs.get(length)) or 0 for blobs in (fetched.before, fetched.after))
        return decode_address(fetched.after.get(name), min(room, written), fetched.at(index))

    return Argument(name, decode, exit=fetch)


def value_result(name: str) -> Argument:
    """Make an argument that points to a length the call reads and writes."""

    def decode(fetched: Fetched, index: int) -> Decoded:
        asked, written = read_int(fetched.before.get(name)), read_int(fetched.after.get(name))
        if asked is None:
            return fetched.pointer(index)
        return {"in": asked} if written is None else {"in": asked, "out": written}

    return Argument(name, decode, entry=fixed(INT), exit=fixed(INT))


def offset(name: str, size: int) -> Argument:
    """Make an argument that points to a file offset of `size` bytes the call reads and writes (sendfile(2))."""

    def decode(fetched: Fetched, index: int) -> Decoded:
        asked, written = fetched.before.get(name, b""), fetched.after.get(name, b"")
        if len(asked) < size:
            return fetched.pointer(index)
        given = {"in": int.from_bytes(asked, "little", signed=True)}
        return given if len(written) < size else given | {"out": int.from_bytes(written, "little", signed=True)}

    return Argument(name, decode, entry=fixed(size), exit=fixed(size))


def pair_out(name: str) -> Argument:
    """Make the argument that is the array of two descriptors socketpair writes."""

    def decode(fetched: Fetched, index: int) -> Decoded:
        raw = fetched.after.get(name, b"")
        return [read_int(raw), read_int(raw[INT:])] if len(raw) == _PAIR else fetched.pointer(index)

    return Argument(name, decode, exit=fixed(_PAIR))
