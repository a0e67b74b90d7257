"""Let a program have the answers that it has without a tracer, and say what a capture cannot see.

A seccomp filter with SECCOMP_RET_TRACE fails calls of processes that no tracer follows with ENOSYS (seccomp(2)): a child
made with CLONE_UNTRACED inherits the filter, so the flag is taken out, and put back where its parent finds it. Where a
filter of the program itself returns SECCOMP_RET_TRACE, the program expects ENOSYS, as it has no tracer of its own.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable

from probes.trace import ptrace
from probes.trace.traced_call import ARGUMENTS_OF, NR, RET, number_of

CLONE_UNTRACED = 0x00800000
#: clone and clone3, by architecture.
CLONES = {ptrace.ARCH_I386: (120, 435), ptrace.ARCH_X86_64: (56, 435)}
IO_URING_SETUP = 425
#: The bit in the number of an x32 call (asm/unistd.h __X32_SYSCALL_BIT).
X32 = 0x40000000
_U64 = struct.Struct("<Q")

#: Puts back what was changed, at the exit of the call.
Restore = Callable[[], None]


def follow_untraced(tid: int, arch: int, regs: tuple[int, ...]) -> Restore | None:
    """Take CLONE_UNTRACED out of a call of clone or clone3, and return how to put it back; None if it has no such flag."""
    clone, clone3 = CLONES[arch]
    index = ARGUMENTS_OF[arch][0]
    if number_of(regs) == clone and regs[index] & CLONE_UNTRACED:
        kept = regs[index]
        _set_register(tid, index, kept & ~CLONE_UNTRACED)
        return lambda: _set_register(tid, index, kept)
    if number_of(regs) == clone3:
        raw = ptrace.read(tid, regs[index], _U64.size)
        if len(raw) == _U64.size and _U64.unpack(raw)[0] & CLONE_UNTRACED:
            address = regs[index]
            ptrace.write(tid, address, _U64.pack(_U64.unpack(raw)[0] & ~CLONE_UNTRACED))
            return lambda: ptrace.write(tid, address, raw)
    return None


def refuse(tid: int) -> None:
    """Let a call at its entry stop fail with ENOSYS, as without a tracer."""
    _set_register(tid, NR, -1)
    _set_register(tid, RET, -errno.ENOSYS)


def remark(number: int, arch: int) -> str:
    """Return what a capture cannot see of the calls that follow this one, "" if it sees all."""
    if number == IO_URING_SETUP:
        return "io_uring: what is done through the ring is no system call, and is not captured"
    if arch == ptrace.ARCH_X86_64 and number >> 30 == 1:  # (A number that is negative is of no ABI.)
        return "x32: calls of this ABI are not captured"
    return ""


def _set_register(tid: int, index: int, value: int) -> None:
    ptrace.set_raw_registers(tid, ptrace.with_register(ptrace.raw_registers(tid), index, value))
