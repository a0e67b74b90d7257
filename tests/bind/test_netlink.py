"""Port ids and groups of AF_NETLINK sockets."""

import fcntl
import os
import socket as python
import struct
from errno import EADDRINUSE, EAGAIN, EINVAL, EPERM

import pytest

from probes.abi.names import value
from probes.sandbox import namespaces
from probes.testing import behaviour, need, not_applicable
from probes.testing import procfs as witness
from probes.testing.socket_kinds import NETLINK
from tests.bind.bind_forms import family_word, netlink

SOURCE = "netlink(7) Address formats; netlink_bind"
SOURCE_PORT = f"{SOURCE}, netlink_insert, netlink_autobind"
SOURCE_GROUPS = f"{SOURCE} `nl_groups`, netlink_allowed; netlink(7) `CAP_NET_ADMIN capability may send or listen`"
ROUTE, USERSOCK, GENERIC = 0, 2, 16
#: Protocols that let everybody listen to groups, and those that do not (NL_CFG_F_NONROOT_RECV).
OPEN = {"ROUTE": ROUTE, "SELINUX": 7, "KOBJECT_UEVENT": 15, "GENERIC": GENERIC}
CLOSED = {"USERSOCK": USERSOCK, "XFRM": 6, "NETFILTER": 12, "CRYPTO": 21}
#: Protocols with a kernel socket, as they are before any sandbox; USERSOCK is there without one.
PRESENT = {int(row[1]) for row in witness.rows("netlink").values() if row[2] == "0"} | {USERSOCK}
NEWNET = 0x40000000
NO_PORT = netlink()


def there(protocol):
    """Not applicable unless the kernel has a protocol of AF_NETLINK."""
    if protocol not in PRESENT:
        not_applicable(f"protocol {protocol} of AF_NETLINK")


def opened(new_socket, protocol=ROUTE, type=python.SOCK_RAW):
    """An AF_NETLINK socket."""
    return new_socket(NETLINK.family, type, protocol)


@behaviour("bind.netlink.port", SOURCE_PORT)
@pytest.mark.parametrize("type", [python.SOCK_RAW, python.SOCK_DGRAM], ids=lambda type: type.name)
def test_port(type, new_socket, expect):
    """A socket can be bound to any port id but 0, up to 32 bits, and getsockname tells it, without groups."""
    before = opened(new_socket, type=type).sockname()
    expect(NO_PORT, then="unbound").of(before[1], before[0])
    for port in (1, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFF000, 0xFFFFFFFF):
        socket = opened(new_socket, type=type)
        expect(0, port=f"{port:#x}").of(socket.bind(netlink(port)))
        result, name = socket.sockname()
        expect(netlink(port), port=f"{port:#x}", then="name").of(name, result)


@behaviour("bind.netlink.padding", f"{SOURCE} `addr_len < sizeof(struct sockaddr_nl)`; netlink(7) nl_pad")
def test_padding(new_socket, expect):
    """What nl_pad and the bytes after the structure hold is not looked at; the name has zero there."""
    socket = opened(new_socket)
    dirty = family_word(NETLINK.family) + struct.pack("<HII", 0xA5A5, 77, 0) + b"\xa5" * 40
    expect(0).of(socket.bind(dirty))
    result, name = socket.sockname()
    expect(netlink(77), then="name").of(name, result)


@behaviour(
    "bind.netlink.automatic-port", f"{SOURCE_PORT}; netlink(7) `assigns the process ID to the first netlink socket`"
)
def test_automatic_port(new_socket, expect):
    """Port id 0 takes the process id for the first socket and a different one, which is negative, for each that
    follows; when the first is closed the process id is free again.
    """
    sockets = [opened(new_socket) for _ in range(20)]
    announced = expect([0] * 20, sockets=20)
    results = [socket.bind(NO_PORT) for socket in sockets]
    announced.of(results, *results)
    ports = [struct.unpack("<i", socket.sockname()[1][4:8])[0] for socket in sockets]
    expect(True, then="first").of(ports[0] == os.getpid(), *results)
    expect(20, then="different").of(len(set(ports)), *results)
    # netlink_autobind: from S32_MIN to -4097.
    expect(True, then="negative").of(all(port <= -4097 for port in ports[1:]), *results)
    need(sockets[0].close())
    late = opened(new_socket)
    expect(0, then="late").of(late.bind(NO_PORT))
    result, name = late.sockname()
    expect(True, then="pid-again").of(name == netlink(os.getpid()), result)


@behaviour("bind.netlink.automatic-port-by-connect", f"{SOURCE_PORT}; netlink_connect; netlink(7)")
def test_automatic_port_by_connect(new_socket, expect):
    """connect gives a socket that is not bound a port id in the same way."""
    socket = opened(new_socket)
    need(socket.connect(NO_PORT))
    result, name = socket.sockname()
    expect(True).of(name == netlink(os.getpid()), result)


@behaviour(
    "bind.netlink.in-use", f"{SOURCE_PORT}; netlink(7) `it is up to the application to make sure`; bind(2) EADDRINUSE"
)
def test_in_use(new_socket, expect):
    """A port id that another socket of the same protocol has in this network namespace is in use, EADDRINUSE, until
    that is closed; other protocols and other network namespaces have their own.
    """
    first = opened(new_socket)
    need(first.bind(netlink(77)))
    second = opened(new_socket)
    expect(-EADDRINUSE, protocol="same").of(second.bind(netlink(77)))
    result, name = second.sockname()
    # netlink_insert writes the port down before it looks whether it is free.
    expect(netlink(77), protocol="same", then="name").of(name, result)
    expect(0, protocol="other").of(opened(new_socket, USERSOCK).bind(netlink(77)))
    need(first.close())
    expect(0, protocol="same", then="closed").of(second.bind(netlink(77)))
    namespaces.unshare(NEWNET)
    expect(0, namespace="other").of(opened(new_socket).bind(netlink(77)))


@behaviour("bind.netlink.rebind", f"{SOURCE} `nladdr->nl_pid != nlk->portid`; bind(2) EINVAL")
def test_rebind(new_socket, expect):
    """A bound socket can be bound again to its own port id only, which changes its groups to those that are asked for;
    to another, 0 included, EINVAL.
    """
    socket = opened(new_socket)
    need(socket.bind(netlink(77, 1)))
    for second, port in {"other": 78, "automatic": 0}.items():
        expect(-EINVAL, second=second).of(socket.bind(netlink(port, 4)))
        result, name = socket.sockname()
        expect(netlink(77, 1), second=second, then="name").of(name, result)
    for groups in (1, 4, 0x11, 0):
        expect(0, second="same", groups=groups).of(socket.bind(netlink(77, groups)))
        result, name = socket.sockname()
        expect(netlink(77, groups), second="same", groups=groups, then="name").of(name, result)


@behaviour("bind.netlink.groups", SOURCE_GROUPS)
@pytest.mark.parametrize("protocol", OPEN | CLOSED)
def test_groups(protocol, new_socket, expect):
    """Groups are for CAP_NET_ADMIN, EPERM for others, except with the protocols that let everybody listen:
    NETLINK_ROUTE, NETLINK_SELINUX, NETLINK_KOBJECT_UEVENT, NETLINK_GENERIC. Without groups bind needs no capability.
    """
    number = (OPEN | CLOSED)[protocol]
    there(number)
    sockets = {who: opened(new_socket, number) for who in ("capability", "nobody", "no-groups")}
    answers = {"capability": 0, "nobody": 0 if protocol in OPEN else -EPERM, "no-groups": 0}
    for who, answer in answers.items():
        namespaces.keep_capabilities(["CAP_NET_ADMIN"] if who == "capability" else [])
        expect(answer, who=who).of(sockets[who].bind(netlink(0, 0 if who == "no-groups" else 1)))
        result, name = sockets[who].sockname()
        told = struct.unpack("<I", name[8:12])[0]
        expect(1 if answer == 0 and who != "no-groups" else 0, who=who, then="groups").of(told, result)
        if answer == -EPERM:
            expect(NO_PORT, who=who, then="unbound").of(name, result)


@behaviour("bind.netlink.every-group", f"{SOURCE}; netlink(7) `Each netlink family has a set of 32 multicast groups`")
def test_every_group(new_socket, expect):
    """Each of the 32 bits of nl_groups can be asked for, alone or with the others, and the name has those."""
    for protocol, number in {"ROUTE": ROUTE, "USERSOCK": USERSOCK, "KOBJECT_UEVENT": 15}.items():
        there(number)
        for groups in (*(1 << bit for bit in range(32)), 0xFFFFFFFF):
            socket = opened(new_socket, number)
            case = {"protocol": protocol, "groups": f"{groups:#x}"}
            expect(0, **case).of(socket.bind(netlink(77, groups)))
            result, name = socket.sockname()
            expect(netlink(77, groups), **case, then="name").of(name, result)
            need(socket.close())


def toggle_loopback():
    """Takes the loopback link down and up: two messages to the group of links."""
    with python.socket(python.AF_INET, python.SOCK_DGRAM) as any_socket:
        for flags in (0, 1):
            # SIOCSIFFLAGS, struct ifreq
            fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", b"lo", flags))


@behaviour(
    "bind.netlink.listening", f"{SOURCE} netlink_update_listeners; netlink(7) EXAMPLES RTMGRP_LINK; rtnetlink(7)"
)
def test_listening(calls, memory, new_socket, expect):
    """A socket receives the messages to the groups that it was bound with, and nothing of others or of those that a
    later bind left out.
    """
    link_group, neighbour_group = 1, 4
    groups = {"link": link_group, "neighbour": neighbour_group, "none": 0, "both": link_group | neighbour_group}
    sockets = {case: opened(new_socket) for case in (*groups, "left")}
    for case, bits in groups.items():
        need(sockets[case].bind(netlink(0, bits)))
    need(sockets["left"].bind(netlink(77, link_group)))
    need(sockets["left"].bind(netlink(77, neighbour_group)))
    toggle_loopback()
    room = memory.alloc(8192)
    for case, socket in sockets.items():
        listens = case in ("link", "both")
        announced = expect("RTM_NEWLINK" if listens else -EAGAIN, groups=case)
        result = calls.make("recv", socket, room, 8192, python.MSG_DONTWAIT)
        # struct nlmsghdr: length, type; RTM_NEWLINK is 16.
        kind = struct.unpack("<IH", room.part(0, 6).read())[1]
        announced.of("RTM_NEWLINK" if result >= 0 and kind == 16 else int(result), result)


@behaviour("bind.netlink.membership", f"{SOURCE}; netlink(7) NETLINK_ADD_MEMBERSHIP, NETLINK_LIST_MEMBERSHIPS")
def test_membership(new_socket, expect):
    """A group that was joined by NETLINK_ADD_MEMBERSHIP is told by getsockname, and left by a bind without it; a group
    beyond 32, which bind cannot say, stays.
    """
    level, add, members = value("SOL_NETLINK"), value("NETLINK_ADD_MEMBERSHIP"), value("NETLINK_LIST_MEMBERSHIPS")
    socket = opened(new_socket)
    need(socket.bind(netlink(77)))
    need(socket.setsockopt(level, add, 3))
    result, name = socket.sockname()
    expect(netlink(77, 4), step="joined").of(name, result)
    # RTNLGRP_NEXTHOP is 32 (since Linux 5.3), RTNLGRP_BRVLAN 33 (since Linux 5.6).
    need(socket.setsockopt(level, add, 33))
    for groups in (1, 0):
        expect(0, bind=groups).of(socket.bind(netlink(77, groups)))
        result, told = socket.getsockopt(level, members, 8)
        expect([groups, 1], bind=groups, then="members").of(list(struct.unpack("<2I", told)), result)
