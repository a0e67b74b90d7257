"""The flags of operations that send and receive, each of the 32 bits: valid, ignored or refused."""

import socket
from errno import EAGAIN, EINVAL, EISCONN, EOPNOTSUPP
from itertools import product

from probes.testing import AbiDifference, VersionDifference, behaviour
from probes.testing.socket_kinds import (
    NETLINK,
    PACKET_DGRAM,
    RAW,
    TCP,
    UDP,
    UDP6,
    UNIX_DGRAM,
    UNIX_STREAM,
)  # fmt: skip
from probes.testing.states import DATA
from tests.transfer.exchange import came, went, without_head

OOB, PEEK, TRUNC, MORE = socket.MSG_OOB, socket.MSG_PEEK, socket.MSG_TRUNC, socket.MSG_MORE
#: include/linux/socket.h.
ERRQUEUE, FASTOPEN, CLOEXEC, COMPAT = 0x2000, 0x20000000, 0x40000000, 0x80000000
BITS = [1 << bit for bit in range(32)]
#: MSG_PROBE: "Do not send. Only probe path f.e. for MTU".
PROBE = 0x10
#: One kind for each implementation of sending and receiving, with the operations to try: the others pass on the same flags.
KINDS = {
    TCP: ("send", "sendmsg"), UDP: ("send", "sendmsg"), UDP6: ("sendmsg",), UNIX_STREAM: ("sendmsg",),
    UNIX_DGRAM: ("sendmsg",), NETLINK: ("sendmsg",), RAW: ("sendmsg",), PACKET_DGRAM: ("sendmsg",),
}  # fmt: skip
#: A native kernel has no bit for this flag, and packet sockets refuse the bits that they do not support.
NO_COMPAT = "include/linux/socket.h MSG_CMSG_COMPAT is 0 without CONFIG_COMPAT; packet_recvmsg"
UNIX_OOB = VersionDifference("5.15", -EOPNOTSUPP, -EINVAL, "314001f0bf92 af_unix: Add OOB support")
#: What sending with a flag returns, where it is not ignored. None: a test of its own has it.
SENDING: dict[object, dict[int, object]] = {
    TCP: {OOB: None, MORE: None, FASTOPEN: -EISCONN},
    UNIX_STREAM: {OOB: None},
    PACKET_DGRAM: {},
    UDP: {OOB: -EOPNOTSUPP, MORE: None, PROBE: None},
    UDP6: {MORE: None, PROBE: None},
    RAW: {OOB: -EOPNOTSUPP, MORE: None, PROBE: None},
    **{kind: {OOB: -EOPNOTSUPP} for kind in (UNIX_DGRAM, NETLINK)},
}
#: The same of receiving four bytes into a room of four.
RECEIVING: dict[object, dict[int, object]] = {
    TCP: {OOB: -EINVAL, ERRQUEUE: -EAGAIN, TRUNC: None},
    UNIX_STREAM: {OOB: UNIX_OOB},
    **{kind: {ERRQUEUE: -EAGAIN} for kind in (UDP, UDP6)},
    RAW: {OOB: -EOPNOTSUPP, ERRQUEUE: -EAGAIN},
    **{kind: {OOB: -EOPNOTSUPP} for kind in (UNIX_DGRAM, NETLINK)},
    PACKET_DGRAM: {
        bit: -EINVAL for bit in BITS if bit not in (PEEK, socket.MSG_DONTWAIT, TRUNC, ERRQUEUE, COMPAT)
    } | {ERRQUEUE: -EAGAIN},
}  # fmt: skip
#: struct iphdr, before the data that a raw socket receives.
HEAD = {RAW: 20}


@behaviour(
    "transfer.flags.sending", "send(2) The flags argument, EOPNOTSUPP; udp_sendmsg, unix_dgram_sendmsg, tcp_sendmsg"
)
def test_sending(exchange, prepare, expect):
    """Each bit of the flags of an operation that sends is valid, or ignored, or refused: MSG_OOB with EOPNOTSUPP where there
    is no out-of-band data, MSG_FASTOPEN with EISCONN on a connected TCP socket. UDP over IPv6 ignores MSG_OOB.
    """
    for kind, ops in KINDS.items():
        end = prepare("connected", kind)
        for bit, op in product(BITS, ops):
            value = SENDING[kind].get(bit, 4)
            if value is None:
                continue
            check = expect([4, DATA] if value == 4 else value, kind=kind, op=op, flag=f"{bit:#x}")
            sent = exchange.send(op, end, DATA, bit)
            if sent.result != 4:
                check.of(sent.result)
                continue
            end.wait(end.peer)
            received = exchange.receive("recv", end.peer, 64)
            check.of([sent.value, data_of(received.value, kind)], sent, received)
        end.close()


def data_of(value, kind):
    """Returns the data that recv has received, without the header before it; an error as it is."""
    return value[1][HEAD.get(kind, 0) :] if isinstance(value, list) else value


@behaviour(
    "transfer.flags.probe", "include/linux/socket.h MSG_PROBE; __ip_append_data, ip_make_skb", tag="implementation"
)
def test_probe(exchange, prepare, expect):
    """With MSG_PROBE a datagram over IPv4 or IPv6 is not sent, though the operation returns its length."""
    for kind in (UDP, UDP6, RAW):
        end = prepare("connected", kind)
        for op in exchange.sending_with_flags:
            expect(went(op, 4), kind=kind, op=op).of(exchange.send(op, end, DATA, PROBE))
            end.send(end.fd, b"marker")
            end.wait(end.peer)
            check = expect(b"marker", kind=kind, op=op, reader="peer")
            received = exchange.receive("recv", end.peer, 64)
            check.of(data_of(received.value, kind), received)
        end.close()


@behaviour("transfer.flags.receiving", "recv(2) The flags argument; tcp_recvmsg, unix_stream_recvmsg, packet_recvmsg")
def test_receiving(exchange, prepare, expect):
    """Each bit of the flags of an operation that receives is valid, or ignored, or refused: MSG_OOB where there is no
    out-of-band data, most bits by packet sockets. msg_flags has none of them but MSG_CMSG_CLOEXEC.
    """
    for kind, ops in KINDS.items():
        head, end, queued = HEAD.get(kind, 0), prepare("connected", kind), False
        end.nonblocking(end.fd)
        # A packet socket refuses bits: there an operation shows that it reads all 32.
        more = ("recv", "recvfrom") if kind is PACKET_DGRAM else ()
        for bit, op in product(BITS, exchange.over((*(op.replace("send", "recv") for op in ops), *more))):
            value = RECEIVING[kind].get(bit, 4)
            if value is None:
                continue
            if not queued:
                end.send(end.peer, DATA)
                end.wait(end.fd)
            right = came(op, DATA, flags=bit & CLOEXEC) if value == 4 else value
            if kind is PACKET_DGRAM and bit == COMPAT:
                right = AbiDifference(-EINVAL, right, NO_COMPAT)
            check = expect(right, kind=kind, op=op, flag=f"{bit:#x}")
            done = exchange.receive(op, end, 4 + head, bit)
            check.of(without_head(done.value, head), done)
            # A flag that is refused, and MSG_PEEK, leave the data for the next operation.
            queued = done.result < 0 or bit == PEEK
        end.close()
