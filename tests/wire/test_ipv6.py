"""Frames of IPv6: the flow label, hops of groups, fragments, neighbour discovery, and ARP for IPv4."""

import socket
import struct
from errno import EAGAIN
from socket import AF_INET6, IPPROTO_IPV6, MSG_DONTWAIT

import pytest

from probes.abi import sockaddr
from probes.sandbox.links import FAR_MAC, HERE, HERE6, NEAR_MAC, THERE, THERE6
from probes.testing import behaviour, need
from probes.testing.frames import sent_from
from probes.testing.socket_kinds import UDP6
from tests.wire.ipv6_datagrams import OPTIONS, bound6, with_options
from tests.wire.layers import PEER_PORT, PORT, data, ip, layer, udp
from tests.wire.sending import send

#: How sendto puts a datagram on the wire has nothing to do with its route: datagrams over both are in test_datagram.py.
pytestmark = pytest.mark.routes("direct")
#: struct in6_flowlabel_req (include/uapi/linux/in6.h): a new lease that any socket may share.
LABEL, _SHARED, _CREATE, IPV6_FLOWLABEL_MGR = 0x12345, 255, 1, 32
IPV6_FLOWINFO_SEND, IPV6_MULTICAST_HOPS, IPV6_MULTICAST_IF, IPV6_DSTOPTS = 33, 18, 17, 59
IPV6_MULTICAST_LOOP, IPV6_ADD_MEMBERSHIP = 19, 20
GROUP6, GROUP6_MAC = "ff15::1:2:3", "33:33:00:02:00:03"
SOLICITED, SOLICITED_MAC = "ff02::1:ff00:2", "33:33:ff:00:00:02"
THERE6_ADDRESS = sockaddr.inet6(THERE6, PEER_PORT)


@behaviour("wire.ipv6.flow-label", "ipv6(7) sin6_flowinfo; ipv6_flowlabel_opt, udpv6_sendmsg: sndflow; RFC 6437 3")
def test_flow_label(make_peer, new_socket, wire, expect_frames):
    """With IPV6_FLOWINFO_SEND, a label that the socket leased is the flow label of what it sends with that sin6_flowinfo."""
    make_peer(ipv6=True)
    sock = bound6(new_socket)
    lease = struct.pack(">16sIBB", socket.inet_pton(AF_INET6, THERE6), LABEL, 0, _SHARED)
    lease += struct.pack("<HHHI", _CREATE, 0, 0, 0)
    need(sock.setsockopt(IPPROTO_IPV6, IPV6_FLOWLABEL_MGR, lease))
    need(sock.setsockopt(IPPROTO_IPV6, IPV6_FLOWINFO_SEND, 1))
    check = expect_frames(
        layer("IPv6", fl=LABEL, tc=0, hlim=64, src=HERE6, dst=THERE6) / udp(chksum=None) / data(b"data")
    )
    sent = send(sock, b"data", to=sockaddr.inet6(THERE6, PEER_PORT, flow=LABEL))
    check.of(sent_from(wire.frames(), PORT), sent)


@behaviour("wire.ipv6.multicast", "ipv6(7) IPV6_MULTICAST_HOPS, IPV6_MULTICAST_IF; ip6_sk_dst_hoplimit; RFC 2464 7")
def test_multicast(make_peer, new_socket, wire, expect_frames):
    """A datagram to a group has IPV6_MULTICAST_HOPS hops, by default one, and the group's Ethernet address."""
    link = make_peer(ipv6=True).near
    sock = bound6(new_socket)
    need(sock.setsockopt(IPPROTO_IPV6, IPV6_MULTICAST_IF, link))
    for hops in (1, 7):
        if hops != 1:
            need(sock.setsockopt(IPPROTO_IPV6, IPV6_MULTICAST_HOPS, hops))
        check = expect_frames(
            layer("Ether", dst=GROUP6_MAC) / ip(UDP6, ttl=hops, src=HERE6, dst=GROUP6) / udp(dport=PEER_PORT), hops=hops
        )
        sent = send(sock, b"data", to=sockaddr.inet6(GROUP6, PEER_PORT))
        check.of(sent_from(wire.frames(), PORT), sent)


@behaviour("wire.ipv6.multicast-loop", "ipv6(7) IPV6_MULTICAST_LOOP; RFC 3493 5.2; ip6_finish_output2: sk_mc_loop")
def test_multicast_loop(make_peer, new_socket, wire, expect, expect_frames):
    """What is sent to a group comes back to local sockets that joined it, unless IPV6_MULTICAST_LOOP is 0: it leaves all the
    same.
    """
    link = make_peer(ipv6=True).near
    joined, sock = new_socket(*UDP6.triple), bound6(new_socket)
    need(joined.bind(UDP6.address(PEER_PORT, "any")))
    need(sock.setsockopt(IPPROTO_IPV6, IPV6_MULTICAST_IF, link))
    group = socket.inet_pton(AF_INET6, GROUP6) + struct.pack("<i", link)
    need(joined.setsockopt(IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, group))
    room, comes = (
        joined.calls.memory.alloc(8),
        {loop: expect(answer, loop=loop) for loop, answer in ((0, -EAGAIN), (1, 4))},
    )
    # What comes back first is of the second: a loop that was to be off would have brought the other before it.
    for loop, text in ((0, b"no"), (1, b"data")):
        leaves = expect_frames(udp(dport=PEER_PORT) / data(text), loop=loop, step="leaves")
        need(sock.setsockopt(IPPROTO_IPV6, IPV6_MULTICAST_LOOP, loop))
        sent = send(sock, text, to=sockaddr.inet6(GROUP6, PEER_PORT))
        leaves.of(sent_from(wire.frames(), PORT), sent)
    for loop, flags in ((1, 0), (0, MSG_DONTWAIT)):
        comes[loop].of(joined.calls.make("recv", joined.fd, room, room.size, flags))


@behaviour("wire.ipv6.fragments", "ipv6(7) IPV6_MTU_DISCOVER; ip6_fragment; RFC 8200 4.5")
def test_fragments(make_peer, new_socket, wire, expect_frames):
    """A datagram larger than the MTU is sent in fragments by its source, each behind a fragment header."""
    make_peer(ipv6=True)
    sock = bound6(new_socket)
    text = bytes(range(250)) * 8
    base = layer("IPv6", nh=44, hlim=64, src=HERE6, dst=THERE6)
    check = expect_frames(
        base / layer("IPv6ExtHdrFragment", nh=17, offset=0, m=1) / udp(sport=PORT, len=2008) / data(text[:1440]),
        base / layer("IPv6ExtHdrFragment", nh=17, offset=1448 // 8, m=0) / data(text[1440:]),
    )
    sent = send(sock, text, to=THERE6_ADDRESS)
    check.of([frame for frame in wire.frames() if frame.packet["IPv6"].nh == 44], sent)


@behaviour("wire.ipv6.destination-options", "ipv6(7) IPV6_DSTOPTS; RFC 3542 9.2; ipv6_push_nfrag_opts, ip6_append_data")
def test_destination_options(make_peer, new_socket, wire, expect_frames):
    """IPV6_DSTOPTS puts a destination options header before what the socket sends."""
    make_peer(ipv6=True)
    sock = bound6(new_socket)
    need(sock.setsockopt(IPPROTO_IPV6, IPV6_DSTOPTS, OPTIONS))
    check = expect_frames(with_options("IPv6ExtHdrDestOpt", 60))
    sent = send(sock, b"data", to=THERE6_ADDRESS)
    check.of([frame for frame in wire.frames() if frame.packet["IPv6"].nh == 60], sent)


@behaviour("wire.ipv6.neighbour", "ipv6(7); ndisc_solicit, neigh_resolve_output; RFC 4861 7.2.2")
def test_neighbour_discovery(make_peer, new_socket, wire, expect_frames):
    """The first datagram to a neighbour waits for its hardware address: a solicitation to its group is sent before."""
    peer = make_peer(ipv6=True, neighbours=False)
    sock = bound6(new_socket)
    wire.frames()
    asked = expect_frames(
        layer("Ether", dst=SOLICITED_MAC, src=NEAR_MAC)
        / layer("IPv6", hlim=255, dst=SOLICITED, src=HERE6)
        / layer("ICMPv6ND_NS", tgt=THERE6, cksum=None)
        / layer("ICMPv6NDOptSrcLLAddr", lladdr=NEAR_MAC),
        step="solicitation",
    )
    sent = send(sock, b"data", to=THERE6_ADDRESS)
    asked.of([frame for frame in wire.frames() if frame.packet.haslayer("ICMPv6ND_NS") or b"data" in frame.raw], sent)
    then = expect_frames(layer("Ether", dst=FAR_MAC) / ip(UDP6) / udp(sport=PORT) / data(b"data"), step="datagram")
    named = sock.sockname()
    need(named)
    peer.send(
        layer("IPv6", src=THERE6, dst=HERE6, hlim=255)
        / layer("ICMPv6ND_NA", tgt=THERE6, R=0, S=1, O=1)
        / layer("ICMPv6NDOptDstLLAddr", lladdr=FAR_MAC)
    )
    then.of(sent_from(wire.frames(), PORT), named)


@behaviour("wire.datagram.arp", "arp(7); arp_solicit, neigh_resolve_output; RFC 826")
def test_arp(make_peer, sock, wire, expect_frames):
    """The first datagram to a neighbour waits for its hardware address: an ARP request is broadcast before."""
    peer = make_peer(neighbours=False)
    question = layer("ARP", op=1, psrc=HERE, pdst=THERE, hwsrc=NEAR_MAC)
    asked = expect_frames(layer("Ether", dst="ff:ff:ff:ff:ff:ff") / question, step="request")
    sent = send(sock, b"data", to=sockaddr.inet(THERE, PEER_PORT))
    asked.of(wire.frames(), sent)
    then = expect_frames(layer("Ether", dst=FAR_MAC) / layer("IP", dst=THERE) / udp(sport=PORT), step="datagram")
    named = sock.sockname()
    need(named)
    peer.send(layer("ARP", op=2, psrc=THERE, pdst=HERE, hwsrc=FAR_MAC, hwdst=NEAR_MAC))
    then.of(sent_from(wire.frames(), PORT), named)
