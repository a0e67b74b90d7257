"""Packs names of sockets, independently of the suite's own encoder."""

from __future__ import annotations

import socket
import struct

from probes.testing.socket_kinds import SocketKind


def name(kind: SocketKind, port: int) -> bytes:
    """Packs the name of an end: struct sockaddr_in, sockaddr_in6, or sockaddr_un with the port as an abstract name."""
    if kind.family == socket.AF_INET:
        return struct.pack("<H", kind.family) + struct.pack(">HI8x", port, 0x7F000001)
    if kind.family == socket.AF_INET6:
        return struct.pack("<H", kind.family) + struct.pack(">HI15xB", port, 0, 1) + bytes(4)
    return struct.pack("<H", kind.family) + b"\0%d" % port
