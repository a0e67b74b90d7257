"""The number in eax: one table, one number for each call, ENOSYS for everything else."""

import os
import socket
from errno import EBADF, EFAULT, ENOSYS

import pytest

from probes.abi.syscalls import SYSCALLS, VERSIONS
from probes.entry.gate import WORD
from probes.entry.sweep import Sweep
from probes.testing import behaviour, need, not_applicable
from probes.testing.procfs import lowest
from tests.entry.entry_calls import NUMBER, converse

pytestmark = pytest.mark.routes("direct")

TABLE = "arch/x86/entry/syscalls/syscall_32.tbl"
SOURCE = f"syscalls(2); {TABLE}; S2 4.2, 4.4 sys_call_table; S3 system_call; S5 1.2"
SOURCE_NOT = (
    f"syscalls(2); {TABLE}; kernel/sys_ni.c sys_ni_syscall; S2 4.2 (S3 bad_sys_call, of Linux 0.11, answers -1)"
)
#: What a later kernel may add lies below.
HEADROOM = 1024


def has_call(number, reference):
    """Whether the reference has a call at a number; None if the tables that were read do not tell."""
    _, *columns = SYSCALLS.get(number, ("", "-" * len(VERSIONS), "-" * len(VERSIONS)))
    column = list(zip(VERSIONS, columns[reference.abi == "ia32-compat"], strict=True))
    before = [entry for version, entry in column if version <= reference.version][-1:]
    after = [entry for version, entry in column if version >= reference.version][:1]
    if not after and number <= max(SYSCALLS):
        after = before  # A number that was passed over is not given any more.
    return before == ["y"] if before and before == after else None


def first_beyond(reference):
    """The first number that no kernel up to the reference has."""
    return max(SYSCALLS) + 1 if reference.version <= VERSIONS[-1] else HEADROOM


@behaviour("entry.number.documented", SOURCE)
def test_documented(the_gate, memory, expect):
    """Every documented call answers at the number that the table gives it, and does what it is documented to do."""

    def do(name, answer, *words):
        judge = expect(answer, call=name)
        result = the_gate.enter(NUMBER[name], *map(int, words))
        judge.of(result)
        return result

    converse(do, memory)
    words = memory.words(socket.AF_INET, socket.SOCK_DGRAM, 0)
    expect(lowest()[0], call="socketcall").of(the_gate.enter(NUMBER["socketcall"], 1, int(words)))


@behaviour("entry.number.first", f"{SOURCE}; fork(2), _exit(2), open(2), waitpid(2)")
def test_first(the_gate, memory, expect):
    """The table begins as S2 and S3 list it: exit is 1, fork 2, read 3, write 4, open 5, close 6, and waitpid is 7."""
    path, text, status = memory.put(b"here\0"), memory.put(b"seven"), memory.words(0)
    forked = the_gate.enter(2)
    if forked == 0:
        the_gate.enter(1, 7)
    need(forked, "a child")
    expect(int(forked), number=7).of(the_gate.enter(7, forked, int(status), 0))
    expect(7 << 8, number=1).of(status.words()[0], forked)
    fd = lowest()[0]
    expect(fd, number=5).of(the_gate.enter(5, int(path), os.O_CREAT | os.O_RDWR, 0o600))
    expect(5, number=4).of(the_gate.enter(4, fd, int(text), 5))
    os.lseek(fd, 0, os.SEEK_SET)
    expect(5, number=3).of(the_gate.enter(3, fd, int(memory.alloc(8)), 8))
    expect(0, number=6).of(the_gate.enter(6, fd))


@behaviour("entry.number.unassigned", SOURCE_NOT)
def test_unassigned(the_gate, expect):
    """A number of the table without a call answers ENOSYS, whatever the arguments: one that was never given, one that
    was taken back, and one that this kernel does not have yet.
    """
    for number in range(max(SYSCALLS) + 1):
        if has_call(number, expect.reference) is False:
            bad = the_gate.enter(number, *[0xFFFFFFFF] * 5)
            expect([-ENOSYS, -ENOSYS], number=number).of([the_gate.enter(number), bad], bad)


def beyond(reference):
    """Numbers past the table: its neighbours, both ends of the word, every bit, and those of x32."""
    first = first_beyond(reference)
    powers = {(1 << bit) + off & 0xFFFFFFFF for bit in range(32) for off in (-1, 0, 1)}
    x32 = {0x40000000 + number for number in (*range(400), *range(512, 548))}
    return sorted(number for number in powers | x32 | {first, first + 1} if number >= first)


@behaviour("entry.number.beyond", f"{SOURCE_NOT}; do_syscall_32_irqs_on `unr < IA32_NR_syscalls`")
def test_beyond(the_gate, calls, seeded, expect):
    """A number past the end of the table answers ENOSYS, up to -1; the bit that x32 calls carry means nothing here."""
    for number in beyond(expect.reference):
        expect(-ENOSYS, number=f"{number:#x}").of(the_gate.enter(number))
    first = first_beyond(expect.reference)
    drawn = [seeded.randrange(first, 1 << 32) for _ in range(200)]
    check = expect([-ENOSYS] * len(drawn), drawn=len(drawn))
    results = [the_gate.enter(number) for number in drawn]
    check.of(results, *results)
    sweep = Sweep(calls)
    sweep.raw(sweep.value, judged=True)
    expect(-ENOSYS, numbers="next-100000").of(sweep.run(range(first, first + 100_000)))


@behaviour("entry.number.i386-table", f"syscall(2); {SOURCE}; arch/x86/entry/entry_64_compat.S int80 `64-bit programs`")
def test_i386_table(the_gate, expect):
    """The entry decides about the table, not the process: 20 is getpid from a 64-bit process as well, where it is
    writev by way of the syscall instruction, and 102 is socketcall and not getuid.
    """
    expect(os.getpid(), number=20).of(the_gate.enter(20, 0xFFFFFFFF, 0, 0))
    expect(-EFAULT, number=102).of(the_gate.enter(102, 1, 0))


@behaviour("entry.number.lower-half", "syscall(2) i386; do_int80_emulation `regs->ax & GENMASK(31, 0)`")
def test_lower_half(the_gate, expect):
    """Of a 64-bit process's rax only the lower half is the number."""
    if WORD == 32:
        not_applicable("a 64-bit process: registers of 32 bits have no upper halves")
    for upper in [1 << bit for bit in range(32, 64)] + [0xFFFFFFFF << 32]:
        expect(-EBADF, upper=f"{upper >> 32:#x}").of(the_gate.enter(upper | NUMBER["close"], 0xFFFFFFFF))
        expect(-ENOSYS, upper=f"{upper >> 32:#x}", number="hole").of(the_gate.enter(upper | 222))
