"""One call as the tracer saw it: what is read while the tracee is stopped, and the record made of it afterwards."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from probes.abi import decode
from probes.abi.numbers import BY_DIRECT, OPERATIONS, PLAIN_WORDS, SOCKETCALL, X86_64, named
from probes.abi.record import Record, signed, unsigned
from probes.trace import ptrace

_INDEX = {name: index for index, name in enumerate(ptrace.REGISTER_NAMES)}
_WIDE = "orig_rax" in _INDEX
_NR = _INDEX["orig_rax" if _WIDE else "orig_eax"]
_RET = _INDEX["rax" if _WIDE else "eax"]
_CS = _INDEX["cs"]
IP = _INDEX["rip" if _WIDE else "eip"]
SP = _INDEX["rsp" if _WIDE else "esp"]
_I386_ARGS = tuple(_INDEX[("r" if _WIDE else "e") + name] for name in ("bx", "cx", "dx", "si", "di", "bp"))
_X86_64_ARGS = tuple(_INDEX[name] for name in ("rdi", "rsi", "rdx", "r10", "r8", "r9")) if _WIDE else ()
#: The i386 names of registers whose low halves an i386 call has.
_HALVES = (
    {_INDEX[f"r{name}"]: f"e{name}" for name in ("ax", "bx", "cx", "dx", "si", "di", "bp", "ip", "sp")} if _WIDE else {}
)
#: Code segments: __USER_CS of x86-64 (a 64-bit process), and of i386; __USER32_CS of x86-64 lies between.
_CS_64, _CS_NATIVE = 0x33, 0x73
#: Where the gate's stub leaves its number at the moment of entry: the vDSO pushes a return address and three registers.
_NUMBER_AT = {"int80": 0, "vdso": 16}


class Call:
    """A call between its entry and its exit. Construct it at the entry stop; `leave` at the exit stop."""

    __slots__ = (
        "abi",
        "after",
        "args_ptr",
        "before",
        "gate",
        "nr",
        "number",
        "op",
        "pid",
        "regs_in",
        "regs_out",
        "ret",
        "route",
        "t_in",
        "t_out",
        "tid",
        "word",
        "words",
        "words_after",
    )  # fmt: skip

    def __init__(
        self, pid: int, tid: int, t_ns: int, regs: tuple[int, ...], abi_i386: bool, gate: str, numbered: bool
    ) -> None:
        self.pid, self.tid, self.t_in, self.t_out = pid, tid, t_ns, 0
        self.regs_in = regs
        self.regs_out: tuple[int, ...] = ()
        self.ret: int | None = None
        self.gate = gate
        cs = regs[_CS]
        self.word = 64 if cs == _CS_64 else 32
        self.number: bytes = b""
        self.args_ptr: int | None = None
        self.nr = unsigned(regs[_NR])
        if abi_i386:
            self.abi = "i386" if cs == _CS_NATIVE else "ia32-compat"
            ebx = unsigned(regs[_I386_ARGS[0]])
            self.op, self.route = named(self.nr, ebx)
            self._read_i386(regs, numbered)
        else:
            self.abi, self.route = "x86_64", "direct"
            self.op = X86_64.get(self.nr, "")
            count = OPERATIONS[self.op].words if self.op else 6
            self.words = struct.pack(f"<{count}Q", *(regs[index] for index in _X86_64_ARGS[:count]))
        self.words_after: bytes | None = None
        self.before: Mapping[str, bytes] = self._look(None) if self.op else {}
        self.after: Mapping[str, bytes] = {}

    def _read_i386(self, regs: tuple[int, ...], numbered: bool) -> None:
        size = self.word // 8 if numbered else 0
        at = regs[SP] + _NUMBER_AT.get(self.gate, 0)
        if self.route == "socketcall":
            self.args_ptr = unsigned(regs[_I386_ARGS[1]])
            wanted = 4 * OPERATIONS[self.op].words if self.op else 0
            both = ptrace.read_two(self.tid, at, size, self.args_ptr, wanted)
            self.number, self.words = both[:size], both[size:]
            return
        count = BY_DIRECT[self.nr].words if self.nr in BY_DIRECT else PLAIN_WORDS.get(self.op, 6)
        self.words = struct.pack(f"<{count}I", *(unsigned(regs[index]) for index in _I386_ARGS[:count]))
        if size:
            self.number = ptrace.read(self.tid, at, size)

    def _look(self, ret: int | None) -> Mapping[str, bytes]:
        return decode.look(self.op, self.args, lambda address, size: ptrace.read(self.tid, address, size), ret,
                           64 if self.abi == "x86_64" else 32)  # fmt: skip

    @property
    def args(self) -> tuple[int, ...]:
        """The argument words, as many as could be read."""
        return _unpacked(self.words, 8 if self.abi == "x86_64" else 4)

    def leave(self, t_ns: int, regs: tuple[int, ...]) -> None:
        """Takes what is there at the exit stop."""
        self.t_out, self.regs_out = t_ns, regs
        low = regs[_RET]
        self.ret = signed(low) if self.abi != "x86_64" else low - (1 << 64 if low >> 63 else 0)
        if self.args_ptr is not None and self.words:
            self.words_after = ptrace.read(self.tid, self.args_ptr, len(self.words))
        if self.op:
            self.after = self._look(self.ret)

    def record(self) -> Record:
        """The record, with its memory decoded. Needs no tracee: call it when there is time."""
        args, error = self.args, None
        if self.route == "socketcall":
            wanted = OPERATIONS[self.op].words if self.op else 0
            if not self.op:
                error = f"{signed(self.regs_in[_I386_ARGS[0]])} is no operation: it has no words"
            elif len(args) < wanted:
                error = f"unreadable after {len(args)} of {wanted} words"
        after = None if self.words_after is None else _unpacked(self.words_after, 4)
        decoded = {}
        if self.op and error is None:
            word = 64 if self.abi == "x86_64" else 32
            decoded = decode.decode(self.op, args, self.before, self.after, self.ret, word)
        return Record(
            pid=self.pid, tid=self.tid, t_ns=self.t_in, abi=self.abi, word=self.word, gate=self.gate, route=self.route,
            nr=self.nr, op=self.op, regs_in=named_registers(self.regs_in, entry=True),
            args_ptr=None if self.args_ptr is None else hex(self.args_ptr), args=args,
            call=int.from_bytes(self.number, "little") if self.number else None,
            dur_ns=self.t_out - self.t_in if self.t_out else None,
            regs_out=named_registers(self.regs_out) if self.regs_out else None,
            args_after=after, args_error=error, decoded=decoded, ret=self.ret,
        )  # fmt: skip


def named_registers(values: tuple[int, ...], entry: bool = False) -> dict[str, str]:
    """Registers by name, as hex strings: whole ones, and in a 64-bit tracer the low halves by their i386 names too.

    At entry the kernel has put -ENOSYS into eax already: eax is what the caller put there, which orig_eax keeps.
    """
    whole = dict(zip(ptrace.REGISTER_NAMES, values, strict=True))
    if entry:
        whole["rax" if _WIDE else "eax"] = values[_NR]
    halves = {name: hex(unsigned(whole[ptrace.REGISTER_NAMES[index]])) for index, name in _HALVES.items()}
    return halves | {name: hex(value) for name, value in whole.items()}


def socket_numbers() -> dict[int, set[int]]:
    """The calls that a capture of any program stops at, by architecture: all 20 operations on every route."""
    i386 = {SOCKETCALL, *(operation.direct for operation in OPERATIONS.values())}
    return {ptrace.ARCH_I386: i386, ptrace.ARCH_X86_64: set(X86_64)} if _WIDE else {ptrace.ARCH_I386: i386}


def _unpacked(data: bytes, width: int) -> tuple[int, ...]:
    count = len(data) // width
    return struct.unpack(f"<{count}{'Q' if width == 8 else 'I'}", data[: count * width])
