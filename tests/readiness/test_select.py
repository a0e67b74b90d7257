"""select(2) and pselect6: the sets, what is read and written of them, counts, errors."""

from errno import EBADF, EFAULT, EINVAL

import pytest

from probes.entry.memory import POISON, PROT_READ
from probes.testing import behaviour, need
from probes.testing.limits import DescriptorLimit
from probes.testing.socket_kinds import TCP, UNIX_STREAM

pytestmark = pytest.mark.routes("direct")

SOURCE = "select(2)"
KERNEL = "core_sys_select, do_select, max_select_fd; compat_core_sys_select, compat_get_fd_set"
#: Forms of select, and the bytes of their timeout, here 0; that of number 82 has its words in memory.
FORMS = {"select": 8, "_newselect": 8, "pselect6": 8, "pselect6_time64": 16}
#: The word of a set: long of i386.
WORD = 4


@pytest.fixture
def select(calls, memory):
    """Makes a form of select with time 0: select(call, nfds, *sets) returns the result. A set is a block or an address."""
    times = {call: memory.put(bytes(size)) for call, size in FORMS.items()}

    def make(call, nfds, *sets):
        words = (nfds, *sets, times[call])
        if call == "select":
            return calls.syscall(call, memory.words(*words))
        return calls.syscall(call, *words, *([] if call == "_newselect" else [0]))

    return make


def fds(*numbers: int, size: int = 8) -> bytes:
    """Returns a set of descriptors."""
    return sum(1 << number for number in numbers).to_bytes(size, "little")


@behaviour("readiness.select.sets", f"{SOURCE} DESCRIPTION, RETURN VALUE; {KERNEL}")
@pytest.mark.parametrize("call", FORMS)
def test_sets(call, select, prepare, memory, expect):
    """select returns the number of bits that are set in all three sets, and leaves in each the descriptors that are ready
    for its class; a set that is NULL has none.
    """
    data, urgent, idle = (
        prepare("with-data", UNIX_STREAM),
        prepare("with-urgent-data", TCP),
        prepare.another(1)("full", TCP),
    )
    every = fds(data.fd, urgent.fd, idle.fd)
    wanted = fds(data.fd), fds(data.fd, urgent.fd), fds(urgent.fd)
    for chosen in ((0, 1, 2), (0, 1), (0, 2), (1, 2), (0,), (1,), (2,), ()):
        blocks = {at: memory.put(every) for at in chosen}
        case = "".join("rwe"[at] for at in chosen) or "none"
        counts = {0: 1, 1: 2, 2: 1}
        check = expect([sum(counts[at] for at in chosen), *(wanted[at] for at in chosen)], sets=case)
        result = select(call, 64, *(blocks.get(at, 0) for at in range(3)))
        check.of([result, *(blocks[at].read() for at in chosen)], result)
    one = memory.put(fds(data.fd))
    check = expect([2, fds(data.fd)], sets="one-block-twice")
    result = select(call, 64, one, one, 0)
    check.of([result, one.read()], result)


@behaviour("readiness.select.size", f"{SOURCE} nfds, NOTES `of arbitrary size`; {KERNEL} FDS_BYTES, zero_fd_set")
@pytest.mark.parametrize("call", FORMS)
def test_size(call, select, prepare, memory, calls, expect):
    """Of a set whole words of 4 bytes are read and written, as many as hold nfds bits: memory that ends there is enough.
    A bit from nfds on in the last of them is not watched, and cleared; what lies behind is left alone.
    """
    fd = prepare("with-data", UNIX_STREAM).fd
    # The first table of descriptors has as many as a long has bits, and nfds is cut to it.
    need(calls.syscall("dup2", fd, 63))
    behind = bytes([POISON]) * 12
    for case, nfds, count in (("just", fd + 1, 1), ("its-own", fd, 0), ("word", 32, 1), ("two-words", 33, 1)):
        size = -(-nfds // 32) * WORD
        block = memory.put(fds(fd, size=size) + behind)
        check = expect([count, fds(*[fd] * count, size=size) + behind], nfds=case)
        result = select(call, nfds, block, 0, 0)
        check.of([result, block.read()], result)
        expect(count, nfds=case, memory="enough").of(select(call, nfds, memory.guarded(fds(fd, size=size)), 0, 0))
        less = memory.guarded(fds(fd, size=size)[1:])
        expect(-EFAULT, nfds=case, memory="one-byte-less").of(select(call, nfds, less.address, 0, 0))
    block = memory.put(fds(fd))
    check = expect([0, fds(fd)], nfds="0")
    result = select(call, 0, block, 0, 0)
    check.of([result, block.read()], result)
    expect(0, nfds="0", memory="no-access").of(select(call, 0, memory.unmapped(), memory.unmapped(), memory.unmapped()))


@behaviour("readiness.select.memory", f"{SOURCE}; {KERNEL} EFAULT")
@pytest.mark.parametrize("call", FORMS)
def test_memory(call, select, prepare, memory, expect):
    """Each of the three sets that cannot be read fails with EFAULT, as does one that cannot be written."""
    fd = prepare("with-data", UNIX_STREAM).fd
    for at, name in enumerate(("readfds", "writefds", "exceptfds")):
        for case, block in (("no-access", memory.unmapped()), ("read-only", memory.guarded(fds(fd), PROT_READ))):
            sets = [0, 0, 0]
            sets[at] = block
            expect(-EFAULT, set=name, memory=case).of(select(call, 64, *sets))


@behaviour("readiness.select.bad-descriptor", f"{SOURCE} EBADF, BUGS, RETURN VALUE `unmodified`; {KERNEL}")
@pytest.mark.parametrize("call", FORMS)
def test_bad_descriptor(call, select, prepare, memory, calls, expect):
    """A descriptor that is not open fails with EBADF, in each set, and leaves the sets as they were. One beyond the table of
    descriptors is ignored: its word is not even written.
    """
    fd, closed = prepare("with-data", UNIX_STREAM).fd, prepare("connected", UNIX_STREAM).peer
    need(calls.syscall("close", closed))
    for at, name in enumerate(("readfds", "writefds", "exceptfds")):
        blocks = [memory.put(fds(fd)) for _ in range(3)]
        asked = fds(fd, closed)
        blocks[at].write(asked)
        check = expect([-EBADF, *(asked if other == at else fds(fd) for other in range(3))], set=name)
        result = select(call, 64, *blocks)
        check.of([result, *(block.read() for block in blocks)], result)
    expect(1, set="readfds", nfds="below-it").of(select(call, min(closed, 32), memory.put(fds(fd, closed)), 0, 0))
    last = 1 << 16
    asked = fds(fd, last, size=last // 8 + 8)
    block = memory.put(asked)
    check = expect([1, asked[-8:]], set="readfds", bit="beyond-the-table")
    result = select(call, last + 1, block, 0, 0)
    check.of([result, block.read()[-8:]], result)


@behaviour("readiness.select.count", f"{SOURCE} EINVAL; {KERNEL} `n < 0`, `n > max_fds`")
@pytest.mark.parametrize("call", FORMS)
def test_count(call, select, calls, prepare, memory, expect):
    """A negative nfds fails with EINVAL. One above RLIMIT_NOFILE does not, though the page has it that it does: only as many
    bits are read as the table of descriptors has.
    """
    fd = prepare("with-data", UNIX_STREAM).fd
    for case, nfds in {"minus-1": -1, "least": -(1 << 31)}.items():
        expect(-EINVAL, nfds=case).of(select(call, nfds, memory.put(fds(fd)), 0, 0))
        expect(-EINVAL, nfds=case, memory="no-access").of(select(call, nfds, memory.unmapped(), 0, 0))
    DescriptorLimit(calls)(64)
    for case, nfds in {"above-the-limit": 65, "most": 0x7FFFFFFF}.items():
        expect(1, nfds=case).of(select(call, nfds, memory.put(fds(fd, size=8192)), 0, 0))
