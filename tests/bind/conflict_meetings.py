"""Tables of connections to listeners on one port, and of what they leave for later binds.

As in conflict_table.py, but a member is one client and the address that it connects to, one in a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.bind.conflict_model import Call, Model, Step
from tests.bind.conflict_states import ADDRESSES, End
from tests.bind.conflict_table import Table

#: Listeners: none; one, with or without a device; two that share the port by SO_REUSEPORT, one of them on a wildcard.
LISTENERS: dict[str, tuple[str, ...]] = {
    "nobody": (),
    **{address: (address,) for address in (*ADDRESSES, "0.0.0.0%near0", "::%near0", "::%lo")},
    "0.0.0.0+127.0.0.1": ("0.0.0.0", "127.0.0.1"),
    "127.0.0.1+0.0.0.0": ("127.0.0.1", "0.0.0.0"),
    "::+::1": ("::", "::1"),
    "::+127.0.0.1": ("::", "127.0.0.1"),
}
#: Unbound clients: family, IPV6_V6ONLY.
UNBOUND = {"unbound4": (4, False), "unbound6": (6, False), "unbound6/v6only": (6, True)}
TARGETS = {4: ("127.0.0.1", "127.0.0.2"), 6: ("::1", "::ffff:127.0.0.1", "::ffff:127.0.0.2")}
CLIENT, LATER, RIVAL = 2, 4, 5


@dataclass(frozen=True)
class Meeting:
    """A client that connects to the port of the listeners, at the host `target`. If it is bound, then to the next port."""

    protocol: str
    listeners: tuple[str, ...]
    client: str
    target: str

    def steps(self, model: Model, port: int) -> list[Step]:
        """Returns the calls that are made, with the predicted results; none if the model does not predict the connect."""
        flags = "port" if len(self.listeners) > 1 else "none"
        calls: list[Call] = []
        for slot, address in enumerate(self.listeners):
            host, _, device = address.partition("%")
            calls += [*End(self.protocol, host, flags, device=device).bind(slot, port), Call("listen", slot)]
        connect = Call("connect", CLIENT, self.target, port)
        steps = list(model.plan([*calls, *self._client(port + 1), connect]))
        if steps[-1].call != connect:
            return []
        after = self._refused(port) if steps[-1].predicted else self._connected(port, steps[-1].accepted)
        return [*steps, *model.plan(after)]

    def _client(self, port: int, flags: str = "none") -> list[Call]:
        if self.client not in UNBOUND:
            return End(self.protocol, self.client, flags).bind(CLIENT, port)
        family, v6only = UNBOUND[self.client]
        calls = [Call("socket", CLIENT, protocol=self.protocol, family=family)]
        return [*calls, Call("set", CLIENT, option="v6only", value=True)] if v6only else calls

    def _refused(self, port: int) -> Iterator[Call]:
        """Yields calls whose results depend on the address and port that the client has kept."""
        yield from End(self.protocol, "127.0.0.2").bind(LATER, port + 1)
        yield Call("close", LATER)
        yield from End(self.protocol, "::1").bind(LATER, port + 1)
        yield Call("bind", CLIENT, "::" if ":" in self.target else "0.0.0.0", port + 2)
        yield Call("listen", CLIENT)

    def _connected(self, port: int, accepted: tuple[int, int] | None) -> Iterator[Call]:
        """Yields further calls on the client, binds to its port, and the same connection once more."""
        hosts = TARGETS[6 if ":" in self.target else 4]
        yield Call("connect", CLIENT, hosts[hosts.index(self.target) - 1], port)
        yield Call("set", CLIENT, option="v6only", value=False)
        yield Call("bind", CLIENT, self.target, port + 2)
        yield Call("listen", CLIENT)
        for later in ("127.0.0.2", "0.0.0.0", "::1"):
            yield from End(self.protocol, later).bind(LATER, port + 1)
            yield Call("close", LATER)
        if self.client not in UNBOUND:
            yield from self._rivalled(port)
        if accepted:
            yield from self._repeated(port, accepted[1])

    def _rivalled(self, port: int) -> Iterator[Call]:
        """Yields a connect of another socket that fails, then a bind that shows the address which it has kept."""
        yield Call("set", CLIENT, option="reuse", value=True)
        yield from End(self.protocol, self.client, "addr").bind(RIVAL, port + 1)
        yield Call("connect", RIVAL, self.target, port)
        yield from End(self.protocol, "127.0.0.2").bind(LATER, port + 1)
        yield Call("close", LATER)
        yield Call("close", RIVAL)

    def _repeated(self, port: int, accepted: int) -> Iterator[Call]:
        """Yields the same connection twice more, after the accepted end and after the client was closed first.

        Binds then show that the connections in TIME_WAIT were replaced: each had fewer options than the next.
        """
        yield Call("close", accepted)
        yield from (Call("set", slot, option="reuse", value=True) for slot in range(len(self.listeners)))
        yield from self._client(port + 1, "addr")
        yield Call("connect", CLIENT, self.target, port)
        yield Call("close", CLIENT)
        yield from self._client(port + 1, "both")
        yield Call("connect", CLIENT, self.target, port)
        yield from (Call("close", slot) for slot in range(len(self.listeners)))
        for flags, number in (("addr", port), ("port", port + 1)):
            yield from End(self.protocol, "::", flags).bind(LATER, number)
            yield Call("close", LATER)


def meeting_tables(protocol: str) -> Iterator[Table]:
    """Yields a table for each set of listeners, its rows named by client and target: "::1>::ffff:127.0.0.1"."""
    clients = {**{name: family for name, (family, _) in UNBOUND.items()}, **{a: of[0] for a, of in ADDRESSES.items()}}
    for name, listeners in LISTENERS.items():
        if listeners and protocol != "tcp":
            continue
        rows = [
            (f"{client}>{target}", [Meeting(protocol, listeners, client, target)])
            for client, family in clients.items()
            for target in TARGETS[family]
        ]
        yield Table({"listeners": name}, rows, leaves_state=True)
