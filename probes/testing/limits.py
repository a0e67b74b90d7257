"""Limits of the process that makes the calls, set by its own calls."""

from __future__ import annotations

import struct

from probes.entry.calls import Calls
from probes.testing import procfs
from probes.testing.expect import need

#: setrlimit(2) of the i386 table, and its resource.
_SETRLIMIT, _RLIMIT_NOFILE = 75, 7
#: The hard limit then: one that every sandbox permits.
_MOST = 256


class DescriptorLimit:
    """Sets the soft RLIMIT_NOFILE of the caller by untraced calls: limit(number). Each raises SetUpRefused."""

    def __init__(self, calls: Calls) -> None:
        """Takes the calls of the test."""
        self._gate, self._memory = calls.gate.quieted(), calls.memory

    def __call__(self, number: int) -> None:
        """Sets it."""
        limits = self._memory.put(struct.pack("<II", number, _MOST))
        need(self._gate.enter(_SETRLIMIT, _RLIMIT_NOFILE, limits.address), "setrlimit")

    def leave(self, left: int) -> None:
        """Lowers it so that `left` more descriptors can be opened, by Python's own calls too."""
        self(procfs.lowest(left + 1)[left])

    def restore(self) -> None:
        """Raises it to the hard limit."""
        self(_MOST)
