"""Wait for the next stop of a tracee: look for it for a while before sleeping.

A tracer that sleeps is woken on another CPU than the tracee's, mostly an idle one, which takes longer than the call of the
tracee. One that looks for the stop has it at once. Where the tracee needs the same CPU, or stays in its call, looking is in
vain: then it is left out for more and more waits.
"""

from __future__ import annotations

import os

from probes.trace import ptrace

#: How often a wait looks before it sleeps: about a tenth of a millisecond.
_LOOKS = 100
#: The most waits that go by without looking.
_MOST = 1023


class Spin:
    """Waits for stops, and remembers whether looking for them was in vain."""

    def __init__(self) -> None:
        """Look at the first wait."""
        self._pause = self._left = 0

    def wait(self) -> tuple[int, int]:
        """Return the tid and the wait status of the next stop. Raises ChildProcessError: there is no tracee."""
        if self._left:
            self._left -= 1
            return os.waitpid(-1, ptrace.WALL)
        for _ in range(_LOOKS):
            found = os.waitpid(-1, ptrace.WALL | os.WNOHANG)
            if found[0]:
                self._pause //= 2
                return found
        self._left = self._pause = min(2 * self._pause + 1, _MOST)
        return os.waitpid(-1, ptrace.WALL)
