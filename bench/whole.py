"""Measures a whole run against the sum of its bare parts, within one run: `python -m bench.whole [ID-GLOB…]`.

The bare parts are the least that a run can cost: for each test a fork with the same namespaces, for each traced call a
tracer that only stops it twice, and the machine-code loops. Exits with 1 if the run takes more than twice their sum.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.__main__ import bare_fork, bare_trace

#: Number of tests after which a bare fork is timed.
EVERY = 25
CALLS = 2000


class Parts:
    """Is a plugin that counts and times the parts of a run."""

    def __init__(self, work: Path) -> None:
        self.work, self.forks, self.traced = work, list[float](), list[float]()
        self.tests = self.calls = 0
        self.spent = self.swept = 0.0

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Iterator[None]:
        """Times each test, and a bare fork after some."""
        start = time.perf_counter()
        result = yield
        self.spent += time.perf_counter() - start
        self.tests += 1
        if self.tests % EVERY == 0:
            start = time.perf_counter()
            bare_fork(self.work)
            self.forks.append(time.perf_counter() - start)
        if self.tests % (20 * EVERY) == 1:
            self.traced.append((bare_trace(CALLS) - bare_trace(1)) / CALLS)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Counts the calls of a test, and the seconds of its loops."""
        carried = getattr(report, "socketcall", {"checks": [], "evidence": []})
        self.calls += sum(line["type"] == "call" for line in carried["evidence"])
        self.swept += sum(check["range"]["seconds"] for check in carried["checks"] if "range" in check)


def main() -> int:
    """Runs the suite, prints the ratio, and returns the exit status."""
    root = Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory() as directory:
        parts = Parts(Path(directory))
        globs = [f"--behaviour={glob}" for glob in sys.argv[1:]]
        options = [
            f"--ignore={root / 'tests' / 'instruments'}",
            "-p",
            "no:cacheprovider",
            "-q",
            "--no-progress",
            *globs,
        ]
        code = pytest.main([str(root / "tests"), f"--rootdir={root}", *options], plugins=[parts])
    fork, call = statistics.median(parts.forks), statistics.median(parts.traced)
    bare = parts.tests * fork + parts.calls * call + parts.swept
    print(
        f"{parts.tests} tests in {parts.spent:.1f} s; bare {bare:.1f} s: forks of {1e3 * fork:.2f} ms, "
        f"{parts.calls} calls of {1e6 * call:.1f} us, loops {parts.swept:.1f} s"
    )
    print(f"{parts.spent / bare:6.2f}  a whole run / its bare parts (at most 2)")
    return 0 if code == 0 and parts.spent <= 2 * bare else 1


if __name__ == "__main__":
    sys.exit(main())
