"""Sends ICMP errors about datagrams that a socket of the caller has sent, as a router or the other host would."""

from __future__ import annotations

import socket
import struct

from probes.testing import need
from probes.testing.checksum import checksum
from probes.testing.prepared import Prepared
from probes.testing.socket_kinds import SocketKind
from probes.testing.states import Prepare

#: A raw socket for ICMP packets.
ICMP = SocketKind("icmp", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
#: Types and codes of ICMP (RFC 792).
UNREACHABLE, PARAMETER_PROBLEM = 3, 12
NO_PROTOCOL, TOO_LONG = 2, 4


def icmp(kind: int, code: int, rest: int, data: bytes) -> bytes:
    """Packs an ICMP message with its checksum; `rest` are the four bytes behind the checksum."""
    body = struct.pack(">BBHI", kind, code, 0, rest) + data
    return body[:2] + struct.pack(">H", checksum(body)) + body[4:]


def packet_of(source: bytes, destination: bytes, protocol: int) -> bytes:
    """Packs the head of a packet between two struct sockaddr_in: the IPv4 header, and the ports with 4 bytes behind them."""
    head = struct.pack(">BBHHHBBH", 0x45, 0, 28, 1, 0, 64, protocol, 0) + source[4:8] + destination[4:8]
    head = head[:10] + struct.pack(">H", checksum(head)) + head[12:]
    return head + source[2:4] + destination[2:4] + struct.pack(">HH", 8, 0)


def report(prepare: Prepare, end: Prepared, protocol: int, kind: int, code: int, rest: int = 0) -> None:
    """Sends an ICMP error about a datagram from `end.client` to `end.server`. Raises SetUpRefused."""
    sender = prepare.another(0)("unbound", ICMP)
    message = sender.calls.memory.put(icmp(kind, code, rest, packet_of(end.client, end.server, protocol)))
    name = sender.calls.memory.put(end.client)
    need(
        sender.calls.make("sendto", sender.fd, message, message.size, 0, name, name.size),
        "sendto",
        returns=message.size,
    )
    sender.close()
