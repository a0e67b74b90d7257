"""Is a pytest plugin that times every test of a run, and bare forms beside them, in the same process and on the same CPU.

The variable BENCH_TIMER has its settings as JSON: `output`, the file that it writes; `directory`, an empty one; `bare`,
the names of bare forms with the number of tests after which each is timed; `programs`, the directory of compiled
programs; `commands`, programs of which one is run after each test, in turn; `parts`, into how many alike parts the tests
are dealt; `most`, how many tests of one directory run. `beside` of a test is what its bare forms took with their start.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.commands import printed_seconds
from bench.measure import seconds
from probes.report.judged_test import JudgedTest
from probes.sandbox import namespaces

#: Calls of one measurement of bare stops.
STOPS = 1000


def bare_fork(work: Path) -> None:
    """Does what a sandbox forked from this process must: two forks, the namespaces, the mounts, the link, two waits."""
    ids = os.geteuid(), os.getegid()
    child = os.fork()
    if child == 0:
        namespaces.unshare(namespaces.unshare_flags("full", user=True))
        namespaces.map_own_ids(*ids)
        inner = os.fork()
        if inner == 0:
            namespaces.set_up("full", work)
            os._exit(0)
        os.waitpid(inner, 0)
        os._exit(0)
    os.waitpid(child, 0)


class Timer:
    """Times tests and bare forms."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """Starts with the settings of BENCH_TIMER."""
        self.settings = settings
        self.work = Path(settings["directory"], "bare")
        self.work.mkdir(exist_ok=True)
        self.programs = Path(settings.get("programs", "."))
        self.bare: dict[str, int] = settings.get("bare", {})
        self.commands: list[str] = settings.get("commands", [])
        self.tests: list[dict[str, Any]] = []
        self.empty: subprocess.Popen[str] | None = None
        self.forms: dict[str, Callable[[], float]] = {
            "fork": lambda: seconds(lambda: bare_fork(self.work)),
            "empty": self._empty,
            "stops": lambda: printed_seconds(self.programs / "stops", STOPS) / STOPS,
        }

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leaves `most` tests of each directory, evenly, and deals the tests into `parts` that are alike."""
        if most := self.settings.get("most"):
            found: dict[Path, list[pytest.Item]] = defaultdict(list)
            for item in items:
                found[item.path.parent].append(item)
            items[:] = [item for these in found.values() for item in these[:: -(-len(these) // most)]]
        parts = self.settings.get("parts", 1)
        items[:] = [item for part in range(parts) for item in items[part::parts]]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Iterator[None]:
        """Times a whole test, including its reports, and then the bare forms whose turn it is."""
        self.tests.append({"checks": 0, "calls": 0, "swept": 0.0, "bare": {}})
        start = time.perf_counter()
        result = yield
        this = self.tests[-1]
        end = time.perf_counter()
        this["seconds"] = end - start
        for name, every in self.bare.items():
            if len(self.tests) % every == 1 % every:
                this["bare"][name] = self.forms[name]()
        if self.commands:
            command = self.commands[len(self.tests) % len(self.commands)]
            this["command"], this["bare"]["command"] = command, seconds(lambda: self._run(command))
        this["beside"] = time.perf_counter() - end
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Counts the checks and the traced calls of a test, and the seconds of its loops."""
        carried = getattr(report, "socketcall", None)
        if carried is not None:
            judged = carried if isinstance(carried, JudgedTest) else JudgedTest.of_json(carried)
            this = self.tests[-1]
            this["checks"] += len(judged.checks)
            this["calls"] += sum(line["type"] == "call" for line in judged.evidence)
            this["swept"] += sum(check.range.seconds for check in judged.checks if check.range)

    def pytest_unconfigure(self) -> None:
        """Writes what was measured."""
        if self.empty is not None:
            self.empty.communicate()
        Path(self.settings["output"]).write_text(json.dumps(self.tests))

    def _empty(self) -> float:
        """Makes an empty C process with a sandbox's namespaces, on the CPU of this process."""
        if self.empty is None:
            command = [self.programs / "empty", self.work]
            self.empty = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.empty.stdin is not None
        assert self.empty.stdout is not None
        self.empty.stdin.write("\n")
        self.empty.stdin.flush()
        return float(self.empty.stdout.readline())

    def _run(self, command: str) -> None:
        devnull = subprocess.DEVNULL
        subprocess.run([command], stdin=devnull, stdout=devnull, stderr=devnull, check=True)


def pytest_configure(config: pytest.Config) -> None:
    """Registers the timer."""
    config.pluginmanager.register(Timer(json.loads(os.environ["BENCH_TIMER"])))
