"""Records the frames of a captured program in a network namespace of its own: `socketcall capture --follow-wire`."""

from __future__ import annotations

import os
from contextlib import suppress

from probes.abi.frame import Frame, warm_up
from probes.sandbox import namespaces
from probes.sandbox.wire import ClockJumped, Wire
from probes.trace.spawn import CANNOT_TRACE, CannotCapture

#: Seconds that the last frames are waited for.
_DEADLINE = 2.0


class CapturedWire:
    """Is the loopback link of a network namespace that this process moves to, and its program with it."""

    def __init__(self) -> None:
        """Moves there and begins to record. Raises CannotCapture: that is not permitted."""
        try:
            namespaces.own_network(os.geteuid(), os.getegid())
            self._wire = Wire()
        except OSError as error:
            why = f"cannot make a network namespace: {error.strerror or error}; run as root, or allow user namespaces"
            raise CannotCapture(CANNOT_TRACE, why) from error
        with suppress(ImportError):  # frames are shown in hexadecimal then
            warm_up()

    def arrived(self, last: bool = False) -> tuple[list[Frame], str]:
        """Returns the frames since the last call, `last` with those that are on their way, and what is missing or ""."""
        frames = self._wire.arrived()
        try:
            frames += self._wire.frames(deadline=_DEADLINE) if last else []
        except (ClockJumped, OSError) as error:
            # (The program may have taken the link down.)
            return frames + self._wire.arrived(), f"frames may be missing: {error}"
        lost = self._wire.lost()
        return frames, f"{lost} frames found no room" if lost else ""
