"""Packets of raw sockets, with a header by the kernel and with one of their own, and frames of packet sockets."""

from errno import EMSGSIZE
from socket import (
    AF_INET,
    AF_INET6,
    AF_PACKET,
    IPPROTO_ICMPV6,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPPROTO_RAW,
    IPPROTO_UDP,
    SOCK_DGRAM,
    SOCK_RAW,
)

import pytest

from probes.abi import sockaddr
from probes.sandbox.links import FAR_MAC, HERE, HERE6, NEAR_MAC, THERE, THERE6
from probes.testing import behaviour, need
from probes.testing.frames import begins, ends
from probes.testing.prepared import ETHERTYPE
from probes.testing.socket_kinds import RAW, RAW6
from tests.wire.layers import data, layer
from tests.wire.sending import send, try_to_send

#: ip(7), raw(7): an option of IPPROTO_IP.
IP_HDRINCL = 3
#: RFC 3542: an option of IPPROTO_IPV6, the offset of the checksum in what is sent.
IPV6_CHECKSUM = 7
PROTOCOL = RAW.protocol
THERE_ADDRESS = sockaddr.inet(THERE, 0)
FRAME = (
    bytes.fromhex(FAR_MAC.replace(":", "") + NEAR_MAC.replace(":", "")) + ETHERTYPE.to_bytes(2, "big") + b"some bytes"
)


def link_address(link, mac=b""):
    """Returns a struct sockaddr_ll of the experimental protocol on a link, with a hardware address."""
    return sockaddr.packet(ETHERTYPE, link)[:11] + bytes([len(mac)]) + mac.ljust(8, b"\0")


@behaviour("wire.raw.header", "raw(7); raw_sendmsg, ip_make_skb; RFC 791 3.1")
def test_header(peer, new_socket, wire, expect_frames):
    """A raw IPv4 socket sends its bytes behind an IP header with the socket's protocol, 64 hops and a right checksum."""
    sock = new_socket(*RAW.triple)
    header = layer("IP", version=4, ihl=5, ttl=64, tos=0, flags="DF", frag=0, proto=PROTOCOL, src=HERE, dst=THERE)
    header.len = header.chksum = None
    check = expect_frames(begins("sendto"), header / data(b"data"), ends("sendto"))
    sent = send(sock, b"data", to=THERE_ADDRESS)
    check.of(wire.frames(), sent)


@behaviour("wire.raw.options", "raw(7); ip(7) IP_TTL, IP_TOS; raw_sendmsg")
@pytest.mark.routes("direct")
def test_options(peer, new_socket, wire, expect_frames):
    """IP_TTL and IP_TOS are in the header of what a raw socket sends."""
    sock = new_socket(*RAW.triple)
    need(sock.setsockopt(IPPROTO_IP, 2, 33))
    need(sock.setsockopt(IPPROTO_IP, 1, 0x10))
    check = expect_frames(layer("IP", ttl=33, tos=0x10, proto=PROTOCOL, chksum=None) / data(b"data"))
    sent = send(sock, b"data", to=THERE_ADDRESS)
    check.of(wire.frames(), sent)


@behaviour("wire.raw.header-included", "raw(7) IP_HDRINCL; raw_send_hdrinc; ip(7) IP_HDRINCL, IP_TTL, IP_TOS")
@pytest.mark.parametrize("means", ["IP_HDRINCL", "IPPROTO_RAW"])
@pytest.mark.routes("direct")
def test_header_included(means, peer, new_socket, wire, expect_frames):
    """With IP_HDRINCL, which IPPROTO_RAW implies, the packet is sent as given, its checksum and total length filled in."""
    sock = new_socket(AF_INET, SOCK_RAW, PROTOCOL if means == "IP_HDRINCL" else IPPROTO_RAW)
    if means == "IP_HDRINCL":
        need(sock.setsockopt(IPPROTO_IP, IP_HDRINCL, 1))
    need(sock.setsockopt(IPPROTO_IP, 2, 33))
    need(sock.setsockopt(IPPROTO_IP, 1, 0x10))
    given = layer("IP", ttl=9, tos=4, id=0x1234, flags=0, frag=0, proto=99, src="198.51.100.9", dst="198.51.100.7")
    wanted = given.copy()
    wanted.len = wanted.chksum = None
    given.len, given.chksum = 1, 1
    check = expect_frames(wanted / data(b"data"))
    sent = send(sock, bytes(given / data(b"data")), to=THERE_ADDRESS)
    check.of(wire.frames(), sent)


@behaviour("wire.raw.header-filled", "raw(7) IP_HDRINCL: the fields that are filled in when zero; raw_send_hdrinc")
def test_header_filled(peer, new_socket, wire, expect_frames):
    """With IP_HDRINCL a source address of 0 is filled in by that of the link."""
    sock = new_socket(AF_INET, SOCK_RAW, IPPROTO_RAW)
    given = layer("IP", ttl=9, id=0, proto=PROTOCOL, src="0.0.0.0", dst=THERE)
    check = expect_frames(layer("IP", src=HERE, dst=THERE, ttl=9, chksum=None) / data(b"data"))
    sent = send(sock, bytes(given / data(b"data")), to=THERE_ADDRESS)
    check.of(wire.frames(), sent)


@behaviour("wire.raw.header-too-large", "raw(7) IP_HDRINCL, EMSGSIZE; raw_send_hdrinc")
@pytest.mark.routes("direct")
def test_header_too_large(peer, new_socket, wire, expect, expect_frames):
    """With IP_HDRINCL a packet larger than the link's MTU is not fragmented: EMSGSIZE, and nothing is sent."""
    sock = new_socket(AF_INET, SOCK_RAW, IPPROTO_RAW)
    given = layer("IP", ttl=9, proto=PROTOCOL, src=HERE, dst=THERE, len=1501) / data(bytes(1481))
    refused, silence = expect(-EMSGSIZE, step="result"), expect_frames(step="frames")
    sent = try_to_send(sock, bytes(given), to=THERE_ADDRESS)
    silence.of(wire.frames(), sent)
    refused.of(sent)


@behaviour("wire.raw.header6", "raw(7); ipv6(7); rawv6_sendmsg, ip6_make_skb; RFC 8200 3")
def test_header6(make_peer, new_socket, wire, expect_frames):
    """A raw IPv6 socket sends its bytes behind an IPv6 header with the socket's protocol as next header."""
    make_peer(ipv6=True)
    sock = new_socket(*RAW6.triple)
    check = expect_frames(layer("IPv6", nh=PROTOCOL, hlim=64, tc=0, plen=4, src=HERE6, dst=THERE6) / data(b"data"))
    sent = send(sock, b"data", to=sockaddr.inet6(THERE6, 0))
    check.of([frame for frame in wire.frames() if frame.packet["IPv6"].nh == PROTOCOL], sent)


@behaviour("wire.raw.checksum6", "ipv6(7); RFC 3542 3.1 IPV6_CHECKSUM; rawv6_push_pending_frames")
@pytest.mark.parametrize("what", ["ICMPv6", "IPV6_CHECKSUM"])
@pytest.mark.routes("direct")
def test_checksum6(what, make_peer, new_socket, wire, expect_frames):
    """The kernel fills in the checksum of what a raw ICMPv6 socket sends, and where IPV6_CHECKSUM says so of another's."""
    make_peer(ipv6=True)
    icmp = what == "ICMPv6"
    sock = new_socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6 if icmp else IPPROTO_UDP)
    header = layer("ICMPv6EchoRequest", id=7, seq=3) if icmp else layer("UDP", sport=5000, dport=6000, len=12)
    if not icmp:
        need(sock.setsockopt(IPPROTO_IPV6, IPV6_CHECKSUM, 6))
    name = "cksum" if icmp else "chksum"
    wanted, given = header.copy(), header.copy()
    wanted.setfieldval(name, None)
    given.setfieldval(name, 0)
    check = expect_frames(layer("IPv6", src=HERE6, dst=THERE6) / wanted)
    sent = send(sock, bytes(given) + b"data", to=sockaddr.inet6(THERE6, 0))
    check.of([frame for frame in wire.frames() if frame.packet.haslayer(type(header))], sent)


@behaviour("wire.packet.raw", "packet(7) SOCK_RAW; packet_snd, packet_sendmsg_spkt")
def test_packet_raw(peer, new_socket, wire, expect_frames):
    """A packet socket of type SOCK_RAW sends its bytes as the whole frame, link header included."""
    sock = new_socket(AF_PACKET, SOCK_RAW, 0)
    check = expect_frames(
        begins("sendto"),
        layer("Ether", src=NEAR_MAC, dst=FAR_MAC, type=ETHERTYPE) / data(b"some bytes"),
        ends("sendto"),
    )
    sent = send(sock, FRAME, to=link_address(peer.near))
    check.of(wire.frames(), sent)


@behaviour("wire.packet.datagram", "packet(7) SOCK_DGRAM; packet_snd, dev_hard_header")
def test_packet_datagram(peer, new_socket, wire, expect_frames):
    """A packet socket of type SOCK_DGRAM sends a link header with sll_addr, sll_protocol and the link's own address."""
    sock = new_socket(AF_PACKET, SOCK_DGRAM, 0)
    other = "02:00:00:00:00:77"
    check = expect_frames(layer("Ether", src=NEAR_MAC, dst=other, type=ETHERTYPE) / data(b"some bytes"))
    sent = send(sock, b"some bytes", to=link_address(peer.near, bytes.fromhex(other.replace(":", ""))))
    check.of(wire.frames(), sent)


@behaviour("wire.packet.too-large", "packet(7) EMSGSIZE; packet_snd")
@pytest.mark.routes("direct")
def test_packet_too_large(peer, new_socket, wire, expect, expect_frames):
    """A frame larger than the link's MTU and header gives EMSGSIZE, and nothing is sent."""
    sock = new_socket(AF_PACKET, SOCK_RAW, 0)
    refused, silence = expect(-EMSGSIZE, step="result"), expect_frames(step="frames")
    sent = try_to_send(sock, FRAME.ljust(1520, b"x"), to=link_address(peer.near))
    silence.of(wire.frames(), sent)
    refused.of(sent)
