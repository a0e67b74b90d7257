"""Defines the arguments of calls that wait: timeouts, arrays of pollfd, sets of descriptors.

Source: poll(2), ppoll(2), select(2), recvmmsg(2).
"""

from __future__ import annotations

from collections.abc import Mapping

from probes.abi import names
from probes.abi.arguments.argument import Argument, Fetched
from probes.abi.arguments.fetcher import DATA, Fetcher
from probes.abi.layouts import POLLFD, TIMESPEC, TIMEVAL, Layout
from probes.abi.record import Decoded, signed

_POLLFDS = 8  # of an array, the most that are fetched


def _timeout(name: str, layouts: Mapping[int, Layout]) -> Argument:
    def fetch(fetcher: Fetcher, name: str, at: int) -> None:
        fetcher.take(name, fetcher.words[at], layouts[fetcher.word].size)

    def decode(fetched: Fetched, index: int) -> Decoded:
        layout = layouts[fetched.word]
        asked, left = fetched.before.get(name, b""), fetched.after.get(name, b"")
        if len(asked) < layout.size:
            return fetched.pointer(index)
        given = layout.decode(asked)
        if len(left) < layout.size or left[: layout.size] == asked[: layout.size]:
            return given
        return {"in": given, "out": layout.decode(left)}

    return Argument(name, decode, entry=fetch, exit=fetch)


def timeval(name: str) -> Argument:
    """Make an argument that is a timeout in microseconds, which the call may update."""
    return _timeout(name, TIMEVAL)


def timespec(name: str) -> Argument:
    """Make an argument that is a timeout in nanoseconds, which the call may update."""
    return _timeout(name, TIMESPEC)


def _decode_pollfds(before: bytes, after: bytes) -> list[dict[str, Decoded]]:
    decoded = []
    for at in range(0, len(before) - POLLFD.size + 1, POLLFD.size):
        fd, events, _ = POLLFD.unpack(before, at)
        entry = {"fd": fd, "events": names.flags(names.POLL, events)}
        if len(after) >= at + POLLFD.size:
            entry["revents"] = names.flags(names.POLL, POLLFD.unpack(after, at)[2])
        decoded.append(entry)
    return decoded


def pollfds(name: str, count: int) -> Argument:
    """Make an argument that is an array of struct pollfd; `count` is the index of its length."""

    def fetch(fetcher: Fetcher, name: str, at: int) -> None:
        fetcher.take(name, fetcher.words[at], min(fetcher.words[count], _POLLFDS) * POLLFD.size)

    def decode(fetched: Fetched, index: int) -> Decoded:
        entries = _decode_pollfds(fetched.before.get(name, b""), fetched.after.get(name, b""))
        return entries or fetched.pointer(index)

    return Argument(name, decode, entry=fetch, exit=fetch)


def _members(raw: bytes) -> list[int]:
    """Return the descriptors of an fd_set: bit n of the array is descriptor n."""
    return [byte * 8 + bit for byte, bits in enumerate(raw) for bit in range(8) if bits >> bit & 1]


def fd_set(name: str, nfds: int) -> Argument:
    """Make an argument that is an fd_set, before and after the call; `nfds` is the index of its limit."""

    def fetch(fetcher: Fetcher, name: str, at: int) -> None:
        longs = (max(signed(fetcher.words[nfds]), 0) + fetcher.word - 1) // fetcher.word
        fetcher.take(name, fetcher.words[at], min(longs * fetcher.word // 8, DATA))

    def decode(fetched: Fetched, index: int) -> Decoded:
        asked, ready = fetched.before.get(name), fetched.after.get(name)
        if asked is None:
            return fetched.pointer(index)
        return {"in": _members(asked)} | ({} if ready is None else {"out": _members(ready)})

    return Argument(name, decode, entry=fetch, exit=fetch)
