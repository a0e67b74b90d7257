"""Wrong kernels of the kind that emulators are, each with the behaviour whose statement names what is wrong."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from probes.abi.operations import OPERATIONS, OTHER_CALLS
from probes.trace.actions import Action, Put, Word
from probes.trace.injection import Match
from probes.trace.stop import ARGUMENTS, LOW, NR, WORD, Place, Stop
from tools.mutants.mutant import Mutant, folder_of

_CONTROLLEN, _FLAGS = Place("msg", (20,)), Place("msg", (24,))
_ZEROS = bytes(4)
#: struct cmsghdr of i386 and of x86-64, and how many bytes longer the latter is.
_CMSGHDR, _CMSGHDR_64 = struct.Struct("<3I"), struct.Struct("<Q2I")
_LONGER = _CMSGHDR_64.size - _CMSGHDR.size


class During:
    """Changes bytes of the caller's memory while a call is made: `enter` at its entry, `leave` at its exit."""

    def __init__(self, place: Place, data: bytes) -> None:
        """Take the place, and what the kernel finds there."""
        self._place, self._data = place, data
        self._before: dict[int, tuple[int, bytes]] = {}

    def enter(self, stop: Stop) -> bool:
        """Write the bytes, and return True if others were there."""
        address = self._place.address(stop)
        before = stop.read(address, len(self._data)) if address is not None else b""
        if address is None or before in (b"", self._data):
            return False
        self._before[stop.tid] = address, before
        stop.write(address, self._data)
        return True

    def leave(self, stop: Stop) -> bool:
        """Put back what was there."""
        if stop.tid in self._before:
            stop.write(*self._before.pop(stop.tid))
        return False


class Instead:
    """Makes another system call with the words of an operation: `enter` at its entry, `leave` at its exit."""

    def __init__(self, number: int, pointer: str) -> None:
        """Take the number, and the name of an argument: calls in which that is NULL are not changed."""
        self._number, self._pointer = number, Place(pointer)
        self._before: dict[int, list[int]] = {}

    def enter(self, stop: Stop) -> bool:
        """Load the words into the registers, and the number."""
        if self._pointer.address(stop) is None:
            return False
        self._before[stop.tid] = [stop.register(index) for index in ARGUMENTS]
        for index, word in zip(ARGUMENTS, stop.call.args, strict=False):
            stop.set_register(index, word & LOW)
        stop.set_register(NR, self._number)
        return True

    def leave(self, stop: Stop) -> bool:
        """Put the registers back."""
        for index, value in zip(ARGUMENTS, self._before.pop(stop.tid, ()), strict=False):
            stop.set_register(index, value)
        return False


def _control_of_64_bits(stop: Stop) -> bool:
    """Lay out the first control message that was received as a 64-bit kernel does for its own programs."""
    length, start = _CONTROLLEN.address(stop), Place("msg", (16, 0)).address(stop)
    data = stop.read(length, 4) if length is not None else b""
    size = WORD.unpack(data)[0] if len(data) == 4 else 0
    if start is None or length is None or size < _CMSGHDR.size:
        return False
    received = stop.read(start, size)
    message, level, type_ = _CMSGHDR.unpack_from(received)
    stop.write(start, _CMSGHDR_64.pack(message + _LONGER, level, type_) + received[_CMSGHDR.size :])
    stop.write(length, WORD.pack(size + _LONGER))
    return True


#: What is wrong, the operation, the outcome, what is done at its entry and at its exit, and the behaviour that names it
#: besides that of the operation in the dispatch tables.
_Named = tuple[str, str, str | None, Action | None, Action | None, str]


def _named() -> Iterator[_Named]:
    yield "accept4 forgets its flags", "accept4", None, Word(3, lambda flags: 0), None, "listen.accept.descriptor"
    yield "no msg_flags", "recvmsg", "success", None, Put(_FLAGS, _ZEROS), "transfer.header.written"
    yield "control data dropped", "recvmsg", "success", None, Put(_CONTROLLEN, _ZEROS), "transfer.control.rights"
    yield "64-bit control headers", "recvmsg", "success", None, _control_of_64_bits, "transfer.control.rights"
    lost = During(_CONTROLLEN, _ZEROS)
    yield "descriptors not passed on", "sendmsg", None, lost.enter, lost.leave, "transfer.control.rights"
    wide = Instead(OTHER_CALLS["recvmmsg_time64"].direct, "timeout")
    yield (
        "recvmmsg's timeout read as 64 bits", "recvmmsg", None, wide.enter, wide.leave, "transfer.timeout.recvmmsg"
    )  # fmt: skip


def mutants() -> Iterator[Mutant]:
    """Yield them, once for each behaviour that has to find it."""
    for wrong, operation, outcome, entry, exit, naming in _named():
        assert operation in OPERATIONS
        for behaviour in (f"multiplexer.dispatch.{operation}", naming):
            yield Mutant(
                "B", f"B wrong kernel: {wrong}, by {behaviour}", wrong, "wrong kernel", operation,
                Match(operation, outcome=outcome), entry, exit, (behaviour,), folder_of(operation),
            )  # fmt: skip
