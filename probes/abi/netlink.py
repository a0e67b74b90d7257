"""Decodes the messages of netlink: headers, the structures behind them, and trees of attributes.

Source: netlink(7), rtnetlink(7), sock_diag(7); include/uapi/linux/netlink.h, rtnetlink.h, if_link.h, if_addr.h,
neighbour.h, fib_rules.h, genetlink.h, inet_diag.h, unix_diag.h, xfrm.h, audit.h, netfilter/.
"""

from __future__ import annotations

from typing import Final

from probes.abi import names
from probes.abi import netlink_types as types
from probes.abi.netlink_audit import is_text
from probes.abi.netlink_layouts import TEXT, Message, with_hosts
from probes.abi.netlink_netfilter import table_of_kind
from probes.abi.netlink_types import ATTRIBUTE, HEADER
from probes.abi.record import Decoded
from probes.abi.sockaddr import printable

_ERROR, _DONE = 2, 3
_FIRST_OF_PROTOCOL: Final = 0x10
_NESTED, _BYTE_ORDER = 0x8000, 0x4000
#: How deep a tree of attributes is decoded: one that a program made up may be deeper than Python's stack.
_DEPTH: Final = 8


def decode_messages(raw: bytes, size: int, protocol: int, word: int = 64) -> list[dict[str, Decoded]]:
    """Decode the messages in a buffer of `size` bytes of a socket of this protocol, as far as they were fetched.

    The word size of the program decides how structures are padded. A last entry {"more": N} counts bytes that are no
    whole message.
    """
    found: list[dict[str, Decoded]] = []
    at = 0
    while len(raw) - at >= HEADER.size:
        length, number, *_ = HEADER.unpack(raw, at)
        if protocol == types.AUDIT and is_text(number) and length + HEADER.size == len(raw):
            length = len(raw)  # The records of the kernel leave their header out of the length (audit_log_end).
        if not HEADER.size <= length <= len(raw) - at:
            found.append(decode_header(raw[at : at + HEADER.size], protocol))
            at += HEADER.size
            break
        found.append(_message(raw[at : at + length], protocol, word))
        at += _aligned(length)
    if at < size:
        found.append({"more": size - at})
    return found


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def decode_header(raw: bytes, protocol: int) -> dict[str, Decoded]:
    """Decode a struct nlmsghdr."""
    length, number, flags, seq, pid = HEADER.unpack(raw)
    name = types.type_name(protocol, number)
    return {"len": length, "type": name, "flags": types.flags_of(name, number, flags), "seq": seq, "pid": pid}


def _message(raw: bytes, protocol: int, word: int) -> dict[str, Decoded]:
    decoded = decode_header(raw, protocol)
    number, flags, payload = HEADER.unpack(raw)[1], HEADER.unpack(raw)[2], raw[HEADER.size :]
    if not payload:
        return decoded
    if number == _DONE and len(payload) >= 4:
        return decoded | {"body": int.from_bytes(payload[:4], "little", signed=True)} | _rest(payload[4:], "")
    if number == _ERROR and len(payload) >= 4:
        return decoded | _error(payload, protocol, flags, word)
    kind = types.message_of(protocol, number, flags, payload, word) if number >= _FIRST_OF_PROTOCOL else None
    if kind is None:
        return decoded | {"data": payload.hex()}
    return decoded | _body(kind, payload)


def _body(kind: Message, payload: bytes) -> dict[str, Decoded]:
    layout = kind.layout
    if len(payload) < layout.size:
        if kind.growing:
            return {"body": layout.decode_beginning(payload)}
        first, *_ = layout.members  # struct rtgenmsg, the family alone, is enough for a request
        return {"body": ({first: names.family(payload[0])} if first.endswith("family") else {}) | {"cut": True}}
    body = layout.decode(payload[: layout.size])
    decoded = ({"body": body} if body else {}) | _rest(payload[_aligned(layout.size) :], kind.attributes)
    return dict(with_hosts(decoded)) if kind.hosts else decoded


def _rest(raw: bytes, table: str) -> dict[str, Decoded]:
    if table == TEXT:
        return {"text": printable(raw.removesuffix(b"\0"))}
    attributes = decode_attributes(raw, table, _DEPTH)
    return {"attrs": attributes} if attributes else {}


def _error(payload: bytes, protocol: int, flags: int, word: int) -> dict[str, Decoded]:
    """Decode struct nlmsgerr: the error, the request, and of an extended acknowledgement the attributes."""
    body: dict[str, Decoded] = {"error": int.from_bytes(payload[:4], "little", signed=True)}
    request = payload[4 : 4 + HEADER.size]
    if len(request) < HEADER.size:
        return {"body": body | {"cut": True}}
    header = decode_header(request, protocol)
    whole = payload[4 : 4 + header["len"]]
    # An acknowledgement has the header alone, so has one with NLM_F_CAPPED.
    capped = flags & types.CAPPED or not body["error"] or not HEADER.size <= len(whole) == header["len"]
    body["msg"] = header if capped or HEADER.unpack(request)[1] == _ERROR else _message(whole, protocol, word)
    end = 4 + (HEADER.size if capped else _aligned(len(whole)))
    rest = payload[end:] if flags & types.ACK_TLVS else b""
    return {"body": body} | _rest(rest, "NLMSGERR_ATTR")


def decode_attributes(raw: bytes, table: str, depth: int) -> list[dict[str, Decoded]]:
    """Decode a sequence of attributes, their types named by a table; what is no attribute is a last entry with "raw"."""
    found: list[dict[str, Decoded]] = []
    at = 0
    while len(raw) - at >= ATTRIBUTE.size:
        length, number = ATTRIBUTE.unpack_from(raw, at)
        if not ATTRIBUTE.size <= length <= len(raw) - at:
            break
        found.append(_attribute(number, raw[at + ATTRIBUTE.size : at + length], table, depth, found))
        at += _aligned(length)
    if raw[at:].strip(b"\0"):
        found.append({"raw": raw[at:].hex()})
    return found


def _attribute(
    number: int, value: bytes, table: str, depth: int, before: list[dict[str, Decoded]]
) -> dict[str, Decoded]:
    kind = number & ~(_NESTED | _BYTE_ORDER)
    name = types.attribute_name(table, kind)
    marks = [text for bit, text in ((_NESTED, "NLA_F_NESTED"), (_BYTE_ORDER, "NLA_F_NET_BYTEORDER")) if number & bit]
    shown = "|".join([*marks, name if isinstance(name, str) else hex(name)]) if marks else name
    decoded: dict[str, Decoded] = {"len": ATTRIBUTE.size + len(value), "type": shown}
    if not value:
        return decoded
    inner = types.nested_table(table, name) or table_of_kind(name, before)
    if depth > 1 and (inner is not None or number & _NESTED):
        nested = decode_attributes(value, inner or "", depth - 1)
        if nested and "raw" not in nested[-1]:
            return decoded | {"attrs": nested}
    return decoded | {"value": types.attribute_value(name, value)}
