"""Observe one call of a stopped tracee at its entry and its exit, and make its record afterwards."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache, partial

from probes.abi.decode import decode
from probes.abi.fetch import fetch
from probes.abi.operations import BY_CALL, BY_DIRECT, BY_X86_64, OPERATIONS, SOCKETCALL, Operation
from probes.abi.record import RESTART, Record, signed, unsigned
from probes.entry.gate import MARK
from probes.trace import ptrace
from probes.trace.ptrace import register_in, registers_in

_INDEX = {name: index for index, name in enumerate(ptrace.REGISTER_NAMES)}
_WIDE = "orig_rax" in _INDEX
_NR = _INDEX["orig_rax" if _WIDE else "orig_eax"]
_RET = _INDEX["rax" if _WIDE else "eax"]
_CS = _INDEX["cs"]
IP = _INDEX["rip" if _WIDE else "eip"]
SP = _INDEX["rsp" if _WIDE else "esp"]
_R15 = _INDEX.get("r15", 0)
_I386_ARGS = tuple(_INDEX[("r" if _WIDE else "e") + name] for name in ("bx", "cx", "dx", "si", "di", "bp"))
_X86_64_ARGS = tuple(_INDEX[name] for name in ("rdi", "rsi", "rdx", "r10", "r8", "r9")) if _WIDE else ()
#: Registers of which an i386 call uses the low half, with its i386 name.
_HALVES = (
    {_INDEX[f"r{name}"]: f"e{name}" for name in ("ax", "bx", "cx", "dx", "si", "di", "bp", "ip", "sp")} if _WIDE else {}
)
#: Code segments: __USER_CS of x86-64 (a 64-bit process), and __USER_CS of i386. (__USER32_CS of x86-64 is 0x23.)
_CS_64, _CS_NATIVE = 0x33, 0x73
#: Offset of the call id from the stack pointer at the entry: the vDSO pushes a return address and three registers.
_CALL_ID_AT = {"int80": 0, "vdso": 16}
_LOW = 0xFFFFFFFF
#: Most registers hold the same in many calls: their records share one string.
_hex = lru_cache(maxsize=1024)(hex)
_WORDS = [struct.Struct(f"<{count}I") for count in range(7)]


def register_index(name: str) -> int:
    """Return the position of a register of the i386 table, as "ax", among those of this tracer."""
    prefix, _, rest = name.rpartition("_")
    return _INDEX[f"{prefix}_{'r' if _WIDE else 'e'}{rest}" if prefix else f"{'r' if _WIDE else 'e'}{rest}"]


class TracedCall:
    """Observes a call from its entry stop, where it is constructed, to its exit stop, where `leave` is called.

    Both run while the tracee is stopped: they copy what may change later, and leave everything else to `record`.
    """

    __slots__ = (
        "after", "args", "args_after", "args_ptr", "before", "call_id", "gate", "i386", "nr", "operation", "pid",
        "regs_in", "regs_out", "ret", "t_in", "t_out", "tid",
    )  # fmt: skip

    def __init__(
        self, pid: int, tid: int, t_ns: int, raw: bytes, regs: tuple[int, ...], i386: bool, gate: str, numbered: bool
    ) -> None:
        """Read the argument words and the memory that the call is going to read.

        `regs` are the registers in `raw`, which is kept. `numbered`: the call was made through a gate.
        """
        self.pid, self.tid, self.t_in, self.t_out = pid, tid, t_ns, 0
        self.regs_in, self.i386, self.gate = raw, i386, gate
        self.regs_out = b""
        self.ret: int | None = None
        self.nr = regs[_NR] & _LOW
        self.args_ptr: int | None = None
        #: The argument words that could be read.
        self.args: tuple[int, ...] = ()
        self.args_after: tuple[int, ...] | None = None
        if not i386:
            operation = BY_X86_64.get(self.nr)
            self.args = tuple([regs[index] for index in _X86_64_ARGS[: operation.words if operation else 6]])
        elif self.nr == SOCKETCALL:
            operation = BY_CALL.get(regs[_I386_ARGS[0]] & _LOW)
            self.args_ptr = regs[_I386_ARGS[1]] & _LOW
            if operation:
                words = ptrace.read(tid, self.args_ptr, 4 * operation.words)
                self.args = _WORDS[len(words) // 4].unpack_from(words)
        else:
            operation = BY_DIRECT.get(self.nr)
            self.args = tuple([regs[index] & _LOW for index in _I386_ARGS[: operation.words if operation else 6]])
        #: The row of the system call, None if the table has none.
        self.operation: Operation | None = operation
        self.call_id: int | None = None
        if numbered:
            if _WIDE and regs[_R15] >> 32 == MARK:
                self.call_id = regs[_R15] & _LOW
            else:
                data = ptrace.read(tid, regs[SP] + _CALL_ID_AT[gate], 4)
                self.call_id = int.from_bytes(data, "little") if data else None
        self.before: Mapping[str, bytes] = {}
        if operation and operation.entry:
            self.before = fetch(operation, self.args, partial(ptrace.read, tid), None, 32 if i386 else 64)
        self.after: Mapping[str, bytes] = {}

    @property
    def op(self) -> str:
        """Return the operation's name, "" if the table has no row for the call."""
        return self.operation.name if self.operation else ""

    @property
    def word(self) -> int:
        """Return the word size of the calling process: 32 or 64."""
        return 64 if register_in(self.regs_in, _CS) == _CS_64 else 32

    @property
    def abi(self) -> str:
        """Return the entry of the kernel: "i386" (32-bit kernel), "ia32-compat" or "x86_64"."""
        if not self.i386:
            return "x86_64"
        return "i386" if register_in(self.regs_in, _CS) == _CS_NATIVE else "ia32-compat"

    @property
    def route(self) -> str:
        """Return the route: "socketcall" or "direct"."""
        return "direct" if self.args_ptr is None else "socketcall"

    def leave(self, t_ns: int, raw: bytes) -> None:
        """Read the registers, the words again and the memory that the call wrote, at the exit stop."""
        self.t_out, self.regs_out = t_ns, raw
        low = register_in(raw, _RET)
        self.ret = signed(low) if self.i386 else low - (1 << 64 if low >> 63 else 0)
        if self.args and self.args_ptr is not None:
            words = ptrace.read(self.tid, self.args_ptr, 4 * len(self.args))
            self.args_after = _WORDS[len(words) // 4].unpack_from(words)
        if self.ret >= 0 and self.operation and self.operation.exit:
            word = 32 if self.i386 else 64
            self.after = fetch(self.operation, self.args, partial(ptrace.read, self.tid), self.ret, word)

    def record(self) -> Record:
        """Make the record, with its memory decoded. The tracee may be gone by then."""
        args, error = self.args, None
        if self.route == "socketcall":
            wanted = self.operation.words if self.operation else 0
            if not self.operation:
                error = f"{signed(register_in(self.regs_in, _I386_ARGS[0]))} is no operation: it has no words"
            elif len(args) < wanted:
                error = f"unreadable after {len(args)} of {wanted} words"
        decoded = {}
        if self.operation and error is None:
            word = 64 if self.abi == "x86_64" else 32
            decoded = decode(self.operation, args, self.before, self.after, self.ret, word)
        return Record(
            pid=self.pid, tid=self.tid, t_ns=self.t_in, abi=self.abi, word=self.word, gate=self.gate, route=self.route,
            nr=self.nr, op=self.op, regs_in=named_registers(self.regs_in, entry=True),
            args_ptr=None if self.args_ptr is None else hex(self.args_ptr), args=args,
            call=self.call_id,
            dur_ns=self.t_out - self.t_in if self.t_out else None,
            regs_out=named_registers(self.regs_out) if self.regs_out else None,
            args_after=self.args_after, args_error=error, decoded=decoded, ret=self.ret,
        )  # fmt: skip


def named_registers(raw: bytes, entry: bool = False) -> dict[str, str]:
    """Return registers by name, as hex strings; in a 64-bit tracer also the low halves by their i386 names.

    At an entry stop eax holds -ENOSYS already: with `entry` it is taken from orig_eax, which keeps the caller's value.
    """
    held = list(registers_in(raw))
    if entry:
        held[_RET] = held[_NR]
    whole = dict(zip(ptrace.REGISTER_NAMES, map(_hex, held), strict=True))
    halves = {name: _hex(held[index] & _LOW) for index, name in _HALVES.items()}
    return halves | whole


def number_of(regs: tuple[int, ...]) -> int:
    """Return the number of the call that a tracee is in."""
    return unsigned(regs[_NR])


def restarts(raw: bytes) -> bool:
    """Return whether the call, at its exit stop, was interrupted and the kernel is going to restart it."""
    return -signed(register_in(raw, _RET)) in RESTART


def installs_filter(regs: tuple[int, ...], abi_i386: bool) -> bool:
    """Return whether the call is seccomp(2), or prctl(2) with PR_SET_SECCOMP."""
    prctl, seccomp = FILTER_CALLS[ptrace.ARCH_I386 if abi_i386 else ptrace.ARCH_X86_64]
    # (A 32-bit tracer cannot read 64-bit registers.)
    first = [unsigned(regs[index]) for index in (_I386_ARGS if abi_i386 else _X86_64_ARGS)[:1]]
    return number_of(regs) == seccomp or (number_of(regs) == prctl and first == [ptrace.PR_SET_SECCOMP])


#: Numbers of prctl and seccomp, by architecture.
FILTER_CALLS = {ptrace.ARCH_I386: (172, 354), ptrace.ARCH_X86_64: (157, 317)}


def socket_numbers() -> dict[int, set[int]]:
    """Return the numbers that a capture stops at, by architecture: all 20 operations on every route."""
    i386 = {SOCKETCALL, *(operation.direct for operation in OPERATIONS.values())}
    return {ptrace.ARCH_I386: i386, ptrace.ARCH_X86_64: set(BY_X86_64)} if _WIDE else {ptrace.ARCH_I386: i386}
