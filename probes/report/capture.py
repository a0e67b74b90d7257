"""Formats a capture: the JSON lines of signals and exits, and a table of counts."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from probes.abi.record import errno_name, signed
from probes.report.check import Json

#: The names of signals.
SIGNALS = tuple(each.name for each in signal.Signals)


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


def ending(status: int) -> str:
    """Describes a wait status in the words of strace: `exited with 7`, `killed by SIGSEGV (core dumped)`."""
    if os.WIFSIGNALED(status):
        return f"killed by {signal_name(os.WTERMSIG(status))}" + (" (core dumped)" if os.WCOREDUMP(status) else "")
    return f"exited with {os.WEXITSTATUS(status)}"


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


def count(counts: Counts, call_type: CallType, ret: int | None, ns: int) -> None:
    """Adds a call, its result and its time to the counts."""
    found = counts.setdefault(call_type, Count())
    found.calls += 1
    if ret is None:
        found.unfinished += 1
        return
    found.ns += ns
    found.longest_ns = max(found.longest_ns, ns)
    if name := errno_name(ret):
        found.errors[name] += 1


def counted(lines: Iterable[str]) -> Counts:
    """Counts the calls of a capture in JSON lines. Raises ValueError: a line is none, except the last without its end."""
    import json

    counts: Counts = {}
    for number, line in enumerate(lines, 1):
        try:
            fields = json.loads(line)
            if fields["type"] == "call":
                ebx = signed(int(fields["regs_in"]["ebx"], 16)) if fields["route"] == "socketcall" else None
                names = (fields[name] for name in ("gate", "abi"))
                call_type = CallType(fields["op"], fields["route"], fields["nr"], ebx, *names)
                count(counts, call_type, fields["ret"], fields["dur_ns"] or 0)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if line.startswith("{") and not line.endswith("\n"):
                break  # The capture was killed.
            raise ValueError(f"line {number} is no line of a capture: {line[:40].rstrip()!r}") from error
    return counts


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
