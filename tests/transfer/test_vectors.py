"""Scatter/gather arrays: how many members, in which order, of which length, and members that point to no memory."""

import struct
from errno import EFAULT, EINVAL, EMSGSIZE

from probes.testing import AbiDifference, behaviour
from probes.testing.socket_kinds import TCP, UDP, UNIX_DGRAM, UNIX_STREAM
from tests.transfer.exchange import MANY, came, went
from tests.transfer.message_layouts import IOVEC, MSGHDR, POISONED

SENDING = ("sendmsg", "sendmmsg", "writev")
RECEIVING = ("recvmsg", "recvmmsg", "readv")
SOURCE = "readv(2); send(2), recv(2) msg_iov; import_iovec, __copy_msghdr, copy_compat_iovec_from_user"
#: UIO_MAXIOV.
MOST = 1024


def vector(memory, members):
    """Returns an array of struct iovec, in memory that ends at a page without access."""
    return memory.guarded(b"".join(IOVEC.pack(int(base) & 0xFFFFFFFF, length) for base, length in members))


def make(exchange, op, fd, iov, count):
    """Makes an operation with an array of `count` members. Returns the result, and msg_len where it is one message."""
    calls = exchange.calls
    if op in ("readv", "writev"):
        result = exchange.make(op, fd, iov, count)
        return result, result
    header = MSGHDR.pack(0, 0, int(iov), count, 0, 0, 0)
    message = calls.memory.guarded(header + bytes(4))
    if op not in MANY:
        result = exchange.make(op, fd, message, 0)
        return result, result
    result = exchange.make(op, fd, message, 1, 0, *([] if op == "sendmmsg" else [0]))
    (length,) = struct.unpack_from("<I", message.read(), 28)
    return result, [result, length] if result == 1 else result


@behaviour("transfer.vectors.count", f"{SOURCE}; readv(2) EINVAL `the vector count`; sendmsg(3p) EMSGSIZE; UIO_MAXIOV")
def test_count(exchange, prepare, memory, expect):
    """An array has up to 1,024 members, which are sent, or filled, in their order; with more sendmsg and its like fail with
    EMSGSIZE, writev and readv with EINVAL.
    """
    data = bytes(number % 249 for number in range(MOST))
    source, room = memory.put(data), memory.alloc(MOST)
    end = prepare("connected", UDP)
    # Each member has one byte, the first member the last byte.
    gather, scatter = (
        vector(memory, [(block.address + at, 1) for at in range(MOST - 1, -1, -1)]) for block in (source, room)
    )
    for op in exchange.over((*SENDING, *RECEIVING)):
        array, alone = (gather, "writev") if op in SENDING else (scatter, "readv")
        for count in (0, 1, 2, MOST)[op == alone :]:
            check = expect(went(op, count), op=op, count=count)
            if op in SENDING:
                effect = expect(True, op=op, count=count, reader="peer")
            else:
                effect = expect(True, op=op, count=count, reader="room")
                end.send(end.peer, data)
                end.wait(end.fd)
                room.write(POISONED * MOST)
            result, value = make(exchange, op, end.fd, array, count)
            check.of(value, result)
            if op in SENDING:
                [received] = exchange.arrived(end, 2048)
                effect.of(received.value == came("recv", data[::-1][:count]), received)
            else:
                effect.of(room.read() == POISONED * (MOST - count) + data[:count][::-1], result)
        for count in (MOST + 1, 0x7FFFFFFF, 0xFFFFFFFF):
            check = expect(-EINVAL if op == alone else -EMSGSIZE, op=op, count=count)
            result, value = make(exchange, op, end.fd, array, count)
            check.of(value, result)


@behaviour("transfer.vectors.members", f"{SOURCE}; readv(2) `Buffers are processed in array order`")
def test_members(exchange, prepare, memory, expect):
    """Members are processed in array order, each whole before the next one; one of no bytes may point anywhere. What is not
    needed of the last ones stays as it was.
    """
    for kind in (TCP, UDP, UNIX_STREAM, UNIX_DGRAM):
        end = prepare("connected", kind)
        bad = memory.unmapped()
        parts = [(memory.put(b"abc"), 3), (0, 0), (memory.put(b"defgh"), 5), (bad, 0), (memory.put(b"i"), 1)]
        for op in exchange.over(SENDING):
            check = expect(went(op, 9), kind=kind, op=op)
            result, value = make(exchange, op, end.fd, vector(memory, parts), 5)
            check.of(value, result)
            end.wait(end.peer)
            expect(came("recv", b"abcdefghi"), kind=kind, op=op, reader="peer").of(
                exchange.receive("recv", end.peer, 64)
            )
        for op in exchange.over(RECEIVING):
            rooms = [memory.guarded(3), memory.guarded(5), memory.guarded(4)]
            end.send(end.peer, b"abcdefghi")
            end.wait(end.fd)
            array = vector(memory, [(rooms[0], 3), (0, 0), (rooms[1], 5), (bad, 0), (rooms[2], 4)])
            check = expect([went(op, 9), b"abc", b"defgh", b"i\xa5\xa5\xa5"], kind=kind, op=op)
            result, value = make(exchange, op, end.fd, array, 5)
            check.of([value, *(room.read() for room in rooms)], result)
        end.close()


@behaviour(
    "transfer.vectors.length", f"{SOURCE}; readv(2) EINVAL `the sum of the iov_len values`; __import_iovec MAX_RW_COUNT"
)
def test_length(exchange, prepare, memory, expect):
    """A member of 2 GiB or more fails with EINVAL wherever it is, and nothing is transferred. Members of more than 2 GiB
    together are accepted; a native kernel refuses those that reach beyond 3 GiB with EFAULT.
    """
    end = prepare("connected", TCP)
    good = memory.put(b"data")
    # A native kernel first looks if the whole member can be memory of the process; these reach beyond 3 GiB.
    large = AbiDifference(-EFAULT, 4, "lib/iov_iter.c __import_iovec access_ok, page_32_types.h TASK_SIZE")
    end.send(end.peer, b"kept")
    end.wait(end.fd)
    for op in exchange.over((*SENDING, *RECEIVING)):
        for length in (0x80000000, 0xFFFFFFFF):
            for position in ("first", "last"):
                members = [(good, length), (good, 4)] if position == "first" else [(good, 4), (good, length)]
                check = expect(-EINVAL, op=op, length=length, position=position)
                result, value = make(exchange, op, end.fd, vector(memory, members), 2)
                check.of(value, result)
    room = memory.guarded(8)
    for op in exchange.over(("recvmsg", "readv")):
        check = expect(large, op=op, sum="4GiB")
        result, value = make(exchange, op, end.fd, vector(memory, [(room, 0x7FFFFFFF)] * 3), 3)
        check.of(value, result)
        if value != 4:
            expect(came("recv", b"kept"), op=op, then="kept").of(exchange.receive("recv", end, 8))
        end.send(end.peer, b"kept")
        end.wait(end.fd)
    expect(came("recv", b"kept"), op="recv", then="kept").of(exchange.receive("recv", end, 8))
    end.send(end.fd, b"marker")
    end.wait(end.peer)
    expect(came("recv", b"marker"), op="recv", reader="peer").of(exchange.receive("recv", end.peer, 64))


@behaviour("transfer.vectors.bad-array", f"{SOURCE}; send(2), recv(2), read(2), write(2) EFAULT")
def test_bad_array(exchange, prepare, memory, expect):
    """An array that cannot be read whole fails with EFAULT and transfers nothing; the pointer to an array of no members is
    not read.
    """
    end = prepare("with-data", UDP)
    good = memory.put(b"data")
    arrays = {"unmapped": (memory.unmapped(), 1), "null": (0, 1), "cut-off": (vector(memory, [(good, 4)]), 2)}
    for op in exchange.over((*SENDING, *RECEIVING)):
        for case, (array, count) in arrays.items():
            check = expect(-EFAULT, op=op, array=case)
            result, value = make(exchange, op, end.fd, array, count)
            check.of(value, result)
    expect(came("recv", b"data"), op="recv", then="kept").of(exchange.receive("recv", end, 8))
    for op in exchange.over(SENDING):
        check = expect(went(op, 0), op=op, array="of-none")
        result, value = make(exchange, op, end.fd, memory.unmapped(), 0)
        check.of(value, result)
        if op != "writev":
            arrives = expect(came("recv", b""), op=op, reader="peer")
            [received] = exchange.arrived(end, 8)
            arrives.of(received)
    end.send(end.fd, b"marker")
    end.wait(end.peer)
    expect(came("recv", b"marker"), op="recv", reader="peer").of(exchange.receive("recv", end.peer, 64))


@behaviour(
    "transfer.vectors.bad-member-sent", f"{SOURCE}; send(2), write(2) EFAULT; tcp_sendmsg_locked do_fault"
)  # fmt: skip
def test_bad_member_sent(exchange, prepare, memory, expect):
    """A member that cannot be read fails with EFAULT, and nothing of the message is sent."""
    good = memory.put(b"data")
    bad = memory.unmapped()
    for kind in (TCP, UDP, UNIX_STREAM, UNIX_DGRAM):
        end = prepare("connected", kind)
        for op in exchange.over(SENDING):
            for position, members in {
                "first": [(bad, 4), (good, 4)], "middle": [(good, 4), (bad, 4), (good, 4)], "last": [(good, 4), (bad, 4)],
            }.items():  # fmt: skip
                check = expect(-EFAULT, kind=kind, op=op, position=position)
                result, value = make(exchange, op, end.fd, vector(memory, members), len(members))
                check.of(value, result)
        end.send(end.fd, b"marker")
        end.wait(end.peer)
        expect(came("recv", b"marker"), kind=kind, op="recv", reader="peer").of(exchange.receive("recv", end.peer, 64))
        end.close()


@behaviour(
    "transfer.vectors.bad-member-large", f"{SOURCE}; write(2) RETURN VALUE; tcp_sendmsg_locked, unix_stream_sendmsg"
)
def test_bad_member_large(exchange, prepare, memory, expect):
    """Where a member that cannot be read is far behind, a stream returns what it has sent before, and that arrives."""
    data = bytes(number % 251 for number in range(150_000))
    good, bad = memory.put(data), memory.unmapped()
    for kind in (TCP, UNIX_STREAM):
        for op in exchange.over(SENDING):
            end = prepare("connected", kind)
            check, arrives = expect(True, kind=kind, op=op), expect(True, kind=kind, op=op, reader="peer")
            result, value = make(exchange, op, end.fd, vector(memory, [(good, len(data)), (bad, 4)]), 2)
            count = value[1] if isinstance(value, list) else int(result)
            check.of(0 < count <= len(data) and value == went(op, count), result)
            received, last = exchange.receive_rest(end, 2 * len(data))
            arrives.of(received == data[: max(0, count)] and last == count, result, last)
            end.close()


@behaviour("transfer.vectors.bad-member-received", f"{SOURCE}; recv(2), read(2) EFAULT; unix_stream_read_generic")
def test_bad_member_received(exchange, prepare, memory, expect):
    """A stream fails with EFAULT where a member that cannot be written would be filled, and keeps the data; AF_UNIX returns
    what earlier sends filled before it. A datagram socket fails with EFAULT and loses the message.
    """
    bad = memory.unmapped()
    for kind, parts in ((TCP, [b"abcdefgh"]), (UNIX_STREAM, [b"abcd", b"efgh"]), (UDP, None), (UNIX_DGRAM, None)):
        for op in exchange.over(RECEIVING):
            for position in ("first", "last"):
                end, room = prepare("connected", kind), memory.guarded(4)
                for part in parts or (b"abcdefgh", b"marker"):
                    end.send(end.peer, part)
                if parts:
                    end.wait_bytes(end.fd, 8)
                end.wait(end.fd)
                some = kind is UNIX_STREAM and position == "last"
                members = [(bad, 4), (room, 4)] if position == "first" else [(room, 4), (bad, 4)]
                case = {"kind": kind, "op": op, "position": position}
                check = expect([went(op, 4), b"abcd"] if some else -EFAULT, **case)
                result, value = make(exchange, op, end.fd, vector(memory, members), 2)
                check.of([value, room.read()] if some else value, result)
                left = b"efgh" if some else b"abcdefgh" if parts else b"marker"
                end.wait(end.fd)
                expect(came("recv", left), **case, then="left").of(exchange.receive("recv", end.fd, 16))
                end.close()
