"""Timeouts of operations that wait: SO_RCVTIMEO and SO_SNDTIMEO, and a timeout of recvmmsg that is over."""

import socket
import struct
import time
from errno import EAGAIN

from probes.entry.memory import POISON
from probes.testing import behaviour, need
from probes.testing.blocking import LEAST, SHORT
from probes.testing.socket_kinds import TCP, UDP, UNIX_DGRAM, UNIX_STREAM
from probes.testing.states import DATA
from tests.transfer.exchange import came
from tests.transfer.message_layouts import UNSET, array, lengths

SOURCE = "recvmmsg(2); do_recvmmsg, __sys_recvmmsg"
DONTWAIT, WAITALL = socket.MSG_DONTWAIT, socket.MSG_WAITALL
#: struct timespec of each form of recvmmsg: 32-bit members by 19 (socketcall) and 337, 64-bit members by 417.
FORMS = {"recvmmsg": struct.Struct("<ii"), "recvmmsg_time64": struct.Struct("<qq")}
BEHIND = bytes([POISON]) * 8


@behaviour("transfer.timeout.receiving", "socket(7) SO_RCVTIMEO; recv(2), read(2) EAGAIN; sock_rcvtimeo")
def test_receiving(exchange, prepare, expect):
    """With SO_RCVTIMEO an operation that receives fails with EAGAIN after that time, not before it, and writes nothing."""
    for kind in (TCP, UDP, UNIX_STREAM, UNIX_DGRAM):
        end = prepare("connected", kind)
        need(end.calls.setsockopt(end.fd, socket.SOL_SOCKET, socket.SO_RCVTIMEO, SHORT))
        for op in exchange.receiving if kind is TCP else exchange.over(("recv", "read")):
            check = expect([-EAGAIN, True], kind=kind, op=op)
            began = time.monotonic()
            done = exchange.receive(op, end, 8)
            check.of([done.value, time.monotonic() - began >= LEAST], done)
        end.close()


@behaviour("transfer.timeout.sending", "socket(7) SO_SNDTIMEO; send(2), write(2) EAGAIN; sock_sndtimeo")
def test_sending(exchange, prepare, expect):
    """With SO_SNDTIMEO an operation that sends to a full buffer fails with EAGAIN after that time, not before it."""
    for kind in (TCP, UNIX_STREAM, UNIX_DGRAM):
        for op in exchange.sending if kind is UNIX_STREAM else exchange.over(("send", "write")):
            end = prepare("full", kind)
            need(end.calls.setsockopt(end.fd, socket.SOL_SOCKET, socket.SO_SNDTIMEO, SHORT))
            check = expect([-EAGAIN, True], kind=kind, op=op)
            began = time.monotonic()
            done = exchange.send(op, end, DATA)
            check.of([done.value, time.monotonic() - began >= LEAST], done)
            end.close()


@behaviour("transfer.timeout.partly", "socket(7) SO_RCVTIMEO, SO_SNDTIMEO `partial count`; recv(2) MSG_WAITALL")
def test_partly(exchange, prepare, memory, expect):
    """An operation that has transferred some bytes when its time is over returns their number: MSG_WAITALL for more than
    comes, and sending more than fits.
    """
    for kind in (TCP, UNIX_STREAM):
        end = prepare("with-data", kind)
        need(end.calls.setsockopt(end.fd, socket.SOL_SOCKET, socket.SO_RCVTIMEO, SHORT))
        for op in exchange.receiving_with_flags:
            check = expect([came(op, DATA), True], kind=kind, op=op, flags="waitall")
            began = time.monotonic()
            done = exchange.receive(op, end, 8, WAITALL)
            check.of([done.value, time.monotonic() - began >= LEAST], done)
            end.send(end.peer, DATA)
            end.wait(end.fd)
        end.close()
    end = prepare("connected", UNIX_STREAM)
    need(end.calls.setsockopt(end.fd, socket.SOL_SOCKET, socket.SO_SNDTIMEO, SHORT))
    block = memory.alloc(1 << 20)
    check, arrives = expect([True, True], kind=UNIX_STREAM, op="send"), expect(True, kind=UNIX_STREAM, op="recv")
    began = time.monotonic()
    sent = exchange.make("send", end.fd, block, block.size, 0)
    check.of([0 < sent < block.size, time.monotonic() - began >= LEAST], sent)
    received, last = exchange.receive_rest(end, 2 * block.size)
    arrives.of(len(received) == sent == last, sent, last)


def timeout_of(memory, op, seconds, nanoseconds):
    """Returns a timeout in the form of an operation, with poison behind it."""
    return memory.guarded(FORMS[op].pack(seconds, nanoseconds) + BEHIND)


@behaviour("transfer.timeout.over", f"{SOURCE} BUGS `checked only after the receipt of each datagram`")
def test_over(exchange, prepare, memory, expect):
    """A timeout that is over when a message comes ends recvmmsg with what it has, and leaves 0."""
    end = prepare("connected", UDP)
    room = memory.alloc(8)
    for op in exchange.over(FORMS):
        for _ in range(3):
            end.send(end.peer, DATA)
        end.wait(end.fd)
        timeout = timeout_of(memory, op, 0, 1)
        block = array(memory, [(room, 8)] * 3)
        check = expect([1, [4, UNSET, UNSET], FORMS[op].pack(0, 0) + BEHIND], op=op)
        result = exchange.make(op, end, block, 3, 0, timeout)
        check.of([int(result), lengths(block), timeout.read()], result)
        for number in range(2):
            expect(came("recv", DATA), op=op, then=f"kept-{number}").of(exchange.receive("recv", end, 8, DONTWAIT))
