"""The time that epoll_pwait2 is given, times of a nanosecond, and waits of several processes for one event."""

import os
import struct
from errno import EFAULT, EINVAL, ENOSYS
from select import POLLIN

import pytest

from probes.abi.operations import OTHER_CALLS
from probes.entry.memory import POISON
from probes.testing import behaviour, need
from probes.testing.socket_kinds import TCP, UNIX_STREAM
from probes.testing.states import DATA
from tests.readiness.waiting import TIME64, of_form

pytestmark = pytest.mark.routes("direct")

SOURCE = "epoll_wait(2) epoll_pwait2; ep_send_events, get_timespec64, ep_timeout_to_timespec"
FORM = "epoll_pwait2"
#: Nanoseconds: a tenth of a second, and down to one by tens.
SHORT = [10**power for power in range(8, -1, -1)]


@behaviour("readiness.timeout.epoll", f"{SOURCE} EINVAL, EFAULT; timespec64_valid")
def test_epoll(readiness, prepare, calls, memory, expect):
    """epoll_pwait2 takes a struct of 16 bytes, and does not write it. A negative time, and 10^9 nanoseconds, fail with
    EINVAL, as does a time that cannot be read with EFAULT; the upper half of tv_nsec is padding.
    """
    epoll = readiness.watching(prepare("with-data", UNIX_STREAM), POLLIN, 7)
    padding = struct.Struct("<qII")

    def wait(timeout):
        return calls.syscall(FORM, epoll, memory.alloc(24), 2, timeout, 0, 8)

    for case, time in {
        "negative-seconds": (-1, 0), "negative": (0, -1), "billion": (0, 10**9), "most": (1, (1 << 31) - 1),
    }.items():  # fmt: skip
        expect(of_form(FORM, -EINVAL), timeout=case).of(wait(memory.put(TIME64.pack(*time))))
    for case, time in {"valid": (0, 10**9 - 1, 0), "padding": (0, 0, 0xFFFFFFFF), "large": (1 << 33, 0, 0)}.items():
        expect(of_form(FORM, 1), timeout=case).of(wait(memory.put(padding.pack(*time))))
    whole = TIME64.pack(0, 0)
    expect(of_form(FORM, 1), memory="enough").of(wait(memory.guarded(whole)))
    expect(of_form(FORM, -EFAULT), memory="one-byte-less").of(wait(memory.guarded(whole[:-1])))
    expect(of_form(FORM, -EFAULT), memory="no-access").of(wait(memory.unmapped()))
    time = TIME64.pack(1000, 5) + bytes([POISON]) * 8
    block = memory.put(time)
    check = expect(of_form(FORM, [1, time], [-ENOSYS, time]), memory="unchanged")
    result = wait(block)
    check.of([int(result), block.read()], result)


@behaviour("readiness.waiting.short", "poll(2) ppoll; select(2) pselect6; epoll_wait(2) epoll_pwait2; ep_poll, do_poll")
@pytest.mark.parametrize("form", ["pselect6_time64", "ppoll_time64", "epoll_pwait2"])
def test_short(form, waiting, prepare, memory, expect):
    """However short a time is, down to a nanosecond, the wait ends when it is over."""
    end = prepare("connected", UNIX_STREAM)
    check = expect(of_form(form, [0] * len(SHORT), [-ENOSYS] * len(SHORT)))
    make = waiting.timed(form, end, POLLIN)
    results = [make(memory.put(TIME64.pack(0, time))) for time in SHORT]
    check.of([int(result) for result in results], *results)


@behaviour("readiness.waiting.all-epolls", "epoll(7) Q2; epoll_wait(2); ep_poll_callback, sock_def_readable")
@pytest.mark.parametrize("kind", [TCP, UNIX_STREAM], ids=str)
def test_all_epolls(kind, readiness, prepare, calls, children, memory, expect):
    """One event wakes the waiters of every epoll that watches the descriptor."""
    end, wait = prepare("connected", kind), OTHER_CALLS["epoll_wait"].direct
    check = expect([1, 1, 1])
    epolls = [readiness.watching(end, POLLIN) for _ in range(3)]
    waiters = [children.blocked((wait, epoll, memory.alloc(12), 1, -1)) for epoll in epolls]
    sent = calls.make("send", end.peer, calls.pointer(DATA), len(DATA), 0)
    need(sent, "send", returns=len(DATA))
    check.of([os.waitstatus_to_exitcode(children.ended(waiter)) for waiter in waiters], sent)
