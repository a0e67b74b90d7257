"""Membership in IPv4 multicast groups, and the link that multicasts leave by: all over the loopback link."""

import socket
import struct
from errno import EADDRINUSE, EADDRNOTAVAIL, EINVAL, ENETUNREACH, ENODEV

import pytest

from probes.abi.sockaddr import inet
from probes.testing import behaviour, need
from probes.testing.socket_kinds import UDP

IP = socket.IPPROTO_IP
#: include/uapi/linux/in.h.
MULTICAST_IF, MULTICAST_TTL, ADD, DROP, UNBLOCK, BLOCK, ADD_SOURCE, DROP_SOURCE, ALL = (
    32,
    33,
    35,
    36,
    37,
    38,
    39,
    40,
    49,
)
GROUP, OTHER, PORT, LOOPBACK = "239.1.2.3", "239.1.2.4", 5000, 1
HOSTS = ("127.0.0.1", "127.0.0.2")


def mreq(group=GROUP, link="127.0.0.1", index=None):
    """Packs a struct ip_mreq, 8 bytes, or with an index a struct ip_mreqn, 12 bytes."""
    head = socket.inet_aton(group) + socket.inet_aton(link)
    return head if index is None else head + struct.pack("<i", index)


def mreq_source(host, group=GROUP):
    """Packs a struct ip_mreq_source: the group, the link, the source."""
    return mreq(group) + socket.inet_aton(host)


class Group:
    """Holds a socket that is bound to the wildcard address, and senders of two hosts that send over the loopback link."""

    def __init__(self, calls, new_socket):
        self.calls, self.member, self.senders = calls, new_socket(*UDP.triple), {}
        need(self.member.bind(UDP.address(PORT, "any")), "bind")
        for host in HOSTS:
            sender = self.senders[host] = new_socket(*UDP.triple)
            need(sender.bind(inet(host, 5001)), "bind")
            need(sender.setsockopt(IP, MULTICAST_IF, mreq("0.0.0.0", "0.0.0.0", LOOPBACK)), "IP_MULTICAST_IF")

    def set(self, option, value):
        """Sets an option of the member."""
        return self.member.setsockopt(IP, option, value)

    def received(self, group=GROUP, hosts=HOSTS):
        """Sends to a group from each host, and a marker to the member. Returns the hosts whose datagram it has received."""
        for host, name in (*((host, inet(group, PORT)) for host in hosts), (HOSTS[0], UDP.address(PORT))):
            data = host.encode() if name[4:8] == socket.inet_aton(group) else b"marker"
            sent = self.calls.make(
                "sendto", self.senders[host], self.calls.pointer(data), len(data), 0, self.calls.memory.put(name), 16
            )
            need(sent, "sendto", returns=len(data))
        found, room = [], self.calls.memory.alloc(16)
        while True:
            result = need(self.calls.make("recv", self.member, room, 16, 0), "recv")
            data = room.read()[:result]
            if data == b"marker":
                return found
            found.append(data.decode())


@pytest.fixture
def group(calls, new_socket):
    """Sends to multicast groups, and shows what a member receives: see Group."""
    return Group(calls, new_socket)


@behaviour("options.multicast.membership", "ip(7) IP_ADD_MEMBERSHIP, IP_DROP_MEMBERSHIP; ip_mc_join_group")
def test_membership(group, expect):
    """A socket receives what is sent to a group after IP_ADD_MEMBERSHIP, until IP_DROP_MEMBERSHIP, with the link by its
    address or its index; other groups it does not. Joining twice fails with EADDRINUSE, leaving what was not joined with
    EADDRNOTAVAIL, an address of no group with EINVAL, no link with ENODEV, and a short structure with EINVAL.
    """
    for case, value in (("address", mreq()), ("index", mreq(link="0.0.0.0", index=LOOPBACK))):
        for step, option, result, receives in (
            ("join", ADD, 0, True), ("join-again", ADD, -EADDRINUSE, True), ("leave", DROP, 0, False),
            ("leave-again", DROP, -EADDRNOTAVAIL, False),
        ):  # fmt: skip
            check = expect([result, list(HOSTS) if receives else [], []], link=case, step=step)
            done = group.set(option, value)
            check.of([int(done), group.received(), group.received(OTHER)], done)
    for case, value, error in (
        ("unicast", mreq("127.0.0.1"), EINVAL), ("no-link", mreq(link="192.0.2.1"), ENODEV),
        ("no-index", mreq(index=0x3FFFFFFF), ENODEV), ("short", mreq()[:7], EINVAL),
    ):  # fmt: skip
        expect(-error, request=case).of(group.set(ADD, value))


@behaviour("options.multicast.every", "ip(7) IP_MULTICAST_ALL; ip_mc_sf_allow")
def test_every(group, new_socket, expect):
    """With IP_MULTICAST_ALL, as at first, a socket receives what is sent to a group that another one has joined; with 0 it
    receives only from groups of its own.
    """
    other = new_socket(*UDP.triple)
    need(other.setsockopt(IP, ADD, mreq()), "IP_ADD_MEMBERSHIP")
    for step, on in enumerate((1, 0, 1)):
        check = expect([0, list(HOSTS) if on else []], step=step, option=on)
        done = group.set(ALL, on)
        check.of([int(done), group.received()], done)


@behaviour("options.multicast.source", "ip(7) IP_ADD_SOURCE_MEMBERSHIP, IP_DROP_SOURCE_MEMBERSHIP; ip_mc_source")
def test_source(group, expect):
    """After IP_ADD_SOURCE_MEMBERSHIP a socket receives what that host sends to the group, of several those of each, until
    IP_DROP_SOURCE_MEMBERSHIP. IP_ADD_MEMBERSHIP of the group fails with EADDRINUSE then, and a source that was not joined
    with EADDRNOTAVAIL.
    """
    first, second = HOSTS
    for step, option, host, result, hosts in (
        ("first", ADD_SOURCE, first, 0, [first]), ("both", ADD_SOURCE, second, 0, [first, second]),
        ("again", ADD_SOURCE, first, -EADDRNOTAVAIL, [first, second]), ("drop-first", DROP_SOURCE, first, 0, [second]),
        ("drop-again", DROP_SOURCE, first, -EADDRNOTAVAIL, [second]), ("drop-second", DROP_SOURCE, second, 0, []),
    ):  # fmt: skip
        check = expect([result, hosts], step=step)
        done = group.set(option, mreq_source(host))
        check.of([int(done), group.received()], done)


@behaviour("options.multicast.block", "ip(7) IP_BLOCK_SOURCE, IP_UNBLOCK_SOURCE EADDRNOTAVAIL; ip_mc_source")
def test_block(group, expect):
    """IP_BLOCK_SOURCE keeps away what a host sends to a group that was joined, until IP_UNBLOCK_SOURCE, which fails with
    EADDRNOTAVAIL for one that is not blocked; without membership both fail with EINVAL.
    """
    first, second = HOSTS
    for case, option in (("block", BLOCK), ("unblock", UNBLOCK)):
        expect(-EINVAL, step=case, member=0).of(group.set(option, mreq_source(first)))
    need(group.set(ADD, mreq()), "IP_ADD_MEMBERSHIP")
    for step, option, host, result, hosts in (
        ("block", BLOCK, first, 0, [second]), ("block-again", BLOCK, first, -EADDRNOTAVAIL, [second]),
        ("unblock-other", UNBLOCK, second, -EADDRNOTAVAIL, [second]), ("unblock", UNBLOCK, first, 0, [first, second]),
    ):  # fmt: skip
        check = expect([result, hosts], step=step, member=1)
        done = group.set(option, mreq_source(host))
        check.of([int(done), group.received()], done)


@behaviour("options.multicast.link", "ip(7) IP_MULTICAST_IF; do_ip_setsockopt, ip_route_output_key")
def test_link(group, new_socket, calls, expect):
    """IP_MULTICAST_IF chooses the link that multicasts leave by, by struct in_addr, ip_mreq or ip_mreqn, and is read as the
    address of that link; 0 chooses none: without a route ENETUNREACH. No link of that address or index is EADDRNOTAVAIL.
    """
    need(group.set(ADD, mreq()), "IP_ADD_MEMBERSHIP")
    sender, data, name = new_socket(*UDP.triple), calls.pointer(b"data"), calls.memory.put(inet(GROUP, PORT))
    here, none = socket.inet_aton("127.0.0.1"), bytes(4)
    for case, value, result, read, sent in (
        ("address", here, 0, here, 4), ("zero", none, 0, none, -ENETUNREACH), ("mreq", mreq("0.0.0.0"), 0, here, 4),
        ("zero-again", none, 0, none, -ENETUNREACH), ("index", mreq("0.0.0.0", index=LOOPBACK), 0, here, 4),
        ("no-address", socket.inet_aton("192.0.2.1"), -EADDRNOTAVAIL, here, 4),
        ("no-index", mreq("0.0.0.0", index=0x3FFFFFFF), -EADDRNOTAVAIL, here, 4), ("short", here[:3], -EINVAL, here, 4),
    ):  # fmt: skip
        set_to, value_read = expect(result, link=case), expect(read, link=case, then="read")
        goes = expect(sent, link=case, then="sendto")
        set_to.of(sender.setsockopt(IP, MULTICAST_IF, value))
        value_read.of(sender.getsockopt(IP, MULTICAST_IF))
        goes.of(calls.make("sendto", sender, data, 4, 0, name, 16))


@behaviour("options.multicast.time-to-live", "ip(7) IP_MULTICAST_TTL; do_ip_setsockopt `val < 0 || val > 255`")
def test_time_to_live(new_socket, expect):
    """IP_MULTICAST_TTL is 0 to 255, or -1 for 1; other values fail with EINVAL. A stream has no multicasts: EINVAL."""
    sock, stream = new_socket(*UDP.triple), new_socket(socket.AF_INET, socket.SOCK_STREAM)
    for given, read in ((0, 0), (1, 1), (255, 255), (-1, 1)):
        expect(0, given=given).of(sock.setsockopt(IP, MULTICAST_TTL, given))
        expect(read, given=given, then="read").of(sock.getsockopt(IP, MULTICAST_TTL).as_int())
    for given in (256, -2):
        expect(-EINVAL, given=given).of(sock.setsockopt(IP, MULTICAST_TTL, given))
    expect(-EINVAL, given=1, kind="tcp").of(stream.setsockopt(IP, MULTICAST_TTL, 1))
