"""Entering the kernel: int $0x80, from either word size, or the vDSO's __kernel_vsyscall from 32-bit code.

The stub (probes/entry/machine/stub.s) loads every register from a frame, enters, and stores every register back: the note
that it leaves is what a probe knows itself. The tracer sees the same call from outside.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import struct
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from probes.abi.operations import named
from probes.abi.record import Record, errno_name, shown, signed
from probes.entry.machine.code import STUB
from probes.entry.memory import PAGE, PROT_EXEC, PROT_READ, map_low, protect

#: The width of this process's registers, in bits: 32 or 64.
WORD = ctypes.sizeof(ctypes.c_void_p) * 8
REGISTERS: dict[int, tuple[str, ...]] = {
    32: ("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp"),
    64: ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
}
SEGMENTS = ("ds", "es", "fs", "gs")
#: What fills the seven bytes of the gate's slot. gs:0x10 is where i386 programs keep __kernel_vsyscall.
ENTRIES: dict[str, bytes] = {"int80": bytes.fromhex("cd80 0f1f440000"), "vdso": bytes.fromhex("65ff15 10000000")}
#: The length of the entering instruction: a tracer sees the instruction pointer behind it.
_LENGTH = {"int80": 2, "vdso": 7}
#: What a call through the vDSO has in ebp unless it says otherwise: there the instruction pointer is one that Python
#: shares, so the filter knows our calls by this. No call with fewer than six arguments looks at ebp.
COOKIE = 0x50C0CA11
#: Calls that have a sixth argument: sendto, recvfrom and pselect6, by their direct numbers.
SIX_ARGUMENTS = (369, 371, 308)
#: In __kernel_vsyscall: int $0x80, then what it pushed comes back. The kernel reports every entry as made here.
_LANDING = bytes.fromhex("cd80 5d5a59c3")

_NAMES = REGISTERS[WORD]
_COUNT = len(_NAMES)
_SLOT = "Q" if WORD == 64 else "I"
#: in registers, the call's number, out registers, flags before and after, segments before and after
_FRAME = struct.Struct(f"={2 * _COUNT + 3 + 2 * len(SEGMENTS)}{_SLOT}")
_IN = struct.Struct(f"={_COUNT + 1}{_SLOT}")
_FLAGS_IN, _FLAGS_AT = struct.Struct(f"={_SLOT}"), (2 * _COUNT + 1) * WORD // 8
_MASK = (1 << WORD) - 1
#: In a 64-bit process the call's number also lies in r15, which an i386 call does not look at, under this mark.
MARK = 0x50C0CA11
_ZEROS = (0,) * 7


def _numbers() -> itertools.count[int]:
    # A child numbers its calls from its own process id on, so that a number names one call of a whole sandbox.
    return itertools.count((os.getpid() % 2048) << 20 | 1)


class _Counter:
    numbers = _numbers()

    @classmethod
    def restart(cls) -> None:
        cls.numbers = _numbers()


os.register_at_fork(after_in_child=_Counter.restart)


def call_number() -> int:
    """A number that no call has: higher than all before, lower than all that follow in this process."""
    return next(_Counter.numbers)


def same_process(call: int, other: int) -> bool:
    """Returns True if two call numbers were given by one process, so that their order is that of the calls."""
    return call >> 20 == other >> 20


class Result(int):
    """What a call returned, as the kernel's own number (-13, 3), with the note that the gate took.

    `call` is the number of the call: it ties the result to the tracer's records. `frame` is the note.
    """

    call: int
    frame: bytes
    gate: str

    def record(self) -> Record:
        """Returns the gate's own note of the call as a record that no tracer observed: registers and result."""
        before, after = self.regs_in, self.regs_out
        eax, ebx = (before[name] & 0xFFFFFFFF for name in _NAMES[:2])
        op, route = named(eax, ebx)
        return Record(
            pid=os.getpid(), tid=threading.get_native_id(), t_ns=0, abi="i386", word=WORD, gate=self.gate, route=route,
            nr=eax, op=op, regs_in={name: hex(value) for name, value in before.items()},
            args_ptr=hex(before[_NAMES[2]] & 0xFFFFFFFF) if route == "socketcall" else None, args=(), call=self.call,
            regs_out={name: hex(value) for name, value in after.items()}, ret=int(self), observed=False,
        )  # fmt: skip

    @property
    def regs_in(self) -> dict[str, int]:
        """Registers as the gate loaded them."""
        return dict(zip(_NAMES, _FRAME.unpack(self.frame), strict=False))

    @property
    def regs_out(self) -> dict[str, int]:
        """Registers as the call left them."""
        return dict(zip(_NAMES, _FRAME.unpack(self.frame)[_COUNT + 1 :], strict=False))

    @property
    def flags(self) -> tuple[int, int]:
        """The flags register before and after."""
        slots = _FRAME.unpack(self.frame)
        return slots[2 * _COUNT + 1], slots[2 * _COUNT + 2]

    @property
    def segments(self) -> tuple[dict[str, int], dict[str, int]]:
        """ds, es, fs, gs before and after."""
        slots = _FRAME.unpack(self.frame)[2 * _COUNT + 3 :]
        return dict(zip(SEGMENTS, slots, strict=False)), dict(zip(SEGMENTS, slots[4:], strict=True))

    @property
    def errno_name(self) -> str:
        """EACCES for -13, "" for a value."""
        return errno_name(self)

    def __repr__(self) -> str:
        return shown(int(self))


class Frame:
    """A register frame in this process's memory: see probes/entry/machine/stub.s for the order of its slots."""

    def __init__(self) -> None:
        self.buffer = ctypes.create_string_buffer(_FRAME.size)
        self.address = ctypes.addressof(self.buffer)


class Gate:
    """One way into the kernel.

    `ip` is the instruction pointer that a tracer and seccomp see for the calls made here: for the vDSO its landing pad,
    whoever called. `returns` is where such a call comes back to, which is ours alone.

    A `quiet` gate is seen by nobody: for calls by the thousand, of which a sample is made again through one that is.
    """

    def __init__(self, name: str, quiet: bool = False) -> None:
        self.name, self.quiet = name, quiet
        code, slot = STUB[WORD]
        self.page = enterable(code, slot, name)
        self.returns = self.page + slot + _LENGTH[name]
        self.ip = self.returns if name == "int80" else landing_pad()
        self._enter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self.page)
        self._frames = threading.local()

    def enter(
        self,
        eax: int,
        ebx: int = 0,
        ecx: int = 0,
        edx: int = 0,
        esi: int = 0,
        edi: int = 0,
        ebp: int | None = None,
        *,
        others: Mapping[str, int] | None = None,
        flags: int = 0,
    ) -> Result:
        """Makes one call and returns its result. Values are taken modulo the register's width: in a 64-bit process the
        upper halves reach the kernel as given, and `others` gives r8 to r15 (otherwise zero, and
        the call's number in r15). `flags` are bits that are
        set in the flags register at the entry. A call through the vDSO that gives ebp is seen only where every call is
        (sandbox mark, trace="calls")."""
        if ebp is None:
            ebp = COOKIE if self.name == "vdso" and eax not in SIX_ARGUMENTS and not self.quiet else 0
        try:
            frame: Frame = self._frames.frame
        except AttributeError:
            frame = self._frames.frame = Frame()
        number = next(_Counter.numbers)
        upper: tuple[int, ...] = (*_ZEROS, MARK << 32 | number) if WORD == 64 else ()
        if others:
            upper = tuple(others.get(name, value) & _MASK for name, value in zip(_NAMES[7:], upper, strict=True))
        m = _MASK
        _IN.pack_into(frame.buffer, 0, eax & m, ebx & m, ecx & m, edx & m, esi & m, edi & m, ebp & m, *upper, number)
        _FLAGS_IN.pack_into(frame.buffer, _FLAGS_AT, flags)
        self._enter(frame.address)
        note = frame.buffer.raw
        result = Result(signed(_FRAME.unpack_from(note)[_COUNT + 1]))
        result.call = number
        result.frame = note
        result.gate = self.name
        return result


def enterable(code: bytes, slot: int, name: str) -> int:
    """The address of a page that holds machine code with the gate's entry in its slot. Raises OutOfMemory."""
    filled = code[:slot] + ENTRIES[name] + code[slot + len(ENTRIES[name]) :]
    page = map_low(PAGE)
    ctypes.memmove(page, filled, len(filled))
    protect(page, PAGE, PROT_READ | PROT_EXEC)
    return page


def landing_pad() -> int:
    """The instruction pointer of every call through this 32-bit process's vDSO. Raises LookupError: there is none."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith("[vdso]"):
            first, last = (int(end, 16) for end in line.split(maxsplit=1)[0].split("-"))
            at = ctypes.string_at(first, last - first).find(_LANDING)
            if at >= 0:
                return first + at + 2
    raise LookupError("no __kernel_vsyscall in [vdso]: the kernel was started with vdso32=0")


def gate_names() -> tuple[str, ...]:
    """The gates of this process: int80, and vdso in a 32-bit one."""
    return ("int80",) if WORD == 64 else ("int80", "vdso")


_gates: dict[str, Gate] = {}


def gate(name: str) -> Gate:
    """The gate of that name. One each: children of this process inherit its page, so a tracer knows its address."""
    if name not in _gates:
        _gates[name] = Gate(name)
    return _gates[name]


def dies() -> str:
    """ "" if `int $0x80` enters the kernel here, else how a process that tries it ends. Tries getpid in a child."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os._exit(0 if gate("int80").enter(20) == os.getpid() else 1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"int $0x80 ends the process with signal {os.WTERMSIG(status)}"
    return "" if status == 0 else "int $0x80 with eax = 20 does not answer getpid"
