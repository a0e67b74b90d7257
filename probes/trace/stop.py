"""Read and change the caller of a traced call while it is stopped at the entry or exit of the call."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from probes.abi.record import signed
from probes.trace import ptrace
from probes.trace.traced_call import TracedCall, register_index

WORD = struct.Struct("<I")
LOW = 0xFFFFFFFF
RET, NR, IP = register_index("ax"), register_index("orig_ax"), register_index("ip")
#: The instruction.
_INT80 = b"\xcd\x80"
ARGUMENTS = tuple(register_index(name) for name in ("bx", "cx", "dx", "si", "di", "bp"))


class Stop:
    """Is a call at its entry or exit stop: what an action may read and change of the caller."""

    def __init__(self, call: TracedCall) -> None:
        """Take a call whose tracee is stopped."""
        self.call, self.tid = call, call.tid
        self.raw = ptrace.raw_registers(call.tid)

    @property
    def result(self) -> int:
        """Return what the call returns; meaningful at its exit."""
        return signed(self.register(RET))

    def set_result(self, value: int) -> None:
        """Let the call return another value."""
        self.set_register(RET, value)

    def register(self, index: int) -> int:
        """Return a register (an index into ptrace.REGISTER_NAMES)."""
        return ptrace.register_in(self.raw, index)

    def set_register(self, index: int, value: int) -> None:
        """Change a register; a negative value is extended to its width."""
        self.raw = ptrace.with_register(self.raw, index, value)
        ptrace.set_raw_registers(self.tid, self.raw)

    def word(self, index: int) -> int:
        """Return an argument word as the caller passed it."""
        return self.call.args[index] & LOW

    def set_word(self, index: int, value: int) -> None:
        """Change an argument word: in memory over socketcall, else in its register."""
        if self.call.args_ptr is None:
            self.set_register(ARGUMENTS[index], value & LOW)
        else:
            self.write(self.call.args_ptr + 4 * index, WORD.pack(value & LOW))

    def read(self, address: int, size: int) -> bytes:
        """Return up to `size` bytes of the caller's memory."""
        return ptrace.read(self.tid, address, size)

    def readable(self, address: int, size: int) -> bool:
        """Return True if the caller may read this memory itself: `read` finds what is protected, too."""
        return ptrace.readable(self.tid, address, size)

    def make(self, number: int, *words: int) -> int | None:
        """Let the caller make a further i386 call at the exit of this one, with all signals blocked, and return its result.

        The caller gets its registers back as they were: it sees what the call does, not the call. Returns None if the
        exit is not that of an `int $0x80`. Raises OSError: ESRCH if the caller was killed meanwhile.
        """
        ip = self.register(IP) - len(_INT80)
        if self.read(ip, len(_INT80)) != _INT80:
            return None
        raw = self.raw
        for index, value in ((IP, ip), (RET, number), *zip(ARGUMENTS, words, strict=False)):
            raw = ptrace.with_register(raw, index, value & LOW if index != IP else value)
        blocked = ptrace.signal_mask(self.tid)
        ptrace.set_signal_mask(self.tid, bytes([0xFF] * len(blocked)))
        ptrace.set_raw_registers(self.tid, raw)
        ptrace.to_exit(self.tid)
        result = signed(ptrace.register_in(ptrace.raw_registers(self.tid), RET))
        ptrace.set_raw_registers(self.tid, self.raw)
        ptrace.set_signal_mask(self.tid, blocked)
        return result

    def write(self, address: int, data: bytes) -> None:
        """Change the caller's memory, whatever its protection. Does nothing where none is mapped."""
        ptrace.write(self.tid, address, data)


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
            address = WORD.unpack(data)[0] if len(data) == 4 else 0
        return address + self.offsets[-1] if address else None


@dataclass(frozen=True)
class Behind:
    """Names the byte behind what a value-result length says was written."""

    argument: str
    length: str

    def address(self, stop: Stop) -> int | None:
        """Return its address, None if one of the two is null or not readable."""
        start, length = Place(self.argument).address(stop), Place(self.length).address(stop)
        data = stop.read(length, 4) if length is not None else b""
        return None if start is None or len(data) < 4 else start + int(WORD.unpack(data)[0])


def index_of(call: TracedCall, argument: str) -> int | None:
    """Return the position of an argument of a call by its name, None if it has no such."""
    names = [each.name for each in call.operation.arguments] if call.operation else []
    return names.index(argument) if argument in names else None
