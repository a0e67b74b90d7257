"""What the run on one machine comes to: its checks counted, held against what was expected, and written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probes.plugin.verdicts import Check, whole
from probes.report.expectations import Expectations
from probes.report.writer import Counts, Writer


class MachineRun:
    """One run on one machine. `name` is the machine's where several are judged, `facts` are what it told of itself."""

    def __init__(self, facts: Mapping[str, Any], policy: Expectations, writer: Writer | None, name: str = "") -> None:
        self.facts, self.name = facts, name
        self._policy, self._writer = policy, writer
        self._waiting: dict[str, Check] = {}
        self._told: set[str] = set()
        self._problems: list[str] = []
        self._ended = "the run ended first"
        self._finished = False
        self.counts = Counts()
        #: What the policy makes of the run, known at its end.
        self.status = 3

    def plan(self, tests: Mapping[str, Check]) -> None:
        """What is to run: the keys of tests. One that was told already, by a worker that another took over, stays so."""
        self._waiting |= {test: key for test, key in tests.items() if test not in self._told}

    def take(self, test: str, carried: Mapping[str, Any]) -> None:
        """What a test brought."""
        self._told.add(test)
        self._waiting.pop(test, None)
        for check in carried["checks"]:
            self.counts.add(check)
            self._policy.count(check)
        if self._writer is not None:
            self._writer.add(carried)

    def lose(self, test: str, why: str) -> None:
        """A worker went while it was at a test."""
        if test in self._waiting:
            self._conclude(test, "lost", why)

    def gone(self, why: str) -> None:
        """A worker went, and no other takes over: what waits does not run."""
        self._ended = why

    def finish(self) -> None:
        """Says what did not run, writes the end, and judges the whole."""
        for test in list(self._waiting):
            self._conclude(test, "not_run", self._ended)
        if self._writer is not None:
            self._writer.finish(self.counts)
        self.status, self._problems = self._policy.finish()
        self._finished = True

    def discard(self) -> None:
        """Leaves nothing of a run that never began."""
        if self._writer is not None:
            self._writer.discard()

    def lines(self) -> list[str]:
        """What people read at the end."""
        if not self._finished:
            return []
        said = [*self._problems, *([self.counts.line()] if self.counts.by_behaviour or self.name else [])]
        return [f"{self.name}: {line}" if self.name else line for line in said]

    def _conclude(self, test: str, verdict: str, why: str) -> None:
        check = {**whole(self._waiting[test], verdict, why), "seq": []}
        self.take(test, {"checks": [check], "evidence": []})
