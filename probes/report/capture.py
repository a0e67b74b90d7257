"""A capture as people read it: one line for each call, signal and end; a table of counts."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from probes.abi.notation import text
from probes.abi.record import Record, errno_name, signed

#: The parts of a line in their order, for those who ask for help.
LEGEND = (
    "seconds since the beginning, process/thread, gate, abi/word of the process, route, what the kernel was given "
    "(eax=102 ebx=OPERATION ecx=POINTER [the words there] for socketcall; the number [the registers] else; => the words "
    "afterwards if they changed), the call decoded, its result, <its duration>"
)


def line(record: Record, start_ns: int) -> str:
    """A call in one line: where it entered, the raw words, then what they mean."""
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


def event(told: Mapping[str, Any], start_ns: int) -> str:
    """A signal or an end in one line."""
    head = _head(told["t_ns"] - start_ns, told["pid"], told["tid"])
    if told["type"] == "signal":
        return f"{head} signal  {signal_name(told['signal'])} at {told['ip']}"
    how = f"killed by {signal_name(told['signal'])}" if told["status"] is None else f"status {told['status']}"
    return f"{head} exit    {how}"


def signal_name(number: int) -> str:
    """SIGINT for 2; real-time signals by their number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def duration(ns: int) -> str:
    """`21.4us`, `3.21ms`, `1.500s`."""
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


@dataclass
class Count:
    """What calls of one kind came to."""

    calls: int = 0
    unfinished: int = 0
    ns: int = 0
    longest_ns: int = 0
    errors: Counter[str] = field(default_factory=Counter)


#: operation, route, number (eax), operation number (ebx; None on the direct route), gate, abi
Kind = tuple[str, str, int, int | None, str, str]


def count(records: Iterable[Record], counts: dict[Kind, Count]) -> None:
    """Adds calls to counts."""
    for record in records:
        ebx = signed(int(record.regs_in["ebx"], 16)) if record.route == "socketcall" else None
        kind = record.op, record.route, record.nr, ebx, record.gate, record.abi
        found = counts.setdefault(kind, Count())
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


def table(counts: Mapping[Kind, Count]) -> str:
    """The counts as a table, what took longest first, with a line of totals."""
    rows = [_COLUMNS, *(_row(kind, found) for kind, found in ordered(counts))]
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


def as_json(counts: Mapping[Kind, Count]) -> list[dict[str, Any]]:
    """The counts as lines of JSON."""
    return [
        {
            "type": "count", "op": op, "route": route, "nr": nr, "ebx": ebx, "gate": gate, "abi": abi,
            "calls": found.calls, "unfinished": found.unfinished, "ns": found.ns, "longest_ns": found.longest_ns,
            "errors": dict(sorted(found.errors.items())),
        }
        for (op, route, nr, ebx, gate, abi), found in ordered(counts)
    ]  # fmt: skip


def ordered(counts: Mapping[Kind, Count]) -> list[tuple[Kind, Count]]:
    """What took longest first, then by name."""
    return sorted(counts.items(), key=lambda pair: (-pair[1].ns, str(pair[0])))


def _row(kind: Kind, found: Count) -> tuple[str, ...]:
    op, route, nr, ebx, gate, abi = kind
    ended = found.calls - found.unfinished
    names = ", ".join(f"{name} {number}" for name, number in sorted(found.errors.items()))
    number = f"{route} {nr}" + ("" if ebx is None else f", {ebx}")
    return (
        str(found.calls), str(found.unfinished), str(found.errors.total()), f"{found.ns / 1e9:.6f}",
        duration(found.ns // ended) if ended else "", duration(found.longest_ns) if ended else "",
        op or "?", number, gate, abi, names,
    )  # fmt: skip
