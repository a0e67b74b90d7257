"""What the documents say that socket(family, type, protocol) answers, written down. Of the kernel nothing is asked but
which protocols it has registered (see probes.testing.procfs).

Sources: net/socket.c __sock_create, and each family's create function. OK stands for a descriptor.
"""

from dataclasses import dataclass
from errno import EAFNOSUPPORT, EINVAL, EPERM, EPROTONOSUPPORT, EPROTOTYPE, ESOCKTNOSUPPORT
from socket import AF_INET, AF_INET6, AF_PACKET
from socket import SOCK_DGRAM as DGRAM
from socket import SOCK_RAW as RAW
from socket import SOCK_RDM as RDM
from socket import SOCK_SEQPACKET as SEQPACKET
from socket import SOCK_STREAM as STREAM

from probes.testing import VersionDifference
from probes.testing import procfs as witness

OK = "a descriptor"
DCCP, PACKET, AF_XDP = 6, 10, 44
#: How often a refusal is repeated in search of what it leaves: few times where each may start modprobe.
TIMES = 10 if witness.modprobe() else 1000
CLOEXEC, NONBLOCK = 0o2000000, 0o4000
#: include/linux/net.h: SOCK_TYPE_MASK, and SOCK_MAX, which is SOCK_PACKET + 1.
TYPE_MASK, TYPE_MAX = 0xF, 11
#: include/linux/socket.h AF_MAX since Linux 5.15, which has AF_MCTP.
FAMILY_MAX = 46
#: include/uapi/linux/in.h IPPROTO_MAX since Linux 5.6, which has IPPROTO_MPTCP 262.
PROTOCOL_MAX = 263


#: What OK looks like where one call is judged: which number that is depends on who asks.
LOWEST = "the lowest free descriptor"


def told(answer, free):
    """An answer as it is judged: OK is the descriptor that is free."""
    if isinstance(answer, VersionDifference):
        return VersionDifference(answer.version, told(answer.before, free), told(answer.after, free), answer.cite)
    return free if answer == OK else answer


@dataclass(frozen=True)
class Family:
    """A family that a kernel may have, and what its sockets are with protocol 0.

    Any of its `protocols` in /proc/net/protocols shows that it is there. `types` has what a type answers, `other` what
    those answer that are not in it: a number, OK, a function where it depends on a protocol, None for not judged.
    """

    name: str
    protocols: tuple[str, ...]
    types: dict
    other: object = -ESOCKTNOSUPPORT

    @property
    def registered(self):
        """Whether the kernel has it now."""
        return bool(witness.protocols() & set(self.protocols))

    def present(self, number):
        """Whether the kernel has it, or would load it."""
        return self.registered or witness.loadable(f"net-pf-{number}")

    def answer(self, type):
        """What a type answers where the family is there."""
        found = self.types.get(type, self.other)
        return found() if callable(found) else found


#: Families that the kernel keeps to the initial network namespace: elsewhere they answer EAFNOSUPPORT even if they are
#: there (`net_eq(net, &init_net)` in their create functions; llc_ui_create wants CAP_NET_RAW first).
INITIAL_ONLY = {
    3: "AX25", 5: "APPLETALK", 6: "NETROM", 8: "ATMPVC", 9: "X25", 11: "ROSE", 12: "DECnet", 20: "ATMSVC", 26: "LLC",
    31: "BLUETOOTH", 36: "IEEE802154", 39: "NFC",
}  # fmt: skip

VSOCK_SEQPACKET = VersionDifference(
    "5.14", before=-ESOCKTNOSUPPORT, after=OK, cite="vsock_create SOCK_SEQPACKET; vsock(7)"
)
FAMILIES = {
    1: Family("UNIX", ("UNIX",), {STREAM: OK, DGRAM: OK, RAW: OK, SEQPACKET: OK}),
    2: Family(
        "INET",
        ("TCP",),
        {
            STREAM: OK, DGRAM: OK, RAW: -EPROTONOSUPPORT, PACKET: lambda: _packet(),
            **{type: lambda type=type: inet_answers(AF_INET, type)[0][2] for type in (SEQPACKET, DCCP)},
        },
    ),
    10: Family(
        "INET6",
        ("TCPv6",),
        {
            STREAM: OK, DGRAM: OK, RAW: -EPROTONOSUPPORT,
            **{type: lambda type=type: inet_answers(AF_INET6, type)[0][2] for type in (SEQPACKET, DCCP)},
        },
    ),
    # Protocol 0 is not PF_KEY_V2.
    15: Family("KEY", ("KEY",), {RAW: -EPROTONOSUPPORT}),
    16: Family("NETLINK", ("NETLINK",), {RAW: OK, DGRAM: OK}),
    17: Family("PACKET", ("PACKET",), {RAW: OK, DGRAM: OK, PACKET: OK}),
    21: Family("RDS", ("RDS",), {SEQPACKET: OK}),
    # Protocol 0 is PPPoE, for which any type will do.
    24: Family("PPPOX", ("PPPOE", "PPTP", "PPPOL2TP"), {}, other=lambda: _pppoe()),
    # No protocol 0 of CAN exists.
    29: Family("CAN", ("CAN_RAW", "CAN_BCM", "CAN_ISOTP", "CAN_J1939"), {}, other=-EPROTONOSUPPORT),
    30: Family("TIPC", ("TIPC",), {STREAM: OK, DGRAM: OK, RDM: OK, SEQPACKET: OK}, other=-EPROTOTYPE),
    # Its protocol is the family of its transport.
    33: Family("RXRPC", ("RXRPC",), {}, other=-EPROTONOSUPPORT),
    34: Family("ISDN", ("misdn",), {RAW: OK}),
    # The capability that it wants is one of the initial user namespace.
    35: Family("PHONET", ("PHONET",), {}, other=-EPERM),
    37: Family("CAIF", ("PF_CAIF",), {}, other=-EPERM),
    38: Family("ALG", ("ALG",), {SEQPACKET: OK}),
    # What a datagram socket answers depends on the transports that are registered.
    40: Family("VSOCK", ("AF_VSOCK",), {STREAM: OK, SEQPACKET: VSOCK_SEQPACKET, DGRAM: None}),
    41: Family("KCM", ("KCM",), {DGRAM: OK, SEQPACKET: OK}),
    # Kept to the initial network namespace by late stable releases.
    42: Family("QIPCRTR", ("QIPCRTR",), {DGRAM: None}, other=-EPROTOTYPE),
    43: Family("SMC", ("SMC", "SMC6"), {STREAM: OK}),
    44: Family("XDP", ("XDP",), {RAW: OK}),
    45: Family("MCTP", ("MCTP",), {DGRAM: OK}),
}  # fmt: skip


def _packet():
    return OK if FAMILIES[AF_PACKET].present(AF_PACKET) else -EAFNOSUPPORT


def _pppoe():
    there = "PPPOE" in witness.protocols() or witness.loadable("net-pf-24-proto-0")
    return OK if there else -EPROTONOSUPPORT


#: In range, and of no kernel: AF_UNSPEC, families whose sockets were taken out of Linux before 5.10 or never came in.
NEVER = {
    0: "UNSPEC", 4: "IPX", 7: "BRIDGE", 13: "NETBEUI", 14: "SECURITY", 18: "ASH", 19: "ECONET", 22: "SNA", 23: "IRDA",
    25: "WANPIPE", 27: "IB", 28: "MPLS", 32: "IUCV",
}  # fmt: skip

#: The last family came into range with AF_MCTP.
LAST_FAMILY = FAMILY_MAX - 1


@dataclass(frozen=True)
class Protocol:
    """A protocol of one type of a family of inet, and the name in /proc/net/protocols that shows it."""

    number: int
    witness: str
    name: str


def _inet(v6):
    end = "v6" if v6 else ""
    mptcp = Protocol(262, "MPTCP" + end, "MPTCP")
    smc = Protocol(256, "INET6_SMC" if v6 else "INET_SMC", "SMC")
    return {
        STREAM: (Protocol(6, "TCP" + end, "TCP"), Protocol(132, "SCTP" + end, "SCTP"), smc, mptcp),
        DGRAM: (
            Protocol(17, "UDP" + end, "UDP"),
            Protocol(115, "L2TP/IPv6" if v6 else "L2TP/IP", "L2TP"),
            Protocol(136, "UDPLITEv6" if v6 else "UDP-Lite", "UDPLITE"),
            # Ping sockets: see socket.protocol.ping.
            Protocol(58 if v6 else 1, "PINGv6" if v6 else "PING", "ICMP"),
        ),
        SEQPACKET: (Protocol(132, "SCTP" + end, "SCTP"),),
        DCCP: (Protocol(33, "DCCP" + end, "DCCP"),),
    }


#: inetsw and inetsw6: what each type has. SOCK_RAW has one entry for every protocol and none for 0.
INETSW = {AF_INET: _inet(False), AF_INET6: _inet(True)}


def inet_has(family, type, protocol):
    """Whether the kernel has a protocol of a type, or would load it."""
    aliases = (f"net-pf-{family}-proto-{protocol.number}-type-{type}", f"net-pf-{family}-proto-{protocol.number}")
    return protocol.witness in witness.protocols() or any(witness.loadable(alias) for alias in aliases)


def inet_answers(family, type):
    """(first, last, what they answer): the protocols 0 to 300 of a type of AF_INET or AF_INET6, in order.

    The boundaries are the same on every kernel. Ping sockets are left out.
    """
    if type == RAW:
        return [(0, 0, -EPROTONOSUPPORT), (1, PROTOCOL_MAX - 1, OK), (PROTOCOL_MAX, 300, -EINVAL)]
    known = {protocol.number: protocol for protocol in INETSW[family].get(type, ())}
    there = [protocol for protocol in known.values() if inet_has(family, type, protocol)]
    refused = -EPROTONOSUPPORT if there else -ESOCKTNOSUPPORT
    answers = [(0, 0, OK if there else refused)]
    start = 1
    for number, protocol in sorted(known.items()):
        if start < number:
            answers.append((start, number - 1, refused))
        if protocol.name != "ICMP":
            answers.append((number, number, OK if protocol in there else refused))
        start = number + 1
    if start < PROTOCOL_MAX:
        answers.append((start, PROTOCOL_MAX - 1, refused))
    return [*answers, (PROTOCOL_MAX, 300, -EINVAL)]
