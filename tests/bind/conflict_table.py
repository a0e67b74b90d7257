"""Tables of pairs of sockets on one port: every combination of address, options, device, user and state.

A member is one pair: the calls of the first socket, those of the second up to its bind, and listen or connect of the
second if it was bound. A table has many members, four in a row; its value has the outcome of each.

Where a table has many dimensions not every combination is played, but a balanced part (`turn`): the rows whose places in
their dimensions add up to a multiple of a number. Any choice of all dimensions but one is then met, with some value of that
one, if it has at least so many values. No rule of the model, and no kernel function that it restates, depends on more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Protocol

from probes.abi.record import errno_name
from tests.bind.conflict_model import Call, Model, Step
from tests.bind.conflict_sockets import LOOPBACK_LINK, MAPPED

#: Addresses by their name in cases: family, host, IPV6_V6ONLY.
ADDRESSES = {
    "0.0.0.0": (4, "0.0.0.0", False),
    "127.0.0.1": (4, "127.0.0.1", False),
    "127.0.0.2": (4, "127.0.0.2", False),
    "::": (6, "::", False),
    "::/v6only": (6, "::", True),
    "::1": (6, "::1", False),
    "::ffff:0.0.0.0": (6, "::ffff:0.0.0.0", False),
    "::ffff:127.0.0.1": (6, "::ffff:127.0.0.1", False),
}
#: Addresses of first sockets, without 127.0.0.2, which behaves as 127.0.0.1 does.
FIRSTS = tuple(address for address in ADDRESSES if address != "127.0.0.2")
#: Fewer addresses, for tables with other dimensions.
SOME = ("0.0.0.0", "127.0.0.1", "::", "::1")
FEW = ("0.0.0.0", "127.0.0.1", "::")
#: SO_REUSEADDR and SO_REUSEPORT: the four members of a row.
FLAGS = {"none": (False, False), "addr": (True, False), "port": (False, True), "both": (True, True)}
#: Options of a first socket at bind and later, where they change.
CHANGES = [*permutations(FLAGS, 2)]
#: Slots: the first socket; its client and the accepted socket, if it accepts; the second socket; the peer of connections.
FIRST, CLIENT, ACCEPTED, SECOND, PEER = 0, 1, 2, 3, 5
PEER_PORT = 4000
PEERS = (
    Call("socket", PEER, protocol="tcp", family=6), Call("bind", PEER, "::", PEER_PORT), Call("listen", PEER),
)  # fmt: skip


@dataclass(frozen=True)
class End:
    """A socket to be bound: its address, its options at bind and later, its device and its user."""

    protocol: str
    address: str
    flags: str = "none"
    later: str = ""
    device: str = ""
    user: int = 0

    def bind(self, slot: int, port: int) -> list[Call]:
        """Returns the calls that make it and bind it."""
        family, host, v6only = ADDRESSES[self.address]
        calls = [Call("socket", slot, protocol=self.protocol, family=family, user=self.user)]
        calls += _options(slot, "none", self.flags)
        if v6only:
            calls.append(Call("set", slot, option="v6only", value=True))
        if self.device:
            calls.append(Call("set", slot, option="device", value=self.device))
        return [*calls, Call("bind", slot, host, port)]

    def change(self, slot: int) -> list[Call]:
        """Returns the calls that change its options."""
        return _options(slot, self.flags, self.later or self.flags)

    def connect(self, slot: int) -> Call:
        """Returns the call that connects it to the peer."""
        return Call("connect", slot, self.reachable(), PEER_PORT)

    def reachable(self) -> str:
        """Returns the loopback address that it can connect to."""
        family, host, _ = ADDRESSES[self.address]
        if family == 4:
            return "127.0.0.1"
        return f"{MAPPED}127.0.0.1" if host.startswith(MAPPED) else "::1"


def _options(slot: int, old: str, new: str) -> list[Call]:
    changes = zip(("reuse", "reuseport"), FLAGS[old], FLAGS[new], strict=True)
    return [Call("set", slot, option=name, value=now) for name, before, now in changes if before != now]


def _bound(first: End, port: int) -> list[Call]:
    return first.bind(FIRST, port) + first.change(FIRST)


def _reopened(first: End, port: int) -> list[Call]:
    another = End(first.protocol, "::", "both")
    return [*another.bind(FIRST, port), Call("close", FIRST), *_bound(first, port)]


def _listening(first: End, port: int) -> list[Call]:
    return [*first.bind(FIRST, port), Call("listen", FIRST), *first.change(FIRST)]


def _changed_then_listening(first: End, port: int) -> list[Call]:
    return [*_bound(first, port), Call("listen", FIRST)]


def _connected(first: End, port: int) -> list[Call]:
    return [*_bound(first, port), first.connect(FIRST)]


def _time_wait(first: End, port: int) -> list[Call]:
    return [*_connected(first, port), Call("close", FIRST)]


def _accepted(first: End, port: int) -> list[Call]:
    family, host, _ = ADDRESSES[first.address]
    target = host if family == 4 and host != "0.0.0.0" else first.reachable()
    return [
        *first.bind(FIRST, port), Call("listen", FIRST),
        Call("socket", CLIENT, protocol="tcp", family=family), Call("connect", CLIENT, target, port),
        Call("close", FIRST), *first.change(ACCEPTED),
    ]  # fmt: skip


def _accepted_time_wait(first: End, port: int) -> list[Call]:
    return [*_accepted(first, port), Call("close", ACCEPTED)]


#: The calls that bring the first socket into a state, and the call that a second TCP socket makes once it is bound.
STATES: dict[str, tuple[Callable[[End, int], list[Call]], str]] = {
    "bound": (_bound, "listen"),
    "reopened": (_reopened, "listen"),
    "listening": (_listening, "listen"),
    "changed-then-listening": (_changed_then_listening, "listen"),
    "connected": (_connected, "connect"),
    "time-wait": (_time_wait, "connect"),
    "accepted": (_accepted, "listen"),
    "accepted-time-wait": (_accepted_time_wait, "listen"),
}
#: The states of UDP sockets.
UDP_STATES = ("bound", "connected")


class Member(Protocol):
    """A few sockets on one port."""

    def steps(self, model: Model, port: int) -> list[Step]:
        """Returns the calls that are made, with the results that the model predicts."""


@dataclass(frozen=True)
class Pair:
    """Two sockets and the state of the first. `apart` is the distance of their ports."""

    state: str
    first: End
    second: End
    apart: int = 0

    def steps(self, model: Model, port: int) -> list[Step]:
        """Returns the calls that are made, with the results that the model predicts; it has the peers already."""
        make, then = STATES[self.state]
        steps = list(model.plan([*make(self.first, port), *self.second.bind(SECOND, port + self.apart)]))
        if steps[-1].predicted == 0 and self.second.protocol == "tcp":
            steps += model.plan([self.second.connect(SECOND) if then == "connect" else Call("listen", SECOND)])
        return steps


@dataclass(frozen=True)
class Three:
    """Three sockets that are bound one after the other."""

    ends: tuple[End, End, End]

    def steps(self, model: Model, port: int) -> list[Step]:
        """Returns the calls that are made, with the results that the model predicts."""
        return list(model.plan(call for slot, end in enumerate(self.ends) for call in end.bind(slot, port)))


@dataclass(frozen=True)
class Table:
    """The members of one check, in rows with names.

    `before` are calls that precede all members. `leaves_state` is True if members leave something on their ports, so
    that the table needs a network namespace of its own.
    """

    case: dict[str, str]
    rows: Sequence[tuple[str, Sequence[Member]]]
    before: tuple[Call, ...] = ()
    leaves_state: bool = False

    def model(self, version: tuple[int, ...], inverted: str | None = None) -> Model:
        """Returns a model that has predicted `before`."""
        model = Model(version, inverted)
        list(model.plan(self.before))
        return model


def outcome(answers: Iterable[tuple[Call, int]]) -> str:
    """Returns the outcome of a member from the results of its calls: "ok", or the calls that failed and their errno."""
    return "+".join(f"{call.op}:{errno_name(answer)}" for call, answer in answers if answer < 0) or "ok"


def _table(state: str, protocol: str, first: str, rows: Sequence[tuple[str, Sequence[Member]]]) -> Table:
    connects = protocol == "tcp" and state not in ("bound", "reopened", "listening", "changed-then-listening")
    return Table({"state": state, "first": first}, rows, PEERS if connects else (), connects)


def turn(every: int, *places: tuple[object, Collection[object]]) -> bool:
    """Returns True for a combination of values, each given with its dimension, that is in the balanced part of them."""
    return sum([*dimension].index(one) for one, dimension in places) % every == 0


def _states(protocol: str) -> Collection[str]:
    return STATES if protocol == "tcp" else UDP_STATES


def option_tables(state: str, protocol: str) -> Iterator[Table]:
    """Yields a table for each address of the first socket.

    Its rows are named by the address of the second socket and the options of the first at bind and later:
    "::1 addr>none". Options that do not change are played with every address, of the others each fourth row.
    """
    for first in FIRSTS:
        rows = [
            (f"{second} {then}>{now}",
             [Pair(state, End(protocol, first, then, now), End(protocol, second, flags)) for flags in FLAGS])
            for second, (then, now) in product(ADDRESSES, [(flags, flags) for flags in FLAGS] + CHANGES)
            if (state != "changed-then-listening" if then == now
                else turn(4, (state, _states(protocol)), (first, FIRSTS), (second, ADDRESSES), ((then, now), CHANGES)))
        ]  # fmt: skip
        yield _table(state, protocol, first, rows)


def device_tables(state: str, protocol: str, link: str) -> Iterator[Table]:
    """Yields a table for each address of the first socket.

    Its rows are named by the address of the second socket, the devices of both, and the options of the first:
    "::1 loopback/any addr". A first socket that connects has no other device than loopback: it could not connect.
    Each pair of addresses and of devices is played with one or two sets of options of the first socket.
    """
    devices = {"any": "", "loopback": LOOPBACK_LINK, "link": link}
    firsts = devices if state in ("bound", "listening") else ("any", "loopback")
    for first in SOME:
        rows = [
            (f"{second} {one}/{two} {options}",
             [Pair(state, End(protocol, first, options, device=devices[one]),
                   End(protocol, second, flags, device=devices[two])) for flags in FLAGS])
            for second, one, two, options in product(SOME, firsts, devices, FLAGS)
            if turn(3, (state, STATES), (first, SOME), (second, SOME), (one, devices), (two, devices), (options, FLAGS))
        ]  # fmt: skip
        yield _table(state, protocol, first, rows)


def user_tables(state: str, protocol: str, user: int) -> Iterator[Table]:
    """Yields a table for each address of the first socket; the second socket belongs to `user`.

    Its rows are named by the address of the second socket and the options of the first: "::1 addr". Each pair of addresses
    is played with two sets of options of the first socket.
    """
    for first in FIRSTS:
        rows = [
            (f"{second} {options}",
             [Pair(state, End(protocol, first, options), End(protocol, second, flags, user=user)) for flags in FLAGS])
            for second, options in product(ADDRESSES, FLAGS)
            if turn(2, (state, STATES), (first, FIRSTS), (second, ADDRESSES), (options, FLAGS))
        ]  # fmt: skip
        yield _table(state, protocol, first, rows)


def three_tables(protocol: str) -> Iterator[Table]:
    """Yields a table for each address of the first of three sockets.

    Its rows are named by the addresses of the others and the options of the first two.
    """
    for first in FEW:
        rows = [
            (f"{second} {third} {one} {two}",
             [Three((End(protocol, first, one), End(protocol, second, two), End(protocol, third, flags)))
              for flags in FLAGS])
            for second, third, one, two in product(FEW, FEW, FLAGS, FLAGS)
        ]  # fmt: skip
        yield Table({"first": first}, rows)


def apart_tables(protocols: Sequence[str]) -> Iterator[Table]:
    """Yields a table for each protocol and address of the first socket.

    Its rows are named by the protocol, port and address of the second socket: the same port if its protocol is another
    one, else the next port.
    """
    for protocol, first in product(protocols, FIRSTS):
        rows = [
            (f"{other} {'next-port' if other == protocol else 'same-port'} {second}",
             [Pair("bound", End(protocol, first), End(other, second, flags), int(other == protocol))
              for flags in FLAGS])
            for other, second in product(protocols, ADDRESSES)
        ]  # fmt: skip
        yield Table({"protocol": protocol, "first": first}, rows)
