"""Where addresses end: arrays in the kernel's part of them, at 4 GiB, and at address 0."""

from errno import EFAULT
from pathlib import Path

import pytest

from probes.abi.operations import OPERATIONS, SOCKETCALL
from probes.entry.gate import WORD
from probes.entry.memory import PAGE, OutOfMemory
from probes.entry.sweep import Sweep
from probes.testing import AbiDifference, Broke, behaviour

pytestmark = pytest.mark.routes("socketcall")

SOURCE = "socketcall(2) args; S2 copy_from_user; arch/x86/include/asm/uaccess.h access_ok"
#: A native kernel's own addresses begin here at the latest (arch/x86/Kconfig PAGE_OFFSET, VMSPLIT_3G).
KERNEL = 0xC0000000
TOP = 1 << 32
CITE = (
    "arch/x86/include/asm: TASK_SIZE_MAX is PAGE_OFFSET in page_32_types.h, and far above 4 GiB in page_64_types.h: "
    "access_ok refuses an array on the one, and passes it on the other"
)
LISTEN = OPERATIONS["listen"].call


def page_at(memory, address):
    """A page at this address, or None where the process may not have it: on a native kernel, in the kernel's part."""
    try:
        return memory.at(address, PAGE)
    except OutOfMemory:
        return None


def differing(answer, expect, *pages):
    """The answer of an x86-64 kernel to an array in these pages, against EFAULT. Raises Broke if we are to be judged by
    an x86-64 kernel and have not got the pages."""
    if None in pages and expect.reference.abi == "ia32-compat":
        raise Broke("a page above 3 GiB: it is taken, or the process may not have it")
    return AbiDifference(i386=-EFAULT, ia32_compat=answer, cite=CITE)


def across(low, high, split, words):
    """Lays an array over two pages, its first `split` bytes on the lower one; pages that there are none of excepted."""
    for page, part in ((low and low.part(PAGE - split), words[:split]), (high, words[split:])):
        if page is not None:
            page.write(part)


def mapped():
    """The ranges of addresses that are mapped in this process."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = line.split(maxsplit=1)[0].split("-")
        yield range(int(first, 16), int(last, 16))


@behaviour("multiplexer.array.kernel-part", SOURCE)
def test_kernel_part(the_gate, calls, expect):
    """Above 3 GiB, where a native kernel has its own memory, an array fails with EFAULT at every address where nothing
    of the process is mapped: at each of the first page, each of the last two, and one in each MiB between them.
    """
    for first, last in ((KERNEL, KERNEL + PAGE - 1), (TOP - 2 * PAGE, TOP - 1)):
        sweep = Sweep(calls)
        sweep.raw(SOCKETCALL, LISTEN, sweep.value, judged=True)
        expect(-EFAULT, addresses=f"{first:#x}..{last:#x}").of(sweep.run(range(first, last + 1)))
    check, before = expect([-EFAULT], addresses="one-in-each-MiB"), list(mapped())
    results = {at: the_gate.enter(SOCKETCALL, LISTEN, at) for at in range(KERNEL, TOP, 1 << 20)}
    # A 32-bit process on an x86-64 kernel has its libraries there, and Python may have asked for more in between.
    own = before + list(mapped())
    free = [result for at, result in results.items() if not any(at in part for part in own)]
    check.of(sorted(set(free)), *free)


@behaviour("multiplexer.array.above-3gib", SOURCE)
def test_above_3gib(the_gate, memory, telling, expect):
    """On an x86-64 kernel a process may have memory above 3 GiB, and arrays in it; on a native one that is the kernel's
    part: EFAULT.
    """
    for address in (KERNEL, 0xE0000000, TOP - 2 * PAGE, TOP - PAGE) if WORD == 64 else (KERNEL, 0xE0000000):
        page = page_at(memory, address)
        for call, (words, answer) in telling.items():
            across(None, page, 0, words)
            check = expect(differing(answer, expect, page), page=f"{address:#x}", call=call)
            check.of(the_gate.enter(SOCKETCALL, call, address))


@behaviour("multiplexer.array.into-kernel-part", SOURCE)
def test_into_kernel_part(the_gate, memory, telling, expect):
    """An array that begins below 3 GiB and ends above is one in the kernel's part on a native kernel: EFAULT."""
    low, high = page_at(memory, KERNEL - PAGE), page_at(memory, KERNEL)
    for call, (words, answer) in telling.items():
        for split in (1, 4, len(words) - 1):
            across(low, high, split, words)
            check = expect(differing(answer, expect, low, high), call=call, below=split)
            check.of(the_gate.enter(SOCKETCALL, call, KERNEL - split))


@behaviour("multiplexer.array.across-4gib", SOURCE)
def test_across_4gib(the_gate, memory, telling, expect):
    """An array that begins below 4 GiB ends above, it does not go on at address 0: a 64-bit process may have memory
    there; where nobody can, EFAULT.
    """
    low, high = page_at(memory, TOP - PAGE), page_at(memory, TOP) if WORD == 64 else None
    for call, (words, answer) in telling.items():
        for split in (1, 4, len(words) - 1):
            across(low, high, split, words)
            expected = differing(answer, expect, low, high) if WORD == 64 else -EFAULT
            check = expect(expected, call=call, below=split)
            check.of(the_gate.enter(SOCKETCALL, call, TOP - split))


@behaviour("multiplexer.array.no-wrap", SOURCE)
def test_no_wrap(the_gate, memory, telling, expect):
    """An array that would wrap round from 4 GiB to address 0 fails with EFAULT."""
    last = page_at(memory, TOP - PAGE)
    for call, (words, _) in telling.items():
        for split in (1, 4, len(words) - 1):
            across(last, None, split, words)
            expect(-EFAULT, call=call, below=split).of(the_gate.enter(SOCKETCALL, call, TOP - split))
