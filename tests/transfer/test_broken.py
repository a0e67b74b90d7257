"""Streams whose connection has ended: EPIPE and SIGPIPE, ECONNRESET, once."""

import signal
import socket
from errno import ECONNRESET, EPIPE
from select import POLLERR

from probes.testing import behaviour
from probes.testing.socket_kinds import TCP, UNIX_SEQPACKET, UNIX_STREAM
from probes.testing.states import DATA
from tests.transfer.exchange import came

SOURCE = "send(2) EPIPE, MSG_NOSIGNAL; write(2) EPIPE; sk_stream_error, unix_stream_sendmsg pipe_err"
QUIET, SIGPIPE = socket.MSG_NOSIGNAL, int(signal.SIGPIPE)


def judge(exchange, expect, sigpipe, end, error, number, **case):
    """Judges every operation that sends: the error, and the signal that came; none with MSG_NOSIGNAL."""
    for flags, ops in ((0, exchange.sending), (QUIET, exchange.sending_with_flags)):
        for op in ops:
            check = expect([error, 0 if flags else number], **case, op=op, flags="none" if not flags else "nosignal")
            sent = exchange.send(op, end, DATA, flags)
            check.of([sent.value, sigpipe.taken()], sent)


@behaviour("transfer.broken.own-end", SOURCE)
def test_own_end(exchange, prepare, sigpipe, expect):
    """Sending on a stream whose own end is shut down fails with EPIPE and sends SIGPIPE, not with MSG_NOSIGNAL."""
    for kind in (TCP, UNIX_STREAM):
        end = prepare("half-closed", kind)
        judge(exchange, expect, sigpipe, end, -EPIPE, SIGPIPE, kind=kind)
        end.close()


@behaviour("transfer.broken.seqpacket", "unix(7) EPIPE; unix_dgram_sendmsg `RCV_SHUTDOWN`", tag="implementation")
def test_seqpacket(exchange, prepare, sigpipe, expect):
    """Sending on an AF_UNIX SOCK_SEQPACKET socket that cannot send any more fails with EPIPE and sends no SIGPIPE."""
    for state in ("half-closed", "peer-closed"):
        end = prepare(state, UNIX_SEQPACKET)
        judge(exchange, expect, sigpipe, end, -EPIPE, 0, state=state)
        end.close()


@behaviour("transfer.broken.peer-closed", f"{SOURCE}; unix(7) EPIPE; tcp_reset")
def test_peer_closed(exchange, prepare, sigpipe, expect):
    """Sending to a peer that has closed its socket fails with EPIPE and SIGPIPE: on AF_UNIX at once, on TCP once its reset
    of the first data has come.
    """
    for kind in (TCP, UNIX_STREAM):
        end = prepare("peer-closed", kind)
        if kind is TCP:
            end.send(end.fd, DATA)
            end.wait(end.fd, POLLERR)
        judge(exchange, expect, sigpipe, end, -EPIPE, SIGPIPE, kind=kind)
        end.close()


@behaviour("transfer.broken.reset", "recv(2), unix(7) ECONNRESET; tcp_reset, unix_release_sock, sock_error")
def test_reset(exchange, prepare, expect):
    """The first operation that receives after a reset fails with ECONNRESET, the next one returns 0."""
    for kind in (TCP, UNIX_STREAM, UNIX_SEQPACKET):
        for op in exchange.receiving:
            end = prepare("reset", kind)
            expect(-ECONNRESET, kind=kind, op=op, time="first").of(exchange.receive(op, end, 8))
            expect(came(op, b""), kind=kind, op=op, time="second").of(exchange.receive(op, end, 8))
            end.close()


@behaviour(
    "transfer.broken.reset-sending", "send(2) ECONNRESET, EPIPE; unix(7) EPIPE; sk_stream_error, unix_stream_sendmsg"
)
def test_reset_sending(exchange, prepare, sigpipe, expect):
    """The first operation that sends on a TCP socket after a reset fails with ECONNRESET and sends no signal, the next one
    with EPIPE and SIGPIPE. On AF_UNIX each fails with EPIPE and SIGPIPE.
    """
    for kind, first in ((TCP, [-ECONNRESET, 0]), (UNIX_STREAM, [-EPIPE, SIGPIPE])):
        for op in exchange.sending:
            end = prepare("reset", kind)
            for time, values in (("first", first), ("second", [-EPIPE, SIGPIPE])):
                check = expect(values, kind=kind, op=op, time=time)
                sent = exchange.send(op, end, DATA)
                check.of([sent.value, sigpipe.taken()], sent)
            end.close()
