"""Judges the number in eax: it selects the call from the i386 table, and any other number gives ENOSYS.

Each number of the table is judged for itself. Past its end the kernel compares the number, as an unsigned one, with the
length of the table: the next numbers, those around the powers of two, the numbers of x32 and a sample tell a wrong
comparison (width, sign, mask) from a right one.
"""

import os
import socket
from errno import EBADF, EFAULT, ENOSYS

import pytest

from probes.abi.syscalls import SYSCALLS, VERSIONS
from probes.entry.sweep import Sweep
from probes.testing import behaviour, need, not_applicable
from probes.testing.procfs import lowest
from probes.testing.ranges import around_powers
from probes.testing.reference import Reference
from tests.entry.documented_calls import documented_calls
from tests.entry.registers import NUMBER

pytestmark = pytest.mark.routes("direct")

TABLE = "arch/x86/entry/syscalls/syscall_32.tbl"
SOURCE = f"syscalls(2); {TABLE}; S2 4.2, 4.4 sys_call_table; S3 system_call; S5 1.2"
SOURCE_NOT = (
    f"syscalls(2); {TABLE}; kernel/sys_ni.c sys_ni_syscall; S2 4.2 (S3 bad_sys_call, of Linux 0.11, returns -1)"
)
#: Later kernels add their calls below this number.
HEADROOM = 1024


def has_call(number: int, reference: Reference) -> bool | None:
    """Returns True if the reference kernel has a call at a number, None if the stored tables leave that open."""
    _, *columns = SYSCALLS.get(number, ("", "-" * len(VERSIONS), "-" * len(VERSIONS)))
    column = list(zip(VERSIONS, columns[reference.abi == "ia32-compat"], strict=True))
    before = [entry for version, entry in column if version <= reference.version][-1:]
    after = [entry for version, entry in column if version >= reference.version][:1]
    if not after and number <= max(SYSCALLS):
        after = before  # The tables never fill a gap later.
    return before == ["y"] if before and before == after else None


def first_beyond(reference: Reference) -> int:
    """Returns the first number that no kernel up to the reference has."""
    return max(SYSCALLS) + 1 if reference.version <= VERSIONS[-1] else HEADROOM


@behaviour("entry.number.documented", SOURCE)
@pytest.mark.routes("both")
def test_documented(the_gate, memory, expect, caller):
    """Every documented call has the number of the i386 table and returns its documented result."""
    for call in documented_calls(memory, caller):
        expect(call.returns, call=call.name).of(the_gate.enter(NUMBER[call.name], *map(int, call.words)))
    words = memory.words(socket.AF_INET, socket.SOCK_DGRAM, 0)
    expect(lowest()[0], call="socketcall").of(the_gate.enter(NUMBER["socketcall"], 1, int(words)))


@behaviour("entry.number.first", f"{SOURCE}; fork(2), _exit(2), open(2), waitpid(2)")
def test_first(the_gate, calls, children, memory, expect):
    """exit is number 1, fork 2, read 3, write 4, open 5, close 6 and waitpid 7."""
    path, text, status = memory.put(b"here\0"), memory.put(b"seven"), memory.words(0)
    # The child is made, and ends, by machine code with these numbers: its end shows both.
    reaped, exited = expect(True, number=7), expect(7 << 8, number=1)
    forked = children.begin((1, 7), fork=(2,))
    waited = the_gate.enter(7, forked, int(status), 0)
    reaped.of(waited == forked > 0, waited)
    exited.of(status.words()[0], waited)
    fd = lowest()[0]
    expect(fd, number=5).of(the_gate.enter(5, int(path), os.O_CREAT | os.O_RDWR, 0o600))
    expect(5, number=4).of(the_gate.enter(4, fd, int(text), 5))
    need(calls.gate.quieted().enter(NUMBER["lseek"], fd, 0, os.SEEK_SET))
    expect(5, number=3).of(the_gate.enter(3, fd, int(memory.alloc(8)), 8))
    expect(0, number=6).of(the_gate.enter(6, fd))


@behaviour("entry.number.unassigned", SOURCE_NOT)
def test_unassigned(the_gate, expect):
    """A number of the table without a call fails with ENOSYS, whatever the arguments: one that was never assigned, one
    whose call was removed, and one that this kernel does not have yet.
    """
    for number in range(max(SYSCALLS) + 1):
        if has_call(number, expect.reference) is False:
            check = expect([-ENOSYS, -ENOSYS], number=number)
            results = [the_gate.enter(number), the_gate.enter(number, *[0xFFFFFFFF] * 5)]
            check.of(results, *results)


#: The numbers of x32: those of x86-64, and its own.
X32 = [0x40000000 + number for number in (*range(400), *range(512, 548))]
#: How many numbers are called that follow the table.
NEXT = 16384


@behaviour("entry.number.beyond", f"{SOURCE_NOT}; do_syscall_32_irqs_on `unr < IA32_NR_syscalls`")
def test_beyond(the_gate, calls, seeded, expect):
    """A number past the end of the table, up to 0xffffffff, fails with ENOSYS, the numbers of x32 included."""
    first = first_beyond(expect.reference)
    near = sorted(number for number in {value & 0xFFFFFFFF for value in around_powers()} if number >= first)
    check = expect([-ENOSYS] * len(near), numbers="around-powers-of-two")
    results = [the_gate.enter(number) for number in near]
    check.of(results, *results)
    drawn = [seeded.randrange(first, 1 << 32) for _ in range(200)]
    check = expect([-ENOSYS] * len(drawn), drawn=len(drawn))
    results = [the_gate.enter(number) for number in drawn]
    check.of(results, *results)
    sweep = Sweep(calls)
    sweep.raw(sweep.value, judged=True)
    expect(-ENOSYS, numbers="x32").of(sweep.run(X32))
    expect(-ENOSYS, numbers=f"next-{NEXT}").of(sweep.run(range(first, first + NEXT)))


@behaviour("entry.number.i386-table", f"syscall(2); {SOURCE}; arch/x86/entry/entry_64_compat.S int80 `64-bit programs`")
@pytest.mark.routes("both")
def test_i386_table(the_gate, expect, caller):
    """int $0x80 uses the i386 table in a 64-bit process too: 20 is getpid and 102 socketcall, where the syscall
    instruction has writev and getuid.
    """
    expect(caller.pid, number=20).of(the_gate.enter(20, 0xFFFFFFFF, 0, 0))
    expect(-EFAULT, number=102).of(the_gate.enter(102, 1, 0))


@behaviour("entry.number.lower-half", "syscall(2) i386; do_int80_emulation `regs->ax & GENMASK(31, 0)`")
def test_lower_half(the_gate, expect):
    """In a 64-bit process the lower half of rax is the number and the upper half is ignored."""
    if the_gate.word == 32:
        not_applicable("a 64-bit process: registers of 32 bits have no upper halves")
    for upper in [1 << bit for bit in range(32, 64)] + [0xFFFFFFFF << 32]:
        expect(-EBADF, upper=f"{upper >> 32:#x}").of(the_gate.enter(upper | NUMBER["close"], 0xFFFFFFFF))
        expect(-ENOSYS, upper=f"{upper >> 32:#x}", number="hole").of(the_gate.enter(upper | 222))
