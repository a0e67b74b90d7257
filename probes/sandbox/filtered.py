"""Find which socket calls a seccomp filter, under which this process runs already, answers in place of the kernel."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from probes.abi.names import family
from probes.abi.operations import OPERATIONS, SOCKETCALL
from probes.abi.record import Record
from probes.entry.gate import gate

#: Families of socket(2) that are tried: all that Linux has.
_FAMILIES = range(46)
#: A type word with a flag that the kernel refuses before it looks at the family (net/socket.c, __sys_socket).
_NO_TYPE = 0x7FFF_FF00
_SOCKET, _PAIR = OPERATIONS["socket"].direct, OPERATIONS["socketpair"].direct
#: Families that are named; of more only the number is said.
_NAMED = 4


@dataclass(frozen=True)
class _Probe:
    """Describes a call of which the kernel's answer is known, whatever it supports."""

    group: str
    name: str
    words: tuple[int, ...]
    answer: int


def _probes() -> Iterator[_Probe]:
    for operation in OPERATIONS.values():
        yield _Probe("socketcall", operation.name, (SOCKETCALL, operation.call, 0), -errno.EFAULT)
    for number, name in {one.direct: one.direct_name or one.name for one in OPERATIONS.values()}.items():
        if number not in (_SOCKET, _PAIR):
            yield _Probe("direct", name, (number, -1), -errno.EBADF)
    for number, name in ((_SOCKET, "socket"), (_PAIR, "socketpair")):
        for af in _FAMILIES:
            yield _Probe(f"direct {name}", str(family(af)), (number, af, _NO_TYPE), -errno.EINVAL)


#: (Made once: the order of the calls is that of the records.)
PROBES = tuple(_probes())


def make_calls() -> list[int]:
    """Make the calls through a gate of this process, and return their results."""
    entry = gate("int80")
    return [int(entry.enter(*probe.words)) for probe in PROBES]


def answered(results: Sequence[int], records: Sequence[Record]) -> list[_Probe]:
    """Return the calls that a filter answered: those that a tracer saw answered; without one, those with another answer."""
    if records:
        return [probe for probe, record in zip(PROBES, records, strict=False) if record.filtered]
    return [probe for probe, result in zip(PROBES, results, strict=True) if result != probe.answer]


def all_answered(found: Sequence[_Probe]) -> bool:
    """Return True if no operation reaches the kernel."""
    return len(found) == len(PROBES)


def text(found: Sequence[_Probe]) -> str:
    """Return in words what a filter answers: `socketcall, direct socket of AF_ALG and AF_VSOCK`."""
    parts = []
    for group in dict.fromkeys(probe.group for probe in found):
        names = [probe.name for probe in found if probe.group == group]
        whole = len(names) == sum(probe.group == group for probe in PROBES)
        if whole:
            parts.append(group)
        elif group.startswith("direct "):
            parts.append(f"{group} of {f'{len(names)} families' if len(names) > _NAMED else ' and '.join(names)}")
        else:
            parts.append(f"{group} {', '.join(names)}")
    return ", ".join(parts)
