"""Observe one call of a stopped tracee at its entry and its exit, and make its record afterwards."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from probes.abi.arguments.fetcher import EVIDENCE, Ask, Limits, Reader
from probes.abi.decode import decode
from probes.abi.fetch import fetch
from probes.abi.operations import BY_CALL, BY_DIRECT, BY_NAME, BY_X86_64, NETWORK, SOCKETCALL, Operation
from probes.abi.record import RESTART, Decoded, Record, signed, unsigned
from probes.entry.gate import MARK
from probes.trace import ptrace
from probes.trace.ptrace import register_in, registers_in

if TYPE_CHECKING:
    from probes.trace.stack import Stack

_INDEX = {name: index for index, name in enumerate(ptrace.REGISTER_NAMES)}
_WIDE = "orig_rax" in _INDEX
NR = _INDEX["orig_rax" if _WIDE else "orig_eax"]
RET = _INDEX["rax" if _WIDE else "eax"]
CS = _INDEX["cs"]
IP = _INDEX["rip" if _WIDE else "eip"]
SP = _INDEX["rsp" if _WIDE else "esp"]
_R15 = _INDEX.get("r15", 0)
_I386_ARGS = tuple(_INDEX[("r" if _WIDE else "e") + name] for name in ("bx", "cx", "dx", "si", "di", "bp"))
#: The first argument of an i386 call: the operation number of socketcall.
FIRST = _I386_ARGS[0]
_X86_64_ARGS = tuple(_INDEX[name] for name in ("rdi", "rsi", "rdx", "r10", "r8", "r9")) if _WIDE else ()
#: The registers of the arguments, by architecture.
ARGUMENTS_OF = {ptrace.ARCH_I386: _I386_ARGS, ptrace.ARCH_X86_64: _X86_64_ARGS}
#: Registers of which an i386 call uses the low half, with its i386 name.
_HALVES = (
    {_INDEX[f"r{name}"]: f"e{name}" for name in ("ax", "bx", "cx", "dx", "si", "di", "bp", "ip", "sp")} if _WIDE else {}
)
#: Code segments: __USER_CS of x86-64 (64-bit code), __USER32_CS of x86-64, and __USER_CS of i386.
_CS_64, CS_32, _CS_NATIVE = 0x33, 0x23, 0x73
#: Offset of the call id from the stack pointer at the entry: the vDSO pushes a return address and three registers.
_CALL_ID_AT = {"int80": 0, "vdso": 16}
_LOW = 0xFFFFFFFF
_ret_in = ptrace.getter(RET)
#: Most registers hold the same in many calls: their records share one string.
_hex = lru_cache(maxsize=1024)(hex)
_WORDS = [struct.Struct(f"<{count}I") for count in range(7)]


#: Returns the protocol of a netlink socket, by process and descriptor, None for any other descriptor.
Netlink = Callable[[int, int], int | None]


def register_index(name: str) -> int:
    """Return the position of a register of the i386 table, as "ax", among those of this tracer."""
    prefix, _, rest = name.rpartition("_")
    return _INDEX[f"{prefix}_{'r' if _WIDE else 'e'}{rest}" if prefix else f"{'r' if _WIDE else 'e'}{rest}"]


class _Memory:
    """Reads the memory of a stopped tracee: what lies around an address that was read is copied with it.

    Words, addresses and lengths of a call are mostly near each other, in one frame of the stack.
    """

    __slots__ = ("_copied", "_start", "_tid")
    _BEFORE, _SIZE, _PAGE = 64, 512, 0x1000

    def __init__(self, tid: int) -> None:
        self._tid, self._start, self._copied = tid, 0, b""

    def read(self, address: int, size: int) -> bytes:
        """Return up to `size` bytes at an address, fewer if an unmapped page follows."""
        at = address - self._start
        if at >= 0 and at + size <= len(self._copied):
            return self._copied[at : at + size]
        in_page = address & 0xFFF
        if size > self._SIZE or in_page + size > self._PAGE:
            return ptrace.read(self._tid, address, size)
        before = in_page if in_page < self._BEFORE else self._BEFORE
        self._start = start = address - before
        left = self._PAGE - in_page
        self._copied = copied = ptrace.read(self._tid, start, before + (left if left < self._SIZE else self._SIZE))
        return copied[before : before + size]


def _reader(tid: int, more: object) -> Reader:
    """Return what reads the memory of a stopped tracee: with what lies around it if `more` is going to be read."""
    return _Memory(tid).read if more else partial(ptrace.read, tid)


class TracedCall:
    """Observes a call from its entry stop, where it is constructed, to its exit stop, where `leave` is called.

    Both run while the tracee is stopped: they copy what may change later, and leave everything else to `record`.
    """

    __slots__ = (
        "after", "args", "args_after", "args_ptr", "ask", "before", "call_id", "filtered", "gate", "i386", "injected",
        "limits", "nr", "operation", "pid", "regs_in", "regs_out", "ret", "shown", "sockets", "stack", "t_in", "t_out",
        "tid",
    )  # fmt: skip

    def __init__(
        self, pid: int, tid: int, t_ns: int, raw: bytes, regs: tuple[int, ...], i386: bool, gate: str, numbered: bool,
        limits: Limits = EVIDENCE, netlink: Netlink | None = None,
    ) -> None:  # fmt: skip
        """Read the argument words and the memory that the call is going to read.

        `regs` are the registers in `raw`, which is kept. `numbered`: the call was made through a gate.
        """
        self.limits = limits
        self.ask: Ask | None = None if netlink is None else partial(netlink, pid)
        #: False if the call is recorded for what it says about others only.
        self.shown = True
        #: True if the call was made wrong on purpose.
        self.injected = False
        #: True as long as no filter has let the call pass to the one that stops it for the tracer, which comes last.
        self.filtered = False
        #: What descriptors of the call are, by number, if that was asked for.
        self.sockets: dict[int, str] = {}
        #: Its user stack, if that was asked for.
        self.stack: Stack | None = None
        self.pid, self.tid, self.t_in, self.t_out = pid, tid, t_ns, 0
        self.regs_in, self.i386, self.gate = raw, i386, gate
        self.regs_out = b""
        self.ret: int | None = None
        self.nr = regs[NR] & _LOW
        self.args_ptr: int | None = None
        #: The argument words that could be read.
        self.args: tuple[int, ...] = ()
        self.args_after: tuple[int, ...] | None = None
        read: Reader | None = None
        if not i386:
            operation = BY_X86_64.get(self.nr)
            self.args = tuple([regs[index] for index in _X86_64_ARGS[: operation.words if operation else 6]])
        elif self.nr == SOCKETCALL:
            operation = BY_CALL.get(regs[_I386_ARGS[0]] & _LOW)
            self.args_ptr = regs[_I386_ARGS[1]] & _LOW
            if operation:
                read = _reader(tid, operation.entry)
                words = read(self.args_ptr, 4 * operation.words)
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
            more = read or _reader(tid, True)
            self.before = fetch(operation, self.args, more, None, 32 if i386 else 64, limits, self.ask)
        self.after: Mapping[str, bytes] = {}

    @property
    def op(self) -> str:
        """Return the operation's name, "" if the table has no row for the call."""
        return self.operation.name if self.operation else ""

    @property
    def word(self) -> int:
        """Return the word size of the calling process: 32 or 64."""
        return 64 if register_in(self.regs_in, CS) == _CS_64 else 32

    @property
    def abi(self) -> str:
        """Return the entry of the kernel: "i386" (32-bit kernel), "ia32-compat" or "x86_64"."""
        if not self.i386:
            return "x86_64"
        return "i386" if register_in(self.regs_in, CS) == _CS_NATIVE else "ia32-compat"

    @property
    def route(self) -> str:
        """Return the route: "socketcall" or "direct"."""
        return "direct" if self.args_ptr is None else "socketcall"

    def leave(self, t_ns: int, raw: bytes, words_after: bool = True) -> None:
        """Read the registers, the words again if asked, and the memory that the call wrote, at the exit stop."""
        self.t_out, self.regs_out = t_ns, raw
        low = _ret_in(raw)[0]
        self.ret = ret = signed(low) if self.i386 else low - (1 << 64 if low >> 63 else 0)
        operation = self.operation
        if ret < 0 or operation is None or not operation.exit:
            if words_after and self.args and self.args_ptr is not None:
                words = ptrace.read(self.tid, self.args_ptr, 4 * len(self.args))
                self.args_after = _WORDS[len(words) // 4].unpack_from(words)
            return
        read = _Memory(self.tid).read
        if words_after and self.args and self.args_ptr is not None:
            words = read(self.args_ptr, 4 * len(self.args))
            self.args_after = _WORDS[len(words) // 4].unpack_from(words)
        if operation is not None and operation.exit:
            word = 32 if self.i386 else 64
            self.after = fetch(operation, self.args, read, self.ret, word, self.limits, self.ask)

    @property
    def number(self) -> int:
        """Return the operation number of socketcall (ebx), of another call its own."""
        return self.nr if self.args_ptr is None else signed(register_in(self.regs_in, _I386_ARGS[0]))

    @property
    def args_error(self) -> str | None:
        """Return why the words of a socketcall could not be read."""
        if self.args_ptr is None:
            return None
        if not self.operation:
            return f"{self.number} is no operation: it has no words"
        wanted = self.operation.words
        return f"unreadable after {len(self.args)} of {wanted} words" if len(self.args) < wanted else None

    def decoded(self) -> dict[str, Decoded]:
        """Decode the arguments, as far as the call has come. The tracee may be gone by then."""
        operation = self.operation
        if operation is None or (self.args_ptr is not None and len(self.args) < operation.words):
            return {}
        return decode(operation, self.args, self.before, self.after, self.ret, 32 if self.i386 else 64)

    def record(self) -> Record:
        """Make the record, with its memory decoded. The tracee may be gone by then."""
        return Record(
            pid=self.pid, tid=self.tid, t_ns=self.t_in, abi=self.abi, word=self.word, gate=self.gate, route=self.route,
            nr=self.nr, op=self.op, regs_in=named_registers(self.regs_in, entry=True),
            args_ptr=None if self.args_ptr is None else hex(self.args_ptr), args=self.args,
            call=self.call_id,
            dur_ns=self.t_out - self.t_in if self.t_out else None,
            regs_out=named_registers(self.regs_out) if self.regs_out else None,
            args_after=self.args_after, args_error=self.args_error, decoded=self.decoded(), ret=self.ret,
            filtered=self.filtered,
        )  # fmt: skip


def named_registers(raw: bytes, entry: bool = False) -> dict[str, str]:
    """Return registers by name, as hex strings; in a 64-bit tracer also the low halves by their i386 names.

    At an entry stop eax holds -ENOSYS already: with `entry` it is taken from orig_eax, which keeps the caller's value.
    """
    held = list(registers_in(raw))
    if entry:
        held[RET] = held[NR]
    whole = dict(zip(ptrace.REGISTER_NAMES, map(_hex, held), strict=True))
    halves = {name: _hex(held[index] & _LOW) for index, name in _HALVES.items()}
    return halves | whole


def number_of(regs: tuple[int, ...]) -> int:
    """Return the number of the call that a tracee is in."""
    return unsigned(regs[NR])


def restarts(raw: bytes) -> bool:
    """Return whether the call, at its exit stop, was interrupted and the kernel is going to restart it."""
    return -signed(register_in(raw, RET)) in RESTART


def installs_filter(regs: tuple[int, ...], abi_i386: bool) -> bool:
    """Return whether the call is seccomp(2), or prctl(2) with PR_SET_SECCOMP."""
    prctl, seccomp = FILTER_CALLS[ptrace.ARCH_I386 if abi_i386 else ptrace.ARCH_X86_64]
    # (A 32-bit tracer cannot read 64-bit registers.)
    first = [unsigned(regs[index]) for index in (_I386_ARGS if abi_i386 else _X86_64_ARGS)[:1]]
    return number_of(regs) == seccomp or (number_of(regs) == prctl and first == [ptrace.PR_SET_SECCOMP])


def is_for_all_threads(regs: tuple[int, ...], abi_i386: bool) -> bool:
    """Return whether a call that `installs_filter` has SECCOMP_FILTER_FLAG_TSYNC: the filter is for all threads."""
    arch = ptrace.ARCH_I386 if abi_i386 else ptrace.ARCH_X86_64
    flags = [regs[index] for index in ARGUMENTS_OF[arch][1:2]]
    return number_of(regs) == FILTER_CALLS[arch][1] and any(word & _TSYNC for word in flags)


_TSYNC = 1
#: Numbers of prctl and seccomp, by architecture.
FILTER_CALLS = {ptrace.ARCH_I386: (172, 354), ptrace.ARCH_X86_64: (157, 317)}


def socket_numbers() -> dict[int, set[int]]:
    """Return the numbers of the calls of NETWORK on every route, by architecture."""
    return numbers_of(NETWORK, socketcall=True, direct=True)


def numbers_of(names: Iterable[str], socketcall: bool, direct: bool) -> dict[int, set[int]]:
    """Return the numbers of some calls on the routes that are wanted, by architecture; accept has no direct number."""
    chosen = [BY_NAME[name] for name in names]
    i386 = {each.direct for each in chosen if direct and (not each.fill or each.call == 0)}
    i386 |= {SOCKETCALL} if socketcall else set()
    x86_64 = {each.x86_64 for each in chosen if direct and each.x86_64 is not None}
    return {ptrace.ARCH_I386: i386, ptrace.ARCH_X86_64: x86_64} if _WIDE else {ptrace.ARCH_I386: i386}
