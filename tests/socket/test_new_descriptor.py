"""The descriptor that socket() returns: which one, what it is, what it takes, what a failure leaves."""

import os
import struct
from errno import EBADF, EINVAL, EMFILE, ENODEV, ENXIO, ESPIPE
from stat import S_IFMT, S_IFSOCK

import pytest

from probes.entry.sweep import Sweep
from probes.testing import behaviour, need
from probes.testing import procfs as witness
from probes.testing.socket_kinds import NETLINK, PACKET, RAW6, TCP, TCP6, UDP, UDP6, UNIX, UNIX_STREAM
from probes.testing.socket_kinds import RAW as RAW_KIND
from tests.socket.socket_model import DGRAM, FAMILY_MAX, RAW, STREAM, TIMES, TYPE_MAX

SOURCE = "socket(2) RETURN VALUE; sock_map_fd; S4 2.1"
SOURCE_FILE = "socket(2); sock_alloc; sockfs; S4 2.2 step 4"
SOURCE_FAILURE = "socket(2) ERRORS; sock_release on every error path of __sock_create and sock_map_fd"
KINDS = (TCP, TCP6, UDP, UDP6, RAW_KIND, RAW6, NETLINK, PACKET, *UNIX)
#: Where the standard descriptors are kept meanwhile.
ASIDE = 700
#: Numbers of plain calls in i386 (syscall_32.tbl) that a socket's descriptor is given to.
LSEEK, FSYNC, FTRUNCATE, OPEN, MMAP, FSTATFS, PREAD64 = 19, 118, 93, 5, 90, 100, 180
#: i386 struct stat64 (arch/x86/include/uapi/asm/stat.h, packed as i386 packs): mode, nlink, uid, gid; size; inode.
STAT64, STAT64_MODE, STAT64_SIZE, STAT64_INODE = 96, 16, 44, 88
#: i386 struct statfs begins with the type; include/uapi/linux/magic.h SOCKFS_MAGIC.
STATFS, SOCKFS_MAGIC = 64, 0x534F434B


@behaviour("socket.descriptor.lowest", f"{SOURCE}; the lowest-numbered file descriptor not currently open")
def test_lowest(calls, expect):
    """Each socket gets the lowest descriptor that is not open, holes first."""
    free = witness.lowest(8)
    made = []
    for order, fd in enumerate(free):
        made.append(calls.socket(*UDP.triple))
        expect(fd, opened=order).of(made[-1])
    for hole in (1, 4, 5):
        need(calls.close(made[hole]))
    for hole in (1, 4, 5):
        expect(free[hole], hole=hole).of(calls.socket(*UNIX_STREAM.triple))


@behaviour("socket.descriptor.zero", SOURCE)
def test_zero(calls, expect):
    """With the standard descriptors closed, sockets take 0, 1 and 2."""
    standard = [fd for fd in (0, 1, 2) if fd in witness.descriptors()]
    for fd in standard:
        need(calls.plain("dup2", fd, ASIDE + fd))
        need(calls.close(fd))
    for fd in (0, 1, 2):
        expect(fd, fd=fd).of(calls.socket(*UDP.triple))
    for fd in standard:
        need(calls.plain("dup2", ASIDE + fd, fd))


@behaviour("socket.descriptor.inode", f"{SOURCE_FILE}; fstat(2), proc(5) /proc/pid/fd `socket:[inode]`")
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_inode(kind, make, calls, memory, expect):
    """The descriptor is a file of type socket with an inode of its own, which its link in /proc tells too; it is empty,
    has one link, and belongs to the user and group who made it.
    """
    made = make(kind)
    stat = memory.guarded(STAT64)
    result = calls.plain("fstat64", made.socket.fd, stat)
    expect(0, read="fstat64").of(result)
    mode, links, uid, gid = struct.unpack_from("<4I", stat.read(), STAT64_MODE)
    size, inode = (struct.unpack_from("<Q", stat.read(), offset)[0] for offset in (STAT64_SIZE, STAT64_INODE))
    expect(S_IFSOCK, read="type").of(S_IFMT(mode), result)
    expect(0o777, read="permissions").of(mode & 0o7777, result)
    expect([1, 0], read="links,size").of([links, size], result)
    expect(True, read="owner").of((uid, gid) == (os.geteuid(), os.getegid()), result)
    expect(True, read="inode").of(inode == made.inode, result)
    other = make(kind)
    expect(False, read="inode-of-another").of(inode == other.inode, result, other.result)


@behaviour("socket.descriptor.file-system", f"{SOURCE_FILE}; statfs(2) SOCKFS_MAGIC")
def test_file_system(new_socket, memory, the_gate, expect):
    """The socket's inode lies in sockfs."""
    buffer = memory.guarded(STATFS)
    result = the_gate.enter(FSTATFS, new_socket(*TCP.triple).fd, int(buffer))
    expect(0, read="fstatfs").of(result)
    expect(SOCKFS_MAGIC, read="f_type").of(buffer.words()[0], result)


@behaviour("socket.descriptor.reads-and-writes", f"{SOURCE_FILE}; read(2), write(2), readv(2), writev(2), dup(2)")
@pytest.mark.parametrize("kind", [UDP, UDP6], ids=str)
def test_reads_and_writes(kind, make, calls, memory, expect):
    """A socket is used as a file: what write and writev put in comes out of read and readv, over a duplicate too."""
    socket = make(kind).socket
    need(socket.bind(kind.address(5000)))
    need(socket.connect(kind.address(5000)))
    copy = need(calls.plain("dup", socket.fd))
    data, room = memory.guarded(b"through a file"), memory.guarded(64)
    parts = memory.words(data, 7, data.part(7), 7)
    places = memory.words(room, 4, room.part(4), 60)
    for fd, name in ((socket.fd, "first"), (copy, "copy")):
        for write in ("write", "writev"):
            for read in ("read", "readv"):
                room.write(bytes(64))
                words = (data, data.size) if write == "write" else (parts, 2)
                expect(data.size, fd=name, write=write, before=read).of(calls.plain(write, fd, *words))
                words = (room, room.size) if read == "read" else (places, 2)
                result = calls.plain(read, socket.fd, *words)
                expect(data.size, fd=name, read=read, after=write).of(result)
                expect(data.read(), fd=name, read=read, after=write, told="bytes").of(room.read()[: data.size], result)


@behaviour(
    "socket.descriptor.no-position", f"{SOURCE_FILE}; lseek(2), pread(2) ESPIPE; fsync(2), ftruncate(2) EINVAL; mmap(2)"
)
@pytest.mark.parametrize("kind", [UDP, RAW_KIND, NETLINK, UNIX_STREAM], ids=str)
def test_no_position(kind, make, the_gate, memory, expect):
    """A socket has no position, no length and no pages: lseek and pread fail with ESPIPE, fsync and ftruncate with
    EINVAL, mmap with ENODEV; it cannot be opened again by its link: ENXIO.
    """
    fd = make(kind).socket.fd
    buffer = memory.guarded(8)
    path = memory.guarded(f"/proc/self/fd/{fd}\0".encode())
    expect(-ESPIPE, call="lseek").of(the_gate.enter(LSEEK, fd, 0, 0))
    expect(-ESPIPE, call="pread64").of(the_gate.enter(PREAD64, fd, int(buffer), 8, 0, 0))
    expect(-EINVAL, call="fsync").of(the_gate.enter(FSYNC, fd))
    expect(-EINVAL, call="ftruncate").of(the_gate.enter(FTRUNCATE, fd, 0))
    # The first mmap of i386 has its words in memory: address, length, PROT_READ, MAP_SHARED, descriptor, offset.
    expect(-ENODEV, call="mmap").of(the_gate.enter(MMAP, int(memory.words(0, 4096, 1, 1, fd, 0))))
    expect(-ENXIO, call="open").of(the_gate.enter(OPEN, int(path), 2))


@behaviour("socket.descriptor.closes", f"{SOURCE_FILE}; close(2); S4 2.2")
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_closes(kind, make, calls, expect):
    """Closing the only descriptor of a fresh socket takes the socket away: EBADF from then on, no table has it, and the
    namespace counts as many sockets as before it.
    """
    before = witness.counted()
    made = make(kind)
    inode = made.inode
    expect(0, step="close").of(made.socket.close())
    expect(-EBADF, step="again").of(made.socket.close())
    expect([], step="tables").of(witness.listed(inode), made.result)
    expect(before, step="counts").of(witness.in_time(witness.counted, before), made.result)


@behaviour("socket.descriptor.limit", "socket(2) EMFILE; getrlimit(2) RLIMIT_NOFILE; get_unused_fd_flags")
def test_limit(descriptors, calls, expect):
    """At RLIMIT_NOFILE a socket fails with EMFILE, again and again; a descriptor that is closed can be had again, and
    no other.
    """
    free = witness.lowest(4)
    descriptors.leave(3)
    for fd in free[:3]:
        expect(fd, left=len(free) - 1 - free.index(fd)).of(calls.socket(*UDP.triple))
    for attempt in range(3):
        for kind in (UDP, TCP, UNIX_STREAM):
            expect(-EMFILE, kind=kind, attempt=attempt).of(calls.socket(*kind.triple))
    need(calls.close(free[1]))
    expect(free[1], after="close").of(calls.socket(*TCP.triple))
    expect(-EMFILE, after="taking-it").of(calls.socket(*TCP.triple))


@behaviour("socket.descriptor.limit-nothing-leaks", f"{SOURCE_FAILURE}; socket(2) EMFILE")
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_limit_nothing_leaks(kind, make, descriptors, calls, expect):
    """A socket that was made and found no descriptor is gone: the namespace counts no more sockets than before."""
    make(kind)
    before, tables = witness.counted(), [len(witness.rows(table)) for table in witness.TABLES]
    opened = witness.descriptors()
    descriptors.leave(0)
    for attempt in range(20):
        announced = expect(-EMFILE, attempt=attempt)
        last = calls.socket(*kind.triple)
        announced.of(last)
    descriptors.free()
    expect(before, told="counts").of(witness.in_time(witness.counted, before), last)
    expect(tables, told="rows").of([len(witness.rows(table)) for table in witness.TABLES], last)
    expect(True, told="descriptors").of(opened == witness.descriptors(), last)


@behaviour("socket.descriptor.failure-nothing-leaks", SOURCE_FAILURE)
def test_failure_nothing_leaks(calls, expect):
    """Sockets that are refused, many times for each reason, leave no descriptor and no socket."""
    before, opened = witness.counted(), witness.descriptors()
    refused = {
        "flag": (1, 0x100 | STREAM, 0, -EINVAL), "family": (FAMILY_MAX, STREAM, 0, -97), "absent": (0, STREAM, 0, -97),
        "type-range": (2, TYPE_MAX, 0, -EINVAL), "type": (2, 4, 0, -94), "protocol-range": (2, STREAM, 300, -EINVAL),
        "protocol": (2, STREAM, 77, -93), "raw": (2, RAW, 0, -93), "unix": (1, DGRAM, 7, -93),
    }  # fmt: skip
    for why, (family, type, protocol, error) in refused.items():
        sweep = Sweep(calls)
        sweep.call("socket", family, type, protocol, judged=True)
        swept = sweep.run(range(TIMES))
        expect(error, refused=why).of(swept)
        last = swept.again(0)
        expect(before, refused=why, told="counts").of(witness.in_time(witness.counted, before), last)
        expect(True, refused=why, told="descriptors").of(opened == witness.descriptors(), last)
