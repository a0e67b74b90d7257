"""Run the tracer on the CPU of what it traces: each stop of a tracee is then a switch there, not a wake-up of another CPU.

Only the affinity of the tracer changes. While several threads are traced, which may run at the same time, it is the one that
the tracer was started with.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

#: Calls after which the tracer looks where its tracee runs: the kernel may have moved it.
EVERY = 512
#: The field of /proc/TID/stat that is the CPU, counted from the one behind the name of the program (proc(5), field 39).
_PROCESSOR = 36


class CpuFollower:
    """Moves this process to the CPU of a thread that is traced alone, and back."""

    def __init__(self) -> None:
        """Take the affinity that this process has."""
        self._own = os.sched_getaffinity(0)
        self._at = self._own

    def follow(self, tid: int, alone: bool) -> None:
        """Move to the CPU of a thread; `alone`: no other is traced. Does nothing where that is not known."""
        wanted = self._own
        if alone:
            with suppress(OSError, ValueError, IndexError):
                text = Path(f"/proc/{tid}/stat").read_text(errors="replace")
                wanted = {int(text.rpartition(")")[2].split()[_PROCESSOR])} & self._own or self._own
        if wanted != self._at:
            with suppress(OSError):
                os.sched_setaffinity(0, wanted)
                self._at = wanted
