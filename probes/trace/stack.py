"""Unwind the user stack of a stopped tracee by frame pointers, and find the module of each frame in /proc/PID/maps.

A call is mostly made by a function of the C library that keeps no frame: the word at the stack pointer is taken as the
return address of its caller, if it points behind a call instruction. From there on the chain of frame pointers is
followed, as far as code was compiled with them (-fno-omit-frame-pointer). No unwind tables are read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from probes.trace import ptrace
from probes.trace.traced_call import IP, SP, TracedCall, register_index

_BP = register_index("bp")
#: The most frames, and bytes from one frame to the next: a chain that is longer is none.
_DEPTH, _FRAME = 128, 1 << 20
#: __kernel_vsyscall pushes ecx, edx and ebp, and points ebp there: the caller's ebp, and the return address.
_VDSO_BP, _VDSO_RETURN = 0, 12
#: Lengths of call instructions: E8 with a 32-bit offset, FF /2 with its operand.
_NEAR, _INDIRECT = 5, (2, 3, 4, 6, 7)


@dataclass(frozen=True)
class Frame:
    """Is a return address on a stack, or the place of the call: with the file that is mapped there, and the offset in it."""

    ip: int
    module: str
    offset: int

    def as_json(self) -> dict[str, str | None]:
        """Return it as JSON: addresses are hexadecimal."""
        return {"ip": hex(self.ip), "module": self.module or None, "offset": hex(self.offset) if self.module else None}

    def __str__(self) -> str:
        """Return it as a line: ` > /usr/bin/nc+0x1a2b [0x56…]`."""
        return f" > {self.module}+{self.offset:#x} [{self.ip:#x}]" if self.module else f" > [{self.ip:#x}]"


@dataclass(frozen=True)
class Stack:
    """Holds the frames of a call, innermost first, and why there are no more."""

    frames: tuple[Frame, ...]
    end: str


class _Maps:
    """Finds which file is mapped at an address."""

    def __init__(self, pid: int) -> None:
        self._starts: list[int] = []
        self._areas: list[tuple[int, int, str, bool]] = []
        # Of a path the kernel escapes line feeds alone (proc(5)): what else ends a line of text is a part of it.
        for line in Path(f"/proc/{pid}/maps").read_bytes().split(b"\n")[:-1]:
            span, rights, offset, _, _, *path = line.split(maxsplit=5)
            start, end = (int(each, 16) for each in span.split(b"-"))
            self._starts.append(start)
            name = path[0].decode(errors="replace") if path else ""
            self._areas.append((end, int(offset, 16) - start, name, b"x" in rights))

    def is_code(self, address: int) -> bool:
        area = self._area(address)
        return area is not None and area[3]

    def frame(self, address: int) -> Frame:
        area = self._area(address)
        if area is None:
            return Frame(address, "", 0)
        return Frame(address, area[2], address + area[1])

    def _area(self, address: int) -> tuple[int, int, str, bool] | None:
        index = bisect_right(self._starts, address) - 1
        return self._areas[index] if index >= 0 and address < self._areas[index][0] else None


def stack_of(call: TracedCall) -> Stack:
    """Return the stack of a call while its thread is stopped at its entry."""
    try:
        maps = _Maps(call.pid)
    except OSError as error:
        return Stack((), f"/proc/{call.pid}/maps cannot be read: {error.strerror}")
    addresses: list[int] = []
    end = ""
    for address, end in _addresses(call, maps):  # noqa: B007 (the last reason is kept)
        if address:
            addresses.append(address)
    return Stack(tuple(map(maps.frame, addresses)), end)


def _addresses(call: TracedCall, maps: _Maps) -> Iterator[tuple[int, str]]:
    """Yield the addresses of a stack; last 0 and why it ends."""
    size = call.word // 8
    ip, sp, bp = (ptrace.register_in(call.regs_in, index) for index in (IP, SP, _BP))
    yield ip, ""
    if call.gate == "vdso":
        leaf, bp = _word(call.tid, sp + _VDSO_RETURN, size), _word(call.tid, sp + _VDSO_BP, size)
    else:
        leaf = _word(call.tid, sp, size)
    if _is_return_address(call.tid, leaf, maps):
        yield leaf, ""
    at = sp
    for _ in range(_DEPTH):
        why = _broken(call.tid, at, bp, size)
        if why:
            yield 0, why
            return
        back = _word(call.tid, bp + size, size)
        if not _is_return_address(call.tid, back, maps):
            yield 0, "the outermost frame" if back == 0 else f"{back:#x} at {bp + size:#x} is no return address"
            return
        if back != leaf or at != sp:
            yield back, ""
        at, bp = bp, _word(call.tid, bp, size)
    yield 0, f"more than {_DEPTH} frames"


def _broken(tid: int, at: int, bp: int, size: int) -> str:
    """Return why a frame pointer leads no further, "" if it does."""
    if not bp:
        return "the outermost frame"
    if not at <= bp < at + _FRAME or bp % size:
        return f"{bp:#x} is no frame pointer: this code was compiled without"
    return "" if len(ptrace.read(tid, bp, 2 * size)) == 2 * size else f"the frame at {bp:#x} cannot be read"


def _word(tid: int, address: int, size: int) -> int:
    return int.from_bytes(ptrace.read(tid, address, size), "little")


def _is_return_address(tid: int, address: int, maps: _Maps) -> bool:
    """Return True if an address is in code, behind a call instruction."""
    if not maps.is_code(address) or not maps.is_code(address - 1):
        return False
    before = ptrace.read(tid, address - 8, 8).rjust(8, b"\0")
    if before[-_NEAR] == 0xE8:
        return True
    return any(before[-length] == 0xFF and before[1 - length] >> 3 & 7 == 2 for length in _INDIRECT)
