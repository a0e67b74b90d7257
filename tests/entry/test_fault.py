"""Pointers that the kernel cannot read or write: EFAULT, and nothing half done."""

import fcntl
import os
import select
import socket
import struct
from errno import EFAULT, errorcode
from typing import NamedTuple

import pytest

from probes.abi import sockaddr
from probes.entry.memory import PROT_NONE, PROT_READ, pack_words
from probes.testing import behaviour
from probes.testing.procfs import descriptors
from tests.entry.entry_calls import own

SOURCE_IN = "S2 4.4 copy_from_user; intro(2) EFAULT, the ERRORS of each call; lib/usercopy.c _copy_from_user"
SOURCE_OUT = "S2 4.4 copy_to_user; intro(2) EFAULT, the ERRORS of each call; lib/usercopy.c _copy_to_user"
SOURCE_NOTHING = "S2 4.4 silly_foo: `return -EFAULT` before anything is done; the ERRORS of each call"

ADDRESS = sockaddr.inet("127.0.0.1", 5000)
FIONREAD, FIONBIO, F_SETOWN_EX, F_GETOWN_EX, POLLIN = 0x541B, 0x5421, 15, 16, 1
MESSAGE = b"abc"
KEEPALIVE = (socket.SOL_SOCKET, socket.SO_KEEPALIVE)


class Case(NamedTuple):
    """A call with a pointer: what the pointer has to point to, the words around it, what the call answers then."""

    call: str
    argument: str
    content: bytes
    words: object
    answer: int


class World:
    """What the calls are made on."""

    def __init__(self, memory):
        self.memory = memory
        udp, (left, right) = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socketpair()
        left.send(MESSAGE)
        self.text, self.room, self.length = memory.put(MESSAGE), memory.alloc(96), memory.words(16)
        self.files = udp.detach(), left.detach(), right.detach()

    def sets(self):
        """A set with the readable end in whole words, as the kernel copies it, and its size."""
        readable = self.files[2]
        return readable + 1, self.memory.put((1 << readable).to_bytes(readable // 32 * 4 + 4, "little"))

    def read(self):
        """Everything that a call reads by a pointer."""
        udp, left, right = self.files
        put, iov = self.memory.put, pack_words(self.text.address, 3)
        vector = put(iov)
        header = pack_words(0, 0, vector.address, 1, 0, 0, 0)
        name = pack_words(put(ADDRESS).address, 16, vector.address, 1, 0, 0, 0)
        beyond, bits = self.sets()
        readable, owner = struct.pack("<ihh", right, POLLIN, 0), struct.pack("<ii", 1, os.getpid())
        return [
            Case("sendto", "addr", ADDRESS, lambda p: (udp, self.text, 3, 0, p, 16), 3),
            Case("sendto", "buf", MESSAGE, lambda p: (udp, p, 3, 0, put(ADDRESS), 16), 3),
            Case("sendmsg", "msg", name, lambda p: (udp, p, 0), 3),
            Case("sendmsg", "name", ADDRESS, lambda p: (udp, put(pack_words(p, 16, vector.address, 1, 0, 0, 0)), 0), 3),
            Case("sendmsg", "iov", iov, lambda p: (left, put(pack_words(0, 0, p, 1, 0, 0, 0)), 0), 3),
            Case("sendmmsg", "msgvec", header, lambda p: (left, p, 1, 0), None),
            Case("send", "buf", MESSAGE, lambda p: (left, p, 3, 0), 3),
            Case("setsockopt", "optval", pack_words(1), lambda p: (udp, *KEEPALIVE, p, 4), 0),
            Case("connect", "addr", ADDRESS, lambda p: (udp, p, 16), 0),
            Case("bind", "addr", ADDRESS, lambda p: (socket.socket(socket.AF_INET).detach(), p, 16), 0),
            Case("getsockname", "addrlen", pack_words(16), lambda p: (left, self.room, p), 0),
            Case("getpeername", "addrlen", pack_words(16), lambda p: (left, self.room, p), 0),
            Case("getsockopt", "optlen", pack_words(4), lambda p: (left, *KEEPALIVE, self.room, p), 0),
            Case("recvmmsg", "timeout", pack_words(9, 9), lambda p: (right, put(header + bytes(4)), 1, 0x42, p), 1),
            Case("write", "buf", MESSAGE, lambda p: (left, p, 3), 3),
            Case("writev", "iov", iov, lambda p: (left, p, 1), 3),
            Case("poll", "fds", readable, lambda p: (p, 1, 0), 1),
            Case("ppoll", "fds", readable, lambda p: (p, 1, put(bytes(8)), 0, 0), 1),
            Case("ppoll", "timeout", bytes(8), lambda p: (put(readable), 1, p, 0, 0), 1),
            Case("ppoll", "sigmask", bytes(8), lambda p: (put(readable), 1, put(bytes(8)), p, 8), 1),
            Case("_newselect", "readfds", bits.read(), lambda p: (beyond, p, 0, 0, put(bytes(8))), 1),
            Case("_newselect", "timeout", bytes(8), lambda p: (beyond, bits, 0, 0, p), 1),
            Case("pselect6", "writefds", bits.read(), lambda p: (beyond, 0, p, 0, put(bytes(8)), 0), 1),
            Case("pselect6", "timeout", bytes(8), lambda p: (beyond, self.sets()[1], 0, 0, p, 0), 1),
            Case("ioctl", "FIONBIO", pack_words(0), lambda p: (udp, FIONBIO, p), 0),
            Case("fcntl64", "F_SETOWN_EX", owner, lambda p: (udp, F_SETOWN_EX, p), 0),
            Case("readv", "iov", pack_words(self.room.address, 3), lambda p: (right, p, 1), 3),
        ]  # fmt: skip

    def written(self):
        """Everything that a call writes by a pointer."""
        udp, _, right = self.files
        put, new = self.memory.put, lambda: self.memory.words(16)
        beyond, bits = self.sets()
        readable = struct.pack("<ihh", right, POLLIN, 0)
        into = lambda p: put(pack_words(0, 0, put(pack_words(p, 3)).address, 1, 0, 0, 0))  # noqa: E731
        return [
            Case("getsockname", "addr", ADDRESS, lambda p: (udp, p, new()), 0),
            Case("getsockopt", "optval", bytes(4), lambda p: (udp, *KEEPALIVE, p, put(pack_words(4))), 0),
            Case("socketpair", "sv", bytes(8), lambda p: (socket.AF_UNIX, socket.SOCK_STREAM, 0, p), 0),
            Case("poll", "fds", readable, lambda p: (p, 1, 0), 1),
            Case("ppoll", "fds", readable, lambda p: (p, 1, put(bytes(8)), 0, 0), 1),
            Case("_newselect", "readfds", bits.read(), lambda p: (beyond, p, 0, 0, put(bytes(8))), 1),
            Case("fstat64", "statbuf", bytes(96), lambda p: (udp, p), 0),
            Case("ioctl", "FIONREAD", bytes(4), lambda p: (right, FIONREAD, p), 0),
            Case("fcntl64", "F_GETOWN_EX", bytes(8), lambda p: (udp, F_GETOWN_EX, p), 0),
            Case("recvmsg", "buf", MESSAGE, lambda p: (right, into(p), socket.MSG_PEEK), 3),
            Case("recvfrom", "buf", MESSAGE, lambda p: (right, p, 3, socket.MSG_PEEK, 0, 0), 3),
            Case("recv", "buf", MESSAGE, lambda p: (right, p, 3, socket.MSG_PEEK), 3),
            Case("readv", "buf", MESSAGE, lambda p: (right, put(pack_words(p, 3)), 1), 3),
        ]  # fmt: skip


@pytest.fixture
def world(memory):
    """What the calls are made on."""
    return World(memory)


def judge(expect, enter, case, pointers):
    """One check: EFAULT for each of these bad pointers."""
    check = expect([-EFAULT] * len(pointers), call=case.call, argument=case.argument, pointers=len(pointers))
    results = [enter(case.call, *case.words(int(pointer))) for pointer in pointers]
    check.of(results, *results)


@behaviour("entry.fault.read", SOURCE_IN)
def test_read(enter, entry, world, memory, expect):
    """A pointer to what the kernel cannot read fails with EFAULT: an unmapped page, one without access, the last page
    of all, and anything whose last byte, or any more, lies in such a page. With its last byte there the call works.
    """
    for case in own(entry.route, world.read()):
        size = len(case.content)
        bad = [memory.guarded(case.content[:length]) for length in range(size)]
        bad += [memory.unmapped(), memory.guarded(case.content, PROT_NONE), 0xFFFFF000]
        judge(expect, enter, case, bad)
        if case.answer is not None:
            whole = memory.guarded(case.content)
            check = expect(case.answer, call=case.call, argument=case.argument)
            check.of(enter(case.call, *case.words(int(whole))))


@behaviour("entry.fault.written", SOURCE_OUT)
def test_written(enter, entry, world, memory, expect):
    """A pointer to what the kernel cannot write fails with EFAULT: memory that may only be read, an unmapped page, and
    anything whose last byte, or any more, lies in such a page. With its last byte there the call works.
    """
    for case in own(entry.route, world.written()):
        size = len(case.content)
        bad = [memory.guarded(case.content[:length]) for length in range(size)]
        bad += [memory.unmapped(), memory.guarded(case.content, PROT_READ), 0xFFFFF000]
        judge(expect, enter, case, bad)
        check = expect(case.answer, call=case.call, argument=case.argument)
        check.of(enter(case.call, *case.words(int(memory.guarded(case.content)))))


@pytest.fixture
def nothing_done(enter, expect):
    """nothing_done(name, words, witness): EFAULT from the call, and what the witness says is as it was before."""

    def judge(name, words, witness, **case):
        before = witness()
        check = expect(-EFAULT, call=name, **case)
        result = enter(name, *words)
        check.of(result)
        expect(before, call=name, **case, afterwards="same").of(witness(), result)

    return judge


@behaviour("entry.fault.nothing-set", SOURCE_NOTHING)
def test_nothing_set(nothing_done, entry, memory, keep):
    """A call that fails with EFAULT has set nothing: no name, no peer, no option, no mode, no owner."""
    udp = keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    fd, hole = udp.fileno(), memory.unmapped()
    for kind, address, option in (("unmapped", hole, hole), ("partly", memory.guarded(15), memory.guarded(3))):
        nothing_done("bind", (fd, address, 16), udp.getsockname, pointer=kind)
        nothing_done("connect", (fd, address, 16), lambda: peer_of(udp), pointer=kind)
        nothing_done("setsockopt", (fd, *KEEPALIVE, option, 4), lambda: udp.getsockopt(*KEEPALIVE), pointer=kind)
        if entry.route == "direct":
            nothing_done("ioctl", (fd, FIONBIO, option), lambda: os.get_blocking(fd), pointer=kind)
            nothing_done("fcntl64", (fd, F_SETOWN_EX, option), lambda: fcntl.fcntl(fd, fcntl.F_GETOWN), pointer=kind)


def peer_of(sock):
    """The name of the other end, or the error."""
    try:
        return sock.getpeername()
    except OSError as error:
        return errorcode[error.errno]


@behaviour("entry.fault.nothing-sent", f"{SOURCE_NOTHING}; send(2), write(2), writev(2)")
@pytest.mark.parametrize("kind", ["unix", "udp", "tcp"])
def test_nothing_sent(kind, nothing_done, entry, memory, keep):
    """A call that fails with EFAULT has sent nothing, not even the part that could be read."""
    left, right = keep(*PAIRS[kind]())
    fd, hole = left.fileno(), memory.unmapped()
    vector = memory.words(memory.put(MESSAGE), 3, hole, 3)
    calls = {
        "send": (hole, 3, 0), "sendto": (memory.guarded(2), 3, 0, 0, 0), "sendmsg": (hole, 0),
        "write": (memory.guarded(2), 3), "writev": (vector, 2),
    }  # fmt: skip
    for name in own(entry.route, calls):
        nothing_done(name, (fd, *calls[name]), lambda: waiting(right))
    message = memory.words(0, 0, vector, 2, 0, 0, 0, 0)
    nothing_done("sendmsg", (fd, message, 0), lambda: waiting(right), part="second")
    nothing_done("sendmmsg", (fd, message, 1, 0), lambda: waiting(right), part="second")


def waiting(sock):
    """What there is to receive; it stays."""
    try:
        return sock.recv(64, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return "nothing"


@behaviour(
    "entry.fault.nothing-taken", f"{SOURCE_NOTHING}; recv(2), read(2), readv(2); unix_stream_read_generic, tcp_recvmsg"
)
@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_nothing_taken(kind, nothing_done, entry, memory, keep):
    """A call that fails with EFAULT takes nothing out of a stream: all that was there can be received afterwards."""
    left, right = keep(*PAIRS[kind]())
    left.send(MESSAGE)
    select.select([right], [], [])
    fd, hole, part = right.fileno(), memory.unmapped(), memory.guarded(2)
    into = memory.words(0, 0, memory.words(hole, 3), 1, 0, 0, 0, 0)
    calls = {
        "recv": (hole, 3, 0), "recvfrom": (part, 3, 0, 0, 0), "recvmsg": (into, 0), "recvmmsg": (into, 1, 0, 0),
        "read": (part, 3), "readv": (memory.words(part, 3), 1),
    }  # fmt: skip
    for name in own(entry.route, calls):
        nothing_done(name, (fd, *calls[name]), lambda: waiting(right))


@behaviour("entry.fault.no-descriptor", f"{SOURCE_NOTHING}; socketpair(2); __sys_socketpair")
def test_no_descriptor(nothing_done, memory):
    """A call that fails with EFAULT leaves no descriptor behind."""
    kinds = {"unmapped": memory.unmapped(), "first-only": memory.guarded(4), "read-only": memory.guarded(8, PROT_READ)}
    for kind, pointer in kinds.items():
        nothing_done("socketpair", (socket.AF_UNIX, socket.SOCK_STREAM, 0, pointer), descriptors, pointer=kind)


def udp_pair():
    """Two connected datagram sockets."""
    ends = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for end in ends:
        end.bind(("127.0.0.1", 0))
    for end, other in zip(ends, reversed(ends), strict=True):
        end.connect(other.getsockname())
    return ends


def tcp_pair():
    """The two ends of a connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return socket.create_connection(server.getsockname()), server.accept()[0]


PAIRS = {"unix": socket.socketpair, "udp": udp_pair, "tcp": tcp_pair}
