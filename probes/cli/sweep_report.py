"""The report of a sweep: what was covered, how often each result came, and the members that deviate, with evidence."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from probes.abi.record import Record, shown
from probes.installation import again_words
from probes.report import failure
from probes.report.check import Json
from probes.report.sweep import Outcome
from probes.testing.spaces import Plan

#: How many ranges of members a line of the text names.
_NAMED = 8
UNSTATED = "not judged: the documents state no answer"


@dataclass
class Evidence:
    """Holds the calls of one deviating member, made again and traced, and their result."""

    member: int
    expected: str
    actual: str
    again: str
    records: Sequence[Record]


@dataclass
class Report:
    """Holds what a sweep covered and found; `facts` are those of its state file."""

    plan: Plan
    facts: Mapping[str, Json]
    workers: int
    done: list[tuple[int, int]] = field(default_factory=list)
    outcome: Outcome = field(default_factory=Outcome)
    #: Seconds of this run and of those that it resumed.
    seconds: float = 0.0
    #: Seconds of CPU time of this run, with its workers, and the members that it swept.
    cpu_seconds: float = 0.0
    swept_now: int = 0
    seconds_now: float = 0.0
    evidence: list[Evidence] = field(default_factory=list)

    def add(self, start: int, stop: int, outcome: Outcome) -> None:
        """Adds a chunk."""
        self.outcome.join(outcome)
        self.done.append((start, stop))

    @property
    def covered(self) -> list[tuple[int, int]]:
        """Returns the members that were swept, as ranges [start, stop)."""
        found: list[tuple[int, int]] = []
        for start, stop in sorted(self.done):
            if found and start <= found[-1][1]:
                found[-1] = found[-1][0], max(stop, found[-1][1])
            else:
                found.append((start, stop))
        return found

    @property
    def swept(self) -> int:
        """Returns the number of members that were swept."""
        return sum(stop - start for start, stop in self.covered)

    @property
    def rate(self) -> float:
        """Returns how many members this run swept in a second."""
        return self.swept_now / self.seconds_now if self.seconds_now else 0.0

    def results(self) -> Counter[str]:
        """Counts the members by result."""
        counts: Counter[str] = Counter()
        for start, stop in self.covered:
            for expected in self.plan.expected(start, stop):
                counts[UNSTATED if expected.answer is None else shown(expected.answer)] += expected.count
        for expected_text, actual, group in self.outcome.deviations:
            counts[expected_text] -= group.count
            counts[actual] += group.count
        for start, count, why in self.outcome.lost:
            for expected in self.plan.expected(start, start + count):
                counts[UNSTATED if expected.answer is None else shown(expected.answer)] -= expected.count
            counts[f"lost: {why}"] += count
        return +counts

    def status(self) -> int:
        """Returns the exit status: 0 all as expected, 1 a deviation, 3 something was not swept."""
        return self.outcome.status or (3 if self.swept < self.plan.size else 0)

    def again(self, member: int) -> str:
        """Returns the command line that sweeps one member again, or the family that it belongs to."""
        track, value = self.plan.track_at(member)
        value = value if track.of is None else track.of
        words = [word for word in again_words() if word != "check"]
        name = self.plan.space.shown(value)
        words += ["sweep", self.plan.space.name, "--range", f"{name}..{name}"]
        return shlex.join([*words, "--gate", str(self.facts["gate"]), "--route", str(self.facts["route"])])

    # As JSON

    def as_json(self) -> dict[str, Any]:
        """Returns the report as JSON; members are named by their case and values."""
        found = self.outcome.as_json()
        return {
            **self.facts,
            "statement": self.plan.space.statement,
            "source": self.plan.space.source,
            "swept": self.swept,
            "resumed": self.swept - self.swept_now,
            "complete": self.swept == self.plan.size,
            "covered": list(self._values(self.covered)),
            "results": dict(self.results()),
            "seconds": round(self.seconds, 3),
            "cpu_seconds": round(self.cpu_seconds, 3),
            "rate": round(self.rate),
            "workers": self.workers,
            "deviations": [
                {**group, "members": list(self._values((start, start + count) for start, count in group["members"]))}
                for group in found["deviations"]
            ],
            "left_open": [[self.plan.named(start, 1), *rest] for start, *rest in found["left_open"]],
            "lost": [
                {**one, "why": why}
                for start, count, why in found["lost"]
                for one in self._values([(start, start + count)])
            ],
            "deaths": found["deaths"],
            "evidence": [
                {
                    "member": self.plan.named(one.member), "expected": one.expected, "actual": one.actual,
                    "again": one.again, "calls": [record.as_json() for record in one.records],
                }
                for one in self.evidence
            ],
        }  # fmt: skip

    def _values(self, ranges: Any) -> Iterator[dict[str, Json]]:
        for start, stop in ranges:
            for track, first, last, _ in self.plan.parts(start, stop):
                yield {"case": track.name, "first": first, "last": last}

    # As text

    def lines(self) -> Iterator[str]:
        """Yields the report as people read it."""
        deviations = self.outcome.deviations
        yield from self._deviations()
        for start, count, left in self.outcome.left_open:
            yield f"{self.plan.named(start)} and the {count - 1} members after it left {left} descriptors open"
        for start, count, why in self.outcome.lost:
            yield f"lost: {count} members from {self.plan.named(start)} on: {why}"
        space = self.plan.space
        whole = f"all {self.plan.size}" if self.swept == self.plan.size else f"{self.swept} of {self.plan.size}"
        values = f"{space.shown(self.plan.first)}..{space.shown(self.plan.last)}"
        facts = self.facts
        yield (
            f"{space.name} {values}: {whole} members swept, gate {facts['gate']}, route {facts['route']}, "
            f"{facts['word']}-bit, {facts['abi']} {facts['kernel'].split()[0]}"
        )
        for result, count in self.results().most_common():
            yield f"  {count:>10}  {result}"
        yield (
            f"  {self.seconds:.1f} s in all; this run {self.seconds_now:.1f} s, {self.rate:.0f} members a second, "
            f"{self.cpu_seconds:.1f} s of CPU time in {self.workers} workers"
        )
        unstated = sum(count for result, count in self.results().items() if result == UNSTATED)
        lost = sum(count for _, count, _ in self.outcome.lost)
        yield f"{deviations.count} deviate, {lost} lost, {self.plan.size - self.swept} not swept, {unstated} not judged"

    def _deviations(self) -> Iterator[str]:
        for expected, actual, group in self.outcome.deviations:
            named = [self.plan.named(start, count) for start, count in group.ranges[:_NAMED]]
            more = " …" if len(group.ranges) > _NAMED else ""
            yield f"{self.plan.space.name} deviates over {self.facts['route']}, gate {self.facts['gate']}"
            yield f"  states    {self.plan.space.statement}"
            yield f"  source    {self.plan.space.source}"
            yield f"  expected  {expected}"
            yield f"  actual    {actual}"
            yield f"  members   {group.count}: {', '.join(named)}{more}"
            shown_once = False
            for one in self.evidence:
                if (one.expected, one.actual) == (expected, actual) and not shown_once:
                    shown_once = True
                    for record in one.records:
                        yield from failure.call(record)
                    if one.again != actual:
                        yield f"  traced    {one.again}, not {actual}"
            if group.ranges:
                yield f"  again     {self.again(group.ranges[0][0])}"
