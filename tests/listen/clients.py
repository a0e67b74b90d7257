"""Clients of a listening socket, which connect by untraced calls until its queue is full."""

from __future__ import annotations

from socket import SOCK_NONBLOCK

from probes.entry.calls import Calls
from probes.testing.prepared import TCPS, Prepared
from probes.testing.settling import Settling
from probes.testing.socket_kinds import TCP, TCP6, UNIX_SEQPACKET, UNIX_STREAM
from probes.testing.states import CLIENT_PORT
from tests.names.name_bytes import name

#: Kinds of sockets that listen.
STREAMS = (TCP, TCP6, UNIX_STREAM, UNIX_SEQPACKET)
#: States of a socket that has been connected, or is.
CONNECTED = (
    "connecting", "connected-by-name", "with-data", "half-closed", "peer-half-closed", "shut-down", "peer-closed",
    "reset", "time-wait",
)  # fmt: skip
#: More clients than any queue of these tests takes.
_MOST = 12


class Clients:
    """Connects clients to listening sockets."""

    def __init__(self, calls: Calls) -> None:
        """Makes what waits until a handshake that was begun has come as far as it can."""
        self.settle = Settling(calls).settle

    def connect(self, end: Prepared) -> bool:
        """Connects one more client to the server's address, and returns True if its connection is there at once."""
        fd = end.new(SOCK_NONBLOCK)
        result = end.calls.connect(fd, end.server)
        if not end.of(TCPS):
            return result == 0
        self.settle()
        there = end.calls.name("getpeername", fd).result == 0
        if not there:
            # Its SYN, sent again after a second, would take a place that is free then.
            end.close_one(fd)
        return there

    def fill(self, end: Prepared) -> int:
        """Connects clients until one is not connected at once, and returns how many are: at most 12."""
        return next((count for count in range(_MOST) if not self.connect(end)), _MOST)

    def named(self, end: Prepared, number: int) -> bytes:
        """Connects one client that has a name of its own, and returns the name."""
        assert end.kind is not None
        own = name(end.kind, CLIENT_PORT + number)
        end.connect(end.bound(own), end.server)
        return own
