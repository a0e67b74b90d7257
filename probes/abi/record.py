"""Defines the record of a call: everything that crossed the boundary in one system call."""

from __future__ import annotations

import errno
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

#: A decoded argument or a part of one: an int, a str, None, or a list or dict of those, as JSON can hold it.
Decoded: TypeAlias = Any

#: A result in -4095..-1 is an error (include/linux/err.h MAX_ERRNO); anything else is a value.
MAX_ERRNO = 4095
#: Results that only a tracer sees: the kernel restarts the call or turns them into EINTR (include/linux/errno.h).
RESTART = {512: "ERESTARTSYS", 513: "ERESTARTNOINTR", 514: "ERESTARTNOHAND", 516: "ERESTART_RESTARTBLOCK"}

#: The 32-bit names of registers, and the names of the 64-bit registers of which they are the lower halves.
_WHOLE = {f"e{name}": f"r{name}" for name in ("ax", "bx", "cx", "dx", "si", "di", "bp", "ip", "sp")}
_HALF = {whole: half for half, whole in _WHOLE.items()}
#: Copies of eax at entry (see named_registers).
_COPIES = ("orig_eax", "orig_rax")
#: Registers without a 32-bit name: a line names them where they are not zero.
_WIDE_ONLY = frozenset([*(f"r{number}" for number in range(8, 16)), "fs_base", "gs_base"])
_ZERO = "0x0"
_LONGEST_HALF = len("0xffffffff")


def signed(word: int) -> int:
    """Return the signed value of a 32-bit word, whatever bits stand above it."""
    word &= 0xFFFFFFFF
    return word - 0x1_0000_0000 if word & 0x8000_0000 else word


def unsigned(value: int) -> int:
    """Return the 32-bit word of a value."""
    return value & 0xFFFFFFFF


def errno_name(result: int | None) -> str:
    """Name the error of a result: EACCES for -13, ERESTARTSYS for -512, E4000 if it has no name; "" for a value."""
    if result is None or not -MAX_ERRNO <= result <= -1:
        return ""
    if -result == errno.EOPNOTSUPP:
        return "EOPNOTSUPP"  # Python's table has its other name, which no page about sockets uses.
    return errno.errorcode.get(-result) or RESTART.get(-result) or f"E{-result}"


def shown(result: object) -> str:
    """Format a result for people: `-13 EACCES`, `3`."""
    if isinstance(result, int) and not isinstance(result, bool):
        name = errno_name(int(result))
        return f"{int(result)} {name}" if name else str(int(result))
    return str(result)


@dataclass
class Record:
    """Holds one call. Registers and pointers are hex strings, times nanoseconds of CLOCK_MONOTONIC.

    `call` is the number the gate gave the call (several records share it when the kernel restarted the call; None in
    captures of other programs). `args` are the argument words at entry, on whichever route; `args_after` the words
    read again at exit; `args_error` says why they could not be read. `ret` is None if the call never returned.
    `observed` is false where no tracer could run and the gate's own note is all there is. `filtered`: a seccomp filter that
    the run is under answered in place of the kernel, or ended the process.
    """

    pid: int
    tid: int
    t_ns: int
    abi: str
    word: int
    gate: str
    route: str
    nr: int
    op: str
    regs_in: dict[str, str]
    args_ptr: str | None
    args: Sequence[int]
    seq: int = 0
    call: int | None = None
    dur_ns: int | None = None
    regs_out: dict[str, str] | None = None
    args_after: Sequence[int] | None = None
    args_error: str | None = None
    decoded: dict[str, Decoded] = field(default_factory=dict)
    ret: int | None = None
    observed: bool = True
    filtered: bool = False

    @classmethod
    def of_json(cls, line: Mapping[str, Any]) -> Record:
        """Read a record that `as_json` wrote, with every register under all of its names."""
        fields = {name: line[name] for name in cls.__dataclass_fields__ if name in line}
        before, upper = dict(line["regs_in"]), dict(line.get("regs_in_upper", {}))
        if line["regs_out"] is not None:
            after, upper_after = {**before, **line["regs_out"]}, {**upper, **line.get("regs_out_upper", {})}
            before |= dict.fromkeys(after.keys() - before.keys(), _ZERO)
            fields["regs_out"] = _under_all_names(after, upper_after, line["word"])
        fields["regs_in"] = _under_all_names(before, upper, line["word"])
        return cls(**fields)

    @property
    def clobbered(self) -> list[str]:
        """Name the registers, but for the one that takes the result, that held something else after the call."""
        after = self.regs_out or {}
        return [name for name, value in self.regs_in.items() if name not in ("eax", "rax") and after.get(name) != value]

    def as_json(self) -> dict[str, Any]:
        """Return the line of evidence.jsonl (docs/schema.json, `call`), in which each register stands once."""
        line = {"type": "call", **self.__dict__}
        if not self.filtered:
            del line["filtered"]
        before = self.regs_in
        names = _names(tuple(before), self.abi)
        line["regs_in"] = held = {name: before[name] for name in names.always}
        for name in names.if_not_zero:
            if before[name] != _ZERO:
                held[name] = before[name]
        upper = {_HALF[name]: _upper(before[name]) for name in names.wholes if len(before[name]) > _LONGEST_HALF}
        if upper:
            line["regs_in_upper"] = upper
        after = self.regs_out
        if after is not None:
            line["regs_out"] = changed = {name: after[name] for name in names.result}
            for name in names.own:
                if (value := after[name]) != before[name]:
                    changed[name] = value
            if above := {
                _HALF[name]: half
                for name in names.wholes
                if after[name] != before[name] and (half := _upper(after[name])) != _upper(before[name])
            }:
                line["regs_out_upper"] = above
        line["args"] = list(self.args)
        line["args_after"] = None if self.args_after is None else list(self.args_after)
        line["errno"] = errno_name(self.ret) or None
        return line


class _Names(NamedTuple):
    """How a line names the registers of a record."""

    own: tuple[str, ...]
    #: Those among them that a line always has, and those that it has where they are not zero.
    always: tuple[str, ...]
    if_not_zero: tuple[str, ...]
    #: The 64-bit registers that are named by their lower halves.
    wholes: tuple[str, ...]
    #: The register that takes the result, if the record has it.
    result: tuple[str, ...]


@functools.cache
def _names(registers: tuple[str, ...], abi: str) -> _Names:
    """Return how a line of an ABI names registers: an i386 call by 32-bit names, an x86_64 call by 64-bit names."""
    wide = abi == "x86_64"
    own = tuple(name for name in registers if name not in _COPIES and name not in (_WHOLE if wide else _HALF))
    return _Names(
        own=own,
        always=tuple(name for name in own if name not in _WIDE_ONLY),
        if_not_zero=tuple(name for name in own if name in _WIDE_ONLY),
        wholes=() if wide else tuple(name for name in registers if name in _HALF),
        result=tuple(name for name in own if name in ("eax", "rax")),
    )


def _upper(value: str) -> str:
    """Return the upper half of the hex string of 64 bits."""
    return value[:-8] if len(value) > _LONGEST_HALF else _ZERO


def _under_all_names(registers: Mapping[str, str], upper: Mapping[str, str], word: int) -> dict[str, str]:
    """Return registers of a process also under the names that `as_json` leaves out."""
    halves = {_HALF[name]: hex(unsigned(int(value, 16))) for name, value in registers.items() if name in _HALF}
    wholes = {}
    if word == 64:
        for name, value in registers.items():
            if name in _WHOLE:
                above = int(upper.get(name, _ZERO), 16)
                wholes[_WHOLE[name]] = hex(above << 32 | int(value, 16))
    return halves | dict(registers) | wholes
