"""What socket, setsockopt, bind, listen, connect and close answer, on a few sockets that meet on their ports: a model.

The rules about two sockets and a port are in conflict_rules.py, those about connections in conflict_connect.py; here
are the calls. The model says nothing where the answer is a matter of chance (which of two equal listeners gets a
connection) or of waiting (for an answer that nobody gives), or where an older kernel asks one of several wildcards: such
calls are not made.
"""

from errno import EADDRINUSE, EADDRNOTAVAIL, EINVAL, EOPNOTSUPP
from typing import NamedTuple

from tests.bind.conflict_connect import SLOTS, Connections
from tests.bind.conflict_rules import ANY4, ANY6, CLOSED, CONNECTED, LISTENING, LOOPBACK_LINK, MAPPED, Sock, rule


class Call(NamedTuple):
    """A call on the socket of a slot, with what it takes: ("bind", 0, "127.0.0.1", 5000)."""

    op: str
    slot: int
    first: object = None
    second: object = None


class Step(NamedTuple):
    """A call as it should go: its predicted answer, and whom it concerns besides (see Connections)."""

    call: Call
    predicted: int
    accepted: tuple[int, int] | None = None


class Model(Connections):
    """Tells what calls answer, one after the other."""

    def plan(self, calls):
        """The calls that can be made, with the answers that they must get. The other end of a connection is closed
        after the first."""
        for call in calls:
            predicted = self.answer(call)
            if predicted is not None:
                yield Step(call, predicted, self.accepted)
            if self.closed_too is not None:
                yield Step(Call("close", self.closed_too), 0)

    def answer(self, call):
        """What a call answers (0, -EADDRINUSE), or None."""
        self.accepted = self.closed_too = None
        if call.op == "socket":
            return self._socket(call.slot, *call.first)
        s = self.slots.get(call.slot)
        if s is None:
            return None
        if call.op == "close":
            return self.close(call.slot)
        if call.op == "listen":
            return self._listen(s)
        if call.op == "set":
            return self._set(s, call.first, call.second)
        if (":" in call.first) != (s.family == 6):
            return None
        return (self._bind if call.op == "bind" else self.connect)(s, call.first, call.second)

    def _socket(self, slot, protocol, family, user=0):
        if slot in self.slots or len(self.slots) == SLOTS:
            return None
        self.slots[slot] = Sock(protocol, family, user, host6=ANY6 if family == 6 else None)
        return 0

    # setsockopt

    @rule("do_ipv6_setsockopt IPV6_V6ONLY `inet_num`")
    def fixes_v6only(self, s):
        """IPV6_V6ONLY cannot change once there is a port."""
        return s.port != 0

    def _set(self, s, name, value):
        if name == "v6only":
            if s.family != 6:
                return None
            if self.fixes_v6only(s):
                return -EINVAL
        if name == "device" and value not in ("", LOOPBACK_LINK) and s.other is not None:
            return None  # Its last packets would go nowhere.
        setattr(s, name, value)
        return 0

    # bind

    @rule("__inet_bind, __inet6_bind `sk_state != TCP_CLOSE || inet_num`")
    def is_bound(self, s):
        """A socket that has a port cannot be bound."""
        return s.port != 0

    @rule("__inet6_bind ipv6_only_sock")
    def refuses_mapped(self, s, host):
        """A socket with IPV6_V6ONLY cannot be bound to a v4-mapped address."""
        return s.v6only and host.startswith(MAPPED)

    @rule("__inet6_bind ipv6_chk_addr; __ipv6_chk_addr_and_flags IFA_HOST")
    def is_elsewhere(self, s, host):
        """A socket bound to another device than loopback cannot be bound to ::1."""
        return host == "::1" and s.device not in ("", LOOPBACK_LINK)

    @rule("__inet6_bind `sk->sk_ipv6only = 1`")
    def makes_v6only(self, host):
        """Binding a native IPv6 address sets IPV6_V6ONLY."""
        return ":" in host and host != ANY6 and not host.startswith(MAPPED)

    @rule("__inet_bind, __inet6_bind SOCK_BINDADDR_LOCK")
    def locks_address(self, host):
        """Binding any address but the wildcard is for good; the v4-mapped wildcard is an address."""
        return host not in (ANY4, ANY6)

    def _bind(self, s, host, port):
        if self.is_bound(s) or self.refuses_mapped(s, host):
            return -EINVAL
        if self.is_elsewhere(s, host):
            return -EADDRNOTAVAIL
        bound = s.copy(v6only=s.v6only or self.makes_v6only(host))
        bound.put(host)
        bucket, take = self.bucket(s.protocol, port), self.take_tcp if s.protocol == "tcp" else self.take_udp
        if s.protocol == "tcp" and self.hides_a_wildcard(bound, bucket):
            return None
        if not take(bound, bucket):
            return -EADDRINUSE
        s.put(host)
        s.v6only, s.port_locked, s.address_locked = bound.v6only, True, self.locks_address(host)
        self.own(s, port)
        return 0

    # listen

    @rule("inet_dgram_ops, inet6_dgram_ops sock_no_listen")
    def cannot_listen(self, s):
        """UDP and UDP-Lite cannot listen."""
        return s.protocol != "tcp"

    @rule("inet_csk_listen_start get_port")
    def asks_again(self):
        """listen asks for the port once more, now as a listener."""
        return True

    @rule("inet_listen `sock->state != SS_UNCONNECTED`")
    def is_connected(self, s):
        """No connected socket can listen."""
        return s.state == CONNECTED

    @rule("inet_listen, __inet_listen_sk `old_state != TCP_LISTEN`")
    def listens_already(self, s):
        """A listener may listen again: it asks for nothing."""
        return s.state == LISTENING

    def _listen(self, s):
        if self.cannot_listen(s):
            return -EOPNOTSUPP
        if self.is_connected(s):
            return -EINVAL
        if self.listens_already(s):
            return 0
        if self.needs_port(s):
            self.choose_port(s)
        if self.hides_a_wildcard(s, self.bucket("tcp", s.port)):
            return None
        s.state = LISTENING
        if self.asks_again() and not self.take_tcp(s, self.bucket("tcp", s.port)):
            s.state = CLOSED
            return -EADDRINUSE
        return 0


__all__ = ["CONNECTED", "Call", "Model", "Step"]
