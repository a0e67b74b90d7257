"""The sockets of conflict_table.py: their addresses and options, and the calls that bring the first one into a state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

from tests.bind.conflict_model import Call
from tests.bind.conflict_sockets import MAPPED

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
FIRST, CLIENT, ACCEPTED, SECOND, DEAF, PEER = 0, 1, 2, 3, 4, 5
PEER_PORT, DEAF_PORT = 4000, 4001
PEERS = (
    Call("socket", PEER, protocol="tcp", family=6), Call("bind", PEER, "::", PEER_PORT), Call("listen", PEER),
)  # fmt: skip
#: A listener that drops every SYN.
DEAF_PEERS = (
    *PEERS, Call("socket", DEAF, protocol="tcp", family=6), Call("set", DEAF, option="deaf", value=True),
    Call("bind", DEAF, "::", DEAF_PORT), Call("listen", DEAF),
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


#: The other end of a connection of the first socket with the peer: the lowest free slot.
OTHER = 1


def _fin_wait2(first: End, port: int) -> list[Call]:
    return [*_connected(first, port), Call("shutdown", FIRST)]


def _close_wait(first: End, port: int) -> list[Call]:
    return [*_connected(first, port), Call("shutdown", OTHER)]


def _last_ack(first: End, port: int) -> list[Call]:
    return [*_close_wait(first, port), Call("set", OTHER, option="deaf", value=True), Call("close", FIRST)]


def _syn_sent(first: End, port: int) -> list[Call]:
    return [*_bound(first, port), Call("syn", FIRST, first.reachable(), DEAF_PORT)]


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
#: States in which a connection is made or ends: to the rules they are "connected", so a part of the rows is played.
PASSING: dict[str, tuple[Callable[[End, int], list[Call]], str]] = {
    "syn-sent": (_syn_sent, "connect"),
    "fin-wait2": (_fin_wait2, "connect"),
    "close-wait": (_close_wait, "connect"),
    "last-ack": (_last_ack, "connect"),
}
#: The states of UDP sockets.
UDP_STATES = ("bound", "connected")
