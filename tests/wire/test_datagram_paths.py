"""Datagrams to a peer: fragments, the path MTU, broadcast and multicast, gateways, ICMP errors."""

import socket
from errno import EACCES, EAGAIN, ECONNREFUSED, EMSGSIZE, ENETUNREACH
from select import POLLERR
from socket import (
    IPPROTO_IP,
    MSG_DONTROUTE,
    MSG_DONTWAIT,
    SO_BROADCAST,
    SO_ERROR,
    SOL_SOCKET,
)

import pytest

from probes.abi import sockaddr
from probes.sandbox.links import BEYOND, BROADCAST, FAR_MAC, HERE, NEAR_MAC, THERE
from probes.testing import behaviour, need
from probes.testing.frames import begins, ends
from probes.testing.prepared import await_events
from probes.testing.socket_kinds import UDP
from tests.wire.layers import PEER_PORT, PORT, data, ip, layer, udp
from tests.wire.sending import send, try_to_send

#: How sendto puts a datagram on the wire has nothing to do with its route: datagrams over both are in test_datagram.py.
pytestmark = pytest.mark.routes("direct")
#: Options of IPPROTO_IP, and values of IP_MTU_DISCOVER (ip(7)).
IP_MTU_DISCOVER, IP_MTU = 10, 14
DONT, WANT, DO, PROBE = range(4)
GROUP, GROUP_MAC = "239.1.2.3", "01:00:5e:01:02:03"
THERE_ADDRESS = sockaddr.inet(THERE, PEER_PORT)
#: The MTU that a router on the path names.
SMALL_MTU = 700


def datagram(**fields):
    """Returns a datagram from the caller to the peer."""
    return ip(UDP, src=HERE, dst=THERE, **fields) / udp(sport=PORT, dport=PEER_PORT, chksum=None)


@behaviour("wire.datagram.fragments", "ip(7) IP_MTU_DISCOVER; ip_append_data, ip_fragment; RFC 791 3.2")
@pytest.mark.parametrize("mode", ["WANT", "DONT"])
def test_fragments(mode, peer, sock, wire, expect_frames):
    """A datagram larger than the MTU is sent in fragments with IP_PMTUDISC_WANT and IP_PMTUDISC_DONT."""
    need(sock.setsockopt(IPPROTO_IP, IP_MTU_DISCOVER, {"WANT": WANT, "DONT": DONT}[mode]))
    text = bytes(range(250)) * 8
    first = layer("IP", flags="MF", frag=0, ttl=64, tos=0, proto=17, src=HERE, dst=THERE, chksum=None)
    last = layer("IP", flags=0, frag=1480 // 8, ttl=64, tos=0, proto=17, chksum=None)
    check = expect_frames(
        begins("sendto"),
        first / udp(sport=PORT, len=2008) / data(text[:1472]),
        last / data(text[1472:]),
        ends("sendto"),
    )
    sent = send(sock, text, to=THERE_ADDRESS)
    check.of(wire.frames(), sent)


@behaviour("wire.datagram.do-not-fragment", "ip(7) IP_MTU_DISCOVER; ip_dont_fragment, __ip_append_data: EMSGSIZE")
@pytest.mark.parametrize("mode", ["WANT", "DONT", "DO", "PROBE"])
def test_do_not_fragment(mode, peer, sock, wire, expect, expect_frames):
    """A datagram that fits has DF but with IP_PMTUDISC_DONT; DO and PROBE refuse a larger one with EMSGSIZE, unsent."""
    need(sock.setsockopt(IPPROTO_IP, IP_MTU_DISCOVER, {"WANT": WANT, "DONT": DONT, "DO": DO, "PROBE": PROBE}[mode]))
    fits = expect_frames(datagram(flags=0 if mode == "DONT" else "DF", chksum=None) / data(b"data"), step="fits")
    sent = send(sock, b"data", to=THERE_ADDRESS)
    fits.of(wire.frames(), sent)
    if mode in ("DO", "PROBE"):
        refused, silence = expect(-EMSGSIZE, step="larger"), expect_frames(step="frames")
        sent = try_to_send(sock, bytes(2000), to=THERE_ADDRESS)
        silence.of(wire.frames(), sent)
        refused.of(sent)


@behaviour("wire.datagram.path-mtu", "ip(7) IP_MTU_DISCOVER, IP_MTU; ipv4_update_pmtu; RFC 1191 3")
def test_path_mtu(peer, sock, wire, expect, expect_frames):
    """ICMP "fragmentation needed" sets the path MTU: IP_MTU returns it, and larger datagrams are sent in fragments."""
    need(sock.connect(THERE_ADDRESS))
    send(sock, bytes(1000))
    quoted = peer.receive("UDP")["IP"]
    wire.frames()
    mtu = expect(SMALL_MTU, step="mtu")
    peer.send(layer("IP", src=THERE, dst=HERE) / layer("ICMP", type=3, code=4, nexthopmtu=SMALL_MTU) / quoted)
    wire.frames()
    known = sock.getsockopt(IPPROTO_IP, IP_MTU).as_int()
    mtu.of(known)
    # The error of the first datagram is reported once, and taken here.
    need(sock.getsockopt(SOL_SOCKET, SO_ERROR))
    # 672 is the largest multiple of 8 that fits beside the header of 20 bytes.
    check = expect_frames(
        layer("IP", flags="MF", frag=0, len=20 + 680) / udp(len=1008) / data(bytes(672)),
        layer("IP", flags=0, frag=680 // 8) / data(bytes(328)),
        step="frames",
    )
    sent = send(sock, bytes(1000))
    check.of(wire.frames(), sent)


@behaviour("wire.datagram.broadcast", "ip(7) EACCES; socket(7) SO_BROADCAST; udp_sendmsg: RTCF_BROADCAST; RFC 919")
def test_broadcast(peer, sock, wire, expect, expect_frames):
    """A datagram to a broadcast address needs SO_BROADCAST: without it sendto fails with EACCES and sends nothing."""
    to = sockaddr.inet(BROADCAST, PEER_PORT)
    refused, silence = expect(-EACCES, step="refused"), expect_frames(step="silence")
    sent = try_to_send(sock, b"data", to=to)
    silence.of(wire.frames(), sent)
    refused.of(sent)
    need(sock.setsockopt(SOL_SOCKET, SO_BROADCAST, 1))
    check = expect_frames(
        layer("Ether", dst="ff:ff:ff:ff:ff:ff")
        / ip(UDP, src=HERE, dst=BROADCAST)
        / udp(dport=PEER_PORT)
        / data(b"data"),
        step="frames",
    )
    sent = send(sock, b"data", to=to)
    check.of(wire.frames(), sent)


@behaviour("wire.datagram.multicast", "ip(7) IP_MULTICAST_TTL, IP_MULTICAST_IF; ip_mc_output; RFC 1112 6.4")
def test_multicast(peer, sock, wire, expect_frames):
    """A datagram to a group has IP_MULTICAST_TTL hops, by default one, whatever IP_TTL is, and its Ethernet address."""
    to = sockaddr.inet(GROUP, PEER_PORT)
    need(sock.setsockopt(IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(HERE)))
    need(sock.setsockopt(IPPROTO_IP, socket.IP_TTL, 9))
    for hops in (1, 7):
        if hops != 1:
            need(sock.setsockopt(IPPROTO_IP, socket.IP_MULTICAST_TTL, hops))
        group = layer("Ether", dst=GROUP_MAC) / ip(UDP, src=HERE, dst=GROUP, ttl=hops)
        check = expect_frames(group / udp(dport=PEER_PORT) / data(b"data"), hops=hops)
        sent = send(sock, b"data", to=to)
        check.of([frame for frame in wire.frames() if frame.packet.haslayer("UDP")], sent)


@behaviour("wire.datagram.multicast-loop", "ip(7) IP_MULTICAST_LOOP; ip_mc_output: sk_mc_loop; RFC 1112 6.1")
def test_multicast_loop(peer, new_socket, expect):
    """What is sent to a group comes back to local sockets that joined it, unless IP_MULTICAST_LOOP is 0."""
    joined, sock = new_socket(*UDP.triple), new_socket(*UDP.triple)
    need(joined.bind(UDP.address(PEER_PORT, "any")))
    group = socket.inet_aton(GROUP) + socket.inet_aton(HERE)
    need(joined.setsockopt(IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group))
    need(sock.setsockopt(IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(HERE)))
    room, comes = (
        joined.calls.memory.alloc(8),
        {loop: expect(answer, loop=loop) for loop, answer in ((0, -EAGAIN), (1, 4))},
    )
    # What comes back first is of the second: a loop that was to be off would have brought the other before it.
    for loop, text in ((0, b"no"), (1, b"data")):
        need(sock.setsockopt(IPPROTO_IP, socket.IP_MULTICAST_LOOP, loop))
        send(sock, text, to=sockaddr.inet(GROUP, PEER_PORT))
    for loop, flags in ((1, 0), (0, MSG_DONTWAIT)):
        comes[loop].of(joined.calls.make("recv", joined.fd, room, room.size, flags))


@behaviour("wire.datagram.gateway", "send(2) MSG_DONTROUTE; ip_route_output_key_hash: RTO_ONLINK")
def test_gateway(peer, sock, wire, expect, expect_frames):
    """A datagram to another network goes to the gateway's Ethernet address; with MSG_DONTROUTE it needs no gateway."""
    to = sockaddr.inet(BEYOND, PEER_PORT)
    check = expect_frames(
        layer("Ether", src=NEAR_MAC, dst=FAR_MAC) / ip(UDP, src=HERE, dst=BEYOND) / udp(),
        step="routed",
    )
    sent = send(sock, b"data", to=to)
    check.of(wire.frames(), sent)
    refused, silence = expect(-ENETUNREACH, step="MSG_DONTROUTE"), expect_frames(step="silence")
    sent = try_to_send(sock, b"data", MSG_DONTROUTE, to)
    silence.of(wire.frames(), sent)
    refused.of(sent)


@behaviour("wire.error.port-unreachable", "udp(7) ECONNREFUSED; icmp(7); __udp4_lib_err; RFC 1122 4.1.3.3")
def test_port_unreachable(peer, new_socket, wire, expect):
    """ICMP "port unreachable" reaches the connected socket whose datagram it quotes, no other one, no unconnected one."""
    sockets = {}
    for name, port in (("quoted", PORT), ("other", PORT + 1), ("unconnected", PORT + 2)):
        made = sockets[name] = new_socket(*UDP.triple)
        need(made.bind(UDP.address(port, "any")))
        if name != "unconnected":
            need(made.connect(THERE_ADDRESS))
    # The one that is waited for is last: the other error has come by then.
    send(sockets["unconnected"], b"data", to=THERE_ADDRESS)
    send(sockets["quoted"], b"data")
    quotes = [peer.receive("UDP")["IP"] for _ in range(2)]
    checks = {name: expect(ECONNREFUSED if name == "quoted" else 0, socket=name) for name in sockets}
    for quote in quotes:
        peer.send(layer("IP", src=THERE, dst=HERE) / layer("ICMP", type=3, code=3) / quote)
    await_events(sockets["quoted"].calls, sockets["quoted"].fd, POLLERR)
    for name, made in sockets.items():
        checks[name].of(made.getsockopt(SOL_SOCKET, SO_ERROR).as_int())


@behaviour("wire.receive.fragments", "recv(2); ip_defrag, ip_frag_reasm; RFC 791 3.2")
def test_receive_fragments(peer, sock, wire, expect):
    """Fragments are received as one datagram, in whatever order they come, once all are there."""
    from scapy.layers.inet import fragment

    whole = layer("IP", src=THERE, dst=HERE, id=7) / udp(sport=PEER_PORT, dport=PORT) / data(bytes(range(100)))
    first, second, third = fragment(whole, fragsize=40)
    room = sock.calls.memory.alloc(200)
    early, received = expect(-EAGAIN, step="incomplete"), expect(bytes(range(100)), step="complete")
    peer.send(third, first)
    wire.frames()
    early.of(sock.calls.make("recv", sock.fd, room, 200, MSG_DONTWAIT))
    peer.send(second)
    result = sock.calls.make("recv", sock.fd, room, 200, 0)
    received.of(room.read()[: max(0, result)], result)


@behaviour("wire.receive.datagram-checksum", "udp(7); udp4_csum_init, udp_lib_checksum_complete; RFC 768")
def test_datagram_checksum(peer, sock, wire, expect):
    """A datagram with a wrong checksum is not received; one with checksum 0, which has none, is."""
    room = sock.calls.memory.alloc(8)
    for chksum, answer in ((1, -EAGAIN), (0, 4)):
        check = expect(answer, checksum=chksum)
        peer.send(layer("IP", src=THERE, dst=HERE) / udp(sport=PEER_PORT, dport=PORT, chksum=chksum) / data(b"data"))
        wire.frames()
        check.of(sock.calls.make("recv", sock.fd, room, 8, MSG_DONTWAIT))
