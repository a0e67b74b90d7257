"""How many bytes are queued: to receive by FIONREAD, which is SIOCINQ, and to be sent by SIOCOUTQ, which is TIOCOUTQ."""

import socket
from errno import EINVAL

import pytest

from probes.testing import behaviour, need, procfs
from probes.testing.socket_kinds import TCP, TCP6, UDP, UDP6, UNIX_DGRAM, UNIX_SEQPACKET, UNIX_STREAM
from tests.transfer.exchange import came

pytestmark = pytest.mark.routes("direct")

#: include/uapi/asm-generic/ioctls.h; include/uapi/linux/sockios.h SIOCINQ, SIOCOUTQ, SIOCOUTQNSD.
FIONREAD, TIOCOUTQ, SIOCOUTQNSD = 0x541B, 0x5411, 0x894B
STREAMS = (TCP, TCP6, UNIX_STREAM, UNIX_SEQPACKET)


def queued(calls, fd, request=FIONREAD):
    """Returns the result of FIONREAD or another request, and the number that it wrote; the error if it failed."""
    number = calls.memory.words(0xA5A5A5A5)
    result = calls.syscall("ioctl", fd, request, number)
    return (number.words()[0] if result == 0 else int(result)), result


@behaviour("transfer.queued.bytes", "tcp(7) SIOCINQ, FIONREAD; unix(7) SIOCINQ; tcp_ioctl, unix_inq_len")
def test_bytes(prepare, calls, exchange, expect):
    """On a connected socket FIONREAD returns the number of bytes that were not received yet, of a SOCK_SEQPACKET socket
    those of all messages.
    """
    for kind in STREAMS:
        end = prepare("connected", kind)
        check = expect(0, kind=kind, sent=0)
        check.of(*queued(calls, end.fd))
        for part in (b"abc", b"defgh"):
            end.send(end.peer, part)
        end.wait_bytes(end.fd, 8) if kind is not UNIX_SEQPACKET else end.wait(end.fd)
        check = expect(8, kind=kind, sent=8)
        check.of(*queued(calls, end.fd))
        expect(came("recv", b"abc"), kind=kind, op="recv").of(exchange.receive("recv", end, 3))
        check = expect(5, kind=kind, sent=8, received=3)
        check.of(*queued(calls, end.fd))
        end.close()


@behaviour("transfer.queued.datagram", "udp(7) FIONREAD, SIOCINQ; unix(7) SIOCINQ; udp_ioctl, unix_inq_len")
def test_datagram(prepare, calls, exchange, expect):
    """On a datagram socket FIONREAD returns the size of the next datagram, 0 if there is none or an empty one."""
    for kind in (UDP, UDP6, UNIX_DGRAM):
        end = prepare("connected", kind)
        check = expect(0, kind=kind, next="none")
        check.of(*queued(calls, end.fd))
        for part in (b"abc", b"", b"defgh"):
            end.send(end.peer, part)
        for part in (b"abc", b"", b"defgh"):
            end.wait(end.fd)
            check = expect(len(part), kind=kind, next=len(part))
            check.of(*queued(calls, end.fd))
            expect(came("recv", part), kind=kind, op="recv", next=len(part)).of(exchange.receive("recv", end, 8))
        end.close()


@behaviour("transfer.queued.listening", "tcp(7) SIOCINQ `EINVAL`; unix(7) SIOCINQ `EINVAL`; tcp_ioctl, unix_inq_len")
def test_listening(prepare, calls, expect):
    """On a listening socket FIONREAD fails with EINVAL."""
    for kind in STREAMS:
        end = prepare("listening", kind)
        check = expect(-EINVAL, kind=kind)
        check.of(*queued(calls, end.fd))
        end.close()


@behaviour("transfer.queued.unsent", "tcp(7) SIOCOUTQ, TIOCOUTQ; unix(7); tcp_ioctl, unix_outq_len, sk_wmem_alloc_get")
def test_unsent(prepare, calls, expect):
    """SIOCOUTQ returns how many bytes a TCP socket has sent that the peer has not acknowledged, or not yet sent: 0 at first,
    all of them while the connection is not made, and 0 again once they are acknowledged. Of an AF_UNIX socket it returns the
    memory of what the peer has not received yet.
    """
    for kind in (TCP, TCP6):
        end = prepare("connected", kind)
        check = expect(0, kind=kind, sent=0)
        check.of(*queued(calls, end.fd, TIOCOUTQ))
        check = expect(0, kind=kind, sent=8, received=8)
        end.send(end.fd, b"abcdefgh")
        end.wait_bytes(end.peer, 8)
        need(calls.setsockopt(end.peer, socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1), "TCP_QUICKACK")
        procfs.read_until(lambda fd=end.fd: int(queued(calls, fd, TIOCOUTQ)[0]), 0)
        check.of(*queued(calls, end.fd, TIOCOUTQ))
        end.close()
    for kind in (UNIX_STREAM, UNIX_DGRAM, UNIX_SEQPACKET):
        end = prepare("connected", kind)
        for sent, received in ((0, 0), (8, 0), (8, 8)):
            check = expect(sent > received, kind=kind, sent=sent, received=received)
            if sent > received:
                end.send(end.fd, b"abcdefgh")
            if received:
                need(end.calls.make("recv", end.peer, calls.memory.alloc(8), 8, 0), "recv", returns=8)
            number, result = queued(calls, end.fd, TIOCOUTQ)
            check.of(int(result) if result else number >= 8, result)
        end.close()


@behaviour("transfer.queued.not-acknowledged", "tcp(7) SIOCOUTQ; include/uapi/linux/sockios.h SIOCOUTQNSD; tcp_ioctl")
def test_not_acknowledged(prepare, calls, expect):
    """Of a TCP socket that has sent more than its peer takes, SIOCOUTQ and SIOCOUTQNSD return numbers above 0: the second
    leaves out what was sent and is not acknowledged, so it is not more.
    """
    end = prepare("full", TCP)
    check = expect([0, 0, True, True])
    (unsent, first), (unacknowledged, second) = queued(calls, end.fd, SIOCOUTQNSD), queued(calls, end.fd, TIOCOUTQ)
    check.of([int(first), int(second), unsent > 0, unacknowledged >= unsent], first, second)


@behaviour("transfer.queued.unsent-refused", "tcp(7) SIOCOUTQ `EINVAL`; tcp_ioctl, unix_ioctl; udp_ioctl")
def test_unsent_refused(prepare, calls, expect):
    """SIOCOUTQ fails with EINVAL on a listening TCP socket. A UDP socket has nothing to send: 0."""
    for kind in (TCP, TCP6):
        end = prepare("listening", kind)
        check = expect(-EINVAL, kind=kind)
        check.of(*queued(calls, end.fd, TIOCOUTQ))
        end.close()
    for kind in (UDP, UDP6):
        end = prepare("connected", kind)
        check = expect(0, kind=kind)
        end.send(end.fd, b"abc")
        end.wait(end.peer)
        check.of(*queued(calls, end.fd, TIOCOUTQ))
        end.close()
