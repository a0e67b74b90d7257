"""Blobs told as values: buffers, option values, control messages, message headers, sets of descriptors.

Pure functions of bytes that anyone may have written: whatever lacks or does not fit is shown as hexadecimal.
Source: socket(7), ip(7), ipv6(7), unix(7), packet(7), cmsg(3), recvmsg(2), select(2), netdevice(7).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from probes.abi import layouts, names
from probes.abi.sight import HEADER, IOVEC, TIME
from probes.abi.sockaddr import describe, printable

NULL = "NULL"
CMSGHDR = {32: struct.Struct("<Iii"), 64: struct.Struct("<Qii")}
ALIGN = {32: 4, 64: 8}


def pointer(address: int) -> str:
    return hex(address) if address else NULL


def buffer(raw: bytes, size: int | None = None) -> dict[str, Any]:
    """Bytes in hexadecimal and as text; `more` counts those that there were but nobody read."""
    told: dict[str, Any] = {"hex": raw.hex(), "text": printable(raw)}
    return told | {"more": size - len(raw)} if size is not None and size > len(raw) else told


def address(raw: bytes | None, length: int, where: int) -> Any:
    """A socket address of `length` bytes; the pointer to it if there is nothing to tell."""
    return describe(raw[:length]) if raw and length > 0 else pointer(where)


def integer(raw: bytes) -> int | None:
    """A C int, if there are the bytes of one."""
    return int.from_bytes(raw[:4], "little", signed=True) if len(raw) >= 4 else None


def structure(layout: type[layouts.I386], raw: bytes, prefix: str = "") -> dict[str, Any]:
    """The members of an i386 structure; arrays of bytes as hexadecimal."""
    told = {}
    read = layout.from_buffer_copy(raw)
    for name, *_ in layout._fields_:
        member = getattr(read, name)
        told[name.removeprefix(prefix)] = member if isinstance(member, int) else bytes(member).hex()
    return told


def moment(raw: bytes, word: int, unit: str) -> dict[str, int] | None:
    """A timeval (`usec`) or timespec (`nsec`) of the word size."""
    if len(raw) < TIME[word].size:
        return None
    seconds, fraction = TIME[word].unpack(raw[: TIME[word].size])
    return {"sec": seconds, unit: fraction}


Shape = Callable[[bytes, int], Any]


def _linger(raw: bytes, _word: int) -> Any:
    return structure(layouts.Linger, raw, "l_") if len(raw) == 8 else None


def _timeval(raw: bytes, word: int) -> Any:
    return moment(raw, word, "usec") if len(raw) == TIME[word].size else None


def _timespec(raw: bytes, word: int) -> Any:
    return moment(raw, word, "nsec") if len(raw) == TIME[word].size else None


def _timeval_new(raw: bytes, _word: int) -> Any:
    return moment(raw, 64, "usec") if len(raw) == 16 else None


def _timespec_new(raw: bytes, _word: int) -> Any:
    return moment(raw, 64, "nsec") if len(raw) == 16 else None


def _ucred(raw: bytes, _word: int) -> Any:
    return structure(layouts.Ucred, raw) if len(raw) == 12 else None


def _rights(raw: bytes, _word: int) -> Any:
    return list(struct.unpack(f"<{len(raw) // 4}i", raw)) if len(raw) % 4 == 0 else None


def _in_addr(raw: bytes) -> str:
    return ".".join(map(str, raw))


def _membership(raw: bytes, _word: int) -> Any:
    """in_addr, ip_mreq or ip_mreqn, by length (ip(7), IP_ADD_MEMBERSHIP and IP_MULTICAST_IF)."""
    if len(raw) not in (4, 8, 12):
        return None
    told: dict[str, Any] = {"address": _in_addr(raw[:4])} if len(raw) == 4 else {"multiaddr": _in_addr(raw[:4])}
    if len(raw) > 4:
        told["interface"] = _in_addr(raw[4:8])
    return told | ({"ifindex": integer(raw[8:])} if len(raw) == 12 else {})


def _mreq_source(raw: bytes, _word: int) -> Any:
    keys = ("multiaddr", "interface", "sourceaddr")
    return {key: _in_addr(raw[i * 4 : i * 4 + 4]) for i, key in enumerate(keys)} if len(raw) == 12 else None


def _pktinfo(raw: bytes, _word: int) -> Any:
    if len(raw) != 12:
        return None
    return {"ifindex": integer(raw), "spec_dst": _in_addr(raw[4:8]), "addr": _in_addr(raw[8:])}


def _address6(raw: bytes, _word: int) -> Any:
    """ipv6_mreq and in6_pktinfo: an address and an interface."""
    if len(raw) != 20:
        return None
    host = describe(b"\x0a\x00" + bytes(6) + raw[:16] + bytes(4))["host"]
    return {"address": host, "ifindex": integer(raw[16:])}


def _packet_mreq(raw: bytes, _word: int) -> Any:
    return structure(layouts.PacketMreq, raw, "mr_") if len(raw) == 16 else None


def _sockaddr(raw: bytes, _word: int) -> Any:
    return describe(raw)


def _extended_error(raw: bytes, _word: int) -> Any:
    """struct sock_extended_err and the address of the node that it came from (recv(2), MSG_ERRQUEUE)."""
    if len(raw) < 16:
        return None
    return structure(layouts.SockExtendedErr, raw[:16], "ee_") | ({"offender": describe(raw[16:])} if raw[16:] else {})


#: How option values and control messages are told, by their names; what is not here is an int or bytes.
_SHAPES: dict[str, Shape] = {
    "SO_LINGER": _linger, "SO_PEERCRED": _ucred, "SO_PEERNAME": _sockaddr,
    "SO_RCVTIMEO_OLD": _timeval, "SO_SNDTIMEO_OLD": _timeval,
    "SO_RCVTIMEO_NEW": _timeval_new, "SO_SNDTIMEO_NEW": _timeval_new,
    "IP_MULTICAST_IF": _membership, "IP_ADD_MEMBERSHIP": _membership, "IP_DROP_MEMBERSHIP": _membership,
    "IP_BLOCK_SOURCE": _mreq_source, "IP_UNBLOCK_SOURCE": _mreq_source,
    "IP_ADD_SOURCE_MEMBERSHIP": _mreq_source, "IP_DROP_SOURCE_MEMBERSHIP": _mreq_source,
    "SO_ORIGINAL_DST": _sockaddr,
    "IPV6_ADD_MEMBERSHIP": _address6, "IPV6_DROP_MEMBERSHIP": _address6,
    "IPV6_JOIN_ANYCAST": _address6, "IPV6_LEAVE_ANYCAST": _address6,
    "PACKET_ADD_MEMBERSHIP": _packet_mreq, "PACKET_DROP_MEMBERSHIP": _packet_mreq,
}  # fmt: skip
_CONTROL_SHAPES: dict[str, Shape] = {
    "SCM_RIGHTS": _rights, "SCM_CREDENTIALS": _ucred,
    "SO_TIMESTAMP_OLD": _timeval, "SO_TIMESTAMPNS_OLD": _timespec,
    "SO_TIMESTAMP_NEW": _timeval_new, "SO_TIMESTAMPNS_NEW": _timespec_new,
    "IP_PKTINFO": _pktinfo, "IPV6_PKTINFO": _address6,
    "IP_RECVERR": _extended_error, "IPV6_RECVERR": _extended_error,
    "IP_ORIGDSTADDR": _sockaddr, "IPV6_ORIGDSTADDR": _sockaddr,
}  # fmt: skip


def _shaped(shapes: Mapping[str, Shape], name: str | int, raw: bytes, size: int, word: int) -> Any:
    shape = shapes.get(str(name))
    told = shape(raw, word) if shape and size == len(raw) else None
    if told is None:
        return int.from_bytes(raw, "little", signed=size == 4) if size == len(raw) in (1, 4) else buffer(raw, size)
    return told


def option_value(level: int, option: int, raw: bytes, size: int, word: int) -> Any:
    """The value of a socket option of `size` bytes, of which `raw` were read: its structure, an int, or the bytes."""
    return _shaped(_SHAPES, names.option(level, option), raw, size, word)


def control(raw: bytes, size: int, word: int) -> list[dict[str, Any]]:
    """The control messages of a buffer of `size` bytes, of which `raw` were read (cmsg(3), CMSG_NXTHDR)."""
    told: list[dict[str, Any]] = []
    header, at = CMSGHDR[word], 0
    raw = raw[:size]
    while len(raw) - at >= header.size:
        length, level, kind = header.unpack_from(raw, at)
        name = names.control(level, kind)
        message = {"len": length, "level": names.level(level), "type": name}
        told.append(message)
        if length < header.size:
            break
        data = raw[at + header.size : at + length]
        message["data"] = _shaped(_CONTROL_SHAPES, name, data, length - header.size, word)
        at += (length + ALIGN[word] - 1) // ALIGN[word] * ALIGN[word]
    if raw[at:] and not (told and "data" not in told[-1]):
        told.append({"raw": raw[at:].hex()})
    return told


def vector(
    prefix: str, blobs: Mapping[str, bytes], read: Mapping[str, bytes], left: int | None, word: int
) -> list[dict[str, Any]]:
    """An array of iovec; `read` holds the beginnings of the buffers, all full (`left` None) or of what was received."""
    layout, told = IOVEC[word], []
    raw = blobs.get(f"{prefix}iov", b"")
    for i in range(len(raw) // layout.size):
        base, size = layout.unpack_from(raw, i * layout.size)
        filled = size if left is None else min(size, left)
        left = None if left is None else left - filled
        data = read.get(f"{prefix}data.{i}")
        told.append({"base": pointer(base), "len": size} | ({} if data is None else {"data": buffer(data, filled)}))
    return told


def sent(name: str, blobs: Mapping[str, bytes], word: int) -> Any:
    """The msghdr of a message to send, None if it could not be read (sendmsg(2))."""
    if len(raw := blobs.get(name, b"")) < HEADER[word].size:
        return None
    who, namelen, iov, count, where, room, flags = HEADER[word].unpack(raw[: HEADER[word].size])
    ancillary = blobs.get(f"{name}.control")
    return {
        "name": address(blobs.get(f"{name}.name"), namelen, who),
        "namelen": namelen,
        "iov": vector(f"{name}.", blobs, blobs, None, word) or pointer(iov),
        "iovlen": count,
        "control": pointer(where) if ancillary is None else control(ancillary, room, word),
        "controllen": room,
        "flags": names.message_flags(flags),
    }


def received(name: str, before: Mapping[str, bytes], after: Mapping[str, bytes], length: int, word: int) -> Any:
    """The msghdr of a message of `length` bytes; as it was asked for if nothing came.

    recvmsg(2): msg_namelen, msg_controllen and msg_flags are written. The name may be longer than its room.
    """
    size = HEADER[word].size
    asked, came = before.get(name, b""), after.get(name, b"")
    if len(asked) < size:
        return None
    who, namelen, iov, count, where, room, flags = HEADER[word].unpack(asked[:size])
    vectors = vector(f"{name}.", before, after, length, word) or pointer(iov)
    if len(came) < size:
        told = {"name": pointer(who), "namelen": namelen, "iov": vectors, "iovlen": count}
        return told | {"control": pointer(where), "controllen": room, "flags": names.message_flags(flags)}
    _, known, _, _, _, used, flags = HEADER[word].unpack(came[:size])
    ancillary = after.get(f"{name}.control")
    return {
        "name": address(after.get(f"{name}.name"), min(namelen, known), who),
        "namelen": {"in": namelen, "out": known},
        "iov": vectors,
        "iovlen": count,
        "control": pointer(where) if ancillary is None else control(ancillary, min(used, room), word),
        "controllen": {"in": room, "out": used},
        "flags": names.message_flags(flags),
    }


def pollfds(before: bytes, after: bytes) -> list[dict[str, Any]]:
    """An array of struct pollfd; `revents` as they were when the call returned (poll(2))."""
    told = []
    for i in range(len(before) // 8):
        fd, events = struct.unpack_from("<iH", before, i * 8)
        entry = {"fd": fd, "events": names.flags(names.POLL, events)}
        if len(after) >= i * 8 + 8:
            entry["revents"] = names.flags(names.POLL, struct.unpack_from("<H", after, i * 8 + 6)[0])
        told.append(entry)
    return told


def fd_set(raw: bytes) -> list[int]:
    """The descriptors of an fd_set (select(2)): bit n of the array."""
    return [byte * 8 + bit for byte, bits in enumerate(raw) for bit in range(8) if bits >> bit & 1]
