"""Predicts connect(2) and close(2), and what they leave on ports. Part of the model of conflict_model.py."""

from __future__ import annotations

from errno import EADDRNOTAVAIL, EAFNOSUPPORT, ECONNREFUSED, EINPROGRESS, EISCONN, ENETUNREACH

from tests.bind.conflict_rules import Rules, rule
from tests.bind.conflict_sockets import (
    ANY4,
    ANY6,
    CONNECTED,
    LISTENING,
    LOOPBACK_LINK,
    MAPPED,
    TIME_WAIT,
    Bucket,
    Sock,
)

#: The most sockets that a sequence has open at once, accepted ones included.
SLOTS = 6


class Connections(Rules):
    """The open sockets by slot, the ports in use, and the rules of connect and close.

    After a successful connect of TCP, `accepted` has the slots of the listener and of the socket that accept returns.
    After the close of a connected socket, `closed_too` is the slot of its other end, which has to be closed next.
    """

    def __init__(self, version: tuple[int, ...], inverted: str | None = None) -> None:
        super().__init__(version, inverted)
        self.slots: dict[int, Sock] = {}
        self.buckets: dict[tuple[str, int], Bucket] = {}
        self.accepted: tuple[int, int] | None = None
        self.closed_too: int | None = None
        self._chosen = 0

    # Ports.

    @rule("tcp_prot, udp_prot, udplite_prot: h.hashinfo, h.udp_table")
    def protocols_apart(self) -> bool:
        """TCP, UDP and UDP-Lite have ports of their own; IPv4 and IPv6 share theirs."""
        return True

    @rule("inet_bind_bucket_match, udp_lib_lport_inuse udp_port_hash")
    def ports_apart(self) -> bool:
        """Sockets on different ports never conflict."""
        return True

    def bucket(self, protocol: str, port: int) -> Bucket:
        """Returns the bucket of a port."""
        key = protocol if self.protocols_apart() else "", port if self.ports_apart() else 0
        return self.buckets.setdefault(key, Bucket())

    def own(self, s: Sock, port: int) -> None:
        """Adds a socket to the bucket of a port (inet_bind_hash, sk_add_node_rcu)."""
        s.port = port
        bucket = self.bucket(s.protocol, port)
        bucket.owners.insert(0 if self.goes_first(s) else len(bucket.owners), s)
        if s.host4 == ANY4 and s.host6 != ANY6:
            bucket.zeros.add(s.family)

    def disown(self, s: Sock) -> None:
        """Removes a socket from its bucket (inet_put_port, udp_lib_unhash); an empty bucket is freed."""
        for key, bucket in list(self.buckets.items()):
            if s in bucket.owners:
                bucket.owners.remove(s)
            if not bucket.owners:
                del self.buckets[key]
        s.port = 0

    def choose_port(self, s: Sock) -> None:
        """Gives a socket an ephemeral port: ip_local_port_range is above all ports of sequences, so nothing conflicts."""
        self._chosen -= 1
        self.own(s, self._chosen)

    @rule("inet_autobind, inet_csk_listen_start, __inet_hash_connect")
    def needs_port(self, s: Sock) -> bool:
        """listen and connect give an unbound socket an ephemeral port."""
        return s.port == 0

    # connect

    @rule("tcp_v6_connect, __ip6_datagram_connect `if (ipv6_only_sock(sk)) return -ENETUNREACH`")
    def cannot_reach_ipv4(self, s: Sock, host: str) -> bool:
        """A socket with IPV6_V6ONLY cannot be connected to a v4-mapped address."""
        return s.v6only and host.startswith(MAPPED)

    @rule("ip6_dst_lookup_tail ipv6_addr_v4mapped")
    def cannot_reach_ipv6(self, s: Sock, host: str) -> bool:
        """A socket with a v4-mapped address cannot be connected to a native one."""
        return s.is_mapped and not host.startswith(MAPPED)

    @rule("tcp_v4_connect, tcp_v6_connect inet_bhash2_update_saddr; __ip4_datagram_connect, ip6_datagram_dst_update")
    def takes_source(self, s: Sock) -> bool:
        """connect gives a socket bound to the wildcard the source address of the route, in place of the wildcard."""
        return s.host6 == ANY6 or s.host4 == ANY4

    @rule("__inet_stream_connect `sk->sk_state != TCP_CLOSE`")
    def cannot_connect(self, s: Sock) -> bool:
        """connect of a connected or listening TCP socket fails."""
        return s.state in (CONNECTED, LISTENING)

    @rule("__inet_check_established, __inet6_check_established")
    def is_same_connection(self, s: Sock, existing: Sock, remote: tuple[str, int]) -> bool:
        """A second connection with the same addresses and ports fails with EADDRNOTAVAIL."""
        return existing.local == s.local and existing.remote == remote

    @rule("tcp_twsk_unique `tw_ts_recent_stamp && !twp`")
    def gives_way(self, existing: Sock) -> bool:
        """A connection in TIME_WAIT is replaced by the same connection from a socket bound to its port."""
        return existing.state == TIME_WAIT

    @rule("tcp_timewait_state_process TCP_TW_SYN, `kill:`; tcp_rcv_synsent_state_process TCP_TIMEOUT_MIN")
    def accepts_again(self, existing: Sock) -> bool:
        """A connection in TIME_WAIT on the listener's side is replaced by the same connection from the other side: at
        once if the new sequence number is newer, else at the second SYN, two ticks after the first was reset.
        """
        return existing.state == TIME_WAIT

    @rule("inet_lookup_listener, compute_score sk_state, sk_bound_dev_if")
    def receives(self, s: Sock) -> bool:
        """Only a listening socket receives connections, and one with a device on that device only."""
        return s.state == LISTENING and s.device in ("", LOOPBACK_LINK)

    @rule("inet_lookup_listener, inet6_lookup_listener: lhash2 by address, then by the wildcard")
    def exact_first(self) -> bool:
        """A listener bound to the destination address precedes one bound to the wildcard."""
        return True

    @rule("__inet_stream_connect sk_prot->disconnect; tcp_set_state SOCK_BINDPORT_LOCK")
    def keeps_port(self, s: Sock) -> bool:
        """After a failed connect a socket keeps the port that it was bound to, but not an ephemeral one."""
        return s.port_locked

    @rule("tcp_disconnect, inet_bhash2_reset_saddr SOCK_BINDADDR_LOCK")
    def keeps_address(self, s: Sock) -> bool:
        """After a failed connect a socket keeps the address that it was bound to, but not the source address of the
        route. The v4-mapped wildcard counts as an address: the source address in its place is kept.
        """
        return s.address_locked

    def connect(self, s: Sock, host: str, port: int) -> int | None:
        """Predicts connect(2), None where the model predicts nothing.

        An IPv6 socket whose IPv4 connection was refused uses IPv4 from then on, and so do the sockets that it accepts:
        tcp_v6_connect sets icsk_af_ops to ipv6_mapped and nothing sets it back to ipv6_specific. Over IPv6 its SYN and
        FIN would be lost, and the other end would stay in FIN_WAIT1.
        """
        if s.device not in ("", LOOPBACK_LINK) or (s.stuck_in_ipv4 and not host.startswith(MAPPED)):
            return None
        if s.protocol == "tcp":
            return self._connect_tcp(s, host, port)
        if self.needs_port(s):
            self.choose_port(s)
        error = self._unreachable(s, host)
        if error == 0:
            self._take_source(s, host)
            s.state, s.remote = CONNECTED, (host, port)
        return error

    def _unreachable(self, s: Sock, host: str) -> int:
        if self.cannot_reach_ipv4(s, host):
            return -ENETUNREACH
        return -EAFNOSUPPORT if self.cannot_reach_ipv6(s, host) else 0

    def _take_source(self, s: Sock, host: str) -> None:
        if self.takes_source(s):
            ipv4 = MAPPED if s.family == 6 else ""
            s.put("::1" if s.family == 6 and not host.startswith(MAPPED) else f"{ipv4}127.0.0.1")

    def _connect_tcp(self, s: Sock, host: str, port: int) -> int | None:
        if self.cannot_connect(s):
            return -EISCONN
        unreachable = self._unreachable(s, host)
        if unreachable:
            return unreachable
        before = s.copy()
        self._take_source(s, host)
        error = self._establish(s, (host.removeprefix(MAPPED), port))
        if error is None or (error and not self.keeps_address(s)):
            s.host4, s.host6 = before.host4, before.host6
        if error:
            if not self.keeps_port(s):
                self.disown(s)
            s.stuck_in_ipv4 = error == -ECONNREFUSED and host.startswith(MAPPED)
        return error

    def _establish(self, s: Sock, remote: tuple[str, int]) -> int | None:
        listeners = self._listeners(remote)
        others = [o for bucket in self.buckets.values() for o in bucket.owners if o.protocol == "tcp" and o.remote]
        same = [o for o in others if self.is_same_connection(s, o, remote)]
        back = [o for o in others if o.local == remote and o.remote == s.local]
        if s.local == remote or len(self.slots) == SLOTS or len(listeners) > 1:
            return None
        if any(o.device != s.device for o in same) or (":" in remote[0] and any(o.stuck_in_ipv4 for o in listeners)):
            return None
        if back and not listeners:
            return None
        if any(not self.gives_way(o) for o in same) or any(not self.accepts_again(o) for o in back):
            return -EADDRNOTAVAIL
        for replaced in same + back:
            self.disown(replaced)
        if not listeners:
            return -ECONNREFUSED
        if self.needs_port(s):
            self.choose_port(s)
        s.state, s.remote = CONNECTED, remote
        self._accept(listeners[0], s, remote)
        return 0

    def _listeners(self, remote: tuple[str, int]) -> list[Sock]:
        """Returns the listeners that match an arriving connection best."""
        host, port = remote
        found = [s for s in self.slots.values() if s.protocol == "tcp" and s.port == port and self.receives(s)]
        if ":" in host:
            exact, wild = [s for s in found if s.host6 == host], [s for s in found if s.host6 == ANY6]
        else:
            found = [s for s in found if not self.hidden_from_ipv4(s)]
            exact, wild = [s for s in found if s.host4 == host], [s for s in found if s.host4 == ANY4]
        return (exact or wild) if self.exact_first() else (wild or exact)

    @rule("inet_csk_clone_lock, sk_clone")
    def inherits_options(self) -> bool:
        """An accepted socket has the options and the device of its listener."""
        return True

    @rule("__inet_inherit_port")
    def inherits_port(self) -> bool:
        """An accepted socket is in the bucket of its listener's port, also after the listener is closed."""
        return True

    def _accept(self, listener: Sock, s: Sock, remote: tuple[str, int]) -> None:
        host, port = remote
        end = listener.copy() if self.inherits_options() else Sock("tcp", listener.family, listener.user)
        end.state, end.remote, end.other = CONNECTED, s.local, s
        end.put(MAPPED + host if end.family == 6 and ":" not in host else host)
        s.other = end
        if self.inherits_port():
            self.own(end, port)
        slot = min(set(range(SLOTS)) - set(self.slots))
        self.accepted = next(at for at, sock in self.slots.items() if sock is listener), slot
        self.slots[slot] = end

    # close

    @rule("tcp_time_wait, inet_twsk_hashdance, inet_twsk_alloc")
    def leaves_time_wait(self) -> bool:
        """The end of a connection that is closed first stays in the bucket of its port in TIME_WAIT, with its options."""
        return True

    def close(self, slot: int) -> int:
        """Predicts close(2), of both ends of a connection: first that of this slot. The end that sent the first FIN stays in
        TIME_WAIT. Where the other end is deaf, this one stays in FIN_WAIT1 or LAST_ACK, and the other open.
        """
        s = self.slots.pop(slot)
        if s.other is not None and s.other.deaf:
            return 0
        if s.other is not None:
            self.closed_too = next(at for at, sock in self.slots.items() if sock is s.other)
            other = self.slots.pop(self.closed_too)
            first = other if other.ended_first else s
            self.disown(other if first is s else s)
            if self.leaves_time_wait():
                self.own(first.copy(state=TIME_WAIT, other=None), first.port)
            self.disown(first)
            return 0
        self.disown(s)
        return 0

    def shutdown(self, s: Sock) -> int | None:
        """Predicts shutdown(2) of the sending direction, once for a connection: that of its second end would close it."""
        if s.other is None or s.ended_first or s.other.ended_first:
            return None
        s.ended_first = True
        return 0

    def begin_connect(self, s: Sock, host: str, port: int) -> int | None:
        """Predicts a connect whose SYN is dropped: the socket stays in SYN_SENT."""
        if s.protocol != "tcp" or self.cannot_connect(s) or self._unreachable(s, host):
            return None
        self._take_source(s, host)
        if self.needs_port(s):
            self.choose_port(s)
        s.state, s.remote = CONNECTED, (host.removeprefix(MAPPED), port)
        return -EINPROGRESS
