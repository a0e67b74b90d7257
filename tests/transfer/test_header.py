"""struct msghdr and struct mmsghdr in the i386 layouts: what the calls read of them, and what they write."""

import socket
import struct
from errno import EFAULT

from probes.entry.memory import POISON, OutOfMemory
from probes.testing import behaviour, need, not_applicable
from probes.testing.socket_kinds import TCP, UDP, UDP6, UNIX_DGRAM
from tests.transfer.control_messages import cmsg, rights
from tests.transfer.message_layouts import IOVEC, MSGHDR, UNSET

SOURCE = "recv(2) struct msghdr; include/net/compat.h struct compat_msghdr; i386: include/linux/socket.h"
READ = "get_compat_msghdr, copy_msghdr_from_user"
MSG_CMSG_COMPAT, MSG_CMSG_CLOEXEC = 0x80000000, 0x40000000
BEHIND = bytes([POISON]) * 8
STDIN, IP_RECVTTL = 0, 12


class Header:
    """Builds struct msghdr in memory, with a buffer for each pointer."""

    def __init__(self, memory, data=b"x", room=0, name=b"", namelen=None, control=0):
        """`room`: a buffer to receive into, else `data` is sent. `control`: bytes of room for control data."""
        self.data = memory.put(data) if not room else memory.alloc(room)
        self.vector = memory.put(IOVEC.pack(self.data.address, self.data.size) + BEHIND)
        self.name, self.control = memory.put(name) if name else None, memory.alloc(control) if control else None
        self.words = [
            self.name.address if self.name else 0, len(name) if namelen is None else namelen, self.vector.address, 1,
            self.control.address if self.control else 0, control, UNSET,
        ]  # fmt: skip

    def packed(self, **changed):
        """Returns the 28 bytes, with some members changed: namelen, controllen, flags."""
        at = {"namelen": 1, "controllen": 5, "flags": 6}
        words = list(self.words)
        for name, value in changed.items():
            words[at[name]] = value
        return MSGHDR.pack(*words)


@behaviour("transfer.header.written", f"{SOURCE}; ___sys_recvmsg `COMPAT_NAMELEN, COMPAT_FLAGS, msg_controllen`")
def test_written(prepare, messages, memory, calls, expect):
    """recvmsg writes msg_namelen, msg_controllen and msg_flags, at offsets 4, 20 and 24, and nothing else of the 28 bytes,
    nor behind them, nor of the array of buffers. msg_namelen stays as it was where msg_name is NULL.
    """
    cases = {
        "name": (
            UDP,
            Header(memory, room=8, name=bytes(128), control=64),
            {"namelen": 16, "controllen": 0, "flags": 0},
        ),
        "name6": (UDP6, Header(memory, room=8, name=bytes(128)), {"namelen": 28, "controllen": 0, "flags": 0}),
        "short": (UDP, Header(memory, room=8, name=bytes(3)), {"namelen": 16, "controllen": 0, "flags": 0}),
        "no-name": (UDP, Header(memory, room=8, namelen=77), {"controllen": 0, "flags": 0}),
        "no-name-negative": (UDP, Header(memory, room=8, namelen=-1), {"controllen": 0, "flags": 0}),
        "unnamed": (UNIX_DGRAM, Header(memory, room=8, name=bytes(128)), {"namelen": 0, "controllen": 0, "flags": 0}),
        "stream": (TCP, Header(memory, room=8, name=bytes(128)), {"namelen": 0, "controllen": 0, "flags": 0}),
        "cut": (UDP, Header(memory, room=2), {"controllen": 0, "flags": socket.MSG_TRUNC}),
    }
    for case, (kind, header, changed) in cases.items():
        end = prepare("connected", kind)
        block = memory.put(header.packed() + BEHIND)
        vector = header.vector.read()
        check = expect([min(4, header.data.size), header.packed(**changed) + BEHIND, vector], case=case)
        messages.sent(end.peer, data=b"data")
        result = calls.make("recvmsg", end.fd, block, 0)
        check.of([result, block.read(), header.vector.read()], result)
        end.close()


@behaviour("transfer.header.sent-unchanged", f"{SOURCE}; sendmsg(2); ____sys_sendmsg")
def test_sent_unchanged(prepare, memory, calls, expect):
    """sendmsg writes nothing to its header, its array, its data, its name and its control data. msg_flags is ignored."""
    for kind, name in ((UDP, UDP.address(5000)), (UNIX_DGRAM, b"")):
        end = prepare("connected", kind)
        header = Header(memory, b"data", name=name, control=16)
        header.control.write(rights(STDIN))
        blocks = [memory.put(header.packed() + BEHIND), header.vector, header.data, header.control]
        blocks += [header.name] if header.name else []
        before = [block.read() for block in blocks]
        check = expect([4, *before], kind=kind)
        result = calls.make("sendmsg", end.fd, blocks[0], 0)
        check.of([result, *(block.read() for block in blocks)], result)
        end.close()


@behaviour("transfer.header.length", f"{SOURCE}; {READ}; EFAULT")
def test_length(prepare, memory, messages, calls, expect):
    """sendmsg and recvmsg read 28 bytes of the header and 8 of each buffer's entry: memory that ends there is enough, one
    byte less fails with EFAULT, and nothing is sent or received.
    """
    end = prepare("connected", UNIX_DGRAM)
    for operation, fd in (("sendmsg", end.fd), ("recvmsg", end.peer)):
        for part, sizes in {"header": (4, 27, 28), "entry": (7, 8)}.items():
            header, arrives = Header(memory, b"abcd"), expect(b"abcd", operation=operation, part=part, then="arrived")
            if operation == "recvmsg":
                header.data.write(bytes(4))
                messages.sent(end.fd, data=b"abcd")
            for size in sizes:
                if part == "entry":
                    header.words[2] = memory.guarded(header.vector.read()[:size]).address
                block = memory.guarded(header.packed()[: size if part == "header" else MSGHDR.size])
                check = expect(4 if size == sizes[-1] else -EFAULT, operation=operation, **{part: size})
                result = calls.make(operation, fd, block, 0)
                check.of(result)
            if operation == "sendmsg":
                got = messages.receive(end.peer)
                arrives.of(got.data, result, got.result)
            else:
                arrives.of(header.data.read(), result)


@behaviour(
    "transfer.header.compat-flag",
    "MSG_CMSG_COMPAT; __sys_sendmsg, __sys_recvmsg, __sys_recvmmsg",
)
def test_compat_flag(prepare, memory, messages, calls, expect):
    """The flag 0x80000000, MSG_CMSG_COMPAT in x86-64 kernels, is accepted from an i386 caller, and is not in msg_flags."""
    end = prepare("connected", UNIX_DGRAM)
    for flags, seen in ((MSG_CMSG_COMPAT, 0), (MSG_CMSG_COMPAT | MSG_CMSG_CLOEXEC, MSG_CMSG_CLOEXEC)):
        expect(1, operation="sendmsg", flags=f"{flags:#x}").of(messages.send(end.fd, flags=flags))
        check = expect([1, b"x", b"", seen], operation="recvmsg", flags=f"{flags:#x}")
        got = messages.receive(end.peer, flags=flags)
        check.of(got.value, got.result)
        sent, arriving = Header(memory), Header(memory, room=8)
        block = memory.put(sent.packed() + BEHIND[:4])
        expect(1, operation="sendmmsg", flags=f"{flags:#x}").of(calls.make("sendmmsg", end.fd, block, 1, flags))
        block = memory.put(arriving.packed() + BEHIND[:4])
        check = expect([1, seen, 1], operation="recvmmsg", flags=f"{flags:#x}")
        result = calls.make("recvmmsg", end.peer, block, 1, flags, 0)
        check.of([result, *block.words()[6:]], result)


@behaviour(
    "transfer.header.high-pointers",
    "compat_ptr; System V i386 psABI, 3 GiB of user memory",
)
def test_high_pointers(prepare, memory, calls, expect):
    """Header, array, data, name and control data may lie above 2 GiB: no pointer is treated as a negative number."""
    end = prepare("connected", UDP)
    need(calls.setsockopt(end.peer, socket.IPPROTO_IP, IP_RECVTTL, 1), "IP_RECVTTL")
    limit = cmsg(socket.IPPROTO_IP, socket.IP_TTL, struct.pack("<i", 33))
    for address in (0x80000000, 0xB0000000):
        try:
            block = memory.at(address, 4096)
        except OutOfMemory:
            not_applicable(f"memory at {address:#x}")
        # Header at 0, array at 64, data at 128, name at 192, control data at 320.
        words = (address + 192, 16, address + 64, 1, address + 320, len(limit), 0)
        block.write(MSGHDR.pack(*words))
        block.part(64).write(IOVEC.pack(address + 128, 4))
        block.part(128).write(b"high")
        block.part(192).write(UDP.address(5000))
        block.part(320).write(limit)
        expect(4, operation="sendmsg", address=f"{address:#x}").of(calls.make("sendmsg", end.fd, block, 0))
        check = expect([4, b"high", 16, UDP.address(5001), limit], operation="recvmsg", address=f"{address:#x}")
        for at, size in ((128, 4), (192, 16), (320, len(limit))):
            block.part(at).write(bytes(size))
        result = calls.make("recvmsg", end.peer, block, 0)
        written = [block.part(at, size).read() for at, size in ((128, 4), (192, 16), (320, len(limit)))]
        check.of([result, written[0], block.words()[1], *written[1:]], result)


@behaviour(
    "transfer.header.array",
    "recvmmsg(2), sendmmsg(2); struct compat_mmsghdr; do_recvmmsg, __sys_sendmmsg",
)
def test_array(prepare, memory, calls, expect):
    """struct mmsghdr has 32 bytes: sendmmsg writes msg_len, at offset 28, of each message that it sent, with its own control
    data; recvmmsg also msg_namelen, msg_controllen and msg_flags, and name and control data of each. The entries behind
    them stay as they were.
    """
    end = prepare("connected", UDP)
    need(calls.setsockopt(end.peer, socket.IPPROTO_IP, IP_RECVTTL, 1), "IP_RECVTTL")
    unsent, length = struct.pack("<I", UNSET), struct.Struct("<I").pack
    sent = [Header(memory, data, control=16) for data in (b"a", b"bc", b"")]
    limits = [cmsg(socket.IPPROTO_IP, socket.IP_TTL, struct.pack("<i", limit)) for limit in (33, 34, 35)]
    for header, limit in zip(sent, limits, strict=True):
        header.control.write(limit)
    block = memory.put(b"".join(header.packed() + unsent for header in sent))
    expected = [2, b"".join(sent[index].packed() + length(index + 1) for index in range(2)) + sent[2].packed() + unsent]
    check = expect(expected, operation="sendmmsg")
    result = calls.make("sendmmsg", end.fd, block, 2, 0)
    check.of([result, block.read()], result)
    rooms = [Header(memory, room=1, name=bytes(16), control=32) for _ in range(3)]
    block = memory.put(b"".join(header.packed() + unsent for header in rooms))
    changed = [{"namelen": 16, "controllen": 16, "flags": flags} for flags in (0, socket.MSG_TRUNC)]
    expected = [rooms[index].packed(**changed[index]) + length(1) for index in range(2)]
    check = expect([2, b"".join(expected) + rooms[2].packed() + unsent], operation="recvmmsg")
    contents = [
        [data, UDP.address(5001), limit + BEHIND * 2] for data, limit in zip((b"a", b"b"), limits, strict=False)
    ]
    arrived = expect(contents, operation="recvmmsg", then="contents")
    end.wait(end.peer)
    result = calls.make("recvmmsg", end.peer, block, 2, 0, 0)
    check.of([result, block.read()], result)
    arrived.of([[one.data.read(), one.name.read(), one.control.read()] for one in rooms[:2]], result)
