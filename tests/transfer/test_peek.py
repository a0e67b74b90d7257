"""MSG_PEEK, SO_PEEK_OFF, MSG_WAITALL and MSG_TRUNC: how much an operation takes, and what it leaves."""

import socket
import struct
from errno import EAGAIN

from probes.entry.memory import POISON
from probes.testing import VersionDifference, behaviour, need
from probes.testing.socket_kinds import (
    NETLINK,
    PACKET_DGRAM,
    TCP,
    TCP6,
    UDP,
    UDP6,
    UNIX_DGRAM,
    UNIX_SEQPACKET,
    UNIX_STREAM,
)  # fmt: skip
from probes.testing.states import DATA
from tests.transfer.exchange import came

PEEK, WAITALL, NOW, TRUNC = socket.MSG_PEEK, socket.MSG_WAITALL, socket.MSG_DONTWAIT, socket.MSG_TRUNC
SO_PEEK_OFF = 42
KINDS = (TCP, UDP, UDP6, UNIX_STREAM, UNIX_DGRAM, UNIX_SEQPACKET, NETLINK, PACKET_DGRAM)


@behaviour(
    "transfer.peek.leaves", "recv(2) MSG_PEEK; tcp_peek_sndq, __skb_try_recv_from_queue, unix_stream_read_generic"
)
def test_leaves(exchange, prepare, expect):
    """MSG_PEEK returns what the next operation will return again; of a message too long for the room it shows the beginning
    and MSG_TRUNC, and leaves all of it.
    """
    for kind in KINDS:
        end = prepare("with-data", kind)
        whole = kind in (TCP, UNIX_STREAM)
        for op in exchange.receiving_with_flags:
            for room in (2, 8):
                flags = TRUNC if room == 2 and not whole else 0
                value = came(op, DATA[:room], flags=flags)
                expect(value, kind=kind, op=op, room=room).of(exchange.receive(op, end, room, PEEK))
        expect(came("recvmsg", DATA), kind=kind, op="recvmsg", then="taken").of(exchange.receive("recvmsg", end, 8))
        expect(-EAGAIN, kind=kind, op="recv", then="empty").of(exchange.receive("recv", end, 8, NOW))
        end.close()


@behaviour("transfer.peek.datagrams", "recv(2) MSG_PEEK; recvmmsg(2); do_recvmmsg")
def test_datagrams(exchange, prepare, expect):
    """MSG_PEEK shows the first datagram, each time, also in every entry of recvmmsg."""
    for kind in (UDP, UNIX_DGRAM):
        end = prepare("connected", kind)
        for data in (b"first", b"second"):
            end.send(end.peer, data)
        end.wait(end.fd)
        for op in exchange.receiving_with_flags:
            for time in ("once", "again"):
                expect(came(op, b"first"), kind=kind, op=op, time=time).of(exchange.receive(op, end, 8, PEEK))
        end.close()


@behaviour("transfer.peek.offset", "socket(7) SO_PEEK_OFF; sk_peek_offset, unix_stream_read_generic, sk_set_peek_off")
def test_offset(exchange, prepare, expect):
    """With SO_PEEK_OFF set, MSG_PEEK returns data from that offset and moves it forward; an operation that takes data moves
    it back by as much.
    """
    option = (socket.SOL_SOCKET, SO_PEEK_OFF)
    for kind in (UNIX_STREAM,):
        for op in exchange.receiving_with_flags:
            end = prepare("connected", kind)
            end.send(end.peer, b"aabbccddeeff")
            need(end.calls.setsockopt(end.fd, *option, 4))
            steps = [("peek", PEEK, 2, b"cc", 6), ("peek-on", PEEK, 2, b"dd", 8), ("take", 0, 2, b"aa", 6),
                     ("peek-behind", PEEK, 2, b"ee", 8), ("take-more", 0, 64, b"bbccddeeff", 0)]  # fmt: skip
            for step, flags, room, data, offset in steps:
                check = expect([came(op, data), offset], kind=kind, op=op, step=step)
                done = exchange.receive(op, end, room, flags)
                check.of([done.value, struct.unpack("<i", end.calls.getsockopt(end.fd, *option).bytes)[0]], done)
            end.close()


@behaviour("transfer.peek.offset-datagram", "socket(7) SO_PEEK_OFF; unix_dgram_recvmsg, udp_recvmsg, sk_peek_offset")
def test_offset_datagram(exchange, prepare, expect):
    """On a datagram socket SO_PEEK_OFF shows the first datagram that reaches beyond the offset, from there on, and the one
    behind it when the offset has passed that one's end.
    """
    option = (socket.SOL_SOCKET, SO_PEEK_OFF)
    for kind in (UDP, UNIX_DGRAM):
        for op in exchange.receiving_with_flags:
            end = prepare("connected", kind)
            for data in (b"abcd", b"efgh"):
                end.send(end.peer, data)
            end.wait(end.fd)
            need(end.calls.setsockopt(end.fd, *option, 1))
            for step, data, offset in (("first", b"bcd", 4), ("second", b"efgh", 8)):
                check = expect([came(op, data), offset], kind=kind, op=op, step=step)
                done = exchange.receive(op, end, 8, PEEK)
                check.of([done.value, struct.unpack("<i", end.calls.getsockopt(end.fd, *option).bytes)[0]], done)
            expect(-EAGAIN, kind=kind, op=op, step="beyond").of(exchange.receive(op, end, 8, PEEK | NOW))
            end.close()


@behaviour(
    "transfer.peek.offset-tcp",
    "socket(7) SO_PEEK_OFF; tcp_recvmsg_locked, sk_peek_offset",
)
def test_offset_tcp(exchange, prepare, calls, expect):
    """TCP has SO_PEEK_OFF since Linux 6.9, before it fails with EOPNOTSUPP."""
    end = prepare("connected", TCP)
    end.send(end.peer, b"aabbccdd")
    end.wait_bytes(end.fd, 8)
    cite = "05ea491641d3 tcp: add support for SO_PEEK_OFF socket option"
    sets = VersionDifference("6.9", -95, 0, cite)
    expect(sets, op="setsockopt").of(calls.setsockopt(end.fd, socket.SOL_SOCKET, SO_PEEK_OFF, 2))
    for op in exchange.receiving_with_flags:
        value = VersionDifference("6.9", came(op, b"aabb"), came(op, b"bbcc"), cite)
        expect(value, op=op, flags="peek").of(exchange.receive(op, end, 4, PEEK))
        end.calls.setsockopt(end.fd, socket.SOL_SOCKET, SO_PEEK_OFF, 2)


@behaviour(
    "transfer.peek.wait-all",
    "recv(2) MSG_WAITALL; tcp_recvmsg_locked, unix_stream_read_generic",
)
def test_wait_all(exchange, prepare, expect):
    """MSG_WAITALL returns as many bytes as were requested where they are queued, and fewer where the stream ends or
    MSG_DONTWAIT is set; datagram sockets ignore it.
    """
    for kind in (TCP, TCP6, UNIX_STREAM):
        for op in exchange.receiving_with_flags:
            end = prepare("data-and-end", kind)
            expect(came(op, DATA), kind=kind, op=op, queued="and-end").of(exchange.receive(op, end, 64, WAITALL))
            end.close()
        end = prepare("connected", kind)
        for op in exchange.receiving_with_flags:
            for part in (b"ab", b"cd", b"ef"):
                end.send(end.peer, part)
            end.wait_bytes(end.fd, 6)
            expect(came(op, b"abcde"), kind=kind, op=op, queued="enough").of(exchange.receive(op, end, 5, WAITALL))
            expect(came(op, b"f"), kind=kind, op=op, flags="dontwait").of(exchange.receive(op, end, 5, WAITALL | NOW))
        end.close()
    for kind in (UDP, UNIX_DGRAM, UNIX_SEQPACKET):
        end = prepare("connected", kind)
        for op in exchange.receiving_with_flags:
            for part in (b"ab", b"cd"):
                end.send(end.peer, part)
            for part in (b"ab", b"cd"):
                end.wait(end.fd)
                case = {"kind": kind, "op": op, "message": part.decode()}
                expect(came(op, part), **case).of(exchange.receive(op, end, 64, WAITALL))
        end.close()


@behaviour(
    "transfer.peek.discarded", "tcp(7) MSG_TRUNC `discards received bytes`; recv(2) MSG_TRUNC; tcp_recvmsg_locked"
)
def test_discarded(exchange, prepare, expect):
    """With MSG_TRUNC a TCP socket takes the bytes and writes none of them; AF_UNIX streams ignore it."""
    end = prepare("connected", TCP)
    for op in exchange.receiving_with_flags:
        end.send(end.peer, b"discarded, kept")
        end.wait_bytes(end.fd, 15)
        expect(came(op, bytes([POISON]) * 11), kind=TCP, op=op).of(exchange.receive(op, end, 11, TRUNC))
        expect(came(op, b"kept"), kind=TCP, op=op, then="kept").of(exchange.receive(op, end, 64))
    end.close()
    end = prepare("connected", UNIX_STREAM)
    for op in exchange.receiving_with_flags:
        end.send(end.peer, b"not discarded")
        expect(came(op, b"not"), kind=UNIX_STREAM, op=op).of(exchange.receive(op, end, 3, TRUNC))
        expect(came(op, b" discarded"), kind=UNIX_STREAM, op=op, then="rest").of(exchange.receive(op, end, 64))
    end.close()
