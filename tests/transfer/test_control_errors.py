"""The error queue: what recvmsg with MSG_ERRQUEUE returns of a datagram that was refused, or could not be sent."""

import socket
import struct
from errno import EAGAIN, ECONNREFUSED, EMSGSIZE
from select import POLLERR

import pytest

from probes.abi.sockaddr import inet, inet6
from probes.testing import behaviour, need
from probes.testing.socket_kinds import UDP, UDP6
from tests.transfer.control_messages import RECVERR, extended_error
from tests.transfer.message_layouts import CMSGHDR

SOURCE = "ip(7) IP_RECVERR; ipv6(7) IPV6_RECVERR; recv(2) MSG_ERRQUEUE"
CTRUNC, TRUNC, ERRQUEUE = socket.MSG_CTRUNC, socket.MSG_TRUNC, 0x2000
#: The level and option of each kind for path MTU discovery with "do" (include/uapi/linux/in.h, in6.h).
MTU_DISCOVER = {UDP: (socket.IPPROTO_IP, 10), UDP6: (socket.IPPROTO_IPV6, 23)}
DO = 2
#: include/uapi/linux/errqueue.h SO_EE_ORIGIN_*.
LOCAL, ICMP, ICMP6 = 1, 2, 3
MTU = 1300

each_kind = pytest.mark.parametrize("kind", (UDP, UDP6), ids=str)


def unreachable(kind):
    """Returns the control message of a port that is unreachable, sent by the loopback host itself."""
    if kind is UDP:
        return extended_error(kind, ECONNREFUSED, ICMP, 3, 3, offender=inet("127.0.0.1", 0))
    return extended_error(kind, ECONNREFUSED, ICMP6, 1, 4, offender=inet6("::1", 0))


@pytest.fixture
def end(kind, prepare, calls):
    """Makes a connected socket whose peer is gone, with the option that queues errors; `fd` has the port 5001."""
    made = prepare("connected", kind)
    made.close_one(made.peer)
    need(calls.setsockopt(made.fd, *RECVERR[kind], 1), "the option that queues errors")
    return made


@behaviour(
    "transfer.control.error-queued",
    f"{SOURCE}; ip_recv_error, ipv6_recv_error, ip_icmp_error",
)
@each_kind
def test_queued(kind, end, messages, expect):
    """recvmsg with MSG_ERRQUEUE returns the datagram that was refused: its data, its destination as the name, MSG_ERRQUEUE,
    and a control message with the error, its origin, type and code, and the address of the host that sent it (44 bytes,
    56 for IPv6). Then the queue is empty: EAGAIN, also without MSG_DONTWAIT.
    """
    check = expect([kind.address(5000), [5, b"hello", unreachable(kind), ERRQUEUE]], queue="refused")
    messages.sent(end.fd, data=b"hello")
    end.wait(end.fd, POLLERR)
    got = messages.receive(end.fd, flags=ERRQUEUE)
    check.of([got.name, got.value], got.result)
    check = expect(-EAGAIN, queue="empty")
    got = messages.receive(end.fd, flags=ERRQUEUE)
    check.of(got.value, got.result)


@behaviour("transfer.control.error-also-pending", f"{SOURCE}; ip_icmp_error, sock_dequeue_err_skb")
@each_kind
def test_pending(kind, end, messages, calls, expect):
    """A queued error is pending too: SO_ERROR returns it once. Taken from the queue it is not pending any more."""
    check = expect([ECONNREFUSED, 0], read="before-queue")
    messages.sent(end.fd)
    end.wait(end.fd, POLLERR)
    found = [calls.getsockopt(end.fd, socket.SOL_SOCKET, socket.SO_ERROR).as_int() for _ in range(2)]
    check.of([one.value for one in found], *found)
    need(messages.receive(end.fd, flags=ERRQUEUE).result, "recvmsg", returns=1)
    check = expect([0], read="after-queue")
    messages.sent(end.fd)
    end.wait(end.fd, POLLERR)
    need(messages.receive(end.fd, flags=ERRQUEUE).result, "recvmsg", returns=1)
    found = calls.getsockopt(end.fd, socket.SOL_SOCKET, socket.SO_ERROR).as_int()
    check.of([found.value], found)


@behaviour("transfer.control.error-room", f"{SOURCE}; recv(2) MSG_CTRUNC, MSG_TRUNC; ip_recv_error, put_cmsg")
@each_kind
def test_room(kind, end, messages, expect):
    """Short rooms cut the data (MSG_TRUNC), the name, whose whole length is reported, and control data (MSG_CTRUNC): its
    cmsg_len is the room.
    """
    whole, name = unreachable(kind), kind.address(5000)
    size = len(whole)
    for room in sorted({0, 11, 12, 13, 16, 27, 28, 43, 44, size - 1, size}):
        if room >= size:
            control, flags = whole, ERRQUEUE
        else:
            control = struct.pack("<I", room) + whole[4:room] if room >= CMSGHDR.size else b""
            flags = ERRQUEUE | CTRUNC
        check = expect([5, b"hello", control, flags], room=room)
        messages.sent(end.fd, data=b"hello")
        end.wait(end.fd, POLLERR)
        got = messages.receive(end.fd, room, flags=ERRQUEUE)
        check.of(got.value, got.result)
    check = expect([len(name), name[:5], [2, b"he", whole, ERRQUEUE | TRUNC]], room="of-data-and-name")
    messages.sent(end.fd, data=b"hello")
    end.wait(end.fd, POLLERR)
    got = messages.receive(end.fd, size=2, namelen=5, flags=ERRQUEUE)
    check.of([got.header[1], got.name_room, got.value], got.result)


@behaviour("transfer.control.error-off", f"{SOURCE}; udp_err, __udp6_lib_err")
@each_kind
def test_off(kind, prepare, messages, calls, expect):
    """Without the option nothing is queued: recvmsg with MSG_ERRQUEUE fails with EAGAIN, and the error itself is pending."""
    end = prepare("refused", kind)
    for case, flags, error in (("queue", ERRQUEUE, EAGAIN), ("data", 0, ECONNREFUSED)):
        check = expect(-error, read=case)
        got = messages.receive(end.fd, flags=flags)
        check.of(got.value, got.result)


@behaviour("transfer.control.error-local", f"{SOURCE} SO_EE_ORIGIN_LOCAL; EMSGSIZE; ip_local_error, ipv6_local_error")
@each_kind
def test_local(kind, prepare, messages, calls, loopback_mtu, expect):
    """A datagram larger than the path MTU that may not be fragmented fails with EMSGSIZE and is in the queue without data:
    origin SO_EE_ORIGIN_LOCAL, the MTU in ee_info, no offender.
    """
    end = prepare("connected", kind)
    loopback_mtu(MTU)
    need(calls.setsockopt(end.fd, *MTU_DISCOVER[kind], DO), "MTU discovery")
    need(calls.setsockopt(end.fd, *RECVERR[kind], 1), "the option that queues errors")
    expect(-EMSGSIZE, step="send").of(messages.send(end.fd, data=bytes(MTU)))
    check = expect([0, b"", extended_error(kind, EMSGSIZE, LOCAL, info=MTU), ERRQUEUE], step="queue")
    end.wait(end.fd, POLLERR)
    got = messages.receive(end.fd, flags=ERRQUEUE)
    check.of(got.value, got.result)
    headers = 28 if kind is UDP else 48
    expect(MTU - headers, step="fits").of(messages.send(end.fd, data=bytes(MTU - headers)))
