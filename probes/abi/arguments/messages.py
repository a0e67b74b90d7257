"""Defines arguments that are messages: struct msghdr, arrays of struct mmsghdr, and the control messages in them.

Source: sendmsg(2), recvmsg(2), sendmmsg(2), recvmmsg(2), cmsg(3), ip(7), ipv6(7), unix(7), socket(7).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from probes.abi import layouts, names
from probes.abi.arguments.addresses import decode_address
from probes.abi.arguments.argument import Argument, Fetched, format_pointer
from probes.abi.arguments.buffers import decode_iovecs, fetch_iovecs
from probes.abi.arguments.fetcher import ADDRESS, EVIDENCE, Fetcher
from probes.abi.arguments.values import SOCKET_ADDRESS, Value, decode_value, structure
from probes.abi.layouts import CMSGHDR, MMSGHDR, MSGHDR
from probes.abi.record import Decoded
from probes.abi.sockaddr import describe

_CONTROL = EVIDENCE.control
_ALIGNMENT = {32: 4, 64: 8}  # of a control message


def _decode_rights(raw: bytes, size: int, _word: int) -> Decoded:
    return list(struct.unpack(f"<{size // 4}i", raw)) if len(raw) == size and size % 4 == 0 else None


def _decode_error(raw: bytes, size: int, _word: int) -> Decoded:
    """Decode struct sock_extended_err and the address of the node that the error came from (recv(2) MSG_ERRQUEUE)."""
    layout = layouts.SOCK_EXTENDED_ERR
    if len(raw) != size or size < layout.size:
        return None
    offender = raw[layout.size :]
    return layout.decode(raw) | ({"offender": describe(offender)} if offender else {})


_ERROR = Value(layouts.SOCK_EXTENDED_ERR.size + ADDRESS, _decode_error)
#: Control messages whose data is no int: its type.
_VALUES: dict[str, Value] = {
    "SCM_RIGHTS": Value(_CONTROL, _decode_rights), "SCM_CREDENTIALS": structure(layouts.UCRED),
    "SO_TIMESTAMP_OLD": structure(layouts.TIMEVAL), "SO_TIMESTAMPNS_OLD": structure(layouts.TIMESPEC),
    "SO_TIMESTAMP_NEW": structure(layouts.TIMEVAL_NEW), "SO_TIMESTAMPNS_NEW": structure(layouts.TIMESPEC_NEW),
    "SO_TIMESTAMPING_OLD": structure(layouts.SCM_TIMESTAMPING),
    "SO_TIMESTAMPING_NEW": structure(layouts.SCM_TIMESTAMPING64),
    "PACKET_AUXDATA": structure(layouts.TPACKET_AUXDATA),
    "IP_PKTINFO": structure(layouts.IN_PKTINFO), "IPV6_PKTINFO": structure(layouts.IN6_PKTINFO),
    "IP_RECVERR": _ERROR, "IPV6_RECVERR": _ERROR,
    "IP_ORIGDSTADDR": SOCKET_ADDRESS, "IPV6_ORIGDSTADDR": SOCKET_ADDRESS,
}  # fmt: skip


def decode_control(raw: bytes, size: int, word: int) -> list[dict[str, Decoded]]:
    """Decode the control messages of a buffer of `size` bytes, of which `raw` were fetched (cmsg(3) CMSG_NXTHDR)."""
    decoded: list[dict[str, Decoded]] = []
    header, at = CMSGHDR[word], 0
    raw = raw[:size]
    while len(raw) - at >= header.size:
        length, level, number = header.unpack(raw, at)
        name = names.control(level, number)
        message: dict[str, Decoded] = {"len": length, "level": names.level(level), "type": name}
        decoded.append(message)
        if length < header.size:
            break
        data = raw[at + header.size : at + length]
        message["data"] = decode_value(_VALUES.get(str(name)), data, length - header.size, word)
        at += (length + _ALIGNMENT[word] - 1) // _ALIGNMENT[word] * _ALIGNMENT[word]
    if raw[at:] and not (decoded and "data" not in decoded[-1]):
        decoded.append({"raw": raw[at:].hex()})
    return decoded


def _fetch_message(fetcher: Fetcher, name: str, raw: bytes, left: int | None) -> None:
    """Fetch what a msghdr points to; `left` as in `fetch_iovecs`."""
    layout = MSGHDR[fetcher.word]
    if len(raw) < layout.size:
        return
    address, length, iov, count, control, room, _flags = layout.unpack(raw)
    fetcher.take(f"{name}.name", address, min(length, ADDRESS))
    fetch_iovecs(fetcher, f"{name}.", iov, count, left)
    fetcher.take(f"{name}.control", control, min(room, fetcher.limits.control))


def _fetch_room(fetcher: Fetcher, name: str, raw: bytes) -> None:
    """Fetch the array of buffers that a msghdr receives into, not what is in them."""
    layout = MSGHDR[fetcher.word]
    if len(raw) >= layout.size:
        _address, _length, iov, count, *_rest = layout.unpack(raw)
        fetch_iovecs(fetcher, f"{name}.", iov, count, 0)


def _fetch_header(fetcher: Fetcher, name: str, at: int) -> bytes:
    return fetcher.take(name, fetcher.words[at], MSGHDR[fetcher.word].size)


def _fetch_array(fetcher: Fetcher, name: str, at: int, count: int) -> list[tuple[str, bytes]]:
    """Fetch an array of mmsghdr: the blob's name and the bytes of each whole entry."""
    raw = fetcher.take(name, fetcher.words[at], min(count, fetcher.limits.messages) * MMSGHDR[fetcher.word].size)
    return list(_entries(name, raw, fetcher.word).items())


def _entries(name: str, raw: bytes, word: int) -> dict[str, bytes]:
    """Split an array into its whole entries, by the name of their blobs. An mmsghdr begins with its msghdr."""
    stride = MMSGHDR[word].size
    return {f"{name}.{i}": raw[i * stride : (i + 1) * stride] for i in range(len(raw) // stride)}


def _decode_sent(name: str, blobs: Mapping[str, bytes], word: int) -> dict[str, Decoded]:
    """Decode the msghdr of a message to send; empty if it could not be fetched (sendmsg(2))."""
    if len(raw := blobs.get(name, b"")) < MSGHDR[word].size:
        return {}
    address, namelen, iov, count, where, room, flags = MSGHDR[word].unpack(raw)
    control = blobs.get(f"{name}.control")
    return {
        "name": decode_address(blobs.get(f"{name}.name"), namelen, address),
        "namelen": namelen,
        "iov": decode_iovecs(f"{name}.", blobs, blobs, None, word) or format_pointer(iov),
        "iovlen": count,
        "control": format_pointer(where) if control is None else decode_control(control, room, word),
        "controllen": room,
        "flags": names.message_flags(flags),
    }


def _decode_received(
    name: str, before: Mapping[str, bytes], after: Mapping[str, bytes], length: int, word: int
) -> dict[str, Decoded]:
    """Decode the msghdr of a message of `length` bytes; as it was at entry if nothing was received.

    recvmsg(2): msg_namelen, msg_controllen and msg_flags are written. The name may be longer than its room.
    """
    layout = MSGHDR[word]
    asked, written = before.get(name, b""), after.get(name, b"")
    if len(asked) < layout.size:
        return {}
    address, namelen, iov, count, where, room, flags = layout.unpack(asked)
    iovecs = decode_iovecs(f"{name}.", before, after, length, word) or format_pointer(iov)
    if len(written) < layout.size:
        entry: dict[str, Decoded] = {"name": format_pointer(address), "namelen": namelen, "iov": iovecs}
        control: dict[str, Decoded] = {"control": format_pointer(where), "controllen": room}
        return entry | {"iovlen": count} | control | {"flags": names.message_flags(flags)}
    _, known, _, _, _, used, flags = layout.unpack(written)
    received = after.get(f"{name}.control")
    return {
        "name": decode_address(after.get(f"{name}.name"), min(namelen, known), address),
        "namelen": {"in": namelen, "out": known},
        "iov": iovecs,
        "iovlen": count,
        "control": format_pointer(where) if received is None else decode_control(received, min(used, room), word),
        "controllen": {"in": room, "out": used},
        "flags": names.message_flags(flags),
    }


def message_in(name: str) -> Argument:
    """Make an argument that is the msghdr of a message to send."""

    def fetch(fetcher: Fetcher, name: str, at: int) -> None:
        _fetch_message(fetcher, name, _fetch_header(fetcher, name, at), None)

    def decode(fetched: Fetched, index: int) -> Decoded:
        return _decode_sent(name, fetched.before, fetched.word) or fetched.pointer(index)

    return Argument(name, decode, entry=fetch)


def message_out(name: str) -> Argument:
    """Make an argument that is the msghdr of a message to receive."""

    def fetch_room(fetcher: Fetcher, name: str, at: int) -> None:
        _fetch_room(fetcher, name, _fetch_header(fetcher, name, at))

    def fetch(fetcher: Fetcher, name: str, at: int) -> None:
        _fetch_message(fetcher, name, _fetch_header(fetcher, name, at), fetcher.ret)

    def decode(fetched: Fetched, index: int) -> Decoded:
        message = _decode_received(name, fetched.before, fetched.after, fetched.ret or 0, fetched.word)
        return message or fetched.pointer(index)

    return Argument(name, decode, entry=fetch_room, exit=fetch)


def _with_entries(name: str, blobs: Mapping[str, bytes], word: int) -> Mapping[str, bytes]:
    return {**blobs, **_entries(name, blobs.get(name, b""), word)}


def _lengths(name: str, fetched: Fetched) -> Iterator[dict[str, int]]:
    """Yield {"len": msg_len} for each entry that the call wrote, then empty dictionaries."""
    for raw in _entries(name, fetched.after.get(name, b""), fetched.word).values():
        yield {"len": MMSGHDR[fetched.word].unpack(raw)[1]}
    while True:
        yield {}


def messages_in(name: str, count: int) -> Argument:
    """Make the argument that is the array of mmsghdr sendmmsg reads.

    The call writes msg_len of as many entries as it returns. `count` is the index of the array's length.
    """

    def fetch(fetcher: Fetcher, name: str, at: int) -> None:
        for entry, raw in _fetch_array(fetcher, name, at, fetcher.words[count]):
            _fetch_message(fetcher, entry, raw, None)

    def fetch_lengths(fetcher: Fetcher, name: str, at: int) -> None:
        _fetch_array(fetcher, name, at, fetcher.ret)

    def decode(fetched: Fetched, index: int) -> Decoded:
        blobs = _with_entries(name, fetched.before, fetched.word)
        entries = _entries(name, fetched.before.get(name, b""), fetched.word)
        pairs = zip(entries, _lengths(name, fetched), strict=False)
        decoded = [_decode_sent(entry, blobs, fetched.word) | length for entry, length in pairs]
        return decoded or fetched.pointer(index)

    return Argument(name, decode, entry=fetch, exit=fetch_lengths)


def messages_out(name: str, count: int) -> Argument:
    """Make the argument that is the array of mmsghdr recvmmsg fills: as many entries as it returns."""

    def fetch_room(fetcher: Fetcher, name: str, at: int) -> None:
        for entry, raw in _fetch_array(fetcher, name, at, fetcher.words[count]):
            _fetch_room(fetcher, entry, raw)

    def fetch(fetcher: Fetcher, name: str, at: int) -> None:
        for entry, raw in _fetch_array(fetcher, name, at, fetcher.ret):
            _fetch_message(fetcher, entry, raw, MMSGHDR[fetcher.word].unpack(raw)[1])

    def decode(fetched: Fetched, index: int) -> Decoded:
        word = fetched.word
        before, after = (_with_entries(name, blobs, word) for blobs in (fetched.before, fetched.after))
        entries = _entries(name, fetched.before.get(name, b""), word)
        decoded = [
            _decode_received(entry, before, after, length.get("len", 0), word) | length
            for entry, length in zip(entries, _lengths(name, fetched), strict=False)
        ]
        return decoded or fetched.pointer(index)

    return Argument(name, decode, entry=fetch_room, exit=fetch)
