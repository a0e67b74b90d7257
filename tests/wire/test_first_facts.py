"""What the calls of a socket's first steps put on the wire, and what they do not."""

import socket
from errno import ECONNREFUSED

import pytest

from probes.abi import sockaddr
from probes.testing import behaviour, need
from probes.testing.socket_kinds import CONNECTING, TCP, TCP6, UDP, UDP6, WITH_PORTS


def ports(frame, layer):
    """Source and destination port, and what follows them."""
    found = frame.packet[layer]
    return found.sport, found.dport


@behaviour("wire.silence.bind", "bind(2); __inet_bind: no function on its path sends; S4 3.2")
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
def test_bind_is_silent(kind, new_socket, wire, expect):
    """Binding a socket, and asking for its name, sends nothing."""
    sock = new_socket(*kind.triple)
    bound = sock.bind(kind.address(5000))
    need(bound)
    named, _ = sock.sockname()
    need(named)
    expect([]).of([frame.raw for frame in wire.frames()], bound, named)


@behaviour("wire.silence.listen", "listen(2); inet_csk_listen_start")
@pytest.mark.parametrize("kind", CONNECTING, ids=str)
def test_listen_is_silent(kind, new_socket, wire, expect):
    """Listening sends nothing."""
    sock = new_socket(*kind.triple)
    need(sock.bind(kind.address(5000)))
    listening = sock.listen()
    need(listening)
    expect([]).of([frame.raw for frame in wire.frames()], listening)


@behaviour("wire.connect.refused", "connect(2) ECONNREFUSED; tcp_v4_connect, tcp_v4_send_reset; RFC 9293 3.10.7.1")
@pytest.mark.parametrize("kind", [TCP, TCP6], ids=str)
def test_refused_connect(kind, new_socket, wire, expect):
    """A connect to a port where nobody listens sends one SYN, which is answered by one RST."""
    sock = new_socket(*kind.triple)
    need(sock.bind(kind.address(5000)))
    expect(-ECONNREFUSED, step="connect").of(result := sock.connect(kind.address(6000)))
    frames = wire.frames()
    expect(["S", "RA"], step="flags").of([str(frame.packet["TCP"].flags) for frame in frames], result, *frames)
    expect([[5000, 6000], [6000, 5000]], step="ports").of([ports(f, "TCP") for f in frames], result, *frames)


@behaviour("wire.datagram.sent", "sendto(2); udp_sendmsg, udpv6_sendmsg; RFC 768")
@pytest.mark.parametrize("kind", [UDP, UDP6], ids=str)
@pytest.mark.parametrize("size", [0, 1, 512])
def test_datagram(kind, size, new_socket, calls, memory, wire, expect):
    """A datagram leaves as one frame, with the ports and the bytes that were given."""
    payload = bytes(range(256)) * 2
    peer, sock = new_socket(*kind.triple), new_socket(*kind.triple)
    need(peer.bind(kind.address(6000)))
    need(sock.bind(kind.address(5000)))
    data, address = memory.guarded(payload[:size]), memory.put(kind.address(6000))
    sent = calls.make("sendto", sock.fd, data, size, 0, address, address.size)
    expect(size, step="result").of(sent)
    frames = wire.frames()
    expect([[5000, 6000]], step="ports").of([ports(frame, "UDP") for frame in frames], sent, *frames)
    # The payload lies behind the 14 bytes of the link, the network header and the 8 bytes of UDP.
    begin = 14 + (20 if kind.family == socket.AF_INET else 40) + 8
    expect([payload[:size]], step="bytes").of([frame.raw[begin:] for frame in frames], sent, *frames)


@behaviour("wire.silence.refused-bind", "bind(2) EADDRNOTAVAIL; __inet_bind")
def test_refused_bind_is_silent(new_socket, wire, expect):
    """A bind that is refused sends nothing: nobody is asked whether the address is used."""
    sock = new_socket(*TCP.triple)
    refused = sock.bind(sockaddr.inet("192.0.2.1", 5000))
    expect([]).of([frame.raw for frame in wire.frames()], refused)
