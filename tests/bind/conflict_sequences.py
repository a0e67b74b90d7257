"""Sequences of calls for conflict_model.py out of plain numbers, whoever draws them: any list of numbers is a sequence,
one with a number less or a smaller one is a simpler sequence."""

from conflict_model import SLOTS, Call, Model
from conflict_rules import ANY4, ANY6, LISTENING, LOOPBACK_LINK, MAPPED

HOSTS = {
    4: (ANY4, "127.0.0.1", "127.0.0.2"),
    6: (ANY6, "::1", "::ffff:0.0.0.0", "::ffff:127.0.0.1", "::ffff:127.0.0.2"),
}
#: Below ip_local_port_range: a port that the kernel chooses is never one of these.
PORTS = (5000, 5001)
OPTIONS = ("reuse", "reuseport", "v6only", "device")
#: What a sequence is about, by its first number: the protocols of its sockets, and whether any of them connects. Those
#: that do start in a network namespace of their own, where the loopback device is the only one.
THEMES = (
    (("tcp",), False), (("tcp",), True), (("udp",), False), (("tcp",), True), (("udp",), True), (("tcp",), True),
    (("tcp", "udp", "udp-lite"), False), (("tcp",), True), (("udp-lite",), True), (("tcp",), True),
    (("udp",), False), (("tcp",), True),
)  # fmt: skip
#: What may be done next, as often as it stands here.
MOVES = {
    False: ("open", "close", "set", "open", "bind", "listen", "open", "set", "listen", "open"),
    True: (
        "open", "close", "listen", "serve", "call", "again", "connect", "set", "serve", "bind", "again", "call", "open",
        "call", "set",
    ),
}  # fmt: skip
#: Every move is drawn below this.
LARGEST = 1 << 24


class Digits:
    """Choices out of a number, the first ones by its lowest digits."""

    def __init__(self, number):
        self._rest = number

    def choose(self, choices):
        """One of a sequence."""
        self._rest, index = divmod(self._rest, len(choices))
        return choices[index]


class Player:
    """Makes steps out of numbers: what the model does not know is left out."""

    def __init__(self, version, users=(0,), link=None):
        self.model = Model(version)
        self.users, self.devices = users, ("", LOOPBACK_LINK, *([link] if link else []))
        self.protocols, self.connects = THEMES[0]
        self.steps = []
        self._history = {}

    def steps_of(self, numbers):
        """The steps that a list of numbers comes to."""
        for index, number in enumerate(numbers):
            digits = Digits(number)
            if index == 0:
                self.protocols, self.connects = digits.choose(THEMES)
            getattr(self, f"_{digits.choose(MOVES[self.connects])}")(digits)
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

    def _devices(self):
        return self.devices[:2] if self.connects else self.devices

    def _slot(self, digits):
        """One of the sockets there are, None without any."""
        slots = sorted(self.model.slots)
        return digits.choose(slots) if slots else None

    def _new(self, digits):
        """A new socket with some options, None if there are too many."""
        free = sorted(set(range(SLOTS)) - set(self.model.slots))
        if not free:
            return None
        slot, family = free[0], digits.choose((4, 6))
        self._make("socket", slot, (digits.choose(self.protocols), family, digits.choose(self.users)))
        for name in OPTIONS:
            odds = (False, True) if name.startswith("reuse") else (False, False, False, True)
            if digits.choose(odds) and (name != "v6only" or family == 6):
                self._make("set", slot, name, digits.choose(self._devices()[1:]) if name == "device" else True)
        return slot

    def _bind_to(self, slot, digits, ports):
        self._make("bind", slot, digits.choose(HOSTS[self.model.slots[slot].family]), digits.choose(ports))

    def _open(self, digits):
        slot = self._new(digits)
        if slot is not None:
            self._bind_to(slot, digits, PORTS)

    def _serve(self, digits):
        slot = self._new(digits)
        if slot is not None:
            self._bind_to(slot, digits, PORTS[:1])
            self._make("listen", slot)

    def _call(self, digits):
        slot = self._new(digits)
        if slot is None:
            return
        if digits.choose((True, True, False)):
            self._bind_to(slot, digits, (PORTS[1], PORTS[1], PORTS[0]))
        self._connect_to(slot, digits)

    def _set(self, digits):
        slot = self._slot(digits)
        if slot is not None:
            name = digits.choose(OPTIONS)
            self._make("set", slot, name, digits.choose(self._devices() if name == "device" else (False, True)))

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
        """Somebody who listens, mostly; or somewhere."""
        family = self.model.slots[slot].family
        anywhere = [(host, port) for host in HOSTS[family] if host not in (ANY4, ANY6, f"{MAPPED}{ANY4}") for port in PORTS]
        ends = self._listeners(family)
        self._make("connect", slot, *digits.choose(ends if ends and digits.choose((True, True, False)) else anywhere))

    def _listeners(self, family):
        """The addresses at which a socket of some family may reach those who listen."""
        ends = []
        for s in self.model.slots.values():
            if s.state != LISTENING or s.port not in PORTS:
                continue
            native = s.host6 is not None and not s.host6.startswith(MAPPED)
            ipv4 = "127.0.0.1" if s.host4 == ANY4 else s.host4
            if family == 4 or not native:
                ends.append((ipv4 if family == 4 else MAPPED + ipv4, s.port))
            else:
                ends.append(("::1", s.port))
        return ends

    def _again(self, digits):
        """What restarts: closed, and all its calls once more. Those that are connected before others."""
        made = {slot: calls for slot, calls in sorted(self._history.items()) if calls[0].op == "socket"}
        connected = [slot for slot in made if self.model.slots[slot].other]
        if made:
            slot = digits.choose(connected or list(made))
            self._make("close", slot)
            for call in made[slot]:
                self._make(call.op, slot, *call[2:])
