"""Counts of checks by verdict, and the exit status that follows from them."""

from __future__ import annotations

from collections import Counter

from probes.report.check import VERDICTS, Check


class Counts:
    """Counts the checks of a run by verdict, altogether and by behaviour."""

    def __init__(self) -> None:
        """Starts at zero."""
        self.all: Counter[str] = Counter()
        self.by_behaviour: dict[str, Counter[str]] = {}
        #: Those among them that a line of --expect lists.
        self.known: Counter[str] = Counter()

    def add(self, check: Check) -> None:
        """Count a check."""
        self.all[check.verdict] += 1
        self.known[check.verdict] += check.known is not None
        self.by_behaviour.setdefault(check.key.id, Counter())[check.verdict] += 1

    def as_json(self) -> dict[str, int]:
        """Return the count of every verdict."""
        return {verdict: self.all[verdict] for verdict in VERDICTS}

    def status(self) -> int:
        """Return the exit status: 0 all as expected, 1 a deviation, 3 something that was not judged."""
        unexpected = self.all - self.known
        if unexpected["deviates"]:
            return 1
        not_judged = unexpected["broke"] + unexpected["lost"] + unexpected["not_run"]
        return 3 if not_judged or not self.all["conforms"] + self.known["deviates"] else 0

    def line(self) -> str:
        """Return the counts as people read them."""
        parts = [f"{self.all[verdict]} {verdict.replace('_', ' ')}" for verdict in VERDICTS if self.all[verdict]]
        if self.known.total():
            parts.append(f"{self.known.total()} of those expected")
        what = f"{counted(len(self.by_behaviour), 'behaviour')}, {counted(self.all.total(), 'check')}"
        return f"{what}: {', '.join(parts) or 'nothing judged'}"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, which takes an s unless the number is 1."""
    return f"{number} {noun}{'s' * (number != 1)}"


def overall(*statuses: int) -> int:
    """Return the exit status of a whole: usage before a deviation before what could not be judged."""
    return next((status for status in (2, 1, 3) if status in statuses), 0)
