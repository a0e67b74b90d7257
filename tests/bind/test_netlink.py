"""Port ids and groups of AF_NETLINK sockets."""

import fcntl
import socket as python
import struct
from collections.abc import Callable
from errno import EADDRINUSE, EAGAIN, EINVAL, EPERM

import pytest

from probes.abi.names import value
from probes.entry.calls import Socket
from probes.testing import behaviour, need, not_applicable, procfs
from probes.testing.prepared import await_events
from probes.testing.socket_kinds import NETLINK
from tests.bind.bind_forms import family_word, netlink

SOURCE = "netlink(7) Address formats; netlink_bind"
SOURCE_PORT = f"{SOURCE}, netlink_insert, netlink_autobind"
SOURCE_GROUPS = f"{SOURCE} `nl_groups`, netlink_allowed; netlink(7) `CAP_NET_ADMIN capability may send or listen`"
ROUTE, USERSOCK, GENERIC = 0, 2, 16
#: Protocols whose groups need no capability (NL_CFG_F_NONROOT_RECV), and those whose groups do.
OPEN = {"ROUTE": ROUTE, "SELINUX": 7, "KOBJECT_UEVENT": 15, "GENERIC": GENERIC}
CLOSED = {"USERSOCK": USERSOCK, "XFRM": 6, "NETFILTER": 12, "CRYPTO": 21}
CLONE_NEWNET = 0x40000000
#: struct sockaddr_nl with port id 0, without groups.
NO_PORT = netlink()


def require(protocol: int) -> None:
    """Ends the test as not applicable unless the kernel has a protocol of AF_NETLINK."""
    if protocol != USERSOCK and not procfs.has_netlink(protocol):
        not_applicable(f"protocol {protocol} of AF_NETLINK")


def opened(new_socket: Callable[..., Socket], protocol: int = ROUTE, type: int = python.SOCK_RAW) -> Socket:
    """Makes an AF_NETLINK socket."""
    return new_socket(NETLINK.family, type, protocol)


@behaviour("bind.netlink.port", SOURCE_PORT)
@pytest.mark.parametrize("type", [python.SOCK_RAW, python.SOCK_DGRAM], ids=lambda type: type.name)
def test_port(type, new_socket, expect):
    """bind accepts every port id of 32 bits but 0, and getsockname returns it with nl_groups 0; an unbound socket has
    port id 0.
    """
    expect(NO_PORT, then="unbound").of(opened(new_socket, type=type).sockname())
    for port in (1, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFF000, 0xFFFFFFFF):
        socket = opened(new_socket, type=type)
        expect(0, port=f"{port:#x}").of(socket.bind(netlink(port)))
        expect(netlink(port), port=f"{port:#x}", then="name").of(socket.sockname())


@behaviour("bind.netlink.padding", f"{SOURCE} `addr_len < sizeof(struct sockaddr_nl)`; netlink(7) nl_pad")
def test_padding(new_socket, expect):
    """bind ignores nl_pad and the bytes past the structure; getsockname returns nl_pad 0."""
    socket = opened(new_socket)
    dirty = family_word(NETLINK.family) + struct.pack("<HII", 0xA5A5, 77, 0) + b"\xa5" * 40
    expect(0).of(socket.bind(dirty))
    expect(netlink(77), then="name").of(socket.sockname())


@behaviour(
    "bind.netlink.automatic-port", f"{SOURCE_PORT}; netlink(7) `assigns the process ID to the first netlink socket`"
)
def test_automatic_port(new_socket, expect, caller):
    """bind to port id 0 assigns the process id to the first socket and another, negative port id to each further one;
    when the first is closed the process id is assigned again.
    """
    sockets = [opened(new_socket) for _ in range(20)]
    bound = expect([0] * 20, sockets=20)
    first, different = expect(True, then="first"), expect(20, then="different")
    # netlink_autobind: from S32_MIN to -4097.
    negative = expect(True, then="negative")
    results = [socket.bind(NO_PORT) for socket in sockets]
    bound.of(results, *results)
    ports = [int.from_bytes(socket.sockname().bytes[4:8], "little", signed=True) for socket in sockets]
    first.of(ports[0] == caller.pid, *results)
    different.of(len(set(ports)), *results)
    negative.of(all(port <= -4097 for port in ports[1:]), *results)
    need(sockets[0].close())
    late = opened(new_socket)
    expect(0, then="late").of(late.bind(NO_PORT))
    again = expect(True, then="pid-again")
    name = late.sockname()
    again.of(name.bytes == netlink(caller.pid), name)


@behaviour("bind.netlink.automatic-port-by-connect", f"{SOURCE_PORT}; netlink_connect; netlink(7)")
def test_automatic_port_by_connect(new_socket, expect, caller):
    """connect of an unbound socket assigns the process id as its port id, as bind to port id 0 does."""
    socket = opened(new_socket)
    need(socket.connect(NO_PORT))
    check = expect(True)
    name = socket.sockname()
    check.of(name.bytes == netlink(caller.pid), name)


@behaviour(
    "bind.netlink.in-use", f"{SOURCE_PORT}; netlink(7) `it is up to the application to make sure`; bind(2) EADDRINUSE"
)
def test_in_use(new_socket, expect, caller):
    """bind to the port id of another socket of the same protocol and network namespace fails with EADDRINUSE until that
    socket is closed; other protocols and network namespaces have port ids of their own.
    """
    first = opened(new_socket)
    need(first.bind(netlink(77)))
    second = opened(new_socket)
    expect(-EADDRINUSE, protocol="same").of(second.bind(netlink(77)))
    # netlink_insert stores the port id before it checks that it is free.
    expect(netlink(77), protocol="same", then="name").of(second.sockname())
    expect(0, protocol="other").of(opened(new_socket, USERSOCK).bind(netlink(77)))
    need(first.close())
    expect(0, protocol="same", then="closed").of(second.bind(netlink(77)))
    caller.unshare(CLONE_NEWNET)
    expect(0, namespace="other").of(opened(new_socket).bind(netlink(77)))


@behaviour("bind.netlink.rebind", f"{SOURCE} `nladdr->nl_pid != nlk->portid`; bind(2) EINVAL")
def test_rebind(new_socket, expect):
    """A bound socket can be bound again to its own port id only, which replaces its groups by nl_groups; any other port
    id, 0 included, fails with EINVAL.
    """
    socket = opened(new_socket)
    need(socket.bind(netlink(77, 1)))
    for second, port in {"other": 78, "automatic": 0}.items():
        expect(-EINVAL, second=second).of(socket.bind(netlink(port, 4)))
        expect(netlink(77, 1), second=second, then="name").of(socket.sockname())
    for groups in (1, 4, 0x11, 0):
        expect(0, second="same", groups=groups).of(socket.bind(netlink(77, groups)))
        expect(netlink(77, groups), second="same", groups=groups, then="name").of(socket.sockname())


@behaviour("bind.netlink.groups", SOURCE_GROUPS)
@pytest.mark.parametrize("protocol", OPEN | CLOSED)
def test_groups(protocol, new_socket, expect, caller):
    """bind with groups needs CAP_NET_ADMIN and fails with EPERM without, except for NETLINK_ROUTE, NETLINK_SELINUX,
    NETLINK_KOBJECT_UEVENT and NETLINK_GENERIC; bind without groups needs no capability.
    """
    number = (OPEN | CLOSED)[protocol]
    require(number)
    sockets = {who: opened(new_socket, number) for who in ("capability", "nobody", "no-groups")}
    answers = {"capability": 0, "nobody": 0 if protocol in OPEN else -EPERM, "no-groups": 0}
    for who, answer in answers.items():
        caller.keep_capabilities(["CAP_NET_ADMIN"] if who == "capability" else [])
        expect(answer, who=who).of(sockets[who].bind(netlink(0, 0 if who == "no-groups" else 1)))
        joined = 1 if answer == 0 and who != "no-groups" else 0
        expect(joined, who=who, then="groups").of(sockets[who].sockname()[8:12].as_unsigned())
        if answer == -EPERM:
            expect(NO_PORT, who=who, then="unbound").of(sockets[who].sockname())


@behaviour("bind.netlink.every-group", f"{SOURCE}; netlink(7) `Each netlink family has a set of 32 multicast groups`")
def test_every_group(new_socket, expect):
    """bind accepts each of the 32 bits of nl_groups, alone or all together, and getsockname returns them."""
    for protocol, number in {"ROUTE": ROUTE, "USERSOCK": USERSOCK, "KOBJECT_UEVENT": 15}.items():
        require(number)
        masks = (*(1 << bit for bit in range(32)), 0xFFFFFFFF)
        addresses = [netlink(port, groups) for port, groups in enumerate(masks, 77)]
        bound = expect([0] * len(masks), protocol=protocol, groups="each")
        named = expect(addresses, protocol=protocol, groups="each", then="name")
        sockets = [opened(new_socket, number) for _ in masks]
        results = [socket.bind(address) for socket, address in zip(sockets, addresses, strict=True)]
        bound.of(results, *results)
        names = [socket.sockname() for socket in sockets]
        named.of([name.actual for name in names], *names)


def toggle_loopback() -> None:
    """Sets the loopback link down and up, which sends two messages to RTNLGRP_LINK."""
    with python.socket(python.AF_INET, python.SOCK_DGRAM) as any_socket:
        for flags in (0, 1):
            # SIOCSIFFLAGS, struct ifreq
            fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", b"lo", flags))


@pytest.mark.usefixtures("beside")
@behaviour(
    "bind.netlink.listening", f"{SOURCE} netlink_update_listeners; netlink(7) EXAMPLES RTMGRP_LINK; rtnetlink(7)"
)
def test_listening(calls, memory, new_socket, expect):
    """A socket receives messages to the groups of its last bind only."""
    link_group, neighbour_group = 1, 4
    groups = {"link": link_group, "neighbour": neighbour_group, "none": 0, "both": link_group | neighbour_group}
    sockets = {case: opened(new_socket) for case in (*groups, "left")}
    for case, bits in groups.items():
        need(sockets[case].bind(netlink(0, bits)))
    need(sockets["left"].bind(netlink(77, link_group)))
    need(sockets["left"].bind(netlink(77, neighbour_group)))
    toggle_loopback()
    # A message reaches all members of its group at once.
    for case in ("link", "both"):
        await_events(calls, sockets[case])
    room = memory.alloc(8192)
    for case, socket in sockets.items():
        listens = case in ("link", "both")
        check = expect("RTM_NEWLINK" if listens else -EAGAIN, groups=case)
        result = calls.make("recv", socket, room, 8192, python.MSG_DONTWAIT)
        # struct nlmsghdr: length, type; RTM_NEWLINK is 16.
        kind = struct.unpack("<IH", room.part(0, 6).read())[1]
        check.of("RTM_NEWLINK" if result >= 0 and kind == 16 else int(result), result)


@behaviour("bind.netlink.membership", f"{SOURCE}; netlink(7) NETLINK_ADD_MEMBERSHIP, NETLINK_LIST_MEMBERSHIPS")
def test_membership(new_socket, expect):
    """getsockname returns groups joined by NETLINK_ADD_MEMBERSHIP, and bind without them leaves them; a group above 32,
    for which nl_groups has no bit, is kept.
    """
    level, add, members = value("SOL_NETLINK"), value("NETLINK_ADD_MEMBERSHIP"), value("NETLINK_LIST_MEMBERSHIPS")
    socket = opened(new_socket)
    need(socket.bind(netlink(77)))
    need(socket.setsockopt(level, add, 3))
    expect(netlink(77, 4), step="joined").of(socket.sockname())
    # RTNLGRP_NEXTHOP is 32 (since Linux 5.3), RTNLGRP_BRVLAN 33 (since Linux 5.6).
    need(socket.setsockopt(level, add, 33))
    for groups in (1, 0):
        expect(0, bind=groups).of(socket.bind(netlink(77, groups)))
        expect([groups, 1], bind=groups, then="members").of(socket.getsockopt(level, members, 8).unpack("<2I"))
