"""Membership in IPv6 multicast groups, and the link that multicasts leave by: all over the loopback link."""

import socket
import struct
from errno import EADDRINUSE, EADDRNOTAVAIL, EINVAL, ENETUNREACH, ENODEV, ENOPROTOOPT, EPROTO

import pytest

from probes.abi.sockaddr import inet6
from probes.testing import behaviour, need
from probes.testing.socket_kinds import TCP6, UDP6
from tests.transfer.caller_files import request

IPV6 = socket.IPPROTO_IPV6
#: include/uapi/linux/in6.h.
MULTICAST_IF, MULTICAST_LOOP, ADD, DROP, ALL = 17, 19, 20, 21, 29
#: Groups of site-local scope, for this time only.
GROUP, OTHER, PORT, LOOPBACK, NO_LINK = "ff15::1:2:3", "ff15::1:2:4", 5000, 1, 0x3FFFFFFF
NEWROUTE = 24


def mreq(group=GROUP, link=LOOPBACK):
    """Packs a struct ipv6_mreq: 20 bytes."""
    return socket.inet_pton(socket.AF_INET6, group) + struct.pack("<i", link)


def route_groups(prepare):
    """Makes a route for all groups over the loopback link, which has none of its own.

    It is of type RTN_LOCAL: of other types the kernel makes routes over the loopback link that refuse.
    """
    route = struct.pack("<BBBBBBBBI", socket.AF_INET6, 8, 0, 0, 255, 3, 0, 2, 0)
    route += struct.pack("<HH16s", 20, 1, b"\xff") + struct.pack("<HHi", 8, 4, LOOPBACK)
    assert request(prepare, NEWROUTE, route) == 0, "a route for groups"


class Group:
    """Holds a socket that is bound to the wildcard address, and a sender."""

    def __init__(self, calls, new_socket):
        self.calls, self.member, self.sender = calls, new_socket(*UDP6.triple), new_socket(*UDP6.triple)
        need(self.member.bind(UDP6.address(PORT, "any")), "bind")
        need(self.sender.setsockopt(IPV6, MULTICAST_IF, LOOPBACK), "IPV6_MULTICAST_IF")

    def set(self, option, value):
        """Sets an option of the member."""
        return self.member.setsockopt(IPV6, option, value)

    def received(self):
        """Sends to two groups, and a marker to the member. Returns the groups whose datagram it has received."""
        for host in (GROUP, OTHER, "::1"):
            data, name = host.encode(), self.calls.memory.put(inet6(host, PORT))
            sent = self.calls.make("sendto", self.sender, self.calls.pointer(data), len(data), 0, name, name.size)
            need(sent, "sendto", returns=len(data))
        found, room = [], self.calls.memory.alloc(16)
        while not found or found[-1] != "::1":
            result = need(self.calls.make("recv", self.member, room, 16, 0), "recv")
            found.append(room.read()[:result].decode())
        return found[:-1]


@pytest.fixture
def group(calls, new_socket, prepare):
    """Sends to multicast groups, and shows what a member receives: see Group."""
    route_groups(prepare)
    return Group(calls, new_socket)


@behaviour(
    "options.multicast6.membership",
    "ipv6(7) IPV6_ADD_MEMBERSHIP, IPV6_DROP_MEMBERSHIP; RFC 3493 5.2; ipv6_sock_mc_join, ipv6_sock_mc_drop",
)
def test_membership(group, new_socket, expect):
    """A socket receives what is sent to a group after IPV6_ADD_MEMBERSHIP, until IPV6_DROP_MEMBERSHIP, with the link's index
    or with 0 for the link that the route names; other groups it does not. Joining twice fails with EADDRINUSE, leaving
    what was not joined with EADDRNOTAVAIL, an address of no group with EINVAL, no link with ENODEV, a short structure with
    EINVAL, and a stream with EPROTO.
    """
    for case, link in (("index", LOOPBACK), ("zero", 0)):
        for step, option, result, receives in (
            ("join", ADD, 0, [GROUP]), ("join-again", ADD, -EADDRINUSE, [GROUP]), ("leave", DROP, 0, []),
            ("leave-again", DROP, -EADDRNOTAVAIL, []),
        ):  # fmt: skip
            check = expect([result, receives], link=case, step=step)
            done = group.set(option, mreq(link=link))
            check.of([int(done), group.received()], done)
    for option, step in ((ADD, "join"), (DROP, "leave")):
        for case, value in (("unicast", mreq("::1")), ("short", mreq()[:19])):
            expect(-EINVAL, request=case, step=step).of(group.set(option, value))
    expect(-ENODEV, request="no-link", step="join").of(group.set(ADD, mreq(link=NO_LINK)))
    stream = new_socket(*TCP6.triple)
    for option, step in ((ADD, "join"), (DROP, "leave")):
        expect(-EPROTO, request="stream", step=step).of(stream.setsockopt(IPV6, option, mreq()))


@behaviour("options.multicast6.every", "ipv6(7) IPV6_ADD_MEMBERSHIP; ip(7) IP_MULTICAST_ALL; inet6_mc_check `mc_all`")
def test_every(group, new_socket, expect):
    """With IPV6_MULTICAST_ALL, as at first, a socket receives what is sent to a group that another one has joined; with 0 it
    receives only from groups of its own.
    """
    other = new_socket(*UDP6.triple)
    need(other.setsockopt(IPV6, ADD, mreq()), "IPV6_ADD_MEMBERSHIP")
    expect(1, option="at-first").of(group.member.getsockopt(IPV6, ALL).as_int())
    for step, on in enumerate((1, 0, 1)):
        check = expect([0, [GROUP] if on else []], step=step, option=on)
        done = group.set(ALL, on)
        check.of([int(done), group.received()], done)


@behaviour("options.multicast6.link", "ipv6(7) IPV6_MULTICAST_IF; RFC 3493 5.2; do_ipv6_setsockopt")
def test_link(new_socket, calls, prepare, expect):
    """IPV6_MULTICAST_IF chooses the link that multicasts leave by, by its index, and is read as it was set: 0, as at first,
    is none. No link of that index fails with ENODEV, and of a stream the option with ENOPROTOOPT.
    """
    sock, name = new_socket(*UDP6.triple), calls.memory.put(inet6(GROUP, PORT))
    data = calls.pointer(b"data")
    expect(0, step="at-first", then="read").of(sock.getsockopt(IPV6, MULTICAST_IF).as_int())
    expect(-ENETUNREACH, step="no-route", then="sendto").of(calls.make("sendto", sock, data, 4, 0, name, 28))
    route_groups(prepare)
    for step, given, result, read in (
        ("index", LOOPBACK, 0, LOOPBACK), ("no-link", NO_LINK, -ENODEV, LOOPBACK), ("negative", -1, -ENODEV, LOOPBACK),
        ("none", 0, 0, 0), ("index-again", LOOPBACK, 0, LOOPBACK),
    ):  # fmt: skip
        set_to, value_read = expect(result, step=step), expect(read, step=step, then="read")
        set_to.of(sock.setsockopt(IPV6, MULTICAST_IF, given))
        value_read.of(sock.getsockopt(IPV6, MULTICAST_IF).as_int())
    expect(4, step="index-again", then="sendto").of(calls.make("sendto", sock, data, 4, 0, name, 28))
    expect(-ENOPROTOOPT, kind="tcp6").of(new_socket(*TCP6.triple).setsockopt(IPV6, MULTICAST_IF, LOOPBACK))


@behaviour("options.multicast6.loop", "ipv6(7) IPV6_MULTICAST_LOOP; RFC 3493 5.2; do_ipv6_setsockopt `val != valbool`")
def test_loop(new_socket, expect):
    """IPV6_MULTICAST_LOOP is 1 at first, and takes 0 and 1; other numbers fail with EINVAL, and change nothing."""
    sock = new_socket(*UDP6.triple)
    expect(1, given="nothing", then="read").of(sock.getsockopt(IPV6, MULTICAST_LOOP).as_int())
    for given, result, read in ((0, 0, 0), (2, -EINVAL, 0), (1, 0, 1), (-1, -EINVAL, 1)):
        expect(result, given=given).of(sock.setsockopt(IPV6, MULTICAST_LOOP, given))
        expect(read, given=given, then="read").of(sock.getsockopt(IPV6, MULTICAST_LOOP).as_int())
