"""Binds sockets to ephemeral ports."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from probes.entry.calls import Socket
from probes.entry.gate import Result
from probes.testing import need
from probes.testing.socket_kinds import SocketKind

#: The sysctls of ports.
RANGE, RESERVED = "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports"


def port_in(name: bytes) -> int:
    """Returns the port of a socket address in bytes."""
    port: int = struct.unpack(">H", name[2:4])[0]
    return port


@dataclass(frozen=True)
class Ephemeral:
    """Results of binding sockets to port 0, and the ports of those that were bound."""

    results: list[Result]
    ports: list[int]

    def port(self, number: int) -> int:
        """Returns the port of one of the sockets. Raises SetUpRefused: it was not bound."""
        need(self.results[number], "bind to port 0")
        return self.ports[self.results[:number].count(0)]


def bind_ephemeral(sockets: Sequence[Socket], kind: SocketKind, host: str = "loopback") -> Ephemeral:
    """Binds each socket to port 0 of a host, then reads the port of each from getsockname."""
    results = [socket.bind(kind.address(0, host)) for socket in sockets]
    bound = [socket for socket, result in zip(sockets, results, strict=True) if result == 0]
    return Ephemeral(results, [port_in(socket.sockname().bytes) for socket in bound])
