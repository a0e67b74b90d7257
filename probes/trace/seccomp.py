"""Build seccomp filters that stop a tracee at selected calls (seccomp(2), SECCOMP_RET_TRACE)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from functools import cache

from probes.entry.gate import COOKIE, SIX_ARGUMENTS
from probes.trace import ptrace
from probes.trace.processes import status_field

_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
RET_ALLOW, RET_TRACE, RET_ERRNO = 0x7FFF0000, 0x7FF00000, 0x00050000
#: SECCOMP_MODE_FILTER, as in /proc/PID/status.
_MODE_FILTER = "2"
#: Offsets in struct seccomp_data.
_NR, _ARCH, _IP, _IP_HIGH, _SIXTH = 0, 4, 8, 12, 56


@cache
def is_filtered() -> bool:
    """Return True if this process already has a seccomp filter (e.g. in a container).

    Its actions take precedence over ours, so the tracer must use PTRACE_SYSCALL.
    """
    return status_field("self", "Seccomp") == _MODE_FILTER


def _op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("<HBBI", code, yes, no, value)


def at_gates(int80: int, vdso: int = 0) -> list[bytes]:
    """Return a filter that stops the calls made through the gates, given their instruction pointers below 4 GiB.

    It stops every call at the int80 gate. At the vDSO's landing pad, which other code uses too, it stops the calls with
    COOKIE in ebp, and those with six arguments, which have no register left for it.
    """
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
    """Return a filter that stops calls by number, for each architecture (ptrace.ARCH_I386, ptrace.ARCH_X86_64)."""
    program: list[bytes] = []
    for architecture, wanted in numbers.items():
        tests = sorted(wanted)
        program += [_op(_LOAD, _ARCH), _op(_EQUAL, architecture, 0, len(tests) + 3), _op(_LOAD, _NR)]
        program += [_op(_EQUAL, number, len(tests) - index, 0) for index, number in enumerate(tests)]
        program += [_op(_RETURN, RET_ALLOW), _op(_RETURN, RET_TRACE)]
    return [*program, _op(_RETURN, RET_ALLOW)]


def answering(number: int, errno_value: int, architecture: int = ptrace.ARCH_I386) -> list[bytes]:
    """Return a filter that fails one system call with an errno: it makes an implementation that deviates on purpose."""
    return [
        _op(_LOAD, _ARCH), _op(_EQUAL, architecture, 0, 3),
        _op(_LOAD, _NR), _op(_EQUAL, number, 0, 1),
        _op(_RETURN, RET_ERRNO | errno_value),
        _op(_RETURN, RET_ALLOW),
    ]  # fmt: skip
