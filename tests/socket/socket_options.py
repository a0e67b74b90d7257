"""The options of a fresh socket by the manual pages, inet_create, inet6_create and sock_init_data; and how to read one."""

import struct

from probes.abi.names import value
from probes.entry.calls import Output, Socket

#: The level of an option by the beginning of its name.
LEVEL = {"SO": 1, "IP": 0, "IPV6": 41, "TCP": 6, "UDP": 17, "NETLINK": 270, "PACKET": 263}


def read_int(socket: Socket, name: str) -> Output:
    """Reads an int option by its name: [result, value]."""
    return read_bytes(socket, name, 4).as_unsigned().with_result()


def read_bytes(socket: Socket, name: str, room: int) -> Output:
    """Reads an option by its name, with an optlen of `room`."""
    return socket.getsockopt(LEVEL[name.partition("_")[0]], value(name), room)


#: Options of the socket level that are 0 (socket(7)), and that are 1.
SO_ZERO = (
    "SO_ACCEPTCONN", "SO_BROADCAST", "SO_BSDCOMPAT", "SO_DEBUG", "SO_DONTROUTE", "SO_ERROR", "SO_KEEPALIVE",
    "SO_LOCK_FILTER", "SO_MARK", "SO_NO_CHECK", "SO_OOBINLINE", "SO_PRIORITY", "SO_REUSEPORT", "SO_RXQ_OVFL",
    "SO_SELECT_ERR_QUEUE", "SO_TIMESTAMP_OLD", "SO_TIMESTAMPNS_OLD", "SO_TIMESTAMPING_OLD", "SO_ZEROCOPY",
)  # fmt: skip
SO_ONE = ("SO_RCVLOWAT", "SO_SNDLOWAT")
#: Options of other forms. struct linger and struct timeval are zero; there is no device and no filter; a peer that does
#: not exist has pid 0 and ids -1; no CPU was used yet, and the pacing rate has no limit.
SO_BYTES = {
    "SO_LINGER": bytes(8), "SO_RCVTIMEO_OLD": bytes(8), "SO_SNDTIMEO_OLD": bytes(8), "SO_BINDTODEVICE": b"",
    "SO_ATTACH_FILTER": b"", "SO_PEERCRED": struct.pack("<iII", 0, 0xFFFFFFFF, 0xFFFFFFFF),
    "SO_INCOMING_CPU": struct.pack("<i", -1), "SO_MAX_PACING_RATE": struct.pack("<I", 0xFFFFFFFF),
}  # fmt: skip
#: ip(7): options that are 0, and others. IP_TTL is that of a sysctl.
IP_ZERO = (
    "IP_TOS", "IP_RECVOPTS", "IP_RETOPTS", "IP_PKTINFO", "IP_RECVERR", "IP_RECVTTL", "IP_RECVTOS", "IP_FREEBIND",
    "IP_PASSSEC", "IP_TRANSPARENT", "IP_ORIGDSTADDR", "IP_MINTTL", "IP_NODEFRAG", "IP_CHECKSUM",
    "IP_BIND_ADDRESS_NO_PORT", "IP_RECVFRAGSIZE", "IP_UNICAST_IF", "IP_MULTICAST_IF",
)  # fmt: skip
IP_SET = {"IP_MULTICAST_TTL": 1, "IP_MULTICAST_LOOP": 1, "IP_MTU_DISCOVER": 1}
#: ipv6(7), likewise. IPV6_UNICAST_HOPS is that of a sysctl.
IPV6_ZERO = (
    "IPV6_RECVPKTINFO", "IPV6_RECVHOPLIMIT", "IPV6_RECVRTHDR", "IPV6_RECVHOPOPTS", "IPV6_RECVDSTOPTS", "IPV6_TCLASS",
    "IPV6_RECVTCLASS", "IPV6_RECVPATHMTU", "IPV6_TRANSPARENT", "IPV6_FREEBIND", "IPV6_ORIGDSTADDR",
    "IPV6_MULTICAST_IF", "IPV6_UNICAST_IF", "IPV6_RECVERR", "IPV6_MINHOPCOUNT", "IPV6_DONTFRAG", "IPV6_RECVFRAGSIZE",
    "IPV6_V6ONLY",
)  # fmt: skip
IPV6_SET = {"IPV6_MULTICAST_HOPS": 1, "IPV6_MULTICAST_LOOP": 1, "IPV6_MULTICAST_ALL": 1, "IPV6_MTU_DISCOVER": 1}
#: tcp(7) and include/net/tcp.h: options that are 0, others, and options whose default is a sysctl of net.ipv4.
TCP_ZERO = (
    "TCP_NODELAY", "TCP_CORK", "TCP_DEFER_ACCEPT", "TCP_WINDOW_CLAMP", "TCP_USER_TIMEOUT", "TCP_FASTOPEN",
    "TCP_FASTOPEN_CONNECT", "TCP_REPAIR", "TCP_SAVE_SYN", "TCP_INQ", "TCP_THIN_LINEAR_TIMEOUTS",
)  # fmt: skip
#: TCP_MSS_DEFAULT is 536.
TCP_SET = {"TCP_MAXSEG": 536, "TCP_QUICKACK": 1}
TCP_SYSCTLS = {
    "TCP_KEEPIDLE": "tcp_keepalive_time", "TCP_KEEPINTVL": "tcp_keepalive_intvl", "TCP_KEEPCNT": "tcp_keepalive_probes",
    "TCP_SYNCNT": "tcp_syn_retries", "TCP_LINGER2": "tcp_fin_timeout",
}  # fmt: skip
UDP_ZERO = ("UDP_CORK", "UDP_ENCAP", "UDP_SEGMENT", "UDP_NO_CHECK6_TX", "UDP_NO_CHECK6_RX")
NETLINK_ZERO = (
    "NETLINK_PKTINFO", "NETLINK_BROADCAST_ERROR", "NETLINK_NO_ENOBUFS", "NETLINK_CAP_ACK", "NETLINK_EXT_ACK",
    "NETLINK_GET_STRICT_CHK",
)  # fmt: skip
PACKET_ZERO = (
    "PACKET_AUXDATA", "PACKET_ORIGDEV", "PACKET_VERSION", "PACKET_RESERVE", "PACKET_LOSS", "PACKET_VNET_HDR",
    "PACKET_TIMESTAMP", "PACKET_FANOUT", "PACKET_TX_HAS_OFF", "PACKET_QDISC_BYPASS", "PACKET_IGNORE_OUTGOING",
)  # fmt: skip
