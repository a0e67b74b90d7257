"""The errno of bind(2) if several arguments are wrong: every subset of the faults, against the order of the checks."""

import os
import struct
from collections.abc import Collection, Mapping, Sequence
from errno import (
    EACCES,
    EADDRINUSE,
    EADDRNOTAVAIL,
    EAFNOSUPPORT,
    EBADF,
    EFAULT,
    EINVAL,
    ENODEV,
    ENOTSOCK,
    EPERM,
)
from itertools import combinations
from socket import AF_INET, AF_INET6

import pytest

from probes.abi.names import value
from probes.entry.calls import Socket
from probes.testing import behaviour, need
from probes.testing.socket_kinds import NETLINK, PACKET, RAW, RAW6, TCP, TCP6, UDP, UDP6, UNIX, SocketKind
from tests.bind.bind_forms import ETH_P_ALL, FORMS, family_word, inet, inet6, netlink, packet, selinux, unix

#: Local and foreign addresses (the latter of RFC 5737 and RFC 3849), and the v4-mapped local one.
LOCAL, FOREIGN = 0x7F000001, 0xC6336401
LOCAL6, FOREIGN6 = bytes(15) + b"\1", bytes.fromhex("20010db8ffff") + bytes(9) + b"\1"
MAPPED = bytes(10) + b"\xff\xff" + struct.pack(">I", LOCAL)
MULTICAST6 = bytes.fromhex("ff05") + bytes(13) + b"\1"
#: Free ports, unprivileged and privileged, and such ports that are in use.
PORT, PRIVILEGED, TAKEN, TAKEN_PRIVILEGED = 5000, 500, 5001, 501
NO_LINK = 0x3FFFFFFF


def subsets(faults: Sequence[str]) -> list[tuple[str, ...]]:
    """Returns every subset of the faults, in their order."""
    return [chosen for size in range(len(faults) + 1) for chosen in combinations(faults, size)]


def first_error(faults: Collection[str], order: Mapping[str, int]) -> int:
    """Returns the result of the fault that comes first in `order`, 0 if there is none."""
    return next((-error for fault, error in order.items() if fault in faults), 0)


def case_of(faults: Collection[str]) -> str:
    """Returns the faults as a value of a case."""
    return "+".join(faults) or "none"


@behaviour("bind.order.words", "bind(2) ERRORS; __sys_bind, move_addr_to_kernel; S4 3.1 steps 2 to 5")
def test_words(new_socket, calls, caller, memory, expect):
    """bind checks the descriptor first (EBADF, ENOTSOCK), then the range of the length (EINVAL), then reads the address
    (EFAULT), and then makes the checks of the family; also on a bound socket.
    """
    file, unreadable = caller.adopt(os.open(".", os.O_RDONLY)), memory.unmapped()
    for form in FORMS:
        fresh, bound = (new_socket(*form.kind.triple) for _ in range(2))
        need(bound.bind(form.good))
        wrong = memory.put(family_word(0xFFFF) + bytes(126))
        lengths = (-1, 0, form.enough - 1, form.enough, 129)
        for name, (fd, error) in {"none": (-1, EBADF), "file": (file, ENOTSOCK)}.items():
            check = expect([-error] * 2 * len(lengths), fd=name, form=form)
            results = [calls.bind(fd, pointer, length) for pointer in (unreadable, wrong) for length in lengths]
            check.of(results, *results)
        for name, socket in {"fresh": fresh, "bound": bound}.items():
            check = expect([-EFAULT if 0 < length <= 128 else -EINVAL for length in lengths], fd=name, form=form)
            results = [socket.bind(unreadable, length) for length in lengths]
            check.of(results, *results)


#: Faults in the order in which bind checks them, with their errno.
INET = {
    "short": EINVAL, "family": EAFNOSUPPORT, "foreign": EADDRNOTAVAIL, "privileged": EACCES, "bound": EINVAL,
    "taken": EADDRINUSE,
}  # fmt: skip
INET6 = {
    "short": EINVAL, "family": EAFNOSUPPORT, "privileged": EACCES, "bound": EINVAL, "foreign": EADDRNOTAVAIL,
    "taken": EADDRINUSE,
}  # fmt: skip


@behaviour("bind.order.inet", "__inet_bind, __inet6_bind; S4 3.2 steps 3 to 9")
@pytest.mark.parametrize("kind", [TCP, UDP, TCP6, UDP6], ids=str)
def test_inet(kind, new_socket, expect, caller):
    """bind of TCP and UDP checks in this order: length, family, local address, privileged port, unbound socket, port in
    use; over IPv6 the local address is checked after the unbound socket.
    """
    order = INET if kind in (TCP, UDP) else INET6
    for port in (TAKEN, TAKEN_PRIVILEGED):
        need(new_socket(*kind.triple).bind(kind.address(port, "any")))
    caller.keep_capabilities(())
    for faults in subsets(list(order)):
        ports = {(): PORT, ("privileged",): PRIVILEGED, ("taken",): TAKEN, ("privileged", "taken"): TAKEN_PRIVILEGED}
        port = ports[tuple(fault for fault in ("privileged", "taken") if fault in faults)]
        socket = new_socket(*kind.triple)
        if "bound" in faults:
            need(socket.bind(kind.address(0)))
        expect(first_error(faults, order), faults=case_of(faults)).of(socket.bind(*words(kind, faults, port)))
        need(socket.close())


def words(kind: SocketKind, faults: Collection[str], port: int) -> tuple[bytes, int]:
    """Returns an address of IPv4 or IPv6 with faults, and its length."""
    foreign = "foreign" in faults
    if kind.family == AF_INET:
        address, other = inet(port, FOREIGN if foreign else LOCAL).ljust(28, b"\0"), AF_INET6
    else:
        address, other = inet6(port, FOREIGN6 if foreign else LOCAL6), AF_INET
    if "family" in faults:
        address = family_word(other) + address[2:]
    return address, (15 if "short" in faults else 28)


@behaviour("bind.order.multicast-tcp6", "__inet6_bind `addr_type & IPV6_ADDR_MULTICAST) && sk->sk_type == SOCK_STREAM`")
def test_multicast_tcp6(new_socket, unprivileged, expect):
    """bind of an IPv6 TCP socket to a multicast address fails with EINVAL before a privileged port is checked; of a UDP
    socket it fails with EACCES for the port.
    """
    address = inet6(PRIVILEGED, MULTICAST6)
    expect(-EINVAL, kind=TCP6).of(new_socket(*TCP6.triple).bind(address))
    expect(-EACCES, kind=UDP6).of(new_socket(*UDP6.triple).bind(address))


@behaviour("bind.order.raw", "raw_bind, rawv6_bind; S4 3.2 step 2")
def test_raw(new_socket, expect):
    """bind of a raw IPv4 socket checks the length and that it is not connected before the local address; of a raw IPv6
    socket the length, the family, a v4-mapped address, that it is not connected, the scope, then the local address.
    """
    order = {"short": EINVAL, "connected": EINVAL, "foreign": EADDRNOTAVAIL}
    for faults in subsets(list(order)):
        socket = connected_if(new_socket(*RAW.triple), RAW, faults)
        expect(first_error(faults, order), kind=RAW, faults=case_of(faults)).of(socket.bind(*words(RAW, faults, 0)))
    family = EAFNOSUPPORT if selinux() else EINVAL
    order = {
        "short": EINVAL, "family": family, "mapped": EADDRNOTAVAIL, "connected": EINVAL, "no-link": ENODEV,
        "foreign": EADDRNOTAVAIL,
    }  # fmt: skip
    for faults in subsets(list(order)):
        if {"mapped", "foreign"} <= set(faults):
            continue
        socket = connected_if(new_socket(*RAW6.triple), RAW6, faults)
        host = MAPPED if "mapped" in faults else FOREIGN6 if "foreign" in faults else LOCAL6
        scope = 0
        if "no-link" in faults and "mapped" not in faults:
            host, scope = bytes.fromhex("fe80") + host[2:], NO_LINK
        address = inet6(0, host, scope)
        if "family" in faults:
            address = family_word(AF_INET) + address[2:]
        length = 15 if "short" in faults else 28
        expect(first_error(faults, order), kind=RAW6, faults=case_of(faults)).of(socket.bind(address, length))


def connected_if(socket: Socket, kind: SocketKind, faults: Collection[str]) -> Socket:
    """Connects the socket if "connected" is one of the faults. Returns the socket."""
    if "connected" in faults:
        need(socket.connect(kind.address(0)))
    return socket


@behaviour("bind.order.unix", "unix_bind, unix_bind_bsd, unix_bind_abstract; unix(7) EADDRINUSE, EINVAL")
@pytest.mark.parametrize("kind", UNIX, ids=str)
def test_unix(kind, new_socket, expect):
    """bind of a bound AF_UNIX socket fails with EADDRINUSE for an existing path, but with EINVAL for an abstract name in
    use; the family and the length are checked first.
    """
    for name in (b"\0taken", b"taken"):
        need(new_socket(*kind.triple).bind(unix(name)))
    bound = new_socket(*kind.triple)
    need(bound.bind(unix(b"\0bound")))
    fresh = new_socket(*kind.triple)
    expect(-EADDRINUSE, socket="bound", name="path").of(bound.bind(unix(b"taken")))
    expect(-EINVAL, socket="bound", name="abstract").of(bound.bind(unix(b"\0taken")))
    expect(-EADDRINUSE, socket="fresh", name="path").of(fresh.bind(unix(b"taken")))
    expect(-EADDRINUSE, socket="fresh", name="abstract").of(fresh.bind(unix(b"\0taken")))
    expect(-EINVAL, socket="fresh", name="other-family").of(fresh.bind(family_word(AF_INET) + b"taken"))
    expect(-EINVAL, socket="fresh", name="too-long").of(fresh.bind(unix(b"taken".ljust(109, b"\0"))))


@behaviour("bind.order.netlink", "netlink_bind; netlink(7)")
def test_netlink(new_socket, expect, caller):
    """bind of AF_NETLINK checks in this order: length and family, the capability for groups, that the socket is not
    bound to another port id, port id in use.
    """
    # include/uapi/linux/netlink.h NETLINK_USERSOCK: its groups need CAP_NET_ADMIN (netlink_add_usersock_entry).
    usersock = 2
    order = {"short": EINVAL, "family": EINVAL, "groups": EPERM, "bound": EINVAL, "taken": EADDRINUSE}
    need(new_socket(NETLINK.family, NETLINK.type, usersock).bind(netlink(TAKEN)))
    caller.keep_capabilities(())
    for faults in subsets(list(order)):
        socket = new_socket(NETLINK.family, NETLINK.type, usersock)
        if "bound" in faults:
            need(socket.bind(netlink()))
        address = netlink(TAKEN if "taken" in faults else PORT, 1 if "groups" in faults else 0)
        if "family" in faults:
            address = family_word(AF_INET) + address[2:]
        expect(first_error(faults, order), faults=case_of(faults)).of(
            socket.bind(address, 11 if "short" in faults else 12)
        )
        need(socket.close())


@behaviour("bind.order.packet", "packet_bind, packet_do_bind; packet(7) ENODEV")
def test_packet(new_socket, expect):
    """bind of AF_PACKET checks in this order: length and family, membership in a fanout group, existence of the
    link.
    """
    order = {"short": EINVAL, "family": EINVAL, "fanout": EINVAL, "no-link": ENODEV}
    fresh, fanout = (new_socket(PACKET.family, PACKET.type) for _ in range(2))
    # Only a socket that is bound to a protocol can join.
    need(fanout.bind(packet(ETH_P_ALL, 0)))
    need(fanout.setsockopt(value("SOL_PACKET"), value("PACKET_FANOUT"), 1))
    for faults in subsets(list(order)):
        address = packet(ETH_P_ALL, NO_LINK if "no-link" in faults else 0)
        if "family" in faults:
            address = family_word(AF_INET) + address[2:]
        socket = fanout if "fanout" in faults else fresh
        expect(first_error(faults, order), faults=case_of(faults)).of(
            socket.bind(address, 19 if "short" in faults else 20)
        )
