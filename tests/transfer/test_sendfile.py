"""sendfile(2) and sendfile64: from a file to a socket, from an offset of the caller's or the file's own."""

import struct
from errno import EAGAIN, EBADF, EFAULT, EINVAL, EOVERFLOW, EPIPE, ESPIPE

import pytest

from probes.entry.memory import POISON, PROT_READ
from probes.testing import AbiDifference, VersionDifference, behaviour, need
from probes.testing.socket_kinds import TCP, UDP, UNIX_DGRAM, UNIX_SEQPACKET, UNIX_STREAM
from tests.transfer.caller_files import O_APPEND, O_RDONLY, O_WRONLY
from tests.transfer.exchange import came

pytestmark = pytest.mark.routes("direct")

SOURCE = "sendfile(2); do_sendfile"
#: The type of the offset of each form (loff_t, off_t), with 4 bytes behind it that stay.
FORMS = {"sendfile": "<i", "sendfile64": "<q"}
TEXT = b"the contents of a file"
BEHIND = bytes([POISON]) * 4
_MEMFD_CREATE = 356
#: An offset of 2^62: a file of a 32-bit kernel ends at 2^44.
BEYOND = AbiDifference(-EOVERFLOW, 0, "include/linux/fs.h MAX_LFS_FILESIZE; do_sendfile")


@pytest.fixture
def opened(files):
    """Opens a file with TEXT in the caller: opened(flags=O_RDONLY)."""
    files.create("file", TEXT)
    return lambda flags=O_RDONLY: files.open("file", flags)


def offset_of(memory, op, value):
    """Returns a place with a file offset in the form of a call."""
    return memory.guarded(struct.pack(FORMS[op], value) + BEHIND)


@behaviour("transfer.sendfile.own-offset", f"{SOURCE} `offset is not NULL`")
def test_own_offset(opened, files, prepare, exchange, calls, memory, expect):
    """With an offset sendfile sends from there, writes back the offset behind the last byte, 4 bytes of it, sendfile64 8,
    and leaves the file's own offset.
    """
    for kind in (TCP, UNIX_STREAM):
        end = prepare("connected", kind)
        for op, form in FORMS.items():
            for start, count in ((0, 3), (4, 8), (16, 100), (len(TEXT), 5), (len(TEXT) + 9, 5), (4, 0)):
                file, data = opened(), TEXT[start : start + count]
                place = offset_of(memory, op, start)
                value = [len(data), struct.pack(form, start + len(data)) + BEHIND, 1, data]
                check = expect(value, kind=kind, op=op, offset=start, count=count)
                files.seek(file, 1)
                result = calls.syscall(op, end.fd, file, place, count)
                received = exchange.receive("recv", end.peer, 64) if data and result > 0 else None
                got = received.value[1] if received and received.result > 0 else b""
                check.of(
                    [int(result), place.read(), files.offset(file), got], result, *([received] if received else [])
                )
        end.close()


@behaviour("transfer.sendfile.file-offset", f"{SOURCE} `offset is NULL`")
def test_file_offset(opened, files, prepare, exchange, calls, expect):
    """Without an offset sendfile sends from the file's own, and moves that."""
    end = prepare("connected", UNIX_STREAM)
    for op in FORMS:
        file = opened()
        end_of_file = len(TEXT)
        for count, data, offset in (
            (4, b"the ", 4), (8, b"contents", 12), (100, TEXT[12:], end_of_file), (5, b"", end_of_file)
        ):  # fmt: skip
            check = expect([len(data), data], op=op, count=count)
            at = expect(offset, op=op, count=count, then="offset")
            result = calls.syscall(op, end.fd, file, 0, count)
            received = exchange.receive("recv", end.peer, 64) if result > 0 else None
            got = received.value[1] if received and received.result > 0 else b""
            check.of([int(result), got], result, *([received] if received else []))
            at.of(files.offset(file), result)


@behaviour("transfer.sendfile.datagrams", f"{SOURCE} `out_fd`; udp_sendmsg, unix_dgram_sendmsg")
def test_datagrams(opened, prepare, exchange, calls, expect):
    """sendfile to a datagram socket makes one message of what it sends of one page."""
    for kind in (UDP, UNIX_DGRAM, UNIX_SEQPACKET):
        end = prepare("connected", kind)
        for op in FORMS:
            # With a count beyond the end of the file Linux 5.10 sets MSG_MORE, and the datagram is not sent yet.
            check = expect(len(TEXT), kind=kind, op=op)
            check.of(calls.syscall(op, end.fd, opened(), 0, len(TEXT)))
            end.wait(end.peer)
            expect(came("recvmsg", TEXT), kind=kind, op=op, reader="peer").of(exchange.receive("recvmsg", end.peer, 64))
        end.close()


@behaviour("transfer.sendfile.refused", f"{SOURCE} EBADF, EINVAL, ESPIPE, EFAULT, EAGAIN; EPIPE of the socket")
def test_refused(opened, prepare, calls, memory, sigpipe, expect):
    """sendfile fails with EBADF if a descriptor is not open for its direction, with EINVAL if it reads from a socket or
    writes to one with O_APPEND or at a negative offset, with ESPIPE at an offset of a pipe, with EFAULT if the offset cannot
    be read, with EAGAIN on a full socket, and as the socket does. Before Linux 6.5 AF_UNIX appended a page to the last
    message of a full socket (unix_stream_sendpage).
    """
    cite = "2dc334f1a63a splice, net: Use sendmsg(MSG_SPLICE_PAGES) rather than ->sendpage()"
    filled = VersionDifference("6.5", [4, 0], [-EAGAIN, 0], cite)
    end, pipe, full = prepare("connected", UNIX_STREAM), prepare("pipe"), prepare("full", UNIX_STREAM)
    full.nonblocking(full.fd)
    broken, file, writing = prepare("half-closed", UNIX_STREAM), opened(), opened(O_WRONLY)
    read_end, _ = pipe.made
    for op in FORMS:
        place = offset_of(memory, op, 0)
        cases = {
            "in-minus-one": (end.fd, -1, 0, 4, -EBADF), "out-minus-one": (-1, file, 0, 4, -EBADF),
            "in-write-only": (end.fd, writing, 0, 4, -EBADF), "out-read-only": (file, opened(), 0, 4, -EBADF),
            "from-socket": (end.fd, end.peer, 0, 4, -EINVAL), "append": (opened(O_WRONLY | O_APPEND), file, 0, 4, -EINVAL),
            "negative": (end.fd, file, offset_of(memory, op, -1), 4, -EINVAL),
            "from-socket-offset": (end.fd, end.peer, place, 4, -ESPIPE),
            "pipe-offset": (end.fd, read_end, place, 4, -ESPIPE),
            "unmapped-offset": (end.fd, file, memory.unmapped(), 4, -EFAULT), "full": (full.fd, file, 0, 4, -EAGAIN),
            "broken": (broken.fd, file, 0, 4, -EPIPE),
        }  # fmt: skip
        for case, (*words, error) in cases.items():
            documented = [error, 13 if case == "broken" else 0]
            check = expect(filled if case == "full" else documented, op=op, refused=case)
            result = calls.syscall(op, *words)
            check.of([int(result), sigpipe.taken()], result)


@behaviour("transfer.sendfile.bad-offset", f"{SOURCE} EFAULT; put_user")
def test_bad_offset(opened, prepare, exchange, calls, memory, expect):
    """An offset that can be read but not written fails with EFAULT after the data was sent."""
    end = prepare("connected", UNIX_STREAM)
    for op, form in FORMS.items():
        place = memory.guarded(struct.pack(form, 4), PROT_READ)
        expect(-EFAULT, op=op).of(calls.syscall(op, end.fd, opened(), place, 8))
        expect(came("recv", b"contents"), op=op, reader="peer").of(exchange.receive("recv", end.peer, 64))


@behaviour("transfer.sendfile.large-offset", f"{SOURCE} EOVERFLOW, NOTES `sendfile64`; MAX_NON_LFS")
def test_large_offset(opened, prepare, calls, memory, expect):
    """sendfile fails with EOVERFLOW at an offset of 2 GiB - 1, the most of its type; sendfile64 returns 0 there and far
    beyond, behind the end of the file; a native kernel has files of at most 2^44 bytes.
    """
    end = prepare("connected", UNIX_STREAM)
    for op, offset, value in (
        ("sendfile", 2**31 - 1, -EOVERFLOW), ("sendfile", 2**31 - 2, 0), ("sendfile64", 2**31 - 1, 0),
        ("sendfile64", 2**32 + 4, 0), ("sendfile64", 2**62, BEYOND),
    ):  # fmt: skip
        place = offset_of(memory, op, offset)
        # Other file systems have smaller files than tmpfs, which that of a memfd is.
        fd = need(calls.gate.enter(_MEMFD_CREATE, memory.put(b"file\0").address, 0)) if value is BEYOND else opened()
        check = expect(value, op=op, offset=offset)
        result = calls.syscall(op, end.fd, fd, place, 4)
        check.of(int(result) if place.read() == struct.pack(FORMS[op], offset) + BEHIND else place.read(), result)


@behaviour("transfer.sendfile.count", f"{SOURCE} EINVAL `count is negative`, NOTES 0x7ffff000; rw_verify_area")
def test_count(opened, prepare, exchange, calls, expect):
    """A count of 2 GiB or more sends the whole file; a native kernel takes it for a negative number: EINVAL."""
    end = prepare("connected", UNIX_STREAM)
    cite = "fs/read_write.c rw_verify_area `(ssize_t) count < 0`; size_t has 64 bits on x86-64"
    for op in FORMS:
        expect(len(TEXT), op=op, count=0x7FFFFFFF).of(calls.syscall(op, end.fd, opened(), 0, 0x7FFFFFFF))
        expect(came("recv", TEXT), op=op, reader="peer").of(exchange.receive("recv", end.peer, 64))
        for count in (0x80000000, 0xFFFFFFFF):
            value = AbiDifference(-EINVAL, len(TEXT), cite)
            check = expect(value, op=op, count=count)
            result = calls.syscall(op, end.fd, opened(), 0, count)
            check.of(result)
            if result > 0:
                expect(came("recv", TEXT), op=op, count=count, reader="peer").of(exchange.receive("recv", end.peer, 64))


@behaviour("transfer.sendfile.partly", f"{SOURCE} RETURN VALUE `fewer bytes than requested`")
def test_partly(files, prepare, exchange, calls, expect):
    """sendfile to a socket that does not take all without waiting returns how much it sent, and that arrives."""
    data = bytes(number % 251 for number in range(1 << 19))
    files.create("large", data)
    for op in FORMS:
        end = prepare("connected", UNIX_STREAM)
        end.nonblocking(end.fd)
        file = files.open("large")
        check, arrives = expect(True, op=op), expect(True, op=op, reader="peer")
        result = calls.syscall(op, end.fd, file, 0, len(data))
        check.of(0 < result < len(data), result)
        received, last = exchange.receive_rest(end, 2 * len(data))
        arrives.of(received == data[: max(0, result)] and last == result, result, last)
        end.close()
