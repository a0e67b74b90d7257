"""Two TCP sockets that connect to each other: the request of the first is ignored, that of the second meets it."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from probes.testing import need
from probes.testing.prepared import Prepared
from probes.testing.socket_kinds import SocketKind
from probes.testing.states import Prepare

_SOL, _REUSEPORT = socket.SOL_SOCKET, socket.SO_REUSEPORT


@dataclass(frozen=True)
class Both:
    """Holds two sockets that are bound to the client's and to the server's address.

    Another socket listens at the server's address, and ignores the first one's request, as its queue is full.
    """

    end: Prepared
    first: int
    second: int


def both(prepare: Prepare, kind: SocketKind, flags: int = 0) -> Both:
    """Makes them. `flags` (SOCK_NONBLOCK) are those of the first. Raises SetUpRefused."""
    end = prepare("unbound", kind)
    listening, second = end.new(), end.new()
    for fd in (listening, second):
        need(end.calls.setsockopt(fd, _SOL, _REUSEPORT, 1), "SO_REUSEPORT")
        need(end.calls.bind(fd, end.server), "bind")
    need(end.calls.listen(listening, 0), "listen")
    end.connect(end.new(), end.server)
    end.wait(listening)
    return Both(end, end.bound(end.client, flags), second)
