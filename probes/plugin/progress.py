"""Shows on a terminal how far a run has come: one line, written over."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Generator, Mapping

import pytest

from probes.plugin.run_facts import planned
from probes.plugin.run_report import RunReport
from probes.report.check import Key
from probes.report.counts import counted

#: Seconds between two lines.
_EVERY = 0.1
#: Returns to the first column, and clears the line (ECMA-48, EL).
_AGAIN = "\r\x1b[K"


class Progress:
    """Writes the line after each test, but not too often, and clears it at the end of the tests."""

    def __init__(
        self, report: RunReport, write: Callable[[str], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        """Start without tests. `write` writes to the terminal, `now` is a clock in seconds."""
        self._report, self._write, self._now = report, write, now
        self._keys: Mapping[str, Key] = {}
        self._total = self._done = 0
        self._began = self._written = 0.0

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Takes the tests to run."""
        self.plan(len(session.items), planned(session))

    def plan(self, total: int, keys: Mapping[str, Key]) -> None:
        """Takes how many tests there are, and the keys of those of behaviours by node id."""
        self._total, self._keys = total, keys

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Measures the rate from the first test on."""
        self._began = self._now()
        try:
            return (yield)
        finally:
            self._write(_AGAIN)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Writes the line again after a test, if the last one is old enough."""
        self._done += 1
        if self._now() - self._written >= _EVERY:
            self._written = self._now()
            width = shutil.get_terminal_size().columns
            self._write(_AGAIN + self.line(nodeid)[: max(width - 1, 0)])

    def line(self, nodeid: str) -> str:
        """Return what has been done, at which rate, how long the rest may take, what deviates, and the last behaviour."""
        seconds = max(self._now() - self._began, 0.001)
        left = seconds / max(self._done, 1) * max(self._total - self._done, 0)
        counts = self._report.counts
        parts = [
            f"{self._done}/{self._total} tests", f"{self._done / seconds:.0f}/s", f"{_duration(left)} left",
            counted((counts.all - counts.known)["deviates"], "deviation"),
        ]  # fmt: skip
        broke = (counts.all - counts.known)["broke"]
        parts += [f"{broke} broke"] * bool(broke)
        key = self._keys.get(nodeid)
        return ", ".join(parts) + (f"  {key.id}" if key else "")


def _duration(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02}"
