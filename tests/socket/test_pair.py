"""socketpair(): two sockets, connected with each other."""

import os
import struct
from errno import EPIPE, EPROTONOSUPPORT, EPROTOTYPE
from socket import AF_UNIX, MSG_NOSIGNAL

import pytest

from probes.abi.names import value
from probes.entry.calls import Socket
from probes.entry.memory import PAGE
from probes.testing import VersionDifference, behaviour, need, not_applicable
from probes.testing import procfs as witness
from probes.testing.socket_kinds import UNIX, UNIX_DGRAM, UNIX_SEQPACKET, UNIX_STREAM
from tests.socket.socket_model import CLOEXEC, DGRAM, FAMILIES, NONBLOCK, RAW, RDM, SEQPACKET, STREAM

SOURCE = "socketpair(2); __sys_socketpair"
SOURCE_UNIX = f"{SOURCE}; unix(7); unix_socketpair"
AF_TIPC = 30
F_GETFD, F_GETFL, O_RDWR = 1, 3, 2
FLAGS = {"none": 0, "cloexec": CLOEXEC, "nonblock": NONBLOCK, "both": CLOEXEC | NONBLOCK}
every = pytest.mark.parametrize("kind", UNIX, ids=str)


@pytest.fixture
def ends(calls, pair):
    """Makes a pair to test with: ends(kind) returns its two sockets and the result of the call."""

    def made(kind, flags=0):
        result = pair(kind.family, kind.type | flags, kind.protocol)
        need(result, "a pair")
        first, second = pair.sv
        return Socket(calls, first), Socket(calls, second), result

    return made


@behaviour("socket.pair.descriptors", f"{SOURCE} RETURN VALUE sv[0], sv[1]; get_unused_fd_flags")
@every
def test_descriptors(kind, calls, pair, expect):
    """A pair gets the two lowest free descriptors, the lower one first, and the call returns 0."""
    free = witness.lowest(3)
    # The second pair finds a hole and what comes behind the first.
    for order, expected in enumerate((free[:2], [free[0], free[2]])):
        announced = expect(0, pair=order, told="result")
        result = pair(*kind.triple)
        announced.of(result)
        expect(expected, pair=order, told="sv").of(pair.sv, result)
        need(calls.close(pair.sv[0]))


@behaviour("socket.pair.two-inodes", f"{SOURCE}; sock_alloc, sock_alloc_file")
@every
def test_two_inodes(kind, ends, expect):
    """The ends of a pair are two sockets, each with an inode of its own."""
    first, second, result = ends(kind)
    expect(False).of(witness.inode(first.fd) == witness.inode(second.fd), result)


@behaviour("socket.pair.unix-protocols", f"{SOURCE_UNIX}; unix_create")
def test_unix_protocols(pair, expect):
    """AF_UNIX makes pairs of streams, datagrams, sequenced packets and SOCK_RAW, with protocol 0 or 1."""
    for type in (STREAM, DGRAM, SEQPACKET, RAW):
        for protocol in (0, 1):
            expect(0, type=type, protocol=protocol).of(pair(AF_UNIX, type, protocol))
        for protocol in (-1, 2, 6, 17, 300):
            expect(-EPROTONOSUPPORT, type=type, protocol=protocol).of(pair(AF_UNIX, type, protocol))


@behaviour("socket.pair.identity", f"{SOURCE_UNIX}; socket(7) SO_TYPE, SO_DOMAIN, SO_PROTOCOL, SO_ERROR, SO_ACCEPTCONN")
def test_identity(calls, pair, option, expect):
    """Both ends tell family and type of the pair, no error, and do not listen; of a SOCK_RAW the type is SOCK_DGRAM."""
    for type in (STREAM, DGRAM, SEQPACKET, RAW):
        need(pair(AF_UNIX, type))
        told = {"SO_DOMAIN": AF_UNIX, "SO_TYPE": DGRAM if type == RAW else type}
        for end, fd in enumerate(pair.sv):
            for name, number in {**told, "SO_PROTOCOL": 0, "SO_ERROR": 0, "SO_ACCEPTCONN": 0}.items():
                option(expect, Socket(calls, fd), name, number, type=type, end=end)


@behaviour("socket.pair.tipc", f"{SOURCE} NOTES AF_TIPC (since Linux 4.12); tipc_socketpair")
def test_tipc(pair, expect):
    """AF_TIPC makes pairs of streams, datagrams and sequenced packets."""
    if not FAMILIES[AF_TIPC].registered:
        not_applicable("the protocol TIPC")
    for type in (STREAM, DGRAM, SEQPACKET, RDM):
        expect(0, type=type).of(pair(AF_TIPC, type))
    expect(-EPROTOTYPE, type=RAW).of(pair(AF_TIPC, RAW))


@behaviour("socket.pair.descriptor-flags", f"{SOURCE} NOTES SOCK_NONBLOCK, SOCK_CLOEXEC; get_unused_fd_flags")
@every
def test_descriptor_flags(kind, ends, fcntl, expect):
    """SOCK_CLOEXEC sets FD_CLOEXEC of both descriptors, SOCK_NONBLOCK sets O_NONBLOCK of both, and nothing else."""
    for name, bits in FLAGS.items():
        for end, socket in enumerate(ends(kind, bits)[:2]):
            expect(int(bits & CLOEXEC != 0), flags=name, end=end, read="F_GETFD").of(fcntl(socket.fd, F_GETFD))
            expect(O_RDWR | bits & NONBLOCK, flags=name, end=end, read="F_GETFL").of(fcntl(socket.fd, F_GETFL))


@behaviour("socket.pair.connected", f"{SOURCE} pair of connected sockets; read(2), write(2); unix(7)")
@every
def test_connected(kind, ends, calls, memory, expect):
    """What is written at either end is read at the other, and the ends do not differ; datagrams and packets keep their
    boundaries, a stream does not.
    """
    sockets = ends(kind)[:2]
    one, two, room = memory.guarded(b"first"), memory.guarded(b"second"), memory.guarded(64)
    for end in (0, 1):
        here, there = sockets[end], sockets[1 - end]
        for data in (one, two):
            expect(data.size, end=end, write=data.read().decode()).of(calls.plain("write", here.fd, data, data.size))
        expected = [b"firstsecond"] if kind is UNIX_STREAM else [b"first", b"second"]
        for order, text in enumerate(expected):
            result = calls.plain("read", there.fd, room, room.size)
            expect(len(text), end=end, read=order, told="length").of(result)
            expect(text, end=end, read=order, told="bytes").of(room.read()[: len(text)], result)


@behaviour("socket.pair.unnamed", f"{SOURCE} unnamed pair; unix(7) unnamed; getsockname(2), getpeername(2)")
@every
def test_unnamed(kind, ends, expect):
    """Both ends are unnamed, and so are their peers: getsockname and getpeername tell the family alone."""
    for end, socket in enumerate(ends(kind)[:2]):
        for call, (result, name) in (("getsockname", socket.sockname()), ("getpeername", socket.peername())):
            expect(struct.pack("<H", AF_UNIX), end=end, call=call).of(name, result)


@behaviour("socket.pair.credentials", "unix(7) SO_PEERCRED; init_peercred in unix_socketpair")
@every
def test_credentials(kind, ends, expect):
    """The peer's credentials at both ends are those of the process that made the pair."""
    mine = struct.pack("<iII", os.getpid(), os.geteuid(), os.getegid())
    for end, socket in enumerate(ends(kind)[:2]):
        result, told = socket.getsockopt(1, value("SO_PEERCRED"), 12)
        expect(True, end=end).of(told == mine, result)


@behaviour("socket.pair.seen", "unix(7); proc(5) /proc/net/unix; unix_seq_show; psutil net_connections")
@every
def test_seen(kind, ends, expect):
    """The table of AF_UNIX has both ends, connected, and psutil tells another process of both."""
    first, second, result = ends(kind)
    connected = [f"{kind.type:04X}", "03"]
    if kind is UNIX_DGRAM:
        unconnected = [f"{kind.type:04X}", "01"]
        cite = "unix_socketpair TCP_ESTABLISHED for datagrams too, 83301b5367a9"
        connected = VersionDifference("5.15", before=unconnected, after=connected, cite=cite)
    for end, socket in enumerate((first, second)):
        expect(connected, end=end).of(witness.rows("unix")[witness.inode(socket.fd)][4:6], result)
    told = [[socket.fd, int(AF_UNIX), int(kind.type), "", "", "NONE"] for socket in (first, second)]
    expect(told, witness="psutil").of(witness.connections(os.getpid()), result)


@behaviour("socket.pair.end", f"{SOURCE_UNIX}; read(2), write(2) EPIPE; unix_release_sock")
@pytest.mark.parametrize("kind", [UNIX_STREAM, UNIX_SEQPACKET], ids=str)
def test_end(kind, ends, calls, memory, expect):
    """When one end is closed the other reads what is left and then the end of file, and writing fails with EPIPE."""
    for closed in (0, 1):
        sockets = ends(kind)[:2]
        gone, left = sockets[closed], sockets[1 - closed]
        data, room = memory.guarded(b"last words"), memory.guarded(64)
        need(calls.plain("write", gone.fd, data, data.size))
        need(gone.close())
        expect(data.size, closed=closed, read="left").of(calls.plain("read", left.fd, room, room.size))
        expect(0, closed=closed, read="end").of(calls.plain("read", left.fd, room, room.size))
        expect(-EPIPE, closed=closed, write="send").of(calls.make("send", left.fd, data, data.size, MSG_NOSIGNAL))


@behaviour("socket.pair.sv", f"{SOURCE} put_user(fd1, &usockvec[0])")
def test_sv(calls, memory, expect):
    """sv takes exactly eight bytes, at any alignment, across pages, and nothing around it changes."""
    room = memory.alloc(4 * PAGE, PAGE)
    for offset in (*range(1, 8), PAGE - 7, PAGE - 4, PAGE - 1):
        room.write(b"\xa5" * room.size)
        free = witness.lowest(2)
        announced = expect(0, offset=offset)
        result = calls.make("socketpair", AF_UNIX, STREAM, 0, room.part(offset))
        announced.of(result)
        whole = b"\xa5" * offset + struct.pack("<ii", *free) + b"\xa5" * (room.size - offset - 8)
        expect(True, offset=offset, told="memory").of(room.read() == whole, result)
        expect(struct.pack("<ii", *free), offset=offset, told="sv").of(room.part(offset, 8).read(), result)
        need(calls.close(free[0]))
        need(calls.close(free[1]))
