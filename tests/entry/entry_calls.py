"""The documented calls, made once each with arguments that make them succeed: what tests of the entry go through."""

import os
import socket
import struct
from errno import EINTR

from probes.abi import sockaddr
from probes.abi.operations import OPERATIONS
from probes.abi.syscalls import SYSCALLS
from probes.entry.gate import REGISTERS, WORD
from probes.testing.procfs import lowest

RESULT, *OTHERS = REGISTERS[WORD]
#: Nothing that a register holds by chance: no pointer, no small number, another in each.
PATTERN = {name: 0x9E3779B97F4A7C15 * (1 + index) & ((1 << WORD) - 1) for index, name in enumerate(REGISTERS[WORD])}
#: Numbers by name, from the kernel's own table.
NUMBER = {name: number for number, (name, _, _) in SYSCALLS.items()}
_FIONREAD, _F_GETFD, _F_GETFL, _POLLIN = 0x541B, 1, 3, 1
#: Descriptors that nothing else here reaches.
_HIGH = (100, 101)


def converse(do, memory):
    """Every documented call once, between the two ends of a connection and of a pair.

    do(name, answer, *words) makes one by its name in the table of numbers, and returns its result. The answer is what
    these words get from that call.
    """
    _connection(do, memory)
    _pair(do, memory)
    do("getpid", os.getpid())
    # Nothing was interrupted that could go on: do_no_restart_syscall.
    do("restart_syscall", -EINTR)


def _connection(do, memory):
    address, text, one = memory.put(sockaddr.inet("127.0.0.1", 5000)), memory.put(b"abc"), memory.words(1)
    room, length = memory.alloc(16), memory.words(16)
    vector = memory.words(text, 3), memory.words(room, 3)
    out, into = (memory.words(0, 0, iov, 1, 0, 0, 0, 0) for iov in vector)
    server = do("socket", lowest()[0], socket.AF_INET, socket.SOCK_STREAM, 0)
    do("setsockopt", 0, server, socket.SOL_SOCKET, socket.SO_KEEPALIVE, one, 4)
    do("bind", 0, server, address, 16)
    do("listen", 0, server, 1)
    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM).detach()
    do("connect", 0, client, address, 16)
    peer = do("accept4", lowest()[0], server, room, length, 0)
    do("getsockname", 0, peer, room, length)
    do("getpeername", 0, client, room, length)
    do("getsockopt", 0, client, socket.SOL_SOCKET, socket.SO_TYPE, room, length)
    do("sendto", 3, client, text, 3, 0, 0, 0)
    do("recvfrom", 3, peer, room, 3, 0, 0, 0)
    do("sendmsg", 3, client, out, 0)
    do("recvmsg", 3, peer, into, 0)
    do("sendmmsg", 1, client, out, 1, 0)
    do("recvmmsg", 1, peer, into, 1, 0, 0)
    do("shutdown", 0, client, socket.SHUT_WR)


def _pair(do, memory):
    pair, text, room = memory.alloc(8), memory.put(b"abc"), memory.alloc(96)
    do("socketpair", 0, socket.AF_UNIX, socket.SOCK_STREAM, 0, pair)
    left, right = pair.words()
    do("write", 3, left, text, 3)
    do("ioctl", 0, right, _FIONREAD, room)
    do("poll", 1, memory.put(struct.pack("<ihh", right, _POLLIN, 0)), 1, 0)
    do("ppoll", 1, memory.put(struct.pack("<ihh", right, _POLLIN, 0)), 1, memory.words(0, 0), 0, 0)
    for call in ("_newselect", "pselect6"):
        do(call, 1, right + 1, memory.put(struct.pack("<Q", 1 << right)), 0, 0, memory.words(0, 0), *_no_mask(call))
    do("read", 3, right, room, 96)
    do("writev", 3, left, memory.words(text, 3), 1)
    do("readv", 3, right, memory.words(room, 96), 1)
    do("fcntl", 0, left, _F_GETFD, 0)
    do("fcntl64", os.O_RDWR, left, _F_GETFL, 0)
    do("fstat64", 0, left, room)
    do("dup", lowest()[0], left)
    do("dup2", _HIGH[0], left, _HIGH[0])
    do("dup3", _HIGH[1], left, _HIGH[1], os.O_CLOEXEC)
    do("close", 0, left)


def _no_mask(call):
    # pselect6 has six words; _newselect five, and takes no notice of a sixth register.
    return (0,) if call == "pselect6" else ()


def by_route(route, name, words, memory):
    """The registers, from eax on, that make a call over a route: through socketcall if it is one of the 20."""
    words = [int(word) for word in words]
    if name not in OPERATIONS:
        return [NUMBER[name], *words]
    operation = OPERATIONS[name]
    if route == "direct":
        return [NUMBER[operation.direct_name], *words, *operation.fill]
    return [NUMBER["socketcall"], operation.call, int(memory.words(*words))]


def patterned(values):
    """Arguments of Gate.enter: values in the lower halves of the first registers, patterns in everything else."""
    filled = [PATTERN[name] for name in REGISTERS[WORD][:7]]
    filled[: len(values)] = [
        pattern >> 32 << 32 | value & 0xFFFFFFFF for pattern, value in zip(filled, values, strict=False)
    ]
    return filled, {name: PATTERN[name] for name in REGISTERS[WORD][7:]}


def kept(result):
    """The registers after a call, without the one that has its result."""
    return {name: value for name, value in result.regs_out.items() if name != RESULT}


def before(filled, others):
    """What `kept` has if the call kept it."""
    return dict(zip(OTHERS[:6], filled[1:], strict=True)) | others


def own(route, calls):
    """Of these calls, or of things with a `call`, what a route has for itself: a plain call has just its number."""
    return [call for call in calls if route == "direct" or getattr(call, "call", call) in OPERATIONS]
