"""Control messages of IPv4: those that a datagram is received with, and those that it can be sent with."""

import socket
import struct
from errno import EINVAL, EPERM

import pytest

from probes.abi.sockaddr import inet
from probes.testing import behaviour, need
from probes.testing.socket_kinds import UDP
from tests.transfer.control_messages import cmsg, received
from tests.transfer.control_requested import judge_requested
from tests.transfer.message_layouts import CMSGHDR

SOURCE = "ip(7)"
KERNEL = "ip_cmsg_recv_offset, put_cmsg, put_cmsg_compat"
CTRUNC = socket.MSG_CTRUNC
IP = socket.IPPROTO_IP
#: include/uapi/linux/in.h.
IP_TOS, IP_TTL, IP_PKTINFO, IP_RECVTTL, IP_RECVTOS, IP_ORIGDSTADDR = 1, 2, 8, 12, 13, 20
#: The loopback link is the first of a network namespace (LOOPBACK_IFINDEX).
LOOPBACK = 1
HERE = socket.inet_aton("127.0.0.1")
THERE = socket.inet_aton("127.0.0.2")
TTL, TOS = 64, 0


def pktinfo(index, specific, destination=HERE):
    """Packs a control message of IP_PKTINFO: the interface, the local address, the destination of the header."""
    return cmsg(IP, IP_PKTINFO, struct.pack("<i", index) + specific + destination)


def ttl(value):
    """Packs a control message of IP_TTL."""
    return cmsg(IP, IP_TTL, struct.pack("<i", value))


def tos(value):
    """Packs a control message of IP_TOS as it is received: one byte."""
    return received(IP, IP_TOS, bytes([value]))


#: The option that requests a message, and the message, of a datagram from port 5000 to 127.0.0.1:5001, in their order.
RECEIVED = {
    "pktinfo": (IP_PKTINFO, pktinfo(LOOPBACK, HERE)),
    "ttl": (IP_RECVTTL, ttl(TTL)),
    "tos": (IP_RECVTOS, tos(TOS)),
    "origdstaddr": (IP_ORIGDSTADDR, cmsg(IP, IP_ORIGDSTADDR, inet("127.0.0.1", 5001))),
}


@pytest.fixture
def end(prepare, new_socket):
    """Makes two connected UDP sockets: the client at port 5001 is `fd`, the server at port 5000 `peer`."""
    return prepare("connected", UDP)


@pytest.fixture
def option(calls):
    """Sets options of level IPPROTO_IP: option(fd, name, value)."""
    return lambda fd, name, value: need(calls.setsockopt(fd, IP, name, value), f"IP option {name}")


@behaviour("transfer.control.ip-received", f"{SOURCE} IP_PKTINFO, IP_RECVTTL, IP_RECVTOS, IP_RECVORIGDSTADDR; {KERNEL}")
def test_received(end, option, messages, expect):
    """Each of IP_PKTINFO (24 bytes), IP_RECVTTL (16), IP_RECVTOS (13, and padding to 16) and IP_RECVORIGDSTADDR (28) puts a
    control message of its own with each datagram, none is there without them; together they come in this order.
    """
    judge_requested(end, option, messages, expect, RECEIVED)


@behaviour("transfer.control.ip-room", f"recv(2) MSG_CTRUNC; cmsg(3); {KERNEL}")
def test_room(end, option, messages, expect):
    """Control messages fill the room in their order. The first that does not fit whole is cut, its cmsg_len is what is left;
    of less than 12 bytes nothing is written. msg_flags has MSG_CTRUNC then.
    """
    for number, _ in RECEIVED.values():
        option(end.fd, number, 1)
    whole = b"".join(message for _, message in RECEIVED.values())
    for room in (*range(11, 17), *range(23, 28), *range(35, 42), 47, *range(51, 58), 67, 83, 84, 85):
        check = expect([1, b"x", *cut(room, whole)], room=room)
        messages.sent(end.peer)
        got = messages.receive(end.fd, room)
        check.of(got.value, got.result)


def cut(room, whole):
    """Returns [control data, flags] of messages that are put into a room one after another."""
    put, flags, rest = b"", 0, whole
    while rest:
        length = CMSGHDR.unpack_from(rest)[0]
        message, rest = rest[: length + 3 & ~3], rest[length + 3 & ~3 :]
        left = room - len(put)
        if left >= length:
            # The padding of the last one need not fit.
            put += message[:left]
        else:
            flags = CTRUNC
            put += struct.pack("<I", left) + message[4:left] if left >= CMSGHDR.size else b""
    return put, flags


@behaviour(
    "transfer.control.ip-sent",
    f"{SOURCE} IP_TTL, IP_TOS; ip_cmsg_send, udp_sendmsg",
)
def test_sent(end, option, messages, expect):
    """IP_TTL (a number of 4 bytes) and IP_TOS (4 bytes, or one) in control data are those of this datagram, whatever the
    socket's own; the next one has the socket's again.
    """
    for number in (IP_RECVTTL, IP_RECVTOS):
        option(end.fd, number, 1)
    option(end.peer, IP_TTL, 33)
    option(end.peer, IP_TOS, 0x08)
    cases = {
        "none": (b"", ttl(33) + tos(0x08)),
        "ttl-1": (ttl(1), ttl(1) + tos(0x08)),
        "ttl-64": (ttl(64), ttl(64) + tos(0x08)),
        "ttl-255": (ttl(255), ttl(255) + tos(0x08)),
        "tos-4": (cmsg(IP, IP_TOS, struct.pack("<i", 0x10)), ttl(33) + tos(0x10)),
        "tos-1": (cmsg(IP, IP_TOS, b"\xb8"), ttl(33) + tos(0xB8)),
        "tos-0": (cmsg(IP, IP_TOS, b"\0"), ttl(33) + tos(0)),
        "both": (cmsg(IP, IP_TOS, b"\4") + ttl(99), ttl(99) + tos(0x04)),
        "last-counts": (ttl(98) + ttl(97), ttl(97) + tos(0x08)),
        "none-again": (b"", ttl(33) + tos(0x08)),
    }
    for case, (sent, arriving) in cases.items():
        check = expect([1, b"x", arriving, 0], sent=case)
        messages.sent(end.peer, sent)
        got = messages.receive(end.fd)
        check.of(got.value, got.result)


@behaviour(
    "transfer.control.ip-sent-pktinfo",
    f"{SOURCE} IP_PKTINFO ipi_spec_dst; ip_cmsg_send, udp_sendmsg",
)
def test_sent_pktinfo(prepare, new_socket, option, messages, expect):
    """IP_PKTINFO in control data gives a datagram of an unconnected socket its source address, ipi_spec_dst, whatever its
    ipi_addr; of zeros it changes nothing.
    """
    receiver, sender = new_socket(*UDP.triple), new_socket(*UDP.triple)
    need(receiver.bind(UDP.address(5000, "any")))
    need(sender.bind(UDP.address(5001, "any")))
    option(int(receiver), IP_PKTINFO, 1)
    for case, (index, specific, source) in {
        "none": (0, bytes(4), "127.0.0.1"),
        "address": (0, THERE, "127.0.0.2"),
        "interface": (LOOPBACK, bytes(4), "127.0.0.1"),
        "both": (LOOPBACK, THERE, "127.0.0.2"),
    }.items():
        check = expect([inet(source, 5001), [1, b"x", pktinfo(LOOPBACK, HERE), 0]], sent=case)
        control = pktinfo(index, specific, socket.inet_aton("192.0.2.9"))
        messages.sent(int(sender), control, name=inet("127.0.0.1", 5000))
        got = messages.receive(int(receiver))
        check.of([got.name, got.value], got.result)


@behaviour("transfer.control.ip-refused", f"{SOURCE} IP_TTL, IP_TOS; ip_cmsg_send")
def test_refused(end, messages, expect):
    """IP_TTL outside 1 to 255, IP_TOS outside 0 to 255, and a message of another length than its value has fail with EINVAL;
    nothing is sent.
    """
    wrong = {
        **{f"ttl-{value}": ttl(value) for value in (0, -1, 256, 0x7FFFFFFF)},
        **{f"tos-{value}": cmsg(IP, IP_TOS, struct.pack("<i", value)) for value in (-1, 256, 0x7FFFFFFF)},
        **{f"ttl-of-{size}": cmsg(IP, IP_TTL, b"\1".ljust(size, b"\0")) for size in (1, 2, 3, 5, 8)},
        **{f"tos-of-{size}": cmsg(IP, IP_TOS, b"\1".ljust(size, b"\0")) for size in (2, 3, 5, 8)},
        **{f"pktinfo-of-{size}": cmsg(IP, IP_PKTINFO, bytes(size)) for size in (4, 8, 11, 13, 16)},
    }
    for case, control in wrong.items():
        expect(-EINVAL, sent=case).of(messages.send(end.peer, control))
    check = expect([1, b"m", b"", 0], then="marker")
    messages.sent(end.peer, data=b"m")
    got = messages.receive(end.fd)
    check.of(got.value, got.result)


@behaviour("transfer.control.mark", "socket(7) SO_MARK; __sock_cmsg_send")
def test_mark(end, messages, caller, expect):
    """SO_MARK in control data fails with EPERM without CAP_NET_ADMIN and CAP_NET_RAW. With CAP_NET_ADMIN four bytes are
    accepted, another length fails with EINVAL.
    """
    mark = cmsg(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("<I", 7))
    caller.keep_capabilities(("CAP_NET_ADMIN",))
    check = expect([1, b"x", b"", 0], capability="CAP_NET_ADMIN")
    messages.sent(end.peer, mark)
    got = messages.receive(end.fd)
    check.of(got.value, got.result)
    for size in (0, 2, 8):
        control = cmsg(socket.SOL_SOCKET, socket.SO_MARK, bytes(size))
        expect(-EINVAL, capability="CAP_NET_ADMIN", bytes=size).of(messages.send(end.peer, control))
    caller.keep_capabilities(())
    expect(-EPERM, capability="none").of(messages.send(end.peer, mark))
