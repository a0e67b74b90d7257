"""Tables of pairs of sockets on one port: every combination of address, options, device, user and state.

A member is one pair: the calls of the first socket, those of the second up to its bind, and listen or connect of the
second if it was bound. A table has many members, four in a row; its value has the outcome of each.

Where a table has many dimensions not every combination is played, but a balanced part (`turn`): the rows whose places in
their dimensions add up to a multiple of a number. Any choice of all dimensions but one is then met, with some value of that
one, if it has at least so many values. No rule of the model, and no kernel function that it restates, depends on more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from errno import EINPROGRESS
from itertools import product
from typing import Protocol

from probes.abi.record import errno_name
from tests.bind.conflict_model import Call, Model, Step
from tests.bind.conflict_sockets import LOOPBACK_LINK
from tests.bind.conflict_states import (
    ADDRESSES,
    CHANGES,
    DEAF_PEERS,
    FEW,
    FIRSTS,
    FLAGS,
    PASSING,
    PEERS,
    SECOND,
    SOME,
    STATES,
    UDP_STATES,
    End,
)


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
        make, then = (STATES | PASSING)[self.state]
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
    failed = [(call, answer) for call, answer in answers if answer < 0 and (call.op, answer) != ("syn", -EINPROGRESS)]
    return "+".join(f"{call.op}:{errno_name(answer)}" for call, answer in failed) or "ok"


def _table(state: str, protocol: str, first: str, rows: Sequence[tuple[str, Sequence[Member]]]) -> Table:
    connects = protocol == "tcp" and state not in ("bound", "reopened", "listening", "changed-then-listening")
    before = DEAF_PEERS if state == "syn-sent" else PEERS if connects else ()
    return Table({"state": state, "first": first}, rows, before, connects)


def turn(every: int, *places: tuple[object, Collection[object]]) -> bool:
    """Returns True for a combination of values, each given with its dimension, that is in the balanced part of them."""
    return sum([*dimension].index(one) for one, dimension in places) % every == 0


def _states(protocol: str) -> Collection[str]:
    return [*STATES, *PASSING] if protocol == "tcp" else UDP_STATES


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
