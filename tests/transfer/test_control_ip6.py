"""Control messages of IPv6: those that a datagram is received with, and those that it can be sent with."""

import socket
import struct
from errno import EINVAL, ENODEV

import pytest

from probes.abi.sockaddr import inet6
from probes.testing import behaviour, need
from probes.testing.socket_kinds import UDP6
from tests.transfer.control_messages import cmsg
from tests.transfer.control_requested import judge_requested

SOURCE = "ipv6(7); RFC 3542"
KERNEL = "ip6_datagram_recv_common_ctl, ip6_datagram_recv_specific_ctl, put_cmsg, put_cmsg_compat"
IP6 = socket.IPPROTO_IPV6
#: include/uapi/linux/in6.h.
IPV6_2292PKTINFO, IPV6_2292HOPLIMIT, IPV6_RECVPKTINFO, IPV6_PKTINFO, IPV6_RECVHOPLIMIT, IPV6_HOPLIMIT = (
    2,
    8,
    49,
    50,
    51,
    52,
)
IPV6_UNICAST_HOPS, IPV6_RECVTCLASS, IPV6_TCLASS, IPV6_ORIGDSTADDR = 16, 66, 67, 74
#: The loopback link is the first of a network namespace (LOOPBACK_IFINDEX).
LOOPBACK = 1
HERE = socket.inet_pton(socket.AF_INET6, "::1")


def pktinfo(index=LOOPBACK, address=HERE, number=IPV6_PKTINFO):
    """Packs a control message of IPV6_PKTINFO: an address and an interface."""
    return cmsg(IP6, number, address + struct.pack("<i", index))


def word(number, value):
    """Packs a control message of IPV6_HOPLIMIT or IPV6_TCLASS."""
    return cmsg(IP6, number, struct.pack("<i", value))


#: The option that requests a message, and the message, of a datagram from port 5000 to [::1]:5001, in their order.
RECEIVED = {
    "pktinfo": (IPV6_RECVPKTINFO, pktinfo()),
    "hoplimit": (IPV6_RECVHOPLIMIT, word(IPV6_HOPLIMIT, 64)),
    "tclass": (IPV6_RECVTCLASS, word(IPV6_TCLASS, 0)),
    "2292pktinfo": (IPV6_2292PKTINFO, pktinfo(number=IPV6_2292PKTINFO)),
    "2292hoplimit": (IPV6_2292HOPLIMIT, word(IPV6_2292HOPLIMIT, 64)),
    "origdstaddr": (IPV6_ORIGDSTADDR, cmsg(IP6, IPV6_ORIGDSTADDR, inet6("::1", 5001))),
}


@pytest.fixture
def end(prepare):
    """Makes two connected UDP sockets: the client at port 5001 is `fd`, the server at port 5000 `peer`."""
    return prepare("connected", UDP6)


@pytest.fixture
def option(calls):
    """Sets options of level IPPROTO_IPV6: option(fd, name, value)."""
    return lambda fd, name, value: need(calls.setsockopt(fd, IP6, name, value), f"IPv6 option {name}")


@behaviour("transfer.control.ip6-received", f"{SOURCE} IPV6_RECVPKTINFO, IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS; {KERNEL}")
def test_received(end, option, messages, expect):
    """Each of IPV6_RECVPKTINFO (32 bytes), IPV6_RECVHOPLIMIT (16), IPV6_RECVTCLASS (16), the two of RFC 2292 under their own
    numbers, and IPV6_RECVORIGDSTADDR (40) puts a control message of its own with each datagram; together they come in this
    order.
    """
    judge_requested(end, option, messages, expect, RECEIVED)


@behaviour("transfer.control.ip6-sent", f"{SOURCE} IPV6_HOPLIMIT, IPV6_TCLASS; ip6_datagram_send_ctl, udpv6_sendmsg")
def test_sent(end, option, messages, expect):
    """IPV6_HOPLIMIT and IPV6_TCLASS in control data are those of this datagram, the socket's own for -1; the next one has
    the socket's again.
    """
    option(end.fd, IPV6_RECVHOPLIMIT, 1)
    option(end.fd, IPV6_RECVTCLASS, 1)
    option(end.peer, IPV6_UNICAST_HOPS, 33)
    option(end.peer, IPV6_TCLASS, 0x08)
    hops, tclass = IPV6_HOPLIMIT, IPV6_TCLASS
    cases = {
        "none": (b"", (33, 0x08)),
        "hoplimit-1": (word(hops, 1), (1, 0x08)),
        "hoplimit-255": (word(hops, 255), (255, 0x08)),
        "hoplimit-default": (word(hops, -1), (33, 0x08)),
        "2292hoplimit": (word(IPV6_2292HOPLIMIT, 9), (9, 0x08)),
        "tclass": (word(tclass, 0x10), (33, 0x10)),
        "tclass-255": (word(tclass, 255), (33, 255)),
        "tclass-0": (word(tclass, 0), (33, 0)),
        "both": (word(tclass, 0x04) + word(hops, 99), (99, 0x04)),
        "none-again": (b"", (33, 0x08)),
    }
    for case, (sent, (limit, traffic)) in cases.items():
        check = expect([1, b"x", word(hops, limit) + word(tclass, traffic), 0], sent=case)
        messages.sent(end.peer, sent)
        got = messages.receive(end.fd)
        check.of(got.value, got.result)


@behaviour("transfer.control.ip6-refused", f"{SOURCE}; ip6_datagram_send_ctl")
def test_refused(end, messages, expect):
    """IPV6_HOPLIMIT and IPV6_TCLASS outside -1 to 255, and a message of another length than its value has, fail with EINVAL;
    nothing is sent. An IPV6_PKTINFO may be longer.
    """
    both = {"hoplimit": IPV6_HOPLIMIT, "tclass": IPV6_TCLASS}
    for name, number in both.items():
        for value in (-2, 256):
            expect(-EINVAL, sent=f"{name}-{value}").of(messages.send(end.peer, word(number, value)))
        for size in (1, 3, 5, 8):
            control = cmsg(IP6, number, b"\1".ljust(size, b"\0"))
            expect(-EINVAL, sent=f"{name}-of-{size}").of(messages.send(end.peer, control))
    for size in (4, 16, 19):
        expect(-EINVAL, sent=f"pktinfo-of-{size}").of(messages.send(end.peer, cmsg(IP6, IPV6_PKTINFO, bytes(size))))
    check = expect([1, b"m", b"", 0], then="marker")
    messages.sent(end.peer, data=b"m")
    got = messages.receive(end.fd)
    check.of(got.value, got.result)
    check = expect([1, b"l", b"", 0], sent="pktinfo-of-24")
    messages.sent(end.peer, cmsg(IP6, IPV6_PKTINFO, bytes(24)), b"l")
    got = messages.receive(end.fd)
    check.of(got.value, got.result)


@behaviour("transfer.control.ip6-sent-pktinfo", f"{SOURCE} IPV6_PKTINFO; ip6_datagram_send_ctl, udpv6_sendmsg")
def test_sent_pktinfo(new_socket, option, messages, expect):
    """IPV6_PKTINFO in control data gives the source address of a datagram, zeros leave it to the kernel; an address that is
    not local fails with EINVAL, as does an interface that is not there with ENODEV.
    """
    receiver, sender = new_socket(*UDP6.triple), new_socket(*UDP6.triple)
    need(receiver.bind(UDP6.address(5000, "any")))
    need(sender.bind(UDP6.address(5001, "any")))
    here = UDP6.address(5000)
    for case, control in {
        "none": b"", "zeros": pktinfo(0, bytes(16)), "address": pktinfo(0), "interface": pktinfo(LOOPBACK, bytes(16)),
    }.items():  # fmt: skip
        check = expect([UDP6.address(5001), [1, b"x", b"", 0]], sent=case)
        messages.sent(int(sender), control, name=here)
        got = messages.receive(int(receiver))
        check.of([got.name, got.value], got.result)
    foreign = socket.inet_pton(socket.AF_INET6, "2001:db8::9")
    expect(-EINVAL, sent="foreign").of(messages.send(int(sender), pktinfo(0, foreign), name=here))
    expect(-ENODEV, sent="no-interface").of(messages.send(int(sender), pktinfo(4096, bytes(16)), name=here))
