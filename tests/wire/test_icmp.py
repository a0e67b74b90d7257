"""What ICMP sends of its own accord: answers to requests, and errors, as far as the sysctls of icmp(7) allow them."""

from socket import AF_INET, IPPROTO_ICMP, SOCK_DGRAM, SOCK_RAW

import pytest

from probes.abi import sockaddr
from probes.sandbox.links import BROADCAST, HERE, THERE
from probes.testing import behaviour, need, procfs
from probes.testing.socket_kinds import UDP
from tests.wire.layers import PEER_PORT, PORT, data, ip, layer, udp
from tests.wire.sending import send

pytestmark = pytest.mark.routes("direct")
#: Types of ICMP (RFC 792): requests, and their answers.
REQUESTS = {"echo": (8, 0), "timestamp": (13, 14)}
#: Datagrams to a port without a socket, and how many of them are answered at once by default (XRLIM_BURST_FACTOR).
MANY, BURST = 8, 6


def request(kind=8, to=HERE):
    """Returns a request of the peer."""
    return layer("IP", src=THERE, dst=to) / layer("ICMP", type=kind, id=7, seq=3)


def icmp_of(frames, kind):
    """Returns the frames with ICMP of a type."""
    return [one for one in frames if one.packet.haslayer("ICMP") and one.packet["ICMP"].type == kind]


@behaviour(
    "wire.icmp.request", "icmp(7) `answers ICMP requests`, `processed by the kernel too`; icmp_echo, icmp_timestamp"
)
@pytest.mark.parametrize("what", REQUESTS)
def test_request(what, peer, new_socket, wire, expect, expect_frames):
    """An echo request and a timestamp request are answered by the kernel, and received by a raw ICMP socket as well."""
    asked, answered = REQUESTS[what]
    sock = new_socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)
    room = sock.calls.memory.alloc(100)
    answer = layer("ICMP", type=answered, code=0, id=7, seq=3, chksum=None)
    check = expect_frames(ip(UDP, flags=0, src=HERE, dst=THERE) / answer, step="answer")
    got = expect(bytes([asked, 0]), step="received")
    peer.send(request(asked) / data(b"" if what == "timestamp" else b"echo"))
    received = sock.calls.make("recv", sock.fd, room, 100, 0)
    need(received, returns=40 if what == "timestamp" else 32)
    check.of(icmp_of(wire.frames(), answered), received)
    got.of(room.read()[20:22], received)


#: Requests and the sysctls of which their answer depends: the destination, the sysctl, its value, whether there is one.
IGNORED = {
    "all": (HERE, "icmp_echo_ignore_all", 1, False), "broadcast": (BROADCAST, "icmp_echo_ignore_broadcasts", 1, False),
    "broadcast-off": (BROADCAST, "icmp_echo_ignore_broadcasts", 0, True),
}  # fmt: skip


@behaviour("wire.icmp.echo-ignored", "icmp(7) icmp_echo_ignore_all, icmp_echo_ignore_broadcasts; icmp_echo, icmp_rcv")
@pytest.mark.parametrize("what", IGNORED)
def test_ignored(what, peer, sock, wire, expect_frames):
    """icmp_echo_ignore_all lets no echo request be answered, icmp_echo_ignore_broadcasts none to a broadcast address.

    An answer to a broadcast comes from an address of this host.
    """
    to, sysctl, value, answered = IGNORED[what]
    procfs.set_sysctl(f"net.ipv4.{sysctl}", value)
    answer = ip(UDP, flags=0, src=HERE, dst=THERE) / layer("ICMP", type=0, id=7, seq=3, chksum=None)
    check = expect_frames(*([answer] if answered else []))
    named = sock.sockname()
    need(named)
    peer.send(request(to=to))
    check.of(icmp_of(wire.frames(), 0), named)


#: Sysctls that limit ICMP errors, and how many of the datagrams are answered by one.
LIMITS = {
    "on": ({"icmp_ratelimit": 10_000}, BURST), "off": ({"icmp_ratelimit": 0}, MANY),
    "mask": ({"icmp_ratelimit": 10_000, "icmp_ratemask": 0}, MANY),
}  # fmt: skip


@behaviour(
    "wire.icmp.rate",
    "icmp(7) icmp_ratelimit, icmp_ratemask; icmpv4_xrlim_allow, inet_peer_xrlim_allow",
    tag="implementation",
)
@pytest.mark.parametrize("what", LIMITS)
def test_rate(what, peer, sock, wire, expect_frames):
    """Of datagrams to a closed port the first six are answered by "port unreachable", then one each icmp_ratelimit
    milliseconds. 0, and a type that is not in icmp_ratemask, mean no limit.
    """
    sysctls, answers = LIMITS[what]
    for name, value in sysctls.items():
        procfs.set_sysctl(f"net.ipv4.{name}", value)
    error = layer("IP", src=HERE, dst=THERE) / layer("ICMP", type=3, code=3)
    check = expect_frames(*([error] * answers))
    named = sock.sockname()
    need(named)
    peer.send(*([layer("IP", src=THERE, dst=HERE) / udp(sport=PEER_PORT, dport=PORT + 1) / data(b"data")] * MANY))
    check.of(icmp_of(wire.frames(), 3), named)


@behaviour("wire.icmp.ping", "icmp(7) ping_group_range; ping_v4_sendmsg, ping_v4_push_pending_frames, ping_rcv")
def test_ping(peer, new_socket, wire, expect, expect_frames):
    """An ICMP datagram socket sends echo requests with its port as identifier and a right checksum, and receives the answers
    with that identifier, without their IP header.
    """
    procfs.set_sysctl("net.ipv4.ping_group_range", "0 0")
    sock = new_socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP)
    need(sock.bind(sockaddr.inet(HERE, 7)))
    header, room = bytes([8, 0, 0, 0, 0, 99, 0, 3]), sock.calls.memory.alloc(100)
    check = expect_frames(
        layer("IP", src=HERE, dst=THERE, ttl=64)
        / layer("ICMP", type=8, code=0, id=7, seq=3, chksum=None)
        / data(b"ping"),
        step="request",
    )
    sent = send(sock, header + b"ping", to=sockaddr.inet(THERE, 0))
    check.of(wire.frames(), sent)
    answer = expect(b"mine", step="answer")
    for identifier, load in ((8, b"other"), (7, b"mine")):
        reply = layer("ICMP", type=0, id=identifier, seq=3)
        peer.send(layer("IP", src=THERE, dst=HERE) / reply / data(load))
    received = sock.calls.make("recv", sock.fd, room, 100, 0)
    need(received, returns=12)
    answer.of(room.read()[8:12], received)
