"""Where datagrams are sent to: lengths and families of the destination, destinations that do not take them."""

import socket
import struct
from errno import (
    EACCES,
    EAFNOSUPPORT,
    EAGAIN,
    ECONNREFUSED,
    EDESTADDRREQ,
    EHOSTUNREACH,
    EINVAL,
    ENETUNREACH,
    ENOENT,
    EPERM,
    EPROTOTYPE,
)  # fmt: skip

from probes.abi.sockaddr import unix
from probes.testing import Broke, behaviour, need, procfs
from probes.testing.socket_kinds import NETLINK, RAW, UDP, UDP6, UNIX_DGRAM, UNIX_STREAM
from probes.testing.states import DATA
from tests.transfer.caller_files import request
from tests.transfer.exchange import Message, came, went

SOURCE = "send(2) EINVAL, EAFNOSUPPORT; move_addr_to_kernel, __copy_msghdr; udp_sendmsg, udpv6_sendmsg, raw_sendmsg"
OPS = ("sendto", "sendmsg", "sendmmsg")
LENGTHS = (-0x80000000, -1, 0, 1, 2, 7, 11, 12, 15, 16, 17, 23, 24, 27, 28, 29, 127, 128, 129, 0x7FFFFFFF)
#: The least length of a destination by kind.
LEAST = {UDP: 16, RAW: 16, UDP6: 24, NETLINK: 12}


def send_words(exchange, calls, op, fd, name, length, flags=0):
    """Sends four bytes to a name of any length, and returns the result."""
    data = calls.memory.scratch(DATA, "data")
    if op == "sendto":
        return exchange.make(op, fd, data, 4, flags, name, length)
    message = Message(calls, [(data, 4)], name=name, namelen=length, size=32)
    return exchange.make(op, fd, message, *([flags] if op == "sendmsg" else [1, flags]))


@behaviour("transfer.destinations.length", f"{SOURCE}, netlink_sendmsg")
def test_length(exchange, prepare, calls, memory, expect):
    """A destination needs the length that its family has at least, and may be longer: sendto refuses more than 128 bytes
    with EINVAL, sendmsg and sendmmsg use 128 of them. A length of 0 is no destination; sendto over UDP refuses it: EINVAL.
    """
    for kind, least in LEAST.items():
        end = prepare("connected-by-name", kind)
        # An end of its own that is not connected: it sends to the peer's name.
        fd = end.new() if kind is not NETLINK else end.fd
        block = memory.put(end.server.ljust(128, b"\0"))
        for op in OPS:
            for length in LENGTHS:
                right = least <= length <= 128 or (length > 128 and op != "sendto")
                value = (1 if op == "sendmmsg" else 4) if right else -EINVAL
                if length == 0 and (op != "sendto" or kind in (RAW, NETLINK)):
                    value = -EDESTADDRREQ if kind is not NETLINK else 1 if op == "sendmmsg" else 4
                check = expect(value, kind=kind, op=op, length=length)
                check.of(send_words(exchange, calls, op, fd, block, length))
        end.close()


@behaviour("transfer.destinations.family", f"{SOURCE}; ip(7), ipv6(7), unix(7), netlink(7)")
def test_family(exchange, prepare, calls, memory, expect):
    """A destination of another family is refused: EAFNOSUPPORT over IPv4, EINVAL by the others. AF_UNSPEC is
    AF_INET for UDP over IPv4, and no destination over IPv6; UDP over IPv6 accepts AF_INET.
    """
    families = (socket.AF_UNSPEC, socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, 0xFFFF)
    others = {UDP: -EAFNOSUPPORT, UDP6: -EINVAL, RAW: -EAFNOSUPPORT, UNIX_DGRAM: -EINVAL, NETLINK: -EINVAL}
    taken = {
        (UDP, socket.AF_UNSPEC): 4, (UDP6, socket.AF_UNSPEC): -EDESTADDRREQ, (UDP6, socket.AF_INET): 4,
        (RAW, socket.AF_UNSPEC): 4,
    }  # fmt: skip
    for kind, other in others.items():
        end = prepare("connected-by-name", kind)
        fd = end.new() if kind is not NETLINK else end.fd
        if kind is UNIX_DGRAM:
            # The peer of a connected socket takes datagrams of its own peer only.
            need(end.calls.bind(end.new(), unix(b"\0free")))
        v4 = UDP.address(5000) if kind is UDP6 else end.server
        for family in families:
            name = (v4 if family == socket.AF_INET else end.server).ljust(28, b"\0")
            if kind is UNIX_DGRAM and family == socket.AF_UNIX:
                name = unix(b"\0free")
            block = memory.put(struct.pack("<H", family) + name[2:])
            value = 4 if family == kind.family else taken.get((kind, family), other)
            check = expect(value, kind=kind, op="sendto", family=family)
            check.of(send_words(exchange, calls, "sendto", fd, block, len(name)))
        end.close()


@behaviour("transfer.destinations.port-zero", "udp(7); udp_sendmsg, udpv6_sendmsg `!fl6_dport`")
def test_port_zero(exchange, prepare, expect):
    """A UDP datagram to port 0 is refused with EINVAL."""
    for kind in (UDP, UDP6):
        end = prepare("unbound", kind)
        for op in exchange.over(OPS):
            expect(-EINVAL, kind=kind, op=op).of(exchange.send(op, end, DATA, name=kind.address(0)))
        end.close()


@behaviour("transfer.destinations.over-connected", "udp(7); connect(2); unix(7); udp_sendmsg, unix_dgram_sendmsg")
def test_over_connected(exchange, prepare, expect):
    """A connected datagram socket sends to another destination where one is given, and keeps its peer."""
    for kind in (UDP, UDP6, UNIX_DGRAM):
        end = prepare("connected-by-name", kind)
        third = end.new()
        address = kind.address(5002) if kind is not UNIX_DGRAM else unix(b"\x005002")
        need(end.calls.bind(third, address))
        for op in exchange.over(OPS):
            expect(went(op, 4), kind=kind, op=op).of(exchange.send(op, end, DATA, name=address))
            end.wait(third)
            value = came("recvfrom", DATA, name=end.client)
            expect(value, kind=kind, op=op, reader="third").of(exchange.receive("recvfrom", third, 8, name=64))
            end.send(end.fd, b"marker")
            end.wait(end.peer)
            expect(came("recv", b"marker"), kind=kind, op=op, reader="peer").of(exchange.receive("recv", end.peer, 8))
        end.close()


@behaviour("transfer.destinations.broadcast", "send(2), ip(7) EACCES; socket(7) SO_BROADCAST; udp_sendmsg, raw_sendmsg")
def test_broadcast(exchange, prepare, expect):
    """A datagram to a broadcast address is refused with EACCES until SO_BROADCAST is set, then it arrives."""
    for kind in (UDP, RAW):
        end = prepare("unbound", kind)
        address, there = kind.address(5000, "127.255.255.255"), end.new()
        need(end.calls.bind(there, kind.address(5000, "any")))
        for op in exchange.over(OPS):
            expect(-EACCES, kind=kind, op=op, allowed="no").of(exchange.send(op, end, DATA, name=address))
        need(end.calls.setsockopt(end.fd, socket.SOL_SOCKET, socket.SO_BROADCAST, 1))
        expect(4, kind=kind, op="sendto", allowed="yes").of(exchange.send("sendto", end, DATA, name=address))
        end.wait(there)
        check = expect(DATA, kind=kind, op="recv", reader="peer")
        received = exchange.receive("recv", there, 64)
        check.of(received.value[1][-4:] if received.result > 0 else received.value, received)
        end.close()


@behaviour(
    "transfer.destinations.no-port", "send(2) EAGAIN `all port numbers in the ephemeral port range`; inet_autobind"
)
def test_no_port(exchange, prepare, expect):
    """The first datagram of an unbound UDP socket takes an ephemeral port, and fails with EAGAIN if none is free."""
    procfs.set_sysctl("net.ipv4.ip_local_port_range", "40000 40000")
    for kind in (UDP, UDP6):
        end = prepare("unbound", kind)
        first, name = end.new(), kind.address(5000)
        expect(4, kind=kind, op="sendto", port="free").of(exchange.send("sendto", first, DATA, name=name))
        for op in exchange.over(OPS):
            expect(-EAGAIN, kind=kind, op=op, port="taken").of(exchange.send(op, end, DATA, name=name))
        end.close()


@behaviour(
    "transfer.destinations.unix",
    "unix(7) ECONNREFUSED, EPROTOTYPE, EPERM; send(2); connect(2); unix_find_bsd, unix_find_abstract, unix_dgram_sendmsg",
)
def test_unix(exchange, prepare, files, expect):
    """A datagram to no AF_UNIX socket is refused: ENOENT if the path does not exist, ECONNREFUSED if no socket has it or the
    abstract name, EPROTOTYPE if the path is a stream's, EPERM if the socket there is connected to another one.
    """
    files.create("file")
    stream, taken = prepare("listening", UNIX_STREAM), prepare("unbound", UNIX_DGRAM)
    need(stream.calls.bind(stream.new(), unix("stream")))
    there, other = taken.new(), taken.new()
    for fd, name in ((there, b"\0there"), (other, b"\0other")):
        need(taken.calls.bind(fd, unix(name)))
    need(taken.calls.connect(there, unix(b"\0other")))
    gone = taken.new()
    need(taken.calls.bind(gone, unix("gone")))
    taken.close_one(gone)
    names = {
        "no-path": (unix("none"), -ENOENT), "no-socket": (unix("file"), -ECONNREFUSED),
        "closed": (unix("gone"), -ECONNREFUSED), "no-abstract": (unix(b"\0none"), -ECONNREFUSED),
        "stream": (unix("stream"), -EPROTOTYPE), "abstract-stream": (stream.server, -ECONNREFUSED),
        "connected": (unix(b"\0there"), -EPERM),
    }  # fmt: skip
    for case, (name, error) in names.items():
        for op in exchange.over(OPS):
            expect(error, destination=case, op=op).of(exchange.send(op, taken, DATA, name=name))


@behaviour("transfer.destinations.unix-permission", "send(2) EACCES; unix(7) EACCES; path_resolution(7); unix_find_bsd")
def test_unix_permission(exchange, prepare, caller, files, expect):
    """Sending to a path fails with EACCES without permission to write the socket's file, or to search a directory of the
    path.
    """
    end = prepare("unbound", UNIX_DGRAM)
    files.mkdir("closed")
    for path in ("open", "forbidden", "closed/inside"):
        need(end.calls.bind(end.new(), unix(path)))
    for path, mode in (("open", 0o777), ("forbidden", 0o555), ("closed/inside", 0o777), ("closed", 0o666)):
        files.chmod(path, mode)
    caller.keep_capabilities(())
    for path, value in (("open", 4), ("forbidden", -EACCES), ("closed/inside", -EACCES)):
        for op in exchange.over(OPS):
            expected = went(op, 4) if value == 4 else value
            check = expect(expected, op=op, path=path)
            check.of(exchange.send(op, end, DATA, name=unix(path)))


@behaviour(
    "transfer.destinations.unreachable", "ip(7) ENETUNREACH; send(2); ip_route_output_flow; ip6_route_output_flags"
)
def test_unreachable(exchange, prepare, expect):
    """A datagram to a network without a route is refused with ENETUNREACH."""
    for kind, host in ((UDP, "192.0.2.1"), (UDP6, "2001:db8::1"), (RAW, "192.0.2.1")):
        end = prepare("unbound", kind)
        for op in exchange.over(OPS):
            expect(-ENETUNREACH, kind=kind, op=op).of(exchange.send(op, end, DATA, name=kind.address(5000, host)))
        end.close()


@behaviour("transfer.destinations.route", "ip(7) EACCES, EHOSTUNREACH, EINVAL; rtnetlink(7) RTN_PROHIBIT; fib_props")
def test_route(exchange, prepare, expect):
    """A datagram is refused as the route to its destination says: with EACCES by a prohibit route, EHOSTUNREACH by an
    unreachable one, EINVAL by a blackhole.
    """
    # struct rtmsg of the main table, RTPROT_STATIC, RT_SCOPE_UNIVERSE, and the type; RTA_DST.
    types = {"unreachable": (7, EHOSTUNREACH), "blackhole": (6, EINVAL), "prohibit": (8, EACCES)}
    for at, (number, _) in enumerate(types.values()):
        head = struct.pack("<BBBBBBBBI", socket.AF_INET, 32, 0, 0, 254, 4, 0, number, 0)
        error = request(prepare, 24, head + struct.pack("<HH", 8, 1) + bytes((192, 0, 2, at)))
        if error:
            raise Broke(f"a route of type {number}: error {error}")
    for kind in (UDP, RAW):
        end = prepare("unbound", kind)
        for at, (case, (_, error)) in enumerate(types.items()):
            for op in exchange.over(OPS):
                expect(-error, kind=kind, route=case, op=op).of(
                    exchange.send(op, end, DATA, name=kind.address(5000, f"192.0.2.{at}"))
                )
        end.close()
