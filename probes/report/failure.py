"""The message of a check that deviates or broke: why it does, and how to run it again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from probes.abi import notation
from probes.abi.frame import Frame
from probes.abi.names import AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX
from probes.abi.record import Record, shown, signed
from probes.abi.sockaddr import describe
from probes.report import timeline
from probes.report.check import BOTH, Check, Json, Key, Range
from probes.report.counts import counted
from probes.report.judged_test import Statement

_SHOWN_RECORDS = 6
#: How many characters are shown of an event that is as expected.
_AS_EXPECTED = 200
#: Stands for an event that one of two lists lacks.
_NOTHING = "nothing"
#: Tables with more entries are shown only where they differ, that many.
_SHOWN_ENTRIES = 8
#: Sizes by which bytes are taken for a socket address of a family: struct sockaddr_in, _in6, _nl, _ll.
_ADDRESS_SIZES = {AF_INET: 16, AF_INET6: 28, AF_NETLINK: 12, AF_PACKET: 20}
_UNIX_MOST = 110
_REGISTERS = ("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp")


@dataclass(frozen=True)
class Rerun:
    """What repeats a run of one test: the words of the command that checks on the same target, its seed, its host.

    `host` is set where the command has to be given on another machine, as its user named it. `callers` are the words that
    choose the caller of each word size, where a run may have several.
    """

    words: Sequence[str] = ("socketcall", "check")
    seed: int | None = None
    host: str = ""
    callers: Mapping[int, Sequence[str]] = field(default_factory=dict)

    def command(self, key: Key) -> str:
        """Return the command line that runs exactly this check again."""
        words = [*self.words, *self.callers.get(key.word, ()), key.id]
        if key.case:
            words += ["--case", key.case]
        if key.route and key.route != BOTH:
            words += ["--route", key.route]
        if key.gate:
            words += ["--gate", key.gate]
        if self.seed is not None:
            words += ["--seed", str(self.seed)]
        return shlex.join(words) + (f"  # on {self.host}" if self.host else "")


def host_of(target: str) -> str:
    """Return `ssh:HOST` of a target on which the command has to be given by hand (docs/machines.md), else ""."""
    return target if target.startswith("ssh:") else ""


def rerun_of(run: Mapping[str, Json]) -> Rerun:
    """Return what repeats a check of a run, from the facts in its first line."""
    target = run["target"]
    callers = {one["word"]: one["options"] for one in target.get("callers", ())}
    return Rerun(target["again"], run["seed"], host_of(target["name"]), callers)


def text(
    check: Check, records: Sequence[Record], behaviour: Statement, rerun: Rerun, frames: Sequence[Frame] = ()
) -> str:
    """Return several lines: key, statement and source, expected and actual, calls and frames, how to run it again."""
    key = check.key
    case = f" [{key.case}]" if key.case else ""
    over = "over both routes" if key.route == BOTH else f"over {key.route}"
    lines = [
        f"{key.id}{case} {check.verdict} {over}, gate {key.gate}, {key.word}-bit",
        f"  states    {behaviour.statement}",
        f"  source    {behaviour.source}",
    ]
    if check.verdict == "deviates":
        if frames or timeline.is_of_frames(check.expected) or timeline.is_of_frames(check.actual):
            lines += _beside(check.expected, check.actual)
        else:
            expected, actual, besides = apart(check.expected, check.actual)
            lines += [f"  expected  {value(expected)}", f"  actual    {value(actual)}"]
            lines += [f"  besides   {besides}"] * bool(besides)
    if check.difference is not None:
        lines.append(f"  differs   {value(check.difference)}")
    if check.detail:
        lines.append(f"  because   {check.detail}")
    if check.range is not None:
        lines += _range(check.range)
    if frames:
        lines += [f"  wire      {line}" for line in timeline.lines(records, frames)]
    for record in records[:_SHOWN_RECORDS]:
        lines += call(record)
    if len(records) > _SHOWN_RECORDS:
        lines.append(f"  …         {len(records) - _SHOWN_RECORDS} more calls in evidence.jsonl.gz")
    lines.append(f"  again     {rerun.command(key)}")
    return "\n".join(lines)


def _beside(expected: Json, actual: Json) -> list[str]:
    """Return lists of events one beside the other: a line for each that is as expected, two for each that is not."""
    lines = []
    sides = [side if isinstance(side, list) else [side] for side in (expected, actual)]
    for number, (wanted, found) in enumerate(zip_longest(*sides, fillvalue=_NOTHING), 1):
        if wanted == found:
            text = value(found)
            lines.append(f"  {number} as expected  {text if len(text) <= _AS_EXPECTED else text[:_AS_EXPECTED] + '…'}")
        else:
            lines += [f"  {number} expected     {value(wanted)}", f"    actual       {value(found)}"]
    return lines


def apart(expected: Json, actual: Json) -> tuple[Json, Json, str]:
    """Return both values, of large tables only entries that differ, and in words how many entries are left out."""
    if not isinstance(expected, dict) or not isinstance(actual, dict) or len(expected) <= _SHOWN_ENTRIES:
        return expected, actual, ""
    keys = dict.fromkeys([*expected, *actual])
    differ = [key for key in keys if (key in expected, expected.get(key)) != (key in actual, actual.get(key))]
    left = [{key: side[key] for key in differ[:_SHOWN_ENTRIES] if key in side} for side in (expected, actual)]
    more = f"{len(differ) - _SHOWN_ENTRIES} entries more differ, " if len(differ) > _SHOWN_ENTRIES else ""
    return left[0], left[1], f"{more}{len(keys) - len(differ)} are as expected"


def comparison(check: Check) -> str:
    """Return `expected X, actual Y` on one line; of large tables only entries that differ."""
    expected, actual, besides = apart(check.expected, check.actual)
    return f"expected {value(expected)}, actual {value(actual)}" + (f" ({besides})" if besides else "")


def value(found: Json) -> str:
    """Return a JSON value as people read it: errors by name, bytes in hex, socket addresses decoded before them."""
    if isinstance(found, dict):
        if set(found) == {"bytes"}:
            return _bytes(bytes.fromhex(found["bytes"]))
        return ", ".join(f"{key}: {value(item)}" for key, item in found.items())
    if isinstance(found, list):
        return f"[{', '.join(value(item) for item in found)}]"
    return shown(found)


def _bytes(raw: bytes) -> str:
    if not raw:
        return "no bytes"
    family = int.from_bytes(raw[:2], "little")
    if len(raw) == _ADDRESS_SIZES.get(family) or (family == AF_UNIX and 2 <= len(raw) <= _UNIX_MOST):
        return f"{notation.address(describe(raw))} {raw.hex()}"
    return raw.hex()


def call(record: Record) -> list[str]:
    """Return the lines of a call: decoded, the registers in and out, the words before and after."""
    entered = f"socketcall({signed(int(record.regs_in['ebx'], 16))})" if record.route == "socketcall" else record.op
    lines = [
        f"  call      {notation.text(record.op, record.decoded, record.ret)}"
        if record.op
        else f"  call      {entered}",
        f"  entered   {record.route}, {record.gate}, {record.abi}, {record.word}-bit process, number {record.nr}"
        + (f", operation {signed(int(record.regs_in['ebx'], 16))}" if record.route == "socketcall" else ""),
        "  in        " + _registers(record.regs_in),
        "  out       " + (_registers(record.regs_out) if record.regs_out else "no return"),
    ]
    if record.args_ptr is not None:
        words = " ".join(f"{word:#x}" for word in record.args)
        error = f" ({record.args_error})" if record.args_error else ""
        lines.append(f"  words     {words or 'none'} at {record.args_ptr}{error}")
        if record.args_after is not None and list(record.args_after) != list(record.args):
            lines.append("  after     " + " ".join(f"{word:#x}" for word in record.args_after))
    if not record.observed:
        lines.append("  note      the gate's own registers: no tracer runs here")
    return lines


def _registers(registers: Mapping[str, str]) -> str:
    return " ".join(f"{name}={registers[name]}" for name in _REGISTERS if name in registers)


def _range(found: Range) -> list[str]:
    histogram = ", ".join(f"{shown(int(result))} {counted(count, 'time')}" for result, count in found.histogram.items())
    lines = [f"  range     {found.first}..{found.last} ({counted(found.count, 'value')}): {histogram}"]
    if found.surprises:
        some = ", ".join(f"{number}: {shown(result)}" for number, result in found.surprises[:12])
        lines.append(f"  surprises {found.surprising}: {some}")
    return lines
