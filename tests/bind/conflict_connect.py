"""What connect and close answer, and what they leave for those who bind afterwards. See conflict_model.py."""

from errno import EADDRNOTAVAIL, EAFNOSUPPORT, ECONNREFUSED, EISCONN, ENETUNREACH

from tests.bind.conflict_rules import (
    ANY4,
    ANY6,
    CLOSED,
    CONNECTED,
    LISTENING,
    LOOPBACK_LINK,
    MAPPED,
    TIME_WAIT,
    Bucket,
    Rules,
    Sock,
    rule,
)

#: Sockets that a sequence may have at once, accepted ones included.
SLOTS = 6


class Connections(Rules):
    """The sockets by slot, their ports, and the rules of connect and close."""

    def __init__(self, version, flipped=None):
        super().__init__(version, flipped)
        self.slots = {}
        self.buckets = {}
        #: After a successful connect of TCP: the slots of the listener and of the new socket at its end.
        self.accepted = None
        #: After the close of a connected socket: the slot of its other end, which has to be closed right after it.
        self.closed_too = None
        self._chosen = 0

    # Ports.

    @rule("tcp_prot, udp_prot, udplite_prot: h.hashinfo, h.udp_table")
    def protocols_apart(self):
        """TCP, UDP and UDP-Lite have ports of their own; IPv4 and IPv6 share theirs."""
        return True

    @rule("inet_bind_bucket_match, udp_lib_lport_inuse udp_port_hash")
    def ports_apart(self):
        """Sockets on different ports never conflict."""
        return True

    def bucket(self, protocol, port):
        """What is on a port."""
        key = protocol if self.protocols_apart() else "", port if self.ports_apart() else 0
        return self.buckets.setdefault(key, Bucket())

    def own(self, s, port):
        """inet_bind_hash, sk_add_node_rcu: the socket is on the port now."""
        s.port = port
        bucket = self.bucket(s.protocol, port)
        bucket.owners.insert(0 if self.goes_first(s) else len(bucket.owners), s)
        if s.host4 == ANY4 and s.host6 != ANY6:
            bucket.zeros.add(s.family)

    def disown(self, s):
        """inet_put_port, udp_lib_unhash: the last owner takes with it what was remembered of its port."""
        for key, bucket in list(self.buckets.items()):
            if s in bucket.owners:
                bucket.owners.remove(s)
            if not bucket.owners:
                del self.buckets[key]
        s.port = 0

    def choose_port(self, s):
        """A port out of ip_local_port_range, which lies above all ports that sequences name: it meets nobody."""
        self._chosen -= 1
        self.own(s, self._chosen)

    @rule("inet_autobind, inet_csk_listen_start, __inet_hash_connect")
    def needs_port(self, s):
        """A socket that has no port gets one when it listens or connects."""
        return s.port == 0

    # connect

    @rule("tcp_v6_connect, __ip6_datagram_connect `if (ipv6_only_sock(sk)) return -ENETUNREACH`")
    def cannot_reach_ipv4(self, s, host):
        """A socket with IPV6_V6ONLY cannot be connected to a v4-mapped address."""
        return s.v6only and host.startswith(MAPPED)

    @rule("ip6_dst_lookup_tail ipv6_addr_v4mapped")
    def cannot_reach_ipv6(self, s, host):
        """A socket with a v4-mapped address cannot be connected to a native one."""
        return s.family == 6 and s.host6.startswith(MAPPED) and not host.startswith(MAPPED)

    @rule("tcp_v4_connect, tcp_v6_connect inet_bhash2_update_saddr; __ip4_datagram_connect, ip6_datagram_dst_update")
    def takes_source(self, s):
        """connect gives a socket on the wildcard the local address of the route: it then meets that address only."""
        return s.host6 == ANY6 or (s.host4 == ANY4)

    @rule("__inet_stream_connect `sk->sk_state != TCP_CLOSE`")
    def cannot_connect(self, s):
        """A connected socket of TCP cannot connect again, and no listener can."""
        return s.state in (CONNECTED, LISTENING)

    @rule("__inet_check_established, __inet6_check_established")
    def is_same_connection(self, s, there, remote):
        """There cannot be two connections with the same addresses and ports: EADDRNOTAVAIL."""
        return there.local == s.local and there.remote == remote

    @rule("tcp_twsk_unique `tw_ts_recent_stamp && !twp`")
    def gives_way(self, there):
        """But one in TIME_WAIT makes room for the same one again, from a socket that was bound to its port."""
        return there.state == TIME_WAIT

    @rule("tcp_timewait_state_process TCP_TW_SYN, `kill:`; tcp_rcv_synsent_state_process TCP_TIMEOUT_MIN")
    def hears_again(self, there):
        """One in TIME_WAIT at the listener's end makes room for the same one again, from the other end: at once if its
        sequence number is newer, or to its second SYN, two ticks later, after the first has got an RST out of it."""
        return there.state == TIME_WAIT

    @rule("inet_lookup_listener, compute_score sk_state, sk_bound_dev_if")
    def hears(self, s):
        """Only a listener hears, and one that is bound to a device on that device only."""
        return s.state == LISTENING and s.device in ("", LOOPBACK_LINK)

    @rule("inet_lookup_listener, inet6_lookup_listener: lhash2 by address, then by the wildcard")
    def exact_first(self):
        """A listener at the very address comes before one on the wildcard."""
        return True

    @rule("__inet_stream_connect sk_prot->disconnect; tcp_set_state SOCK_BINDPORT_LOCK")
    def keeps_port(self, s):
        """A connection that fails leaves a socket the port that it was bound to, not one that it was given."""
        return s.port_locked

    @rule("tcp_disconnect, inet_bhash2_reset_saddr SOCK_BINDADDR_LOCK")
    def keeps_address(self, s):
        """A connection that fails leaves a socket the address that it was bound to, not that of the route. The
        v4-mapped wildcard counts as an address here: what it became stays."""
        return s.address_locked

    def connect(self, s, host, port):
        """connect(2). Whoever was refused by IPv4 talks IPv4 from then on, and so do those that it accepts: tcp_v6_connect
        makes icsk_af_ops ipv6_mapped, and nothing makes it ipv6_specific again. Over IPv6 nobody would hear them: there
        their SYN and their FIN are lost, and the other end waits in FIN_WAIT1."""
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

    def _unreachable(self, s, host):
        if self.cannot_reach_ipv4(s, host):
            return -ENETUNREACH
        return -EAFNOSUPPORT if self.cannot_reach_ipv6(s, host) else 0

    def _take_source(self, s, host):
        if self.takes_source(s):
            ipv4 = MAPPED if s.family == 6 else ""
            s.put("::1" if s.family == 6 and not host.startswith(MAPPED) else f"{ipv4}127.0.0.1")

    def _connect_tcp(self, s, host, port):
        if self.cannot_connect(s):
            return -EISCONN
        error = self._unreachable(s, host)
        if error:
            return error
        before = s.copy()
        self._take_source(s, host)
        error = self._meet(s, (host.removeprefix(MAPPED), port))
        if error is None or (error and not self.keeps_address(s)):
            s.host4, s.host6 = before.host4, before.host6
        if error:
            if not self.keeps_port(s):
                self.disown(s)
            s.stuck_in_ipv4 = error == -ECONNREFUSED and host.startswith(MAPPED)
        return error

    def _meet(self, s, remote):
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
        if any(not self.gives_way(o) for o in same) or any(not self.hears_again(o) for o in back):
            return -EADDRNOTAVAIL
        for there in same + back:
            self.disown(there)
        if not listeners:
            return -ECONNREFUSED
        if self.needs_port(s):
            self.choose_port(s)
        s.state, s.remote = CONNECTED, remote
        self._accept(listeners[0], s)
        return 0

    def _listeners(self, remote):
        """The listeners that an arriving connection fits best."""
        host, port = remote
        there = [s for s in self.slots.values() if s.protocol == "tcp" and s.port == port and self.hears(s)]
        if ":" in host:
            exact, wild = [s for s in there if s.host6 == host], [s for s in there if s.host6 == ANY6]
        else:
            there = [s for s in there if not self.hidden_from_ipv4(s)]
            exact, wild = [s for s in there if s.host4 == host], [s for s in there if s.host4 == ANY4]
        return (exact or wild) if self.exact_first() else (wild or exact)

    @rule("inet_csk_clone_lock, sk_clone")
    def inherits_options(self):
        """An accepted socket has the options and the device of its listener."""
        return True

    @rule("__inet_inherit_port")
    def inherits_port(self):
        """An accepted socket is on the port of its listener, whether that still is or not."""
        return True

    def _accept(self, listener, s):
        host, port = s.remote
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
    def leaves_time_wait(self):
        """The end of a connection that is closed first stays on its port in TIME_WAIT, with its options."""
        return True

    def close(self, slot):
        """close(2), of both ends of a connection: first that of this slot."""
        s = self.slots.pop(slot)
        if s.other is not None:
            self.closed_too = next(at for at, sock in self.slots.items() if sock is s.other)
            self.disown(self.slots.pop(self.closed_too))
            if self.leaves_time_wait():
                self.own(s.copy(state=TIME_WAIT, other=None), s.port)
        self.disown(s)
        return 0


__all__ = ["CLOSED", "SLOTS", "Connections"]
