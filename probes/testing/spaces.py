"""Number spaces that `socketcall sweep` covers whole, and what the documents state for each of their members.

A space is a sequence of tracks. Each makes the same calls for every value of a range, and its stretches say what is
expected of which values. The members of a plan are numbered through all its tracks, from 0 on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from errno import EACCES, EFAULT, EINVAL
from functools import partial
from itertools import accumulate, product
from socket import AF_UNIX

from probes.abi.operations import BY_CALL, SOCKETCALL
from probes.entry.calls import Calls
from probes.entry.sweep import Sweep
from probes.testing.expect import NotApplicable
from probes.testing.reference import Reference, resolved
from probes.testing.socket_kinds import WITH_PORTS, SocketKind
from probes.testing.socket_model import TYPE_FLAGS, TYPE_MASK, Answer, answers, type_word_answer
from probes.testing.sweeps import DEFAULT_START, port_sweep, protocol_sweep, type_word_sweep

WORD_MAX = 0xFFFFFFFF
#: Families that are swept unless others are named: AF_MAX is 46, beyond it all are alike.
_FAMILIES, _FAMILIES_MOST = 64, 1023
#: Protocols that are swept: IPPROTO_MAX is 263, beyond it all are alike.
_PROTOCOLS = 512


@dataclass(frozen=True)
class Stretch:
    """Names values of a track, first to last, of which one answer is expected: None if the documents state none."""

    first: int
    last: int
    answer: Answer | None


@dataclass(frozen=True)
class Track:
    """Describes calls that are made for each value of a range, and what is expected.

    `name` is the case of its members. `privileged` is False if they are made without capabilities, which a process cannot
    take back: such tracks are the last of a space. `of` is the value of the space's range that it belongs to, None if
    that range is its own.
    """

    name: str
    first: int
    last: int
    sweep: Callable[[Calls], Sweep]
    stretches: Callable[[int, int], Sequence[Stretch]]
    privileged: bool = True
    of: int | None = None

    @property
    def size(self) -> int:
        """Returns the number of its members."""
        return self.last - self.first + 1


@dataclass(frozen=True)
class Space:
    """Describes a number space.

    `first` and `last` are the values that are swept unless a range is given, `most` the greatest that there is.
    """

    name: str
    what: str
    statement: str
    source: str
    last: int
    tracks: Callable[[int, int], Sequence[Track]]
    most: int = WORD_MAX
    routes: tuple[str, ...] = ("socketcall", "direct")
    hexadecimal: bool = True

    def shown(self, value: int) -> str:
        """Formats a value."""
        return f"{value:#x}" if self.hexadecimal else str(value)


def around(special: Mapping[int, Answer | None], otherwise: Answer | None, first: int, last: int) -> list[Stretch]:
    """Returns the stretches from first to last where all values but the special ones have the same answer."""
    found: list[Stretch] = []
    start = first
    for value in sorted(value for value in special if first <= value <= last):
        if start < value:
            found.append(Stretch(start, value - 1, otherwise))
        found.append(Stretch(value, value, special[value]))
        start = value + 1
    if start <= last:
        found.append(Stretch(start, last, otherwise))
    merged: list[Stretch] = []
    for stretch in found:
        if merged and merged[-1].answer == stretch.answer:
            stretch = Stretch(merged.pop().first, stretch.last, stretch.answer)
        merged.append(stretch)
    return merged


# Operations


def _operation_sweep(calls: Calls) -> Sweep:
    sweep = Sweep(calls)
    sweep.raw(SOCKETCALL, sweep.value, calls.memory.unmapped(), judged=True)
    return sweep


def _operation_stretches(first: int, last: int) -> list[Stretch]:
    return around(dict.fromkeys(BY_CALL, -EFAULT), -EINVAL, first, last)


def _operation_tracks(first: int, last: int) -> list[Track]:
    return [Track("", first, last, _operation_sweep, _operation_stretches)]


# Ports


def _privileged_stretches(first: int, last: int) -> list[Stretch]:
    return [Stretch(first, last, 0)]


def _unprivileged_stretches(first: int, last: int) -> list[Stretch]:
    return around(dict.fromkeys(range(1, DEFAULT_START), -EACCES), 0, first, last)


def _port_tracks(first: int, last: int) -> list[Track]:
    def track(kind: SocketKind, privileged: bool) -> Track:
        stretches = _privileged_stretches if privileged else _unprivileged_stretches
        name = f"kind={kind} capabilities={'all' if privileged else 'none'}"
        return Track(name, first, last, partial(port_sweep, kind=kind), stretches, privileged)

    return [track(kind, privileged) for privileged in (True, False) for kind in WITH_PORTS]


# Type words


def _type_stretches(first: int, last: int) -> list[Stretch]:
    words = (flags | type for flags in TYPE_FLAGS.values() for type in range(TYPE_MASK + 1))
    return around({word: type_word_answer(AF_UNIX, word) for word in words}, -EINVAL, first, last)


def _type_tracks(first: int, last: int) -> list[Track]:
    return [Track("family=AF_UNIX", first, last, partial(type_word_sweep, family=AF_UNIX), _type_stretches)]


# Families


def _family_tracks(first: int, last: int) -> list[Track]:
    def track(family: int, type: int) -> Track:
        def stretches(first: int, last: int) -> list[Stretch]:
            return [
                Stretch(max(first, start), min(last, end), answer)
                for start, end, answer in _answers(family, type)
                if start <= last and end >= first
            ]

        name = f"family={family} type={type} protocol"
        sweep = partial(protocol_sweep, family=family, type=type)
        return Track(name, 0, _PROTOCOLS - 1, sweep, stretches, of=family)

    return [track(family, type) for family, type in product(range(first, last + 1), range(TYPE_MASK + 1))]


def _answers(family: int, type: int) -> Sequence[tuple[int, int, Answer | None]]:
    try:
        return answers(family, type, _PROTOCOLS - 1)
    except NotApplicable:
        # It cannot be known here whether the kernel would load a module.
        return [(0, _PROTOCOLS - 1, None)]


SPACES = {
    space.name: space
    for space in (
        Space(
            "operations",
            "the operation number of socketcall, ebx, with a pointer to no memory",
            "Numbers outside 1 to 20 fail with EINVAL, the others with EFAULT.",
            "socketcall(2) EINVAL, EFAULT; net/socket.c, net/compat.c `call < SYS_SOCKET || call > SYS_SENDMMSG`",
            WORD_MAX,
            _operation_tracks,
            routes=("socketcall",),
        ),
        Space(
            "ports",
            "the port that tcp and udp sockets of both IP versions are bound to, with and without capabilities",
            "bind succeeds; without CAP_NET_BIND_SERVICE it fails with EACCES for the ports 1 to 1023.",
            "bind(2) EACCES; ip(7) ip_unprivileged_port_start",
            0xFFFF,
            _port_tracks,
            most=0xFFFF,
            hexadecimal=False,
        ),
        Space(
            "types",
            "the type word of socket(AF_UNIX, type, 0)",
            "Words with a bit that is neither type nor flag, and types from 11 on, fail with EINVAL; types that AF_UNIX "
            "does not have fail with ESOCKTNOSUPPORT; the others make a socket.",
            "socket(2) EINVAL Invalid flags in type; __sys_socket, unix_create",
            WORD_MAX,
            _type_tracks,
        ),
        Space(
            "families",
            f"families (the range; 0 to {_FAMILIES - 1} if none is given) with 16 types and {_PROTOCOLS} protocols each",
            "socket makes a socket, or fails, as the documents of the family state.",
            "socket(2); __sock_create and the create function of each family",
            _FAMILIES - 1,
            _family_tracks,
            most=_FAMILIES_MOST,
            hexadecimal=False,
        ),
    )
}
"""Every space by name."""


@dataclass(frozen=True)
class Expected:
    """Names members of a plan, `count` from `start` on, of which one answer is expected of the judged kernel."""

    start: int
    count: int
    answer: int | str | None

    @property
    def stop(self) -> int:
        """Returns the member after the last."""
        return self.start + self.count


@dataclass
class Plan:
    """Holds the members of a sweep: those of a space for the values first to last, judged as the documents state them."""

    space: Space
    first: int
    last: int
    reference: Reference
    tracks: Sequence[Track] = field(init=False)
    _starts: list[int] = field(init=False)

    def __post_init__(self) -> None:
        """Numbers the members."""
        self.tracks = self.space.tracks(self.first, self.last)
        self._starts = [0, *accumulate(track.size for track in self.tracks)]

    @property
    def size(self) -> int:
        """Returns the number of members."""
        return self._starts[-1]

    def track_at(self, member: int) -> tuple[Track, int]:
        """Returns the track of a member, and its value there."""
        index = bisect_right(self._starts, member) - 1
        return self.tracks[index], self.tracks[index].first + member - self._starts[index]

    def parts(self, start: int, stop: int) -> Iterator[tuple[Track, int, int, int]]:
        """Yields (track, first value, last value, member of the first value) for the members start to stop - 1."""
        while start < stop:
            track, value = self.track_at(start)
            count = min(stop - start, track.last - value + 1)
            yield track, value, value + count - 1, start
            start += count

    def expected(self, start: int, stop: int) -> Iterator[Expected]:
        """Yields what is expected of the members start to stop - 1, in order."""
        for track, first, last, member in self.parts(start, stop):
            for stretch in track.stretches(first, last):
                answer, _ = resolved(stretch.answer, self.reference)
                if answer is not None and not isinstance(answer, int | str):
                    raise TypeError(f"{track.name}: {answer!r} is no answer")
                yield Expected(member + stretch.first - first, stretch.last - stretch.first + 1, answer)

    def named(self, start: int, count: int = 1) -> str:
        """Names members of one track: `kind=tcp capabilities=none 80..90`."""
        track, value = self.track_at(start)
        first, last = self.space.shown(value), self.space.shown(value + count - 1)
        return " ".join(filter(None, (track.name, first if count == 1 else f"{first}..{last}")))
