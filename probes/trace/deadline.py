"""Limit how long a wait in the ptrace loop may take."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType, TracebackType


@dataclass
class Deadline:
    """Calls `late` in the main thread after `seconds`, then every second until the block ends (None: never).

    Works in the main thread only: it uses setitimer(2) and handles SIGALRM.
    """

    seconds: float | None
    late: Callable[[], None]
    passed: bool = False

    def _alarm(self, number: int, frame: FrameType | None) -> None:
        self.passed = True
        self.late()
        # Re-arms: the tracee may have ignored the signal, or forked meanwhile.
        signal.setitimer(signal.ITIMER_REAL, 1)

    def __enter__(self) -> Deadline:
        """Start the timer."""
        self._old = signal.signal(signal.SIGALRM, self._alarm)
        if self.seconds is not None:
            signal.setitimer(signal.ITIMER_REAL, self.seconds)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Stop the timer and restore the handler of SIGALRM."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._old)
