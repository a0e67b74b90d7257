"""What /proc says about the processes that are traced, or are to be."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path


def group(tid: int) -> int:
    """The process that a thread belongs to; the thread itself if it is gone already."""
    return int(field(tid, "Tgid") or tid)


def threads(pid: int) -> set[int]:
    """The threads of a process; none if it is gone."""
    with suppress(OSError):
        return {int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()}
    return set()


def field(tid: int, name: str) -> str:
    """A field of /proc/TID/status; "" if the thread is gone, or the kernel has no such field."""
    with suppress(OSError):
        text = Path(f"/proc/{tid}/status").read_text(errors="replace")
        return text.partition(f"\n{name}:")[2].partition("\n")[0].strip()
    return ""


def has_ended(tid: int) -> bool:
    """Whether a thread is gone, or a zombie."""
    return field(tid, "State")[:1] in ("", "Z", "X")


def in_vdso(pid: int, address: int) -> bool:
    """Whether an address lies in a process's [vdso]. Raises OSError: its memory map is not for us."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if line.endswith("[vdso]"):
            first, last = (int(end, 16) for end in line.split(maxsplit=1)[0].split("-"))
            return first <= address < last
    return False


def kill(pid: int) -> None:
    """SIGKILL, if it is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
