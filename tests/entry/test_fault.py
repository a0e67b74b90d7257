"""Judges pointers to memory that the kernel cannot read or write: the call fails with EFAULT and has no effect."""

import fcntl
import os
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass
from errno import EFAULT, errorcode
from typing import SupportsInt

import pytest

from probes.entry.memory import PROT_NONE, PROT_READ
from probes.testing import behaviour
from probes.testing.procfs import descriptors
from tests.entry.documented_calls import DocumentedCall, judged_over
from tests.entry.pointer_arguments import F_SETOWN_EX, FIONBIO, KEEPALIVE, MESSAGE, PointerArguments

SOURCE_IN = "S2 4.4 copy_from_user; intro(2) EFAULT, the ERRORS of each call; lib/usercopy.c _copy_from_user"
SOURCE_OUT = "S2 4.4 copy_to_user; intro(2) EFAULT, the ERRORS of each call; lib/usercopy.c _copy_to_user"
SOURCE_NOTHING = "S2 4.4 silly_foo: `return -EFAULT` before anything is done; the ERRORS of each call"
#: The address of the last page.
LAST_PAGE = 0xFFFFF000


@dataclass(frozen=True)
class FaultingCall:
    """A call with a bad pointer, and a function that reads the state that it must not change."""

    name: str
    words: tuple[SupportsInt, ...]
    read_state: Callable[[], object]


@behaviour("entry.fault.read", SOURCE_IN)
def test_read(enter, entry, memory, expect, caller):
    """A call that reads through a pointer fails with EFAULT for an unmapped page, a page without access, the last page,
    and an object of which any part lies in such a page. It succeeds if the object ends where the mapping does.
    """
    for case in judged_over(entry.route, PointerArguments(memory, caller).read()):
        bad = [memory.guarded(case.content[:length]) for length in range(len(case.content))]
        bad += [memory.unmapped(), memory.guarded(case.content, PROT_NONE), LAST_PAGE]
        check = expect([-EFAULT] * len(bad), call=case.name, argument=case.argument, pointers=len(bad))
        results = [enter(case.name, *case.words(int(pointer))) for pointer in bad]
        check.of(results, *results)
        if case.returns is not None:
            whole = int(memory.guarded(case.content))
            check = expect(case.returns, call=case.name, argument=case.argument)
            check.of(enter(case.name, *case.words(whole)))


@behaviour("entry.fault.written", SOURCE_OUT)
def test_written(enter, entry, memory, expect, caller):
    """A call that writes through a pointer fails with EFAULT for an unmapped page, a read-only page, the last page, and
    an object of which any part lies in such a page. It succeeds if the object ends where the mapping does.
    """
    for case in judged_over(entry.route, PointerArguments(memory, caller).written()):
        bad = [memory.guarded(case.content[:length]) for length in range(len(case.content))]
        bad += [memory.unmapped(), memory.guarded(case.content, PROT_READ), LAST_PAGE]
        check = expect([-EFAULT] * len(bad), call=case.name, argument=case.argument, pointers=len(bad))
        results = [enter(case.name, *case.words(int(pointer))) for pointer in bad]
        check.of(results, *results)
        check = expect(case.returns, call=case.name, argument=case.argument)
        check.of(enter(case.name, *case.words(int(memory.guarded(case.content)))))


@behaviour("entry.fault.nothing-set", SOURCE_NOTHING)
def test_nothing_set(enter, entry, memory, keep, expect, caller):
    """A call that fails with EFAULT changes no name, peer, option, file status flag or owner."""
    udp = keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    fd, hole = caller.adopt(udp.fileno()), memory.unmapped()
    for pointer, address, option in (("unmapped", hole, hole), ("partly", memory.guarded(15), memory.guarded(3))):
        calls = (
            FaultingCall("bind", (fd, address, 16), udp.getsockname),
            FaultingCall("connect", (fd, address, 16), lambda: peer_of(udp)),
            FaultingCall("setsockopt", (fd, *KEEPALIVE, option, 4), lambda: udp.getsockopt(*KEEPALIVE)),
            FaultingCall("ioctl", (fd, FIONBIO, option), lambda: os.get_blocking(udp.fileno())),
            FaultingCall("fcntl64", (fd, F_SETOWN_EX, option), lambda: fcntl.fcntl(udp, fcntl.F_GETOWN)),
        )
        for call in judged_over(entry.route, calls):
            error = expect(-EFAULT, call=call.name, pointer=pointer)
            same = expect(call.read_state(), call=call.name, pointer=pointer, afterwards="same")
            result = enter(call.name, *call.words)
            error.of(result)
            same.of(call.read_state(), result)


def peer_of(sock: socket.socket) -> object:
    """Returns the name of the peer, or the error of getpeername."""
    try:
        return sock.getpeername()
    except OSError as error:
        return errorcode[error.errno or 0]


@behaviour("entry.fault.nothing-sent", f"{SOURCE_NOTHING}; send(2), write(2), writev(2)")
@pytest.mark.parametrize("kind", ["unix", "udp", "tcp"])
def test_nothing_sent(kind, enter, entry, memory, keep, expect, caller):
    """A call that fails with EFAULT sends nothing, not even the part that it could read."""
    left, right = map(keep, PAIRS[kind]())
    fd, hole, part = caller.adopt(left.fileno()), memory.unmapped(), memory.guarded(2)
    vector = memory.words(memory.put(MESSAGE), 3, hole, 3)
    message = memory.words(0, 0, vector, 2, 0, 0, 0, 0)
    unread = [
        DocumentedCall("send", (fd, hole, 3, 0), -EFAULT),
        DocumentedCall("sendto", (fd, part, 3, 0, 0, 0), -EFAULT),
        DocumentedCall("sendmsg", (fd, hole, 0), -EFAULT),
        DocumentedCall("write", (fd, part, 3), -EFAULT),
        DocumentedCall("writev", (fd, vector, 2), -EFAULT),
    ]
    read_in_part = [
        DocumentedCall("sendmsg", (fd, message, 0), -EFAULT),
        DocumentedCall("sendmmsg", (fd, message, 1, 0), -EFAULT),
    ]
    for case, calls in (({}, unread), ({"part": "second"}, read_in_part)):
        for call in judged_over(entry.route, calls):
            error = expect(call.returns, call=call.name, **case)
            same = expect(queued(right), call=call.name, **case, afterwards="same")
            result = enter(call.name, *call.words)
            error.of(result)
            same.of(queued(right), result)


def queued(sock: socket.socket) -> bytes | str:
    """Returns what is queued on a socket, "nothing" if nothing is. It stays queued."""
    try:
        return sock.recv(64, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return "nothing"


@behaviour(
    "entry.fault.nothing-taken", f"{SOURCE_NOTHING}; recv(2), read(2), readv(2); unix_stream_read_generic, tcp_recvmsg"
)
@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_nothing_taken(kind, enter, entry, memory, keep, expect, caller):
    """A call that fails with EFAULT takes nothing from a stream: what was queued stays queued."""
    left, right = map(keep, PAIRS[kind]())
    left.send(MESSAGE)
    select.select([right], [], [])
    fd, hole, part = caller.adopt(right.fileno()), memory.unmapped(), memory.guarded(2)
    into = memory.words(0, 0, memory.words(hole, 3), 1, 0, 0, 0, 0)
    calls = [
        DocumentedCall("recv", (fd, hole, 3, 0), -EFAULT),
        DocumentedCall("recvfrom", (fd, part, 3, 0, 0, 0), -EFAULT),
        DocumentedCall("recvmsg", (fd, into, 0), -EFAULT),
        DocumentedCall("recvmmsg", (fd, into, 1, 0, 0), -EFAULT),
        DocumentedCall("read", (fd, part, 3), -EFAULT),
        DocumentedCall("readv", (fd, memory.words(part, 3), 1), -EFAULT),
    ]
    for call in judged_over(entry.route, calls):
        error = expect(call.returns, call=call.name)
        same = expect(queued(right), call=call.name, afterwards="same")
        result = enter(call.name, *call.words)
        error.of(result)
        same.of(queued(right), result)


@behaviour("entry.fault.no-descriptor", f"{SOURCE_NOTHING}; socketpair(2); __sys_socketpair")
def test_no_descriptor(enter, memory, expect):
    """socketpair that fails with EFAULT leaves no descriptor open."""
    pointers = {
        "unmapped": memory.unmapped(), "first-only": memory.guarded(4), "read-only": memory.guarded(8, PROT_READ),
    }  # fmt: skip
    for pointer, pair in pointers.items():
        error = expect(-EFAULT, call="socketpair", pointer=pointer)
        same = expect(descriptors(), call="socketpair", pointer=pointer, afterwards="same")
        result = enter("socketpair", socket.AF_UNIX, socket.SOCK_STREAM, 0, pair)
        error.of(result)
        same.of(descriptors(), result)


def udp_pair() -> tuple[socket.socket, socket.socket]:
    """Returns two connected datagram sockets."""
    first, second = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    for end in (first, second):
        end.bind(("127.0.0.1", 0))
    first.connect(second.getsockname())
    second.connect(first.getsockname())
    return first, second


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Returns the two ends of a connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return socket.create_connection(server.getsockname()), server.accept()[0]


PAIRS = {"unix": socket.socketpair, "udp": udp_pair, "tcp": tcp_pair}
