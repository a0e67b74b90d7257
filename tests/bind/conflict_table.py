"""Every pair of sockets on one port: what the first is, what the second is, and the calls that bring them together.

A member is one pair: the calls of its first socket, those of the second up to its bind, and what the second does next
if it was bound. A check has many members: its value tells what came of each, four in a row.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

from probes.abi.record import errno_name
from tests.bind.conflict_model import Call, Model
from tests.bind.conflict_rules import LOOPBACK_LINK, MAPPED

#: Addresses by the name they have in cases: family, host, IPV6_V6ONLY.
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
#: Those of first sockets: 127.0.0.2 there would be what 127.0.0.1 is.
FIRSTS = tuple(address for address in ADDRESSES if address != "127.0.0.2")
#: Fewer, for tables that have other dimensions.
SOME = ("0.0.0.0", "127.0.0.1", "::", "::1")
FEW = ("0.0.0.0", "127.0.0.1", "::")
#: SO_REUSEADDR and SO_REUSEPORT: the four members of a row.
FLAGS = {"none": (False, False), "addr": (True, False), "port": (False, True), "both": (True, True)}
#: Slots: the first socket, its client if it is accepted and where it is then; the second; whom connected ones talk to.
FIRST, CLIENT, ACCEPTED, SECOND, PEER = 0, 1, 2, 3, 5
PEER_PORT = 4000
PEERS = (Call("socket", PEER, ("tcp", 6)), Call("bind", PEER, "::", PEER_PORT), Call("listen", PEER))


@dataclass(frozen=True)
class End:
    """One of two sockets: its options at its bind and later, its device, its user."""

    protocol: str
    address: str
    flags: str = "none"
    later: str = ""
    device: str = ""
    user: int = 0

    def bind(self, slot, port):
        """The calls that make it and bind it."""
        family, host, v6only = ADDRESSES[self.address]
        calls = [Call("socket", slot, (self.protocol, family, self.user)), *_options(slot, "none", self.flags)]
        if v6only:
            calls.append(Call("set", slot, "v6only", True))
        if self.device:
            calls.append(Call("set", slot, "device", self.device))
        return [*calls, Call("bind", slot, host, port)]

    def change(self, slot):
        """The calls that change its options."""
        return _options(slot, self.flags, self.later or self.flags)

    def connect(self, slot):
        """The call that connects it to the peer."""
        return Call("connect", slot, self.near(), PEER_PORT)

    def near(self):
        """The loopback address that it can reach."""
        family, host, _ = ADDRESSES[self.address]
        if family == 4:
            return "127.0.0.1"
        return f"{MAPPED}127.0.0.1" if host.startswith(MAPPED) else "::1"


def _options(slot, old, new):
    changes = zip(("reuse", "reuseport"), FLAGS[old], FLAGS[new], strict=True)
    return [Call("set", slot, name, now) for name, before, now in changes if before != now]


def _bound(first, port):
    return first.bind(FIRST, port) + first.change(FIRST)


def _reopened(first, port):
    another = End(first.protocol, "::", "both")
    return [*another.bind(FIRST, port), Call("close", FIRST), *_bound(first, port)]


def _listening(first, port):
    return [*first.bind(FIRST, port), Call("listen", FIRST), *first.change(FIRST)]


def _changed_then_listening(first, port):
    return [*_bound(first, port), Call("listen", FIRST)]


def _connected(first, port):
    return [*_bound(first, port), first.connect(FIRST)]


def _time_wait(first, port):
    return [*_connected(first, port), Call("close", FIRST)]


def _accepted(first, port):
    family, host, _ = ADDRESSES[first.address]
    return [
        *first.bind(FIRST, port), Call("listen", FIRST),
        Call("socket", CLIENT, ("tcp", family)), Call("connect", CLIENT, host if family == 4 and host[0] != "0" else
        first.near(), port),
        Call("close", FIRST), *first.change(ACCEPTED),
    ]  # fmt: skip


def _accepted_time_wait(first, port):
    return [*_accepted(first, port), Call("close", ACCEPTED)]


#: What the first socket is, and what the second does once it is bound, if it is one of TCP.
STATES = {
    "bound": (_bound, "listen"),
    "reopened": (_reopened, "listen"),
    "listening": (_listening, "listen"),
    "changed-then-listening": (_changed_then_listening, "listen"),
    "connected": (_connected, "connect"),
    "time-wait": (_time_wait, "connect"),
    "accepted": (_accepted, "listen"),
    "accepted-time-wait": (_accepted_time_wait, "listen"),
}
#: The states that UDP has.
UDP_STATES = ("bound", "connected")


@dataclass(frozen=True)
class Pair:
    """Two sockets, and the state of the first. `apart` is how far the port of the second is from the first's."""

    state: str
    first: End
    second: End
    apart: int = 0

    def steps(self, model, port):
        """The steps that its calls come to, by a model that knows the peers."""
        make, then = STATES[self.state]
        steps = list(model.plan([*make(self.first, port), *self.second.bind(SECOND, port + self.apart)]))
        if steps[-1].predicted == 0 and self.second.protocol == "tcp":
            steps += model.plan([self.second.connect(SECOND) if then == "connect" else Call("listen", SECOND)])
        return steps


@dataclass(frozen=True)
class Three:
    """Three sockets that bind one after the other."""

    ends: tuple[End, End, End]

    def steps(self, model, port):
        """The steps that its calls come to."""
        return list(model.plan(call for slot, end in enumerate(self.ends) for call in end.bind(slot, port)))


@dataclass(frozen=True)
class Check:
    """Members in rows with their names. `before` are calls that all members rest on; `leaves` says that members leave
    something on their ports, so that each check needs a network namespace of its own."""

    case: dict[str, str]
    rows: Iterable
    before: tuple[Call, ...] = ()
    leaves: bool = False

    def model(self, version, flipped=None):
        """A model that knows what was before."""
        model = Model(version, flipped)
        list(model.plan(self.before))
        return model


def outcome(made):
    """What came of the calls of a member, given as (call, answer): "ok", or which of them failed and how."""
    return "+".join(f"{call.op}:{errno_name(got)}" for call, got in made if got < 0) or "ok"


def _check(state, protocol, first, rows):
    talks = protocol == "tcp" and state not in ("bound", "reopened", "listening", "changed-then-listening")
    return Check({"state": state, "first": first}, rows, PEERS if talks else (), talks)


def option_checks(state, protocol):
    """For each address of the first socket, rows by the address of the second and the options of the first, at its bind
    and now: "::1 addr>none"."""
    for first in FIRSTS:
        rows = [
            (f"{second} {then}>{now}",
             [Pair(state, End(protocol, first, then, now), End(protocol, second, flags)) for flags in FLAGS])
            for second, then, now in product(ADDRESSES, FLAGS, FLAGS)
            if then != now or state != "changed-then-listening"
        ]  # fmt: skip
        yield _check(state, protocol, first, rows)


def device_checks(state, protocol, link):
    """For each address of the first socket, rows by the address of the second, the devices of both, and the options of
    the first: "::1 lo/any addr". Through another link than loopback nothing would be connected."""
    devices = {"any": "", "loopback": LOOPBACK_LINK, "link": link}
    firsts = devices if state in ("bound", "listening") else ("any", "loopback")
    for first in SOME:
        rows = [
            (f"{second} {one}/{two} {options}",
             [Pair(state, End(protocol, first, options, device=devices[one]),
                   End(protocol, second, flags, device=devices[two])) for flags in FLAGS])
            for second, one, two, options in product(SOME, firsts, devices, FLAGS)
        ]  # fmt: skip
        yield _check(state, protocol, first, rows)


def user_checks(state, protocol, user):
    """For each address of the first socket, rows by the address of the second, which is another user's, and the options
    of the first: "::1 addr"."""
    for first in FIRSTS:
        rows = [
            (f"{second} {options}",
             [Pair(state, End(protocol, first, options), End(protocol, second, flags, user=user)) for flags in FLAGS])
            for second, options in product(ADDRESSES, FLAGS)
        ]  # fmt: skip
        yield _check(state, protocol, first, rows)


def three_checks(protocol):
    """For each address of the first socket, rows by the addresses of the others and the options of the first two."""
    for first in FEW:
        rows = [
            (f"{second} {third} {one} {two}",
             [Three((End(protocol, first, one), End(protocol, second, two), End(protocol, third, flags)))
              for flags in FLAGS])
            for second, third, one, two in product(FEW, FEW, FLAGS, FLAGS)
        ]  # fmt: skip
        yield Check({"first": first}, rows)


def apart_checks(protocols):
    """For each protocol and address of the first socket, rows by the protocol and the address of the second: those of
    another protocol on the same port, those of the same on the next."""
    for protocol, first in product(protocols, FIRSTS):
        rows = [
            (f"{other} {'next-port' if other == protocol else 'same-port'} {second}",
             [Pair("bound", End(protocol, first), End(other, second, flags), int(other == protocol))
              for flags in FLAGS])
            for other, second in product(protocols, ADDRESSES)
        ]  # fmt: skip
        yield Check({"protocol": protocol, "first": first}, rows)
