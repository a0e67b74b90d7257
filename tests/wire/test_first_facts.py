"""Frames sent by bind, listen, connect and sendto, and calls that send none."""

import socket
from errno import EADDRNOTAVAIL, ECONNREFUSED

import pytest

from probes.abi import sockaddr
from probes.abi.frame import Frame
from probes.testing import behaviour, need
from probes.testing.socket_kinds import CONNECTING, TCP, TCP6, UDP, UDP6, WITH_PORTS


def ports(frames: list[Frame], layer: str) -> list[list[int]]:
    """Returns [source port, destination port] of each frame, which scapy finds in a layer."""
    return [[frame.packet[layer].sport, frame.packet[layer].dport] for frame in frames]


@behaviour("wire.silence.bind", "bind(2); __inet_bind: no function on its path sends; S4 3.2")
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
def test_bind_is_silent(kind, new_socket, wire, expect):
    """bind and getsockname send no frame."""
    sock = new_socket(*kind.triple)
    check = expect([])
    bound, named = sock.bind(kind.address(5000)), sock.sockname()
    need(bound)
    need(named)
    frames = wire.frames()
    check.of([frame.raw for frame in frames], bound, named, *frames)


@behaviour("wire.silence.listen", "listen(2); inet_csk_listen_start")
@pytest.mark.parametrize("kind", CONNECTING, ids=str)
def test_listen_is_silent(kind, new_socket, wire, expect):
    """listen sends no frame."""
    sock = new_socket(*kind.triple)
    need(sock.bind(kind.address(5000)))
    check = expect([])
    listening = sock.listen()
    need(listening)
    frames = wire.frames()
    check.of([frame.raw for frame in frames], listening, *frames)


@behaviour("wire.connect.refused", "connect(2) ECONNREFUSED; tcp_v4_connect, tcp_v4_send_reset; RFC 9293 3.10.7.1")
@pytest.mark.parametrize("kind", [TCP, TCP6], ids=str)
def test_refused_connect(kind, new_socket, wire, expect):
    """connect to a port without a listener sends one SYN, receives one RST and fails with ECONNREFUSED."""
    sock = new_socket(*kind.triple)
    need(sock.bind(kind.address(5000)))
    result = expect(-ECONNREFUSED, step="connect")
    flags = expect(["S", "RA"], step="flags")
    both_ports = expect([[5000, 6000], [6000, 5000]], step="ports")
    refused = sock.connect(kind.address(6000))
    frames = wire.frames()
    result.of(refused)
    flags.of([str(frame.packet["TCP"].flags) for frame in frames], refused, *frames)
    both_ports.of(ports(frames, "TCP"), refused, *frames)


@behaviour("wire.datagram.sent", "sendto(2); udp_sendmsg, udpv6_sendmsg; RFC 768")
@pytest.mark.parametrize("kind", [UDP, UDP6], ids=str)
@pytest.mark.parametrize("size", [0, 1, 512])
def test_datagram(kind, size, new_socket, calls, memory, wire, expect):
    """sendto on a UDP socket sends one frame, with the ports of both sockets and the bytes of the buffer."""
    payload = (bytes(range(256)) * 2)[:size]
    peer, sock = new_socket(*kind.triple), new_socket(*kind.triple)
    need(peer.bind(kind.address(6000)))
    need(sock.bind(kind.address(5000)))
    data, address = memory.guarded(payload), memory.put(kind.address(6000))
    result = expect(size, step="result")
    both_ports = expect([[5000, 6000]], step="ports")
    sent_bytes = expect([payload], step="bytes")
    sent = calls.make("sendto", sock.fd, data, size, 0, address, address.size)
    frames = wire.frames()
    result.of(sent)
    both_ports.of(ports(frames, "UDP"), sent, *frames)
    # The payload follows 14 bytes of Ethernet header, the IP header and 8 bytes of UDP header.
    begin = 14 + (20 if kind.family == socket.AF_INET else 40) + 8
    sent_bytes.of([frame.raw[begin:] for frame in frames], sent, *frames)


@behaviour("wire.silence.refused-bind", "bind(2) EADDRNOTAVAIL; __inet_bind")
def test_refused_bind_is_silent(new_socket, wire, expect):
    """bind to an address that is not local sends no frame: it probes for no other owner of the address."""
    sock = new_socket(*TCP.triple)
    check = expect([])
    refused = sock.bind(sockaddr.inet("192.0.2.1", 5000))
    need(refused, "a foreign address", returns=-EADDRNOTAVAIL)
    frames = wire.frames()
    check.of([frame.raw for frame in frames], refused, *frames)
