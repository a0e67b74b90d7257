"""Every pair of sockets on one port: what the first is, what the second is, and the calls that bring them together.

A member is one pair: the calls of its first socket, those of the second up to its bind, and what the second does next
if it was bound. A check has many members; its value tells the outcome of each, in rows of four.
"""

from dataclasses import dataclass
from errno import errorcode
from itertools import product

from conflict_kernel import answer
from conflict_model import Call, Model
from conflict_rules import MAPPED

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
#: SO_REUSEADDR, SO_REUSEPORT: the four columns of a row.
FLAGS = {"none": (False, False), "addr": (True, False), "port": (False, True), "both": (True, True)}
#: Slots: the first socket, its client (for one that was accepted), the second socket, whom connected ones talk to.
FIRST, CLIENT, SECOND, PEER = 0, 1, 3, 5
#: The slots that hold the first socket once it was accepted.
ACCEPTED = 2
PEER_PORT = 4000
#: The port of the first member; every member has one of its own.
FIRST_PORT = 5000

#: What connected sockets talk to, in every check that has any.
PEERS = (Call("socket", PEER, ("tcp", 6)), Call("bind", PEER, "::", PEER_PORT), Call("listen", PEER))


@dataclass(frozen=True)
class End:
    """One of two sockets: how it is made, and the options and the device that it has before its bind and after."""

    protocol: str
    address: str
    flags: str = "none"
    later: str | None = None
    device: str = ""
    later_device: str | None = None
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
        calls = _options(slot, self.flags, self.later or self.flags)
        if self.later_device is not None and self.later_device != self.device:
            calls.append(Call("set", slot, "device", self.later_device))
        return calls

    def connect(self, slot):
        """The call that connects it to the peer."""
        return Call("connect", slot, self.reach(), PEER_PORT)

    def reach(self):
        """Where to connect to from it, or to it."""
        family, host, _ = ADDRESSES[self.address]
        if family == 4:
            return "127.0.0.1"
        return f"{MAPPED}127.0.0.1" if host.startswith(MAPPED) else "::1"


def _options(slot, old, new):
    names = ("reuse", "reuseport")
    changes = zip(names, FLAGS[old], FLAGS[new], strict=True)
    return [Call("set", slot, name, now) for name, before, now in changes if before != now]


def _bound(first, port):
    return first.bind(FIRST, port) + first.change(FIRST)


def _listening(first, port):
    return [*first.bind(FIRST, port), Call("listen", FIRST), *first.change(FIRST)]


def _listening_after(first, port):
    return [*_bound(first, port), Call("listen", FIRST)]


def _connected(first, port):
    return [*_bound(first, port), first.connect(FIRST)]


def _time_wait(first, port):
    return [*_connected(first, port), Call("close", FIRST)]


def _accepted(first, port):
    family, host, _ = ADDRESSES[first.address]
    to = host if host in ("127.0.0.1", "127.0.0.2") else first.reach()
    return [
        *first.bind(FIRST, port), Call("listen", FIRST), Call("socket", CLIENT, ("tcp", family)),
        Call("connect", CLIENT, to, port), Call("close", FIRST), *first.change(ACCEPTED),
    ]  # fmt: skip


def _accepted_time_wait(first, port):
    return [*_accepted(first, port), Call("close", ACCEPTED)]


#: What the first socket is, and what the second does once it is bound.
STATES = {
    "bound": (_bound, "listen"),
    "listening": (_listening, "listen"),
    "changed-then-listening": (_listening_after, "listen"),
    "connected": (_connected, "connect"),
    "time-wait": (_time_wait, "connect"),
    "accepted": (_accepted, "listen"),
    "accepted-time-wait": (_accepted_time_wait, "listen"),
}
#: The states that leave something on a port when all is closed, or talk to a peer.
TALKING = ("connected", "time-wait", "accepted", "accepted-time-wait")


@dataclass(frozen=True)
class Pair:
    """A member: two sockets and the state of the first. `apart` is how far the port of the second is from the first's."""

    state: str
    first: End
    second: End
    apart: int = 0

    def steps(self, model, port):
        """The steps that its calls come to, by a model that knows the peers."""
        make, then = STATES[self.state]
        steps = list(model.plan([*make(self.first, port), *self.second.bind(SECOND, port + self.apart)]))
        if steps[-1].predicted == 0:
            follow = self.second.connect(SECOND) if then == "connect" else Call("listen", SECOND)
            steps += model.plan([follow])
        return steps


def knowing_peers(version, state, flipped=None):
    """A model before the calls of a member."""
    model = Model(version, flipped)
    if state in TALKING:
        list(model.plan(PEERS))
    return model


def outcome(made):
    """What came of a member's calls: "ok", or which of them failed and how."""
    failed = [f"{call.op}:{errorcode[-answer(result)]}" for call, _, result in made if answer(result) < 0]
    return "+".join(failed) or "ok"


def rows_of_flags(state, protocol, first, others=ADDRESSES):
    """The rows of a check about options: for each second address, and each combination of the options of the first at its
    bind and now."""
    for second, bound, now in product(others, FLAGS, FLAGS):
        row = f"{second} {bound}>{now}"
        yield row, [Pair(state, End(protocol, first, bound, now), End(protocol, second, flags)) for flags in FLAGS]


def rows_of_devices(state, protocol, first, devices, others):
    """The rows of a check about devices: for each second address, both devices, and the options of the first. The
    first is bound to its device before its bind; one that talks, after."""
    for second, one, two, bound in product(others, devices, devices, FLAGS):
        a = End(protocol, first, bound, device=one)
        row = f"{second} {one or 'any'}/{two or 'any'} {bound}"
        yield row, [Pair(state, a, End(protocol, second, flags, device=two)) for flags in FLAGS]


def rows_of_users(state, protocol, first, user):
    """The rows of a check about two users: for each second address, and the options of the first."""
    for second, bound in product(ADDRESSES, FLAGS):
        a = End(protocol, first, bound)
        yield f"{second} {bound}", [Pair(state, a, End(protocol, second, flags, user=user)) for flags in FLAGS]
