"""shutdown(2) of AF_UNIX sockets of which a direction is shut down already, by either end."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from errno import EAGAIN, EPIPE
from itertools import product
from select import POLLHUP, POLLIN, POLLOUT

import pytest

from probes.testing import behaviour
from probes.testing.readiness import POLLRDHUP, WANTED
from probes.testing.socket_kinds import UNIX_SEQPACKET, UNIX_STREAM
from probes.testing.states import DATA

HOWS = {"read": socket.SHUT_RD, "write": socket.SHUT_WR, "both": socket.SHUT_RDWR}
NOW = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


@dataclass
class Directions:
    """Says of an end of a connection whether it receives and sends."""

    receives: bool = True
    sends: bool = True

    def shut(self, how: str, by_peer: bool = False) -> None:
        """Shuts down directions of this end: what its peer reads no more, this end cannot send."""
        if how != ("read" if by_peer else "write"):
            self.receives = False
        if how != ("write" if by_peer else "read"):
            self.sends = False

    def found(self) -> list[object]:
        """Returns what recv and send of this end return, and what poll does: one descriptor, and its events."""
        events = POLLOUT | (0 if self.receives else POLLIN | POLLRDHUP)
        events |= 0 if self.receives or self.sends else POLLHUP
        return [-EAGAIN if self.receives else 0, len(DATA) if self.sends else -EPIPE, [1, events]]


@behaviour("teardown.shutdown.twice", "shutdown(2); unix_shutdown RCV_SHUTDOWN, SEND_SHUTDOWN `peer_mode`; unix_poll")
@pytest.mark.parametrize("kind", [UNIX_STREAM, UNIX_SEQPACKET], ids=str)
def test_twice(kind, prepare, readiness, calls, memory, expect):
    """After two calls of shutdown on either end of an AF_UNIX connection, what is shut down is what one of them has shut
    down: recv returns 0, send fails with EPIPE, and poll reports the end, of both ends.
    """

    def receive(fd):
        return calls.make("recv", fd, memory.scratch(bytes(16), "room"), 16, NOW)

    for who, first, second in product(("own", "peer"), HOWS, HOWS):
        end = prepare("connected", kind)
        own, peer = Directions(), Directions()
        for which, how in ((who, first), ("own", second)):
            own.shut(how, by_peer=which == "peer")
            peer.shut(how, by_peer=which == "own")
        end.shutdown(end.fd if who == "own" else end.peer, HOWS[first])
        case = {"by": who, "first": first, "second": second}
        ends = {"own": (end.fd, own), "peer": (end.peer, peer)}
        checks = {which: expect([0, *after.found()], **case, end=which) for which, (_, after) in ends.items()}
        result = calls.make("shutdown", end.fd, HOWS[second])
        # Before anything is sent, which the other end would receive.
        polled = {which: readiness.poll(fd, WANTED) for which, (fd, _) in ends.items()}
        received = {which: receive(fd) for which, (fd, _) in ends.items()}
        for which, (fd, _) in ends.items():
            sent = calls.make("send", fd, calls.pointer(DATA), len(DATA), NOW)
            found = [int(result), int(received[which]), int(sent), polled[which].value]
            checks[which].of(found, result, polled[which], received[which], sent)
        end.close()
