"""Generates options.py, the tables of numbers and names, from the headers of a kernel.

    python -m tools.generate_options INCLUDE VERSION > probes/abi/options.py

INCLUDE is the include directory of the kernel (of /usr/src/linux-headers-*-common on Debian, or of the source itself),
VERSION names it as the source in the generated module. Run it to update the tables to a newer kernel.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple


class Block(NamedTuple):
    """Selects names that stand together in one header, from `first` to `last`; of those, the ones `only` matches."""

    header: str
    first: str
    last: str
    only: str = ""


SOCKET = "linux/socket.h"
LEVEL_BLOCKS = (
    Block("uapi/asm-generic/socket.h", "SOL_SOCKET", "SOL_SOCKET"),
    Block(SOCKET, "SOL_IPX", "SOL_VSOCK"),
    Block("uapi/linux/can/raw.h", "SOL_CAN_RAW", "SOL_CAN_RAW"),
    Block("uapi/linux/can/isotp.h", "SOL_CAN_ISOTP", "SOL_CAN_ISOTP"),
    Block("uapi/linux/can/j1939.h", "SOL_CAN_J1939", "SOL_CAN_J1939"),
)
#: Headers that are read before any table is made, because others use their names.
BASES = ("uapi/linux/can.h", "uapi/asm-generic/fcntl.h")
TABLES: dict[str, tuple[Block, ...]] = {
    "FAMILIES": (Block(SOCKET, "AF_UNSPEC", "AF_MCTP"),),
    "MESSAGE_FLAGS": (Block(SOCKET, "MSG_OOB", "MSG_CMSG_COMPAT"),),
    "PROTOCOLS": (Block("uapi/linux/in.h", "IPPROTO_IP", "IPPROTO_MPTCP"),
                  Block("uapi/linux/in6.h", "IPPROTO_ROUTING", "IPPROTO_MH")),
    "NETLINK_PROTOCOLS": (Block("uapi/linux/netlink.h", "NETLINK_ROUTE", "NETLINK_SMC"),),
    "CAN_PROTOCOLS": (Block("uapi/linux/can.h", "CAN_RAW", "CAN_J1939"),),
    "ETHERTYPES": (Block("uapi/linux/if_ether.h", "ETH_P_LOOP", "ETH_P_MCTP", r"ETH_P_(?!802_3_MIN)"),),
    "FCNTL": (Block("uapi/asm-generic/fcntl.h", "F_DUPFD", "F_OFD_SETLKW"),
              Block("uapi/linux/fcntl.h", "F_SETLEASE", "F_SET_FILE_RW_HINT", r"F_(?!SEAL_)")),
    "IOCTLS": (Block("uapi/asm-generic/ioctls.h", "FIONREAD", "FIOASYNC", "FIO"),
               Block("uapi/asm-generic/sockios.h", "FIOSETOWN", "SIOCGSTAMPNS_OLD", "FIO|SIOC"),
               Block("uapi/linux/sockios.h", "SIOCADDRT", "SIOCGHWTSTAMP", "SIOC")),
}  # fmt: skip
OPTIONS: dict[int, tuple[Block, ...]] = {
    0: (Block("uapi/linux/in.h", "IP_TOS", "IP_RECVERR_RFC4884"),
        Block("uapi/linux/in.h", "IP_MULTICAST_IF", "IP_PROTOCOL", "IP_|MCAST_"),
        Block("uapi/linux/netfilter_ipv4.h", "SO_ORIGINAL_DST", "SO_ORIGINAL_DST"),
        Block("uapi/linux/mroute.h", "MRT_INIT", "MRT_FLUSH")),
    1: (Block("uapi/asm-generic/socket.h", "SO_DEBUG", "SO_DEVMEM_DONTNEED", "SO_|SCM_TIMESTAMPING_"),),
    6: (Block("uapi/linux/tcp.h", "TCP_NODELAY", "TCP_IS_MPTCP"),),
    17: (Block("uapi/linux/udp.h", "UDP_CORK", "UDP_GRO"),),
    40: (Block("uapi/linux/vm_sockets.h", "SO_VM_SOCKETS_BUFFER_SIZE", "SO_VM_SOCKETS_CONNECT_TIMEOUT_NEW"),),
    41: (Block("uapi/linux/in6.h", "IPV6_ADDRFORM", "IPV6_RECVERR_RFC4884"),
         Block("uapi/linux/in6.h", "IPV6_FLOWLABEL_MGR", "IPV6_ADDR_PREFERENCES", r"IPV6_(?!USE_MIN_MTU)"),
         Block("uapi/linux/in.h", "MCAST_JOIN_GROUP", "MCAST_MSFILTER"),
         Block("uapi/linux/in6.h", "IPV6_MINHOPCOUNT", "IPV6_FREEBIND"),
         Block("uapi/linux/mroute6.h", "MRT6_INIT", "MRT6_FLUSH")),
    58: (Block("uapi/linux/icmpv6.h", "ICMPV6_FILTER", "ICMPV6_FILTER"),),
    101: (Block("uapi/linux/can/raw.h", "CAN_RAW_FILTER", "CAN_RAW_XL_VCID_OPTS"),),
    106: (Block("uapi/linux/can/isotp.h", "CAN_ISOTP_OPTS", "CAN_ISOTP_LL_OPTS"),),
    107: (Block("uapi/linux/can/j1939.h", "SO_J1939_FILTER", "SO_J1939_ERRQUEUE"),),
    132: (Block("uapi/linux/sctp.h", "SCTP_RTOINFO", "SCTP_PLPMTUD_PROBE_INTERVAL"),),
    136: (Block("net/udplite.h", "UDPLITE_SEND_CSCOV", "UDPLITE_RECV_CSCOV"),),
    255: (Block("uapi/linux/icmp.h", "ICMP_FILTER", "ICMP_FILTER"),),
    257: (Block("uapi/linux/ax25.h", "AX25_WINDOW", "AX25_IAMDIGI", "AX25_"),),
    259: (Block("uapi/linux/netrom.h", "NETROM_T1", "NETROM_IDLE"),),
    260: (Block("uapi/linux/rose.h", "ROSE_DEFER", "ROSE_HOLDBACK"),),
    263: (Block("uapi/linux/if_packet.h", "PACKET_ADD_MEMBERSHIP", "PACKET_VNET_HDR_SZ"),),
    268: (Block("uapi/linux/llc.h", "LLC_OPT_RETRY", "LLC_OPT_PKTINFO"),),
    269: (Block("uapi/linux/dccp.h", "DCCP_SOCKOPT_PACKET_SIZE", "DCCP_SOCKOPT_CCID_TX_INFO"),),
    270: (Block("uapi/linux/netlink.h", "NETLINK_ADD_MEMBERSHIP", "NETLINK_GET_STRICT_CHK"),),
    271: (Block("uapi/linux/tipc.h", "TIPC_IMPORTANCE", "TIPC_NODELAY"),),
    272: (Block("uapi/linux/rxrpc.h", "RXRPC_SECURITY_KEY", "RXRPC_SUPPORTED_CMSG"),),
    273: (Block("uapi/linux/if_pppol2tp.h", "PPPOL2TP_SO_DEBUG", "PPPOL2TP_SO_REORDERTO"),),
    274: (Block("net/bluetooth/bluetooth.h", "BT_SECURITY", "BT_CODEC", "BT_(SECURITY|DEFER_SETUP|FLUSHABLE|POWER|"
                "CHANNEL_POLICY|VOICE|SNDMTU|RCVMTU|PHY|MODE|PKT_STATUS|ISO_QOS|CODEC)$"),),
    275: (Block("uapi/linux/phonet.h", "PNPIPE_ENCAP", "PNPIPE_INITSTATE"),),
    276: (Block("uapi/linux/rds.h", "RDS_CANCEL_SENT_TO", "SO_RDS_MSG_RXPATH_LATENCY", "RDS_|SO_RDS_"),),
    278: (Block("uapi/linux/caif/caif_socket.h", "CAIFSO_LINK_SELECT", "CAIFSO_RSP_PARAM"),),
    279: (Block("uapi/linux/if_alg.h", "ALG_SET_KEY", "ALG_SET_KEY_BY_KEY_SERIAL"),),
    280: (Block("uapi/linux/nfc.h", "NFC_LLCP_RW", "NFC_LLCP_REMOTE_RW"),),
    281: (Block("uapi/linux/kcm.h", "KCM_RECV_DISABLE", "KCM_RECV_DISABLE"),),
    282: (Block("uapi/linux/tls.h", "TLS_TX", "TLS_RX_EXPECT_NO_PAD"),),
    283: (Block("uapi/linux/if_xdp.h", "XDP_MMAP_OFFSETS", "XDP_OPTIONS"),),
    284: (Block("uapi/linux/mptcp.h", "MPTCP_INFO", "MPTCP_FULL_INFO"),),
    285: (Block("uapi/linux/mctp.h", "MCTP_OPT_ADDR_EXT", "MCTP_OPT_ADDR_EXT"),),
    286: (Block("uapi/linux/smc.h", "SMC_LIMIT_HS", "SMC_LIMIT_HS"),),
}  # fmt: skip
#: Control messages (cmsg_type) whose number means something else than the option of the same level.
CONTROL: dict[int, tuple[Block, ...]] = {
    1: (Block(SOCKET, "SCM_RIGHTS", "SCM_PIDFD"),),
    132: (Block("uapi/linux/sctp.h", "SCTP_INIT", "SCTP_DSTADDRV6"),),
    272: (Block("uapi/linux/rxrpc.h", "RXRPC_USER_CALL_ID", "RXRPC_CHARGE_ACCEPT"),),
    276: (Block("uapi/linux/rds.h", "RDS_CMSG_RDMA_ARGS", "RDS_CMSG_ZCOPY_COOKIE"),),
    282: (Block("uapi/linux/tls.h", "TLS_SET_RECORD_TYPE", "TLS_GET_RECORD_TYPE"),),
}
#: Names that the headers of that version lack. AF_VSOCK is a level of its own (net/vmw_vsock/af_vsock.c); 81 to 84 of
#: SOL_SOCKET and 44 to 46 of TCP came after 6.12; the stamps are _IOR(0x89, 6, long long[2]) and 7.
EXTRA: dict[str, dict[int, str]] = {
    "OPTIONS 1": {81: "SCM_TS_OPT_ID", 82: "SO_RCVPRIORITY", 83: "SO_PASSRIGHTS", 84: "SO_INQ"},
    "OPTIONS 6": {44: "TCP_RTO_MAX_MS", 45: "TCP_RTO_MIN_US", 46: "TCP_DELACK_MAX_US"},
    "LEVELS": {40: "AF_VSOCK"},
    "IOCTLS": {0x5411: "SIOCOUTQ", 0x80108906: "SIOCGSTAMP_NEW", 0x80108907: "SIOCGSTAMPNS_NEW"},
}
#: Tables whose numbers the headers write in hexadecimal.
HEX = ("MESSAGE_FLAGS", "ETHERTYPES", "IOCTLS")
#: These levels have no SOL_ name that the manual pages use: setsockopt(2) gives the protocol's number.
PROTOCOL_LEVELS = (0, 6, 17, 41, 58, 132, 136, 255)


class Headers:
    """Reads the integer constants of headers in their order, from #define and enum; others are left out."""

    def __init__(self, include: Path) -> None:
        """Start without constants; `include` is the include directory."""
        self.include = include
        self.known: dict[str, int] = {}
        self.order: dict[str, list[str]] = {}

    def number(self, expression: str) -> int | None:
        """Evaluate `1`, `0x10`, `NAME` or `(NAME + 2)`; None for any other expression."""
        total = 0
        for term in expression.strip().strip("()").split("+"):
            term = term.strip()
            if term in self.known:
                total += self.known[term]
            elif re.fullmatch(r"0x[0-9a-fA-F]+U?|\d+U?", term):
                total += int(term.rstrip("U"), 16 if term.startswith("0x") else 10)
            else:
                return None
        return total

    def read(self, header: str) -> list[str]:
        """Read a header once and return the names of its constants in order."""
        if header in self.order:
            return self.order[header]
        names = self.order[header] = []
        counter: int | None = None
        for line in re.sub(r"/\*.*?\*/", " ", (self.include / header).read_text(), flags=re.S).splitlines():
            define = re.match(r"\s*#\s*define\s+([A-Z_]\w*)\s+(\S.*)$", line)
            entry = re.match(r"\s+([A-Z_]\w*)\s*(?:=\s*([^,]+))?,?\s*$", line) if counter is not None else None
            if re.search(r"\benum\b.*\{", line):
                counter = 0
            elif counter is not None and "}" in line:
                counter = None
            elif entry and counter is not None:
                value = self.number(entry[2]) if entry[2] else counter
                counter = (value or 0) + 1
                self.note(names, entry[1], value)
            elif define:
                self.note(names, define[1], self.number(define[2]))
        return names

    def note(self, names: list[str], name: str, value: int | None) -> None:
        """Keep a constant that has a value, at its first definition."""
        if value is not None and name not in names:
            names.append(name)
            self.known[name] = value

    def table(self, blocks: tuple[Block, ...], key: str = "") -> dict[int, str]:
        """Return number to name, sorted; the first name of a number stays, later ones are aliases."""
        found = dict(EXTRA.get(key, {}))
        for block in blocks:
            names = self.read(block.header)
            for name in names[names.index(block.first) : names.index(block.last) + 1]:
                if re.match(block.only or block.first.split("_")[0] + "_", name):
                    found.setdefault(self.known[name], name)
        return dict(sorted(found.items()))


def literal(table: dict[int, str], indent: int, hexadecimal: bool = False) -> str:
    """Write a table as a dictionary of Python source."""
    pad = " " * indent
    number = "0x{:X}".format if hexadecimal else str
    return "{\n" + "".join(f'{pad}    {number(n)}: "{name}",\n' for n, name in table.items()) + pad + "}"


def main(include: str, version: str) -> None:
    """Print options.py."""
    headers = Headers(Path(include))
    for header in BASES:
        headers.read(header)
    print(f'"""Numbers and names. Source: headers of {version}, read by generate_options.py. Do not edit."""\n')
    print("# The tables are data; the names are the kernel's.")
    tables = {name: headers.table(blocks, name) for name, blocks in TABLES.items()}
    levels = headers.table(LEVEL_BLOCKS, "LEVELS") | {n: tables["PROTOCOLS"][n] for n in PROTOCOL_LEVELS}
    for name, table in {**tables, "LEVELS": dict(sorted(levels.items()))}.items():
        print(f"{name}: dict[int, str] = {literal(table, 0, name in HEX)}")
    for name, per_level in (("OPTIONS", OPTIONS), ("CONTROL", CONTROL)):
        print(f"{name}: dict[int, dict[int, str]] = {{")
        for level, blocks in per_level.items():
            print(f"    {level}: {literal(headers.table(blocks, f'{name} {level}'), 4)},")
        print("}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
