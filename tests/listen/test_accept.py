"""accept(2), accept4(2): which connection is accepted, by which descriptor, and when none is."""

import os
import socket
import time
from errno import EAGAIN, EBADF, EINTR, EINVAL, EMFILE, EOPNOTSUPP
from fcntl import F_GETFD, F_GETFL, F_SETFD, F_SETFL, FD_CLOEXEC
from functools import partial

import pytest

from probes.testing import behaviour, need, procfs
from probes.testing.blocking import LEAST, SHORT
from probes.testing.socket_kinds import (
    CONNECTING,
    NETLINK,
    PACKET,
    PACKET_DGRAM,
    RAW,
    RAW6,
    TCP,
    UDP,
    UDP6,
    UDPLITE,
    UNIX_DGRAM,
    UNIX_STREAM,
)  # fmt: skip
from probes.testing.states import DATA, possible
from tests.listen.clients import CONNECTED, STREAMS

SOURCE = "accept(2); do_accept, inet_csk_accept, unix_accept"
CLOEXEC, NONBLOCK = socket.SOCK_CLOEXEC, socket.SOCK_NONBLOCK
#: The words of accept and accept4 without an address.
OPS = {"accept": (0, 0), "accept4": (0, 0, 0)}
NEVER = (UDP, UDP6, UDPLITE, RAW, RAW6, UNIX_DGRAM, NETLINK, PACKET, PACKET_DGRAM)
O_ASYNC = 0o20000


def file_flags(end, fd):
    """Returns the flags of a descriptor and of its file, read by untraced calls (fcntl(2))."""
    return [int(end.calls.syscall("fcntl64", fd, command, 0)) for command in (F_GETFD, F_GETFL)]


@behaviour("listen.accept.order", f"{SOURCE} `the first connection request on the queue`; reqsk_queue_remove")
def test_order(prepare, clients, calls, memory, expect):
    """Connections are accepted in the order in which they were queued, by accept and accept4; the addresses show it."""
    for kind in STREAMS:
        end = prepare("listening", kind)
        names = [clients.named(end, number) for number in range(4)]
        for number, name in enumerate(names):
            op = "accept" if number % 2 else "accept4"
            room, length = memory.alloc(64), memory.words(64)
            (free,) = procfs.lowest()
            check = expect([free, name, len(name)], kind=kind, call=op, number=number)
            result = calls.make(op, end.fd, room, length, *OPS[op][2:])
            check.of([int(result), room.written(len(name)), *length.words()], result)
            end.keep(result, op)
        end.close()


@behaviour("listen.accept.descriptor", f"{SOURCE} RETURN VALUE, flags, STANDARDS `does not inherit file status flags`")
def test_descriptor(prepare, calls, expect):
    """accept and accept4 return the lowest free descriptor and make no other. FD_CLOEXEC and O_NONBLOCK are those that the
    flags of accept4 say; the listening socket's, and its O_ASYNC, are not inherited, and are as they were.
    """
    flags = {"accept": None, "none": 0, "cloexec": CLOEXEC, "nonblock": NONBLOCK, "both": CLOEXEC | NONBLOCK}
    listening = [FD_CLOEXEC, os.O_RDWR | os.O_NONBLOCK | O_ASYNC]
    for kind in STREAMS:
        for inherited in ("plain", "flagged"):
            for case, given in flags.items():
                end = prepare("pending", kind)
                if inherited == "flagged":
                    need(end.calls.syscall("fcntl64", end.fd, F_SETFD, listening[0]), "F_SETFD")
                    need(end.calls.syscall("fcntl64", end.fd, F_SETFL, listening[1]), "F_SETFL")
                left = listening if inherited == "flagged" else [0, os.O_RDWR]
                before, (free,) = procfs.descriptors(), procfs.lowest()
                of_new = [int(bool((given or 0) & CLOEXEC)), os.O_RDWR | (given or 0) & NONBLOCK]
                check = expect([["lowest"], of_new, left], kind=kind, listening=inherited, flags=case)
                words = (0, 0) if given is None else (0, 0, given)
                result = calls.make("accept" if given is None else "accept4", end.fd, *words)
                made = ["lowest" if fd == free else "another" for fd in procfs.descriptors() if fd not in before]
                found = [made, file_flags(end, result), file_flags(end, end.fd)]
                check.of(found if result >= 0 else int(result), result)
                end.made += [result] if result >= 0 else []
                end.close()


@behaviour("listen.accept.unknown-flags", "accept(2) EINVAL `invalid value in flags`; __sys_accept4_file")
def test_unknown_flags(prepare, calls, expect):
    """accept4 with any other flag than SOCK_CLOEXEC and SOCK_NONBLOCK fails with EINVAL, and accepts no connection."""
    end = prepare("pending", TCP, flags=NONBLOCK)
    for bit in range(32):
        if not 1 << bit & (CLOEXEC | NONBLOCK):
            expect(-EINVAL, flag=f"{1 << bit:#x}").of(calls.make("accept4", end.fd, 0, 0, 1 << bit))
    expect(-EINVAL, flag="with-both").of(calls.make("accept4", end.fd, 0, 0, CLOEXEC | NONBLOCK | 1))
    (free,) = procfs.lowest()
    expect(free, afterwards="queue").of(calls.accept(end.fd))


@behaviour("listen.accept.not-listening", f"{SOURCE} EINVAL; inet_csk_accept, unix_accept `sk->sk_state != TCP_LISTEN`")
def test_not_listening(prepare, calls, expect):
    """accept and accept4 fail with EINVAL on a stream socket that does not listen, in every state of it, and make no
    descriptor.
    """
    for kind in STREAMS:
        for state in ("unbound", "bound", *CONNECTED):
            if possible(state, kind):
                end = prepare(state, kind)
                refused(calls, end, expect, -EINVAL, kind=kind, state=state)
                end.close()


def refused(calls, end, expect, error, **case):
    """Judges that accept and accept4 fail with an error, and make no descriptor."""
    for op, words in OPS.items():
        before = procfs.descriptors()
        check = expect([error, []], **case, call=op)
        result = calls.make(op, end.fd, *words)
        check.of([int(result), [fd for fd in procfs.descriptors() if fd not in before]], result)


@behaviour("listen.accept.not-supported", f"{SOURCE} EOPNOTSUPP; sock_no_accept")
def test_not_supported(prepare, calls, expect):
    """accept and accept4 fail with EOPNOTSUPP on a socket that is not of SOCK_STREAM or SOCK_SEQPACKET, unbound, bound or
    connected, and make no descriptor.
    """
    for kind in NEVER:
        for state in ("unbound", "bound", "connected"):
            if possible(state, kind):
                end = prepare(state, kind)
                refused(calls, end, expect, -EOPNOTSUPP, kind=kind, state=state)
                end.close()


@behaviour("listen.accept.empty", f"{SOURCE} EAGAIN; sock_rcvtimeo; socket(7) SO_RCVTIMEO")
def test_empty(prepare, calls, expect):
    """Without a connection accept and accept4 fail with EAGAIN: at once if the listening socket is non-blocking, with
    SO_RCVTIMEO not before that time. They make no descriptor.
    """
    for kind in STREAMS:
        end = prepare("listening", kind, flags=NONBLOCK)
        refused(calls, end, expect, -EAGAIN, kind=kind, socket="non-blocking")
        end.close()
        end = prepare("listening", kind)
        need(end.calls.setsockopt(end.fd, socket.SOL_SOCKET, socket.SO_RCVTIMEO, SHORT))
        for op, words in OPS.items():
            check = expect([-EAGAIN, True], kind=kind, socket="timeout", call=op)
            began = time.monotonic()
            result = calls.make(op, end.fd, *words)
            check.of([int(result), time.monotonic() - began >= LEAST], result)
        end.close()


@behaviour(
    "listen.accept.limit", f"{SOURCE} EMFILE; getrlimit(2) RLIMIT_NOFILE; get_unused_fd_flags before ops->accept"
)
def test_limit(prepare, calls, memory, limit, expect):
    """accept and accept4 fail with EMFILE if every descriptor below RLIMIT_NOFILE is open. The connection stays queued, with
    its data, and is accepted when the limit permits it.
    """
    for kind in STREAMS:
        for op, words in OPS.items():
            end = prepare("pending", kind, flags=NONBLOCK)
            end.send(end.peer, DATA)
            (free,) = procfs.lowest()
            limit(free)
            expect(-EMFILE, kind=kind, call=op, limit="reached").of(calls.make(op, end.fd, *words))
            limit.restore()
            expect(free, kind=kind, call=op, limit="raised").of(calls.make(op, end.fd, *words))
            end.made.append(free)
            end.wait(free)
            room = memory.alloc(8)
            kept = expect(DATA, kind=kind, call=op, then="recv")
            received = calls.make("recv", free, room, 8, 0)
            kept.of(room.written(received), received)
            end.close()


@behaviour("listen.accept.limit-first", f"{SOURCE} EMFILE, EAGAIN, EINVAL; do_accept, __sys_accept4_file")
def test_limit_first(prepare, calls, limit, expect):
    """At RLIMIT_NOFILE accept fails with EMFILE, whether or not a connection is queued or the socket listens or is a
    stream; on a bad descriptor it fails with EBADF.
    """
    listening, bound = prepare("listening", TCP, flags=NONBLOCK), prepare.another(0)("bound", UNIX_STREAM)
    udp = prepare("unbound", UDP)
    limit.leave(0)
    for case, fd, error in (
        ("empty", listening.fd, EMFILE), ("bound", bound.fd, EMFILE), ("datagram", udp.fd, EMFILE),
        ("closed", -1, EBADF),
    ):  # fmt: skip
        expect(-error, descriptor=case).of(calls.accept(fd))
    limit.restore()


@behaviour("listen.accept.interrupted", f"{SOURCE} EINTR; signal(7) SA_RESTART; inet_csk_wait_for_connect")
@pytest.mark.parametrize("kind", CONNECTING, ids=str)
def test_interrupted(kind, prepare, calls, caller, meanwhile, expect):
    """A blocked accept over TCP that a handler interrupts fails with EINTR, and accepts nothing; with SA_RESTART it goes on,
    and returns the connection that comes then.
    """
    end = prepare("beside-server", kind)
    before = procfs.descriptors()
    meanwhile.catch(restart=False)
    check, none = expect(-EINTR, handler="plain"), expect([], handler="plain", left="descriptors")
    with meanwhile(meanwhile.signal):
        result = calls.accept(end.peer)
        check.of(result)
    none.of([fd for fd in procfs.descriptors() if fd not in before], result)
    meanwhile.catch(restart=True)
    with socket.socket(fileno=caller.lend(end.fd)) as client:
        (free,) = procfs.lowest()
        check = expect(free, handler="restart")
        host = "127.0.0.1" if kind is TCP else "::1"
        with meanwhile(meanwhile.signal, partial(client.connect, (host, 5000))):
            check.of(calls.accept(end.peer))
