"""The descriptor that socket(2) returns: its number, its inode, and the calls on files that it accepts."""

import os
import struct
from errno import EBADF, EINVAL, ENODEV, ENXIO, ESPIPE
from fcntl import F_GETFD, F_GETFL
from stat import S_IFMT, S_IFSOCK

import pytest

from probes.testing import behaviour, need, procfs
from probes.testing.socket_kinds import NETLINK, PACKET, RAW6, TCP, TCP6, UDP, UDP6, UNIX, UNIX_STREAM
from probes.testing.socket_kinds import RAW as RAW_KIND
from probes.testing.socket_model import FAMILIES, LOWEST, OK, TYPE_MAX

SOURCE = "socket(2) RETURN VALUE; sock_map_fd; S4 2.1"
SOURCE_FILE = "socket(2); sock_alloc; sockfs; S4 2.2 step 4"
KINDS = (TCP, TCP6, UDP, UDP6, RAW_KIND, RAW6, NETLINK, PACKET, *UNIX)
#: Where the standard descriptors are kept during a test.
ASIDE = 700
#: i386 numbers of other system calls on a file (syscall_32.tbl).
LSEEK, FSYNC, FTRUNCATE, OPEN, MMAP, FSTATFS, PREAD64 = 19, 118, 93, 5, 90, 100, 180
#: i386 struct stat64 (arch/x86/include/uapi/asm/stat.h): its size, and offsets of mode, nlink, uid, gid; size; inode.
STAT64, STAT64_MODE, STAT64_SIZE, STAT64_INODE = 96, 16, 44, 88
#: i386 struct statfs begins with the type; include/uapi/linux/magic.h SOCKFS_MAGIC.
STATFS, SOCKFS_MAGIC = 64, 0x534F434B


@behaviour("socket.descriptor.lowest", f"{SOURCE}; the lowest-numbered file descriptor not currently open")
def test_lowest(calls, expect):
    """socket returns the lowest-numbered descriptor that is not open, also where it lies between open ones."""
    free = procfs.lowest(8)
    made = []
    for order, fd in enumerate(free):
        check = expect(fd, opened=order)
        made.append(calls.socket(*UDP.triple))
        check.of(made[-1])
    for hole in (1, 4, 5):
        need(calls.close(made[hole]))
    for hole in (1, 4, 5):
        expect(free[hole], hole=hole).of(calls.socket(*UNIX_STREAM.triple))


@behaviour("socket.descriptor.zero", SOURCE)
def test_zero(calls, expect):
    """socket returns 0, 1 and 2 if the standard descriptors are closed."""
    standard = [fd for fd in (0, 1, 2) if fd in procfs.descriptors()]
    for fd in standard:
        need(calls.syscall("dup2", fd, ASIDE + fd))
        need(calls.close(fd))
    for fd in (0, 1, 2):
        expect(fd, fd=fd).of(calls.socket(*UDP.triple))
    for fd in standard:
        need(calls.syscall("dup2", ASIDE + fd, fd))


@behaviour("socket.descriptor.every-family", f"{SOURCE}; fcntl(2); sock_alloc_file O_RDWR; …_create")
def test_every_family(calls, fcntl, expect):
    """socket of any family and type that the kernel has makes one descriptor, the lowest that is free, without FD_CLOEXEC
    and with no file status flag but O_RDWR.
    """
    for number, family in FAMILIES.items():
        for type in (type for type in range(TYPE_MAX) if family.present(number) and family.answer(type) == OK):
            before, (free,) = procfs.descriptors(), procfs.lowest()
            check = expect([[LOWEST], 0, os.O_RDWR], family=family.name, type=type)
            result = calls.socket(number, type, 0)
            made = [LOWEST if fd == free else "another" for fd in procfs.descriptors() if fd not in before]
            flags = [int(fcntl(result, command)) for command in (F_GETFD, F_GETFL)]
            check.of([made, *flags] if result >= 0 else int(result), result)
            if result >= 0:
                need(calls.close(result))


@behaviour("socket.descriptor.inode", f"{SOURCE_FILE}; fstat(2), proc(5) /proc/pid/fd `socket:[inode]`")
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_inode(kind, make, calls, memory, expect):
    """fstat of a socket: type S_IFSOCK, mode 0777, one link, size 0, and the effective user and group of its maker.

    The inode is that of its link in /proc/self/fd, and no other socket has it.
    """
    buffer = memory.guarded(STAT64)
    result, file_type = expect(0, read="fstat64"), expect(S_IFSOCK, read="type")
    permissions, links_and_size = expect(0o777, read="permissions"), expect([1, 0], read="links,size")
    owner, own_inode = expect(True, read="owner"), expect(True, read="inode")
    shared_inode = expect(False, read="inode-of-another")
    made, other = make(kind), make(kind)
    stat = calls.syscall("fstat64", made.socket.fd, buffer)
    mode, links, uid, gid = struct.unpack_from("<4I", buffer.read(), STAT64_MODE)
    size, inode = (struct.unpack_from("<Q", buffer.read(), offset)[0] for offset in (STAT64_SIZE, STAT64_INODE))
    result.of(stat, made.result)
    file_type.of(S_IFMT(mode), stat, made.result)
    permissions.of(mode & 0o7777, stat, made.result)
    links_and_size.of([links, size], stat, made.result)
    owner.of((uid, gid) == (os.geteuid(), os.getegid()), stat, made.result)
    own_inode.of(inode == made.inode, stat, made.result)
    shared_inode.of(inode == other.inode, stat, made.result, other.result)


@behaviour("socket.descriptor.file-system", f"{SOURCE_FILE}; statfs(2) SOCKFS_MAGIC")
def test_file_system(calls, memory, the_gate, expect):
    """fstatfs of a socket returns the type SOCKFS_MAGIC."""
    buffer = memory.guarded(STATFS)
    result, file_system = expect(0, read="fstatfs"), expect(SOCKFS_MAGIC, read="f_type")
    made = calls.socket(*TCP.triple)
    statfs = the_gate.enter(FSTATFS, need(made), int(buffer))
    result.of(statfs, made)
    file_system.of(buffer.words()[0], statfs, made)


@behaviour("socket.descriptor.reads-and-writes", f"{SOURCE_FILE}; read(2), write(2), readv(2), writev(2), dup(2)")
@pytest.mark.routes("direct")
@pytest.mark.parametrize("kind", [UDP, UDP6], ids=str)
def test_reads_and_writes(kind, make, calls, memory, expect):
    """read and readv of a socket return the data of write and writev, also of those on a duplicate descriptor."""
    socket = make(kind).socket
    need(socket.bind(kind.address(5000)))
    need(socket.connect(kind.address(5000)))
    copy = need(calls.syscall("dup", socket.fd))
    data, room = memory.guarded(b"through a file"), memory.guarded(64)
    written = {"write": (data, data.size), "writev": (memory.words(data, 7, data.part(7), 7), 2)}
    received = {"read": (room, room.size), "readv": (memory.words(room, 4, room.part(4), 60), 2)}
    for fd, name in ((socket.fd, "first"), (copy, "copy")):
        for write, source in written.items():
            for read, target in received.items():
                room.write(bytes(64))
                expect(data.size, fd=name, write=write, before=read).of(calls.syscall(write, fd, *source))
                length = expect(data.size, fd=name, read=read, after=write)
                text = expect(data.read(), fd=name, read=read, after=write, judged="bytes")
                result = calls.syscall(read, socket.fd, *target)
                length.of(result)
                text.of(room.read()[: data.size], result)


@behaviour(
    "socket.descriptor.no-position", f"{SOURCE_FILE}; lseek(2), pread(2) ESPIPE; fsync(2), ftruncate(2) EINVAL; mmap(2)"
)
@pytest.mark.routes("direct")
@pytest.mark.parametrize("kind", [UDP, RAW_KIND, NETLINK, UNIX_STREAM], ids=str)
def test_no_position(kind, make, the_gate, memory, expect):
    """lseek and pread on a socket fail with ESPIPE, fsync and ftruncate with EINVAL, mmap with ENODEV.

    open of its link in /proc/self/fd fails with ENXIO.
    """
    fd = make(kind).socket.fd
    buffer = memory.guarded(8)
    path = memory.guarded(f"/proc/self/fd/{fd}\0".encode())
    expect(-ESPIPE, call="lseek").of(the_gate.enter(LSEEK, fd, 0, 0))
    expect(-ESPIPE, call="pread64").of(the_gate.enter(PREAD64, fd, int(buffer), 8, 0, 0))
    expect(-EINVAL, call="fsync").of(the_gate.enter(FSYNC, fd))
    expect(-EINVAL, call="ftruncate").of(the_gate.enter(FTRUNCATE, fd, 0))
    # i386 mmap (number 90) has its arguments in memory: address, length, PROT_READ, MAP_SHARED, descriptor, offset.
    expect(-ENODEV, call="mmap").of(the_gate.enter(MMAP, int(memory.words(0, 4096, 1, 1, fd, 0))))
    expect(-ENXIO, call="open").of(the_gate.enter(OPEN, int(path), 2))


@behaviour("socket.descriptor.closes", f"{SOURCE_FILE}; close(2); S4 2.2")
@pytest.mark.routes("direct")
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_closes(kind, make, expect):
    """close of the only descriptor of a fresh socket frees the socket: a second close fails with EBADF.

    The tables of /proc/net do not list the socket, and the counts are those from before it was made.
    """
    counted = procfs.socket_counts()
    tables, counts = expect([], step="tables"), expect(counted, step="counts")
    made = make(kind)
    inode = made.inode
    result = expect(0, step="close")
    closed = made.socket.close()
    result.of(closed)
    expect(-EBADF, step="again").of(made.socket.close())
    tables.of(procfs.tables_listing(inode), closed)
    counts.of(procfs.read_until(procfs.socket_counts, counted), closed)
