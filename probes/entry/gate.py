"""Enter the kernel by int $0x80, from either word size, or by the vDSO's __kernel_vsyscall from 32-bit code.

The stub (probes/entry/machine/stub.s) loads every register from a frame, enters the kernel, and stores every register
into the frame. That frame is the suite's own observation of a call; the tracer makes another from outside.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import struct
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from probes.abi.operations import named
from probes.abi.record import Record, errno_name, shown, signed
from probes.entry.machine.code import STUB
from probes.entry.memory import PAGE, PROT_EXEC, PROT_READ, map_low, protect
from probes.entry.vdso import landing_pad

#: The width of this process's registers, in bits: 32 or 64.
WORD = ctypes.sizeof(ctypes.c_void_p) * 8
REGISTERS: dict[int, tuple[str, ...]] = {
    32: ("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp"),
    64: ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
}
SEGMENTS = ("ds", "es", "fs", "gs")
#: The code for the seven bytes of the slot. gs:0x10 holds the address of __kernel_vsyscall in i386 programs.
ENTRIES: dict[str, bytes] = {"int80": bytes.fromhex("cd80 0f1f440000"), "vdso": bytes.fromhex("65ff15 10000000")}
#: Length of the entry instruction: the instruction pointer of a call is the address after it.
_LENGTH = {"int80": 2, "vdso": 7}
#: The value of ebp in a call through the vDSO, unless given. Python's own calls have the same instruction pointer there:
#: the seccomp filter recognises those of the suite by this. The kernel ignores ebp in calls with fewer than six arguments.
COOKIE = 0x50C0CA11
#: Direct numbers of the calls with six arguments: sendto, recvfrom, pselect6, pselect6_time64, epoll_pwait, epoll_pwait2.
SIX_ARGUMENTS = (369, 371, 308, 413, 319, 441)


class FrameLayout:
    """Lays out the register frame of a process of a word size, 32 or 64: its slots are as wide as a register."""

    def __init__(self, word: int) -> None:
        """Compute the layout."""
        self.word, self.names = word, REGISTERS[word]
        count = len(self.names)
        #: Registers in, the call id, registers out, flags before and after, segments before and after.
        self.whole = struct.Struct(f"={2 * count + 3 + 2 * len(SEGMENTS)}{'Q' if word == 64 else 'I'}")
        self.out, self.flags, self.segments = count + 1, 2 * count + 1, 2 * count + 3


_HERE = FrameLayout(WORD)
_NAMES = _HERE.names
_COUNT = len(_NAMES)
_SLOT = "Q" if WORD == 64 else "I"
_FRAME = _HERE.whole
_IN = struct.Struct(f"={_COUNT + 1}{_SLOT}")
_FLAGS_IN, _FLAGS_AT = struct.Struct(f"={_SLOT}"), (2 * _COUNT + 1) * WORD // 8
_MASK = (1 << WORD) - 1
#: Where user memory of a native i386 process ends (arch/x86/Kconfig VMSPLIT_3G); on x86-64 its stack lies above.
_NATIVE_TOP = 0xC0000000
#: Upper half of r15 in a 64-bit process; the lower half holds the call id. The kernel ignores r15 in an i386 call.
MARK = 0x50C0CA11
_ZEROS = (0,) * 7


def _ids() -> itertools.count[int]:
    # The pid is in the upper bits: ids of different processes of a sandbox differ.
    return itertools.count((os.getpid() % 2048) << 20 | 1)


class _CallIds:
    ids = _ids()

    @classmethod
    def restart(cls) -> None:
        cls.ids = _ids()


os.register_at_fork(after_in_child=_CallIds.restart)


def next_call_id() -> int:
    """Return a fresh call id, greater than those of all earlier calls of this process and less than all later ones."""
    return next(_CallIds.ids)


def same_process(call_id: int, other: int) -> bool:
    """Return True if one process gave both call ids, so that their order is the order of the calls."""
    return call_id >> 20 == other >> 20


@functools.cache
def entry_abi() -> str:
    """Returns which kernel entry this process's i386 calls take: "i386" of a 32-bit kernel, "ia32-compat" of x86-64.

    Not by uname: a personality (setarch) changes the machine that it returns.
    """
    if WORD == 64:
        return "ia32-compat"
    stacks = [line for line in Path("/proc/self/maps").read_bytes().split(b"\n") if line.endswith(b" [stack]")]
    native = all(int(line.partition(b"-")[0], 16) < _NATIVE_TOP for line in stacks)
    return "i386" if native else "ia32-compat"


class Result(int):
    """Is the result of a call as the kernel returned it (-13, 3).

    `call_id` is also that of the records which the tracer makes of the call. `frame` is the register frame after the call.
    """

    layout: ClassVar[FrameLayout] = _HERE
    call_id: int
    frame: bytes
    gate: str

    @property
    def caller(self) -> tuple[int, int]:
        """Return the process and the thread that made the call."""
        return os.getpid(), threading.get_native_id()

    def record(self) -> Record:
        """Return a record of the call from its register frame: it has no decoded memory, and `observed` is False."""
        before, after, names = self.regs_in, self.regs_out, self.layout.names
        eax, ebx = (before[name] & 0xFFFFFFFF for name in names[:2])
        op, route = named(eax, ebx)
        pid, tid = self.caller
        return Record(
            pid=pid, tid=tid, t_ns=0, abi=entry_abi(), word=self.layout.word, gate=self.gate, route=route,
            nr=eax, op=op, regs_in=_named(before, names),
            args_ptr=hex(before[names[2]] & 0xFFFFFFFF) if route == "socketcall" else None, args=(), call=self.call_id,
            regs_out=_named(after, names), ret=int(self), observed=False,
        )  # fmt: skip

    @property
    def _slots(self) -> tuple[int, ...]:
        return self.layout.whole.unpack_from(self.frame)

    @property
    def regs_in(self) -> dict[str, int]:
        """Return the registers at the entry, as loaded from the frame."""
        return dict(zip(self.layout.names, self._slots, strict=False))

    @property
    def regs_out(self) -> dict[str, int]:
        """Return the registers after the call."""
        return dict(zip(self.layout.names, self._slots[self.layout.out :], strict=False))

    @property
    def operation(self) -> str:
        """Return the name of the operation, or of the other call; "" for one that the tables do not have."""
        eax, ebx = (value & 0xFFFFFFFF for value in self._slots[:2])
        return named(eax, ebx)[0]

    @property
    def flags(self) -> tuple[int, int]:
        """Return the flags register before and after the call."""
        before, after = self._slots[self.layout.flags :][:2]
        return before, after

    @property
    def segments(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return ds, es, fs and gs before and after the call."""
        slots = self._slots[self.layout.segments :]
        return dict(zip(SEGMENTS, slots, strict=False)), dict(zip(SEGMENTS, slots[4:], strict=True))

    @property
    def errno_name(self) -> str:
        """Return the name of the error (EACCES for -13), "" if the call succeeded."""
        return errno_name(self)

    def __repr__(self) -> str:
        """Return the result with the name of its error."""
        return shown(int(self))


def _named(registers: Mapping[str, int], names: Sequence[str]) -> dict[str, str]:
    """Return registers as hex strings; of a 64-bit process also their low halves by the i386 names, as a tracer does."""
    halves = {f"e{name[1:]}": hex(value & 0xFFFFFFFF) for name, value in registers.items() if name in names[:7]}
    return halves | {name: hex(value) for name, value in registers.items()}


class RegisterFrame:
    """Holds a register frame in this process's memory; probes/entry/machine/stub.s has the order of its slots."""

    def __init__(self) -> None:
        """Allocate the frame."""
        self.buffer = ctypes.create_string_buffer(_FRAME.size)
        self.address = ctypes.addressof(self.buffer)


class Gate:
    """Enters the kernel by one of ENTRIES, from a page of its own.

    `ip` is the instruction pointer that tracer and seccomp filter get for its calls: for the vDSO the landing pad, which
    it shares with all other code. `returns` is the address that its calls return to, which is in its own page.

    A quiet gate is not traced. Bulk tests use it and repeat a sample through a traced gate.
    """

    def __init__(self, name: str, quiet: bool = False) -> None:
        """Make the page. Raises OutOfMemory; LookupError: this process has no __kernel_vsyscall."""
        self.name, self.quiet, self.word = name, quiet, WORD
        code, slot = STUB[WORD]
        self.page = enterable(code, slot, name)
        self.returns = self.page + slot + _LENGTH[name]
        self.ip = self.returns if name == "int80" else landing_pad()
        self._enter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self.page)
        self._frames = threading.local()
        self._quieted: Gate | None = None

    def quieted(self) -> Gate:
        """Return a quiet gate of the same name, in the same process, made once. Raises OutOfMemory."""
        if self._quieted is None:
            self._quieted = self if self.quiet else Gate(self.name, quiet=True)
        return self._quieted

    def function(self, code: Mapping[int, tuple[bytes, int]]) -> Callable[[int], None]:
        """Load machine code (word size: code, offset of its slot), whose slot becomes this gate's entry, untraced.

        Returns a function of an address, which runs the code. Raises OutOfMemory.
        """
        run: Callable[[int], None] = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(enterable(*code[WORD], self.name))
        return run

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
        """Make one call and return its result.

        Values are taken modulo the register's width: in a 64-bit process the upper halves reach the kernel as given.
        `others` sets r8 to r15 there (default: 0, and the call id under MARK in r15). `flags` are bits to set in the flags
        register at the entry. Through the vDSO, a call with `ebp` given has no COOKIE: it is traced only where every call
        is (sandbox mark, trace="calls").
        """
        if ebp is None:
            ebp = COOKIE if self.name == "vdso" and eax not in SIX_ARGUMENTS and not self.quiet else 0
        try:
            frame: RegisterFrame = self._frames.frame
        except AttributeError:
            frame = self._frames.frame = RegisterFrame()
        call_id = next(_CallIds.ids)
        upper: tuple[int, ...] = (*_ZEROS, MARK << 32 | call_id) if WORD == 64 else ()
        if others:
            upper = tuple(others.get(name, value) & _MASK for name, value in zip(_NAMES[7:], upper, strict=True))
        m = _MASK
        _IN.pack_into(frame.buffer, 0, eax & m, ebx & m, ecx & m, edx & m, esi & m, edi & m, ebp & m, *upper, call_id)
        _FLAGS_IN.pack_into(frame.buffer, _FLAGS_AT, flags)
        self._enter(frame.address)
        after = frame.buffer.raw
        result = Result(signed(_FRAME.unpack_from(after)[_COUNT + 1]))
        result.call_id = call_id
        result.frame = after
        result.gate = self.name
        return result


def enterable(code: bytes, slot: int, name: str) -> int:
    """Map a page with machine code whose slot enters by the gate of that name, and return its address.

    Raises OutOfMemory.
    """
    filled = code[:slot] + ENTRIES[name] + code[slot + len(ENTRIES[name]) :]
    page = map_low(PAGE)
    ctypes.memmove(page, filled, len(filled))
    protect(page, PAGE, PROT_READ | PROT_EXEC)
    return page


@functools.cache
def gate_names() -> tuple[str, ...]:
    """Return the names of the gates of this process: int80, and in a 32-bit process that has __kernel_vsyscall, vdso."""
    if WORD == 64:
        return ("int80",)
    try:
        landing_pad()
    except LookupError:
        return ("int80",)
    return ("int80", "vdso")


_gates: dict[str, Gate] = {}


def gate(name: str) -> Gate:
    """Return the gate of that name, made once.

    Children inherit its page at the same address, so the parent can trace their calls.
    """
    if name not in _gates:
        _gates[name] = Gate(name)
    return _gates[name]


def int80_error() -> str:
    """Return "" if int $0x80 works, else the reason. Calls getpid by it in a forked child."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os._exit(0 if gate("int80").enter(20) == os.getpid() else 1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"int $0x80 kills the process with signal {os.WTERMSIG(status)}"
    return "" if status == 0 else "int $0x80 with eax = 20 does not return the process id"
