"""Timeouts of select, pselect6 and ppoll: where they lie, in which layout, and what is written back."""

import struct
from errno import EFAULT, EINVAL
from select import POLLIN

import pytest

from probes.entry.memory import POISON, PROT_READ, pack_words
from probes.testing import behaviour
from probes.testing.socket_kinds import UNIX_STREAM
from tests.readiness.waiting import TIME32, TIME64

pytestmark = pytest.mark.routes("direct")

#: The layout of each call's timeout, and the first value that its second member may not have; select takes any.
FORMS = {
    "select": (TIME32, 0), "_newselect": (TIME32, 0), "pselect6": (TIME32, 10**9), "pselect6_time64": (TIME64, 10**9),
    "ppoll": (TIME32, 10**9), "ppoll_time64": (TIME64, 10**9),
}  # fmt: skip
BEHIND = bytes([POISON]) * 16
#: Longer than any test takes.
LONG = 1000
SOURCE = "select(2) timeout, pselect6; poll(2) ppoll"
KERNEL = "poll_select_set_timeout, poll_select_finish"

each_form = pytest.mark.parametrize("call", FORMS)


@pytest.fixture
def wait(prepare, calls, memory):
    """Waits for a socket that has data, or for no event: wait(call, timeout, ready) returns the result."""
    end = prepare("with-data", UNIX_STREAM)

    def make(call, timeout, ready=True):
        if call.startswith("ppoll"):
            entry = memory.put(struct.pack("<ihh", end.fd, POLLIN if ready else 0, 0))
            return calls.syscall(call, entry, 1, timeout, 0, 8)
        bits = memory.put(struct.pack("<Q", 1 << end.fd))
        words = (64, bits if ready else 0, 0, 0, timeout)
        if call == "select":
            return calls.syscall(call, memory.words(*words))
        return calls.syscall(call, *words) if call == "_newselect" else calls.syscall(call, *words, 0)

    return make


@behaviour("readiness.timeout.written-back", f"{SOURCE}; {KERNEL}")
@each_form
def test_written_back(call, wait, memory, expect):
    """select, pselect6 and ppoll write the time that is left in the layout of their timeout, with members of 32 or 64 bits,
    and nothing behind it. A timeout of 0 stays 0, and one in memory that is read-only does not change the result.
    """
    form, limit = FORMS[call]
    check = expect([1, True, BEHIND], timeout="long")
    block = memory.put(form.pack(LONG, 0) + BEHIND)
    result = wait(call, block)
    seconds, part = form.unpack_from(block.read())
    check.of([result, LONG - 100 <= seconds < LONG and 0 <= part < (limit or 10**6), block.read()[form.size :]], result)
    zero = memory.put(form.pack(0, 0) + BEHIND)
    for ready in (True, False):
        check = expect([int(ready), zero.read()], timeout="zero", ready=ready)
        result = wait(call, zero, ready)
        check.of([result, zero.read()], result)
    check = expect(1, timeout="read-only")
    check.of(wait(call, memory.guarded(form.pack(LONG, 0), PROT_READ)))
    short = memory.put(form.pack(0, 1000) + BEHIND)
    check = expect([0, form.pack(0, 0) + BEHIND], timeout="passed")
    result = wait(call, short, ready=False)
    check.of([result, short.read()], result)


@behaviour("readiness.timeout.range", f"{SOURCE} EINVAL; {KERNEL}; kern_select")
@each_form
def test_range(call, wait, memory, expect):
    """A negative time fails with EINVAL, as do 10^9 nanoseconds and more; select takes any microseconds from 0 on."""
    form, limit = FORMS[call]
    values = {"negative-seconds": (-1, 0), "negative": (0, -1), "both": (-1, -1)}
    for case, members in values.items():
        expect(-EINVAL, timeout=case).of(wait(call, memory.put(form.pack(*members))))
    over = {"billion": (0, 10**9), "most": (1, 2**31 - 1)}
    for case, members in over.items():
        expect(-EINVAL if limit else 1, timeout=case).of(wait(call, memory.put(form.pack(*members))))
    expect(1, timeout="most-valid").of(wait(call, memory.put(form.pack(2**31 - 1, 10**6 - 1))))


@behaviour("readiness.timeout.memory", f"{SOURCE} EFAULT; get_old_timespec32, get_timespec64, get_user")
@each_form
def test_memory(call, wait, memory, expect):
    """As many bytes of the timeout are read as its layout has, 8 or 16: memory that ends there is enough, one byte less
    fails with EFAULT. NULL is no timeout.
    """
    form, _ = FORMS[call]
    whole = form.pack(0, 0)
    expect(1, memory="enough").of(wait(call, memory.guarded(whole)))
    expect(-EFAULT, memory="one-byte-less").of(wait(call, memory.guarded(whole[:-1])))
    expect(-EFAULT, memory="no-access").of(wait(call, memory.unmapped()))
    expect(1, memory="null").of(wait(call, 0))


@behaviour("readiness.timeout.padding", f"{SOURCE}; get_timespec64 `Zero out the padding`")
@pytest.mark.parametrize("call", ["pselect6_time64", "ppoll_time64"])
def test_padding(call, wait, memory, expect):
    """The upper half of tv_nsec is padding in i386 and ignored, that of tv_sec is read."""
    words = struct.Struct("<qII")
    for case, (members, expected) in {
        "padding": ((0, 0, 0xFFFFFFFF), 0),
        "padding-and-billion": ((0, 10**9, 0xFFFFFFFF), -EINVAL),
        "negative-seconds": ((-(1 << 33), 0, 0), -EINVAL),
    }.items():
        expect(expected, timeout=case).of(wait(call, memory.put(words.pack(*members)), ready=False))
    expect(1, timeout="large-seconds").of(wait(call, memory.put(words.pack(1 << 33, 0, 0))))


@behaviour("readiness.timeout.old-select", "select(2) NOTES `sel_arg_struct`; compat_sys_old_select, sys_old_select")
def test_old_select(prepare, calls, memory, expect):
    """select of number 82 takes a pointer to its five words: it reads 20 bytes there, and fails with EFAULT if it cannot.
    Number 142 takes them in registers.
    """
    end = prepare("with-data", UNIX_STREAM)
    bits, zero = struct.pack("<Q", 1 << end.fd), memory.put(TIME32.pack(0, 0))
    readable, timeout = memory.put(bits), memory.put(TIME32.pack(LONG, 0))
    words = pack_words(64, readable.address, 0, 0, timeout.address)
    check = expect([1, bits, True], number=82)
    result = calls.syscall("select", memory.guarded(words))
    check.of([result, readable.read(), 0 < timeout.words()[0] < LONG], result)
    nothing = pack_words(0, 0, 0, 0, zero.address)
    expect(0, number=82, words="nothing").of(calls.syscall("select", memory.guarded(nothing)))
    for size in (19, 16, 4):
        expect(-EFAULT, number=82, readable=size).of(calls.syscall("select", memory.guarded(nothing[:size])))
    for case, address in {"null": 0, "first-page": 1, "no-access": memory.unmapped(), "top": 0xFFFFFFFF}.items():
        expect(-EFAULT, number=82, pointer=case).of(calls.syscall("select", address))
    expect(0, number=142, words="nothing").of(calls.syscall("_newselect", 0, 0, 0, 0, zero))
    expect(-EINVAL, number=142, count=-1).of(calls.syscall("_newselect", -1, 0, 0, 0, zero))
    negative = memory.guarded(pack_words(-1, 0, 0, 0, zero.address))
    expect(-EINVAL, number=82, count=-1).of(calls.syscall("select", negative))
