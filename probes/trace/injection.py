"""Make the kernel wrong on purpose: change traced calls at their entry or exit, as the caller sees them.

    Injection(Match("getsockname", outcome="success"), Exit(Add(Place("addrlen"), 4)))

The record of a changed call has what its caller passed and what it got, the change included. Calls that are not traced
(quiet gates, machine-code loops) are the kernel's own.
"""

from __future__ import annotations

import os
import signal
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from probes.abi.record import signed
from probes.trace import ptrace
from probes.trace.traced_call import TracedCall, register_index

_WORD = struct.Struct("<I")
_LOW = 0xFFFFFFFF
_RET, _NR, _IP = register_index("ax"), register_index("orig_ax"), register_index("ip")
_ARGUMENTS = tuple(register_index(name) for name in ("bx", "cx", "dx", "si", "di", "bp"))
#: Bytes of the instructions int 0x80 and syscall: a call is made again from there.
_ENTRY_SIZE = 2


class Stop:
    """Is a call at its entry or exit stop: what an action may read and change of the caller."""

    def __init__(self, call: TracedCall) -> None:
        """Take a call whose tracee is stopped."""
        self.call, self.tid = call, call.tid
        self._raw = ptrace.raw_registers(call.tid)

    @property
    def result(self) -> int:
        """Return what the call returns; meaningful at its exit."""
        return signed(self.register(_RET))

    def set_result(self, value: int) -> None:
        """Let the call return another value."""
        self.set_register(_RET, value)

    def register(self, index: int) -> int:
        """Return a register (an index into ptrace.REGISTER_NAMES)."""
        return ptrace.register_in(self._raw, index)

    def set_register(self, index: int, value: int) -> None:
        """Change a register; a negative value is extended to its width."""
        self._raw = ptrace.with_register(self._raw, index, value)
        ptrace.set_raw_registers(self.tid, self._raw)

    def word(self, index: int) -> int:
        """Return an argument word as the caller passed it."""
        return self.call.args[index] & _LOW

    def set_word(self, index: int, value: int) -> None:
        """Change an argument word: in memory over socketcall, else in its register."""
        if self.call.args_ptr is None:
            self.set_register(_ARGUMENTS[index], value & _LOW)
        else:
            self.write(self.call.args_ptr + 4 * index, _WORD.pack(value & _LOW))

    def read(self, address: int, size: int) -> bytes:
        """Return up to `size` bytes of the caller's memory."""
        return ptrace.read(self.tid, address, size)

    def write(self, address: int, data: bytes) -> None:
        """Change the caller's memory, whatever its protection. Does nothing where none is mapped."""
        with suppress(OSError):
            memory = os.open(f"/proc/{self.tid}/mem", os.O_RDWR | os.O_CLOEXEC)
            try:
                os.pwrite(memory, data, address)
            finally:
                os.close(memory)


@dataclass(frozen=True)
class Place:
    """Names memory behind a pointer argument: follows the pointer at each offset but the last, which is added.

    Place("msg", 16, 0) is the first byte of the control data of a struct msghdr.
    """

    argument: str
    offsets: tuple[int, ...] = (0,)

    def address(self, stop: Stop) -> int | None:
        """Return its address, None if a pointer on the way is null or not readable."""
        index = index_of(stop.call, self.argument)
        if index is None or index >= len(stop.call.args):
            return None
        address = stop.word(index)
        for offset in self.offsets[:-1]:
            data = stop.read(address + offset, 4)
            address = _WORD.unpack(data)[0] if len(data) == 4 else 0
        return address + self.offsets[-1] if address else None


def index_of(call: TracedCall, argument: str) -> int | None:
    """Return the position of an argument of a call by its name, None if it has no such."""
    names = [each.name for each in call.operation.arguments] if call.operation else []
    return names.index(argument) if argument in names else None


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


@dataclass(frozen=True)
class Flip:
    """Inverts bits of some bytes, each by the mask."""

    place: Place
    size: int = 1
    mask: int = 0xFF

    def __call__(self, stop: Stop) -> bool:
        """Change the memory."""
        address = self.place.address(stop)
        before = stop.read(address, self.size) if address is not None else b""
        if address is None or not before:
            return False
        stop.write(address, bytes(byte ^ self.mask for byte in before))
        return True


@dataclass(frozen=True)
class Put:
    """Writes bytes."""

    place: Place
    data: bytes

    def __call__(self, stop: Stop) -> bool:
        """Change the memory, unless it holds these bytes."""
        address = self.place.address(stop)
        if address is None or stop.read(address, len(self.data)) == self.data:
            return False
        stop.write(address, self.data)
        return True


@dataclass(frozen=True)
class Add:
    """Adds to a 32-bit word."""

    place: Place
    by: int

    def __call__(self, stop: Stop) -> bool:
        """Change the memory."""
        address = self.place.address(stop)
        data = stop.read(address, 4) if address is not None else b""
        if address is None or len(data) < 4:
            return False
        stop.write(address, _WORD.pack((_WORD.unpack(data)[0] + self.by) & _LOW))
        return True


@dataclass(frozen=True)
class Word:
    """Changes an argument word at the entry, as a kernel that reads it from elsewhere would.

    `change` makes the word that the kernel gets of the one passed. The caller finds the passed one afterwards.
    """

    index: int
    change: Callable[[int], int]

    def __call__(self, stop: Stop) -> bool:
        """Change the word, and put it back at the exit."""
        if self.index >= len(stop.call.args):
            return False
        passed = stop.word(self.index)
        read = self.change(passed) & _LOW
        if read != passed:
            stop.set_word(self.index, read)
        return read != passed


@dataclass(frozen=True)
class Skip:
    """Makes no call at all: the entry's number becomes none, and `value` is returned at the exit."""

    value: int = 0

    def __call__(self, stop: Stop) -> bool:
        """Change the number of the call."""
        stop.set_register(_NR, -1)
        stop.set_register(_RET, self.value)
        return True


@dataclass(frozen=True)
class Again:
    """Makes the call a second time at its exit."""

    def __call__(self, stop: Stop) -> bool:
        """Go back to the entry instruction. Through the vDSO, whose entry is another, nothing is changed."""
        if stop.call.gate != "int80":
            return False
        stop.set_register(_RET, stop.register(_NR))
        stop.set_register(_IP, stop.register(_IP) - _ENTRY_SIZE)
        return True


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


@dataclass(frozen=True)
class Match:
    """Chooses calls. What is None or empty matches all.

    `outcome` is a result (-13, 0), "success" or "error"; at an entry it is not known, and matches all. `words` are
    argument words by position. `nth` is the number of the one call that is chosen among those that match, from 1 on.
    """

    operation: str | None = None
    route: str | None = None
    outcome: int | str | None = None
    words: Mapping[int, int] = field(default_factory=dict)
    address: bytes = b""
    nth: int | None = None

    def fits(self, stop: Stop, left: bool) -> bool:
        """Return True if a call matches; `left`: it is at its exit."""
        call = stop.call
        if self.operation is not None and call.op != self.operation:
            return False
        if self.route is not None and call.route != self.route:
            return False
        if any(index >= len(call.args) or stop.word(index) != value & _LOW for index, value in self.words.items()):
            return False
        if self.address and bytes(call.before.get("addr", b"")) != self.address:
            return False
        return not left or self.outcome is None or self._came(stop.result)

    def _came(self, result: int) -> bool:
        failed = -4096 < result < 0
        if isinstance(self.outcome, str):
            return failed == (self.outcome == "error")
        return result == self.outcome


@dataclass
class Injection:
    """Makes every chosen call wrong in one way. `done` counts the calls that were changed."""

    match: Match
    entry: Action | None = None
    exit: Action | None = None
    done: int = 0
    _matched: int = 0
    _passed: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    _again: set[int] = field(default_factory=set)

    def enter(self, call: TracedCall) -> None:
        """Change a call at its entry stop, after its record was begun."""
        if self.entry is None:
            return
        stop = Stop(call)
        if self.match.fits(stop, left=False) and self._counts():
            self._passed[call.tid] = (call.args_ptr or 0, stop._raw)
            self.done += self.entry(stop)

    def leave(self, call: TracedCall) -> None:
        """Change a call at its exit stop, before its record is completed."""
        passed = self._passed.pop(call.tid, None)
        if passed is not None:
            self._put_back(call, *passed)
        if self.exit is None or call.tid in self._again:
            self._again.discard(call.tid)
            return
        stop = Stop(call)
        if self.match.fits(stop, left=True) and self._counts():
            changed = self.exit(stop)
            self.done += changed
            if changed and isinstance(self.exit, Again):
                self._again.add(call.tid)

    def _counts(self) -> bool:
        self._matched += 1
        return self.match.nth in (None, self._matched)

    @staticmethod
    def _put_back(call: TracedCall, args_ptr: int, before: bytes) -> None:
        """Give the caller back the words that it passed."""
        stop = Stop(call)
        for index, word in enumerate(call.args):
            if args_ptr:
                stop.write(args_ptr + 4 * index, _WORD.pack(word & _LOW))
        if not args_ptr:
            for register in _ARGUMENTS[: len(call.args)]:
                kept = ptrace.register_in(before, register)
                if stop.register(register) != kept:
                    stop.set_register(register, kept)
