"""The options of a fresh socket, by the manual pages and inet_create, inet6_create and sock_init_data: i386 forms."""

import struct

#: socket(7): what is off, and what is 1.
ZERO = (
    "SO_ACCEPTCONN", "SO_BROADCAST", "SO_BSDCOMPAT", "SO_DEBUG", "SO_DONTROUTE", "SO_ERROR", "SO_KEEPALIVE",
    "SO_LOCK_FILTER", "SO_MARK", "SO_NO_CHECK", "SO_OOBINLINE", "SO_PRIORITY", "SO_REUSEPORT", "SO_RXQ_OVFL",
    "SO_SELECT_ERR_QUEUE", "SO_TIMESTAMP_OLD", "SO_TIMESTAMPNS_OLD", "SO_TIMESTAMPING_OLD", "SO_ZEROCOPY",
)  # fmt: skip
ONE = ("SO_RCVLOWAT", "SO_SNDLOWAT")
#: What has another form: struct linger and struct timeval have 8 bytes each; there is no device and no filter; nobody
#: is the peer; no CPU, no limit.
FORMS = {
    "SO_LINGER": bytes(8), "SO_RCVTIMEO_OLD": bytes(8), "SO_SNDTIMEO_OLD": bytes(8), "SO_BINDTODEVICE": b"",
    "SO_ATTACH_FILTER": b"", "SO_PEERCRED": struct.pack("<iII", 0, 0xFFFFFFFF, 0xFFFFFFFF),
    "SO_INCOMING_CPU": struct.pack("<i", -1), "SO_MAX_PACING_RATE": struct.pack("<I", 0xFFFFFFFF),
}  # fmt: skip
#: ip(7): what is off, and what is not; IP_TTL is a sysctl's.
IP_ZERO = (
    "IP_TOS", "IP_RECVOPTS", "IP_RETOPTS", "IP_PKTINFO", "IP_RECVERR", "IP_RECVTTL", "IP_RECVTOS", "IP_FREEBIND",
    "IP_PASSSEC", "IP_TRANSPARENT", "IP_ORIGDSTADDR", "IP_MINTTL", "IP_NODEFRAG", "IP_CHECKSUM",
    "IP_BIND_ADDRESS_NO_PORT", "IP_RECVFRAGSIZE", "IP_UNICAST_IF", "IP_MULTICAST_IF",
)  # fmt: skip
IP_SET = {"IP_MULTICAST_TTL": 1, "IP_MULTICAST_LOOP": 1, "IP_MTU_DISCOVER": 1}
#: ipv6(7), the same; IPV6_UNICAST_HOPS is a sysctl's.
IPV6_ZERO = (
    "IPV6_RECVPKTINFO", "IPV6_RECVHOPLIMIT", "IPV6_RECVRTHDR", "IPV6_RECVHOPOPTS", "IPV6_RECVDSTOPTS", "IPV6_TCLASS",
    "IPV6_RECVTCLASS", "IPV6_RECVPATHMTU", "IPV6_TRANSPARENT", "IPV6_FREEBIND", "IPV6_ORIGDSTADDR",
    "IPV6_MULTICAST_IF", "IPV6_UNICAST_IF", "IPV6_RECVERR", "IPV6_MINHOPCOUNT", "IPV6_DONTFRAG", "IPV6_RECVFRAGSIZE",
    "IPV6_V6ONLY",
)  # fmt: skip
IPV6_SET = {"IPV6_MULTICAST_HOPS": 1, "IPV6_MULTICAST_LOOP": 1, "IPV6_MULTICAST_ALL": 1, "IPV6_MTU_DISCOVER": 1}
#: tcp(7) and include/net/tcp.h: what is off, and what is not; the others are sysctls'.
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
