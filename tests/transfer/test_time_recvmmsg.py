"""The timeout of recvmmsg: struct timespec of 32 bits, by operation 19 and number 337, and of 64 bits, by number 417."""

import struct
from errno import EAGAIN, EBADF, EFAULT, EINVAL
from socket import MSG_DONTWAIT

import pytest

from probes.entry.memory import POISON, PROT_READ
from probes.testing import behaviour
from probes.testing.socket_kinds import UNIX_DGRAM
from tests.readiness.waiting import TIME32, TIME64
from tests.transfer.message_layouts import array

SOURCE = "recvmmsg(2) timeout"
KERNEL = "do_recvmmsg, __sys_recvmmsg"
BEHIND = bytes([POISON]) * 16
#: Longer than any test takes.
LONG = 1000


class Receiver:
    """Holds a socket with datagrams queued, and calls recvmmsg with a timeout of one form.

    The socket is of AF_UNIX, where sending queues the datagram itself.
    """

    def __init__(self, calls, memory, prepare, form):
        self.calls, self.memory, self.form = calls, memory, form
        self.end = prepare("connected", UNIX_DGRAM)

    def queue(self, count):
        """Sends datagrams."""
        for _ in range(count):
            self.end.send(self.end.peer, b"d")

    def receive(self, timeout, count=2, flags=0, fd=None):
        """Makes the call for `count` messages. `timeout` is the address, or a block."""
        messages = array(self.memory, [(self.memory.alloc(8), 8)] * count)
        words = (self.end.fd if fd is None else fd, messages, count, flags, timeout)
        if self.form is TIME64:
            return self.calls.syscall("recvmmsg_time64", *words)
        return self.calls.make("recvmmsg", *words)

    def drain(self):
        """Receives what is left of the datagrams: an implementation may have taken more of them, or fewer."""
        self.receive(0, 4, MSG_DONTWAIT)

    def timeout(self, *members):
        """Puts a timeout into memory, with bytes behind it."""
        return self.memory.put(self.form.pack(*members) + BEHIND)

    def left(self, block):
        """Returns [True if the time left is valid and less than LONG, the bytes behind it]."""
        seconds, nanoseconds = self.form.unpack_from(block.read())
        return [LONG - 100 <= seconds < LONG and 0 <= nanoseconds < 10**9, block.read()[self.form.size :]]


def written_back(receiver, expect):
    """Judges what is left of a timeout: it is written in the form in which it came, and nothing behind it."""
    check = expect([1, [True, BEHIND]], left="time")
    receiver.queue(1)
    block = receiver.timeout(LONG, 0)
    result = receiver.receive(block, 1)
    check.of([result, receiver.left(block)], result)
    zero = receiver.timeout(0, 0)
    check = expect([1, zero.read()], left="none")
    receiver.queue(2)
    result = receiver.receive(zero)
    check.of([result, zero.read()], result)
    receiver.drain()
    kept = receiver.timeout(LONG, 7)
    check = expect([-EAGAIN, kept.read()], left="nothing-received")
    result = receiver.receive(kept, flags=MSG_DONTWAIT)
    check.of([result, kept.read()], result)


def refused(receiver, expect):
    """Judges invalid timeouts, which are refused before the descriptor is examined."""
    wrong = {"billion": (0, 10**9), "negative-seconds": (-1, 0), "negative": (0, -1), "most": (0, 2**31 - 1)}
    for case, members in wrong.items():
        receiver.queue(1)
        expect(-EINVAL, timeout=case).of(receiver.receive(receiver.timeout(*members), 1, MSG_DONTWAIT))
        expect(-EINVAL, timeout=case, descriptor=-1).of(receiver.receive(receiver.timeout(*members), 1, fd=-1))
    expect(-EBADF, timeout="valid", descriptor=-1).of(receiver.receive(receiver.timeout(0, 10**9 - 1), 1, fd=-1))
    # The datagrams have not been received.
    expect(len(wrong), timeout="valid").of(
        receiver.receive(receiver.timeout(LONG, 10**9 - 1), len(wrong), MSG_DONTWAIT)
    )


def memory_of(receiver, memory, expect):
    """Judges where a timeout lies: as many bytes are read as it has, and it must be writable if messages come."""
    size = receiver.form.size
    short, whole = memory.guarded(receiver.form.pack(0, 0)[: size - 1]), memory.guarded(receiver.form.pack(0, 0))
    expect(-EFAULT, memory="one-byte-less").of(receiver.receive(short, 1, MSG_DONTWAIT))
    expect(-EFAULT, memory="no-access").of(receiver.receive(memory.unmapped(), 1, MSG_DONTWAIT))
    receiver.queue(2)
    expect(1, memory="just-enough").of(receiver.receive(whole))
    receiver.drain()
    receiver.queue(1)
    fixed = memory.guarded(receiver.form.pack(LONG, 0), PROT_READ)
    expect(-EFAULT, memory="read-only").of(receiver.receive(fixed, 1))
    expect(-EAGAIN, memory="read-only", then="lost").of(receiver.receive(fixed, 1, MSG_DONTWAIT))


@pytest.fixture
def receiver32(calls, memory, prepare):
    """Receives by recvmmsg, with a struct timespec of 8 bytes."""
    return Receiver(calls, memory, prepare, TIME32)


@pytest.fixture
def receiver64(calls, memory, prepare):
    """Receives by recvmmsg_time64, with a struct __kernel_timespec of 16 bytes."""
    return Receiver(calls, memory, prepare, TIME64)


@behaviour("transfer.timeout.recvmmsg", f"{SOURCE}; {KERNEL}; put_old_timespec32")
def test_written_back(receiver32, expect):
    """recvmmsg (operation 19, number 337) writes the time that is left into the 8 bytes of its timeout if it received
    something: a timeout of 0 ends it after the first message. After an error the timeout stays as it was.
    """
    written_back(receiver32, expect)


@behaviour("transfer.timeout.recvmmsg-refused", f"{SOURCE}; EINVAL; {KERNEL}; poll_select_set_timeout")
def test_refused(receiver32, expect):
    """recvmmsg with negative seconds or with nanoseconds outside 0 to 999,999,999 fails with EINVAL, before EBADF, and
    receives nothing.
    """
    refused(receiver32, expect)


@behaviour("transfer.timeout.recvmmsg-memory", f"{SOURCE}; EFAULT; {KERNEL}; get_old_timespec32, put_old_timespec32")
def test_memory(receiver32, memory, expect):
    """recvmmsg reads 8 bytes of its timeout, whatever lies behind them. If what is left cannot be written it fails with
    EFAULT, and the messages are lost.
    """
    memory_of(receiver32, memory, expect)
    check = expect(1, memory="before-garbage")
    receiver32.queue(2)
    check.of(receiver32.receive(memory.put(TIME32.pack(0, 0) + b"\xff" * 8)))


@behaviour("transfer.timeout.recvmmsg-time64", f"{SOURCE}; {KERNEL}; recvmmsg_time64, get_timespec64, put_timespec64")
@pytest.mark.routes("direct")
def test_written_back_64(receiver64, expect):
    """recvmmsg_time64 (number 417) writes the time that is left into the 16 bytes of its timeout if it received something: a
    timeout of 0 ends it after the first message. After an error the timeout stays as it was.
    """
    written_back(receiver64, expect)


@behaviour("transfer.timeout.recvmmsg-time64-refused", f"{SOURCE}; EINVAL; {KERNEL}; poll_select_set_timeout")
@pytest.mark.routes("direct")
def test_refused_64(receiver64, expect):
    """recvmmsg_time64 with negative seconds or with nanoseconds outside 0 to 999,999,999 fails with EINVAL, before EBADF,
    and receives nothing.
    """
    refused(receiver64, expect)


@behaviour("transfer.timeout.recvmmsg-time64-memory", f"{SOURCE}; EFAULT; {KERNEL}; get_timespec64, put_timespec64")
@pytest.mark.routes("direct")
def test_memory_64(receiver64, memory, expect):
    """recvmmsg_time64 reads 16 bytes of its timeout. If what is left cannot be written it fails with EFAULT, and the
    messages are lost.
    """
    memory_of(receiver64, memory, expect)


@behaviour("transfer.timeout.recvmmsg-time64-padding", f"{SOURCE}; get_timespec64 `Zero out the padding`")
@pytest.mark.routes("direct")
def test_padding(receiver64, memory, expect):
    """recvmmsg_time64 ignores the upper half of tv_nsec, which is padding in i386, and reads all of tv_sec."""
    words = struct.Struct("<qII")
    for case, (members, expected) in {
        "padding": ((0, 0, 0xA5A5A5A5), 1),
        "padding-and-time": ((LONG, 10**9 - 1, 0xFFFFFFFF), 2),
        "padding-and-billion": ((0, 10**9, 0xFFFFFFFF), -EINVAL),
        "large-seconds": ((1 << 33, 0, 0), 2),
        "negative-seconds": ((-(1 << 33), 0, 0), -EINVAL),
    }.items():
        check = expect(expected, timeout=case)
        receiver64.queue(2)
        check.of(receiver64.receive(memory.put(words.pack(*members)), 2, MSG_DONTWAIT))
        receiver64.drain()
