"""A listening socket that two processes share: which of them gets a connection, and what the other finds then."""

import os
import signal
from errno import EAGAIN
from fcntl import F_SETFL
from select import POLLIN
from socket import SOCK_NONBLOCK

from probes.abi.operations import OPERATIONS
from probes.testing import behaviour, need, procfs
from probes.testing.socket_kinds import TCP, UNIX_STREAM
from tests.transfer.signals import BlockedSignals

ACCEPT4 = OPERATIONS["accept4"].direct
O_ASYNC, F_SETOWN = 0o20000, 8


@behaviour(
    "listen.accept.two-callers", "accept(2) NOTES `removed ... before accept is called`; prepare_to_wait_exclusive"
)
def test_two_callers(prepare, calls, children, expect):
    """Of two processes that accept on one socket each gets one of two connections."""
    for kind in (TCP, UNIX_STREAM):
        end = prepare("listening", kind)
        (free,) = procfs.lowest()
        both = [children.start((ACCEPT4, end.fd, 0, 0, 0)) for _ in range(2)]
        check = expect([0, 0, True, True], kind=kind)
        connected = [calls.connect(end.new(), end.server) for _ in range(2)]
        ended = [os.waitstatus_to_exitcode(children.ended(pid)) for pid in both]
        check.of([*map(int, connected), *(code == free for code in ended)], *connected)
        end.close()


@behaviour(
    "listen.accept.taken", "accept(2) NOTES `removed ... before accept is called`, SIGIO; select(2); inet_csk_accept"
)
def test_taken(prepare, readiness, calls, caller, children, expect, expect_direct):
    """A connection that poll reports, and SIGIO, may be accepted by another process: then poll reports none, and accept and
    accept4 on the non-blocking socket fail with EAGAIN.
    """
    signals = BlockedSignals(calls, [signal.SIGIO])
    for kind in (TCP, UNIX_STREAM):
        end = prepare("listening", kind)
        need(end.calls.syscall("fcntl64", end.fd, F_SETOWN, caller.pid), "F_SETOWN")
        need(end.calls.syscall("fcntl64", end.fd, F_SETFL, O_ASYNC | SOCK_NONBLOCK), "F_SETFL")
        end.connect(end.new(), end.server)
        end.wait(end.fd)
        expect_direct([1, POLLIN], kind=kind, step="queued", call="poll").of(readiness.poll(end, POLLIN))
        (free,) = procfs.lowest()
        child = children.ended(children.start((ACCEPT4, end.fd, 0, 0, 0)))
        expect_direct([0, 0], kind=kind, step="taken", call="poll").of(readiness.poll(end, POLLIN))
        for op, words in {"accept": (0, 0), "accept4": (0, 0, 0)}.items():
            expect(-EAGAIN, kind=kind, step="taken", call=op).of(calls.make(op, end.fd, *words))
        check = expect([int(signal.SIGIO), free, -EAGAIN], kind=kind, step="signalled", call="accept")
        result = calls.accept(end.fd)
        check.of([signals.taken(), os.waitstatus_to_exitcode(child), int(result)], result)
        end.close()
