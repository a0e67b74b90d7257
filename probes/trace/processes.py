"""Read /proc/PID/status and /proc/PID/task of processes to trace, and kill them."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Literal

_libc = ctypes.PyDLL(None, use_errno=True)
#: tgkill(2) has no function in older C libraries.
_TGKILL = 234 if platform.machine() == "x86_64" and ctypes.sizeof(ctypes.c_void_p) == 8 else 270


def tgid(tid: int, among: Iterable[int] = ()) -> int:
    """Return which process of some a thread is of, or the thread's own id if it is of none."""
    for pid in among:
        if _libc.syscall(_TGKILL, pid, tid, 0) == 0 or ctypes.get_errno() == errno.EPERM:
            return pid
    return tid


def threads(pid: int) -> set[int]:
    """Return the thread ids of a process, none if it is gone."""
    with suppress(OSError):
        return {int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()}
    return set()


def status_field(tid: int | Literal["self"], name: str) -> str:
    """Return a field of /proc/TID/status, "" if the thread is gone or the kernel has no such field."""
    with suppress(OSError):
        file = os.open(f"/proc/{tid}/status", os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(file, _STATUS).decode(errors="replace")
        finally:
            os.close(file)
        return text.partition(f"\n{name}:")[2].partition("\n")[0].strip()
    return ""


#: More than the bytes of a status file.
_STATUS = 0x4000


def has_ended(tid: int) -> bool:
    """Return True if a thread is gone or a zombie."""
    return status_field(tid, "State")[:1] in ("", "Z", "X")


def kill(pid: int) -> None:
    """Send SIGKILL to a process. Does nothing for 0 or for a process that is gone."""
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
