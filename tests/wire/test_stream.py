"""Segments that sending on a connected TCP socket makes, and what it makes of a peer's segments."""

from errno import EAGAIN
from select import POLLIN, POLLRDHUP
from socket import IPPROTO_TCP, MSG_DONTWAIT, MSG_EOR, MSG_MORE, MSG_OOB, TCP_NODELAY

import pytest

from probes.sandbox.links import HERE, THERE
from probes.testing import behaviour, need
from probes.testing.frames import begins, ends, sent_from, without_bare_acks
from probes.testing.socket_kinds import TCP, TCP6
from tests.wire.layers import PORT, data, from_near, ip, layer, tcp
from tests.wire.sending import send
from tests.wire.tcp_peer import MSS, TCP_CORK

SIOCINQ = 0x541B
KINDS = pytest.mark.parametrize("kind", [TCP, TCP6], ids=str)


@behaviour("wire.send.segment", "send(2); tcp_sendmsg, tcp_push, tcp_write_xmit; RFC 9293 3.9.1.2")
@KINDS
def test_segment(kind, pair, wire, expect_frames):
    """send on a connected socket sends its bytes in one segment with PSH, before it returns."""
    near, _ = pair(kind)
    check = expect_frames(
        begins("sendto"), from_near(kind, "PA", seq=1, ack=1) / data(b"some bytes"), ends("sendto")
    )  # fmt: skip
    sent = send(near, b"some bytes")
    check.of(without_bare_acks(wire.frames()), sent)


@behaviour("wire.send.empty", "send(2); tcp_sendmsg: no segment without bytes")
def test_empty(pair, wire, expect, expect_frames):
    """send of 0 bytes on a TCP socket returns 0 and sends nothing."""
    near, _ = pair(TCP)
    result, silence = expect(0, step="result"), expect_frames(step="frames")
    sent = send(near, b"")
    silence.of(wire.frames(), sent)
    result.of(sent)


@behaviour("wire.send.segments", "send(2); tcp_current_mss, tcp_push; RFC 9293 3.7.1; RFC 5681 3.1")
@KINDS
@pytest.mark.routes("direct")
def test_segments(kind, tcp_opener, wire, expect_frames):
    """send of more bytes than the peer's MSS sends full segments and a last one with PSH."""
    sock, _ = tcp_opener.connected(kind)
    size = MSS if kind is TCP else MSS - 20
    text = bytes(range(250)) * 12
    wire.frames()
    check = expect_frames(
        begins("sendto"),
        ip(kind) / layer("TCP", seq=1, ack=1, chksum=None) / data(text[:size]),
        ip(kind) / layer("TCP", seq=1 + size, ack=1, chksum=None) / data(text[size : 2 * size]),
        ip(kind) / tcp("PA", seq=1 + 2 * size, ack=1, chksum=None) / data(text[2 * size :]),
        ends("sendto"),
    )
    sent = send(sock, text)
    check.of(sent_from(wire.frames(), PORT), sent)


@behaviour("wire.send.more", "send(2) MSG_MORE; tcp_push, tcp_mark_push: MSG_MORE")
@pytest.mark.routes("direct")
def test_more(tcp_opener, wire, expect_frames):
    """send with MSG_MORE sends nothing of less than a segment; the next send without it sends both in one segment."""
    sock, _ = tcp_opener.connected(TCP)
    wire.frames()
    held, joined = (
        expect_frames(step="held"),
        expect_frames(ip(TCP) / tcp("PA", seq=1) / data(b"head tail"), step="joined"),
    )
    sent = send(sock, b"head ", MSG_MORE)
    held.of(wire.frames(), sent)
    sent = send(sock, b"tail")
    joined.of(wire.frames(), sent)


@behaviour("wire.send.cork", "tcp(7) TCP_CORK; __tcp_sock_set_cork, tcp_push")
@pytest.mark.routes("direct")
def test_cork(tcp_opener, wire, expect_frames):
    """With TCP_CORK only full segments are sent; that it is cleared sends the rest."""
    sock, _ = tcp_opener.connected(TCP)
    need(sock.setsockopt(IPPROTO_TCP, TCP_CORK, 1))
    wire.frames()
    held = expect_frames(step="held")
    sent = send(sock, b"head")
    held.of(wire.frames(), sent)
    full = expect_frames(ip(TCP) / tcp("A", seq=1) / data(b"head" + bytes(MSS - 4)), step="full")
    sent = send(sock, bytes(MSS))
    full.of(wire.frames(), sent)
    rest = expect_frames(
        begins("setsockopt"), ip(TCP) / tcp("PA", seq=1 + MSS) / data(bytes(4)), ends("setsockopt"), step="cleared"
    )
    cleared = sock.setsockopt(IPPROTO_TCP, TCP_CORK, 0)
    need(cleared)
    rest.of(wire.frames(), cleared)


@behaviour("wire.send.nagle", "tcp(7) TCP_NODELAY; tcp_nagle_check; RFC 9293 3.7.4, RFC 896")
@pytest.mark.routes("direct")
def test_nagle(tcp_opener, wire, expect_frames):
    """While data is not acknowledged, what is less than a segment is held until the acknowledgement comes."""
    sock, end = tcp_opener.connected(TCP)
    wire.frames()
    first = expect_frames(ip(TCP) / tcp("PA", seq=1) / data(b"first"), step="idle")
    sent = send(sock, b"first")
    first.of(wire.frames(), sent)
    held = expect_frames(step="unacknowledged")
    sent = send(sock, b"second")
    held.of(wire.frames(), sent)
    end.receive()
    acknowledged = expect_frames(ip(TCP) / tcp("PA", seq=6) / data(b"second"), step="acknowledged")
    named = sock.sockname()
    need(named)
    end.send("A")
    acknowledged.of(sent_from(wire.frames(), PORT), named)


@behaviour("wire.send.nodelay", "tcp(7) TCP_NODELAY; __tcp_sock_set_nodelay, tcp_nagle_test")
@pytest.mark.routes("direct")
def test_nodelay(tcp_opener, wire, expect_frames):
    """TCP_NODELAY sends what is held for an acknowledgement, and then each send at once."""
    sock, _ = tcp_opener.connected(TCP)
    for part in (b"first", b"second"):
        send(sock, part)
    wire.frames()
    flushed = expect_frames(
        begins("setsockopt"), ip(TCP) / tcp("PA", seq=6) / data(b"second"), ends("setsockopt"), step="set"
    )
    chosen = sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
    need(chosen)
    flushed.of(wire.frames(), chosen)
    at_once = expect_frames(ip(TCP) / tcp("PA", seq=12) / data(b"third"), step="then")
    sent = send(sock, b"third")
    at_once.of(wire.frames(), sent)


@behaviour("wire.send.urgent", "tcp(7) MSG_OOB; tcp_mark_urg, tcp_set_urg; RFC 9293 3.8.5, RFC 6093 2")
@KINDS
def test_urgent(kind, pair, wire, expect_frames):
    """send with MSG_OOB sets URG, and an urgent pointer that points behind its last byte."""
    near, _ = pair(kind)
    check = expect_frames(from_near(kind, "PAU", seq=1, urgptr=6) / data(b"urgent"))
    sent = send(near, b"urgent", MSG_OOB)
    check.of(without_bare_acks(wire.frames()), sent)


@behaviour("wire.send.record", "send(2) MSG_EOR; tcp_sendmsg, tcp_skb_can_collapse_to")
@pytest.mark.routes("direct")
def test_record(tcp_opener, wire, expect_frames):
    """What follows a send with MSG_EOR begins a segment of its own, although both are held together."""
    sock, end = tcp_opener.connected(TCP)
    send(sock, b"first")
    end.receive()
    wire.frames()
    check = expect_frames(ip(TCP) / tcp("PA", seq=6) / data(b"record"))
    held, behind = send(sock, b"record", MSG_EOR), send(sock, b"behind")
    end.send("A")
    check.of(sent_from(wire.frames(), PORT), held, behind)


@behaviour("wire.send.zero-window", "send(2); tcp_snd_wnd_test; RFC 9293 3.8.6.1")
@pytest.mark.routes("direct")
def test_zero_window(tcp_opener, wire, expect_frames):
    """While the peer's window is 0, send takes bytes and sends none; a larger window sends them."""
    sock, end = tcp_opener.connected(TCP)
    end.send("A", window=0)
    wire.frames()
    held = expect_frames(step="zero")
    sent = send(sock, b"held")
    held.of(wire.frames(), sent)
    opened = expect_frames(ip(TCP) / tcp("PA", seq=1) / data(b"held"), step="opened")
    named = sock.sockname()
    need(named)
    end.send("A", window=100)
    opened.of(sent_from(wire.frames(), PORT), named)


@behaviour("wire.receive.out-of-order", "recv(2); tcp_data_queue_ofo; RFC 9293 3.10.7.4, RFC 2018 4")
@pytest.mark.routes("direct")
@KINDS
def test_out_of_order(kind, tcp_opener, wire, expect, expect_frames):
    """A segment behind a gap is acknowledged up to the gap, and received once the gap is filled."""
    sock, end = tcp_opener.connected(kind)
    wire.frames()
    room = sock.calls.memory.alloc(16)
    gap = expect(-EAGAIN, step="gap")
    duplicate = expect_frames(ip(kind) / tcp("A", seq=1, ack=1) / data(b""), step="acknowledged")
    end.send("PA", b"second", ahead=5)
    frames = wire.frames()
    early = sock.calls.make("recv", sock.fd, room, 16, MSG_DONTWAIT)
    duplicate.of(sent_from(frames, PORT), early)
    gap.of(early)
    whole = expect(b"firstsecond", step="filled")
    end.send("PA", b"first")
    received = sock.calls.make("recv", sock.fd, room, 16, 0)
    need(received, returns=11)
    whole.of(room.read()[:11], received)


@behaviour("wire.receive.fin-not-counted", "tcp(7) SIOCINQ; tcp_inq: SOCK_DONE")
@pytest.mark.routes("direct")
def test_fin_not_counted(tcp_opener, expect):
    """SIOCINQ counts the bytes before a FIN that came, and not the FIN, which takes a sequence number as a byte does."""
    sock, end = tcp_opener.connected(TCP)
    count = sock.calls.memory.words(99)
    for load, queued in ((b"data", 4), (b"", 4)):
        end.send("FPA" if not load else "PA", load)
        tcp_opener.wait(sock, POLLIN if load else POLLRDHUP)
        check = expect(queued, fin=not load)
        asked = sock.calls.syscall("ioctl", sock.fd, SIOCINQ, count)
        need(asked, returns=0)
        check.of(count.words()[0], asked)


@behaviour("wire.receive.bad-checksum", "tcp_v4_rcv: tcp_checksum_complete; RFC 9293 3.1")
@pytest.mark.routes("direct")
@KINDS
def test_bad_checksum(kind, tcp_opener, wire, expect, expect_frames):
    """A segment with a wrong checksum is not received, and not acknowledged."""
    sock, end = tcp_opener.connected(kind)
    wire.frames()
    room = sock.calls.memory.alloc(4)
    dropped, silence = expect(-EAGAIN, step="recv"), expect_frames(step="frames")
    end.send("PA", b"data", lost=True, chksum=1)
    frames = wire.frames()
    early = sock.calls.make("recv", sock.fd, room, 4, MSG_DONTWAIT)
    silence.of(sent_from(frames, PORT), early)
    dropped.of(early)


@behaviour("wire.receive.closed", "close(2); tcp_rcv_state_process: tcp_send_active_reset; RFC 1122 4.2.2.13")
@pytest.mark.routes("direct")
def test_closed(tcp_opener, wire, expect_frames):
    """Data that comes after close is answered by RST."""
    sock, end = tcp_opener.connected(TCP)
    check = expect_frames(ip(TCP) / tcp("R", seq=2, window=0) / data(b""))
    closed = sock.close()
    need(closed)
    end.receive()
    wire.frames()
    end.send("PA", b"late")
    check.of(sent_from(wire.frames(), PORT), closed)


@behaviour(
    "wire.error.segment-too-large", "ip(7) IP_MTU_DISCOVER; tcp_v4_mtu_reduced, tcp_simple_retransmit; RFC 1191 6.4"
)
@pytest.mark.routes("direct")
def test_segment_too_large(tcp_opener, wire, expect_frames):
    """ICMP "fragmentation needed" about a segment lets TCP send its bytes again in segments that fit."""
    sock, end = tcp_opener.connected(TCP)
    text = bytes(range(250)) * 4
    send(sock, text)
    quoted = end.receive().underlayer
    wire.frames()
    check = expect_frames(ip(TCP) / layer("TCP", seq=1, ack=1) / data(text[:660]))
    named = sock.sockname()
    need(named)
    end.peer.send(layer("IP", src=THERE, dst=HERE) / layer("ICMP", type=3, code=4, nexthopmtu=700) / quoted)
    check.of(sent_from(wire.frames(), PORT)[:1], named, resent=True)
