"""Sequences of calls for conflict_model.py out of plain numbers, whoever draws them: any numbers are a sequence, smaller
ones a simpler sequence, and a zero is nothing."""

from tests.bind.conflict_model import SLOTS, Call
from tests.bind.conflict_rules import ANY4, ANY6, LISTENING, LOOPBACK_LINK, MAPPED

HOSTS = {
    4: (ANY4, "127.0.0.1", "127.0.0.2"),
    6: (ANY6, "::1", f"{MAPPED}{ANY4}", f"{MAPPED}127.0.0.1", f"{MAPPED}127.0.0.2"),
}
#: Below ip_local_port_range: a port that the kernel chooses is never one of these.
PORTS = (5000, 5001)
#: What sockets are, by the first number of a sequence.
PROTOCOLS = (("tcp",), ("udp",), ("tcp",), ("udp-lite",), ("tcp",), ("tcp", "udp", "udp-lite"))
#: What may be done next, as often as it stands here: without connections, and with them.
PLAIN = ("rest", "open", "twin", "listen", "set", "twin", "close", "listen", "open", "bind", "twin", "listen", "twin")
CONNECTING = (
    "rest", "open", "call", "serve", "twin", "again", "close", "listen", "call", "twin", "connect", "set", "serve", "again",
    "bind", "twin", "call", "serve",
)  # fmt: skip
#: A sequence is as many numbers, each below that: hypothesis draws evenly up to here.
LENGTH, LARGEST = 14, 1 << 24


class Digits:
    """Choices out of a number, the first ones by its lowest digits."""

    def __init__(self, number):
        self._rest = number

    def choose(self, choices):
        """One of a sequence."""
        self._rest, index = divmod(self._rest, len(choices))
        return choices[index]


class Composer:
    """Makes steps out of numbers: what the model does not know is left out. `moves` are PLAIN or CONNECTING, `users` and
    `devices` those that sockets may belong to; `lite` says that there is UDP-Lite."""

    def __init__(self, model, moves, users=(0,), devices=("", LOOPBACK_LINK), lite=True):
        self.model, self.lite = model, lite
        self.moves, self.users, self.devices = moves, users, devices
        self.steps = []
        self._history = {}

    def steps_of(self, numbers):
        """The steps that a list of numbers comes to."""
        about = Digits(numbers[0])
        self.protocols, self.families = about.choose(PROTOCOLS), about.choose(((4,), (6,), (4, 6)))
        self.usual = about.choose(((False, True), (True, False), (True, True), (False, False)))
        self.usual_host = {family: about.choose(HOSTS[family]) for family in HOSTS}
        for number in numbers[1:]:
            digits = Digits(number)
            getattr(self, f"_{digits.choose(self.moves)}")(digits)
        return self.steps

    def _make(self, op, slot, *words):
        call = Call(op, slot, *words)
        planned = list(self.model.plan([call]))
        self.steps += planned
        for made, _, _ in planned:
            if op == "close":
                self._history.pop(made.slot, None)
            else:
                self._history.setdefault(made.slot, []).append(made)

    def _slot(self, digits):
        """One of the sockets there are, None without any."""
        slots = sorted(self.model.slots)
        return digits.choose(slots) if slots else None

    def _free(self, digits):
        """A slot for a new socket: if there is none, some socket is closed."""
        slots = sorted(self.model.slots)
        if len(slots) == SLOTS:
            self._make("close", digits.choose(slots))
        return min(set(range(SLOTS)) - set(self.model.slots))

    def _new(self, digits):
        """A new socket with some options, mostly those that are usual in this sequence."""
        slot, family = self._free(digits), digits.choose(self.families)
        protocol = digits.choose(self.protocols)
        if protocol == "udp-lite" and not self.lite:
            protocol = "udp"
        self._make("socket", slot, (protocol, family, digits.choose(self.users)))
        reuse = self.usual
        if digits.choose((False, False, True)):
            reuse = digits.choose((False, True)), digits.choose((False, True))
        for name, value in zip(("reuse", "reuseport"), reuse, strict=True):
            if value:
                self._make("set", slot, name, True)
        if digits.choose((False, False, False, True)):
            self._make("set", slot, "device", digits.choose(self.devices[1:]))
        if family == 6 and digits.choose((False, False, False, True)):
            self._make("set", slot, "v6only", True)
        return slot

    def _bind_to(self, slot, digits, ports):
        family = self.model.slots[slot].family
        host = self.usual_host[family] if digits.choose((True, False)) else digits.choose(HOSTS[family])
        self._make("bind", slot, host, digits.choose(ports))

    def _rest(self, _):
        pass

    def _open(self, digits):
        self._bind_to(self._new(digits), digits, (PORTS[0], PORTS[1], PORTS[0]))

    def _serve(self, digits):
        slot = self._new(digits)
        wild = (ANY4 if self.model.slots[slot].family == 4 else ANY6), PORTS[0]
        self._make("bind", slot, *wild) if digits.choose((False, True)) else self._bind_to(slot, digits, PORTS[:1])
        self._make("listen", slot)

    def _call(self, digits):
        slot = self._new(digits)
        if digits.choose((True, True, False)):
            self._bind_to(slot, digits, (PORTS[1], PORTS[1], PORTS[0]))
        self._connect_to(slot, digits)

    def _set(self, digits):
        slot = self._slot(digits)
        if slot is not None:
            name = digits.choose(("reuse", "reuseport", "device", "v6only"))
            self._make("set", slot, name, digits.choose(self.devices if name == "device" else (False, True)))

    def _bind(self, digits):
        slot = self._slot(digits)
        if slot is not None:
            self._bind_to(slot, digits, PORTS)

    def _listen(self, digits):
        slot = self._slot(digits)
        if slot is not None:
            self._make("listen", slot)

    def _close(self, digits):
        slot = self._slot(digits)
        if slot is not None:
            self._make("close", slot)

    def _connect(self, digits):
        slot = self._slot(digits)
        if slot is not None:
            self._connect_to(slot, digits)

    def _connect_to(self, slot, digits):
        """Mostly to somebody who listens."""
        family = self.model.slots[slot].family
        ends = self._listeners(family)
        if not ends or digits.choose((False, False, True)):
            hosts = [host for host in HOSTS[family] if host.removeprefix(MAPPED) not in (ANY4, ANY6)]
            ends = [(host, port) for host in hosts for port in PORTS]
        self._make("connect", slot, *digits.choose(ends))

    def _listeners(self, family):
        """The addresses at which a socket of some family may reach those who listen."""
        ends = []
        for s in self.model.slots.values():
            if s.state != LISTENING or s.port not in PORTS:
                continue
            ipv4 = "127.0.0.1" if s.host4 == ANY4 else s.host4
            native = s.host6 is not None and not s.host6.startswith(MAPPED)
            ends.append(("::1" if native and family == 6 else ipv4 if family == 4 else MAPPED + ipv4, s.port))
        return ends

    def _made(self):
        """The sockets that were not accepted."""
        return [slot for slot, calls in sorted(self._history.items()) if calls[0].op == "socket"]

    def _repeat(self, calls, slot, digits, elsewhere):
        """All calls that some socket got once more, for another one, which perhaps has an option more or less."""
        protocol, family, user = calls[0].first
        self._make("socket", slot, (protocol, family, user if len(self.users) == 1 else digits.choose(self.users)))
        changed = digits.choose((None, None, "reuse", "reuseport"))
        if changed and Call("set", calls[0].slot, changed, True) not in calls:
            self._make("set", slot, changed, True)
        for call in calls[1:]:
            if call.op == "bind":
                host = digits.choose(HOSTS[family]) if elsewhere else call.first
                self._make("bind", slot, host, call.second)
            elif call.op != "set" or call.first != changed:
                self._make(call.op, slot, *call[2:])

    def _twin(self, digits):
        """Another socket like one that there is, perhaps with another address."""
        made = self._made()
        if made:
            calls = self._history[digits.choose(made)]
            self._repeat(calls, self._free(digits), digits, digits.choose((False, True)))

    def _again(self, digits):
        """What restarts: closed, by itself or by its other end, and all its calls once more."""
        made, slots = self._made(), self.model.slots
        if not made:
            return
        connected = [slot for slot in made if slots[slot].other]
        slot = digits.choose(connected if connected and digits.choose((True, False)) else made)
        calls = self._history[slot]
        other = next((at for at in slots if slots[at] is slots[slot].other), slot)
        self._make("close", digits.choose((slot, other)))
        self._repeat(calls, slot, digits, False)
