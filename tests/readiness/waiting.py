"""Makes each call that waits, in all its forms, for one descriptor, with a timeout and a signal mask."""

from __future__ import annotations

import struct
from collections.abc import Callable
from errno import ENOSYS
from typing import SupportsInt

from probes.entry.calls import Calls
from probes.entry.gate import Result
from probes.testing import VersionDifference
from probes.testing.readiness import Readiness

#: The layout of each form's timeout, None for milliseconds in a word.
TIME32, TIME64 = struct.Struct("<ii"), struct.Struct("<qq")
FORMS = {
    "select": TIME32, "_newselect": TIME32, "pselect6": TIME32, "pselect6_time64": TIME64, "poll": None, "ppoll": TIME32,
    "ppoll_time64": TIME64, "epoll_wait": None, "epoll_pwait": None, "epoll_pwait2": TIME64,
}  # fmt: skip
#: Those that take a signal mask.
MASKING = ("pselect6", "pselect6_time64", "ppoll", "ppoll_time64", "epoll_pwait", "epoll_pwait2")
#: Bytes of a kernel's sigset_t.
MASK_SIZE = 8


def of_form(form: str, value: object, before: object = -ENOSYS) -> object:
    """Returns a value; kernels before epoll_pwait2 have another one for it."""
    if form != "epoll_pwait2":
        return value
    return VersionDifference(
        "5.11", before=before, after=value, cite="b0a0c2615f6f epoll: wire up syscall epoll_pwait2"
    )


class Waiting:
    """Waits for POLLIN of a descriptor by any form."""

    def __init__(self, calls: Calls) -> None:
        """Takes the calls."""
        self._calls, self._memory = calls, calls.memory
        # Set-up is not traced.
        self._quiet = Readiness(Calls(calls.gate.quieted(), calls.route, calls.memory))

    def of(self, form: str, fd: SupportsInt, events: int) -> Callable[..., Result]:
        """Prepares a form for a descriptor: what it returns makes the call, with `milliseconds` and `mask`, a pointer."""
        make = self.timed(form, fd, events)
        return lambda milliseconds=0, *mask: make(self._time(form, milliseconds), *mask)

    def timed(self, form: str, fd: SupportsInt, events: int) -> Callable[..., Result]:
        """Prepares a form as `of` does: what it returns makes the call with `time`, its word for the timeout."""
        arguments = self._watched(form, int(fd), events)

        def make(time: SupportsInt, mask: SupportsInt = 0, size: int = MASK_SIZE) -> Result:
            if form.startswith("pselect"):
                pair = self._memory.words(mask, size) if int(mask) or size != MASK_SIZE else 0
                return self._calls.syscall(form, *arguments, time, pair)
            if form in MASKING:
                return self._calls.syscall(form, *arguments, time, mask, size)
            if form == "select":
                return self._calls.syscall(form, self._memory.words(*arguments, time))
            return self._calls.syscall(form, *arguments, time)

        return make

    def _watched(self, form: str, fd: int, events: int) -> tuple[SupportsInt, ...]:
        if "poll" in form and not form.startswith("epoll"):
            return self._memory.put(struct.pack("<iHH", fd, events, 0)), 1
        if form.startswith("epoll"):
            return self._quiet.watching(fd, events), self._memory.alloc(24), 2
        return fd + 1, self._memory.put(struct.pack("<Q", 1 << fd)), 0, 0

    def _time(self, form: str, milliseconds: int | None) -> SupportsInt:
        layout = FORMS[form]
        if layout is None:
            return -1 if milliseconds is None else milliseconds
        if milliseconds is None:
            return 0
        part = 10**3 if form in ("select", "_newselect") else 10**6
        return self._memory.put(layout.pack(milliseconds // 1000, milliseconds % 1000 * part))
