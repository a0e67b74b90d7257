"""Frames of close, shutdown and a connect that disconnects."""

import struct
from errno import ECONNRESET, ENOTCONN
from socket import SHUT_RD, SHUT_RDWR, SHUT_WR, SO_LINGER, SOL_SOCKET

import pytest

from probes.abi import sockaddr
from probes.testing import behaviour, need
from probes.testing.frames import begins, ends, sent_from, without_bare_acks
from probes.testing.socket_kinds import TCP, TCP6
from tests.wire.layers import PEER_PORT, PORT, data, from_near, ip, tcp
from tests.wire.sending import send

KINDS = pytest.mark.parametrize("kind", [TCP, TCP6], ids=str)
#: struct linger: on, for 0 seconds.
_AT_ONCE = struct.pack("<ii", 1, 0)


@behaviour("wire.close.fin", "close(2); tcp_close, tcp_send_fin; RFC 9293 3.6")
@pytest.mark.routes("direct")
@KINDS
def test_fin(kind, pair, wire, expect_frames):
    """close of a connected socket sends a FIN before it returns."""
    near, _ = pair(kind)
    check = expect_frames(begins("close"), from_near(kind, "FA", seq=1, ack=1) / data(b""), ends("close"))
    closed = near.close()
    need(closed)
    check.of(without_bare_acks(wire.frames()), closed)


@behaviour("wire.close.last-descriptor", "close(2); S3; fput, sock_close: the last reference")
@pytest.mark.routes("direct")
def test_last_descriptor(pair, wire, expect_frames):
    """close sends nothing while the socket has another descriptor; close of the last one sends the FIN."""
    near, _ = pair(TCP)
    other = need(near.calls.syscall("dup", near.fd))
    first = expect_frames(step="first")
    closed = near.close()
    need(closed)
    first.of(wire.frames(), closed)
    last = expect_frames(from_near(TCP, "FA"), step="last")
    closed = near.calls.close(other)
    need(closed)
    last.of(without_bare_acks(wire.frames()), closed)


@behaviour("wire.close.linger-zero", "socket(7) SO_LINGER; tcp_close, tcp_disconnect; RFC 9293 3.10.4 ABORT")
@pytest.mark.routes("direct")
@KINDS
def test_linger_zero(kind, pair, wire, expect, expect_frames):
    """close with a linger time of 0 sends an RST in place of a FIN; the peer's recv fails with ECONNRESET."""
    near, far = pair(kind)
    need(near.setsockopt(SOL_SOCKET, SO_LINGER, _AT_ONCE))
    check = expect_frames(
        begins("close"), from_near(kind, "RA", seq=1, ack=1) / data(b""), ends("close"), step="frames"
    )
    received = expect(-ECONNRESET, step="peer")
    closed = near.close()
    need(closed)
    check.of(wire.frames(), closed)
    received.of(far.calls.syscall("read", far.fd, far.calls.memory.alloc(4), 4))


@behaviour("wire.close.unread", "tcp_close: data_was_unread; RFC 1122 4.2.2.13, RFC 2525 2.17")
@pytest.mark.routes("direct")
@KINDS
def test_unread(kind, pair, wire, expect, expect_frames):
    """close of a socket with data that was not read sends an RST in place of a FIN."""
    near, far = pair(kind)
    send(far, b"data")
    wire.frames()
    check = expect_frames(from_near(kind, "RA", seq=1, ack=5) / data(b""), step="frames")
    received = expect(-ECONNRESET, step="peer")
    closed = near.close()
    need(closed)
    check.of(without_bare_acks(wire.frames()), closed)
    received.of(far.calls.syscall("read", far.fd, far.calls.memory.alloc(4), 4))


@behaviour("wire.close.listening", "close(2); inet_csk_listen_stop; RFC 9293 3.10.4")
@pytest.mark.routes("direct")
def test_listening(new_socket, wire, expect_frames):
    """close of a listening socket resets the connections that were not accepted; without one it sends nothing."""
    listener, near = new_socket(*TCP.triple), new_socket(*TCP.triple)
    need(listener.bind(TCP.address(PEER_PORT)))
    need(listener.listen())
    need(near.bind(TCP.address(PORT)))
    need(near.connect(TCP.address(PEER_PORT)))
    wire.frames()
    resets = expect_frames(ip(TCP) / tcp("RA", sport=PEER_PORT, dport=PORT, seq=1, ack=1) / data(b""), step="queued")
    closed = listener.close()
    need(closed)
    resets.of(wire.frames(), closed)
    empty = new_socket(*TCP.triple)
    need(empty.bind(TCP.address(PEER_PORT + 1)))
    need(empty.listen())
    silence = expect_frames(step="empty")
    closed = empty.close()
    need(closed)
    silence.of(wire.frames(), closed)


@behaviour("wire.close.connecting", "close(2); tcp_close: TCP_SYN_SENT; RFC 9293 3.10.4")
@pytest.mark.routes("direct")
def test_connecting(tcp_opener, wire, expect_frames):
    """close of a socket whose SYN was not answered sends nothing, and a SYN-ACK that comes later is answered by RST."""
    sock, end = tcp_opener.connecting(TCP)
    wire.frames()
    silence = expect_frames(step="close")
    closed = sock.close()
    need(closed)
    silence.of(wire.frames(), closed)
    answer = expect_frames(ip(TCP) / tcp("SA"), ip(TCP) / tcp("R", seq=1, window=0) / data(b""), step="late-answer")
    named = tcp_opener.socket(TCP).sockname()
    need(named)
    end.peer.send(ip(TCP, src=end.there, dst=end.here) / tcp("SA", sport=PEER_PORT, dport=PORT, seq=7, ack=end.wanted))
    answer.of(wire.frames(), named)


@behaviour("wire.shutdown.write", "shutdown(2) SHUT_WR; tcp_shutdown; RFC 9293 3.6 case 1")
@KINDS
def test_shutdown_write(kind, pair, wire, expect, expect_frames):
    """shutdown with SHUT_WR sends a FIN; what the peer sends then is received, and a second shutdown sends nothing."""
    near, far = pair(kind)
    check = expect_frames(
        begins("shutdown"), from_near(kind, "FA", seq=1, ack=1) / data(b""), ends("shutdown"), step="frames"
    )
    halved = near.calls.make("shutdown", near.fd, SHUT_WR)
    check.of(without_bare_acks(wire.frames()), halved)
    received = expect(4, step="peer-sends")
    send(far, b"data")
    received.of(near.calls.make("recv", near.fd, near.calls.memory.alloc(4), 4, 0))
    again = expect_frames(step="again")
    wire.frames()
    halved = near.calls.make("shutdown", near.fd, SHUT_WR)
    need(halved)
    again.of(without_bare_acks(wire.frames()), halved)


@behaviour("wire.shutdown.read", "shutdown(2) SHUT_RD; inet_shutdown, tcp_shutdown: SEND_SHUTDOWN alone sends")
@KINDS
def test_shutdown_read(kind, pair, wire, expect_frames):
    """shutdown with SHUT_RD sends nothing."""
    near, _ = pair(kind)
    check = expect_frames()
    halved = near.calls.make("shutdown", near.fd, SHUT_RD)
    need(halved)
    check.of(wire.frames(), halved)


@behaviour("wire.shutdown.both", "shutdown(2) SHUT_RDWR; tcp_shutdown")
def test_shutdown_both(pair, wire, expect_frames):
    """shutdown with SHUT_RDWR sends a FIN, behind the data that was sent before."""
    near, _ = pair(TCP)
    check = expect_frames(
        begins("sendto"), from_near(TCP, "PA", seq=1, ack=1) / data(b"data"), ends("sendto"),
        begins("shutdown"), from_near(TCP, "FA", seq=5, ack=1) / data(b""), ends("shutdown"),
    )  # fmt: skip
    sent = send(near, b"data")
    halved = near.calls.make("shutdown", near.fd, SHUT_RDWR)
    need(halved)
    check.of(without_bare_acks(wire.frames()), sent, halved)


@behaviour("wire.shutdown.unconnected", "shutdown(2) ENOTCONN; inet_shutdown")
def test_shutdown_unconnected(tcp_opener, wire, expect, expect_frames):
    """shutdown of a socket that is not connected fails with ENOTCONN and sends nothing."""
    sock = tcp_opener.socket(TCP)
    refused, silence = expect(-ENOTCONN, step="result"), expect_frames(step="frames")
    result = sock.calls.make("shutdown", sock.fd, SHUT_WR)
    silence.of(wire.frames(), result)
    refused.of(result)


@behaviour("wire.connect.disconnect", "connect(2) AF_UNSPEC; tcp_disconnect: tcp_need_reset; RFC 9293 3.10.4")
@KINDS
def test_disconnect(kind, pair, wire, expect_frames):
    """connect with an AF_UNSPEC address resets the connection of a TCP socket."""
    near, _ = pair(kind)
    check = expect_frames(begins("connect"), from_near(kind, "RA", seq=1, ack=1) / data(b""), ends("connect"))
    parted = near.connect(sockaddr.unspec())
    need(parted)
    check.of(wire.frames(), parted)


@behaviour("wire.close.peer-reset", "tcp(7); tcp_reset, tcp_validate_incoming; RFC 9293 3.10.7.4; RFC 5961 3.2")
@pytest.mark.routes("direct")
@KINDS
def test_peer_reset(kind, tcp_opener, wire, expect, expect_frames):
    """An RST at the next sequence number ends a connection: recv fails with ECONNRESET, and nothing is sent.

    One at another number of the window is answered by an ACK, and the connection stays.
    """
    sock, end = tcp_opener.connected(kind)
    wire.frames()
    challenge = expect_frames(ip(kind) / tcp("A", seq=1, ack=1) / data(b""), step="challenge")
    named = sock.sockname()
    need(named)
    end.send("R", ahead=10)
    challenge.of(sent_from(wire.frames(), PORT), named)
    silence, reset = expect_frames(step="frames"), expect(-ECONNRESET, step="recv")
    end.send("R")
    received = sock.calls.make("recv", sock.fd, sock.calls.memory.alloc(4), 4, 0)
    silence.of(sent_from(wire.frames(), PORT), received)
    reset.of(received)


@behaviour("wire.close.peer-fin", "recv(2); tcp_fin; RFC 9293 3.10.7.4")
@pytest.mark.routes("direct")
def test_peer_fin(tcp_opener, wire, expect, expect_frames):
    """A FIN is acknowledged, and recv returns 0 behind the data before it."""
    sock, end = tcp_opener.connected(TCP)
    wire.frames()
    first, then, room = expect(4, step="data"), expect(0, step="end"), sock.calls.memory.alloc(8)
    acknowledged = expect_frames(ip(TCP) / tcp("A", seq=1, ack=6) / data(b""), step="frames")
    end.send("PFA", b"data")
    received = sock.calls.make("recv", sock.fd, room, 8, 0)
    first.of(received)
    ended = sock.calls.make("recv", sock.fd, room, 8, 0)
    then.of(ended)
    acks = sent_from(wire.frames(at_least=2), PORT)
    acknowledged.of(acks[-1:], received, ended)


@behaviour("wire.close.after-peer-fin", "close(2); tcp_close_state: TCP_CLOSE_WAIT; RFC 9293 3.6 case 2")
@pytest.mark.routes("direct")
def test_after_peer_fin(tcp_opener, wire, expect_frames):
    """close behind the peer's FIN sends a FIN, which acknowledges that one.

    When it is acknowledged itself the connection is over: RST answers another FIN.
    """
    sock, end = tcp_opener.connected(TCP)
    end.send("FA")
    tcp_opener.wait(sock)
    wire.frames()
    check = expect_frames(
        begins("close"), ip(TCP) / tcp("FA", seq=1, ack=2) / data(b""), ends("close"), ip(TCP) / tcp("R", seq=2)
    )
    closed = sock.close()
    need(closed)
    # The peer's FIN was acknowledged alone, or is by this one.
    while "F" not in str(end.receive().flags):
        pass
    end.send("A")
    end.send("FA")
    check.of(without_bare_acks(sent_from(wire.frames(), PORT)), closed)


#: What a peer gets when its window opens behind a shutdown: the flags of the segment with the data that was held.
HELD = {"SHUT_RD": (SHUT_RD, "PA"), "SHUT_WR": (SHUT_WR, "FPA"), "SHUT_RDWR": (SHUT_RDWR, "FPA")}


@behaviour("wire.shutdown.queued", "shutdown(2); tcp_shutdown, tcp_send_fin: coalescing; RFC 9293 3.10.4")
@pytest.mark.parametrize("how", HELD)
@pytest.mark.routes("direct")
def test_shutdown_queued(how, tcp_opener, wire, expect_frames):
    """shutdown while data waits for the peer's window sends nothing; the FIN of SHUT_WR and SHUT_RDWR goes with the data."""
    number, flags = HELD[how]
    sock, end = tcp_opener.connected(TCP)
    end.send("A", window=0)
    wire.frames()
    send(sock, b"held")
    silence = expect_frames(step="zero-window")
    done = sock.calls.make("shutdown", sock.fd, number)
    need(done)
    silence.of(wire.frames(), done)
    opened = expect_frames(ip(TCP) / tcp(flags, seq=1) / data(b"held"), step="opened")
    named = sock.sockname()
    need(named)
    end.send("A")
    opened.of(sent_from(wire.frames(), PORT), named)
