"""Names numbers: families, socket types, protocols, flags, levels, options, commands.

A number without a name stays a number, unknown bits stay hexadecimal: nothing is guessed. The long tables are in
options.py, generated; the tables here are those that the generator cannot read from one block of a header.
"""

from __future__ import annotations

from collections.abc import Mapping

from probes.abi import options
from probes.abi.record import signed, unsigned

#: include/linux/net.h enum sock_type; SOCK_TYPE_MASK is 0xf.
TYPES = {1: "SOCK_STREAM", 2: "SOCK_DGRAM", 3: "SOCK_RAW", 4: "SOCK_RDM", 5: "SOCK_SEQPACKET", 6: "SOCK_DCCP",
         10: "SOCK_PACKET"}  # fmt: skip
TYPE_MASK = 0xF
#: include/linux/net.h: SOCK_CLOEXEC is O_CLOEXEC, SOCK_NONBLOCK is O_NONBLOCK.
TYPE_FLAGS = {0o2000000: "SOCK_CLOEXEC", 0o4000: "SOCK_NONBLOCK"}
#: shutdown(2); include/linux/net.h enum sock_shutdown_cmd.
HOW = {0: "SHUT_RD", 1: "SHUT_WR", 2: "SHUT_RDWR"}
#: include/uapi/asm-generic/fcntl.h, all that x86 takes from there; the access mode is not a bit and not in it.
FILE_FLAGS = {0o100: "O_CREAT", 0o200: "O_EXCL", 0o400: "O_NOCTTY", 0o1000: "O_TRUNC", 0o2000: "O_APPEND",
              0o4000: "O_NONBLOCK", 0o10000: "O_DSYNC", 0o20000: "O_ASYNC", 0o40000: "O_DIRECT",
              0o100000: "O_LARGEFILE", 0o200000: "O_DIRECTORY", 0o400000: "O_NOFOLLOW", 0o1000000: "O_NOATIME",
              0o2000000: "O_CLOEXEC", 0o4000000: "__O_SYNC", 0o10000000: "O_PATH",
              0o20000000: "__O_TMPFILE"}  # fmt: skip
ACCESS = {0: "O_RDONLY", 1: "O_WRONLY", 2: "O_RDWR", 3: "O_ACCMODE"}
#: include/uapi/asm-generic/poll.h.
POLL = {0x1: "POLLIN", 0x2: "POLLPRI", 0x4: "POLLOUT", 0x8: "POLLERR", 0x10: "POLLHUP", 0x20: "POLLNVAL",
        0x40: "POLLRDNORM", 0x80: "POLLRDBAND", 0x100: "POLLWRNORM", 0x200: "POLLWRBAND", 0x400: "POLLMSG",
        0x1000: "POLLREMOVE", 0x2000: "POLLRDHUP"}  # fmt: skip
#: include/uapi/linux/eventpoll.h.
EPOLL = {bit: "E" + name for bit, name in POLL.items() if name != "POLLREMOVE"} | {
    1 << 28: "EPOLLEXCLUSIVE", 1 << 29: "EPOLLWAKEUP", 1 << 30: "EPOLLONESHOT", 1 << 31: "EPOLLET",
}  # fmt: skip
EPOLL_OPERATIONS = {1: "EPOLL_CTL_ADD", 2: "EPOLL_CTL_DEL", 3: "EPOLL_CTL_MOD"}

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_CAN, AF_VSOCK = 1, 2, 10, 16, 17, 29, 40
AF_X25, AF_BLUETOOTH, AF_ALG, AF_QIPCRTR, AF_XDP = 9, 31, 38, 42, 44
#: Protocols of families that have few: include/net/bluetooth/bluetooth.h; include/uapi/linux/isdn, phonet.h,
#: caif/caif_socket.h, nfc.h, kcm.h; net/smc/smc.h.
_PROTOCOLS = {
    AF_BLUETOOTH: ("BTPROTO_L2CAP", "BTPROTO_HCI", "BTPROTO_SCO", "BTPROTO_RFCOMM", "BTPROTO_BNEP", "BTPROTO_CMTP",
                   "BTPROTO_HIDP", "BTPROTO_AVDTP", "BTPROTO_ISO"),
    34: ("ISDN_P_BASE",),
    35: ("PN_PROTO_TRANSPORT", "PN_PROTO_PHONET", "PN_PROTO_PIPE"),
    37: ("CAIFPROTO_AT", "CAIFPROTO_DATAGRAM", "CAIFPROTO_DATAGRAM_LOOP", "CAIFPROTO_UTIL", "CAIFPROTO_RFM",
         "CAIFPROTO_DEBUG"),
    39: ("NFC_SOCKPROTO_RAW", "NFC_SOCKPROTO_LLCP"),
    41: ("KCMPROTO_CONNECTED",),
    43: ("SMCPROTO_SMC", "SMCPROTO_SMC6"),
}  # fmt: skip


def named(table: Mapping[int, str], number: int) -> str | int:
    """Return the name of a number, or the number as a C int."""
    return table.get(unsigned(number)) or signed(number)


def flags(table: Mapping[int, str], value: int) -> str | int:
    """Name the bits of a value, those without a name in hexadecimal: `MSG_PEEK|0x80000000`; 0 for no bits."""
    left = unsigned(value)
    if not left:
        return 0
    parts = []
    for bit, name in table.items():
        if left & bit == bit:
            parts.append(name)
            left &= ~bit
    if left:
        parts.append(hex(left))
    return "|".join(parts)


def family(number: int) -> str | int:
    """Name an address family (socket(2))."""
    return named(options.FAMILIES, number)


def socktype(word: int) -> str | int:
    """Name the type argument of socket(2): a type in the low four bits, flags above."""
    base, above = unsigned(word) & TYPE_MASK, unsigned(word) & ~TYPE_MASK
    if not above:
        return named(TYPES, base)
    return f"{named(TYPES, base)}|{flags(TYPE_FLAGS, above)}"


def protocol(af: int, number: int) -> str | int:
    """Name the protocol argument of socket(2), which depends on the family (packet(7): network byte order)."""
    af, number = unsigned(af), unsigned(number)
    if af in (AF_INET, AF_INET6):
        return named(options.PROTOCOLS, number)
    if af == AF_NETLINK:
        return named(options.NETLINK_PROTOCOLS, number)
    if af == AF_CAN:
        return named(options.CAN_PROTOCOLS, number) if number else 0
    if af == AF_PACKET:
        return ethertype(number)
    own = _PROTOCOLS.get(af, ())
    return own[number] if number < len(own) else signed(number)


def ethertype(number: int) -> str | int:
    """Name an ethernet protocol in network byte order, as packet(7) wants it: `htons(ETH_P_IP)`."""
    host = (number & 0xFF) << 8 | number >> 8 & 0xFF
    name = options.ETHERTYPES.get(host) if 0 < number <= 0xFFFF else None
    return f"htons({name})" if name else signed(number)


def message_flags(word: int) -> str | int:
    """Name the flags of send(2) and recv(2)."""
    return flags(options.MESSAGE_FLAGS, word)


def level(number: int) -> str | int:
    """Name the level of an option (setsockopt(2))."""
    return named(options.LEVELS, number)


def option(at: int, number: int) -> str | int:
    """Name an option of level `at`."""
    return named(options.OPTIONS.get(unsigned(at), {}), number)


def control(at: int, number: int) -> str | int:
    """Name a control message (cmsg_type): most have the name of the option that enables them."""
    name = options.CONTROL.get(unsigned(at), {}).get(unsigned(number))
    return name or option(at, number)


def file_flags(word: int) -> str | int:
    """Name the flags of F_GETFL and F_SETFL: access mode and bits."""
    mode, above = ACCESS[word & 3], unsigned(word) & ~3
    return f"{mode}|{flags(FILE_FLAGS, above)}" if above else mode


def value(name: str) -> int:
    """Return the number of a name of any table: `value("SO_PEEK_OFF")`. KeyError for a name that no table has."""
    if not _VALUES:
        o = options
        flat = (o.FAMILIES, o.PROTOCOLS, o.NETLINK_PROTOCOLS, o.CAN_PROTOCOLS, o.ETHERTYPES, o.MESSAGE_FLAGS)
        here = (TYPES, TYPE_FLAGS, HOW, FILE_FLAGS, ACCESS, POLL)
        levels = (o.LEVELS, *o.OPTIONS.values(), *o.CONTROL.values())
        for table in (*flat, *here, *levels, o.FCNTL, o.IOCTLS):
            _VALUES.update({text: number for number, text in table.items()})
    return _VALUES[name]


_VALUES: dict[str, int] = {}
