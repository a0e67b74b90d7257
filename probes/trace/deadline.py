"""A deadline for whoever waits in the ptrace loop."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType, TracebackType


@dataclass
class Deadline:
    """Calls `late` in this process after some seconds; None: never. Usable in the main thread only (setitimer)."""

    seconds: float | None
    late: Callable[[], None]
    passed: bool = False

    def _alarm(self, number: int, frame: FrameType | None) -> None:
        self.passed = True
        self.late()
        # Again until it is over: one that was asked may not have listened, another may have been born in between.
        signal.setitimer(signal.ITIMER_REAL, 1)

    def __enter__(self) -> Deadline:
        self._old = signal.signal(signal.SIGALRM, self._alarm)
        if self.seconds is not None:
            signal.setitimer(signal.ITIMER_REAL, self.seconds)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._old)
