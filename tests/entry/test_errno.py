"""Judges results: -4095 to -1 is an error, which libc turns into -1 and errno, and anything else a value."""

import ctypes
import fcntl
import os
import signal
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
from typing import SupportsInt

import pytest

from probes.entry.gate import WORD
from probes.entry.memory import Memory
from probes.testing import Broke, behaviour, need, not_applicable
from tests.entry.documented_calls import DocumentedCall, judged_over
from tests.entry.registers import NUMBER

SOURCE = "syscall(2); intro(2) `error code`, errno(3); S3 1 _syscall1; include/linux/err.h MAX_ERRNO"
#: Numbers of this word size, for calls that libc has no function for.
RESTART_SYSCALL, FCNTL = {32: (0, NUMBER["fcntl64"]), 64: (219, 72)}[WORD]
#: libc's names for calls that the i386 table names by their layout.
LIBC_NAME = {"_newselect": "select", "pselect6": "pselect", "fstat64": "fstat", "fcntl64": "fcntl"}
MAX_ERRNO = 4095

_libc = ctypes.CDLL(None, use_errno=True)


def libc(name: str, *words: SupportsInt) -> list[int]:
    """Calls a function of libc with errno 0 and returns [its result, errno]."""
    ctypes.set_errno(0)
    returned = getattr(_libc, name)(*(ctypes.c_long(int(word)) for word in words))
    return [returned, ctypes.get_errno()]


def by_libc(call: DocumentedCall) -> list[int]:
    """Makes a call through libc's wrapper of it and returns [its result, errno]."""
    return libc(LIBC_NAME.get(call.name, call.name), *call.words)


def wrapped(value: int) -> list[int]:
    """Returns what a wrapper makes of a result: [result, errno]."""
    return [-1, -value] if -MAX_ERRNO <= value <= -1 else [value, 0]


#: Calls with a descriptor, and the words that follow it, which a bad descriptor keeps the kernel from using.
OF_SOCKETS = {
    "bind": (0, 0), "connect": (0, 0), "listen": (0,), "accept": (0, 0), "getsockname": (0, 0), "getpeername": (0, 0),
    "send": (0, 0, 0), "recv": (0, 0, 0), "sendto": (0, 0, 0, 0, 0), "recvfrom": (0, 0, 0, 0, 0), "shutdown": (0,),
    "setsockopt": (1, 2, 0, 0), "getsockopt": (1, 2, 0, 0), "sendmsg": (0, 0), "recvmsg": (0, 0), "accept4": (0, 0, 0),
    "recvmmsg": (0, 0, 0, 0), "sendmmsg": (0, 0, 0),
}  # fmt: skip
OF_FILES = {
    "read": (0, 0), "write": (0, 0), "close": (), "dup": (), "dup2": (9,), "dup3": (9, 0), "ioctl": (0, 0),
    "fcntl": (1, 0), "fcntl64": (1, 0), "readv": (0, 0), "writev": (0, 0), "fstat64": (0,),
}  # fmt: skip


@pytest.mark.python
@behaviour("entry.errno.descriptor", f"{SOURCE}; the RETURN VALUE of each call")
def test_descriptor(entry, enter, expect):
    """Every call with a descriptor returns -EBADF for -1, and a socket call -ENOTSOCK for a pipe; libc's wrapper
    returns -1 and sets errno.
    """
    pipe = os.pipe()[1]
    every = OF_SOCKETS | OF_FILES
    cases = {
        "bad-descriptor": [DocumentedCall(name, (-1, *words), -EBADF) for name, words in every.items()],
        "pipe": [DocumentedCall(name, (pipe, *words), -ENOTSOCK) for name, words in OF_SOCKETS.items()],
    }
    for case, calls in cases.items():
        for call in judged_over(entry.route, calls):
            by_gate = expect(call.returns, call=call.name, case=case, made="raw")
            by_wrapper = expect(wrapped(call.returns), call=call.name, case=case, made="libc")
            result = enter(call.name, *call.words)
            by_gate.of(result)
            by_wrapper.of(by_libc(call), result)


def failing_calls(memory: Memory, udp: int, pipe: int) -> list[DocumentedCall]:
    """Returns calls that fail with other errors."""
    hole, pair, address = memory.unmapped(), memory.alloc(8), memory.alloc(16)
    return [
        DocumentedCall("socket", (-1, 1, 0), -EAFNOSUPPORT),
        DocumentedCall("socket", (2, 0x101, 0), -EINVAL),
        DocumentedCall("socket", (2, 1, 17), -EPROTONOSUPPORT),
        DocumentedCall("socketpair", (2, 1, 0, pair), -EOPNOTSUPP),
        DocumentedCall("socketpair", (1, 1, 0, hole), -EFAULT),
        DocumentedCall("bind", (udp, address, 1), -EINVAL),
        DocumentedCall("connect", (udp, hole, 16), -EFAULT),
        DocumentedCall("listen", (udp, 1), -EOPNOTSUPP),
        DocumentedCall("accept", (udp, 0, 0), -EOPNOTSUPP),
        DocumentedCall("accept4", (udp, 0, 0, 1), -EINVAL),
        DocumentedCall("getpeername", (udp, hole, hole), -ENOTCONN),
        DocumentedCall("getsockname", (udp, hole, hole), -EFAULT),
        DocumentedCall("send", (udp, hole, 0, 0), -EDESTADDRREQ),
        DocumentedCall("shutdown", (udp, 0), -ENOTCONN),
        DocumentedCall("setsockopt", (udp, 1, 2, hole, 4), -EFAULT),
        DocumentedCall("getsockopt", (udp, 1, 2, hole, hole), -EFAULT),
        DocumentedCall("sendmsg", (udp, hole, 0), -EFAULT),
        DocumentedCall("recvmsg", (udp, hole, 0), -EFAULT),
        DocumentedCall("sendmmsg", (udp, hole, 1, 0), -EFAULT),
        DocumentedCall("recvmmsg", (udp, hole, 1, 0, 0), -EFAULT),
        DocumentedCall("write", (pipe, hole, 1), -EFAULT),
        DocumentedCall("read", (pipe, hole, 1), -EBADF),
        DocumentedCall("writev", (pipe, hole, 1), -EFAULT),
        DocumentedCall("ioctl", (pipe, 0x5401, hole), -ENOTTY),
        DocumentedCall("fcntl", (pipe, 0xBAD, 0), -EINVAL),
        DocumentedCall("dup3", (pipe, pipe, 0), -EINVAL),
        DocumentedCall("poll", (hole, 1, 0), -EFAULT),
        DocumentedCall("poll", (hole, 0x7FFFFFFF, 0), -EINVAL),
        DocumentedCall("ppoll", (hole, 1, 0, 0, 0), -EFAULT),
        DocumentedCall("_newselect", (-1, 0, 0, 0, 0), -EINVAL),
        DocumentedCall("_newselect", (1, hole, 0, 0, 0), -EFAULT),
        DocumentedCall("pselect6", (-1, 0, 0, 0, 0, 0), -EINVAL),
        DocumentedCall("pselect6", (1, hole, 0, 0, 0, 0), -EFAULT),
    ]


@pytest.mark.python
@behaviour("entry.errno.others", f"{SOURCE}; the ERRORS of each call")
def test_others(entry, enter, memory, expect):
    """A call that fails returns the negative error number; libc's wrapper returns -1 and sets errno to it."""
    udp, pipe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach(), os.pipe()[1]
    for call in judged_over(entry.route, failing_calls(memory, udp, pipe)):
        by_gate = expect(call.returns, call=call.name, error=call.returns, made="raw")
        by_wrapper = expect(wrapped(call.returns), call=call.name, error=call.returns, made="libc")
        result = enter(call.name, *call.words)
        by_gate.of(result)
        by_wrapper.of(by_libc(call), result)
    if entry.route == "direct":
        check = expect([-EINTR, [-1, EINTR]], call="restart_syscall")
        result = enter("restart_syscall")
        check.of([result, libc("syscall", RESTART_SYSCALL)], result)


def succeeding_calls(memory: Memory, left: int, right: int) -> list[DocumentedCall]:
    """Returns calls on the two ends of a socket pair that succeed when each is made twice, in this order."""
    text, room, status = memory.put(b"abc"), memory.alloc(128), memory.alloc(256)
    one, length, readable = memory.words(1), memory.words(16), memory.put(struct.pack("<ihh", right, 1, 0))
    return [
        DocumentedCall("setsockopt", (left, socket.SOL_SOCKET, socket.SO_KEEPALIVE, one, 4), 0),
        DocumentedCall("getsockopt", (left, socket.SOL_SOCKET, socket.SO_TYPE, room, length), 0),
        DocumentedCall("getsockname", (left, room, length), 0),
        DocumentedCall("getpeername", (left, room, length), 0),
        DocumentedCall("send", (left, text, 3, 0), 3),
        DocumentedCall("sendto", (left, text, 3, 0, 0, 0), 3),
        DocumentedCall("write", (left, text, 3), 3),
        DocumentedCall("poll", (readable, 1, 0), 1),
        DocumentedCall("ioctl", (right, 0x541B, room), 0),
        DocumentedCall("fcntl", (left, fcntl.F_GETFD, 0), 1),
        DocumentedCall("fcntl64", (left, fcntl.F_GETFL, 0), 2),
        DocumentedCall("recv", (right, room, 3, 0), 3),
        DocumentedCall("read", (right, room, 3), 3),
        DocumentedCall("recvfrom", (right, room, 3, 0, 0, 0), 3),
        DocumentedCall("dup2", (left, 50), 50),
        DocumentedCall("dup3", (left, 51, 0), 51),
        DocumentedCall("shutdown", (left, socket.SHUT_WR), 0),
        DocumentedCall("fstat64", (left, status), 0),
        DocumentedCall("getpid", (), os.getpid()),
        DocumentedCall("socketpair", (socket.AF_UNIX, socket.SOCK_STREAM, 0, room), 0),
    ]


@pytest.mark.python
@behaviour("entry.errno.values", f"{SOURCE}; the RETURN VALUE of each call")
def test_values(entry, enter, memory, expect):
    """A call that succeeds returns 0 or a value; libc's wrapper returns the same and leaves errno as it was."""
    left, right = (end.detach() for end in socket.socketpair())
    for call in judged_over(entry.route, succeeding_calls(memory, left, right)):
        by_gate = expect(call.returns, call=call.name, made="raw")
        by_wrapper = expect(wrapped(call.returns), call=call.name, made="libc")
        result = enter(call.name, *call.words)
        by_gate.of(result)
        by_wrapper.of(by_libc(call), result)


@pytest.mark.python
@behaviour("entry.errno.range", f"{SOURCE}; fcntl(2) BUGS F_GETOWN; arch/x86 has no force_successful_syscall_return")
@pytest.mark.routes("direct")
def test_range(the_gate, expect, request):
    """-4096 is a value and -4095 an error: F_GETOWN returns the negative id of a process group, which a wrapper that
    does not know this takes for an error up to group 4095.
    """
    if request.config.getoption("isolation") != "full":
        not_applicable("a pid namespace of the sandbox's own, in which process ids can be chosen")
    fd = socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach()
    for group in (2000, MAX_ERRNO - 1, MAX_ERRNO, MAX_ERRNO + 1, MAX_ERRNO + 2, 20000):
        child = make_group(group)
        need(the_gate.enter(NUMBER["fcntl64"], fd, fcntl.F_SETOWN, -group), "an owner")
        by_gate = expect(-group, group=group, made="raw")
        by_syscall = expect([-1, group] if group <= MAX_ERRNO else [-group, 0], group=group, made="syscall")
        by_fcntl = expect([-group, 0], group=group, made="fcntl")
        result = the_gate.enter(NUMBER["fcntl64"], fd, fcntl.F_GETOWN)
        by_gate.of(result)
        by_syscall.of(libc("syscall", FCNTL, fd, fcntl.F_GETOWN, 0), result)
        by_fcntl.of(libc("fcntl", fd, fcntl.F_GETOWN, 0), result)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def make_group(number: int) -> int:
    """Forks a child with a process id, in a process group of its own. Raises Broke if the id is taken."""
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
    """A result with its top bit set is a value unless it is -4095 to -1: mmap2 returns an address above 2 GiB."""
    private_anonymous_fixed = 0x100022
    address = 0x90000000
    expect(address - (1 << 32), call="mmap2").of(
        the_gate.enter(NUMBER["mmap2"], address, 4096, 3, private_anonymous_fixed, 0xFFFFFFFF, 0)
    )
    expect(-EINVAL, call="mmap2", length="none").of(the_gate.enter(NUMBER["mmap2"], address, 0, 3, 0x22, 0xFFFFFFFF, 0))
