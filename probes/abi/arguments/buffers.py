"""Defines arguments that are data: buffers and arrays of iovec.

Source: send(2), recv(2), read(2), write(2), readv(2).
"""

from __future__ import annotations

from collections.abc import Mapping

from probes.abi.arguments.argument import Argument, Fetched, format_pointer
from probes.abi.arguments.fetcher import Fetcher
from probes.abi.layouts import IOVEC
from probes.abi.record import Decoded
from probes.abi.sockaddr import printable


def decode_buffer(raw: bytes, size: int | None = None) -> dict[str, Decoded]:
    """Decode bytes as hexadecimal and text; `more` counts those of `size` that were not fetched."""
    decoded: dict[str, Decoded] = {"hex": raw.hex(), "text": printable(raw)}
    return decoded | {"more": size - len(raw)} if size is not None and size > len(raw) else decoded


def decode_data(raw: bytes, size: int, blobs: Mapping[str, bytes]) -> dict[str, Decoded]:
    """Decode the data of a message of `size` bytes, of which `raw` were fetched: also as messages of netlink, if it is."""
    decoded = decode_buffer(raw, size)
    if "netlink" not in blobs:
        return decoded
    from probes.abi.netlink import decode_messages  # (Its tables are long, and seldom needed.)

    return decoded | {"netlink": decode_messages(raw, size, *blobs["netlink"])}


def data_in(name: str, length: int) -> Argument:
    """Make an argument that is a buffer the call reads; `length` is the index of its length."""

    def fetch(fetcher: Fetcher, name: str, at: int) -> None:
        fetcher.take_data(name, fetcher.words[at], fetcher.words[length])

    def decode(fetched: Fetched, index: int) -> Decoded:
        raw = fetched.before.get(name)
        return fetched.pointer(index) if raw is None else decode_data(raw, fetched.at(length), fetched.before)

    return Argument(name, decode, entry=fetch)


def data_out(name: str, length: int) -> Argument:
    """Make an argument that is a buffer the call fills. The result may exceed it (recv(2) MSG_TRUNC)."""

    def fetch(fetcher: Fetcher, name: str, at: int) -> None:
        fetcher.take_data(name, fetcher.words[at], min(fetcher.ret, fetcher.words[length]))

    def decode(fetched: Fetched, index: int) -> Decoded:
        raw = fetched.after.get(name)
        if raw is None:
            return fetched.pointer(index)
        return decode_data(raw, min(fetched.ret or 0, fetched.at(length)), fetched.after)

    return Argument(name, decode, exit=fetch)


def fetch_iovecs(fetcher: Fetcher, prefix: str, at: int, count: int, left: int | None) -> None:
    """Fetch an array of iovec and the beginnings of its buffers.

    Of all buffers if `left` is None, else of those that the first `left` bytes received went into.
    """
    layout = IOVEC[fetcher.word]
    raw = fetcher.take(f"{prefix}iov", at, min(count, fetcher.limits.iovecs) * layout.size)
    for i in range(len(raw) // layout.size):
        base, size = layout.unpack(raw, i * layout.size)
        filled = size if left is None else min(size, left)
        fetcher.take_data(f"{prefix}data.{i}", base, filled)
        left = None if left is None else left - filled


def decode_iovecs(
    prefix: str, array: Mapping[str, bytes], data: Mapping[str, bytes], left: int | None, word: int
) -> list[dict[str, Decoded]]:
    """Decode what `fetch_iovecs` fetched: the array from one stop, the buffers' data from the same or the other."""
    layout, decoded = IOVEC[word], []
    raw = array.get(f"{prefix}iov", b"")
    for i in range(len(raw) // layout.size):
        base, size = layout.unpack(raw, i * layout.size)
        filled = size if left is None else min(size, left)
        left = None if left is None else left - filled
        part = data.get(f"{prefix}data.{i}")
        entry: dict[str, Decoded] = {"base": format_pointer(base), "len": size}
        decoded.append(entry | ({} if part is None else {"data": decode_data(part, filled, data)}))
    return decoded


def iovecs_in(count: int) -> Argument:
    """Make the argument `iov` of a call that reads the buffers; `count` is the index of the array's length."""

    def fetch(fetcher: Fetcher, _name: str, at: int) -> None:
        fetch_iovecs(fetcher, "", fetcher.words[at], fetcher.words[count], None)

    def decode(fetched: Fetched, index: int) -> Decoded:
        return decode_iovecs("", fetched.before, fetched.before, None, fetched.word) or fetched.pointer(index)

    return Argument("iov", decode, entry=fetch)


def iovecs_out(count: int) -> Argument:
    """Make the argument `iov` of a call that fills the buffers; `count` is the index of the array's length."""

    def fetch_room(fetcher: Fetcher, _name: str, at: int) -> None:
        fetch_iovecs(fetcher, "", fetcher.words[at], fetcher.words[count], 0)

    def fetch(fetcher: Fetcher, _name: str, at: int) -> None:
        fetch_iovecs(fetcher, "", fetcher.words[at], fetcher.words[count], fetcher.ret)

    def decode(fetched: Fetched, index: int) -> Decoded:
        filled = fetched.ret or 0
        return decode_iovecs("", fetched.before, fetched.after, filled, fetched.word) or fetched.pointer(index)

    return Argument("iov", decode, entry=fetch_room, exit=fetch)
