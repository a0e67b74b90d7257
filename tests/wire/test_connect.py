"""Frames of connect and accept."""

from errno import EACCES, ECONNREFUSED, EHOSTUNREACH, EINPROGRESS, ENETUNREACH, ENOPROTOOPT
from select import POLLERR, POLLOUT
from socket import AF_INET, IPPROTO_TCP, SO_ERROR, SOCK_NONBLOCK, SOL_SOCKET

import pytest

from probes.testing import behaviour, need
from probes.testing.frames import begins, ends, sent_from
from probes.testing.socket_kinds import TCP, TCP6
from tests.wire.layers import CLAMP, PEER_PORT, PORT, data, ip, layer, tcp
from tests.wire.sending import send
from tests.wire.tcp_peer import MSS, SYN_OPTIONS, TCP_MAXSEG, TCP_WINDOW_CLAMP

KINDS = pytest.mark.parametrize("kind", [TCP, TCP6], ids=str)

#: Errors of a connect by the ICMP code that says why the destination is unreachable (icmp(7); RFC 1122 4.2.3.9).
UNREACHABLE = {
    "network": (0, ENETUNREACH), "host": (1, EHOSTUNREACH), "protocol": (2, ENOPROTOOPT), "port": (3, ECONNREFUSED),
    "prohibited": (13, EHOSTUNREACH),
}  # fmt: skip
UNREACHABLE6 = {
    "route": (0, ENETUNREACH), "prohibited": (1, EACCES), "address": (3, EHOSTUNREACH), "port": (4, ECONNREFUSED),
}  # fmt: skip


@behaviour(
    "wire.connect.handshake", "connect(2); tcp(7) TCP_WINDOW_CLAMP; tcp_v4_connect, tcp_v6_connect; RFC 9293 3.5"
)
@KINDS
def test_handshake(kind, new_socket, wire, expect_frames):
    """A blocking connect sends a SYN, and an ACK for the SYN-ACK of a listening socket, before it returns."""
    listener, sock = new_socket(*kind.triple), new_socket(*kind.triple)
    for one in (listener, sock):
        # The window is then the same whatever memory this machine gives to sockets.
        need(one.setsockopt(IPPROTO_TCP, TCP_WINDOW_CLAMP, CLAMP))
    need(listener.bind(kind.address(PEER_PORT)))
    need(listener.listen())
    need(sock.bind(kind.address(PORT)))
    wire.frames()
    check = expect_frames(
        begins("connect"),
        ip(kind) / tcp("S", sport=PORT, dport=PEER_PORT, seq=0, ack=0, window=CLAMP, urgptr=0) / data(b""),
        ip(kind) / tcp("SA", sport=PEER_PORT, dport=PORT, seq=0, ack=1, window=CLAMP, urgptr=0) / data(b""),
        ip(kind) / tcp("A", sport=PORT, dport=PEER_PORT, seq=1, ack=1, window=CLAMP, urgptr=0) / data(b""),
        ends("connect"),
    )
    connected = sock.connect(kind.address(PEER_PORT))
    need(connected)
    check.of(wire.frames(), connected)


@behaviour("wire.connect.syn-options", "tcp(7); tcp_syn_options, tcp_options_write; RFC 9293 3.7.1, RFC 7323, RFC 2018")
@KINDS
@pytest.mark.routes("direct")
def test_syn_options(kind, tcp_opener, wire, expect_frames):
    """A SYN offers the MSS of its link, selective acknowledgement, time stamps and a window scale, in this order."""
    tcp_opener.peer(kind)
    sock = tcp_opener.socket(kind, SOCK_NONBLOCK)
    size = MSS if kind.family == AF_INET else MSS - 20
    # A window of more than one segment is a multiple of the MSS.
    need(sock.setsockopt(IPPROTO_TCP, TCP_WINDOW_CLAMP, 2 * size))
    wire.frames()
    offered = [("MSS", size), *SYN_OPTIONS, ("WScale", 0)]
    check = expect_frames(ip(kind) / tcp("S", window=2 * size, options=offered, chksum=None))
    connecting = sock.connect(tcp_opener.there(kind))
    need(connecting, "connect", returns=-EINPROGRESS)
    check.of(sent_from(wire.frames(), PORT), connecting)


@behaviour("wire.connect.maxseg", "tcp(7) TCP_MAXSEG; tcp_syn_options, tcp_mss_to_mtu; RFC 9293 3.7.1")
def test_maxseg(tcp_opener, wire, expect_frames):
    """TCP_MAXSEG, set before connect, is the MSS that the SYN offers, and bounds what is sent."""
    end = tcp_opener.peer(TCP)
    sock = tcp_opener.socket(TCP, SOCK_NONBLOCK)
    need(sock.setsockopt(IPPROTO_TCP, TCP_MAXSEG, 500))
    wire.frames()
    offered = expect_frames(ip(TCP) / tcp("S", options=[("MSS", 500), *SYN_OPTIONS, ("WScale", 0)]), step="offered")
    need(sock.setsockopt(IPPROTO_TCP, TCP_WINDOW_CLAMP, CLAMP))
    connecting = sock.connect(tcp_opener.there(TCP))
    need(connecting, "connect", returns=-EINPROGRESS)
    offered.of(wire.frames(), connecting)
    end.receive()
    end.send("SA", options=[("MSS", MSS)])
    tcp_opener.wait(sock, POLLOUT)
    wire.frames()
    text = bytes(range(200)) * 4
    bounded = expect_frames(
        ip(TCP) / tcp("A", seq=1, ack=1) / data(text[:500]),
        ip(TCP) / tcp("PA", seq=501, ack=1) / data(text[500:]),
        step="bounded",
    )
    sent = send(sock, text)
    bounded.of(wire.frames(), sent)


@behaviour("wire.connect.reset", "connect(2) ECONNREFUSED; tcp_rcv_synsent_state_process, tcp_reset; RFC 9293 3.10.7.3")
@pytest.mark.routes("direct")
@KINDS
def test_reset(kind, tcp_opener, wire, expect, expect_frames):
    """An RST that acknowledges the SYN ends connect with ECONNREFUSED, and nothing is sent for it."""
    sock, end = tcp_opener.connecting(kind)
    wire.frames()
    silence = expect_frames(step="silence")
    refused = expect(-ECONNREFUSED, step="connect")
    end.send("RA")
    tcp_opener.wait(sock, POLLERR)
    again = sock.connect(tcp_opener.there(kind))
    refused.of(again)
    silence.of(sent_from(wire.frames(), PORT), again)


@behaviour("wire.connect.reset-unmatched", "tcp_rcv_synsent_state_process; RFC 9293 3.10.7.3; RFC 5961 3")
@pytest.mark.routes("direct")
def test_reset_unmatched(tcp_opener, expect):
    """An RST that acknowledges a number which was not sent does not end connect."""
    sock, end = tcp_opener.connecting(TCP)
    check = expect(0)
    end.wanted += 1
    end.send("RA")
    # The right answer comes behind it: when that has completed the connection, both were taken.
    end.wanted -= 1
    end.send("SA", options=[("MSS", MSS)])
    tcp_opener.wait(sock, POLLOUT)
    check.of(sock.getsockopt(SOL_SOCKET, SO_ERROR).as_int())


@behaviour("wire.connect.unreachable", "connect(2) ENETUNREACH; icmp(7); tcp_v4_err, icmp_err_convert")
@pytest.mark.routes("direct")
@pytest.mark.parametrize("what", UNREACHABLE)
def test_unreachable(what, tcp_opener, expect):
    """An ICMP error that quotes the SYN ends connect: which error it is depends on the code of destination unreachable."""
    code, error = UNREACHABLE[what]
    end = tcp_opener.peer(TCP)
    sock = tcp_opener.socket(TCP, SOCK_NONBLOCK)
    need(sock.connect(tcp_opener.there(TCP)), "connect", returns=-EINPROGRESS)
    syn = end.peer.receive("TCP")["IP"]
    failed = expect(-error)
    end.peer.send(end.network() / layer("ICMP", type=3, code=code) / syn)
    tcp_opener.wait(sock, POLLERR)
    failed.of(sock.connect(tcp_opener.there(TCP)))


@behaviour("wire.connect.unreachable6", "connect(2) ENETUNREACH; RFC 4443 3.1; tcp_v6_err, icmpv6_err_convert")
@pytest.mark.parametrize("what", UNREACHABLE6)
@pytest.mark.routes("direct")
def test_unreachable6(what, tcp_opener, expect):
    """An ICMPv6 error that quotes the SYN ends connect: which error it is depends on the code of destination unreachable."""
    code, error = UNREACHABLE6[what]
    end = tcp_opener.peer(TCP6)
    sock = tcp_opener.socket(TCP6, SOCK_NONBLOCK)
    need(sock.connect(tcp_opener.there(TCP6)), "connect", returns=-EINPROGRESS)
    syn = end.peer.receive("TCP")["IPv6"]
    failed = expect(-error)
    end.peer.send(end.network() / layer("ICMPv6DestUnreach", code=code) / syn)
    tcp_opener.wait(sock, POLLERR)
    failed.of(sock.connect(tcp_opener.there(TCP6)))


@behaviour("wire.connect.quote-unmatched", "tcp_v4_err: seq is between snd_una and snd_nxt; RFC 5927 4.1")
@pytest.mark.routes("direct")
def test_quote_unmatched(tcp_opener, expect):
    """An ICMP error whose quote has a sequence number that was not sent does not end connect."""
    end = tcp_opener.peer(TCP)
    sock = tcp_opener.socket(TCP, SOCK_NONBLOCK)
    need(sock.connect(tcp_opener.there(TCP)), "connect", returns=-EINPROGRESS)
    syn = end.receive().underlayer
    syn["TCP"].seq ^= 1 << 30
    check = expect(0)
    end.peer.send(end.network() / layer("ICMP", type=3, code=3) / syn)
    # The right answer comes behind it: when that has completed the connection, both were taken.
    end.send("SA", options=[("MSS", MSS)])
    tcp_opener.wait(sock, POLLOUT)
    check.of(sock.getsockopt(SOL_SOCKET, SO_ERROR).as_int())


@behaviour("wire.connect.simultaneous", "connect(2); tcp_rcv_synsent_state_process; RFC 9293 3.5 figure 7")
@pytest.mark.routes("direct")
@KINDS
def test_simultaneous_open(kind, tcp_opener, wire, expect, expect_frames):
    """A SYN without ACK that meets a connect is answered by SYN-ACK, and the peer's ACK completes the connection."""
    sock, end = tcp_opener.connecting(kind)
    wire.frames()
    answer = expect_frames(ip(kind) / tcp("SA", sport=PORT, dport=PEER_PORT, seq=0, ack=1) / data(b""), step="answer")
    connected = expect(0, step="connect")
    end.send("S", options=[("MSS", MSS)])
    end.receive()
    end.send("A")
    tcp_opener.wait(sock, POLLOUT)
    done = sock.connect(tcp_opener.there(kind))
    connected.of(done)
    answer.of(sent_from(wire.frames(), PORT), done)


@behaviour("wire.accept.backlog-full", "listen(2); tcp_conn_request: sk_acceptq_is_full; tcp_v4_syn_recv_sock")
@pytest.mark.routes("direct")
def test_backlog_full(tcp_opener, wire, expect, expect_frames):
    """A listening socket answers a SYN by SYN-ACK; while its queue of connections is full, not at all."""
    end = tcp_opener.peer(TCP)
    listener = tcp_opener.socket(TCP)
    need(listener.listen(0))
    wire.frames()
    answered = expect_frames(
        ip(TCP) / tcp("S", seq=0, sport=PEER_PORT, dport=PORT),
        ip(TCP) / tcp("SA", seq=0, ack=1, sport=PORT, dport=PEER_PORT) / data(b""),
        step="room",
    )
    queued = expect_frames(ip(TCP, flags=0) / tcp("S", sport=PEER_PORT + 1, dport=PORT), step="full")
    named = listener.sockname()
    need(named)
    end.peer.send(ip(TCP, src=end.there, dst=end.here) / tcp("S", sport=PEER_PORT, dport=PORT, seq=end.next))
    end.next += 1
    end.receive()
    answered.of(wire.frames(), named)
    end.send("A")
    tcp_opener.wait(listener)
    wire.frames()
    end.peer.send(ip(TCP, flags=0, src=end.there, dst=end.here) / tcp("S", sport=PEER_PORT + 1, dport=PORT, seq=1))
    queued.of(wire.frames(), named)
    accepted = expect_frames(step="accept")
    made = listener.accept()
    need(made)
    accepted.of(wire.frames(), made)
