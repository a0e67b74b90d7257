"""What changed between two runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from probes.report.failure import value
from probes.report.reader import KEY, Results, key, key_text

Check = dict[str, Any]


@dataclass
class Difference:
    """Checks by what happened to their keys. `other`: pairs whose verdict, or whose actual value, changed otherwise."""

    newly_deviating: list[Check] = field(default_factory=list)
    newly_conforming: list[Check] = field(default_factory=list)
    other: list[tuple[Check, Check]] = field(default_factory=list)
    appeared: list[Check] = field(default_factory=list)
    vanished: list[Check] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any(self.__dict__.values())


def compare(old: Results, new: Results) -> Difference:
    """The difference of two runs."""
    before, after = ({key(check): check for check in results.checks} for results in (old, new))
    found = Difference()
    for this, check in after.items():
        was = before.get(this)
        if was is None:
            found.appeared.append(check)
        elif (was["verdict"], was["actual"]) != (check["verdict"], check["actual"]):
            if check["verdict"] == "deviates" != was["verdict"]:
                found.newly_deviating.append(check)
            elif check["verdict"] == "conforms" != was["verdict"]:
                found.newly_conforming.append(check)
            else:
                found.other.append((was, check))
    found.vanished = [check for this, check in before.items() if this not in after]
    return found


def text(found: Difference) -> str:
    """A line for each difference, under what it is."""
    lines = []
    for title, checks in (
        ("newly deviating", found.newly_deviating), ("newly conforming", found.newly_conforming),
        ("appeared", found.appeared), ("vanished", found.vanished),
    ):  # fmt: skip
        for check in checks:
            said = f": expected {value(check['expected'])}, actual {value(check['actual'])}"
            lines.append(f"{title}: {key_text(check)}" + (said if check["verdict"] == "deviates" else ""))
    for was, check in found.other:
        lines.append(f"changed: {key_text(check)}: {_verdict(was)} to {_verdict(check)}")
    return "".join(line + "\n" for line in lines)


def as_json(found: Difference) -> dict[str, Any]:
    """The keys of each kind, with their verdicts and values."""
    plain = {name: [_plain(check) for check in getattr(found, name)] for name in
             ("newly_deviating", "newly_conforming", "appeared", "vanished")}  # fmt: skip
    return {**plain, "other": [{"old": _plain(was), "new": _plain(check)} for was, check in found.other]}


def _plain(check: Check) -> dict[str, Any]:
    return {name: check[name] for name in (*KEY, "verdict", "expected", "actual")}


def _verdict(check: Check) -> str:
    return f"{check['verdict']} ({value(check['actual'])})" if check["verdict"] == "deviates" else str(check["verdict"])
