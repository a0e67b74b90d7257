"""Every way to connect to listeners on one port, and what is left of it for those who bind afterwards.

Like conflict_table.py: a member is one client and where it connects to; one in a row.
"""

from dataclasses import dataclass

from tests.bind.conflict_model import Call
from tests.bind.conflict_table import ADDRESSES, Check, End

#: Who listens: nobody, one, perhaps on one link only, or two that share the port by SO_REUSEPORT, the one on a wildcard.
LISTENERS = {
    "nobody": (),
    **{address: (address,) for address in (*ADDRESSES, "0.0.0.0%near0", "::%near0", "::%lo")},
    "0.0.0.0+127.0.0.1": ("0.0.0.0", "127.0.0.1"),
    "127.0.0.1+0.0.0.0": ("127.0.0.1", "0.0.0.0"),
    "::+::1": ("::", "::1"),
    "::+127.0.0.1": ("::", "127.0.0.1"),
}
#: Who connects: unbound sockets as (family, IPV6_V6ONLY), and bound ones.
UNBOUND = {"unbound4": (4, False), "unbound6": (6, False), "unbound6/v6only": (6, True)}
TARGETS = {4: ("127.0.0.1", "127.0.0.2"), 6: ("::1", "::ffff:127.0.0.1", "::ffff:127.0.0.2")}
CLIENT, WITNESS, RIVAL = 2, 4, 5


@dataclass(frozen=True)
class Meeting:
    """A client, and where it connects to: the port of the listeners, `port`. It is bound to the next one, if to any."""

    protocol: str
    listeners: tuple[str, ...]
    client: str
    target: str

    def steps(self, model, port):
        """The steps that its calls come to; none where the model does not know who would hear."""
        flags = "port" if len(self.listeners) > 1 else "none"
        calls = []
        for slot, address in enumerate(self.listeners):
            host, _, device = address.partition("%")
            calls += [*End(self.protocol, host, flags, device=device).bind(slot, port), Call("listen", slot)]
        connect = Call("connect", CLIENT, self.target, port)
        steps = list(model.plan([*calls, *self._client(port + 1), connect]))
        if steps[-1].call != connect:
            return []
        after = self._refused(port) if steps[-1].predicted else self._connected(port, steps[-1].accepted)
        return [*steps, *model.plan(after)]

    def _client(self, port, flags="none"):
        if self.client not in UNBOUND:
            return End(self.protocol, self.client, flags).bind(CLIENT, port)
        family, v6only = UNBOUND[self.client]
        calls = [Call("socket", CLIENT, (self.protocol, family))]
        return [*calls, Call("set", CLIENT, "v6only", True)] if v6only else calls

    def _refused(self, port):
        """Whether the client has kept its address and its port."""
        yield from End(self.protocol, "127.0.0.2").bind(WITNESS, port + 1)
        yield Call("close", WITNESS)
        yield from End(self.protocol, "::1").bind(WITNESS, port + 1)
        yield Call("bind", CLIENT, "::" if ":" in self.target else "0.0.0.0", port + 2)
        yield Call("listen", CLIENT)

    def _connected(self, port, accepted):
        """What it can still do, whom it meets now, and whether it can do that once more."""
        hosts = TARGETS[6 if ":" in self.target else 4]
        yield Call("connect", CLIENT, hosts[hosts.index(self.target) - 1], port)
        yield Call("set", CLIENT, "v6only", False)
        yield Call("bind", CLIENT, self.target, port + 2)
        yield Call("listen", CLIENT)
        for witness in ("127.0.0.2", "0.0.0.0", "::1"):
            yield from End(self.protocol, witness).bind(WITNESS, port + 1)
            yield Call("close", WITNESS)
        if self.client not in UNBOUND:
            yield from self._rivalled(port)
        if accepted:
            yield from self._repeated(port, accepted[1])

    def _rivalled(self, port):
        """Whether another one that cannot have the same connection is back on the address that it was bound to."""
        yield Call("set", CLIENT, "reuse", True)
        yield from End(self.protocol, self.client, "addr").bind(RIVAL, port + 1)
        yield Call("connect", RIVAL, self.target, port)
        yield from End(self.protocol, "127.0.0.2").bind(WITNESS, port + 1)
        yield Call("close", WITNESS)
        yield Call("close", RIVAL)

    def _repeated(self, port, accepted):
        """The same connection, after one whose other end was closed first and one that was closed first itself. Whether
        these have left their ports: each had fewer options than the next."""
        yield Call("close", accepted)
        yield from (Call("set", slot, "reuse", True) for slot in range(len(self.listeners)))
        yield from self._client(port + 1, "addr")
        yield Call("connect", CLIENT, self.target, port)
        yield Call("close", CLIENT)
        yield from self._client(port + 1, "both")
        yield Call("connect", CLIENT, self.target, port)
        yield from (Call("close", slot) for slot in range(len(self.listeners)))
        for flags, there in (("addr", port), ("port", port + 1)):
            yield from End(self.protocol, "::", flags).bind(WITNESS, there)
            yield Call("close", WITNESS)


def meeting_checks(protocol):
    """For each set of listeners, rows by the client and where it connects to: "::1>::ffff:127.0.0.1"."""
    clients = {**{name: family for name, (family, _) in UNBOUND.items()}, **{a: of[0] for a, of in ADDRESSES.items()}}
    for name, listeners in LISTENERS.items():
        if listeners and protocol != "tcp":
            continue
        rows = [
            (f"{client}>{target}", [Meeting(protocol, listeners, client, target)])
            for client, family in clients.items()
            for target in TARGETS[family]
        ]
        yield Check({"listeners": name}, rows, leaves=True)
