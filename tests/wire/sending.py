"""Sends in one way whatever the route: sendto carries send, too."""

from __future__ import annotations

from probes.entry.calls import Socket
from probes.entry.gate import Result
from probes.testing import need


def send(sock: Socket, load: bytes, flags: int = 0, to: bytes = b"") -> Result:
    """Makes sendto, without an address if none is given; it must take all of the load."""
    sent = try_to_send(sock, load, flags, to)
    need(sent, returns=len(load))
    return sent


def try_to_send(sock: Socket, load: bytes, flags: int = 0, to: bytes = b"") -> Result:
    """Makes sendto, which may be refused."""
    memory = sock.calls.memory
    address = memory.put(to) if to else 0
    return sock.calls.make("sendto", sock.fd, memory.put(load) if load else 0, len(load), flags, address, len(to))
