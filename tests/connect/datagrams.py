"""Sends and receives datagrams by untraced calls, to see where those of a connected socket go and come from."""

from __future__ import annotations

import socket

from probes.testing import need
from probes.testing.prepared import Prepared
from probes.testing.socket_kinds import UDP, UDP6, UNIX_DGRAM
from tests.names.name_bytes import name

DATAGRAMS = (UDP, UDP6, UNIX_DGRAM)
_ROOM = 64


def third(end: Prepared, port: int = 5002) -> tuple[int, bytes]:
    """Makes one more socket with an address, and returns both."""
    assert end.kind is not None
    address = name(end.kind, port)
    return end.bound(address), address


def send(end: Prepared, fd: int, data: bytes, address: bytes = b"") -> int:
    """Sends a datagram, to the peer if no address is given, and returns the result."""
    calls = end.calls
    where = calls.address(address) if address else 0
    return calls.make("sendto", fd, calls.pointer(data), len(data), socket.MSG_NOSIGNAL, where, len(address))


def until(end: Prepared, fd: int, last: bytes) -> list[bytes]:
    """Receives datagrams up to one that is `last`, and returns those before it."""
    room, found = end.calls.memory.alloc(_ROOM), list[bytes]()
    while not found or found[-1] != last:
        end.wait(fd)
        received = need(end.calls.make("recv", fd, room, _ROOM, 0), "recv")
        found.append(room.read()[:received])
    return found[:-1]


def queued(end: Prepared, fd: int) -> list[bytes]:
    """Receives every datagram that is queued."""
    room, found = end.calls.memory.alloc(_ROOM), list[bytes]()
    while (received := end.calls.make("recv", fd, room, _ROOM, socket.MSG_DONTWAIT)) >= 0:
        found.append(room.read()[:received])
    return found
