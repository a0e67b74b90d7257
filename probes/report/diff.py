"""Compares two runs, check by check."""

from __future__ import annotations

from dataclasses import dataclass, field

from probes.report.check import Check, Json
from probes.report.failure import comparison, value
from probes.report.reader import Results


@dataclass
class RunDiff:
    """The checks that changed, by how. `other` holds pairs whose verdict or values changed in another way."""

    newly_deviating: list[Check] = field(default_factory=list)
    newly_conforming: list[Check] = field(default_factory=list)
    other: list[tuple[Check, Check]] = field(default_factory=list)
    appeared: list[Check] = field(default_factory=list)
    vanished: list[Check] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Return True if anything changed."""
        return any(self.__dict__.values())


def compare(old: Results, new: Results) -> RunDiff:
    """Return what changed between two runs."""
    before, after = ({check.key: check for check in results.checks} for results in (old, new))
    found = RunDiff()
    for this, check in after.items():
        was = before.get(this)
        if was is None:
            found.appeared.append(check)
        elif (was.verdict, was.expected, was.actual) != (check.verdict, check.expected, check.actual):
            if check.verdict == "deviates" != was.verdict:
                found.newly_deviating.append(check)
            elif check.verdict == "conforms" != was.verdict:
                found.newly_conforming.append(check)
            else:
                found.other.append((was, check))
    found.vanished = [check for this, check in before.items() if this not in after]
    return found


def text(found: RunDiff) -> str:
    """Return a line for each check that changed."""
    lines = []
    for title, checks in (
        ("newly deviating", found.newly_deviating), ("newly conforming", found.newly_conforming),
        ("appeared", found.appeared), ("vanished", found.vanished),
    ):  # fmt: skip
        for check in checks:
            lines.append(f"{title}: {check.key}" + (f": {comparison(check)}" if check.verdict == "deviates" else ""))
    for was, check in found.other:
        lines.append(f"changed: {check.key}: {_judgement(was, check)} to {_judgement(check, was)}")
    return "".join(line + "\n" for line in lines)


def as_json(found: RunDiff) -> dict[str, Json]:
    """Return the keys of each sort of change, with their verdicts and values."""
    changed = {name: [_judged(check) for check in getattr(found, name)] for name in
               ("newly_deviating", "newly_conforming", "appeared", "vanished")}  # fmt: skip
    return {**changed, "other": [{"old": _judged(was), "new": _judged(check)} for was, check in found.other]}


def _judged(check: Check) -> dict[str, Json]:
    return {**check.key.as_json(), "verdict": check.verdict, "expected": check.expected, "actual": check.actual}


def _judgement(check: Check, other: Check) -> str:
    """Return the verdict, with the values if it deviates or they alone are another run's difference."""
    if check.verdict == "conforms" == other.verdict:
        return f"{check.verdict} ({value(check.actual)})"
    return f"{check.verdict} ({comparison(check)})" if check.verdict == "deviates" else check.verdict
