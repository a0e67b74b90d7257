"""Headers of datagrams, and the options that are in them."""

import socket
import struct
from errno import ECONNREFUSED
from socket import (
    IPPROTO_IP,
    IPPROTO_IPV6,
    MSG_MORE,
)

import pytest

from probes.abi import sockaddr
from probes.entry.memory import pack_words
from probes.testing import behaviour, need
from probes.testing.frames import begins, ends, sent_from
from probes.testing.socket_kinds import TCP, TCP6, UDP, UDP6
from tests.wire.layers import PEER_PORT, PORT, data, ip, tcp, udp
from tests.wire.sending import send

KINDS = pytest.mark.parametrize("kind", [UDP, UDP6], ids=str)
#: Options of IPPROTO_IP and IPPROTO_IPV6 (ip(7), ipv6(7)), by the version of the kind.
TOS = {UDP: (IPPROTO_IP, 1), UDP6: (IPPROTO_IPV6, 67)}
TTL = {UDP: (IPPROTO_IP, 2), UDP6: (IPPROTO_IPV6, 16)}
IP_OPTIONS, IP_PKTINFO, UDP_CORK = 4, 8, 1


@behaviour("wire.datagram.headers", "sendto(2); udp_send_skb, ip_make_skb, ip6_make_skb; RFC 768, RFC 791, RFC 8200")
@KINDS
def test_headers(kind, new_socket, wire, expect_frames):
    """A datagram is one frame, sent before sendto returns: 64 hops, service 0, over IPv4 not to be fragmented."""
    sock = new_socket(*kind.triple)
    need(sock.bind(kind.address(PORT)))
    check = expect_frames(
        begins("sendto"),
        ip(kind, ttl=64, tos=0) / udp(sport=PORT, dport=PEER_PORT, len=12) / data(b"data"),
        ends("sendto"),
    )
    sent = send(sock, b"data", to=kind.address(PEER_PORT))
    check.of(sent_from(wire.frames(), PORT), sent)


@behaviour("wire.datagram.order", "sendto(2); udp_sendmsg; RFC 768")
@KINDS
def test_count(kind, new_socket, wire, expect_frames):
    """Two calls send two datagrams, in the order of the calls."""
    peer, sock = new_socket(*kind.triple), new_socket(*kind.triple)
    need(peer.bind(kind.address(PEER_PORT)))
    need(sock.bind(kind.address(PORT)))
    one, two = (ip(kind) / udp(sport=PORT, dport=PEER_PORT) / data(load) for load in (b"one", b"two"))
    check = expect_frames(begins("sendto"), one, ends("sendto"), begins("sendto"), two, ends("sendto"))
    first = send(sock, b"one", to=kind.address(PEER_PORT))
    second = send(sock, b"two", to=kind.address(PEER_PORT))
    check.of(wire.frames(), first, second)


@behaviour("wire.option.ttl", "ip(7) IP_TTL; ipv6(7) IPV6_UNICAST_HOPS; ip_select_ttl, ip6_sk_dst_hoplimit")
@pytest.mark.parametrize("hops", [1, 255])
@KINDS
@pytest.mark.routes("direct")
def test_ttl(kind, hops, new_socket, wire, expect_frames):
    """IP_TTL and IPV6_UNICAST_HOPS are the hops of what the socket sends."""
    sock = new_socket(*kind.triple)
    need(sock.bind(kind.address(PORT)))
    need(sock.setsockopt(*TTL[kind], hops))
    check = expect_frames(ip(kind, ttl=hops) / udp(sport=PORT))
    sent = send(sock, b"data", to=kind.address(PEER_PORT))
    check.of(sent_from(wire.frames(), PORT), sent)


@behaviour("wire.option.tos", "ip(7) IP_TOS; ipv6(7); RFC 3542 6.5 IPV6_TCLASS; ip_sock_set_tos, ip6_make_skb")
@pytest.mark.parametrize("service", [0x10, 0xB8])
@KINDS
@pytest.mark.routes("direct")
def test_tos(kind, service, new_socket, wire, expect_frames):
    """IP_TOS and IPV6_TCLASS are the service of what the socket sends."""
    sock = new_socket(*kind.triple)
    need(sock.bind(kind.address(PORT)))
    need(sock.setsockopt(*TOS[kind], service))
    check = expect_frames(ip(kind, tos=service) / udp(sport=PORT))
    sent = send(sock, b"data", to=kind.address(PEER_PORT))
    check.of(sent_from(wire.frames(), PORT), sent)


@behaviour("wire.option.ip-options", "ip(7) IP_OPTIONS; ip_options_get, ip_options_build; RFC 791 3.1")
@pytest.mark.routes("direct")
def test_ip_options(sock, wire, expect_frames):
    """IP_OPTIONS are in the IP header of each datagram, filled up to a multiple of 4 bytes by end-of-list."""
    # Stream id, an option of 4 bytes without a meaning for routers, and no-operation.
    need(sock.setsockopt(IPPROTO_IP, IP_OPTIONS, bytes([0x88, 4, 0, 1, 1])))
    options = [bytes([0x88, 4, 0, 1]), b"\x01", b"\0", b"\0", b"\0"]
    check = expect_frames(ip(UDP, ihl=7, options=options, chksum=None) / udp(sport=PORT) / data(b"data"))
    sent = send(sock, b"data", to=UDP.address(PEER_PORT))
    check.of(sent_from(wire.frames(), PORT), sent)


@behaviour("wire.datagram.more", "udp(7) UDP_CORK; send(2) MSG_MORE; udp_sendmsg, udp_push_pending_frames")
@pytest.mark.parametrize("means", ["MSG_MORE", "UDP_CORK"])
@pytest.mark.routes("direct")
def test_more(means, sock, wire, expect_frames):
    """MSG_MORE and UDP_CORK hold what is sent; a send without the one, clearing the other, sends all in one datagram."""
    if means == "UDP_CORK":
        need(sock.setsockopt(socket.IPPROTO_UDP, UDP_CORK, 1))
    held = expect_frames(step="held")
    sent = send(sock, b"head ", MSG_MORE if means == "MSG_MORE" else 0, UDP.address(PEER_PORT))
    held.of(wire.frames(), sent)
    joined = expect_frames(ip(UDP) / udp(sport=PORT, dport=PEER_PORT, len=17) / data(b"head tail"), step="joined")
    if means == "UDP_CORK":
        send(sock, b"tail", to=UDP.address(PEER_PORT))
        sent = sock.setsockopt(socket.IPPROTO_UDP, UDP_CORK, 0)
        need(sent)
    else:
        sent = send(sock, b"tail", to=UDP.address(PEER_PORT))
    joined.of(sent_from(wire.frames(), PORT), sent)


@behaviour("wire.datagram.source", "ip(7) IP_PKTINFO ipi_spec_dst; ip_cmsg_send, udp_sendmsg; bind(2)")
def test_source(new_socket, wire, expect_frames):
    """The source of a datagram is the socket's address; ipi_spec_dst of IP_PKTINFO is it for one message."""
    sock = new_socket(*UDP.triple)
    need(sock.bind(sockaddr.inet("127.0.0.5", PORT)))
    bound = expect_frames(ip(UDP, src="127.0.0.5", dst="127.0.0.1") / udp(sport=PORT), step="bound")
    sent = send(sock, b"data", to=UDP.address(PEER_PORT))
    bound.of(sent_from(wire.frames(), PORT), sent)
    chosen = expect_frames(ip(UDP, src="127.0.0.7", dst="127.0.0.1") / udp(sport=PORT) / data(b"data"), step="pktinfo")
    memory = sock.calls.memory
    name, text = memory.put(UDP.address(PEER_PORT)), memory.put(b"data")
    info = struct.pack("<iii", 24, IPPROTO_IP, IP_PKTINFO) + bytes(4) + socket.inet_aton("127.0.0.7") + bytes(4)
    control = memory.put(info)
    header = memory.put(
        pack_words(name.address, 16, memory.words(text.address, 4).address, 1, control.address, control.size, 0)
    )
    sent = sock.calls.make("sendmsg", sock.fd, header, 0)
    need(sent, returns=4)
    chosen.of(sent_from(wire.frames(), PORT), sent)


@behaviour("wire.option.connect", "ip(7) IP_TTL, IP_TOS; ipv6(7) IPV6_UNICAST_HOPS; ip_queue_xmit, inet6_csk_xmit")
@pytest.mark.parametrize("kind", [TCP, TCP6], ids=str)
def test_connect(kind, new_socket, wire, expect_frames):
    """IP_TTL and IP_TOS, IPV6_UNICAST_HOPS and IPV6_TCLASS of a TCP socket are in its SYN."""
    sock = new_socket(*kind.triple)
    need(sock.bind(kind.address(PORT)))
    over = UDP if kind is TCP else UDP6
    need(sock.setsockopt(*TTL[over], 33))
    need(sock.setsockopt(*TOS[over], 0x10))
    check = expect_frames(ip(kind, ttl=33, tos=0x10) / tcp("S", sport=PORT, dport=PEER_PORT))
    refused = sock.connect(kind.address(PEER_PORT))
    need(refused, returns=-ECONNREFUSED)
    check.of(sent_from(wire.frames(), PORT), refused)
