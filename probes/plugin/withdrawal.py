"""Withdraws verdicts that rest on what a seccomp filter answered in place of the kernel; does no I/O."""

from __future__ import annotations

from collections.abc import Sequence

from probes.abi.record import Record, shown
from probes.report.check import Check

#: Verdicts that say something about the kernel, or blame the suite.
_JUDGED = ("conforms", "deviates", "broke")


def withdraw(checks: Sequence[Check], records: Sequence[Record], under_filter: bool) -> None:
    """Makes checks not applicable whose calls a filter answered.

    What does not conform may also follow from another call of the test that a filter answered, and where the run is under
    a filter, from a call of set-up that no tracer saw: its refusal may be the filter's.
    """
    answered = next((record for record in records if record.filtered), None)
    for check in checks:
        if check.verdict not in _JUDGED:
            continue
        own = [records[at] for at in check.rests_on if at < len(records)]
        of_filter = next((record for record in own if record.filtered), None)
        if of_filter is None and check.verdict != "conforms":
            unseen = next((record for record in own if under_filter and not record.observed), None)
            of_filter = answered or unseen
        if of_filter is not None:
            check.verdict, check.detail = "not_applicable", _why(of_filter)


def _why(record: Record) -> str:
    name = record.op or f"number {record.nr}"
    if not record.filtered:
        return f"the kernel's answer: this run is under a seccomp filter, and no tracer saw {name}"
    how = "ended the process at" if record.ret is None else f"answered ({shown(record.ret)})"
    return f"the kernel's answer: a seccomp filter {how} {name} over {record.route}"
