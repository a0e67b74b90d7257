"""Names the kinds of sockets that tests are parametrized with: family, type and protocol."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from probes.abi import sockaddr

#: Hosts by name for each family; "any" is the wildcard address.
_HOSTS = {
    socket.AF_INET: {"any": "0.0.0.0", "loopback": "127.0.0.1"},
    socket.AF_INET6: {"any": "::", "loopback": "::1"},
}


@dataclass(frozen=True)
class SocketKind:
    """Describes a socket by family, type and protocol. `name` is what test ids and cases show."""

    name: str
    family: int
    type: int
    protocol: int = 0

    @property
    def triple(self) -> tuple[int, int, int]:
        """Returns the three arguments of socket(2)."""
        return self.family, self.type, self.protocol

    def address(self, port: int, host: str = "loopback") -> bytes:
        """Returns a sockaddr of AF_INET or AF_INET6 for "loopback", "any" (the wildcard address) or a numeric host."""
        host = _HOSTS[socket.AddressFamily(self.family)].get(host, host)
        return sockaddr.inet(host, port) if self.family == socket.AF_INET else sockaddr.inet6(host, port)

    def __str__(self) -> str:
        """Returns the name."""
        return self.name


TCP = SocketKind("tcp", socket.AF_INET, socket.SOCK_STREAM)
TCP6 = SocketKind("tcp6", socket.AF_INET6, socket.SOCK_STREAM)
UDP = SocketKind("udp", socket.AF_INET, socket.SOCK_DGRAM)
UDP6 = SocketKind("udp6", socket.AF_INET6, socket.SOCK_DGRAM)
UDPLITE = SocketKind("udplite", socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDPLITE)
UDPLITE6 = SocketKind("udplite6", socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_UDPLITE)
#: Protocol 253 is reserved for experiments (RFC 3692): no other traffic of a test has it.
RAW = SocketKind("raw", socket.AF_INET, socket.SOCK_RAW, 253)
RAW6 = SocketKind("raw6", socket.AF_INET6, socket.SOCK_RAW, 253)
#: Protocol 0 is NETLINK_ROUTE; sockets of every netlink protocol are alike to the tests that use this.
NETLINK = SocketKind("netlink", socket.AF_NETLINK, socket.SOCK_RAW)
#: With protocol 0 a packet socket receives nothing.
PACKET = SocketKind("packet", socket.AF_PACKET, socket.SOCK_RAW)
PACKET_DGRAM = SocketKind("packet-dgram", socket.AF_PACKET, socket.SOCK_DGRAM)
UNIX_STREAM = SocketKind("unix-stream", socket.AF_UNIX, socket.SOCK_STREAM)
UNIX_DGRAM = SocketKind("unix-dgram", socket.AF_UNIX, socket.SOCK_DGRAM)
UNIX_SEQPACKET = SocketKind("unix-seqpacket", socket.AF_UNIX, socket.SOCK_SEQPACKET)

UNIX = (UNIX_STREAM, UNIX_DGRAM, UNIX_SEQPACKET)
#: Kinds whose addresses have a port.
WITH_PORTS = (TCP, TCP6, UDP, UDP6)
#: Kinds that listen and connect over a network.
CONNECTING = (TCP, TCP6)
