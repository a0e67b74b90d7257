"""Signals that a call sends to its caller: blocked before, and taken after it."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from errno import EAGAIN, ENOSYS

from probes.entry.calls import Calls
from probes.entry.memory import pack_words
from probes.testing import need

#: arch/x86/entry/syscalls/syscall_32.tbl. No behaviour is about these calls.
_RT_SIGPROCMASK, _RT_SIGTIMEDWAIT, _RT_SIGTIMEDWAIT_TIME64 = 175, 177, 421
_SIG_BLOCK = 0
_SET = 8  # bytes of a kernel's sigset_t
_PATIENCE = 10


class BlockedSignals:
    """Blocks some signals in the process that makes the calls. A blocked signal stays pending, even if it is ignored."""

    def __init__(self, calls: Calls, numbers: Iterable[int]) -> None:
        """Blocks them (rt_sigprocmask(2)). Raises SetUpRefused."""
        self._gate, self._memory = calls.gate.quieted(), calls.memory
        self._set = self._memory.put(struct.pack("<Q", sum(1 << number - 1 for number in numbers)))
        self._time = self._memory.words(0, 0, 0, 0)
        need(self._gate.enter(_RT_SIGPROCMASK, _SIG_BLOCK, self._set.address, 0, _SET), "rt_sigprocmask")

    def taken(self) -> int:
        """Returns the number of a pending signal, which is pending no longer; 0 if there is none (sigtimedwait(2)).

        Raises SetUpRefused.
        """
        return self._wait(0)

    def awaited(self) -> int:
        """Waits for a signal, and returns its number; 0 if none comes in ten seconds. Raises SetUpRefused."""
        return self._wait(_PATIENCE)

    def _wait(self, seconds: int) -> int:
        # Both forms of the time read it so: two words, or seconds and nanoseconds of 64 bits.
        for number, time in ((_RT_SIGTIMEDWAIT, (seconds, 0)), (_RT_SIGTIMEDWAIT_TIME64, (seconds, 0, 0, 0))):
            self._time.write(pack_words(*time).ljust(16, b"\0"))
            result = self._gate.enter(number, self._set.address, 0, self._time.address, _SET)
            # A kernel without the calls that have a time of 32 bits has the second one only.
            if result != -ENOSYS:
                break
        return 0 if result == -EAGAIN else need(result, "rt_sigtimedwait")
