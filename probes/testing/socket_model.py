"""Model of socket(family, type, protocol): the descriptor or error that the documents state for each argument.

The kernel's own part in it is only which protocols it has registered (probes.testing.procfs). Sources: net/socket.c
__sock_create, and each family's create function. OK stands for a descriptor.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from errno import EAFNOSUPPORT, EINVAL, EPERM, EPROTONOSUPPORT, EPROTOTYPE, ESOCKTNOSUPPORT
from socket import AF_INET, AF_INET6, AF_NETLINK, AF_PACKET
from socket import SOCK_DGRAM as DGRAM
from socket import SOCK_RAW as RAW
from socket import SOCK_RDM as RDM
from socket import SOCK_SEQPACKET as SEQPACKET
from socket import SOCK_STREAM as STREAM

from probes.testing import VersionDifference, procfs

#: OK, a negative errno, or the two of them by kernel version.
Answer = int | str | VersionDifference
OK = "a descriptor"
DCCP, PACKET, AF_XDP = 6, 10, 44
#: How often a refused call is repeated to find a leak: few times where each call may start modprobe.
TIMES = 10 if procfs.modprobe() else 1000
CLOEXEC, NONBLOCK = 0o2000000, 0o4000
#: The flags of the type word that exist, and their combinations.
TYPE_FLAGS = {"none": 0, "cloexec": CLOEXEC, "nonblock": NONBLOCK, "both": CLOEXEC | NONBLOCK}
#: include/linux/net.h: SOCK_TYPE_MASK, and SOCK_MAX, which is SOCK_PACKET + 1.
TYPE_MASK, TYPE_MAX = 0xF, 11
#: include/linux/socket.h AF_MAX since Linux 5.15, which has AF_MCTP.
FAMILY_MAX = 46
#: include/uapi/linux/in.h IPPROTO_MAX since Linux 5.6, which has IPPROTO_MPTCP 262.
PROTOCOL_MAX = 263


#: Stands for the descriptor in a compared value: its number differs from run to run.
LOWEST = "the lowest free descriptor"


def with_descriptor(answer: object, descriptor: object) -> object:
    """Returns an answer with a descriptor in the place of OK."""
    if isinstance(answer, VersionDifference):
        before, after = (with_descriptor(one, descriptor) for one in (answer.before, answer.after))
        return VersionDifference(answer.version, before, after, answer.cite)
    return descriptor if answer == OK else answer


@dataclass(frozen=True)
class Family:
    """A family that a kernel may have, and the answers to its types with protocol 0.

    The family is registered if any of `protocols` is in /proc/net/protocols. `types` has the answers by type, `other`
    the answer to every other type. A function stands for an answer that depends on the registered protocols, None for
    one that is not judged.
    """

    name: str
    protocols: tuple[str, ...]
    types: Mapping[int, Answer | Callable[[], Answer] | None]
    other: Answer | Callable[[], Answer] | None = -ESOCKTNOSUPPORT

    @property
    def registered(self) -> bool:
        """True if the kernel has the family now."""
        return bool(procfs.protocols() & set(self.protocols))

    def present(self, number: int) -> bool:
        """Returns True if the kernel has the family or would load it."""
        return self.registered or procfs.loadable(f"net-pf-{number}")

    def answer(self, type: int) -> Answer | None:
        """Returns the answer to a type where the family is present."""
        found = self.types.get(type, self.other)
        return found() if callable(found) else found


#: Families of the initial network namespace only: in another one socket fails with EAFNOSUPPORT, registered or not
#: (`net_eq(net, &init_net)` in their create functions; llc_ui_create requires CAP_NET_RAW first).
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
            SEQPACKET: lambda: _default(AF_INET, SEQPACKET), DCCP: lambda: _default(AF_INET, DCCP),
        },
    ),
    10: Family(
        "INET6",
        ("TCPv6",),
        {
            STREAM: OK, DGRAM: OK, RAW: -EPROTONOSUPPORT,
            SEQPACKET: lambda: _default(AF_INET6, SEQPACKET), DCCP: lambda: _default(AF_INET6, DCCP),
        },
    ),
    # Protocol 0 is not PF_KEY_V2.
    15: Family("KEY", ("KEY",), {RAW: -EPROTONOSUPPORT}),
    16: Family("NETLINK", ("NETLINK",), {RAW: OK, DGRAM: OK}),
    17: Family("PACKET", ("PACKET",), {RAW: OK, DGRAM: OK, PACKET: OK}),
    21: Family("RDS", ("RDS",), {SEQPACKET: OK}),
    # Protocol 0 is PPPoE, which accepts any type.
    24: Family("PPPOX", ("PPPOE", "PPTP", "PPPOL2TP"), {}, other=lambda: _pppoe()),
    # CAN has no protocol 0.
    29: Family("CAN", ("CAN_RAW", "CAN_BCM", "CAN_ISOTP", "CAN_J1939"), {}, other=-EPROTONOSUPPORT),
    30: Family("TIPC", ("TIPC",), {STREAM: OK, DGRAM: OK, RDM: OK, SEQPACKET: OK}, other=-EPROTOTYPE),
    # Its protocol is the family of its transport.
    33: Family("RXRPC", ("RXRPC",), {}, other=-EPROTONOSUPPORT),
    34: Family("ISDN", ("misdn",), {RAW: OK}),
    # It requires a capability in the initial user namespace.
    35: Family("PHONET", ("PHONET",), {}, other=-EPERM),
    37: Family("CAIF", ("PF_CAIF",), {}, other=-EPERM),
    38: Family("ALG", ("ALG",), {SEQPACKET: OK}),
    # The answer to SOCK_DGRAM depends on the registered transports.
    40: Family("VSOCK", ("AF_VSOCK",), {STREAM: OK, SEQPACKET: VSOCK_SEQPACKET, DGRAM: None}),
    41: Family("KCM", ("KCM",), {DGRAM: OK, SEQPACKET: OK}),
    # Late stable releases have it in the initial network namespace only.
    42: Family("QIPCRTR", ("QIPCRTR",), {DGRAM: None}, other=-EPROTOTYPE),
    43: Family("SMC", ("SMC", "SMC6"), {STREAM: OK}),
    44: Family("XDP", ("XDP",), {RAW: OK}),
    45: Family("MCTP", ("MCTP",), {DGRAM: OK}),
}  # fmt: skip


def _default(family: int, type: int) -> Answer:
    """Returns the answer of AF_INET or AF_INET6 to a type with protocol 0."""
    return inet_answers(family, type)[0][2]


def _packet() -> Answer:
    return OK if FAMILIES[AF_PACKET].present(AF_PACKET) else -EAFNOSUPPORT


def _pppoe() -> Answer:
    present = "PPPOE" in procfs.protocols() or procfs.loadable("net-pf-24-proto-0")
    return OK if present else -EPROTONOSUPPORT


#: Families in range without sockets in any kernel: AF_UNSPEC, and families removed before 5.10 or never implemented.
NEVER = {
    0: "UNSPEC", 4: "IPX", 7: "BRIDGE", 13: "NETBEUI", 14: "SECURITY", 18: "ASH", 19: "ECONET", 22: "SNA", 23: "IRDA",
    25: "WANPIPE", 27: "IB", 28: "MPLS", 32: "IUCV",
}  # fmt: skip

#: The last family, which came into range with AF_MCTP.
LAST_FAMILY = FAMILY_MAX - 1


@dataclass(frozen=True)
class Protocol:
    """A protocol of one type of AF_INET or AF_INET6; `registered_as` is its name in /proc/net/protocols."""

    number: int
    registered_as: str
    name: str


def _inet(v6: bool) -> dict[int, tuple[Protocol, ...]]:
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


#: inetsw and inetsw6: the protocols of each type. SOCK_RAW has one entry for every protocol and none for 0.
INETSW: dict[int, dict[int, tuple[Protocol, ...]]] = {AF_INET: _inet(False), AF_INET6: _inet(True)}


def inet_has(family: int, type: int, protocol: Protocol) -> bool:
    """Returns True if the kernel has a protocol of a type, or would load it."""
    aliases = (f"net-pf-{family}-proto-{protocol.number}-type-{type}", f"net-pf-{family}-proto-{protocol.number}")
    return protocol.registered_as in procfs.protocols() or any(procfs.loadable(alias) for alias in aliases)


def inet_answers(family: int, type: int) -> Sequence[tuple[int, int, Answer]]:
    """Returns (first, last, answer) for the protocols 0 to 300 of a type of AF_INET or AF_INET6, in order.

    The boundaries are the same on every kernel. Ping sockets are left out.
    """
    if type == RAW:
        return [(0, 0, -EPROTONOSUPPORT), (1, PROTOCOL_MAX - 1, OK), (PROTOCOL_MAX, 300, -EINVAL)]
    known = {protocol.number: protocol for protocol in INETSW[family].get(type, ())}
    present = [protocol for protocol in known.values() if inet_has(family, type, protocol)]
    refused = -EPROTONOSUPPORT if present else -ESOCKTNOSUPPORT
    answers: list[tuple[int, int, Answer]] = [(0, 0, OK if present else refused)]
    start = 1
    for number, protocol in sorted(known.items()):
        if start < number:
            answers.append((start, number - 1, refused))
        if protocol.name != "ICMP":
            answers.append((number, number, OK if protocol in present else refused))
        start = number + 1
    if start < PROTOCOL_MAX:
        answers.append((start, PROTOCOL_MAX - 1, refused))
    return [*answers, (PROTOCOL_MAX, 300, -EINVAL)]


def type_word_answer(family: int, word: int) -> Answer:
    """Returns the answer of AF_UNIX or AF_NETLINK to a type word: a type in its low bits, two flags, no other bit."""
    if word & ~TYPE_MASK & ~(CLOEXEC | NONBLOCK) or word & TYPE_MASK >= TYPE_MAX:
        return -EINVAL
    return OK if word & TYPE_MASK in FAMILIES[family].types else -ESOCKTNOSUPPORT


def answers(family: int, type: int, last: int) -> Sequence[tuple[int, int, Answer | None]]:
    """Returns (first, last, answer) for the protocols 0 to `last` of any family and type; None where none is stated."""
    if family >= FAMILY_MAX or family in INITIAL_ONLY or family in NEVER:
        in_range = family < FAMILY_MAX and type >= TYPE_MAX
        return [(0, last, -EINVAL if in_range else -EAFNOSUPPORT)]
    if type >= TYPE_MAX:
        return [(0, last, _TYPE_OF_LAST if family == LAST_FAMILY else -EINVAL)]
    if (family, type) == (AF_INET, PACKET):
        return [(0, last, _packet())]
    if not FAMILIES[family].present(family):
        return [(0, last, -EAFNOSUPPORT)]
    if family in INETSW:
        found = [*inet_answers(family, type)]
        # The last of them is the answer to all protocols from IPPROTO_MAX on.
        return _filled([*found[:-1], (PROTOCOL_MAX, last, -EINVAL)], last)
    known = _PROTOCOLS_OF.get(family)
    default = FAMILIES[family].answer(type)
    return known(type, default, last) if known else _filled([(0, 0, default)], last)


_TYPE_OF_LAST = VersionDifference(
    "5.15", before=-EAFNOSUPPORT, after=-EINVAL, cite="include/linux/socket.h AF_MAX with AF_MCTP"
)
_Rows = list[tuple[int, int, Answer | None]]


def _filled(rows: Sequence[tuple[int, int, Answer | None]], last: int) -> _Rows:
    """Returns rows without gaps from 0 to `last`: what is not stated has the answer None."""
    found: _Rows = []
    start = 0
    for first, end, answer in rows:
        if start < first:
            found.append((start, first - 1, None))
        found.append((first, end, answer))
        start = end + 1
    return [*found, *([(start, last, None)] if start <= last else [])]


def _one_more(number: int) -> Callable[[int, Answer | None, int], _Rows]:
    """unix_create, vsock_create: the protocols 0 and that of the family, which is looked at before the type."""

    def rows(_: int, answer: Answer | None, last: int) -> _Rows:
        refused = -EPROTONOSUPPORT
        between: _Rows = [(1, number - 1, refused)] if number > 1 else []
        return [(0, 0, answer), *between, (number, number, answer), (number + 1, last, refused)]

    return rows


def _netlink(_: int, answer: Answer | None, last: int) -> _Rows:
    """netlink_create: the type is looked at first, then the protocol, of which MAX_LINKS bounds the number."""
    if answer != OK:
        return [(0, last, answer)]
    # 1 was NETLINK_SKIP, 17 is reserved for NETLINK_DM, 23 and later are unassigned; the others depend on the kernel.
    refused: _Rows = [(number, number, -EPROTONOSUPPORT) for number in (1, 17)]
    return _filled([(0, 0, OK), refused[0], (2, 2, OK), refused[1], (23, last, -EPROTONOSUPPORT)], last)


def _packet_protocols(_: int, answer: Answer | None, last: int) -> _Rows:
    """packet_create: any protocol."""
    return [(0, last, answer)]


def _xdp(type: int, answer: Answer | None, last: int) -> _Rows:
    """xsk_create: the type, then protocol 0 only."""
    return [(0, 0, answer), (1, last, -EPROTONOSUPPORT if type == RAW else answer)]


_PROTOCOLS_OF = {1: _one_more(1), AF_NETLINK: _netlink, AF_PACKET: _packet_protocols, 40: _one_more(40), AF_XDP: _xdp}
