"""What options and sysctls of TCP change of segments: ECN, Fast Open, when data is accepted and acknowledged."""

from errno import EAGAIN, EINPROGRESS
from select import POLLIN, POLLOUT
from socket import IPPROTO_TCP, SOCK_NONBLOCK

import pytest

from probes.testing import behaviour, need, procfs
from probes.testing.frames import sent_from
from probes.testing.socket_kinds import TCP
from tests.wire.layers import PORT, data, ip, tcp
from tests.wire.sending import send, try_to_send
from tests.wire.tcp_peer import MSS

#: How TCP puts segments on the wire has nothing to do with the route of the call.
pytestmark = pytest.mark.routes("direct")
#: Options of IPPROTO_TCP (tcp(7)), and a flag of send.
TCP_DEFER_ACCEPT, TCP_QUICKACK, TCP_FASTOPEN, MSG_FASTOPEN = 9, 12, 23, 0x20000000
#: net.ipv4.tcp_fastopen: TFO_CLIENT_ENABLE; TFO_SERVER_ENABLE without a cookie (TFO_SERVER_COOKIE_NOT_REQD).
_CLIENT, _SERVER = 1, 0x202
#: A cookie, as scapy has it: two words.
_COOKIE = (0x01020304, 0x05060708)
#: More exchanges than after which acknowledgements wait for data to go with (TCP_PINGPONG_THRESH).
_EXCHANGES = 4
_OFFER = [("MSS", MSS)]


@behaviour("wire.connect.ecn", "tcp(7) tcp_ecn; tcp_ecn_send_syn, tcp_ecn_send, tcp_ecn_rcv_ecn_echo; RFC 3168 6.1")
@pytest.mark.parametrize("tcp_ecn", [0, 1])
def test_ecn(tcp_ecn, tcp_opener, wire, expect_frames):
    """With net.ipv4.tcp_ecn 1 a SYN asks for ECN by ECE and CWR; where the SYN-ACK has ECE, data is sent as ECN-capable, and
    the first data after an acknowledgement with ECE has CWR. With 0 nothing of that is sent.
    """
    procfs.set_sysctl("net.ipv4.tcp_ecn", tcp_ecn)
    end, sock = tcp_opener.peer(TCP), tcp_opener.socket(TCP, SOCK_NONBLOCK)
    wire.frames()
    asked = expect_frames(ip(TCP) / tcp("SEC" if tcp_ecn else "S"), step="SYN")
    connecting = sock.connect(tcp_opener.there(TCP))
    need(connecting, "connect", returns=-EINPROGRESS)
    asked.of(wire.frames(), connecting)
    end.receive()
    end.send("SAE", options=_OFFER)
    tcp_opener.wait(sock, POLLOUT)
    end.receive()
    for step, flags in (("data", "PA"), ("echoed", "PAC" if tcp_ecn else "PA")):
        wire.frames()
        check = expect_frames(ip(TCP, tos=2 if tcp_ecn else 0) / tcp(flags) / data(b"data"), step=step)
        sent = send(sock, b"data")
        check.of(wire.frames(), sent)
        end.receive()
        end.send("AE")


@behaviour("wire.accept.ecn", "tcp(7) tcp_ecn; tcp_ecn_create_request; RFC 3168 6.1.1")
@pytest.mark.parametrize("tcp_ecn", [0, 2])
def test_accept_ecn(tcp_ecn, tcp_opener, wire, expect_frames):
    """A SYN that asks for ECN is answered by a SYN-ACK with ECE where net.ipv4.tcp_ecn is 2, without it where it is 0."""
    procfs.set_sysctl("net.ipv4.tcp_ecn", tcp_ecn)
    end, listener = tcp_opener.peer(TCP), tcp_opener.socket(TCP)
    listening = listener.listen()
    need(listening)
    wire.frames()
    check = expect_frames(ip(TCP) / tcp("SAE" if tcp_ecn else "SA", seq=0, ack=1))
    named = listener.sockname()
    need(named)
    end.send("SEC", options=_OFFER)
    check.of(sent_from(wire.frames(), PORT), named)


@behaviour("wire.connect.fast-open", "send(2) MSG_FASTOPEN; tcp(7) tcp_fastopen; tcp_send_syn_data; RFC 7413 4.2")
def test_fast_open(tcp_opener, new_socket, wire, expect, expect_frames):
    """MSG_FASTOPEN to a peer whose cookie is not known sends a SYN without data that asks for one; the SYN of the next
    connection has the cookie, and the data.
    """
    procfs.set_sysctl("net.ipv4.tcp_fastopen", _CLIENT)
    end, sock = tcp_opener.peer(TCP), tcp_opener.socket(TCP, SOCK_NONBLOCK)
    wire.frames()
    asked, refused = expect_frames(ip(TCP) / tcp("S") / data(b""), step="asks"), expect(-EINPROGRESS, step="no-cookie")
    sent = try_to_send(sock, b"data", MSG_FASTOPEN, tcp_opener.there(TCP))
    asked.of(wire.frames(), sent)
    refused.of(sent)
    end.receive()
    end.send("SA", options=[*_OFFER, ("TFO", _COOKIE)])
    tcp_opener.wait(sock, POLLOUT)
    family, type_, protocol = TCP.triple
    again = new_socket(family, type_ | SOCK_NONBLOCK, protocol)
    wire.frames()
    with_data, taken = expect_frames(ip(TCP) / tcp("S", seq=0) / data(b"data"), step="data"), expect(4, step="cookie")
    cookie = expect([["TFO", list(_COOKIE)]], step="option")
    sent = try_to_send(again, b"data", MSG_FASTOPEN, tcp_opener.there(TCP))
    frames = wire.frames()
    with_data.of(frames, sent)
    taken.of(sent)
    options = [option for frame in frames for option in frame.packet["TCP"].options if option[0] == "TFO"]
    cookie.of([[name, list(value)] for name, value in options], sent, *frames)


@behaviour("wire.accept.fast-open", "tcp(7) TCP_FASTOPEN; tcp_try_fastopen, tcp_fastopen_create_child; RFC 7413 4.2")
def test_accept_fast_open(tcp_opener, wire, expect, expect_frames):
    """A listening socket with TCP_FASTOPEN acknowledges the data of a SYN; accept and recv return before its handshake is
    over.
    """
    procfs.set_sysctl("net.ipv4.tcp_fastopen", _CLIENT | _SERVER)
    end, listener = tcp_opener.peer(TCP), tcp_opener.socket(TCP)
    need(listener.setsockopt(IPPROTO_TCP, TCP_FASTOPEN, 5))
    need(listener.listen())
    wire.frames()
    room = listener.calls.memory.alloc(8)
    answer, received = expect_frames(ip(TCP) / tcp("SA", seq=0, ack=5) / data(b""), step="answer"), expect(b"data")
    end.send("S", b"data", options=_OFFER)
    accepted = listener.accept()
    need(accepted)
    answer.of(sent_from(wire.frames(), PORT), accepted)
    got = listener.calls.make("recv", accepted, room, 8, 0)
    need(got, returns=4)
    received.of(room.read()[:4], got)


@behaviour("wire.accept.deferred", "tcp(7) TCP_DEFER_ACCEPT; tcp_check_req: rskq_defer_accept")
def test_deferred(tcp_opener, wire, expect):
    """With TCP_DEFER_ACCEPT a connection whose peer has sent no data is not accepted: EAGAIN. Data makes it acceptable."""
    end, listener = tcp_opener.peer(TCP), tcp_opener.socket(TCP, SOCK_NONBLOCK)
    need(listener.setsockopt(IPPROTO_TCP, TCP_DEFER_ACCEPT, 10))
    need(listener.listen())
    waits = expect(-EAGAIN, step="handshake")
    end.send("S", options=_OFFER)
    end.receive()
    end.send("A")
    wire.frames()
    waits.of(listener.accept())
    room = listener.calls.memory.alloc(8)
    received = expect(b"data", step="data")
    end.send("PA", b"data")
    tcp_opener.wait(listener, POLLIN)
    accepted = listener.accept()
    need(accepted)
    got = listener.calls.make("recv", accepted, room, 8, 0)
    need(got, returns=4)
    received.of(room.read()[:4], got)


@behaviour(
    "wire.receive.quick-ack", "tcp(7) TCP_QUICKACK; __tcp_sock_set_quickack, __tcp_ack_snd_check; RFC 9293 3.8.6.3"
)
def test_quick_ack(tcp_opener, wire, expect_frames):
    """With TCP_QUICKACK data is acknowledged at once, also where each of the two ends has answered the other by data."""
    sock, end = tcp_opener.connected(TCP)
    room = sock.calls.memory.alloc(8)
    for _ in range(_EXCHANGES):
        end.send("PA", b"data")
        need(sock.calls.make("recv", sock.fd, room, 4, 0), "recv", returns=4)
        send(sock, b"data")
        while not bytes(end.receive().payload).startswith(b"data"):
            pass
    end.send("A")
    wire.frames()
    count = 4 * _EXCHANGES
    check = expect_frames(ip(TCP) / tcp("A", seq=1 + count, ack=1 + count + 4) / data(b""))
    chosen = sock.setsockopt(IPPROTO_TCP, TCP_QUICKACK, 1)
    need(chosen)
    end.send("PA", b"data")
    check.of(sent_from(wire.frames(), PORT), chosen)
