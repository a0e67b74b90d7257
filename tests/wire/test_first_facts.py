"""Frames of a refused connect and of a datagram, in the plainest form."""

import socket
from errno import ECONNREFUSED

import pytest

from probes.abi.frame import Frame
from probes.testing import behaviour, need
from probes.testing.socket_kinds import TCP, TCP6, UDP, UDP6


def ports(frames: list[Frame], layer: str) -> list[list[int]]:
    """Returns [source port, destination port] of each frame, which scapy finds in a layer."""
    return [[frame.packet[layer].sport, frame.packet[layer].dport] for frame in frames]


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
