"""poll(2) and ppoll: the array of descriptors, counts, limits, timeouts."""

import socket
import struct
import time
from errno import EFAULT, EINVAL
from functools import partial
from select import POLLIN, POLLNVAL, POLLOUT

import pytest

from probes.entry.memory import POISON, PROT_READ
from probes.testing import behaviour, need
from probes.testing.limits import DescriptorLimit
from probes.testing.socket_kinds import TCP, UNIX_STREAM
from probes.testing.states import DATA

pytestmark = pytest.mark.routes("direct")

SOURCE = "poll(2)"
ENTRY = struct.Struct("<iHH")
BEHIND = bytes([POISON]) * 8
FORMS = ("poll", "ppoll", "ppoll_time64")


@pytest.fixture
def poll(calls, memory):
    """Polls an array of entries by a call, with time 0: poll(call, array, count) returns the result."""
    ends = {"poll": (0,), "ppoll": (memory.words(0, 0), 0, 8), "ppoll_time64": (memory.put(bytes(16)), 0, 8)}
    return lambda call, array, count: calls.syscall(call, array, count, *ends[call])


@behaviour("readiness.poll.array", f"{SOURCE} fd, events, revents, RETURN VALUE; do_poll, do_pollfd, do_sys_poll")
@pytest.mark.parametrize("call", FORMS)
def test_array(call, poll, prepare, memory, expect):
    """poll returns the number of entries with events: 8 bytes each, of which it writes revents alone. A negative fd has no
    events, a number that is no descriptor POLLNVAL, one descriptor may be in several entries; revents is overwritten.
    """
    end = prepare("with-data", UNIX_STREAM)
    stale = 0x5A5A
    rows = [
        (end.fd, POLLIN, POLLIN), (-1, POLLIN, 0), (end.fd, POLLOUT, POLLOUT), (~end.fd, POLLIN, 0),
        (0x7FFFFFFF, POLLIN, POLLNVAL), (end.fd, 0, 0), (end.peer, POLLIN, 0), (450, 0, POLLNVAL), (-1 << 31, 0xFFFF, 0),
    ]  # fmt: skip
    block = memory.put(b"".join(ENTRY.pack(fd, events, stale) for fd, events, _ in rows) + BEHIND)
    check = expect([4, b"".join(ENTRY.pack(*row) for row in rows) + BEHIND])
    result = poll(call, block, len(rows))
    check.of([result, block.read()], result)


@behaviour("readiness.poll.memory", f"{SOURCE} EFAULT; do_sys_poll copy_from_user, unsafe_put_user")
@pytest.mark.parametrize("call", FORMS)
def test_memory(call, poll, prepare, memory, expect):
    """As many entries are read as nfds says: memory that ends there is enough, one byte less fails with EFAULT. An array
    that cannot be written fails with EFAULT too, also without an event; with nfds 0 the pointer is not used.
    """
    end = prepare("with-data", UNIX_STREAM)
    asked = ENTRY.pack(end.fd, POLLIN, 0) * 3
    expect(3, memory="enough").of(poll(call, memory.guarded(asked), 3))
    expect(-EFAULT, memory="one-byte-less").of(poll(call, memory.guarded(asked[:-1]), 3))
    for case, events in (("read-only", POLLIN), ("read-only-no-event", 0)):
        array = memory.guarded(ENTRY.pack(end.fd, events, 0), PROT_READ)
        expect(-EFAULT, memory=case).of(poll(call, array, 1))
    for case, address in (("null", 0), ("no-access", memory.unmapped())):
        expect(-EFAULT, memory=case, nfds=1).of(poll(call, address, 1))
        expect(0, memory=case, nfds=0).of(poll(call, address, 0))


@behaviour("readiness.poll.limit", f"{SOURCE} EINVAL RLIMIT_NOFILE; do_sys_poll `nfds >`; setrlimit(2)")
@pytest.mark.parametrize("call", FORMS)
def test_limit(call, poll, calls, memory, expect):
    """As many entries as RLIMIT_NOFILE are polled, one more fails with EINVAL, before the array is read."""
    most = 100
    DescriptorLimit(calls)(most)
    array = memory.put(ENTRY.pack(-1, 0, 0) * (most + 1))
    expect(0, nfds="limit").of(poll(call, array, most))
    for case, count in {"more": most + 1, "int-max": 0x7FFFFFFF, "minus-1": -1}.items():
        expect(-EINVAL, nfds=case).of(poll(call, array, count))
    expect(-EINVAL, nfds="more", array="unreadable").of(poll(call, memory.unmapped(), most + 1))


@behaviour("readiness.poll.timeout", f"{SOURCE} timeout; poll_select_set_timeout, do_poll `timed_out`")
def test_timeout(prepare, readiness, meanwhile, caller, expect):
    """poll waits for as many milliseconds as its timeout says, not less, and returns 0; with a timeout of 0 it returns at
    once, with a negative one it waits for an event. O_NONBLOCK of a socket changes nothing.
    """
    end = prepare("connected", TCP)
    for case in ("blocking", "nonblock"):
        if case == "nonblock":
            end.nonblocking(end.fd)
        check = expect([[0, 0], True], timeout="20", socket=case)
        began = time.monotonic()
        found = readiness.poll(end, POLLIN, 20)
        check.of([found.value, time.monotonic() - began >= 0.020], found)
        expect([0, 0], timeout="0", socket=case).of(readiness.poll(end, POLLIN, 0))
    for case, timeout in (("minus-1", -1), ("least", -(1 << 31))):
        check = expect([1, POLLIN], timeout=case)
        with socket.socket(fileno=caller.lend(end.peer)) as peer, meanwhile(partial(peer.send, DATA)):
            found = readiness.poll(end, POLLIN, timeout)
        check.of(found)
        need(end.calls.make("recv", end.fd, end.calls.memory.alloc(4), 4, 0))
