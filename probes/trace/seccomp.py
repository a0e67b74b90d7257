"""Filters that stop a tracee only at the calls somebody wants to see (seccomp(2), SECCOMP_RET_TRACE)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from probes.entry.gate import COOKIE, SIX_ARGUMENTS
from probes.trace import ptrace

_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
RET_ALLOW, RET_TRACE, RET_ERRNO = 0x7FFF0000, 0x7FF00000, 0x00050000
#: Offsets in struct seccomp_data.
_NR, _ARCH, _IP, _IP_HIGH, _SIXTH = 0, 4, 8, 12, 56


def _op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("<HBBI", code, yes, no, value)


def at_gates(int80: int, vdso: int = 0) -> list[bytes]:
    """Stops the calls made at these instruction pointers, below 4 GiB: at the gate's own every call, at the landing pad
    of the vDSO those that carry the gate's cookie, or have no register to spare for one."""
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


def of_numbers(numbers: Mapping[int, Iterable[int]]) -> list[bytes]:
    """Stops the calls with these numbers, given by architecture (ptrace.ARCH_I386, ptrace.ARCH_X86_64)."""
    program: list[bytes] = []
    for architecture, wanted in numbers.items():
        tests = sorted(wanted)
        program += [_op(_LOAD, _ARCH), _op(_EQUAL, architecture, 0, len(tests) + 3), _op(_LOAD, _NR)]
        program += [_op(_EQUAL, number, len(tests) - index, 0) for index, number in enumerate(tests)]
        program += [_op(_RETURN, RET_ALLOW), _op(_RETURN, RET_TRACE)]
    return [*program, _op(_RETURN, RET_ALLOW)]


def answering(number: int, errno_value: int, architecture: int = ptrace.ARCH_I386) -> list[bytes]:
    """Answers one system call with an errno, for good: an implementation that deviates on purpose."""
    return [
        _op(_LOAD, _ARCH), _op(_EQUAL, architecture, 0, 3),
        _op(_LOAD, _NR), _op(_EQUAL, number, 0, 1),
        _op(_RETURN, RET_ERRNO | errno_value),
        _op(_RETURN, RET_ALLOW),
    ]  # fmt: skip
