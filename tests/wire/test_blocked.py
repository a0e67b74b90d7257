"""Calls that sleep until the peer acts: what ends them, and what does not."""

from errno import EAGAIN, ECONNREFUSED, ECONNRESET, EHOSTUNREACH
from socket import IPPROTO_IP, MSG_DONTWAIT, SO_ERROR, SO_SNDBUF, SOL_SOCKET

import pytest

from probes.abi import sockaddr
from probes.sandbox.links import HERE, THERE
from probes.testing import behaviour, need, procfs
from probes.testing.frames import begins, ends
from probes.testing.socket_kinds import TCP
from tests.wire.layers import PEER_PORT, PORT, data, ip, layer, tcp, udp
from tests.wire.sending import send, try_to_send
from tests.wire.tcp_peer import MSS, TcpPeer

#: That a call which sleeps enters by either route is judged in entry; what ends it does not depend on the route.
pytestmark = pytest.mark.routes("direct")
IP_RECVERR, MSG_ERRQUEUE, SIOCOUTQ = 11, 0x2000, 0x5411
_OFFER = [("MSS", MSS)]


def unreachable(end, quoted, code=1):
    """Returns an ICMP error of the peer, by default "host unreachable", about a packet that it got."""
    return layer("IP", src=end.there, dst=end.here) / layer("ICMP", type=3, code=code) / quoted


def judge(check, room, received):
    """Judges what a call received: the bytes, or a result of 0 or an error."""
    if int(received) > 0:
        check.of(room.read()[: int(received)], received)
    else:
        check.of(received)


#: What answers a SYN, by name: the result of connect, how the peer sends it, the frames behind the SYN.
ANSWERS = {
    "SYN-ACK": (0, lambda end, syn: end.send("SA", options=_OFFER), [("SA", 0, 1), ("A", 1, 1)]),
    "RST": (-ECONNREFUSED, lambda end, syn: end.send("RA"), [("RA", None, 1)]),
    "ICMP": (-EHOSTUNREACH, lambda end, syn: end.peer.send(unreachable(end, syn)), []),
}


@behaviour("wire.blocked.connect", "connect(2) ECONNREFUSED; icmp(7); inet_wait_for_connect, tcp_reset, tcp_v4_err")
@pytest.mark.parametrize("answer", ANSWERS)
def test_connect(answer, tcp_opener, meanwhile, wire, expect, expect_frames):
    """A blocking connect sleeps until its SYN is answered: SYN-ACK ends it with 0, RST with ECONNREFUSED, ICMP "host
    unreachable" with EHOSTUNREACH.
    """
    value, send_answer, segments = ANSWERS[answer]
    end, sock = tcp_opener.peer(TCP), tcp_opener.socket(TCP)
    wire.frames()
    result = expect(value, step="result")
    frames = [
        layer("IP") / tcp(flags, **({} if seq is None else {"seq": seq}), ack=ack) for flags, seq, ack in segments
    ]
    frames += [layer("IP") / layer("ICMP", type=3, code=1)] if answer == "ICMP" else []
    order = expect_frames(begins("connect"), ip(TCP) / tcp("S"), *frames, ends("connect"), step="frames")
    with meanwhile(lambda: send_answer(end, end.receive().underlayer)):
        connected = sock.connect(tcp_opener.there(TCP))
    order.of(wire.frames(), connected)
    result.of(connected)


@behaviour("wire.blocked.accept", "accept(2); inet_csk_wait_for_connect, tcp_check_req; RFC 9293 3.5")
def test_accept(tcp_opener, meanwhile, wire, expect, expect_frames):
    """A blocking accept sleeps until a handshake is over: neither a SYN nor an RST in place of its last ACK ends it."""
    first, listener = tcp_opener.peer(TCP), tcp_opener.socket(TCP)
    second = TcpPeer(first.peer, TCP, port=PEER_PORT + 1)
    need(listener.listen())
    wire.frames()

    def open_by(end, last):
        end.send("S", options=_OFFER)
        end.receive()
        end.send(last)

    peers = [
        layer("IP") / tcp(flags, **ports)
        for end, last in ((first, "R"), (second, "A"))
        for flags, ports in (("S", {"sport": end.port}), ("SA", {"dport": end.port}), (last, {"sport": end.port}))
    ]
    order = expect_frames(begins("accept4"), *peers, ends("accept4"), step="frames")
    (free,) = procfs.lowest()
    name, descriptor = expect(TCP.address(PEER_PORT + 1, THERE), step="name"), expect(free, step="descriptor")
    memory = listener.calls.memory
    room, length = memory.alloc(16), memory.words(16)
    with meanwhile(lambda: open_by(first, "R"), lambda: open_by(second, "A")):
        accepted = listener.accept(room, length)
    order.of(wire.frames(), accepted)
    name.of(room.read(), accepted)
    descriptor.of(accepted)


#: What comes while recv sleeps, by name: what it returns, and what the peer sends.
RECEIVED = {
    "checksum": (b"good", [("PA", b"lost", {"lost": True, "chksum": 1}), ("PA", b"good", {})]),
    "gap": (b"firstlast", [("PA", b"last", {"ahead": 5}), ("PA", b"first", {})]),
    "acknowledgement": (b"data", [("A", b"", {}), ("PA", b"data", {})]),
    "FIN": (0, [("FA", b"", {})]),
    "RST": (-ECONNRESET, [("R", b"", {})]),
}


@behaviour(
    "wire.blocked.receive", "recv(2); sk_wait_data, tcp_data_queue_ofo, tcp_checksum_complete, tcp_reset, tcp_fin"
)
@pytest.mark.parametrize("what", RECEIVED)
def test_receive(what, tcp_opener, meanwhile, wire, expect, expect_frames):
    """recv sleeps until the next bytes come, a FIN, which gives 0, or an RST, which gives ECONNRESET.

    A segment with a wrong checksum, one behind a gap and one without data do not end it.
    """
    value, sent = RECEIVED[what]
    sock, end = tcp_opener.connected(TCP)
    wire.frames()
    room = sock.calls.memory.alloc(16)
    order = expect_frames(
        begins("recvfrom"), *(layer("IP") / tcp(flags) / data(load) for flags, load, _ in sent), ends("recvfrom"),
        step="frames",
    )  # fmt: skip
    result = expect(value, step="received")

    def step(flags, load, fields):
        return lambda: end.send(flags, load, **fields)

    with meanwhile(*(step(*segment) for segment in sent)):
        received = sock.calls.make("recv", sock.fd, room, 16, 0)
    frames = wire.frames()
    order.of([one for one in frames if one.packet["IP"].src == THERE], received)
    judge(result, room, received)


#: What ends a send that sleeps, by name: what the call returns.
SENT = {"window": 4, "RST": -ECONNRESET}


@behaviour("wire.blocked.send", "send(2); sk_stream_wait_memory, tcp_check_space, tcp_reset; RFC 9293 3.8.6.1")
@pytest.mark.parametrize("what", SENT)
def test_send(what, tcp_opener, meanwhile, wire, expect):
    """send to a peer whose window is 0 sleeps when its buffer is full, until an acknowledgement makes room, or an RST comes.

    The RST gives ECONNRESET.
    """
    sock, end = tcp_opener.connected(TCP)
    need(sock.setsockopt(SOL_SOCKET, SO_SNDBUF, 1))
    end.send("A", window=0)
    wire.frames()
    while (taken := try_to_send(sock, bytes(1000), MSG_DONTWAIT)) > 0:
        pass
    need(taken, "a send into a full buffer", returns=-EAGAIN)
    count = sock.calls.memory.words(0)
    need(sock.calls.syscall("ioctl", sock.fd, SIOCOUTQ, count), "SIOCOUTQ")
    queued = count.words()[0]

    def open_window():
        """Opens the window, and acknowledges each segment until all that was queued has come."""
        last = (end.wanted + queued) % (1 << 32)
        end.send("A")
        while end.wanted != last:
            end.receive()
            end.send("A")

    check = expect(SENT[what])
    with meanwhile(open_window if what == "window" else lambda: end.send("R")):
        sent = try_to_send(sock, b"more")
    check.of(sent)


#: What comes while recv of a connected UDP socket sleeps, by name, and what it returns.
DATAGRAMS = {"checksum": b"good", "fragments": bytes(range(100)), "ICMP": -ECONNREFUSED}


@behaviour("wire.blocked.receive-datagram", "recv(2); udp(7) ECONNREFUSED; __skb_recv_udp, ip_defrag, __udp4_lib_err")
@pytest.mark.parametrize("what", DATAGRAMS)
def test_receive_datagram(what, peer, sock, meanwhile, wire, expect):
    """recv of a UDP socket sleeps until a whole datagram with a right checksum has come, or an ICMP error.

    "Port unreachable" gives ECONNREFUSED.
    """
    from scapy.layers.inet import fragment

    need(sock.connect(sockaddr.inet(THERE, PEER_PORT)))
    send(sock, b"data")
    quoted = peer.receive("UDP")["IP"]
    network, header = layer("IP", src=THERE, dst=HERE, id=7), {"sport": PEER_PORT, "dport": PORT}
    good, bad = network / udp(**header) / data(b"good"), network / udp(**header, chksum=1) / data(b"lost")
    steps = {
        "checksum": [bad, good],
        "fragments": reversed(fragment(network / udp(**header) / data(bytes(range(100))), fragsize=64)),
        "ICMP": [network / layer("ICMP", type=3, code=3) / quoted],
    }[what]
    room = sock.calls.memory.alloc(200)
    check = expect(DATAGRAMS[what])
    with meanwhile(*((lambda one=one: peer.send(one)) for one in steps)):
        received = sock.calls.make("recv", sock.fd, room, 200, 0)
    judge(check, room, received)


@behaviour(
    "wire.error.connection", "tcp(7) IP_RECVERR; ip(7) IP_RECVERR: TCP has no error queue; tcp_v4_err, sk_err_soft"
)
@pytest.mark.parametrize("option", ["off", "on"])
def test_connection_error(option, tcp_opener, meanwhile, wire, expect):
    """ICMP "host unreachable" about a connection does not end it, and is not reported; with IP_RECVERR recv reports it.

    It is not in a queue of errors: recv with MSG_ERRQUEUE fails with EAGAIN, and SO_ERROR is 0 then.
    """
    sock, end = tcp_opener.connected(TCP)
    need(sock.setsockopt(IPPROTO_IP, IP_RECVERR, int(option == "on")))
    wire.frames()
    quoted = layer("IP", src=end.here, dst=end.there) / tcp("A", sport=PORT, dport=PEER_PORT, seq=end.wanted)
    room = sock.calls.memory.alloc(8)
    check = expect(-EHOSTUNREACH if option == "on" else b"data", step="recv")
    with meanwhile(lambda: end.peer.send(unreachable(end, quoted)), lambda: end.send("PA", b"data")):
        received = sock.calls.make("recv", sock.fd, room, 8, 0)
    judge(check, room, received)
    expect(-EAGAIN, step="queue").of(sock.calls.make("recv", sock.fd, room, 8, MSG_ERRQUEUE))
    expect(0, step="SO_ERROR").of(sock.getsockopt(SOL_SOCKET, SO_ERROR).as_int())
