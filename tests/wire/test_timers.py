"""Segments that timers of seconds send: a SYN again, a probe of keep-alive; and how long a closed connection waits."""

from errno import EINPROGRESS, ETIMEDOUT
from socket import IPPROTO_TCP, SO_KEEPALIVE, SOCK_NONBLOCK, SOL_SOCKET

import pytest

from probes.sandbox.links import BEYOND
from probes.testing import behaviour, need, procfs
from probes.testing.frames import sent_from
from probes.testing.socket_kinds import TCP
from tests.wire.layers import PORT, data, ip, tcp

#: Options of IPPROTO_TCP (tcp(7)).
TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_LINGER2 = 4, 5, 6, 8
#: Nanoseconds of a second, and what a timer may be early by: one tick.
SECOND, TICK = 1_000_000_000, 10_000_000


def lie_apart(frames, seconds):
    """Returns True if the last two frames lie at least so many seconds apart."""
    return len(frames) > 1 and frames[-1].t_ns - frames[-2].t_ns > seconds * SECOND - TICK


@behaviour("wire.timer.keep-alive", "tcp(7) TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, ETIMEDOUT; tcp_keepalive_timer")
@pytest.mark.routes("direct")
def test_keep_alive(tcp_opener, wire, expect, expect_frames):
    """A connection idle for TCP_KEEPIDLE seconds is probed without data, and ends by RST and ETIMEDOUT without an answer.

    A probe has the number before the next byte. TCP_KEEPCNT are sent, TCP_KEEPINTVL seconds apart from what follows.
    """
    sock, _ = tcp_opener.connected(TCP)
    for option, value in ((TCP_KEEPIDLE, 1), (TCP_KEEPINTVL, 2), (TCP_KEEPCNT, 1)):
        need(sock.setsockopt(IPPROTO_TCP, option, value))
    wire.frames()
    ended, apart = expect(-ETIMEDOUT, step="recv"), expect(True, step="interval")
    check = expect_frames(
        ip(TCP) / tcp("A", seq=0, ack=1) / data(b""), ip(TCP) / tcp("RA", seq=1, ack=1), step="frames"
    )
    alive = sock.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
    need(alive)
    received = sock.calls.make("recv", sock.fd, sock.calls.memory.alloc(4), 4, 0)
    frames = sent_from(wire.frames(), PORT)
    check.of(frames, alive, received)
    apart.of(lie_apart(frames, 2), received, *frames)
    ended.of(received)


@behaviour("wire.timer.syn-again", "connect(2); tcp_retransmit_timer, tcp_connect; RFC 6298 2.1, 5.7")
@pytest.mark.routes("direct")
def test_syn_again(tcp_opener, wire, expect_frames):
    """A SYN without an answer is sent again, with the same number."""
    tcp_opener.peer(TCP)
    sock = tcp_opener.socket(TCP, SOCK_NONBLOCK)
    wire.frames()
    syn = ip(TCP) / tcp("S", seq=0, sport=PORT) / data(b"")
    check = expect_frames(syn, syn)
    connecting = sock.connect(tcp_opener.there(TCP))
    need(connecting, "connect", returns=-EINPROGRESS)
    check.of(wire.frames(at_least=2)[:2], connecting, resent=True)


@behaviour("wire.timer.fin-wait", "tcp(7) TCP_LINGER2; __tcp_close, tcp_time_wait; RFC 9293 3.6")
@pytest.mark.routes("direct")
def test_fin_wait(tcp_opener, wire, expect, expect_frames):
    """A closed connection whose FIN was acknowledged waits for the peer's for TCP_LINGER2 seconds, and is forgotten then.

    RST answers what comes afterwards.
    """
    # On the route to the peer itself three times the time before a segment is sent again would be longer (tcp_time_wait).
    sock, end = tcp_opener.connected(TCP, BEYOND)
    need(sock.setsockopt(IPPROTO_TCP, TCP_LINGER2, 1))
    wire.frames()
    check = expect_frames(ip(TCP) / tcp("FA", seq=1), ip(TCP) / tcp("R", seq=2), step="frames")
    waited = expect(True, step="time")
    closed = sock.close()
    need(closed)
    end.receive()
    end.send("A")
    # The table lists a connection without a socket by the inode 0.
    patience = 5
    while waits := procfs.read_until(lambda: 0 in procfs.read_table("tcp"), False):
        patience -= 1
        if not patience:
            break
    end.send("FA")
    frames = sent_from(wire.frames(), PORT)
    check.of(frames, closed)
    waited.of(not waits and lie_apart(frames, 1), closed, *frames)
