"""The address that connect takes over IPv4 and IPv6: lengths, families, kinds of hosts, and hosts without a route."""

import os
import socket
import struct
from errno import (
    EACCES,
    EADDRNOTAVAIL,
    EAFNOSUPPORT,
    ECONNREFUSED,
    EHOSTUNREACH,
    EINVAL,
    ENETUNREACH,
)  # fmt: skip

from probes.testing import behaviour, need, not_applicable
from probes.testing.socket_kinds import CONNECTING, RAW, RAW6, TCP, TCP6, UDP, UDP6, WITH_PORTS
from probes.testing.states import CLIENT_PORT, SERVER_PORT
from tests.names.name_bytes import name
from tests.transfer.caller_files import request

SOURCE = "connect(2); ip(7), ipv6(7) Address format; tcp_v4_connect, tcp_v6_connect, __ip4_datagram_connect"
SOL = socket.SOL_SOCKET
NO_PORT = 5009
LEAST = {TCP: 16, UDP: 16, RAW: 16, TCP6: 24, UDP6: 24, RAW6: 24}
#: RTM_NEWROUTE; the types of routes that refuse, and the error of each (rtnetlink(7), fib_props, fib6_prop).
NEWROUTE, RTA_DST, MAIN, BOOT = 24, 1, 254, 3
ROUTES = {
    "blackhole": (6, EINVAL), "unreachable": (7, EHOSTUNREACH), "prohibit": (8, EACCES), "throw": (9, ENETUNREACH),
}  # fmt: skip


@behaviour("connect.length.every", f"{SOURCE}; move_addr_to_kernel")
def test_length(prepare, calls, memory, expect):
    """connect takes an address from the least length of its family, 16 bytes over IPv4 and 24 over IPv6, to 128; with any
    other length it fails with EINVAL.
    """
    for kind, least in LEAST.items():
        end = prepare("unbound", kind)
        block = memory.put(kind.address(NO_PORT).ljust(160, b"\0"))
        good = -ECONNREFUSED if kind in CONNECTING else 0
        for length in (
            -(1 << 31),
            -1,
            0,
            1,
            2,
            least - 1,
            least,
            least + 1,
            127,
            128,
            129,
            0x10000 + least,
            (1 << 31) - 1,
        ):
            expected = good if least <= length <= 128 else -EINVAL
            expect(expected, kind=kind, length=length).of(calls.connect(end.fd, block, length))
        end.close()


@behaviour("connect.family.other", f"{SOURCE}; connect(2) EAFNOSUPPORT; tcp(7) EAFNOTSUPPORT; __ip6_datagram_connect")
def test_family(prepare, calls, expect):
    """connect to an address of another family fails with EAFNOSUPPORT. UDP over IPv6 takes one of AF_INET too, unless the
    socket has IPV6_V6ONLY.
    """
    v4 = struct.pack("<H", socket.AF_INET) + struct.pack(">HI", NO_PORT, 0x7F000001)
    for kind in LEAST:
        own = kind.address(NO_PORT)
        for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, 0xFFFF):
            if family == kind.family:
                continue
            end = prepare("unbound", kind)
            accepts = family == socket.AF_INET and kind is UDP6
            address = v4.ljust(28, b"\0") if family == socket.AF_INET else own.ljust(28, b"\0")
            address = struct.pack("<H", family) + address[2:]
            expect(0 if accepts else -EAFNOSUPPORT, kind=kind, family=family).of(calls.connect(end.fd, address))
            end.close()
    end = prepare("unbound", UDP6)
    need(end.calls.setsockopt(end.fd, socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1), "IPV6_V6ONLY")
    only = expect(-EAFNOSUPPORT, kind=UDP6, family=int(socket.AF_INET), option="IPV6_V6ONLY")
    only.of(calls.connect(end.fd, v4.ljust(16, b"\0")))


@behaviour("connect.address.wildcard", f"{SOURCE} INADDR_ANY; `daddr = inet->inet_saddr`, ipv6_addr_any")
def test_wildcard(prepare, calls, expect):
    """connect to the wildcard address connects to the loopback address."""
    for kind in WITH_PORTS:
        end = prepare("beside-server", kind)
        expect(0, kind=kind, call="connect").of(calls.connect(end.fd, kind.address(SERVER_PORT, "any")))
        expect(name(kind, SERVER_PORT), kind=kind, call="getpeername").of(calls.name("getpeername", end.fd))
        end.close()


@behaviour("connect.address.byte-order", f"{SOURCE} `network byte order`; INADDR_LOOPBACK")
def test_byte_order(prepare, calls, expect):
    """Port and address are read in network byte order: 127.0.0.1 and port 5000 are where a socket listens, 1.0.0.127 has no
    route, and port 34835, the same bytes in the other order, no socket.
    """
    swapped = struct.unpack("<H", struct.pack(">H", SERVER_PORT))[0]
    hosts = {
        "network": (0x7F000001, SERVER_PORT, 0), "port-swapped": (0x7F000001, swapped, -ECONNREFUSED),
        "host-swapped": (0x0100007F, SERVER_PORT, -ENETUNREACH),
    }  # fmt: skip
    for order, (host, port, expected) in hosts.items():
        end = prepare("beside-server", TCP)
        address = struct.pack("<H", socket.AF_INET) + struct.pack(">HI8x", port, host)
        expect(expected, order=order).of(calls.connect(end.fd, address))
        end.close()


@behaviour(
    "connect.address.not-unicast", f"{SOURCE}; tcp(7) `do not support broadcasting or multicasting`; connect(2) EACCES"
)
def test_not_unicast(prepare, calls, expect):
    """connect over TCP to a broadcast or multicast address fails with ENETUNREACH. UDP needs SO_BROADCAST for a broadcast
    address, else it fails with EACCES.
    """
    broadcast = "127.255.255.255"
    for option in (0, 1):
        for kind, host, given in (
            (TCP, broadcast, -ENETUNREACH), (TCP6, "ff01::1", -ENETUNREACH), (UDP, broadcast, 0 if option else -EACCES),
        ):  # fmt: skip
            end = prepare("unbound", kind)
            need(end.calls.setsockopt(end.fd, SOL, socket.SO_BROADCAST, option), "SO_BROADCAST")
            expect(given, kind=kind, broadcast=option).of(calls.connect(end.fd, kind.address(SERVER_PORT, host)))
            end.close()
    end = prepare("unbound", TCP)
    expect(-ENETUNREACH, kind=TCP, host="multicast").of(calls.connect(end.fd, TCP.address(SERVER_PORT, "224.0.0.1")))


@behaviour("connect.address.link-local", f"{SOURCE}; ipv6(7) sin6_scope_id; `If interface is set while binding`")
def test_link_local(prepare, calls, expect):
    """connect to a link-local address without a scope fails with EINVAL."""
    for kind in (TCP6, UDP6):
        end = prepare("unbound", kind)
        expect(-EINVAL, kind=kind).of(calls.connect(end.fd, kind.address(SERVER_PORT, "fe80::1")))
        end.close()


@behaviour("connect.address.unreachable", "connect(2) ENETUNREACH; ip(7); ip_route_output_flow, ip6_route_output_flags")
def test_unreachable(prepare, calls, expect):
    """connect to a network without a route fails with ENETUNREACH, and leaves a datagram socket's peer."""
    for kind in WITH_PORTS:
        end = prepare("beside-server", kind)
        foreign = kind.address(SERVER_PORT, "192.0.2.1" if kind in (TCP, UDP) else "2001:db8::1")
        expect(-ENETUNREACH, kind=kind, socket="unconnected").of(calls.connect(end.fd, foreign))
        expect(0, kind=kind, then="server").of(calls.connect(end.fd, end.server))
        if kind not in CONNECTING:
            expect(-ENETUNREACH, kind=kind, socket="connected").of(calls.connect(end.fd, foreign))
            expect(end.server, kind=kind, then="peer").of(calls.name("getpeername", end.fd))
        end.close()


@behaviour(
    "connect.address.route",
    "ip(7) EACCES `prohibit route`, EHOSTUNREACH, EINVAL `blackhole route`; fib_props, fib6_prop",
)
def test_route(prepare, calls, expect):
    """connect to a host whose route refuses fails with the error of its type: EINVAL for a blackhole, EHOSTUNREACH for an
    unreachable, EACCES for a prohibit, ENETUNREACH for a throw route.
    """
    for number, (case, (type_, error)) in enumerate(ROUTES.items(), 1):
        for kinds, family, host, bits in (
            ((TCP, UDP), socket.AF_INET, f"192.0.2.{number}", 32),
            ((TCP6, UDP6), socket.AF_INET6, f"2001:db8::{number}", 128),
        ):
            target = socket.inet_pton(family, host)
            body = struct.pack("<8BI", family, bits, 0, 0, MAIN, BOOT, 0, type_, 0)
            body += struct.pack("<HH", 4 + len(target), RTA_DST) + target
            if error_of_route := request(prepare, NEWROUTE, body):
                not_applicable(f"a {case} route: {os.strerror(-error_of_route)}")
            for kind in kinds:
                end = prepare("unbound", kind)
                expect(-error, kind=kind, route=case).of(calls.connect(end.fd, kind.address(SERVER_PORT, host)))
                end.close()


@behaviour("connect.address.same-pair", "connect(2) EADDRINUSE, EADDRNOTAVAIL; __inet_check_established")
def test_same_pair(prepare, calls, expect):
    """A second TCP socket with the same local address, by SO_REUSEADDR, cannot connect to the same peer: EADDRNOTAVAIL. To
    another peer it can.
    """
    for kind in CONNECTING:
        end = prepare("beside-server", kind)
        other = kind.address(5002)
        listening = end.bound(other)
        need(end.calls.listen(listening, 1), "listen")
        both = [end.new(), end.new()]
        for fd in both:
            need(end.calls.setsockopt(fd, SOL, socket.SO_REUSEADDR, 1), "SO_REUSEADDR")
            need(end.calls.bind(fd, kind.address(CLIENT_PORT)), "bind")
        expect(0, kind=kind, socket="first").of(calls.connect(both[0], end.server))
        expect(-EADDRNOTAVAIL, kind=kind, socket="second").of(calls.connect(both[1], end.server))
        expect(0, kind=kind, socket="second", peer="other").of(calls.connect(both[1], other))
        end.close()
