"""Path MTU discovery: which datagrams are too long, and what a socket knows of its path."""

import socket
import struct
from errno import EINVAL, EMSGSIZE, ENOTCONN
from select import POLLERR

import pytest

from probes.abi.sockaddr import inet
from probes.testing import behaviour, need
from probes.testing.socket_kinds import RAW, TCP, UDP, UDP6
from tests.transfer.control_messages import extended_error
from tests.transfer.exchange import came, went
from tests.transfer.icmp_errors import TOO_LONG, UNREACHABLE, report

MTU = 1300
#: The level of each kind, IP_MTU_DISCOVER, IP_MTU, IP_RECVERR and the like (include/uapi/linux/in.h, in6.h); the
#: bytes of the headers before the data of a datagram.
OPTIONS = {
    UDP: (socket.IPPROTO_IP, 10, 14, 11, 28), RAW: (socket.IPPROTO_IP, 10, 14, 11, 20),
    UDP6: (socket.IPPROTO_IPV6, 23, 24, 25, 48),
}  # fmt: skip
#: Modes of IP_MTU_DISCOVER, and whether each lets a datagram be sent that does not fit into a packet, in fragments.
MODES = {"dont": (0, True), "want": (1, True), "do": (2, False), "probe": (3, False)}
ICMP_ORIGIN, ERRQUEUE = 2, 0x2000
each_kind = pytest.mark.parametrize("kind", OPTIONS, ids=str)


@behaviour("transfer.mtu.mode", "ip(7) IP_MTU_DISCOVER, EMSGSIZE; udp(7), raw(7) `path MTU discovery`; ipv6(7)")
@each_kind
def test_mode(kind, exchange, prepare, calls, loopback_mtu, expect):
    """A datagram that does not fit into one packet is sent in fragments with IP_PMTUDISC_DONT and IP_PMTUDISC_WANT, the
    default, and refused with EMSGSIZE with IP_PMTUDISC_DO and IP_PMTUDISC_PROBE; one that fits is sent with each.
    """
    level, mode_option, *_, headers = OPTIONS[kind]
    end = prepare("connected", kind)
    loopback_mtu(MTU)
    head = 20 if kind is RAW else 0
    for case, (mode, fragments) in {"default": (None, True), **MODES}.items():
        if mode is not None:
            set_to = expect([0, mode], mode=case, op="setsockopt")
            result = calls.setsockopt(end.fd, level, mode_option, mode)
            set_to.of([int(result), calls.getsockopt(end.fd, level, mode_option).as_int().value], result)
        for op in exchange.over(("sendmmsg", "write")):
            for size in (MTU - headers, MTU - headers + 1):
                sent = size == MTU - headers or fragments
                data = bytes(number % 251 for number in range(size))
                check = expect(went(op, size) if sent else -EMSGSIZE, mode=case, op=op, size=size)
                check.of(exchange.send(op, end, data))
                if sent:
                    end.wait(end.peer)
                    check = expect(data, mode=case, op=op, size=size, reader="peer")
                    got = exchange.receive("recv", end.peer, MTU + 64)
                    check.of(got.value[1][head:] if got.result > 0 else got.value, got)
    for mode in (-2, 6, 0x7FFFFFFF):
        expect(-EINVAL, mode=mode, op="setsockopt").of(calls.setsockopt(end.fd, level, mode_option, mode))


@behaviour("transfer.mtu.dont-fragment", "ip(7) IP_MTU_DISCOVER `don't-fragment`, IP_PMTUDISC_PROBE; ip_dont_fragment")
@pytest.mark.routes("socketcall")
def test_dont_fragment(exchange, prepare, calls, expect):
    """The don't-fragment bit in the header of what is sent is set unless IP_MTU_DISCOVER is IP_PMTUDISC_DONT."""
    level, mode_option, *_ = OPTIONS[RAW]
    end = prepare("connected", RAW)
    for case, (mode, _) in MODES.items():
        need(calls.setsockopt(end.fd, level, mode_option, mode), "IP_MTU_DISCOVER")
        check = expect([4, 24, 0x0000 if case == "dont" else 0x4000], mode=case)
        sent = exchange.send("send", end, b"data")
        end.wait(end.peer)
        got = exchange.receive("recv", end.peer, 64)
        header = got.value[1] if got.result > 0 else bytes(8)
        check.of([int(sent.result), int(got.result), struct.unpack(">6xH", header[:8])[0]], sent, got)


@behaviour("transfer.mtu.header-included", "raw(7) BUGS IP_HDRINCL `not fragmented`, EMSGSIZE; raw_send_hdrinc")
def test_header_included(exchange, prepare, calls, loopback_mtu, expect):
    """A packet with its header by IP_HDRINCL that is longer than the MTU of the link is refused with EMSGSIZE, whatever
    IP_MTU_DISCOVER is.
    """
    level, mode_option, *_ = OPTIONS[RAW]
    end = prepare("connected", RAW)
    loopback_mtu(MTU)
    need(calls.setsockopt(end.fd, level, socket.IP_HDRINCL, 1), "IP_HDRINCL")
    header = bytes.fromhex("4500 0000 1234 0000 40fd 0000 7f000002 7f000001")
    for case, (mode, _) in MODES.items():
        need(calls.setsockopt(end.fd, level, mode_option, mode), "IP_MTU_DISCOVER")
        for size, value in ((MTU, MTU), (MTU + 1, -EMSGSIZE)):
            expect(value, mode=case, size=size).of(exchange.send("send", end, header.ljust(size, b"\0")))
        end.wait(end.peer)
        need(exchange.receive("recv", end.peer, MTU).result, "recv")


@behaviour("transfer.mtu.known", "ip(7) IP_MTU `current known path MTU`; ipv6(7) IPV6_MTU; do_ip_getsockopt, dst_mtu")
def test_known(prepare, new_socket, calls, loopback_mtu, expect):
    """IP_MTU and IPV6_MTU of a connected socket are the MTU of its path, here that of the link; of a socket that is not
    connected they fail with ENOTCONN.
    """
    loopback_mtu(MTU)
    for kind, of in ((UDP, UDP), (UDP6, UDP6), (RAW, RAW), (TCP, UDP)):
        level, _, mtu_option, *_ = OPTIONS[of]
        end, unconnected = prepare("connected", kind), new_socket(*kind.triple)
        expect(MTU, kind=kind, state="connected").of(calls.getsockopt(end.fd, level, mtu_option).as_int())
        expect(-ENOTCONN, kind=kind, state="unbound").of(unconnected.getsockopt(level, mtu_option))
        end.close()


@behaviour("transfer.mtu.set", "ipv6(7) IPV6_MTU `set`; do_ipv6_setsockopt `val < IPV6_MIN_MTU`, ip6_append_data")
def test_set(exchange, prepare, calls, expect):
    """IPV6_MTU sets the longest packet of a socket: with IPV6_PMTUDISC_DO a datagram that exceeds it is refused with
    EMSGSIZE, though its link takes it. Less than 1280 bytes, the least of IPv6, fail with EINVAL; 0 sets none.
    """
    level, mode_option, mtu_option, _, headers = OPTIONS[UDP6]
    end = prepare("connected", UDP6)
    need(calls.setsockopt(end.fd, level, mode_option, MODES["do"][0]), "IPV6_MTU_DISCOVER")
    for given in (1, 1279, -1):
        expect(-EINVAL, given=given).of(calls.setsockopt(end.fd, level, mtu_option, given))
    for given, size, value in ((1280, 1280, 1280), (1280, 1281, -EMSGSIZE), (0, 1281, 1281)):
        expect(0, given=given, size=size, op="setsockopt").of(calls.setsockopt(end.fd, level, mtu_option, given))
        value = value - headers if value > 0 else value
        expect(value, given=given, size=size, op="send").of(exchange.send("send", end, bytes(size - headers)))


@behaviour(
    "transfer.mtu.reported", "ip(7) IP_MTU_DISCOVER, IP_RECVERR `EMSGSIZE`, IP_MTU; udp_err, ipv4_sk_update_pmtu"
)
def test_reported(exchange, prepare, messages, calls, expect):
    """When a router reports that a datagram was too long, IP_MTU is the MTU that it gave: with IP_RECVERR EMSGSIZE is in the
    error queue with that MTU in ee_info, and with IP_PMTUDISC_DO a datagram that exceeds it is refused with EMSGSIZE.
    """
    level, mode_option, mtu_option, error_option, headers = OPTIONS[UDP]
    end, mtu = prepare("connected", UDP), 1000
    for option, given in ((mode_option, MODES["do"][0]), (error_option, 1)):
        need(calls.setsockopt(end.fd, level, option, given), "an option")
    offender = inet("127.0.0.1", 0)
    error = extended_error(UDP, EMSGSIZE, ICMP_ORIGIN, UNREACHABLE, TOO_LONG, info=mtu, offender=offender)
    check, known = expect([0, b"", error, ERRQUEUE], queue="errors"), expect(mtu, option="IP_MTU")
    report(prepare, end, socket.IPPROTO_UDP, UNREACHABLE, TOO_LONG, rest=mtu)
    end.wait(end.fd, POLLERR)
    got = messages.receive(end.fd, flags=ERRQUEUE)
    check.of(got.value, got.result)
    known.of(calls.getsockopt(end.fd, level, mtu_option).as_int())
    for op in exchange.over(("sendmsg", "write")):
        expect(-EMSGSIZE, op=op, size="too-long").of(exchange.send(op, end, bytes(mtu - headers + 1)))
    expect(mtu - headers, op="send", size="fits").of(exchange.send("send", end, bytes(mtu - headers)))
    end.wait(end.peer)
    expect(came("recv", bytes(mtu - headers)), op="recv", reader="peer").of(exchange.receive("recv", end.peer, mtu))
