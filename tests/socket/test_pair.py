"""socketpair(2): two sockets, connected to each other."""

import os
import struct
from collections.abc import Callable
from errno import EPIPE, EPROTONOSUPPORT, EPROTOTYPE
from socket import AF_UNIX, MSG_NOSIGNAL

import pytest

from probes.entry.calls import Calls, Socket
from probes.entry.gate import Result
from probes.entry.memory import PAGE
from probes.testing import VersionDifference, behaviour, need, not_applicable, procfs
from probes.testing.observers import Connection, connections
from probes.testing.socket_kinds import UNIX, UNIX_DGRAM, UNIX_SEQPACKET, UNIX_STREAM, SocketKind
from probes.testing.socket_model import (
    CLOEXEC,
    DGRAM,
    FAMILIES,
    NONBLOCK,
    RAW,
    RDM,
    SEQPACKET,
    STREAM,
    TYPE_FLAGS,
)
from tests.socket.makers import SocketPair
from tests.socket.socket_options import read_bytes, read_int

SOURCE = "socketpair(2); __sys_socketpair"
SOURCE_UNIX = f"{SOURCE}; unix(7); unix_socketpair"
AF_TIPC = 30
F_GETFD, F_GETFL, FD_CLOEXEC, O_RDWR = 1, 3, 1, 2
every_unix = pytest.mark.parametrize("kind", UNIX, ids=str)
#: AF_UNIX makes sockets of type SOCK_DGRAM where SOCK_RAW is asked for.
UNIX_RAW = SocketKind("unix-raw", AF_UNIX, RAW)
every_type = pytest.mark.parametrize("kind", [*UNIX, UNIX_RAW], ids=str)


@pytest.fixture
def ends(calls: Calls, pair: SocketPair) -> Callable[..., tuple[Socket, Socket, Result]]:
    """Makes a pair to test with: ends(kind, flags=0) returns its two sockets and the result of the call."""

    def made(kind: SocketKind, flags: int = 0) -> tuple[Socket, Socket, Result]:
        result = pair(kind.family, kind.type | flags, kind.protocol)
        need(result, "a pair")
        first, second = pair.sv
        return Socket(calls, first), Socket(calls, second), result

    return made


@behaviour("socket.pair.descriptors", f"{SOURCE} RETURN VALUE sv[0], sv[1]; get_unused_fd_flags")
@every_type
def test_descriptors(kind, calls, pair, expect):
    """socketpair returns 0 and stores the two lowest free descriptors in sv, the lower one first."""
    free = procfs.lowest(3)
    # After the first pair its lower descriptor is closed: the second pair gets that one and the next free one.
    for order, descriptors in enumerate((free[:2], [free[0], free[2]])):
        result, sv = expect(0, pair=order, judged="result"), expect(descriptors, pair=order, judged="sv")
        made = pair(*kind.triple)
        result.of(made)
        sv.of(pair.sv, made)
        need(calls.close(pair.sv[0]))


@behaviour("socket.pair.two-inodes", f"{SOURCE}; sock_alloc, sock_alloc_file")
@every_unix
def test_two_inodes(kind, ends, expect):
    """The two ends of a pair have different inodes."""
    same_inode = expect(False)
    first, second, made = ends(kind)
    same_inode.of(procfs.inode(first.fd) == procfs.inode(second.fd), made)


@behaviour("socket.pair.unix-protocols", f"{SOURCE_UNIX}; unix_create")
def test_unix_protocols(pair, expect):
    """socketpair of AF_UNIX accepts SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET and SOCK_RAW with protocol 0 or 1.

    Every other protocol fails with EPROTONOSUPPORT.
    """
    for type in (STREAM, DGRAM, SEQPACKET, RAW):
        for protocol in (0, 1):
            expect(0, type=type, protocol=protocol).of(pair(AF_UNIX, type, protocol))
        for protocol in (-1, 2, 6, 17, 300):
            expect(-EPROTONOSUPPORT, type=type, protocol=protocol).of(pair(AF_UNIX, type, protocol))


@behaviour("socket.pair.identity", f"{SOURCE_UNIX}; socket(7) SO_TYPE, SO_DOMAIN, SO_PROTOCOL, SO_ERROR, SO_ACCEPTCONN")
def test_identity(calls, pair, expect):
    """SO_DOMAIN and SO_TYPE of both ends are those of the pair, SOCK_DGRAM for SOCK_RAW.

    SO_PROTOCOL, SO_ERROR and SO_ACCEPTCONN are 0.
    """
    for type in (STREAM, DGRAM, SEQPACKET, RAW):
        need(pair(AF_UNIX, type))
        identity = {"SO_DOMAIN": AF_UNIX, "SO_TYPE": DGRAM if type == RAW else type}
        for end, fd in enumerate(pair.sv):
            for name, value in {**identity, "SO_PROTOCOL": 0, "SO_ERROR": 0, "SO_ACCEPTCONN": 0}.items():
                expect([0, value], option=name, type=type, end=end).of(read_int(Socket(calls, fd), name))


@behaviour("socket.pair.tipc", f"{SOURCE} NOTES AF_TIPC (since Linux 4.12); tipc_socketpair")
def test_tipc(pair, expect):
    """socketpair of AF_TIPC succeeds for SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET and SOCK_RDM."""
    if not FAMILIES[AF_TIPC].registered:
        not_applicable("the protocol TIPC")
    for type in (STREAM, DGRAM, SEQPACKET, RDM):
        expect(0, type=type).of(pair(AF_TIPC, type))
    expect(-EPROTOTYPE, type=RAW).of(pair(AF_TIPC, RAW))


@behaviour("socket.pair.descriptor-flags", f"{SOURCE} NOTES SOCK_NONBLOCK, SOCK_CLOEXEC; get_unused_fd_flags")
@every_type
def test_descriptor_flags(kind, ends, fcntl, expect):
    """SOCK_CLOEXEC sets FD_CLOEXEC alone and SOCK_NONBLOCK O_NONBLOCK alone, of both descriptors of a pair."""
    for name, bits in TYPE_FLAGS.items():
        cloexec = FD_CLOEXEC if bits & CLOEXEC else 0
        descriptor_flags = [expect(cloexec, flags=name, end=end, read="F_GETFD") for end in (0, 1)]
        status_flags = [expect(O_RDWR | bits & NONBLOCK, flags=name, end=end, read="F_GETFL") for end in (0, 1)]
        *sockets, made = ends(kind, bits)
        for end, socket in enumerate(sockets):
            descriptor_flags[end].of(fcntl(socket.fd, F_GETFD), made)
            status_flags[end].of(fcntl(socket.fd, F_GETFL), made)


@behaviour("socket.pair.connected", f"{SOURCE} pair of connected sockets; read(2), write(2); unix(7)")
@every_unix
def test_connected(kind, ends, calls, memory, expect):
    """read at either end of a pair returns what write at the other end sent.

    SOCK_DGRAM and SOCK_SEQPACKET keep the boundaries of messages, SOCK_STREAM does not.
    """
    texts, room = (memory.guarded(b"first"), memory.guarded(b"second")), memory.guarded(64)
    arriving = [b"firstsecond"] if kind is UNIX_STREAM else [b"first", b"second"]
    for end in (0, 1):
        sizes = [expect(text.size, end=end, write=text.read().decode()) for text in texts]
        lengths = [expect(len(data), end=end, read=order, judged="length") for order, data in enumerate(arriving)]
        contents = [expect(data, end=end, read=order, judged="bytes") for order, data in enumerate(arriving)]
        *sockets, made = ends(kind)
        here, there = sockets[end], sockets[1 - end]
        for size, text in zip(sizes, texts, strict=True):
            size.of(calls.syscall("write", here.fd, text, text.size), made)
        for length, content, data in zip(lengths, contents, arriving, strict=True):
            received = calls.syscall("read", there.fd, room, room.size)
            length.of(received, made)
            content.of(room.read()[: len(data)], received, made)


@behaviour("socket.pair.unnamed", f"{SOURCE} unnamed pair; unix(7) unnamed; getsockname(2), getpeername(2)")
@every_unix
def test_unnamed(kind, ends, expect):
    """getsockname and getpeername of both ends of a pair return the two bytes of AF_UNIX: the ends are unnamed."""
    unnamed = struct.pack("<H", AF_UNIX)
    for end, socket in enumerate(ends(kind)[:2]):
        expect(unnamed, end=end, call="getsockname").of(socket.sockname())
        expect(unnamed, end=end, call="getpeername").of(socket.peername())


@behaviour("socket.pair.credentials", "unix(7) SO_PEERCRED; init_peercred in unix_socketpair")
@every_unix
def test_credentials(kind, ends, expect, caller):
    """SO_PEERCRED of both ends of a pair is the pid, effective uid and gid of the process that made it."""
    own = struct.pack("<iII", caller.pid, os.geteuid(), os.getegid())
    for end, socket in enumerate(ends(kind)[:2]):
        equal = expect(True, end=end)
        credentials = read_bytes(socket, "SO_PEERCRED", 12)
        equal.of(credentials.bytes == own, credentials)


@behaviour("socket.pair.seen", "unix(7); proc(5) /proc/net/unix; unix_seq_show; psutil net_connections")
@every_unix
def test_seen(kind, ends, expect, caller):
    """/proc/net/unix lists both ends of a pair as connected, and psutil lists both in another process."""
    type_and_state = [f"{kind.type:04X}", "03"]
    if kind is UNIX_DGRAM:
        unconnected = [f"{kind.type:04X}", "01"]
        cite = "unix_socketpair TCP_ESTABLISHED for datagrams too, 83301b5367a9"
        type_and_state = VersionDifference("5.15", before=unconnected, after=type_and_state, cite=cite)
    rows = [expect(type_and_state, end=end) for end in (0, 1)]
    listed = [Connection(fd, int(AF_UNIX), int(kind.type), "", "", "NONE") for fd in procfs.lowest(2)]
    in_psutil = expect(listed, witness="psutil")
    *sockets, made = ends(kind)
    for row, socket in zip(rows, sockets, strict=True):
        row.of(procfs.row("unix", procfs.inode(socket.fd)).columns("type", "state"), made)
    in_psutil.of(connections(caller.process), made)


@behaviour("socket.pair.end", f"{SOURCE_UNIX}; read(2), write(2) EPIPE; unix_release_sock")
@pytest.mark.parametrize("kind", [UNIX_STREAM, UNIX_SEQPACKET], ids=str)
def test_end(kind, ends, calls, memory, expect, expect_direct):
    """After close of one end, read at the other returns the queued data, then 0, and send fails with EPIPE."""
    for closed in (0, 1):
        sockets = ends(kind)[:2]
        gone, left = sockets[closed], sockets[1 - closed]
        data, room = memory.guarded(b"last words"), memory.guarded(64)
        need(calls.syscall("write", gone.fd, data, data.size))
        need(gone.close())
        expect_direct(data.size, closed=closed, read="left").of(calls.syscall("read", left.fd, room, room.size))
        expect_direct(0, closed=closed, read="end").of(calls.syscall("read", left.fd, room, room.size))
        expect(-EPIPE, closed=closed, write="send").of(calls.make("send", left.fd, data, data.size, MSG_NOSIGNAL))


@behaviour("socket.pair.sv", f"{SOURCE} put_user(fd1, &usockvec[0])")
def test_sv(calls, memory, expect):
    """socketpair writes exactly the eight bytes of sv, at any alignment and across pages."""
    room = memory.alloc(4 * PAGE, PAGE)
    places = [(STREAM, offset) for offset in (*range(1, 8), PAGE - 7, PAGE - 4, PAGE - 1)]
    for type, offset in [*places, (DGRAM, PAGE - 4), (SEQPACKET, PAGE - 4), (RAW, PAGE - 4)]:
        case = {"offset": offset} if type == STREAM else {"offset": offset, "type": type}
        room.write(b"\xa5" * room.size)
        free = procfs.lowest(2)
        words = struct.pack("<ii", *free)
        whole = b"\xa5" * offset + words + b"\xa5" * (room.size - offset - 8)
        result = expect(0, **case)
        only_sv, sv = expect(True, **case, judged="memory"), expect(words, **case, judged="sv")
        made = calls.make("socketpair", AF_UNIX, type, 0, room.part(offset))
        result.of(made)
        only_sv.of(room.read() == whole, made)
        sv.of(room.part(offset, 8).read(), made)
        need(calls.close(free[0]))
        need(calls.close(free[1]))
