"""Defines the arguments of setsockopt and getsockopt, and the type and size of each option's value.

Source: setsockopt(2), socket(7), ip(7), ipv6(7), packet(7), tcp(7); net/core/sock.c, net/ipv4/ip_sockglue.c.
"""

from __future__ import annotations

from probes.abi import layouts, names, options
from probes.abi.arguments.addresses import read_int
from probes.abi.arguments.argument import Argument, Fetched, word
from probes.abi.arguments.bpf import INSTRUCTION, instructions
from probes.abi.arguments.fetcher import DATA, INT, Fetcher
from probes.abi.arguments.values import SOCKET_ADDRESS, Value, decode_value, followed, growing, structure
from probes.abi.record import Decoded, signed, unsigned
from probes.abi.sockaddr import describe

_MEMBERSHIP = structure(layouts.IP_ADDRESS, layouts.IP_MREQ, layouts.IP_MREQN)
_SOURCE = structure(layouts.IP_MREQ_SOURCE)
_MEMBERSHIP6 = structure(layouts.IPV6_MREQ)
_GROUP, _GROUP_SOURCE = structure(layouts.GROUP_REQ), structure(layouts.GROUP_SOURCE_REQ)
_TIMEVAL, _TIMEVAL_NEW = structure(layouts.TIMEVAL), structure(layouts.TIMEVAL_NEW)
_PACKET_MREQ = structure(layouts.PACKET_MREQ)

#: Options whose value is no int: its type. The value of an option that is not here is an int or at most 64 bytes.
VALUES: dict[str, Value] = {
    "SO_LINGER": structure(layouts.LINGER), "SO_PEERCRED": structure(layouts.UCRED), "SO_PEERNAME": SOCKET_ADDRESS,
    "SO_RCVTIMEO_OLD": _TIMEVAL, "SO_SNDTIMEO_OLD": _TIMEVAL,
    "SO_RCVTIMEO_NEW": _TIMEVAL_NEW, "SO_SNDTIMEO_NEW": _TIMEVAL_NEW,
    "SO_ATTACH_REUSEPORT_CBPF": structure(layouts.SOCK_FPROG),
    "SO_ORIGINAL_DST": SOCKET_ADDRESS,
    "IP_MULTICAST_IF": _MEMBERSHIP, "IP_ADD_MEMBERSHIP": _MEMBERSHIP, "IP_DROP_MEMBERSHIP": _MEMBERSHIP,
    "IP_BLOCK_SOURCE": _SOURCE, "IP_UNBLOCK_SOURCE": _SOURCE,
    "IP_ADD_SOURCE_MEMBERSHIP": _SOURCE, "IP_DROP_SOURCE_MEMBERSHIP": _SOURCE,
    "IP_MSFILTER": followed(layouts.IP_MSFILTER, "sources", layouts.ipv4, 4, 16),
    "MCAST_JOIN_GROUP": _GROUP, "MCAST_LEAVE_GROUP": _GROUP,
    "MCAST_JOIN_SOURCE_GROUP": _GROUP_SOURCE, "MCAST_LEAVE_SOURCE_GROUP": _GROUP_SOURCE,
    "MCAST_BLOCK_SOURCE": _GROUP_SOURCE, "MCAST_UNBLOCK_SOURCE": _GROUP_SOURCE,
    "MCAST_MSFILTER": followed(layouts.GROUP_FILTER, "sources", describe, 128, 4),
    "IPV6_ADD_MEMBERSHIP": _MEMBERSHIP6, "IPV6_DROP_MEMBERSHIP": _MEMBERSHIP6,
    "IPV6_JOIN_ANYCAST": _MEMBERSHIP6, "IPV6_LEAVE_ANYCAST": _MEMBERSHIP6,
    "PACKET_ADD_MEMBERSHIP": _PACKET_MREQ, "PACKET_DROP_MEMBERSHIP": _PACKET_MREQ,
    "PACKET_STATISTICS": structure(layouts.TPACKET_STATS, layouts.TPACKET_STATS_V3),
    "TCP_INFO": growing(layouts.TCP_INFO),
}  # fmt: skip
#: The same for setsockopt: number 26 is SO_ATTACH_FILTER there, SO_GET_FILTER with another value in getsockopt.
_SET_VALUES = VALUES | {"SO_ATTACH_FILTER": structure(layouts.SOCK_FPROG)}
#: How much of an option's value is fetched, by level and number.
_LIMITS = {
    (level, number): max(_SET_VALUES[name].size, DATA)
    for level, table in options.OPTIONS.items()
    for number, name in table.items()
    if name in _SET_VALUES
}

#: Options whose value points to the instructions of a filter.
_FILTERS = frozenset(
    (level, number)
    for level, table in options.OPTIONS.items()
    for number, name in table.items()
    if name in ("SO_ATTACH_FILTER", "SO_ATTACH_REUSEPORT_CBPF")
)

LEVEL = word("level", names.level)


def _take(fetcher: Fetcher, name: str, at: int, size: int) -> None:
    option = (fetcher.words[1] & 0xFFFFFFFF, fetcher.words[2] & 0xFFFFFFFF)
    fetcher.take(name, fetcher.words[at], min(size, _LIMITS.get(option, DATA)))


def _name(fetched: Fetched) -> str:
    return str(names.option(fetched.at(1), fetched.at(2)))


def _optname(fetched: Fetched, index: int) -> Decoded:
    return names.option(fetched.at(1), fetched.at(index))


def _fetch_in(fetcher: Fetcher, name: str, at: int) -> None:
    _take(fetcher, name, at, signed(fetcher.words[4]))
    layout, raw = layouts.SOCK_FPROG[fetcher.word], fetcher.blobs.get(name, b"")
    if (unsigned(fetcher.words[1]), unsigned(fetcher.words[2])) in _FILTERS and len(raw) == layout.size:
        length, where = layout.unpack(raw)
        fetcher.take(f"{name}.filter", where, min(length, fetcher.limits.instructions) * INSTRUCTION.size)


def _decode_in(fetched: Fetched, index: int) -> Decoded:
    raw = fetched.before.get("optval")
    if raw is None:
        return fetched.pointer(index)
    decoded = decode_value(_SET_VALUES.get(_name(fetched)), raw, signed(fetched.at(4)), fetched.word)
    program = fetched.before.get("optval.filter")
    return decoded if program is None else {**decoded, "instructions": instructions(program)}


def _fetch_out(fetcher: Fetcher, name: str, at: int) -> None:
    length = fetcher.blobs.get("optlen", b"")
    if len(length) == INT:
        _take(fetcher, name, at, int.from_bytes(length, "little", signed=True))


def _decode_out(fetched: Fetched, index: int) -> Decoded:
    raw, written = fetched.after.get("optval"), read_int(fetched.after.get("optlen"))
    if raw is None or written is None:
        return fetched.pointer(index)
    return decode_value(VALUES.get(_name(fetched)), raw[: max(written, 0)], written, fetched.word)


OPTNAME = Argument("optname", _optname)
#: The value of words 1 (level), 2 (optname) and 4 (optlen) that setsockopt reads, and that getsockopt writes.
OPTVAL_IN = Argument("optval", _decode_in, entry=_fetch_in)
OPTVAL_OUT = Argument("optval", _decode_out, exit=_fetch_out)
