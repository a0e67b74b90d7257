"""Every pair of sockets on one port: what the first is, what the second is, and the calls that bring them together.

A member is one pair: the calls of its first socket, those of the second up to its bind, and what the second does next
if it was bound. A check has many members; its value tells the outcome of each, in rows of four.
"""

from dataclasses import dataclass, field
from itertools import product

from conflict_kernel import answer
from conflict_model import Call, Model
from conflict_rules import MAPPED

from probes.abi.record import errno_name

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


#: What the first socket is, and what the second does once it is bound if it is one of TCP.
STATES = {
    "bound": (_bound, "listen"),
    "listening": (_listening, "listen"),
    "changed-then-listening": (_listening_after, "listen"),
    "connected": (_connected, "connect"),
    "time-wait": (_time_wait, "connect"),
    "accepted": (_accepted, "listen"),
    "accepted-time-wait": (_accepted_time_wait, "listen"),
}
#: The states in which something stays on a port when all is closed.
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
        if steps[-1].predicted == 0 and self.second.protocol == "tcp":
            follow = self.second.connect(SECOND) if then == "connect" else Call("listen", SECOND)
            steps += model.plan([follow])
        return steps


@dataclass(frozen=True)
class Three:
    """A member: three sockets that bind one after the other."""

    ends: tuple[End, End, End]

    def steps(self, model, port):
        """The steps that its calls come to."""
        calls = [call for slot, end in enumerate(self.ends) for call in end.bind(slot, port)]
        return list(model.plan(calls))


@dataclass(frozen=True)
class Check:
    """Members in rows, each row under a name; `case` tells the check from others. `before` are calls that all members
    rest on; `fresh` says that they leave something on their ports."""

    case: dict[str, str]
    rows: list
    before: tuple[Call, ...] = ()
    fresh: bool = False
    slots: tuple[int, ...] = field(default=tuple(range(6)))

    def model(self, version, flipped=None):
        """A model that knows what was before."""
        model = Model(version, flipped)
        list(model.plan(self.before))
        return model


def outcome(made):
    """What came of the calls of a member: "ok", or which of them failed and how. `made` are (call, answer)."""
    return "+".join(f"{call.op}:{errno_name(got)}" for call, got in made if got < 0) or "ok"


def _pairs(state, case, rows):
    if state not in TALKING:
        return Check({"state": state, **case}, list(rows))
    tcp = case.get("protocol", "tcp") == "tcp" or True
    return Check({"state": state, **case}, list(rows), PEERS if tcp else (), True, tuple(range(5)))
