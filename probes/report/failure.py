"""The message of a check that deviates or broke: everything one needs to see why, and to see it again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from probes.abi import decode
from probes.abi.record import Record, shown, signed

_SHOWN_RECORDS = 6
#: Tables with more entries are shown only where they differ, that many.
_SHOWN_ENTRIES = 8
_REGISTERS = ("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp")


def text(check: Mapping[str, Any], records: Sequence[Record], context: Mapping[str, Any]) -> str:
    """Several lines: key, statement and source, expected and actual, each call's registers and words, how to run it
    again. `context` has statement, source, seed and target."""
    case = f" [{check['case']}]" if check["case"] else ""
    lines = [
        f"{check['id']}{case} {check['verdict']} over {check['route']}, gate {check['gate']}, {check['word']}-bit",
        f"  states    {context['statement']}",
        f"  source    {context['source']}",
    ]
    if check["verdict"] == "deviates":
        expected, actual, besides = apart(check["expected"], check["actual"])
        lines += [f"  expected  {value(expected)}", f"  actual    {value(actual)}"]
        lines += [f"  besides   {besides}"] * bool(besides)
    if "difference" in check:
        lines.append(f"  differs   {value(check['difference'])}")
    if check["detail"]:
        lines.append(f"  because   {check['detail']}")
    if "range" in check:
        lines += _range(check["range"])
    for record in records[:_SHOWN_RECORDS]:
        lines += call(record)
    if len(records) > _SHOWN_RECORDS:
        lines.append(f"  …         {len(records) - _SHOWN_RECORDS} more calls in evidence.jsonl")
    lines.append(f"  again     {again(check, context)}")
    return "\n".join(lines)


def apart(expected: Any, actual: Any) -> tuple[Any, Any, str]:
    """Both values, of large tables a few entries in which they differ, and what is not shown of those in words."""
    if not isinstance(expected, dict) or not isinstance(actual, dict) or len(expected) <= _SHOWN_ENTRIES:
        return expected, actual, ""
    keys = dict.fromkeys([*expected, *actual])
    differ = [key for key in keys if (key in expected, expected.get(key)) != (key in actual, actual.get(key))]
    left = [{key: side[key] for key in differ[:_SHOWN_ENTRIES] if key in side} for side in (expected, actual)]
    more = f"{len(differ) - _SHOWN_ENTRIES} entries more differ, " if len(differ) > _SHOWN_ENTRIES else ""
    return left[0], left[1], f"{more}{len(keys) - len(differ)} are as expected"


def value(plain: Any) -> str:
    """A plain value as people read it: errors by name, bytes in hex."""
    if isinstance(plain, dict):
        if set(plain) == {"bytes"}:
            return plain["bytes"] or "no bytes"
        return ", ".join(f"{key}: {value(item)}" for key, item in plain.items())
    if isinstance(plain, list):
        return f"[{', '.join(value(item) for item in plain)}]"
    return shown(plain)


def call(record: Record) -> list[str]:
    """A call: what it was in words, the registers in and out, the words before and after."""
    entered = f"socketcall({signed(int(record.regs_in['ebx'], 16))})" if record.route == "socketcall" else record.op
    lines = [
        f"  call      {decode.text(record.op, record.decoded, record.ret)}" if record.op else f"  call      {entered}",
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
        lines.append("  note      the gate's own: no tracer can run here")
    return lines


def again(check: Mapping[str, Any], context: Mapping[str, Any]) -> str:
    """The command that runs exactly this check again, on the same target."""
    target = context.get("target", "local")
    words = (
        ["socketcall", "check"]
        if target.startswith("ssh:") or (":" not in target and target != "i386")
        else ["socketcall", "target", "run", target, "--"]
    )
    words.append(check["id"])
    if check["case"]:
        words += ["--case", check["case"]]
    if check["route"]:
        words += ["--route", check["route"], "--gate", check["gate"]]
    if context.get("seed") is not None:
        words += ["--seed", str(context["seed"])]
    # A host that somebody named, by whatever way: docs/machines.md.
    return shlex.join(words) + (f"  # on {target}" if target.startswith("ssh:") else "")


def _registers(registers: Mapping[str, str]) -> str:
    return " ".join(f"{name}={registers[name]}" for name in _REGISTERS if name in registers)


def _range(found: Mapping[str, Any]) -> list[str]:
    histogram = ", ".join(f"{shown(int(result))} {count} times" for result, count in found["histogram"].items())
    lines = [f"  range     {found['first']}..{found['last']} ({found['count']} values): {histogram}"]
    if found["surprises"]:
        some = ", ".join(f"{number}: {shown(result)}" for number, result in found["surprises"][:12])
        lines.append(f"  surprises {found['surprising']}: {some}")
    return lines
