"""Raw sockets beside the kernel's own protocols: ICMP, its filter and its errors, and IPPROTO_RAW."""

import socket
from errno import EAGAIN, EINVAL, EMSGSIZE, ENETUNREACH, ENOPROTOOPT, EPROTO
from select import POLLERR

import pytest

from probes.testing import behaviour, need
from probes.testing.socket_kinds import RAW, UDP, SocketKind
from probes.testing.states import DATA
from tests.transfer.caller_files import route_through_gateway
from tests.transfer.exchange import came, went
from tests.transfer.icmp_errors import ICMP, NO_PROTOCOL, PARAMETER_PROBLEM, UNREACHABLE, icmp, report

NOW = socket.MSG_DONTWAIT
SOL_RAW, ICMP_FILTER, IP_RECVERR = 255, 1, 11
ECHO_REPLY, ECHO = 0, 8
HOST = RAW.address(0)
#: IPPROTO_RAW.
SENDING = SocketKind("ipproto-raw", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)


def types(exchange, fd, count):
    """Receives packets, and returns the length and the ICMP type of each, with the last result."""
    found = []
    for _ in range(count):
        got = exchange.receive("recv", fd, 64)
        found.append([int(got.result), got.value[1][20] if got.result > 20 else None])
    return found, got


@behaviour("transfer.raw.echo", "raw(7) ICMP_FILTER, `passed to it before`; icmp(7); raw_local_deliver, icmp_filter")
def test_echo(exchange, prepare, calls, expect):
    """A raw ICMP socket receives a request for an echo, which the kernel itself answers, and the answer. With ICMP_FILTER
    it does not receive the types whose bits are set.
    """
    end = prepare("unbound", ICMP)
    for case, bits, received in (
        ("none", 0, [ECHO, ECHO_REPLY]), ("echo", 1 << ECHO, [ECHO_REPLY]), ("none-again", 0, [ECHO, ECHO_REPLY]),
    ):  # fmt: skip
        need(calls.setsockopt(end.fd, SOL_RAW, ICMP_FILTER, bits), "ICMP_FILTER")
        for op in exchange.over(("sendto", "sendmsg", "sendmmsg")):
            check = expect([went(op, 12), [[20 + 12, one] for one in received]], filter=case, op=op)
            sent = exchange.send(op, end, icmp(ECHO, 0, 7, DATA), name=HOST)
            found, got = types(exchange, end.fd, len(received))
            check.of([sent.value, found], sent, got)


@behaviour("transfer.raw.sending-only", "raw(7) IPPROTO_RAW `send only`; raw_v4_input `inet_num`")
def test_sending_only(exchange, prepare, expect):
    """A socket of IPPROTO_RAW sends packets whose header the caller gives, of any protocol, and receives none of them."""
    end, there = prepare("unbound", SENDING), prepare("unbound", RAW)
    packet = bytes.fromhex("4500 0018 1234 0000 40fd 0000 7f000001 7f000001") + DATA
    for op in exchange.over(("sendto", "sendmsg", "sendmmsg")):
        expect(went(op, 24), op=op).of(exchange.send(op, end, packet, name=HOST))
        there.wait(there.fd)
        check = expect(DATA, op=op, reader="raw")
        got = exchange.receive("recv", there, 64)
        check.of(got.value[1][20:] if got.result > 0 else got.value, got)
        expect(-EAGAIN, op=op, reader="itself").of(exchange.receive("recv", end, 64, NOW))


@behaviour(
    "transfer.raw.protocol-ignored",
    "raw(7) BUGS `sin_port cannot choose the protocol`; raw_sendmsg",
    tag="implementation",
)
@pytest.mark.routes("socketcall")
def test_protocol_ignored(exchange, prepare, expect):
    """The port of a raw socket's destination does not choose the protocol: that of socket(2) is in the header."""
    end = prepare("unbound", RAW)
    for port in (0, 17, 253, 0xFFFF):
        check = expect([4, 24, RAW.protocol], port=port)
        sent = exchange.send("sendto", end, DATA, name=RAW.address(port))
        end.wait(end.fd)
        got = exchange.receive("recv", end, 64)
        check.of([int(sent.result), int(got.result), got.value[1][9] if got.result > 0 else None], sent, got)


@behaviour("transfer.errors.reported", "udp(7), raw(7) Error handling, EPROTO; ip(7) IP_RECVERR; raw_err, udp_err")
@pytest.mark.parametrize("kind", (RAW, UDP), ids=str)
@pytest.mark.routes("socketcall")
def test_reported(kind, exchange, prepare, calls, expect):
    """An ICMP error that says that no such protocol is there, or that a header is wrong, is the error of the next operation
    of a connected socket (ENOPROTOOPT, EPROTO), once; of an unconnected one only with IP_RECVERR.
    """
    errors = {"no-protocol": (UNREACHABLE, NO_PROTOCOL, ENOPROTOOPT), "parameter": (PARAMETER_PROBLEM, 0, EPROTO)}
    protocol = kind.protocol or socket.IPPROTO_UDP
    for case, (type_, code, error) in errors.items():
        for state, option in (("connected", 0), ("connected", 1), ("unconnected", 1)):
            end = prepare("connected" if state == "connected" else "bound", kind)
            if state == "unconnected":
                end.close_one(end.fd)
                end.fd = end.bound(end.client)
            need(calls.setsockopt(end.fd, socket.IPPROTO_IP, IP_RECVERR, option), "IP_RECVERR")
            end.nonblocking(end.fd)
            what = {"error": case, "state": state, "recverr": option}
            first = expect(-error, **what, time="first")
            report(prepare, end, protocol, type_, code)
            end.wait(end.fd, POLLERR)
            first.of(exchange.receive("recv", end, 8))
            expect(-EAGAIN, **what, time="second").of(exchange.receive("recv", end, 8))
            end.close()
    end = prepare("bound", kind)
    end.close_one(end.fd)
    end.fd = end.bound(end.client)
    check = expect(came("recv", b"marker") if kind is UDP else b"marker", state="unconnected", recverr=0)
    for type_, code, _ in errors.values():
        report(prepare, end, protocol, type_, code)
    sender = end.new()
    need(exchange.send("sendto", sender, b"marker", name=end.client).result, "sendto")
    end.wait(end.fd)
    got = exchange.receive("recv", end, 64)
    check.of(got.value if kind is UDP or got.result < 0 else got.value[1][20:], got)


@behaviour("transfer.raw.too-long", "raw(7) EINVAL, EMSGSIZE; raw_sendmsg `len > 0xFFFF`")
def test_too_long(exchange, prepare, expect):
    """A raw socket sends no packet of more than 64 kB: EMSGSIZE; a destination of less than 16 bytes fails with EINVAL."""
    end = prepare("unbound", RAW)
    for op in exchange.over(("sendto", "sendmsg", "sendmmsg")):
        expect(-EINVAL, op=op, namelen=15).of(exchange.send(op, end, DATA, name=HOST[:15]))
        expect(-EMSGSIZE, op=op, size=0x10000).of(exchange.send(op, end, bytes(0x10000), name=HOST))


@behaviour("transfer.raw.header-routes", "raw(7) IP_HDRINCL `used to route the packet`; raw_sendmsg, raw_send_hdrinc")
def test_header_routes(exchange, prepare, expect):
    """With IP_HDRINCL the destination of the call routes the packet, and that in the header is where it arrives."""
    end, there = prepare("unbound", SENDING), prepare("unbound", RAW)
    far = there.bound(RAW.address(0, "127.0.0.9"))
    packet = bytes.fromhex("4500 0018 1234 0000 40fd 0000 7f000001 7f000009") + DATA
    for op in exchange.over(("sendto", "sendmsg", "sendmmsg")):
        check = expect([went(op, 24), DATA], op=op)
        sent = exchange.send(op, end, packet, name=HOST)
        there.wait(far)
        got = exchange.receive("recv", far, 64)
        check.of([sent.value, got.value[1][20:] if got.result > 0 else got.value], sent, got)
        expect(-ENETUNREACH, op=op, destination="no-route").of(
            exchange.send(op, end, packet, name=RAW.address(0, "192.0.2.1"))
        )


@behaviour("transfer.raw.header-not-routed", "raw(7) IP_HDRINCL `MSG_DONTROUTE`; raw_sendmsg: RT_SCOPE_LINK")
def test_header_not_routed(exchange, prepare, expect):
    """With IP_HDRINCL and MSG_DONTROUTE a packet goes to a destination on a local interface only: to one behind a gateway it
    fails with ENETUNREACH, whatever the destination in the header is.
    """
    route_through_gateway(prepare)
    end, there = prepare("unbound", SENDING), prepare("unbound", RAW)
    packet = bytes.fromhex("4500 0018 1234 0000 40fd 0000 7f000001 7f000001") + DATA
    for op in exchange.over(("sendto", "sendmsg", "sendmmsg")):
        for case, host in (("local", "127.0.0.1"), ("neighbour", "10.0.0.2"), ("behind-gateway", "192.0.2.1")):
            for flags in (0, socket.MSG_DONTROUTE):
                refused = flags and case == "behind-gateway"
                check = expect(
                    [-ENETUNREACH, None] if refused else [went(op, 24), DATA], op=op, destination=case,
                    flags="dontroute" if flags else "none",
                )  # fmt: skip
                sent = exchange.send(op, end, packet, flags, name=RAW.address(0, host))
                if refused:
                    check.of([sent.value, None], sent)
                    continue
                there.wait(there.fd)
                got = exchange.receive("recv", there, 64)
                check.of([sent.value, got.value[1][20:] if got.result > 0 else got.value], sent, got)
