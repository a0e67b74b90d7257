"""Build seccomp filters that stop a tracee at selected calls (seccomp(2), SECCOMP_RET_TRACE)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from functools import cache

from probes.abi.operations import SOCKETCALL
from probes.entry.gate import COOKIE, SIX_ARGUMENTS
from probes.trace import ptrace
from probes.trace.processes import status_field

_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
RET_ALLOW, RET_TRACE, RET_ERRNO = 0x7FFF0000, 0x7FF00000, 0x00050000
#: The data of our RET_TRACE, by which a tracer knows it from that of another filter (PTRACE_GETEVENTMSG).
OURS = 0x5343
#: SECCOMP_MODE_FILTER, as in /proc/PID/status.
_MODE_FILTER = "2"
#: Offsets in struct seccomp_data.
_NR, _ARCH, _IP, _IP_HIGH, _FIRST, _SIXTH = 0, 4, 8, 12, 16, 56


@cache
def is_filtered() -> bool:
    """Return True if this process already has a seccomp filter (e.g. in a container).

    Its actions take precedence over ours, so the tracer must use PTRACE_SYSCALL.
    """
    return status_field("self", "Seccomp") == _MODE_FILTER


def _op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("<HBBI", code, yes, no, value)


def at_gates(int80: int, vdso: int = 0, *, every: bool = False) -> list[bytes]:
    """Return a filter that stops the calls made through the gates, given their instruction pointers below 4 GiB.

    It stops every call at the int80 gate. At the vDSO's landing pad, which other code uses too, it stops the calls with
    COOKIE in ebp, and those with six arguments, which have no register left for it; with `every` all calls there.
    """
    if every:
        return [
            _op(_LOAD, _IP_HIGH), _op(_EQUAL, 0, 0, 3), _op(_LOAD, _IP), _op(_EQUAL, int80, 2, 0), _op(_EQUAL, vdso, 1, 0),
            _op(_RETURN, RET_ALLOW), _op(_RETURN, RET_TRACE),
        ]  # fmt: skip
    shared = [_op(_LOAD, _NR)]
    shared += [_op(_EQUAL, number, len(SIX_ARGUMENTS) - index + 2, 0) for index, number in enumerate(SIX_ARGUMENTS)]
    shared += [_op(_LOAD, _SIXTH), _op(_EQUAL, COOKIE, 1, 0)]
    last = len(shared)
    return [
        _op(_LOAD, _IP_HIGH), _op(_EQUAL, 0, 0, last + 3),
        _op(_LOAD, _IP), _op(_EQUAL, int80, last + 2, 0), _op(_EQUAL, vdso, 0, last),
        *shared,
        _op(_RETURN, RET_ALLOW), _op(_RETURN, RET_TRACE),
    ]  # fmt: skip


def of_numbers(
    numbers: Mapping[int, Iterable[int]],
    operations: Iterable[int] | None = None,
    flags: Mapping[int, tuple[int, int]] | None = None,
    bits: Mapping[int, int] | None = None,
) -> list[bytes]:
    """Return a filter that stops calls by number, for each architecture (ptrace.ARCH_I386, ptrace.ARCH_X86_64).

    Of socketcall it stops those with an operation number (ebx) of `operations`, all if that is None. `flags` has a call that
    is stopped if its first argument has a bit, `bits` the bits of numbers that are all stopped, by architecture.
    """
    program: list[bytes] = []
    for architecture, wanted in numbers.items():
        tests = _tests(wanted)
        if architecture == ptrace.ARCH_I386 and operations is not None and SOCKETCALL in wanted:
            own = _tests(operations)
            tests = [
                _op(_EQUAL, SOCKETCALL, 0, len(own) + 2), _op(_LOAD, _FIRST), *own, _op(_RETURN, RET_ALLOW),
                *_tests(set(wanted) - {SOCKETCALL}),
            ]  # fmt: skip
        if bits and architecture in bits:
            tests = [_op(_ANY_BIT, bits[architecture], 0, 1), _op(_RETURN, RET_TRACE | OURS), *tests]
        if flags and architecture in flags:
            number, flag = flags[architecture]
            has_flag = [_op(_LOAD, _FIRST), _op(_ANY_BIT, flag, 0, 1), _op(_RETURN, RET_TRACE | OURS)]
            tests = [_op(_EQUAL, number, 0, 4), *has_flag, _op(_RETURN, RET_ALLOW), *tests]
        program += [_op(_LOAD, _ARCH), _op(_EQUAL, architecture, 0, len(tests) + 2), _op(_LOAD, _NR), *tests]
        program += [_op(_RETURN, RET_ALLOW)]
    return [*program, _op(_RETURN, RET_ALLOW)]


def _tests(numbers: Iterable[int]) -> list[bytes]:
    """Return instructions that stop a call if the accumulator is one of some numbers, and else return or go on.

    A jump of classic BPF reaches 255 instructions: each test has its own end.
    """
    return [line for number in sorted(numbers) for line in (_op(_EQUAL, number, 0, 1), _op(_RETURN, RET_TRACE | OURS))]


def answering(number: int, errno_value: int, architecture: int = ptrace.ARCH_I386) -> list[bytes]:
    """Return a filter that fails one system call with an errno: it makes an implementation that deviates on purpose."""
    return [
        _op(_LOAD, _ARCH), _op(_EQUAL, architecture, 0, 3),
        _op(_LOAD, _NR), _op(_EQUAL, number, 0, 1),
        _op(_RETURN, RET_ERRNO | errno_value),
        _op(_RETURN, RET_ALLOW),
    ]  # fmt: skip
