"""Executes a command under seccomp filters that refuse what container engines refuse: python -m tests.instruments.profiles.

What the profiles refuse is that of moby/profiles, seccomp/default.json, of which three states matter to socket calls:
"families" (today's: socket(2) has a list of families, by its own number only), "socketcall" (moby 29.4.2: socketcall(2) was
refused whole, and AF_ALG and AF_VSOCK by the number of socket(2)), "vsock" (AF_ALG and AF_VSOCK by that number alone).
All refuse what makes namespaces, as for a container without CAP_SYS_ADMIN. "ptrace" refuses ptrace(2) beside, "all" every
socket call. An engine allows a list of calls and refuses
the rest; here only what the suite could notice is refused.
"""

import errno
import os
import sys

from probes.trace import ptrace
from probes.trace.seccomp import RET_ALLOW, RET_ERRNO, _op

AF_ALG, AF_VSOCK = 38, 40
#: The families that today's profile allows to socket(2).
ALLOWED = {*range(12), *range(13, 19), 21, 22, 24, *range(26, 34), 35, 36, 39, *range(41, 46)}
#: CLONE_NEW* but CLONE_NEWTIME.
NAMESPACES = 0x7E020000
NUMBERS = {
    ptrace.ARCH_I386: {
        "clone": 120, "clone3": 435, "socket": 359, "socketcall": 102, "ptrace": 26,
        "refused": (21, 52, 217, 286, 287, 288, 310, 336, 346, 357, 374, 425),
        "all": (102, 337, 345, *range(359, 374)),
    },
    ptrace.ARCH_X86_64: {
        "clone": 56, "clone3": 435, "socket": 41, "socketcall": None, "ptrace": 101,
        "refused": (155, 165, 166, 248, 249, 250, 272, 298, 308, 321, 323, 425),
        "all": (),
    },
}  # fmt: skip
REFUSED = RET_ERRNO | errno.EPERM


def returning(number, value):
    """Return instructions that end with a value for one number, which the accumulator holds."""
    return [_op(0x15, number, 0, 1), _op(6, value)]


def of_first(number, tests):
    """Return instructions that look at the first argument of one number."""
    return [_op(0x15, number, 0, len(tests) + 2), _op(0x20, 16), *tests, _op(6, RET_ALLOW)]


def families(refused):
    return [line for af in refused for line in returning(af, REFUSED)]


def filter_of(arch, profile):
    numbers = NUMBERS[arch]
    program = [line for number in numbers["refused"] for line in returning(number, REFUSED)]
    program += returning(numbers["clone3"], RET_ERRNO | errno.ENOSYS)
    program += of_first(numbers["clone"], [_op(0x45, NAMESPACES, 0, 1), _op(6, REFUSED)])
    if profile == "ptrace":
        program += returning(numbers["ptrace"], REFUSED)
    if profile == "all":
        program += [line for number in numbers["all"] for line in returning(number, REFUSED)]
    if profile == "socketcall" and numbers["socketcall"]:
        program += returning(numbers["socketcall"], REFUSED)
    refused = [AF_ALG, AF_VSOCK] if profile != "families" else [af for af in range(46) if af not in ALLOWED]
    tests = families(refused)
    if profile == "families":
        tests += [_op(0x35, 46, 0, 1), _op(6, REFUSED)]
    program += of_first(numbers["socket"], tests)
    return [_op(0x20, 4), _op(0x15, arch, 1, 0), _op(6, RET_ALLOW), _op(0x20, 0), *program, _op(6, RET_ALLOW)]


if __name__ == "__main__":
    for architecture in NUMBERS:
        ptrace.set_filter(filter_of(architecture, sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
