"""Defines the arguments of calls that wait: timeouts, arrays of pollfd, sets of descriptors.

Source: poll(2), ppoll(2), select(2), epoll_ctl(2), epoll_wait(2), recvmmsg(2).
"""

from __future__ import annotations

from collections.abc import Mapping

from probes.abi import names
from probes.abi.arguments.argument import Argument, Fetched, word
from probes.abi.arguments.fetcher import Fetcher
from probes.abi.layouts import EPOLL_EVENT, POLLFD, TIMESPEC, TIMESPEC_NEW, TIMEVAL, Layout
from probes.abi.record import Decoded, signed

EPOLL_OPERATION = word("op", lambda value: names.named(names.EPOLL_OPERATIONS, value))


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


def timespec64(name: str) -> Argument:
    """Make an argument that is a timeout in nanoseconds with 64-bit members, which the call may update."""
    return _timeout(name, TIMESPEC_NEW)


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
        fetcher.take(name, fetcher.words[at], min(fetcher.words[count], fetcher.limits.pollfds) * POLLFD.size)

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
        fetcher.take(name, fetcher.words[at], min(longs * fetcher.word // 8, fetcher.limits.fds))

    def decode(fetched: Fetched, index: int) -> Decoded:
        asked, ready = fetched.before.get(name), fetched.after.get(name)
        if asked is None:
            return fetched.pointer(index)
        cut = max(signed(fetched.at(nfds)), 0) > 8 * len(asked)
        found = {"in": _members(asked)} | ({} if ready is None else {"out": _members(ready)})
        return found | ({"more": True} if cut else {})

    return Argument(name, decode, entry=fetch, exit=fetch)


def _decode_event(raw: bytes) -> dict[str, Decoded]:
    events, data = EPOLL_EVENT.unpack(raw)
    return {"events": names.flags(names.EPOLL, events), "data": data}


def epoll_event(name: str) -> Argument:
    """Make an argument that is a struct epoll_event."""

    def fetch(fetcher: Fetcher, name: str, at: int) -> None:
        fetcher.take(name, fetcher.words[at], EPOLL_EVENT.size)

    def decode(fetched: Fetched, index: int) -> Decoded:
        raw = fetched.before.get(name, b"")
        return _decode_event(raw) if len(raw) == EPOLL_EVENT.size else fetched.pointer(index)

    return Argument(name, decode, entry=fetch)


def epoll_events(name: str) -> Argument:
    """Make an argument that is an array of struct epoll_event, of which the call fills as many as it returns."""

    def fetch(fetcher: Fetcher, name: str, at: int) -> None:
        fetcher.take(name, fetcher.words[at], min(fetcher.ret, fetcher.limits.pollfds) * EPOLL_EVENT.size)

    def decode(fetched: Fetched, index: int) -> Decoded:
        raw, size = fetched.after.get(name, b""), EPOLL_EVENT.size
        whole = [raw[at : at + size] for at in range(0, len(raw) - size + 1, size)]
        return [_decode_event(one) for one in whole] or fetched.pointer(index)

    return Argument(name, decode, exit=fetch)
