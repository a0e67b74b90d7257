"""What the model of bind conflicts (conflict_model.py) knows of sockets and of the ports that they are bound to."""

from __future__ import annotations

from dataclasses import dataclass, field

#: The wildcard addresses, and the prefix of v4-mapped IPv6 addresses.
ANY4, ANY6 = "0.0.0.0", "::"
MAPPED = "::ffff:"
#: The IPv4 address by which a native IPv6 address is compared with others (include/net/ipv6.h LOOPBACK4_IPV6).
NATIVE = "127.0.0.6"
#: The states that decide about conflicts.
CLOSED, LISTENING, CONNECTED, TIME_WAIT = "closed", "listening", "connected", "time-wait"
#: CONNECTED stands for SYN_SENT, FIN_WAIT2, CLOSE_WAIT and LAST_ACK too: the rules treat these states alike.
#: The link of the loopback addresses.
LOOPBACK_LINK = "lo"
#: Values of tb->fastreuseport (include/net/inet_hashtables.h FASTREUSEPORT_ANY, FASTREUSEPORT_STRICT).
NO, ANY_ADDRESS, STRICT = 0, 1, 2


@dataclass(eq=False)
class Sock:
    """A socket, or its struct inet_timewait_sock.

    `host4` is its local address as IPv4 code compares it, `host6` as IPv6 code does, None for an IPv4 socket. A negative
    port is an ephemeral one. `ended_first`: it has sent the first FIN of its connection. `deaf`: it drops what it receives.
    `stuck_in_ipv4`: IPv4 refused its connection, so it uses IPv4 from then on (see Connections.connect).
    """

    protocol: str
    family: int
    user: int = 0
    reuse: bool = False
    reuseport: bool = False
    v6only: bool = False
    device: str = ""
    host4: str = ANY4
    host6: str | None = None
    port: int = 0
    port_locked: bool = False
    address_locked: bool = False
    state: str = CLOSED
    remote: tuple[str, int] | None = None
    other: Sock | None = None
    ended_first: bool = False
    deaf: bool = False
    stuck_in_ipv4: bool = False

    def put(self, host: str) -> None:
        """Sets the local address."""
        if self.family == 4:
            self.host4 = host
        else:
            self.host6 = host
            self.host4 = host.removeprefix(MAPPED) if host.startswith(MAPPED) else ANY4 if host == ANY6 else NATIVE

    def copy(self, **changes: object) -> Sock:
        """Returns a socket with the same fields but for some changes. (dataclasses.replace takes twice the time.)"""
        return Sock(**{**vars(self), **changes})

    @property
    def is_mapped(self) -> bool:
        """True if it is an IPv6 socket with a v4-mapped local address."""
        return self.host6 is not None and self.host6.startswith(MAPPED)

    @property
    def local(self) -> tuple[str, int]:
        """Its end of a connection, with the IPv4 address if the connection uses IPv4."""
        return (self.host4 if self.host6 is None or self.is_mapped else self.host6), self.port


@dataclass(eq=False)
class Bucket:
    """The sockets bound to a port, in the order of its list, and what struct inet_bind_bucket caches of them.

    `fast` is a copy of the socket that set fastreuseport: fastuid, fast_v6_rcv_saddr, fast_ipv6_only, …. `zeros` holds
    the families of the sockets that were bound to 0.0.0.0 or the v4-mapped wildcard, which share an inet_bind2_bucket.
    """

    owners: list[Sock] = field(default_factory=list)
    fastreuse: bool = False
    fastreuseport: int = NO
    fast: Sock | None = None
    zeros: set[int] = field(default_factory=set)
