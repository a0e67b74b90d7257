"""What streams carry: bytes without boundaries, in every operation that sends and receives."""

import socket
from errno import EAGAIN

import pytest

from probes.testing import behaviour, need
from probes.testing.socket_kinds import TCP, TCP6, UNIX_DGRAM, UNIX_SEQPACKET, UNIX_STREAM
from probes.testing.states import DATA, refill
from tests.transfer.exchange import came, went

STREAMS = (TCP, UNIX_STREAM)
NOW = socket.MSG_DONTWAIT
#: More than a socket with a small send buffer, and its peer, take.
MUCH = (bytes(range(251)) * 2089)[: 1 << 19]


@behaviour(
    "transfer.stream.sent", "send(2) DESCRIPTION, RETURN VALUE; write(2); readv(2); tcp_sendmsg, unix_stream_sendmsg"
)
def test_sent(exchange, prepare, expect):
    """Every operation that sends on a connected socket returns the number of bytes, and the peer receives these bytes."""
    for kind in (TCP, TCP6, UNIX_STREAM):
        end = prepare("connected", kind)
        for number, op in enumerate(exchange.sending):
            data = b"%d sent by %s" % (number, op.encode())
            expect(went(op, len(data)), kind=kind, op=op).of(exchange.send(op, end, data))
            end.wait(end.peer)
            expect(came("recv", data), kind=kind, op=op, reader="peer").of(exchange.receive("recv", end.peer, 64))
        end.close()


@behaviour("transfer.stream.received", "recv(2); read(2); readv(2); recvmmsg(2); tcp_recvmsg, unix_stream_recvmsg")
def test_received(exchange, prepare, expect):
    """Every operation that receives returns the bytes that are there, up to the room, and writes no byte behind them."""
    for kind in (TCP, TCP6, UNIX_STREAM):
        end = prepare("connected", kind)
        for number, op in enumerate(exchange.receiving):
            data = b"%d for %s" % (number, op.encode())
            end.send(end.peer, data)
            end.wait(end.fd)
            expect(came(op, data), kind=kind, op=op).of(exchange.receive(op, end, 64))
        end.close()


@behaviour(
    "transfer.stream.no-boundaries", "recv(2); read(2) RETURN VALUE; tcp_recvmsg_locked, unix_stream_read_generic"
)
def test_no_boundaries(exchange, prepare, expect):
    """A stream has no boundaries: one operation receives what several sent, as much as its room takes, and the next one
    receives the rest.
    """
    for kind in STREAMS:
        end = prepare("connected", kind)
        for op in exchange.receiving:
            for part in (b"ab", b"cde", b"f"):
                end.send(end.peer, part)
            end.wait_bytes(end.fd, 6)
            expect(came(op, b"abcd"), kind=kind, op=op, room=4).of(exchange.receive(op, end, 4))
            expect(came(op, b"ef"), kind=kind, op=op, room=8).of(exchange.receive(op, end, 8))
        end.close()


@behaviour("transfer.stream.zero-sent", "send(2); write(2) RETURN VALUE; tcp_sendmsg_locked, unix_stream_sendmsg")
def test_zero_sent(exchange, prepare, expect):
    """Sending no bytes on a stream returns 0, and the peer receives nothing of it."""
    for kind in STREAMS:
        end = prepare("connected", kind)
        for op in exchange.sending:
            expect(went(op, 0), kind=kind, op=op).of(exchange.send(op, end, b""))
            end.send(end.fd, b"marker")
            end.wait(end.peer)
            expect(came("recv", b"marker"), kind=kind, op=op, then="marker").of(exchange.receive("recv", end.peer, 64))
        end.close()


@behaviour(
    "transfer.stream.zero-room", "recv(2) RETURN VALUE; read(2) `a count of 0`; sock_read_iter, sock_rcvlowat"
)  # fmt: skip
def test_zero_room(exchange, prepare, expect):
    """Receiving into no room returns 0 where data is queued and takes none of it; without data it waits as with a room, but
    read and readv return 0.
    """
    for kind in STREAMS:
        end = prepare("connected", kind)
        end.nonblocking(end.fd)
        for op in exchange.receiving:
            empty = came(op, b"") if op in ("read", "readv") else -EAGAIN
            expect(empty, kind=kind, op=op, queued=0).of(exchange.receive(op, end, 0))
        end.send(end.peer, DATA)
        end.wait(end.fd)
        for op in exchange.receiving:
            expect(came(op, b""), kind=kind, op=op, queued=4).of(exchange.receive(op, end, 0))
        expect(came("recv", DATA), kind=kind, op="recv", room=8).of(exchange.receive("recv", end, 8))
        end.close()


@behaviour("transfer.stream.end", "recv(2) RETURN VALUE `orderly shutdown`; read(2) RETURN VALUE; tcp(7); RCV_SHUTDOWN")
def test_end(exchange, prepare, expect):
    """After the last byte of a peer that has shut down its side every operation returns 0, each time."""
    for kind in (*STREAMS, UNIX_SEQPACKET):
        end = prepare("data-and-end", kind)
        expect(came("recv", DATA), kind=kind, op="recv", received="data").of(exchange.receive("recv", end, 8))
        for op in exchange.receiving:
            expect(came(op, b""), kind=kind, op=op, received="end").of(exchange.receive(op, end, 8))
        end.close()


@behaviour("transfer.stream.would-block", "send(2), recv(2), write(2), read(2) EAGAIN; sock_sndtimeo, sock_rcvtimeo")
def test_would_block(exchange, prepare, expect):
    """An operation that would block fails with EAGAIN on a socket with O_NONBLOCK, and with MSG_DONTWAIT on any socket, and
    writes nothing.
    """
    for kind in (*STREAMS, UNIX_SEQPACKET, UNIX_DGRAM):
        full = prepare("full", kind)
        for op in exchange.sending_with_flags:
            if kind is TCP:
                refill(full)
            expect(-EAGAIN, kind=kind, op=op, by="flag").of(exchange.send(op, full, DATA, NOW))
        full.nonblocking(full.fd)
        for op in exchange.sending:
            if kind is TCP:
                refill(full)
            expect(-EAGAIN, kind=kind, op=op, by="socket").of(exchange.send(op, full, DATA))
        full.close()
        empty = prepare("connected", kind)
        for op in exchange.receiving_with_flags:
            expect(-EAGAIN, kind=kind, op=op, by="flag").of(exchange.receive(op, empty, 8, NOW))
        empty.nonblocking(empty.fd)
        for op in exchange.receiving:
            expect(-EAGAIN, kind=kind, op=op, by="socket").of(exchange.receive(op, empty, 8))
        empty.close()


@behaviour(
    "transfer.stream.partly",
    "write(2) RETURN VALUE `partial write`; send(2); sendmmsg(2)",
)
@pytest.mark.parametrize("kind", STREAMS, ids=str)
def test_partly(kind, exchange, prepare, calls, expect):
    """An operation that cannot send all of its bytes without blocking returns how many it sent, and these arrive."""
    block = calls.memory.put(MUCH)
    for op in exchange.over(("send", "sendmmsg", "write", "writev")):
        end = prepare("connected", kind)
        end.nonblocking(end.fd)
        for fd, option in ((end.fd, socket.SO_SNDBUF), (end.peer, socket.SO_RCVBUF)):
            need(end.calls.setsockopt(fd, socket.SOL_SOCKET, option, 8192))
        check, whole = expect(True, op=op), expect(True, op=op, received="all-of-it")
        sent = exchange.send(op, end, block)
        count = sent.value[1] if isinstance(sent.value, list) else int(sent.result)
        check.of(0 < count < len(MUCH) and sent.value == went(op, count), sent)
        received, last = exchange.receive_rest(end, 2 * len(MUCH))
        whole.of(received == MUCH[:count] and last == count, sent, last)
        end.close()
