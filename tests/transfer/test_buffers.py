"""Buffers that cannot be read or written, wholly or from some byte on, and lengths beyond 2 GiB."""

from errno import EFAULT, EMSGSIZE

from probes.entry.memory import POISON, PROT_READ
from probes.testing import AbiDifference, behaviour
from probes.testing.socket_kinds import NETLINK, TCP, UDP, UNIX_DGRAM, UNIX_SEQPACKET, UNIX_STREAM
from tests.transfer.exchange import MANY, Message, came
from tests.transfer.message_layouts import MSGHDR

SOURCE = "send(2), recv(2), write(2), read(2) EFAULT"
#: An address of the kernel's part of a native i386 process, where a process of a 64-bit kernel has no memory either.
KERNEL = 0xFFFFF000
OTHERS = (UDP, UNIX_DGRAM, UNIX_SEQPACKET, NETLINK)
#: A native kernel checks the range of the buffer before it receives, and refuses the kernel's part. On x86-64 every
#: address below 4 GiB passes; the fault comes when the message is copied, after it was taken off the queue.
KEPT = AbiDifference(b"message", b"marker", "lib/iov_iter.c import_ubuf access_ok; page_32_types.h TASK_SIZE")
#: A length that reaches beyond 3 GiB.
LARGE = "fs/read_write.c vfs_read, vfs_write access_ok; lib/iov_iter.c import_ubuf access_ok; page_32_types.h TASK_SIZE"


def send_from(exchange, op, fd, address, size):
    """Sends `size` bytes at an address, and returns the result."""
    calls = exchange.calls
    if op in ("sendmsg", "sendmmsg"):
        message = Message(calls, [(address, size)], size=32)
        return exchange.make(op, fd, message, *([0] if op == "sendmsg" else [1, 0]))
    if op == "writev":
        return exchange.make(op, fd, calls.memory.words(address, size), 1)
    return exchange.make(op, fd, address, size, *{"send": [0], "sendto": [0, 0, 0], "write": []}[op])


def receive_to(exchange, op, fd, address, size, flags=0):
    """Receives into `size` bytes at an address, and returns the result."""
    calls = exchange.calls
    if op in ("recvmsg", *MANY):
        message = Message(calls, [(address, size)], size=32)
        return exchange.make(op, fd, message, *([flags] if op == "recvmsg" else [1, flags, 0]))
    if op == "readv":
        return exchange.make(op, fd, calls.memory.words(address, size), 1)
    return exchange.make(op, fd, address, size, *{"recv": [flags], "recvfrom": [flags, 0, 0], "read": []}[op])


def unreadable(memory):
    """Returns addresses at which 8 bytes cannot be read, by name."""
    half = memory.guarded(4)
    return {"null": 0, "unmapped": memory.unmapped(), "half": half.address, "kernel": KERNEL, "last": 0xFFFFFFFC}


@behaviour("transfer.buffers.unreadable", f"{SOURCE}; import_ubuf, copy_from_iter_full")
def test_unreadable(exchange, prepare, memory, expect):
    """Sending from memory that cannot be read whole fails with EFAULT, and nothing is sent; with no bytes to send any
    address will do.
    """
    for kind in (TCP, UNIX_STREAM, *OTHERS):
        end = prepare("connected", kind)
        for op in exchange.sending:
            for case, address in unreadable(memory).items():
                expect(-EFAULT, kind=kind, op=op, buffer=case).of(send_from(exchange, op, end, address, 8))
        end.send(end.fd, b"marker")
        end.wait(end.peer)
        expect(came("recv", b"marker"), kind=kind, op="recv", reader="peer").of(exchange.receive("recv", end.peer, 64))
        if kind in (TCP, UNIX_STREAM):
            for op in exchange.sending:
                value = 1 if op in MANY else 0
                expect(value, kind=kind, op=op, buffer="of-none").of(send_from(exchange, op, end, memory.unmapped(), 0))
        end.close()


@behaviour("transfer.buffers.unwritable", f"{SOURCE}; skb_copy_datagram_msg, unix_stream_read_generic")
def test_unwritable(exchange, prepare, memory, expect):
    """Receiving into memory that cannot be written fails with EFAULT: a stream keeps the data, a datagram socket loses the
    message.
    """
    half = memory.guarded(4)
    rooms = {
        "null": 0, "unmapped": memory.unmapped(), "read-only": memory.guarded(8, PROT_READ), "half": half,
    }  # fmt: skip
    for kind in (TCP, UNIX_STREAM, *OTHERS):
        end = prepare("connected", kind)
        stream = kind in (TCP, UNIX_STREAM)
        if stream:
            end.send(end.peer, b"message")
            end.wait(end.fd)
        for op in exchange.receiving:
            for case, room in rooms.items():
                if not stream:
                    end.send(end.peer, b"message")
                    end.wait(end.fd)
                expect(-EFAULT, kind=kind, op=op, buffer=case).of(receive_to(exchange, op, end, room, 8))
        if not stream:
            end.send(end.peer, b"marker")
            end.wait(end.fd)
        left = b"message" if stream else b"marker"
        expect(came("recv", left), kind=kind, op="recv", then="left").of(exchange.receive("recv", end, 64))
        end.close()


@behaviour("transfer.buffers.kernel-part", f"{SOURCE}; import_ubuf, __import_iovec, access_ok")
def test_kernel_part(exchange, prepare, expect):
    """Receiving to an address of the kernel's part of a native i386 process fails with EFAULT. A native kernel checks it
    first and keeps the message, the entry of x86-64 loses it.
    """
    for kind in (UDP, UNIX_DGRAM):
        for op in exchange.receiving:
            end = prepare("connected", kind)
            end.send(end.peer, b"message")
            end.send(end.peer, b"marker")
            end.wait(end.fd)
            expect(-EFAULT, kind=kind, op=op).of(receive_to(exchange, op, end, KERNEL, 8))
            end.wait(end.fd)
            check = expect(KEPT, kind=kind, op=op, then="left")
            left = exchange.receive("recv", end, 64)
            check.of(left.value[1] if left.result > 0 else left.value, left)
            end.close()


@behaviour(
    "transfer.buffers.header", "sendmsg(2), recvmsg(2) EFAULT; sendmmsg(2), recvmmsg(2); copy_from_user, put_user"
)
def test_header(exchange, prepare, calls, memory, expect):
    """A struct msghdr that cannot be read whole fails with EFAULT, and nothing is transferred. One that cannot be written
    fails with EFAULT after the message was received, which is lost; sendmmsg has sent it.
    """
    end = prepare("connected", UDP)
    data, room = memory.put(b"message"), memory.alloc(8)
    header = MSGHDR.pack(0, 0, int(memory.words(data, 7)), 1, 0, 0, 0)
    into = MSGHDR.pack(0, 0, int(memory.words(room, 8)), 1, 0, 0, 0)
    end.send(end.peer, b"kept")
    end.wait(end.fd)
    for op in exchange.over(("sendmsg", "recvmsg", "sendmmsg", "recvmmsg")):
        tail = {"sendmsg": [0], "recvmsg": [0], "sendmmsg": [1, 0]}.get(op, [1, 0, 0])
        for case, pointer in {"null": 0, "unmapped": memory.unmapped(), "cut-off": memory.guarded(header[:27])}.items():
            expect(-EFAULT, op=op, header=case).of(exchange.make(op, end, pointer, *tail))
    expect(came("recv", b"kept"), op="recv", then="kept").of(exchange.receive("recv", end, 8))
    # sendmsg writes nothing to its header; sendmmsg writes msg_len.
    for op, expected, tail in (("sendmsg", 7, [0]), ("sendmmsg", -EFAULT, [1, 0])):
        pointer = memory.guarded(header + bytes(4) * (op == "sendmmsg"), PROT_READ)
        expect(expected, op=op, header="read-only").of(calls.make(op, end, pointer, *tail))
        arrives = expect(came("recv", b"message"), op=op, header="read-only", reader="peer")
        [received] = exchange.arrived(end, 8)
        arrives.of(received)
    for op in exchange.with_header:
        tail = [0] if op == "recvmsg" else [1, 0, 0]
        end.send(end.peer, b"lost")
        end.send(end.peer, b"marker")
        end.wait(end.fd)
        pointer = memory.guarded(into + bytes(4), PROT_READ)
        expect(-EFAULT, op=op, header="read-only").of(exchange.make(op, end, pointer, *tail))
        end.wait(end.fd)
        expect(came("recv", b"marker"), op=op, header="read-only", then="lost").of(exchange.receive("recv", end, 8))


@behaviour("transfer.buffers.two-gib", "read(2), write(2) NOTES 0x7ffff000; readv(2); rw_verify_area, import_ubuf")
def test_two_gib(exchange, prepare, memory, expect):
    """A length of 2 GiB or more is cut to 0x7ffff000, so a stream receives what is there, and a datagram is too long
    (EMSGSIZE). A native kernel refuses it with EFAULT where the buffer would end beyond 3 GiB.
    """
    room = memory.alloc(16)
    for length in (0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
        end = prepare("connected", TCP)
        for op in exchange.over(("recv", "recvfrom", "read")):
            end.send(end.peer, b"data")
            end.wait(end.fd)
            value = AbiDifference([-EFAULT, bytes([POISON]) * 5], [4, b"data\xa5"], LARGE)
            room.write(bytes([POISON]) * 16)
            check = expect(value, op=op, length=length)
            result = receive_to(exchange, op, end, room, length)
            check.of([int(result), room.part(0, 5).read()], result)
        end.close()
        end = prepare("connected", UDP)
        for op in exchange.over(("send", "sendto", "write")):
            value = AbiDifference(-EFAULT, -EMSGSIZE, LARGE)
            expect(value, op=op, length=length).of(send_from(exchange, op, end, room, length))
        end.close()
