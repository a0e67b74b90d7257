"""Formats a capture: a line for each call, signal and exit, or a table of counts."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from probes.abi.notation import text
from probes.abi.record import Record, errno_name, signed
from probes.report.check import Json

#: The parts of a line in their order, for --help.
LEGEND = (
    "seconds since the beginning, process/thread, gate, abi/word of the process, route, what the kernel was given "
    "(eax=102 ebx=OPERATION ecx=POINTER [the words there] for socketcall; the number [the registers] else; => the words "
    "afterwards if they changed), the call decoded, its result, <its duration>"
)


@dataclass(frozen=True)
class SignalEvent:
    """Describes a signal on its way to a thread, with the instruction pointer at which it arrived."""

    t_ns: int
    pid: int
    tid: int
    signal: int
    ip: int

    def as_json(self, seq: int) -> dict[str, Json]:
        """Returns its JSON line."""
        return {"type": "signal", **self.__dict__, "ip": hex(self.ip), "seq": seq}

    def line(self, start_ns: int) -> str:
        """Returns its line of text."""
        return f"{_head(self.t_ns - start_ns, self.pid, self.tid)} signal  {signal_name(self.signal)} at {self.ip:#x}"


@dataclass(frozen=True)
class ExitEvent:
    """Describes the end of a thread: its exit status, or the signal that killed it; the other is None."""

    t_ns: int
    pid: int
    tid: int
    status: int | None
    signal: int | None

    def as_json(self, seq: int) -> dict[str, Json]:
        """Returns its JSON line."""
        return {"type": "exit", **self.__dict__, "seq": seq}

    def line(self, start_ns: int) -> str:
        """Returns its line of text."""
        how = f"status {self.status}" if self.signal is None else f"killed by {signal_name(self.signal)}"
        return f"{_head(self.t_ns - start_ns, self.pid, self.tid)} exit    {how}"


def line(record: Record, start_ns: int) -> str:
    """Returns the line of a call: where it entered, the raw words, then the words decoded."""
    parts = [
        _head(record.t_ns - start_ns, record.pid, record.tid),
        f"{record.gate:<7}",
        f"{record.abi}/{record.word:<2}".ljust(14),
        f"{record.route:<10}",
        f"{_given(record)} {_words(record)}".ljust(60),
        text(record.op, record.decoded, record.ret),
        "unfinished" if record.ret is None else f"<{duration(record.dur_ns or 0)}>",
    ]
    return " ".join(parts)


def signal_name(number: int) -> str:
    """Returns SIGINT for 2; a real-time signal has its number only."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def duration(ns: int) -> str:
    """Returns nanoseconds as `21.4us`, `3.21ms` or `1.500s`."""
    if ns < 1_000_000:
        return f"{ns / 1e3:.1f}us"
    return f"{ns / 1e6:.2f}ms" if ns < 1_000_000_000 else f"{ns / 1e9:.3f}s"


def _head(ns: int, pid: int, tid: int) -> str:
    who = str(pid) if pid == tid else f"{pid}/{tid}"
    return f"{ns / 1e9:11.6f} {who:<8}"


def _given(record: Record) -> str:
    if record.route == "socketcall":
        return f"eax={record.nr} ebx={signed(int(record.regs_in['ebx'], 16))} ecx={record.args_ptr}"
    return f"{'rax' if record.abi == 'x86_64' else 'eax'}={record.nr}"


def _words(record: Record) -> str:
    words = "[" + " ".join(map(hex, record.args)) + "]"
    if record.args_after is not None and list(record.args_after) != list(record.args):
        words += " => [" + " ".join(map(hex, record.args_after)) + "]"
    return f"{words} ({record.args_error})" if record.args_error else words


class CallType(NamedTuple):
    """Identifies the calls that are counted together.

    `nr` is the system call number (eax); `ebx` the operation number on the socketcall route, None on the direct route.
    """

    op: str
    route: str
    nr: int
    ebx: int | None
    gate: str
    abi: str


@dataclass
class Count:
    """Sums up the calls of one type."""

    calls: int = 0
    unfinished: int = 0
    ns: int = 0
    longest_ns: int = 0
    errors: Counter[str] = field(default_factory=Counter)


Counts = dict[CallType, Count]


def count(records: Iterable[Record], counts: Counts) -> None:
    """Adds calls to the counts."""
    for record in records:
        ebx = signed(int(record.regs_in["ebx"], 16)) if record.route == "socketcall" else None
        call_type = CallType(record.op, record.route, record.nr, ebx, record.gate, record.abi)
        found = counts.setdefault(call_type, Count())
        found.calls += 1
        if record.ret is None:
            found.unfinished += 1
            continue
        found.ns += record.dur_ns or 0
        found.longest_ns = max(found.longest_ns, record.dur_ns or 0)
        if name := errno_name(record.ret):
            found.errors[name] += 1


_COLUMNS = (
    "calls",
    "unfinished",
    "errors",
    "seconds",
    "mean",
    "longest",
    "operation",
    "route",
    "gate",
    "abi",
    "which errors",
)


def table(counts: Counts) -> str:
    """Returns the counts as a table, longest time first, with a line of totals."""
    rows = [_COLUMNS, *(_row(call_type, found) for call_type, found in _ordered(counts))]
    calls, ns = sum(found.calls for found in counts.values()), sum(found.ns for found in counts.values())
    unfinished = sum(found.unfinished for found in counts.values())
    errors = sum(found.errors.total() for found in counts.values())
    rows.append((str(calls), str(unfinished), str(errors), f"{ns / 1e9:.6f}", "", "", "total", "", "", "", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    numbers = 6
    return "\n".join(
        " ".join(
            cell.rjust(width) if column < numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def as_json(counts: Counts) -> list[dict[str, Json]]:
    """Returns the counts as JSON lines."""
    return [
        {
            "type": "count", **call_type._asdict(), "calls": found.calls, "unfinished": found.unfinished,
            "ns": found.ns, "longest_ns": found.longest_ns, "errors": dict(sorted(found.errors.items())),
        }
        for call_type, found in _ordered(counts)
    ]  # fmt: skip


def _ordered(counts: Counts) -> list[tuple[CallType, Count]]:
    """Returns the counts, longest time first, then by name."""
    return sorted(counts.items(), key=lambda pair: (-pair[1].ns, str(tuple(pair[0]))))


def _row(call_type: CallType, found: Count) -> tuple[str, ...]:
    ended = found.calls - found.unfinished
    names = ", ".join(f"{name} {number}" for name, number in sorted(found.errors.items()))
    number = f"{call_type.route} {call_type.nr}" + ("" if call_type.ebx is None else f", {call_type.ebx}")
    return (
        str(found.calls), str(found.unfinished), str(found.errors.total()), f"{found.ns / 1e9:.6f}",
        duration(found.ns // ended) if ended else "", duration(found.longest_ns) if ended else "",
        call_type.op or "?", number, call_type.gate, call_type.abi, names,
    )  # fmt: skip
