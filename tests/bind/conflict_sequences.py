"""Composes sequences of calls for conflict_model.py from numbers.

Any numbers are a sequence, smaller numbers a simpler one, and 0 is no call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from probes.testing.sequences import Digits
from tests.bind.conflict_connect import SLOTS
from tests.bind.conflict_model import Call, Model, Step
from tests.bind.conflict_sockets import ANY4, ANY6, LISTENING, LOOPBACK_LINK, MAPPED

HOSTS: dict[int, tuple[str, ...]] = {
    4: (ANY4, "127.0.0.1", "127.0.0.2"),
    6: (ANY6, "::1", f"{MAPPED}{ANY4}", f"{MAPPED}127.0.0.1", f"{MAPPED}127.0.0.2"),
}
#: Below ip_local_port_range: an ephemeral port is never one of these.
PORTS = (5000, 5001)
#: The protocols of the sockets, chosen by the first number of a sequence.
PROTOCOLS: tuple[tuple[str, ...], ...] = (
    ("tcp",),
    ("udp",),
    ("tcp",),
    ("udp-lite",),
    ("tcp",),
    ("tcp", "udp", "udp-lite"),
)
#: Moves, each as likely as it is frequent here: without connections, and with them.
BINDING = ("rest", "open", "twin", "listen", "set", "twin", "close", "listen", "open", "bind", "twin", "listen", "twin")
CONNECTING = (
    "rest", "open", "call", "serve", "twin", "again", "close", "listen", "call", "twin", "connect", "set", "serve", "again",
    "bind", "twin", "call", "serve", "finish",
)  # fmt: skip


class Composer:
    """Composes steps from numbers; a call that the model does not predict is left out.

    `moves` is BINDING or CONNECTING; `users` and `devices` are those that sockets may have; `lite` is True if the kernel
    has UDP-Lite.
    """

    def __init__(
        self,
        model: Model,
        moves: Sequence[str],
        users: Sequence[int] = (0,),
        devices: Sequence[str] = ("", LOOPBACK_LINK),
        lite: bool = True,
    ) -> None:
        self.model, self.lite = model, lite
        self.moves, self.users, self.devices = moves, users, devices
        self.steps: list[Step] = []
        self._history: dict[int, list[Call]] = {}
        self._move: dict[str, Callable[[Digits], None]] = {
            "rest": self._rest, "open": self._open, "serve": self._serve, "call": self._call, "set": self._set,
            "bind": self._bind, "listen": self._listen, "close": self._close, "connect": self._connect,
            "twin": self._twin, "again": self._again, "finish": self._finish,
        }  # fmt: skip

    def steps_of(self, numbers: Sequence[int]) -> list[Step]:
        """Returns the steps of a list of numbers. The first number chooses protocols, families and usual options."""
        about = Digits(numbers[0])
        self.protocols, self.families = about.choose(PROTOCOLS), about.choose(((4,), (6,), (4, 6)))
        self.usual = about.choose(((False, True), (True, False), (True, True), (False, False)))
        self.usual_host = {family: about.choose(HOSTS[family]) for family in HOSTS}
        for number in numbers[1:]:
            digits = Digits(number)
            self._move[digits.choose(self.moves)](digits)
        return self.steps

    def _make(self, call: Call) -> None:
        planned = list(self.model.plan([call]))
        self.steps += planned
        for made, _, _ in planned:
            if call.op == "close":
                self._history.pop(made.slot, None)
            else:
                self._history.setdefault(made.slot, []).append(made)

    def _slot(self, digits: Digits) -> int | None:
        """Returns the slot of an open socket, None if there is none."""
        slots = sorted(self.model.slots)
        return digits.choose(slots) if slots else None

    def _free(self, digits: Digits) -> int:
        """Returns a free slot; if there is none, closes a socket first."""
        slots = sorted(self.model.slots)
        if len(slots) == SLOTS:
            self._make(Call("close", digits.choose(slots)))
        return min(set(range(SLOTS)) - set(self.model.slots))

    def _new(self, digits: Digits) -> int:
        """Makes a socket with some options, mostly those usual in this sequence. Returns its slot."""
        slot, family = self._free(digits), digits.choose(self.families)
        protocol = digits.choose(self.protocols)
        if protocol == "udp-lite" and not self.lite:
            protocol = "udp"
        self._make(Call("socket", slot, protocol=protocol, family=family, user=digits.choose(self.users)))
        reuse = self.usual
        if digits.choose((False, False, True)):
            reuse = digits.choose((False, True)), digits.choose((False, True))
        for name, value in zip(("reuse", "reuseport"), reuse, strict=True):
            if value:
                self._make(Call("set", slot, option=name, value=True))
        if digits.choose((False, False, False, True)):
            self._make(Call("set", slot, option="device", value=digits.choose(self.devices[1:])))
        if family == 6 and digits.choose((False, False, False, True)):
            self._make(Call("set", slot, option="v6only", value=True))
        return slot

    def _bind_to(self, slot: int, digits: Digits, ports: Sequence[int]) -> None:
        family = self.model.slots[slot].family
        host = self.usual_host[family] if digits.choose((True, False)) else digits.choose(HOSTS[family])
        self._make(Call("bind", slot, host, digits.choose(ports)))

    def _rest(self, digits: Digits) -> None:
        """Makes no call."""

    def _open(self, digits: Digits) -> None:
        self._bind_to(self._new(digits), digits, (PORTS[0], PORTS[1], PORTS[0]))

    def _serve(self, digits: Digits) -> None:
        slot = self._new(digits)
        wild = ANY4 if self.model.slots[slot].family == 4 else ANY6
        if digits.choose((False, True)):
            self._make(Call("bind", slot, wild, PORTS[0]))
        else:
            self._bind_to(slot, digits, PORTS[:1])
        self._make(Call("listen", slot))

    def _call(self, digits: Digits) -> None:
        slot = self._new(digits)
        if digits.choose((True, True, False)):
            self._bind_to(slot, digits, (PORTS[1], PORTS[1], PORTS[0]))
        self._connect_to(slot, digits)

    def _set(self, digits: Digits) -> None:
        slot = self._slot(digits)
        if slot is not None:
            name = digits.choose(("reuse", "reuseport", "device", "v6only"))
            values: Sequence[bool | str] = self.devices if name == "device" else (False, True)
            self._make(Call("set", slot, option=name, value=digits.choose(values)))

    def _bind(self, digits: Digits) -> None:
        slot = self._slot(digits)
        if slot is not None:
            self._bind_to(slot, digits, PORTS)

    def _listen(self, digits: Digits) -> None:
        slot = self._slot(digits)
        if slot is not None:
            self._make(Call("listen", slot))

    def _close(self, digits: Digits) -> None:
        slot = self._slot(digits)
        if slot is not None:
            self._make(Call("close", slot))

    def _finish(self, digits: Digits) -> None:
        slot = self._slot(digits)
        if slot is not None:
            self._make(Call("shutdown", slot))

    def _connect(self, digits: Digits) -> None:
        slot = self._slot(digits)
        if slot is not None:
            self._connect_to(slot, digits)

    def _connect_to(self, slot: int, digits: Digits) -> None:
        """Connects a socket, mostly to a listener."""
        family = self.model.slots[slot].family
        ends = self._listeners(family)
        if not ends or digits.choose((False, False, True)):
            hosts = [host for host in HOSTS[family] if host.removeprefix(MAPPED) not in (ANY4, ANY6)]
            ends = [(host, port) for host in hosts for port in PORTS]
        self._make(Call("connect", slot, *digits.choose(ends)))

    def _listeners(self, family: int) -> list[tuple[str, int]]:
        """Returns the addresses at which a socket of a family can reach the listeners."""
        ends: list[tuple[str, int]] = []
        for s in self.model.slots.values():
            if s.state != LISTENING or s.port not in PORTS:
                continue
            ipv4 = "127.0.0.1" if s.host4 == ANY4 else s.host4
            native = s.host6 is not None and not s.is_mapped
            ends.append(("::1" if native and family == 6 else ipv4 if family == 4 else MAPPED + ipv4, s.port))
        return ends

    def _made(self) -> list[int]:
        """Returns the slots of the open sockets that were not accepted."""
        return [slot for slot, calls in sorted(self._history.items()) if calls[0].op == "socket"]

    def _repeat(self, calls: Sequence[Call], slot: int, digits: Digits, other_host: bool) -> None:
        """Repeats all calls of a socket on a new one, which may have an option more or less, or bind another host."""
        user = calls[0].user if len(self.users) == 1 else digits.choose(self.users)
        self._make(calls[0]._replace(slot=slot, user=user))
        changed = digits.choose((None, None, "reuse", "reuseport"))
        if changed and Call("set", calls[0].slot, option=changed, value=True) not in calls:
            self._make(Call("set", slot, option=changed, value=True))
        for call in calls[1:]:
            if call.op == "bind":
                host = digits.choose(HOSTS[calls[0].family]) if other_host else call.host
                self._make(Call("bind", slot, host, call.port))
            elif call.op != "set" or call.option != changed:
                self._make(call._replace(slot=slot))

    def _twin(self, digits: Digits) -> None:
        """Makes another socket with the calls of an open one, perhaps with another address."""
        made = self._made()
        if made:
            calls = self._history[digits.choose(made)]
            self._repeat(calls, self._free(digits), digits, digits.choose((False, True)))

    def _again(self, digits: Digits) -> None:
        """Closes a socket, or first the other end of its connection, and makes all its calls once more."""
        made, slots = self._made(), self.model.slots
        if not made:
            return
        connected = [slot for slot in made if slots[slot].other]
        only_connected = bool(connected) and digits.choose((True, False))
        slot = digits.choose(connected if only_connected else made)
        calls = self._history[slot]
        other = next((at for at in slots if slots[at] is slots[slot].other), slot)
        self._make(Call("close", digits.choose((slot, other))))
        self._repeat(calls, slot, digits, False)
