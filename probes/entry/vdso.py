"""Locate the vDSO of a process, and the instruction pointer of calls through it (vdso(7))."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Literal

#: In __kernel_vsyscall: int $0x80, then pops of the three registers it pushed, and ret. The kernel reports the address
#: after the int $0x80 (the landing pad) as instruction pointer of every entry, sysenter and syscall included.
LANDING = bytes.fromhex("cd80 5d5a59c3")


def vdso_range(pid: int | Literal["self"] = "self") -> range:
    """Return the addresses of the [vdso] mapping of a process, an empty range if it has none (/proc/PID/maps).

    Raises OSError: the process is gone, or its memory map may not be read.
    """
    for line in Path(f"/proc/{pid}/maps").read_bytes().split(b"\n"):
        # The path of a file, in any encoding, may end alike.
        if line.split(maxsplit=5)[5:] == [b"[vdso]"]:
            first, last = (int(end, 16) for end in line.split(maxsplit=1)[0].split(b"-"))
            return range(first, last)
    return range(0)


def landing_pad() -> int:
    """Return the instruction pointer of every call through the vDSO of this 32-bit process.

    Raises LookupError: there is no __kernel_vsyscall.
    """
    vdso = vdso_range()
    offset = ctypes.string_at(vdso.start, len(vdso)).find(LANDING) if vdso else -1
    if offset < 0:
        raise LookupError("no __kernel_vsyscall in [vdso]: boot the kernel without vdso32=0")
    return vdso.start + offset + 2
