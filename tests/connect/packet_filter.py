"""Drops every packet that the caller's network namespace sends, by a chain of nf_tables (nft(8), nfnetlink)."""

from __future__ import annotations

import os
import socket
import struct
from errno import EPROTONOSUPPORT

from probes.testing import need, not_applicable
from probes.testing.prepared import Prepared
from probes.testing.socket_kinds import SocketKind
from probes.testing.states import Prepare

_NETFILTER = SocketKind("netfilter", socket.AF_NETLINK, socket.SOCK_RAW, 12)
#: include/uapi/linux/netfilter/nfnetlink.h, nf_tables.h: types of messages, of the subsystem nf_tables the last two.
_BEGIN, _END, _NEW_TABLE, _NEW_CHAIN = 16, 17, 0xA00, 0xA03
_REQUEST, _ACK, _CREATE, _NESTED = 1, 4, 0x400, 0x8000
#: NFPROTO_INET: IPv4 and IPv6. NF_INET_LOCAL_OUT, NF_DROP.
_INET, _LOCAL_OUT, _DROP = 1, 3, 0
_HEAD = struct.Struct("<IHHII")


def drop_all(prepare: Prepare) -> None:
    """Installs the chain. Not applicable where the kernel has no nf_tables, or refuses it to the caller."""
    end = prepare("none")
    end.kind = _NETFILTER
    result = end.calls.socket(*_NETFILTER.triple)
    if result == -EPROTONOSUPPORT:
        not_applicable("NETLINK_NETFILTER: a packet filter")
    fd = need(result, "socket")
    hook = _attribute(1, struct.pack(">I", _LOCAL_OUT)) + _attribute(2, struct.pack(">I", 0))
    chain = [
        _attribute(1, b"t\0"), _attribute(3, b"c\0"), _attribute(4 | _NESTED, hook),
        _attribute(5, struct.pack(">I", _DROP)), _attribute(7, b"filter\0"),
    ]  # fmt: skip
    end.send(
        fd,
        _message(_BEGIN, 0, 10) + _message(_NEW_TABLE, _INET, 0, _attribute(1, b"t\0"))
        + _message(_NEW_CHAIN, _INET, 0, b"".join(chain)) + _message(_END, 0, 10),
    )  # fmt: skip
    for _ in (_NEW_TABLE, _NEW_CHAIN):
        if error := _answer(end, fd):
            not_applicable(f"nf_tables, a packet filter: {os.strerror(-error)}")
    need(end.calls.close(fd), "close")


def _message(type_: int, family: int, resource: int, attributes: bytes = b"") -> bytes:
    """Packs a message: struct nlmsghdr, struct nfgenmsg, and attributes."""
    flags = _REQUEST if type_ in (_BEGIN, _END) else _REQUEST | _ACK | _CREATE
    body = struct.pack(">BBH", family, 0, resource) + attributes
    return _HEAD.pack(_HEAD.size + len(body), type_, flags, 1, 0) + body


def _attribute(number: int, value: bytes) -> bytes:
    """Packs a struct nlattr with its value, filled up to four bytes."""
    return (struct.pack("<HH", 4 + len(value), number) + value).ljust(4 + -(-len(value) // 4) * 4, b"\0")


def _answer(end: Prepared, fd: int) -> int:
    """Returns 0 or the error of the next answer (struct nlmsgerr)."""
    end.wait(fd)
    room = end.calls.memory.alloc(512)
    need(end.calls.make("recv", fd, room, room.size, 0), "recv")
    (error,) = struct.unpack_from("<i", room.read(), _HEAD.size)
    return int(error)
