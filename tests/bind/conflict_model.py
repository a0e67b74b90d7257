"""A model that predicts socket, setsockopt, bind, listen, connect and close on a few sockets that share ports.

The rules about two sockets and a port are in conflict_rules.py, those about connections in conflict_connect.py; here
are the calls. The model predicts nothing, and the call is not made, where the result is random (which of two equal
listeners gets a connection), where the call would block, or where an older kernel checks only one of several wildcards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from errno import EADDRINUSE, EADDRNOTAVAIL, EINVAL, EOPNOTSUPP
from typing import NamedTuple

from tests.bind.conflict_connect import SLOTS, Connections
from tests.bind.conflict_rules import rule
from tests.bind.conflict_sockets import ANY4, ANY6, CLOSED, CONNECTED, LISTENING, LOOPBACK_LINK, MAPPED, Sock


class Call(NamedTuple):
    """A call on the socket of a slot: `op` is socket, set (setsockopt), bind, listen, connect, accept, shutdown or close.

    socket has `protocol`, `family` and `user`; set has `option` and `value`; bind and connect have `host` and `port`;
    accept has `end`, the slot of the socket that it returns. shutdown ends the direction in which the socket sends.
    `syn` is a connect, without blocking, to a listener that drops it: one with the option "deaf".
    """

    op: str
    slot: int
    host: str = ""
    port: int = 0
    option: str = ""
    value: bool | str = False
    protocol: str = ""
    family: int = 0
    user: int = 0
    end: int = 0


class Step(NamedTuple):
    """A call with its predicted result, and after a connect of TCP `accepted` (see Connections)."""

    call: Call
    predicted: int
    accepted: tuple[int, int] | None = None


class Model(Connections):
    """Predicts the results of calls, made one after the other."""

    def plan(self, calls: Iterable[Call]) -> Iterator[Step]:
        """Yields the calls that have a predicted result; after the close of a connected socket, of its other end too."""
        for call in calls:
            predicted = self.predict(call)
            if predicted is not None:
                yield Step(call, predicted, self.accepted)
            if self.closed_too is not None:
                yield Step(Call("close", self.closed_too), 0)

    def predict(self, call: Call) -> int | None:
        """Returns the result of a call, 0 for a descriptor; None where the model predicts nothing."""
        self.accepted = self.closed_too = None
        if call.op == "socket":
            return self._socket(call)
        s = self.slots.get(call.slot)
        if s is None:
            return None
        if call.op == "close":
            return self.close(call.slot)
        if call.op == "shutdown":
            return self.shutdown(s)
        if call.op == "listen":
            return self._listen(s)
        if call.op == "set":
            return self._set(s, call)
        if (":" in call.host) != (s.family == 6):
            return None
        if call.op == "syn":
            return self.begin_connect(s, call.host, call.port)
        return (self._bind if call.op == "bind" else self.connect)(s, call.host, call.port)

    def _socket(self, call: Call) -> int | None:
        if call.slot in self.slots or len(self.slots) == SLOTS:
            return None
        self.slots[call.slot] = Sock(call.protocol, call.family, call.user, host6=ANY6 if call.family == 6 else None)
        return 0

    # setsockopt

    @rule("do_ipv6_setsockopt IPV6_V6ONLY `inet_num`")
    def fixes_v6only(self, s: Sock) -> bool:
        """IPV6_V6ONLY of a socket with a port cannot be changed."""
        return s.port != 0

    def _set(self, s: Sock, call: Call) -> int | None:
        if call.option == "v6only":
            if s.family != 6:
                return None
            if self.fixes_v6only(s):
                return -EINVAL
        if call.option == "device" and call.value not in ("", LOOPBACK_LINK) and s.other is not None:
            return None  # The last packets of its connection would be lost.
        setattr(s, call.option, call.value)
        return 0

    # bind

    @rule("__inet_bind, __inet6_bind `sk_state != TCP_CLOSE || inet_num`")
    def is_bound(self, s: Sock) -> bool:
        """bind of a socket with a port fails."""
        return s.port != 0

    @rule("__inet6_bind ipv6_only_sock")
    def refuses_mapped(self, s: Sock, host: str) -> bool:
        """bind of a socket with IPV6_V6ONLY to a v4-mapped address fails."""
        return s.v6only and host.startswith(MAPPED)

    @rule("__inet6_bind ipv6_chk_addr; __ipv6_chk_addr_and_flags IFA_HOST")
    def is_on_other_device(self, s: Sock, host: str) -> bool:
        """bind of a socket with another device than loopback to ::1 fails."""
        return host == "::1" and s.device not in ("", LOOPBACK_LINK)

    @rule("__inet6_bind `sk->sk_ipv6only = 1`")
    def makes_v6only(self, host: str) -> bool:
        """bind to a native IPv6 address sets IPV6_V6ONLY."""
        return ":" in host and host != ANY6 and not host.startswith(MAPPED)

    @rule("__inet_bind, __inet6_bind SOCK_BINDADDR_LOCK")
    def locks_address(self, host: str) -> bool:
        """bind to any address but the wildcard locks it; the v4-mapped wildcard counts as an address."""
        return host not in (ANY4, ANY6)

    def _bind(self, s: Sock, host: str, port: int) -> int | None:
        if self.is_bound(s) or self.refuses_mapped(s, host):
            return -EINVAL
        if self.is_on_other_device(s, host):
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
    def cannot_listen(self, s: Sock) -> bool:
        """listen of a UDP or UDP-Lite socket fails."""
        return s.protocol != "tcp"

    @rule("inet_csk_listen_start get_port")
    def checks_again(self) -> bool:
        """listen checks the port once more, as for a listening socket."""
        return True

    @rule("inet_listen `sock->state != SS_UNCONNECTED`")
    def is_connected(self, s: Sock) -> bool:
        """listen of a connected socket fails."""
        return s.state == CONNECTED

    @rule("inet_listen, __inet_listen_sk `old_state != TCP_LISTEN`")
    def listens_already(self, s: Sock) -> bool:
        """listen of a listening socket succeeds without a check."""
        return s.state == LISTENING

    def _listen(self, s: Sock) -> int | None:
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
        if self.checks_again() and not self.take_tcp(s, self.bucket("tcp", s.port)):
            s.state = CLOSED
            return -EADDRINUSE
        return 0
