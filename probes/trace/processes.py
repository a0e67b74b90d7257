"""Read /proc/PID/status and /proc/PID/task of processes to trace, and kill them."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Literal


def tgid(tid: int) -> int:
    """Return the process id of a thread, or the thread's own id if it is gone."""
    return int(status_field(tid, "Tgid") or tid)


def threads(pid: int) -> set[int]:
    """Return the thread ids of a process, none if it is gone."""
    with suppress(OSError):
        return {int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()}
    return set()


def status_field(tid: int | Literal["self"], name: str) -> str:
    """Return a field of /proc/TID/status, "" if the thread is gone or the kernel has no such field."""
    with suppress(OSError):
        text = Path(f"/proc/{tid}/status").read_text(errors="replace")
        return text.partition(f"\n{name}:")[2].partition("\n")[0].strip()
    return ""


def has_ended(tid: int) -> bool:
    """Return True if a thread is gone or a zombie."""
    return status_field(tid, "State")[:1] in ("", "Z", "X")


def kill(pid: int) -> None:
    """Send SIGKILL to a process. Does nothing for 0 or for a process that is gone."""
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
