"""The run on one machine: its checks counted, held against what was expected, and written."""

from __future__ import annotations

from collections.abc import Mapping

from probes.report import failure
from probes.report.causes import Causes, frames_of, records_of
from probes.report.check import Check, Json, Key
from probes.report.counts import Counts
from probes.report.expectations import Expectations
from probes.report.judged_test import JudgedTest, Statement
from probes.report.packed import Scratch, brief
from probes.report.writer import Writer


class MachineRun:
    """One run on one machine.

    `facts` are what the machine reported of itself; `name` is the machine's where several are judged, else "".
    """

    def __init__(
        self, facts: Mapping[str, Json], expectations: Expectations, writer: Writer | None, name: str = ""
    ) -> None:
        """Starts without a test; `writer` is None if no files are wanted."""
        self.facts, self.name = facts, name
        self._expectations, self._writer = expectations, writer
        self._waiting: dict[str, Key] = {}
        #: The number of each test, from 1, in the order in which tests were planned.
        self._numbers: dict[str, int] = {}
        self._reported: set[str] = set()
        self._problems: list[str] = []
        self._ended = "the run ended first"
        self._finished = False
        self.counts = Counts()
        #: What is not as expected, by cause.
        self.causes = Causes()
        self._rerun = failure.rerun_of(facts)
        #: The exit status by --expect and --require, known at the end of the run.
        self.status = 3

    def plan(self, tests: Mapping[str, Key]) -> None:
        """Take the keys of the tests to run. Tests already reported by a worker that was restarted stay reported."""
        for test in tests:
            self._number(test)
        self._waiting |= {test: key for test, key in tests.items() if test not in self._reported}

    def take(self, test: str, judged: JudgedTest) -> None:
        """Count and write what a test brought."""
        self._reported.add(test)
        self._waiting.pop(test, None)
        for check in judged.checks:
            self.counts.add(check)
            self._expectations.count(check)
            if check.unexpected:
                self._explain(check, judged)
        if self._writer is not None:
            self._writer.add(judged, self._number(test))

    def _number(self, test: str) -> int:
        return self._numbers.setdefault(test, len(self._numbers) + 1)

    def scratch(self) -> Scratch | None:
        """Make the file of a worker of this machine, None if no files are wanted. Raises OSError."""
        return None if self._writer is None else self._writer.scratch()

    def condense(self, test: str, judged: JudgedTest, scratch: Scratch | None) -> JudgedTest:
        """Write the lines of a test to the file of this worker, and return what `take` needs of the test."""
        if self._writer is None or scratch is None:
            return brief(judged, None)
        return self._writer.condense(judged, self._number(test), scratch)

    def _explain(self, check: Check, judged: JudgedTest) -> None:
        about = judged.behaviour or Statement(check.key.id, "", "")
        records = records_of(check, judged.evidence)
        frames = frames_of(check, judged.evidence)
        self.causes.add(check, records, lambda: failure.text(check, records, about, self._rerun, frames))

    def lose(self, test: str, why: str) -> None:
        """Give the test at which a worker ended the verdict `lost`."""
        if test in self._waiting:
            self._conclude(test, "lost", why)

    def gone(self, why: str) -> None:
        """Take the reason for which a worker ended without a replacement: the tests that wait do not run."""
        self._ended = why

    def finish(self) -> None:
        """Give what did not run its verdict, write the end, and compute the status. Raises OSError: a full disk."""
        for test in list(self._waiting):
            self._conclude(test, "not_run", self._ended)
        self._finished = True
        self.status, self._problems = self._expectations.finish()
        if self._writer is not None:
            self._writer.finish(self.counts)

    def discard(self) -> None:
        """Remove the files of a run that never began."""
        if self._writer is not None:
            self._writer.discard()

    def lines(self, causes: bool = True) -> list[str]:
        """Return what is printed at the end: causes if wanted, problems with the expectations, the counts."""
        if not self._finished:
            return []
        lines = [*(self.causes.lines() if causes else []), *self._problems]
        if self.counts.by_behaviour or self.name:
            lines.append(self.counts.line())
        return [f"{self.name}: {line}" if self.name else line for line in lines]

    def _conclude(self, test: str, verdict: str, why: str) -> None:
        self.take(test, JudgedTest([Check(self._waiting[test], verdict, detail=why)]))
