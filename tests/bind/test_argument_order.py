"""Which of several faults bind tells: every subset of them, for each family, against the order of the checks."""

import os
import struct
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
from probes.sandbox import namespaces
from probes.testing import behaviour, need
from probes.testing.socket_kinds import NETLINK, PACKET, RAW, RAW6, TCP, TCP6, UDP, UDP6, UNIX
from tests.bind.bind_forms import ETH_P_ALL, FORMS, family_word, inet, inet6, netlink, packet, selinux, unix

#: An address of the sandbox, one of nobody (RFC 5737, RFC 3849), and IPv4 within IPv6.
LOCAL, FOREIGN = 0x7F000001, 0xC6336401
LOCAL6, FOREIGN6 = bytes(15) + b"\1", bytes.fromhex("20010db8ffff") + bytes(9) + b"\1"
MAPPED = bytes(10) + b"\xff\xff" + struct.pack(">I", LOCAL)
MULTICAST6 = bytes.fromhex("ff05") + bytes(13) + b"\1"
#: Ports that need a capability or not, and the same with a socket on them.
PORT, PRIVILEGED, TAKEN, TAKEN_PRIVILEGED = 5000, 500, 5001, 501
NO_LINK = 0x3FFFFFFF


def subsets(faults):
    """Every subset of the faults, in their order."""
    return [chosen for size in range(len(faults) + 1) for chosen in combinations(faults, size)]


def told(faults, order):
    """The result of the first fault that the order names, and how the case calls them all."""
    winner = next((-error for fault, error in order.items() if fault in faults), 0)
    return winner, "+".join(faults) or "none"


@behaviour("bind.order.words", "bind(2) ERRORS; __sys_bind, move_addr_to_kernel; S4 3.1 steps 2 to 5")
def test_words(new_socket, calls, memory, expect):
    """The descriptor is looked at first, then the range of the length, then the memory of the address, and only then
    what the address says: EBADF or ENOTSOCK, EINVAL, EFAULT, the family's own errors; on a bound socket as well.
    """
    file, unreadable = os.open(".", os.O_RDONLY), memory.unmapped()
    for form in FORMS:
        fresh, bound = (new_socket(*form.kind.triple) for _ in range(2))
        need(bound.bind(form.good))
        wrong = memory.put(family_word(0xFFFF) + bytes(126))
        for length in (-1, 0, form.enough - 1, form.enough, 129):
            for address, pointer in {"unreadable": unreadable, "other-family": wrong}.items():
                case = {"form": form, "length": length, "address": address}
                expect(-EBADF, fd="none", **case).of(calls.bind(-1, pointer, length))
                expect(-ENOTSOCK, fd="file", **case).of(calls.bind(file, pointer, length))
            in_range = -EFAULT if 0 < length <= 128 else -EINVAL
            for name, socket in {"fresh": fresh, "bound": bound}.items():
                expect(in_range, fd=name, form=form, length=length).of(socket.bind(unreadable, length))


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
def test_inet(kind, new_socket, expect):
    """Of several faults TCP and UDP tell the first: over IPv4 a short address, another family, a foreign address, a
    privileged port, a bound socket, a port in use; over IPv6 the foreign address comes after the bound socket.
    """
    order = INET if kind in (TCP, UDP) else INET6
    for port in (TAKEN, TAKEN_PRIVILEGED):
        need(new_socket(*kind.triple).bind(kind.address(port, "any")))
    namespaces.keep_capabilities(())
    for faults in subsets(list(order)):
        ports = {(): PORT, ("privileged",): PRIVILEGED, ("taken",): TAKEN, ("privileged", "taken"): TAKEN_PRIVILEGED}
        port = ports[tuple(fault for fault in ("privileged", "taken") if fault in faults)]
        socket = new_socket(*kind.triple)
        if "bound" in faults:
            need(socket.bind(kind.address(0)))
        winner, case = told(faults, order)
        expect(winner, faults=case).of(socket.bind(*words(kind, faults, port)))
        need(socket.close())


def words(kind, faults, port):
    """An address of IPv4 or IPv6 with faults, and its length."""
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
    """TCP over IPv6 refuses a multicast address with EINVAL before it looks at a privileged port, which is EACCES for
    UDP.
    """
    address = inet6(PRIVILEGED, MULTICAST6)
    expect(-EINVAL, kind=TCP6).of(new_socket(*TCP6.triple).bind(address))
    expect(-EACCES, kind=UDP6).of(new_socket(*UDP6.triple).bind(address))


@behaviour("bind.order.raw", "raw_bind, rawv6_bind; S4 3.2 step 2")
def test_raw(new_socket, expect):
    """A raw socket over IPv4 tells a short address or a connected socket before a foreign address; over IPv6 a short
    address or another family, then an IPv4 address, then a connected socket, then a scope without a link, then a
    foreign address.
    """
    order = {"short": EINVAL, "connected": EINVAL, "foreign": EADDRNOTAVAIL}
    for faults in subsets(list(order)):
        socket = connected_if(new_socket(*RAW.triple), RAW, faults)
        winner, case = told(faults, order)
        expect(winner, kind=RAW, faults=case).of(socket.bind(*words(RAW, faults, 0)))
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
        winner, case = told(faults, order)
        expect(winner, kind=RAW6, faults=case).of(socket.bind(address, 15 if "short" in faults else 28))


def connected_if(socket, kind, faults):
    """The socket, connected if that is one of the faults."""
    if "connected" in faults:
        need(socket.connect(kind.address(0)))
    return socket


@behaviour("bind.order.unix", "unix_bind, unix_bind_bsd, unix_bind_abstract; unix(7) EADDRINUSE, EINVAL")
@pytest.mark.parametrize("kind", UNIX, ids=str)
def test_unix(kind, new_socket, expect):
    """A path that exists is told before the socket is found to be bound, EADDRINUSE; an abstract name that is in use
    after that, EINVAL. The family and the length come first.
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
def test_netlink(new_socket, expect):
    """AF_NETLINK tells a short address or another family, then groups without the capability, then a socket that is
    bound to another port, then a port in use.
    """
    # include/uapi/linux/netlink.h NETLINK_USERSOCK: its groups are for CAP_NET_ADMIN only (netlink_add_usersock_entry).
    usersock = 2
    order = {"short": EINVAL, "family": EINVAL, "groups": EPERM, "bound": EINVAL, "taken": EADDRINUSE}
    need(new_socket(NETLINK.family, NETLINK.type, usersock).bind(netlink(TAKEN)))
    namespaces.keep_capabilities(())
    for faults in subsets(list(order)):
        socket = new_socket(NETLINK.family, NETLINK.type, usersock)
        if "bound" in faults:
            need(socket.bind(netlink()))
        address = netlink(TAKEN if "taken" in faults else PORT, 1 if "groups" in faults else 0)
        if "family" in faults:
            address = family_word(AF_INET) + address[2:]
        winner, case = told(faults, order)
        expect(winner, faults=case).of(socket.bind(address, 11 if "short" in faults else 12))
        need(socket.close())


@behaviour("bind.order.packet", "packet_bind, packet_do_bind; packet(7) ENODEV")
def test_packet(new_socket, expect):
    """AF_PACKET tells a short address or another family, then membership in a fanout group, then a link that does not
    exist.
    """
    order = {"short": EINVAL, "family": EINVAL, "fanout": EINVAL, "no-link": ENODEV}
    fresh, fanout = (new_socket(PACKET.family, PACKET.type) for _ in range(2))
    # Only a socket that receives may join.
    need(fanout.bind(packet(ETH_P_ALL, 0)))
    need(fanout.setsockopt(value("SOL_PACKET"), value("PACKET_FANOUT"), 1))
    for faults in subsets(list(order)):
        address = packet(ETH_P_ALL, NO_LINK if "no-link" in faults else 0)
        if "family" in faults:
            address = family_word(AF_INET) + address[2:]
        winner, case = told(faults, order)
        socket = fanout if "fanout" in faults else fresh
        expect(winner, faults=case).of(socket.bind(address, 19 if "short" in faults else 20))
