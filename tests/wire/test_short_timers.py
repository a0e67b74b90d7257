"""Segments that timers of a fifth of a second send, over a route on which TCP keeps its usual least time of 200 ms."""

from errno import ETIMEDOUT
from socket import IPPROTO_TCP

import pytest

from probes.sandbox.links import BEYOND
from probes.testing import behaviour, need
from probes.testing.frames import sent_from
from probes.testing.socket_kinds import TCP
from tests.wire.layers import PORT, data, ip, tcp
from tests.wire.sending import send
from tests.wire.tcp_peer import TCP_CORK

pytestmark = pytest.mark.routes("direct")
TCP_USER_TIMEOUT = 18
#: The least time before a segment is sent again (TCP_RTO_MIN), in nanoseconds, and what a timer may be early by (one tick).
LEAST, TICK = 200_000_000, 10_000_000


@behaviour("wire.timer.data-again", "tcp(7) TCP_USER_TIMEOUT, ETIMEDOUT; tcp_retransmit_timer; RFC 6298 5")
def test_data_again(tcp_opener, wire, expect, expect_frames):
    """Data that is not acknowledged is sent again, with its number, and not before 200 ms; when it has not been acknowledged
    for TCP_USER_TIMEOUT milliseconds, the next timeout ends the connection: recv fails with ETIMEDOUT.
    """
    sock, _ = tcp_opener.connected(TCP, BEYOND)
    need(sock.setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, 1))
    wire.frames()
    segment = ip(TCP) / tcp("PA", seq=1, ack=1) / data(b"data")
    check, waited = expect_frames(segment, segment, step="frames"), expect(True, step="time")
    ended = expect(-ETIMEDOUT, step="recv")
    sent = send(sock, b"data")
    received = sock.calls.make("recv", sock.fd, sock.calls.memory.alloc(4), 4, 0)
    frames = sent_from(wire.frames(), PORT)
    check.of(frames, sent, received, resent=True)
    waited.of(len(frames) > 1 and frames[1].t_ns - frames[0].t_ns > LEAST - TICK, sent, *frames)
    ended.of(received)


@behaviour("wire.timer.cork", "tcp(7) TCP_CORK `200 milliseconds`; tcp_check_probe_timer, tcp_probe_timer")
def test_cork(tcp_opener, wire, expect_frames):
    """What TCP_CORK holds is sent after 200 ms, although it fills no segment and the option is not cleared."""
    sock, _ = tcp_opener.connected(TCP, BEYOND)
    need(sock.setsockopt(IPPROTO_TCP, TCP_CORK, 1))
    wire.frames()
    check = expect_frames(ip(TCP) / tcp("PA", seq=1) / data(b"held"))
    sent = send(sock, b"held")
    check.of(wire.frames(at_least=1), sent)


@behaviour(
    "wire.timer.window-probe", "send(2); tcp_probe_timer, tcp_write_wakeup, tcp_xmit_probe_skb; RFC 9293 3.8.6.1"
)
def test_window_probe(tcp_opener, wire, expect_frames):
    """While the peer's window is 0 and data waits, the window is probed by a segment without data, whose number was
    acknowledged before.
    """
    sock, end = tcp_opener.connected(TCP, BEYOND)
    end.send("A", window=0)
    wire.frames()
    check = expect_frames(ip(TCP) / tcp("A", seq=0, ack=1) / data(b""))
    sent = send(sock, b"held")
    check.of(wire.frames(at_least=1)[:1], sent)
