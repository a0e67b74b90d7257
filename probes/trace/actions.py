"""Define what injection does to a call at its entry or exit: its result, words and memory, a signal, a delay."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from probes.trace.stop import IP, LOW, NR, RET, WORD, Behind, Place, Stop

#: Bytes of the instructions int 0x80 and syscall: a call is made again from there.
_ENTRY_SIZE = 2

#: What is done at a stop. It returns False if the call has nothing to change.
Action = Callable[[Stop], bool]


@dataclass(frozen=True)
class Return:
    """Returns a value in place of the result."""

    value: int

    def __call__(self, stop: Stop) -> bool:
        """Change the result."""
        stop.set_result(self.value)
        return True


@dataclass(frozen=True)
class ReturnMore:
    """Returns so much more than the result."""

    by: int

    def __call__(self, stop: Stop) -> bool:
        """Change the result."""
        stop.set_result(stop.result + self.by)
        return True


def _at(stop: Stop, place: Place | Behind, size: int) -> tuple[int, bytes]:
    """Return the address of a place and what is there; no bytes where the caller has none that it can read.

    A tracer reads and writes protected memory too, of which a kernel's own access fails as that of no memory does.
    """
    address = place.address(stop)
    if address is None or not stop.readable(address, size):
        return 0, b""
    return address, stop.read(address, size)


@dataclass(frozen=True)
class Flip:
    """Inverts bits of some bytes, each by the mask."""

    place: Place | Behind
    size: int = 1
    mask: int = 0xFF

    def __call__(self, stop: Stop) -> bool:
        """Change the memory, unless the caller cannot read it."""
        address, before = _at(stop, self.place, self.size)
        if not before:
            return False
        stop.write(address, bytes(byte ^ self.mask for byte in before))
        return True


@dataclass(frozen=True)
class Exceed:
    """Changes bytes that the call has no business with; where the caller has no memory the call fails as it does of one."""

    place: Place | Behind
    size: int = 1

    def __call__(self, stop: Stop) -> bool:
        """Change the memory, or the result to EFAULT."""
        if self.place.address(stop) is None:
            return False
        if not Flip(self.place, self.size)(stop):
            stop.set_result(-errno.EFAULT)
        return True


@dataclass(frozen=True)
class Put:
    """Writes bytes."""

    place: Place
    data: bytes

    def __call__(self, stop: Stop) -> bool:
        """Change the memory, unless it holds these bytes or the caller cannot read it."""
        address, before = _at(stop, self.place, len(self.data))
        if not before or before == self.data:
            return False
        stop.write(address, self.data)
        return True


@dataclass(frozen=True)
class Add:
    """Adds to a 32-bit word."""

    place: Place
    by: int

    def __call__(self, stop: Stop) -> bool:
        """Change the memory, unless the caller cannot read it."""
        address, data = _at(stop, self.place, WORD.size)
        if not data:
            return False
        stop.write(address, WORD.pack((WORD.unpack(data)[0] + self.by) & LOW))
        return True


@dataclass(frozen=True)
class Word:
    """Changes an argument word at the entry, as a kernel that reads it from another place would.

    `change` makes the word that the kernel gets of the one passed. The caller finds the passed one afterwards.
    """

    index: int
    change: Callable[[int], int]

    def __call__(self, stop: Stop) -> bool:
        """Change the word, and put it back at the exit."""
        if self.index >= len(stop.call.args):
            return False
        passed = stop.word(self.index)
        read = self.change(passed) & LOW
        if read != passed:
            stop.set_word(self.index, read)
        return read != passed


@dataclass(frozen=True)
class Skip:
    """Makes no call at all: the entry's number becomes none, and `value` is returned at the exit."""

    value: int = 0

    def __call__(self, stop: Stop) -> bool:
        """Change the number of the call."""
        stop.set_register(NR, -1)
        stop.set_register(RET, self.value)
        return True


@dataclass(frozen=True)
class Again:
    """Makes the call a second time at its exit."""

    def __call__(self, stop: Stop) -> bool:
        """Go back to the entry instruction. Through the vDSO, whose entry is another, nothing is changed."""
        if stop.call.gate != "int80":
            return False
        stop.set_register(RET, stop.register(NR))
        stop.set_register(IP, stop.register(IP) - _ENTRY_SIZE)
        return True


@dataclass(frozen=True)
class Make:
    """Makes a further call at the exit, which the caller does not see: `words` gives its number and arguments.

    Make(lambda stop: (FCNTL, stop.result, F_SETFD, 0)) clears FD_CLOEXEC of the descriptor that the call returned.
    `words` returns None where there is nothing to change.
    """

    words: Callable[[Stop], tuple[int, ...] | None]

    def __call__(self, stop: Stop) -> bool:
        """Make it; through the vDSO, whose entry is another, nothing is changed."""
        call = self.words(stop)
        return call is not None and stop.make(*call) is not None


@dataclass(frozen=True)
class Send:
    """Sends a signal to the calling thread's process."""

    number: int = signal.SIGUSR1

    def __call__(self, stop: Stop) -> bool:
        """Send it."""
        os.kill(stop.call.pid, self.number)
        return True


@dataclass(frozen=True)
class Delay:
    """Keeps the call stopped for so many seconds."""

    seconds: float

    def __call__(self, stop: Stop) -> bool:
        """Wait."""
        time.sleep(self.seconds)
        return True
