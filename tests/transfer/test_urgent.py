"""Out-of-band data: MSG_OOB, the mark in the stream, SIOCATMARK, SO_OOBINLINE, SIGURG."""

import signal
import socket
from errno import EAGAIN, EINVAL, ENOTCONN
from select import POLLPRI

from probes.entry.memory import POISON
from probes.testing import VersionDifference, behaviour, need
from probes.testing.socket_kinds import TCP, TCP6, UNIX_STREAM
from tests.transfer.exchange import came, went
from tests.transfer.signals import BlockedSignals

SOURCE = "tcp(7) `out-of-band data`; send(2), recv(2) MSG_OOB; tcp_check_urg, tcp_recv_urg"
OOB, PEEK, NOW, TRUNC = socket.MSG_OOB, socket.MSG_PEEK, socket.MSG_DONTWAIT, socket.MSG_TRUNC
#: include/uapi/asm-generic/sockios.h, fcntl.h.
FIOSETOWN, SIOCSPGRP, SIOCATMARK, F_SETOWN = 0x8901, 0x8902, 0x8905, 8


def at_mark(exchange, fd):
    """Returns what SIOCATMARK writes: 1 if the next byte of the stream is the one behind the mark; or the error."""
    flag = exchange.calls.memory.words(0xA5A5A5A5)
    result = exchange.calls.syscall("ioctl", fd, SIOCATMARK, flag)
    return flag.words()[0] if result == 0 else int(result)


def send_urgent(end, data: bytes) -> None:
    """Sends data whose last byte is urgent from the peer, and waits for it."""
    end.send(end.peer, data, OOB)
    end.wait(end.fd, POLLPRI)


@behaviour("transfer.urgent.sent", SOURCE)
def test_sent(exchange, prepare, expect):
    """Sending with MSG_OOB makes the last byte urgent: the peer gets what is before it in the stream, and that byte with
    MSG_OOB.
    """
    for kind in (TCP, TCP6):
        for op in exchange.sending_with_flags:
            end = prepare("connected", kind)
            expect(went(op, 3), kind=kind, op=op).of(exchange.send(op, end, b"ab!", OOB))
            end.wait(end.peer, POLLPRI)
            expect(came("recv", b"!"), kind=kind, op=op, reader="urgent").of(exchange.receive("recv", end.peer, 8, OOB))
            expect(came("recv", b"ab"), kind=kind, op=op, reader="stream").of(exchange.receive("recv", end.peer, 8))
            end.close()


@behaviour("transfer.urgent.received", f"{SOURCE}; recv(2) MSG_OOB in msg_flags")
def test_received(exchange, prepare, expect):
    """An operation with MSG_OOB returns the urgent byte, once, and msg_flags has MSG_OOB; with MSG_PEEK it stays, with
    MSG_TRUNC it is not written; without a room an operation returns 0, and msg_flags has MSG_TRUNC too.
    """
    for op in exchange.receiving_with_flags:
        end = prepare("connected", TCP)
        send_urgent(end, b"ab!")
        for flags, case in ((OOB | PEEK, "peek"), (OOB, "take")):
            expect(came(op, b"!", flags=OOB), op=op, flags=case).of(exchange.receive(op, end, 8, flags))
        expect(-EINVAL, op=op, flags="again").of(exchange.receive(op, end, 8, OOB))
        send_urgent(end, b"?")
        untouched = came(op, bytes([POISON]), flags=OOB)
        expect(untouched, op=op, flags="peek-trunc").of(exchange.receive(op, end, 8, OOB | PEEK | TRUNC))
        expect(came(op, b"", flags=OOB | TRUNC), op=op, flags="no-room").of(exchange.receive(op, end, 0, OOB))
        end.close()


@behaviour("transfer.urgent.none", f"{SOURCE}; recv(2) EINVAL; tcp_recv_urg")
def test_none(exchange, prepare, expect):
    """Receiving with MSG_OOB fails with EINVAL where there is no urgent byte, where it was received before, and where the
    socket receives it in the stream (SO_OOBINLINE); also before a connection, but with ENOTCONN on a listening socket.
    """
    ends = {case: prepare.another(at)("connected", TCP) for at, case in enumerate(("none", "inline"))}
    need(ends["inline"].calls.setsockopt(ends["inline"].fd, socket.SOL_SOCKET, socket.SO_OOBINLINE, 1))
    send_urgent(ends["inline"], b"!")
    for op in exchange.receiving_with_flags:
        for case, end in ends.items():
            expect(-EINVAL, op=op, urgent=case).of(exchange.receive(op, end, 8, OOB))
    others = {"unbound": -EINVAL, "listening": -ENOTCONN}
    for state, error in others.items():
        end = prepare(state, TCP)
        for op in exchange.receiving_with_flags:
            expect(error, op=op, urgent=state).of(exchange.receive(op, end, 8, OOB))


@behaviour("transfer.urgent.mark", f"{SOURCE} SIOCATMARK; sockatmark(3); tcp_recvmsg_locked `copied to the mark`")
def test_mark(exchange, prepare, expect):
    """An operation without MSG_OOB returns no byte from beyond the urgent mark together with one before it; SIOCATMARK is 1
    once the mark is reached, and the urgent byte is left out of the stream.
    """
    for op in exchange.receiving:
        end = prepare("connected", TCP)
        end.send(end.peer, b"before")
        send_urgent(end, b"!")
        end.send(end.peer, b"behind")
        end.wait_bytes(end.fd, 6)
        check = expect([0, came(op, b"before"), 1, came("recv", b"behind"), 0], op=op)
        first = at_mark(exchange, end.fd)
        done = exchange.receive(op, end, 64)
        second = at_mark(exchange, end.fd)
        end.wait(end.fd)
        rest = exchange.receive("recv", end, 64)
        check.of([first, done.value, second, rest.value, at_mark(exchange, end.fd)], done, rest)
        end.close()


@behaviour("transfer.urgent.inline", "socket(7) SO_OOBINLINE; tcp(7); tcp_recvmsg_locked")
def test_inline(exchange, prepare, expect):
    """With SO_OOBINLINE the urgent byte comes in the stream, first of what is received from the mark on."""
    for op in exchange.receiving:
        end = prepare("connected", TCP)
        need(end.calls.setsockopt(end.fd, socket.SOL_SOCKET, socket.SO_OOBINLINE, 1))
        end.send(end.peer, b"before")
        send_urgent(end, b"!")
        end.send(end.peer, b"behind")
        end.wait_bytes(end.fd, 6)
        check = expect([came(op, b"before"), 1, came("recv", b"!behind"), 0], op=op)
        done = exchange.receive(op, end, 64)
        mark = at_mark(exchange, end.fd)
        end.wait_bytes(end.fd, 7)
        rest = exchange.receive("recv", end, 64)
        check.of([done.value, mark, rest.value, at_mark(exchange, end.fd)], done, rest)
        end.close()


@behaviour("transfer.urgent.newer", f"{SOURCE}; tcp_check_urg `This is a new urgent`")
def test_newer(exchange, prepare, expect):
    """A second urgent byte takes the place of one that was not received: that one comes in the stream."""
    end = prepare("connected", TCP)
    end.send(end.peer, b"a!", OOB)
    end.send(end.peer, b"b?", OOB)
    end.send(end.peer, b"c")
    end.wait_bytes(end.fd, 3)
    check = expect([came("recv", b"?", flags=OOB), came("recv", b"a!b"), 1, came("recv", b"c")])
    urgent = exchange.receive("recv", end, 8, OOB)
    before = exchange.receive("recv", end, 64)
    mark = at_mark(exchange, end.fd)
    end.wait(end.fd)
    behind = exchange.receive("recv", end, 64)
    check.of([urgent.value, before.value, mark, behind.value], urgent, before, behind)


@behaviour("transfer.urgent.signal", "tcp(7) SIGURG; socket(7) FIOSETOWN, SIOCSPGRP; fcntl(2) F_SETOWN; sk_send_sigurg")
def test_signal(prepare, calls, memory, caller, expect):
    """The owner of a socket, set by F_SETOWN, FIOSETOWN or SIOCSPGRP, gets SIGURG when urgent data comes; without an owner
    no process does.
    """
    pending, pid = BlockedSignals(calls, [signal.SIGURG]), memory.words(caller.pid)
    setters = {
        "none": None, "f-setown": ("fcntl64", F_SETOWN, caller.pid), "fiosetown": ("ioctl", FIOSETOWN, pid),
        "siocspgrp": ("ioctl", SIOCSPGRP, pid),
    }  # fmt: skip
    for owner, setter in setters.items():
        end = prepare("connected", TCP)
        if setter:
            name, *words = setter
            need(end.calls.syscall(name, end.fd, *words))
        check = expect([1, int(signal.SIGURG) if setter else 0], owner=owner)
        sent = calls.make("send", end.peer, calls.pointer(b"!"), 1, OOB)
        end.wait(end.fd, POLLPRI)
        check.of([int(sent), pending.taken()], sent)
        end.close()


@behaviour("transfer.urgent.unix", "unix(7); unix_stream_recv_urg, manage_oob; CONFIG_AF_UNIX_OOB")
def test_unix(exchange, prepare, expect):
    """AF_UNIX SOCK_STREAM sockets have out-of-band data since Linux 5.15: the last byte sent with MSG_OOB, which is received
    with MSG_OOB, once, and left out of the stream.
    """
    end = prepare("connected", UNIX_STREAM)
    for op in exchange.over(("send", "sendmsg")):
        sends = VersionDifference("5.15", -95, 3, "314001f0bf92 af_unix: Add OOB support")
        takes = VersionDifference("5.15", -95, came("recv", b"!"), "314001f0bf92 af_unix: Add OOB support")
        reads = VersionDifference("5.15", -EAGAIN, came("recv", b"ab"), "314001f0bf92 af_unix: Add OOB support")
        expect(sends, op=op).of(exchange.send(op, end, b"ab!", OOB))
        expect(takes, op=op, reader="urgent").of(exchange.receive("recv", end.peer, 8, OOB | NOW))
        expect(reads, op=op, reader="stream").of(exchange.receive("recv", end.peer, 8, NOW))
        again = VersionDifference("5.15", -95, -EINVAL, "314001f0bf92 af_unix: Add OOB support")
        expect(again, op=op, reader="again").of(exchange.receive("recv", end.peer, 8, OOB | NOW))
