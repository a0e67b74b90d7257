"""Options that a level does not have, and options that can only be read, or only be set."""

import socket
from errno import ENOPROTOOPT, EOPNOTSUPP

from probes.abi.names import value
from probes.testing import behaviour
from probes.testing.socket_kinds import NETLINK, PACKET, RAW, RAW6, TCP, TCP6, UDP, UDP6, UNIX_STREAM

SOURCE = "setsockopt(2), getsockopt(2) ENOPROTOOPT; ip(7) ENOPROTOOPT, EOPNOTSUPP"
SOL_SOCKET, IP, IPV6 = socket.SOL_SOCKET, socket.IPPROTO_IP, socket.IPPROTO_IPV6
#: include/linux/socket.h.
SOL_RAW, SOL_PACKET, SOL_NETLINK = 255, 263, 270
#: The levels of each kind of socket.
LEVELS = {
    TCP: (SOL_SOCKET, IP, socket.IPPROTO_TCP), TCP6: (SOL_SOCKET, IP, IPV6, socket.IPPROTO_TCP),
    UDP: (SOL_SOCKET, IP, socket.IPPROTO_UDP), UDP6: (SOL_SOCKET, IP, IPV6, socket.IPPROTO_UDP),
    RAW: (SOL_SOCKET, IP), RAW6: (SOL_SOCKET, IPV6), PACKET: (SOL_SOCKET, SOL_PACKET),
    NETLINK: (SOL_SOCKET, SOL_NETLINK), UNIX_STREAM: (SOL_SOCKET,),
}  # fmt: skip
#: A number that no level has.
UNKNOWN = 0x7ABC
#: A level that no kind of socket has.
NO_LEVEL = 0x6ABC
#: What setsockopt and getsockopt answer to a level that the kind does not have, if it is not ENOPROTOOPT to both.
WITHOUT_LEVEL = {
    **dict.fromkeys((TCP, UDP, RAW), (-ENOPROTOOPT, -EOPNOTSUPP)), UNIX_STREAM: (-EOPNOTSUPP, -EOPNOTSUPP),
}  # fmt: skip
#: Options that setsockopt refuses, by the level of those that have them.
READ_ONLY = {
    UDP: ("SO_TYPE", "SO_PROTOCOL", "SO_DOMAIN", "SO_ERROR", "SO_ACCEPTCONN", "SO_SNDLOWAT", "SO_PEERCRED",
          "SO_PEERSEC", "SO_PEERNAME", "IP_MTU"),
    TCP: ("SO_TYPE", "SO_ACCEPTCONN", "IP_MTU", "TCP_INFO", "TCP_CC_INFO", "TCP_SAVED_SYN"),
    NETLINK: ("SO_TYPE", "NETLINK_LIST_MEMBERSHIPS"), PACKET: ("SO_TYPE", "PACKET_STATISTICS", "PACKET_HDRLEN"),
    UNIX_STREAM: ("SO_TYPE", "SO_PROTOCOL", "SO_DOMAIN", "SO_ERROR", "SO_ACCEPTCONN", "SO_PEERCRED"),
}  # fmt: skip
LEVEL = {"SO": SOL_SOCKET, "IP": IP, "TCP": socket.IPPROTO_TCP, "NETLINK": SOL_NETLINK, "PACKET": SOL_PACKET}


@behaviour(
    "options.access.unknown", f"{SOURCE}; sk_setsockopt, do_ip_setsockopt, do_tcp_setsockopt, netlink_setsockopt"
)
def test_unknown(new_socket, expect):
    """setsockopt and getsockopt of an option that its level does not have fail with ENOPROTOOPT. So they do for a level that
    the socket does not have; but getsockopt of an IPv4 socket, and both of an AF_UNIX socket, which has SOL_SOCKET alone,
    fail with EOPNOTSUPP.
    """
    for kind in LEVELS:
        sock, refused = new_socket(*kind.triple), (-ENOPROTOOPT, -ENOPROTOOPT)
        wrong = WITHOUT_LEVEL.get(kind, refused)
        for level, (sets, gets) in (*((level, refused) for level in LEVELS[kind]), (NO_LEVEL, wrong)):
            expect(sets, kind=kind, call="setsockopt", level=level).of(sock.setsockopt(level, UNKNOWN, 1))
            expect(gets, kind=kind, call="getsockopt", level=level).of(sock.getsockopt(level, UNKNOWN))


@behaviour("options.access.read-only", "socket(7) `read-only`; ip(7) IP_MTU; sk_setsockopt; setsockopt(2) ENOPROTOOPT")
def test_read_only(new_socket, expect):
    """setsockopt of an option that can only be read fails with ENOPROTOOPT."""
    for kind in READ_ONLY:
        sock = new_socket(*kind.triple)
        for name in READ_ONLY[kind]:
            level = LEVEL[name.partition("_")[0]]
            expect(-ENOPROTOOPT, kind=kind, option=name).of(sock.setsockopt(level, value(name), bytes(16)))


@behaviour("options.access.raw-only", "ip(7) IP_HDRINCL, IP_NODEFRAG, IP_ROUTER_ALERT; raw(7) ICMP_FILTER; ipv6(7)")
def test_raw_only(new_socket, expect):
    """IP_HDRINCL and IP_NODEFRAG fail with ENOPROTOOPT on a socket that is not raw, IP_ROUTER_ALERT with EINVAL; on a raw
    socket they are set. ICMP_FILTER fails with EOPNOTSUPP on a raw socket of another protocol than ICMP.
    """
    for kind, error in ((RAW, 0), (UDP, -ENOPROTOOPT), (TCP, -ENOPROTOOPT)):
        sock = new_socket(*kind.triple)
        for name in ("IP_HDRINCL", "IP_NODEFRAG"):
            expect(error, kind=kind, option=name).of(sock.setsockopt(IP, value(name), 1))
        alert = expect(error and -22, kind=kind, option="IP_ROUTER_ALERT")
        alert.of(sock.setsockopt(IP, value("IP_ROUTER_ALERT"), 1))
    icmp, other = new_socket(RAW.family, RAW.type, socket.IPPROTO_ICMP), new_socket(*RAW.triple)
    for case, sock, error in (("icmp", icmp, 0), ("other", other, -EOPNOTSUPP)):
        expect(error, kind=case, option="ICMP_FILTER").of(sock.setsockopt(SOL_RAW, 1, bytes(4)))
