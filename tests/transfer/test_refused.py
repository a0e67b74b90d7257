"""Sockets on which nothing can be sent or received: no socket, no connection, no destination."""

import socket
from errno import EAGAIN, EBADF, EDESTADDRREQ, EINVAL, EISCONN, ENOTCONN, ENOTSOCK, ENXIO, EOPNOTSUPP, EPIPE

from probes.testing import behaviour
from probes.testing.socket_kinds import (
    PACKET,
    RAW,
    RAW6,
    TCP,
    TCP6,
    UDP,
    UDP6,
    UNIX_DGRAM,
    UNIX_SEQPACKET,
    UNIX_STREAM,
)  # fmt: skip
from probes.testing.states import DATA
from tests.transfer.exchange import RECEIVING_WITH_FLAGS, SENDING_WITH_FLAGS, came, went

QUIET = socket.MSG_NOSIGNAL


@behaviour("transfer.refused.descriptor", "send(2), recv(2), write(2), read(2) EBADF, ENOTSOCK; sockfd_lookup_light")
def test_descriptor(exchange, prepare, expect):
    """Every operation fails with EBADF without an open descriptor and on one opened with O_PATH; the operations of sockets
    fail with ENOTSOCK on a file, read and write with EBADF on the wrong end of a pipe.
    """
    pipe, path = prepare("pipe"), prepare("path")
    closed = prepare("path")
    number = closed.fd
    closed.close()
    bad = {"minus-one": -1, "closed": number, "path": path.fd}
    for case, fd in bad.items():
        for op in exchange.sending:
            expect(-EBADF, descriptor=case, op=op).of(exchange.send(op, fd, DATA))
        for op in exchange.receiving:
            expect(-EBADF, descriptor=case, op=op).of(exchange.receive(op, fd, 8))
    read_end, write_end = pipe.made
    for op in exchange.sending:
        error = -ENOTSOCK if op in SENDING_WITH_FLAGS else -EBADF
        expect(error, descriptor="pipe", op=op).of(exchange.send(op, read_end, DATA))
    for op in exchange.receiving:
        error = -ENOTSOCK if op in RECEIVING_WITH_FLAGS else -EBADF
        expect(error, descriptor="pipe", op=op).of(exchange.receive(op, write_end, 8))


@behaviour(
    "transfer.refused.not-connected",
    "send(2) ENOTCONN, BUGS `EPIPE instead of ENOTCONN`; recv(2) ENOTCONN; tcp(7); unix(7) ENOTCONN, EINVAL; "
    "tcp_recvmsg_locked, unix_stream_read_generic",
)
def test_not_connected(exchange, prepare, expect):
    """On a stream that is not connected, or listens, sending fails with ENOTCONN (AF_UNIX) or EPIPE (TCP), and receiving
    with ENOTCONN, or with EINVAL for an AF_UNIX SOCK_STREAM socket.
    """
    errors = {
        TCP: (-EPIPE, -ENOTCONN), TCP6: (-EPIPE, -ENOTCONN), UNIX_STREAM: (-ENOTCONN, -EINVAL),
        UNIX_SEQPACKET: (-ENOTCONN, -ENOTCONN),
    }  # fmt: skip
    for kind, (sending, receiving) in errors.items():
        for state in ("unbound", "listening"):
            end = prepare(state, kind)
            for op in exchange.sending:
                # Without a name, and write cannot keep SIGPIPE away.
                if kind.family == socket.AF_UNIX or op in SENDING_WITH_FLAGS:
                    flags = QUIET if op in SENDING_WITH_FLAGS else 0
                    expect(sending, kind=kind, state=state, op=op).of(exchange.send(op, end, DATA, flags))
            for op in exchange.receiving:
                expect(receiving, kind=kind, state=state, op=op).of(exchange.receive(op, end, 8))
            end.close()


@behaviour("transfer.refused.connecting", "send(2), recv(2) EAGAIN; connect(2) EINPROGRESS; sk_stream_wait_connect")
def test_connecting(exchange, prepare, expect):
    """While a non-blocking TCP socket connects, sending and receiving fail with EAGAIN."""
    end = prepare("connecting", TCP)
    for op in exchange.sending:
        expect(-EAGAIN, op=op).of(exchange.send(op, end, DATA))
    for op in exchange.receiving:
        expect(-EAGAIN, op=op).of(exchange.receive(op, end, 8))


@behaviour(
    "transfer.refused.no-destination",
    "send(2), write(2) EDESTADDRREQ; udp_sendmsg, raw_sendmsg, packet_snd",
)
def test_no_destination(exchange, prepare, expect):
    """A datagram without a destination is refused on a socket that is not connected: EDESTADDRREQ for UDP and raw sockets,
    ENOTCONN for AF_UNIX, ENXIO for a packet socket that is bound to no link.
    """
    errors = {
        UDP: -EDESTADDRREQ, UDP6: -EDESTADDRREQ, RAW: -EDESTADDRREQ, RAW6: -EDESTADDRREQ, UNIX_DGRAM: -ENOTCONN,
        PACKET: -ENXIO,
    }  # fmt: skip
    for kind, error in errors.items():
        end = prepare("unbound", kind)
        for op in exchange.sending:
            expect(error, kind=kind, op=op).of(exchange.send(op, end, DATA))
        end.close()


@behaviour(
    "transfer.refused.recipient",
    "send(2) EISCONN `or the recipient is ignored`; unix(7) EISCONN",
)
def test_recipient(exchange, prepare, expect):
    """A destination is ignored on a connected TCP or AF_UNIX SOCK_SEQPACKET socket; on AF_UNIX SOCK_STREAM it is refused
    with EISCONN, and with EOPNOTSUPP if the socket is not connected.
    """
    ops = exchange.over(("sendto", "sendmsg", "sendmmsg"))
    for kind in (TCP, UNIX_SEQPACKET):
        end = prepare("connected-by-name", kind)
        for op in ops:
            # The name of the socket itself: the data comes to the peer all the same.
            expect(went(op, 4), kind=kind, op=op).of(exchange.send(op, end, DATA, name=end.client))
            end.wait(end.peer)
            expect(came("recv", DATA), kind=kind, op=op, reader="peer").of(exchange.receive("recv", end.peer, 8))
        end.close()
    for state, error in (("connected-by-name", -EISCONN), ("beside-server", -EOPNOTSUPP)):
        end = prepare(state, UNIX_STREAM)
        for op in ops:
            expect(error, kind=UNIX_STREAM, state=state, op=op).of(exchange.send(op, end, DATA, name=end.server))
        end.close()
