"""Kinds of sockets as named values: what tests are parametrized with."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from probes.abi import sockaddr

#: Hosts by what they mean, for each family.
_HOSTS = {
    socket.AF_INET: {"any": "0.0.0.0", "loopback": "127.0.0.1"},
    socket.AF_INET6: {"any": "::", "loopback": "::1"},
}


@dataclass(frozen=True)
class SocketKind:
    """A family, a type and a protocol, with a name that tests and cases show."""

    name: str
    family: int
    type: int
    protocol: int = 0

    @property
    def triple(self) -> tuple[int, int, int]:
        """The three words of socket(2)."""
        return self.family, self.type, self.protocol

    def address(self, port: int, host: str = "loopback") -> bytes:
        """An address of the kind's family: "loopback", "any", or a host as text."""
        host = _HOSTS[socket.AddressFamily(self.family)].get(host, host)
        return sockaddr.inet(host, port) if self.family == socket.AF_INET else sockaddr.inet6(host, port)

    def __str__(self) -> str:
        return self.name


TCP = SocketKind("tcp", socket.AF_INET, socket.SOCK_STREAM)
TCP6 = SocketKind("tcp6", socket.AF_INET6, socket.SOCK_STREAM)
UDP = SocketKind("udp", socket.AF_INET, socket.SOCK_DGRAM)
UDP6 = SocketKind("udp6", socket.AF_INET6, socket.SOCK_DGRAM)
#: A raw socket of a protocol that nobody else uses here.
RAW = SocketKind("raw", socket.AF_INET, socket.SOCK_RAW, 253)
RAW6 = SocketKind("raw6", socket.AF_INET6, socket.SOCK_RAW, 253)
#: Every protocol of AF_NETLINK makes the same sockets; 0 is NETLINK_ROUTE.
NETLINK = SocketKind("netlink", socket.AF_NETLINK, socket.SOCK_RAW)
#: Protocol 0: no packet is received.
PACKET = SocketKind("packet", socket.AF_PACKET, socket.SOCK_RAW)
PACKET_DGRAM = SocketKind("packet-dgram", socket.AF_PACKET, socket.SOCK_DGRAM)
UNIX_STREAM = SocketKind("unix-stream", socket.AF_UNIX, socket.SOCK_STREAM)
UNIX_DGRAM = SocketKind("unix-dgram", socket.AF_UNIX, socket.SOCK_DGRAM)
UNIX_SEQPACKET = SocketKind("unix-seqpacket", socket.AF_UNIX, socket.SOCK_SEQPACKET)

UNIX = (UNIX_STREAM, UNIX_DGRAM, UNIX_SEQPACKET)
WITH_PORTS = (TCP, TCP6, UDP, UDP6)
CONNECTING = (TCP, TCP6)
