"""Tests arrays at the limits of the address space: in the kernel's part, across 4 GiB, and at address 0."""

from collections.abc import Iterator
from errno import EFAULT
from pathlib import Path

import pytest

from probes.abi.operations import OPERATIONS, SOCKETCALL
from probes.entry.memory import PAGE, Block, Memory, OutOfMemory
from probes.entry.sweep import Sweep
from probes.testing import AbiDifference, Broke, behaviour, not_applicable
from probes.testing.expect import Expect

pytestmark = pytest.mark.routes("socketcall")

SOURCE = "socketcall(2) args; S2 copy_from_user; arch/x86/include/asm/uaccess.h access_ok"
#: The highest address at which the memory of a native kernel begins (arch/x86/Kconfig PAGE_OFFSET, VMSPLIT_3G).
KERNEL = 0xC0000000
TOP = 1 << 32
CITE = (
    "arch/x86/include/asm: TASK_SIZE_MAX is PAGE_OFFSET in page_32_types.h, and far above 4 GiB in page_64_types.h: "
    "access_ok refuses an array on the one, and passes it on the other"
)
LISTEN = OPERATIONS["listen"].call


def page_at(memory: Memory, address: int) -> Block | None:
    """Maps a page at this address. Returns None if the kernel refuses: a native kernel does in its own part."""
    try:
        return memory.at(address, PAGE)
    except OutOfMemory:
        return None


def above_kernel_start(result: int, expect: Expect, *pages: Block | None) -> AbiDifference:
    """Returns the expected result for an array in pages above 3 GiB: EFAULT on native i386, `result` on x86-64.

    Raises Broke if the reference is an x86-64 kernel and one of the pages could not be mapped.
    """
    if None in pages and expect.reference.abi == "ia32-compat":
        raise Broke("a page above 3 GiB: it is taken, or the process may not have it")
    return AbiDifference(i386=-EFAULT, ia32_compat=result, cite=CITE)


def lay_across(low: Block | None, high: Block | None, split: int, words: bytes) -> None:
    """Writes an array across two pages, its first `split` bytes into the lower one. Skips a page that is None."""
    for page, part in ((low and low.part(PAGE - split), words[:split]), (high, words[split:])):
        if page is not None:
            page.write(part)


def mapped(pid: int) -> Iterator[range]:
    """Yields the ranges of addresses that are mapped in a process."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        first, last = line.split(maxsplit=1)[0].split("-")
        yield range(int(first, 16), int(last, 16))


@behaviour("multiplexer.array.kernel-part", SOURCE, tag="implementation")
def test_kernel_part(the_gate, caller, calls, expect):
    """An array above 3 GiB, where a native kernel has its own memory, fails with EFAULT at every address that the process
    has not mapped: each of the first page, each of the last two pages, and one in each MiB between them.
    """
    for first, last in ((KERNEL, KERNEL + PAGE - 1), (TOP - 2 * PAGE, TOP - 1)):
        sweep = Sweep(calls)
        sweep.raw(SOCKETCALL, LISTEN, sweep.value, judged=True)
        expect(-EFAULT, addresses=f"{first:#x}..{last:#x}").of(sweep.run(range(first, last + 1)))
    check, before = expect([-EFAULT], addresses="one-in-each-MiB"), list(mapped(caller.process))
    results = {at: the_gate.enter(SOCKETCALL, LISTEN, at) for at in range(KERNEL, TOP, 1 << 20)}
    # A 32-bit process on an x86-64 kernel has its libraries there, and Python may have mapped more in between.
    own = before + list(mapped(caller.process))
    free = [result for at, result in results.items() if not any(at in part for part in own)]
    if not free:
        not_applicable("addresses above 3 GiB at which the process has mapped nothing")
    check.of(sorted(set(free)), *free)


@behaviour("multiplexer.array.above-3gib", SOURCE, tag="implementation")
def test_above_3gib(the_gate, memory, samples, expect):
    """An array in a page that is mapped above 3 GiB is read on an x86-64 kernel; on a native kernel, whose own memory is
    there, it fails with EFAULT.
    """
    for address in (KERNEL, 0xE0000000, TOP - 2 * PAGE, TOP - PAGE) if the_gate.word == 64 else (KERNEL, 0xE0000000):
        page = page_at(memory, address)
        for call, sample in samples.items():
            lay_across(None, page, 0, sample.words)
            check = expect(above_kernel_start(sample.result, expect, page), page=f"{address:#x}", call=call)
            check.of(the_gate.enter(SOCKETCALL, call, address))


@behaviour("multiplexer.array.into-kernel-part", SOURCE, tag="implementation")
def test_into_kernel_part(the_gate, memory, samples, expect):
    """An array that begins below 3 GiB and ends above it fails with EFAULT on a native kernel, and is read on x86-64."""
    low, high = page_at(memory, KERNEL - PAGE), page_at(memory, KERNEL)
    for call, sample in samples.items():
        for split in (1, 4, len(sample.words) - 1):
            lay_across(low, high, split, sample.words)
            check = expect(above_kernel_start(sample.result, expect, low, high), call=call, below=split)
            check.of(the_gate.enter(SOCKETCALL, call, KERNEL - split))


@behaviour("multiplexer.array.across-4gib", SOURCE)
def test_across_4gib(the_gate, memory, samples, expect):
    """An array that begins below 4 GiB continues above it, not at address 0: it is read where a 64-bit process has memory
    there, and fails with EFAULT in a 32-bit process.
    """
    low, high = page_at(memory, TOP - PAGE), page_at(memory, TOP) if the_gate.word == 64 else None
    for call, sample in samples.items():
        for split in (1, 4, len(sample.words) - 1):
            lay_across(low, high, split, sample.words)
            expected = above_kernel_start(sample.result, expect, low, high) if the_gate.word == 64 else -EFAULT
            check = expect(expected, call=call, below=split)
            check.of(the_gate.enter(SOCKETCALL, call, TOP - split))


@behaviour("multiplexer.array.no-wrap", SOURCE)
def test_no_wrap(the_gate, memory, samples, expect):
    """An array that would wrap from 4 GiB to address 0 fails with EFAULT."""
    last = page_at(memory, TOP - PAGE)
    for call, sample in samples.items():
        for split in (1, 4, len(sample.words) - 1):
            lay_across(last, None, split, sample.words)
            expect(-EFAULT, call=call, below=split).of(the_gate.enter(SOCKETCALL, call, TOP - split))
