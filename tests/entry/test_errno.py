"""Results and errors: -4095 to -1 is an error, and a wrapper makes -1 and errno of it."""

import ctypes
import fcntl
import os
import socket
import struct
from errno import (
    EAFNOSUPPORT,
    EBADF,
    EDESTADDRREQ,
    EFAULT,
    EINTR,
    EINVAL,
    ENOTCONN,
    ENOTSOCK,
    ENOTTY,
    EOPNOTSUPP,
    EPROTONOSUPPORT,
)
from pathlib import Path

import pytest

from probes.entry.gate import WORD
from probes.testing import Broke, behaviour, need
from tests.entry.entry_calls import NUMBER, by_route

SOURCE = "syscall(2); intro(2) `error code`, errno(3); S3 1 _syscall1; include/linux/err.h MAX_ERRNO"
#: Numbers of this word size for what libc has no function for.
RESTART_SYSCALL, FCNTL = {32: (0, NUMBER["fcntl64"]), 64: (219, 72)}[WORD]
#: libc's names for calls that the i386 table names by their layout.
LIBC_NAME = {"_newselect": "select", "pselect6": "pselect", "fstat64": "fstat", "fcntl64": "fcntl"}
MAX_ERRNO = 4095

_libc = ctypes.CDLL(None, use_errno=True)


def libc(name, *words):
    """[what a function of libc returns, errno]; errno was 0 before."""
    ctypes.set_errno(0)
    returned = getattr(_libc, name)(*(ctypes.c_long(int(word)) for word in words))
    return [returned, ctypes.get_errno()]


#: Calls with a descriptor, and words that follow it. None of them is looked at when the descriptor is refused.
DESCRIPTOR = {
    "bind": (0, 0), "connect": (0, 0), "listen": (0,), "accept": (0, 0), "getsockname": (0, 0), "getpeername": (0, 0),
    "send": (0, 0, 0), "recv": (0, 0, 0), "sendto": (0, 0, 0, 0, 0), "recvfrom": (0, 0, 0, 0, 0), "shutdown": (0,),
    "setsockopt": (1, 2, 0, 0), "getsockopt": (1, 2, 0, 0), "sendmsg": (0, 0), "recvmsg": (0, 0), "accept4": (0, 0, 0),
    "recvmmsg": (0, 0, 0, 0), "sendmmsg": (0, 0, 0),
}  # fmt: skip
PLAIN = {
    "read": (0, 0), "write": (0, 0), "close": (), "dup": (), "dup2": (9,), "dup3": (9, 0), "ioctl": (0, 0),
    "fcntl": (1, 0), "fcntl64": (1, 0), "readv": (0, 0), "writev": (0, 0), "fstat64": (0,),
}  # fmt: skip


def others(memory, udp, pipe):
    """Errors of other kinds: for each of them a call, and its words."""
    hole = memory.unmapped()
    return [
        (EAFNOSUPPORT, "socket", -1, 1, 0), (EINVAL, "socket", 2, 0x101, 0), (EPROTONOSUPPORT, "socket", 2, 1, 17),
        (EOPNOTSUPP, "socketpair", 2, 1, 0, memory.alloc(8)), (EFAULT, "socketpair", 1, 1, 0, hole),
        (EINVAL, "bind", udp, memory.alloc(16), 1), (EFAULT, "connect", udp, hole, 16),
        (EOPNOTSUPP, "listen", udp, 1), (EOPNOTSUPP, "accept", udp, 0, 0), (EINVAL, "accept4", udp, 0, 0, 1),
        (ENOTCONN, "getpeername", udp, hole, hole), (EFAULT, "getsockname", udp, hole, hole),
        (EDESTADDRREQ, "send", udp, hole, 0, 0), (ENOTCONN, "shutdown", udp, 0),
        (EFAULT, "setsockopt", udp, 1, 2, hole, 4), (EFAULT, "getsockopt", udp, 1, 2, hole, hole),
        (EFAULT, "sendmsg", udp, hole, 0), (EFAULT, "recvmsg", udp, hole, 0),
        (EFAULT, "sendmmsg", udp, hole, 1, 0), (EFAULT, "recvmmsg", udp, hole, 1, 0, 0),
        (EFAULT, "write", pipe, hole, 1), (EBADF, "read", pipe, hole, 1), (EFAULT, "writev", pipe, hole, 1),
        (ENOTTY, "ioctl", pipe, 0x5401, hole), (EINVAL, "fcntl", pipe, 0xBAD, 0), (EINVAL, "dup3", pipe, pipe, 0),
        (EFAULT, "poll", hole, 1, 0), (EINVAL, "poll", hole, 0x7FFFFFFF, 0),
        (EFAULT, "ppoll", hole, 1, 0, 0, 0), (EINVAL, "_newselect", -1, 0, 0, 0, 0),
        (EFAULT, "_newselect", 1, hole, 0, 0, 0), (EINVAL, "pselect6", -1, 0, 0, 0, 0, 0),
        (EFAULT, "pselect6", 1, hole, 0, 0, 0, 0),
    ]  # fmt: skip


@pytest.fixture
def agree(the_gate, entry, memory, expect):
    """agree(value, name, *words): the raw call gives a value, and libc's own the same, or -1 and errno for an error."""

    def judge(value, name, *words, **case):
        registers = by_route(entry.route, name, words, memory)
        check = expect(value, call=name, **case, made="raw")
        raw = the_gate.enter(*registers)
        check.of(raw)
        wrapped = [-1, -value] if -MAX_ERRNO <= value <= -1 else [value, 0]
        expect(wrapped, call=name, **case, made="libc").of(libc(LIBC_NAME.get(name, name), *words), raw)

    return judge


@behaviour("entry.errno.descriptor", f"{SOURCE}; the RETURN VALUE of each call")
def test_descriptor(agree):
    """The raw call and libc's agree for every documented call with a descriptor: -EBADF is -1 and EBADF, and ENOTSOCK
    for those of sockets.
    """
    pipe = os.pipe()[1]
    for name, rest in (DESCRIPTOR | PLAIN).items():
        agree(-EBADF, name, -1, *rest, case="bad-descriptor")
    for name, rest in DESCRIPTOR.items():
        agree(-ENOTSOCK, name, pipe, *rest, case="pipe")


@behaviour("entry.errno.others", f"{SOURCE}; the ERRORS of each call")
def test_others(agree, memory, the_gate, expect):
    """The raw call and libc's agree about errors of every kind, for every documented call that can fail."""
    udp, pipe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach(), os.pipe()[1]
    for error, name, *words in others(memory, udp, pipe):
        agree(-error, name, *words, error=-error)
    raw = the_gate.enter(NUMBER["restart_syscall"])
    expect([-EINTR, [-1, EINTR]], call="restart_syscall").of([raw, libc("syscall", RESTART_SYSCALL)], raw)


@behaviour("entry.errno.values", f"{SOURCE}; the RETURN VALUE of each call")
def test_values(agree, memory):
    """The raw call and libc's agree about what is no error: 0, or the value, and errno is left alone."""
    left, right = (end.detach() for end in socket.socketpair())
    text, room = memory.put(b"abc"), memory.alloc(128)
    int32, length = memory.words(1), memory.words(16)
    readable = memory.put(struct.pack("<ihh", right, 1, 0))
    for value, name, *words in (
        (0, "setsockopt", left, socket.SOL_SOCKET, socket.SO_KEEPALIVE, int32, 4),
        (0, "getsockopt", left, socket.SOL_SOCKET, socket.SO_TYPE, room, length),
        (0, "getsockname", left, room, length), (0, "getpeername", left, room, length),
        (3, "send", left, text, 3, 0), (3, "sendto", left, text, 3, 0, 0, 0), (3, "write", left, text, 3),
        (1, "poll", readable, 1, 0), (0, "ioctl", right, 0x541B, room), (1, "fcntl", left, fcntl.F_GETFD, 0),
        (2, "fcntl64", left, fcntl.F_GETFL, 0), (3, "recv", right, room, 3, 0), (3, "read", right, room, 3),
        (3, "recvfrom", right, room, 3, 0, 0, 0), (50, "dup2", left, 50), (51, "dup3", left, 51, 0),
        (0, "shutdown", left, socket.SHUT_WR), (0, "fstat64", left, memory.alloc(256)), (os.getpid(), "getpid"),
        (0, "socketpair", socket.AF_UNIX, socket.SOCK_STREAM, 0, room),
    ):  # fmt: skip
        agree(value, name, *words)


@behaviour("entry.errno.range", f"{SOURCE}; fcntl(2) BUGS F_GETOWN; arch/x86 has no force_successful_syscall_return")
@pytest.mark.routes("direct")
def test_range(the_gate, expect):
    """The errors are -4095 to -1 and nothing else: the negative id of a process group comes back from F_GETOWN as it
    is, and a wrapper that knows no more takes the groups up to 4095 for an error, and 4096 for a value.
    """
    fd = socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach()
    for group in (2000, MAX_ERRNO - 1, MAX_ERRNO, MAX_ERRNO + 1, MAX_ERRNO + 2, 20000):
        child = of_number(group)
        need(the_gate.enter(NUMBER["fcntl64"], fd, fcntl.F_SETOWN, -group), "an owner")
        check = expect(-group, group=group, made="raw")
        raw = the_gate.enter(NUMBER["fcntl64"], fd, fcntl.F_GETOWN)
        check.of(raw)
        taken = [-1, group] if group <= MAX_ERRNO else [-group, 0]
        expect(taken, group=group, made="syscall").of(libc("syscall", FCNTL, fd, fcntl.F_GETOWN, 0), raw)
        expect([-group, 0], group=group, made="fcntl").of(libc("fcntl", fd, fcntl.F_GETOWN, 0), raw)
        os.kill(child, 9)
        os.waitpid(child, 0)


def of_number(number):
    """A child with that process id, in a process group of its own."""
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(number - 1))
    hold = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(hold[1])
        os.read(hold[0], 1)
        os._exit(0)
    if child != number:
        raise Broke(f"the process id {number} is taken")
    os.setpgid(child, child)
    return child


@behaviour("entry.errno.large-values", f"{SOURCE}; mmap(2); include/linux/err.h IS_ERR_VALUE")
@pytest.mark.routes("direct")
@pytest.mark.sandbox(trace="calls")  # mmap2 has six arguments.
def test_large_values(the_gate, expect):
    """A result with its top bit set is a value unless it lies in the last 4095: an address above 2 GiB."""
    private_anonymous_fixed = 0x100022
    address = 0x90000000
    expect(address - (1 << 32), call="mmap2").of(
        the_gate.enter(NUMBER["mmap2"], address, 4096, 3, private_anonymous_fixed, 0xFFFFFFFF, 0)
    )
    expect(-EINVAL, call="mmap2", length="none").of(the_gate.enter(NUMBER["mmap2"], address, 0, 3, 0x22, 0xFFFFFFFF, 0))
