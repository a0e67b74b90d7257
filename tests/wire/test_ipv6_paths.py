"""Frames of IPv6 that go beyond one datagram: reports of groups, the path MTU, extension headers."""

import socket
import struct
from socket import IPPROTO_IPV6, SO_ERROR, SOL_SOCKET

import pytest

from probes.abi import sockaddr
from probes.sandbox.links import HERE6, THERE6
from probes.testing import behaviour, need
from tests.wire.ipv6_datagrams import OPTIONS, bound6, with_options
from tests.wire.layers import PEER_PORT, data, layer, udp
from tests.wire.sending import send

pytestmark = pytest.mark.routes("direct")
#: Options of IPPROTO_IPV6 (ipv6(7)).
IPV6_ADD_MEMBERSHIP, IPV6_MTU, IPV6_HOPOPTS = 20, 24, 54
GROUP6 = "ff15::1:2:3"
#: All routers that take reports (RFC 3810 5.2.14), and the type of a record that excludes no source of a group.
REPORTS_TO, CHANGE_TO_EXCLUDE = "ff02::16", 4
THERE6_ADDRESS = sockaddr.inet6(THERE6, PEER_PORT)
#: The least MTU of IPv6 (RFC 8200 5).
LEAST_MTU = 1280


def membership(link):
    """Returns a struct ipv6_mreq for the group on a link."""
    return socket.inet_pton(socket.AF_INET6, GROUP6) + struct.pack("<i", link)


@behaviour("wire.ipv6.report", "ipv6(7) IPV6_ADD_MEMBERSHIP; mld_ifc_work, mld_sendpack; RFC 3810 5.2, 6.1")
def test_report(make_peer, new_socket, wire, expect):
    """IPV6_ADD_MEMBERSHIP sends an MLDv2 report with one hop, which says that all sources of the group are wanted."""
    peer, sock = make_peer(ipv6=True), bound6(new_socket)
    check = expect([REPORTS_TO, 1, CHANGE_TO_EXCLUDE, 0])
    joined = sock.setsockopt(IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, membership(peer.near))
    need(joined)
    reports = []
    while not reports and (frames := wire.frames(at_least=1)):
        for frame in frames:
            for record in getattr(frame.packet.getlayer("ICMPv6MLReport2"), "records", ()):
                if record.dst == GROUP6:
                    reports.append((frame, record))
    (frame, record), network = reports[0], reports[0][0].packet["IPv6"]
    check.of([network.dst, network.hlim, record.rtype, record.sources_number], joined, frame)


@behaviour("wire.ipv6.path-mtu", "ipv6(7) IPV6_MTU; icmpv6_rcv, ip6_rt_update_pmtu; RFC 8201 4")
def test_path_mtu(make_peer, new_socket, wire, expect, expect_frames):
    """ICMPv6 "packet too big" sets the path MTU: IPV6_MTU returns it, and larger datagrams are sent in fragments."""
    peer, sock = make_peer(ipv6=True), bound6(new_socket)
    need(sock.connect(THERE6_ADDRESS))
    send(sock, bytes(1400))
    quoted = peer.receive("UDP")["IPv6"]
    mtu = expect(LEAST_MTU, step="mtu")
    peer.send(layer("IPv6", src=THERE6, dst=HERE6) / layer("ICMPv6PacketTooBig", mtu=LEAST_MTU) / quoted)
    wire.frames()
    known = sock.getsockopt(IPPROTO_IPV6, IPV6_MTU).as_int()
    mtu.of(known)
    need(sock.getsockopt(SOL_SOCKET, SO_ERROR))
    # 1232 is the largest multiple of 8 that fits beside the headers of 40 and 8 bytes.
    base = layer("IPv6", nh=44, src=HERE6, dst=THERE6)
    check = expect_frames(
        base / layer("IPv6ExtHdrFragment", nh=17, offset=0, m=1) / udp(len=1408) / data(bytes(1224)),
        base / layer("IPv6ExtHdrFragment", nh=17, offset=1232 // 8, m=0) / data(bytes(176)),
        step="frames",
    )
    sent = send(sock, bytes(1400))
    check.of([frame for frame in wire.frames() if frame.packet["IPv6"].nh == 44], sent)


@behaviour("wire.ipv6.hop-options", "ipv6(7) IPV6_HOPOPTS; RFC 3542 8; ipv6_push_nfrag_opts; RFC 8200 4.3")
def test_hop_options(make_peer, new_socket, wire, expect_frames):
    """IPV6_HOPOPTS puts a hop-by-hop options header behind the IPv6 header of what the socket sends."""
    make_peer(ipv6=True)
    sock = bound6(new_socket)
    need(sock.setsockopt(IPPROTO_IPV6, IPV6_HOPOPTS, OPTIONS))
    check = expect_frames(with_options("IPv6ExtHdrHopByHop", 0))
    sent = send(sock, b"data", to=THERE6_ADDRESS)
    check.of([frame for frame in wire.frames() if frame.packet.haslayer("UDP")], sent)
