"""Collects the checks of all tests, local or remote, and writes the report at session end."""

from __future__ import annotations

import difflib
import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import pytest

from probes.errors import CommandError
from probes.interrupts import deferred
from probes.plugin.item import LEFT_OUT
from probes.plugin.run_facts import planned, run_facts
from probes.report.check import Json
from probes.report.counts import Counts, overall
from probes.report.expectations import Expectations
from probes.report.judged_test import JudgedTest
from probes.report.machine_run import MachineRun
from probes.report.packed import Scratch
from probes.report.writer import Writer

#: The name of the plugin that has `status` and `counts` at the end of a run.
RUN_REPORT = "socketcall"
#: What --expect, --require and --write-expect ask of the run.
EXPECTATIONS: pytest.StashKey[Expectations] = pytest.StashKey()


class RunReport:
    """What the reports of local and of distributed runs share; see LocalReport and xdist.XdistReport."""

    def __init__(self, config: pytest.Config) -> None:
        """Starts without a run; the session adds one for each machine."""
        self._config = config
        self.runs: list[MachineRun] = []
        self._began = False
        self._closed = False
        #: Why the files of the run could not be written, "" if they could.
        self.failure = ""
        self._left_out: set[str] = set()

    @property
    def counts(self) -> Counts:
        """Returns the counts of all machines together."""
        counts = Counts()
        for run in self.runs:
            counts.all.update(run.counts.all)
            counts.known.update(run.counts.known)
        return counts

    @property
    def status(self) -> int:
        """Returns the exit status of `check`."""
        found = [status for run in self.runs for status in (run.status, run.counts.status())]
        return overall(*found) if found else 3

    @property
    def unmatched_case(self) -> str:
        """Names the cases that come nearest to --case if it matched none; "" if it matched one, or was not given."""
        wanted: str | None = self._config.getoption("case")
        if wanted is None or not self._left_out or self.counts.all.total():
            return ""
        near = difflib.get_close_matches(wanted, sorted(self._left_out), n=3, cutoff=0)
        named = ", ".join(repr(case) for case in near)
        return f"--case {wanted!r} matches none of {len(self._left_out)} cases: did you mean {named}?"

    def expectations(self, name: str = "") -> Expectations:
        """Reads what is expected of a machine.

        Where there are several machines, --expect may be a directory with a list for each, and --write-expect makes
        one. Raises UsageError.
        """
        expect, require, write = (self._config.getoption(name) for name in ("expect", "require", "write_expect"))
        try:
            if name and expect and Path(expect).is_dir():
                expect = str(Path(expect) / name)
            if name and write and Path(write).absolute().parent.is_dir():
                Path(write).mkdir(exist_ok=True)
                write = str(Path(write) / name)
            return Expectations.of(expect, require, write)
        except CommandError as error:
            raise pytest.UsageError(str(error)) from error
        except FileExistsError as error:
            why = f"--write-expect: {write} is not a directory, to hold a list for each machine"
            raise pytest.UsageError(why) from error
        except OSError as error:
            raise pytest.UsageError(f"--write-expect: cannot make {write}: {error.strerror}") from error

    def writer(self, facts: Mapping[str, Json], within: Path | None = None) -> Writer | None:
        """Opens the files of a run, if they are wanted. Raises UsageError."""
        directory = self._config.getoption("report")
        if directory is None:
            return None
        if not directory:
            if self._config.getoption("stream") is not None:
                return None  # `target run` writes the report of what it streams, on its own machine
            raise pytest.UsageError("--report names no directory: give --report DIR")
        try:
            return Writer(within or Path(directory).absolute(), facts, self._config.getoption("evidence"))
        except CommandError as error:
            raise pytest.UsageError(str(error)) from error
        except OSError as error:
            why = f"cannot write to {directory}: {error.strerror}; give another --report"
            raise pytest.UsageError(why) from error

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Counts and writes the checks that came with a report; ends the run if they cannot be written."""
        self._left_out.update(str(case) for name, case in report.user_properties if name == LEFT_OUT)
        carried = getattr(report, "socketcall", None)
        if carried is None:
            return
        # pytest keeps its reports to the end: with the evidence, every fork would copy more.
        del report.socketcall
        with self._writing():
            self.run_of(report).take(report.nodeid, _judged(carried))
        if self.failure:
            raise pytest.exit.Exception(self.failure, returncode=3)

    def fail(self, error: OSError) -> NoReturn:
        """Ends the run as an error of its files does. Raises pytest.exit.Exception."""
        with self._writing():
            raise error
        raise pytest.exit.Exception(self.failure, returncode=3)

    @contextmanager
    def _writing(self) -> Generator[None]:
        """Keeps an error of the files as `failure`. A signal waits until the block has ended, so that no line is cut."""
        with deferred():
            try:
                yield
            except (OSError, CommandError) as error:
                why = error.strerror if isinstance(error, OSError) else str(error)
                what = getattr(error, "filename", None) or f"the report in {self._config.getoption('report')}"
                self.failure = self.failure or f"cannot write {what}: {why}; free some space, or name another place"

    def run_of(self, report: pytest.TestReport) -> MachineRun:
        """Returns the run that a report belongs to."""
        return self.runs[0]

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Moves the files into place; nothing is written after a usage error, or where no test was begun."""
        kept = self._began and exitstatus != pytest.ExitCode.USAGE_ERROR and not self.unmatched_case
        with self._writing():
            for run in self.runs:
                if kept and not self.failure:
                    run.finish()
                else:
                    run.discard()
            self.close(kept and not self.failure)
        if self.failure:
            self._discard()
        self._closed = True

    def _discard(self) -> None:
        with suppress(OSError):
            for run in self.runs:
                run.discard()

    def pytest_unconfigure(self) -> None:
        """Removes the files of a session that did not begin, of which pytest does not report the end."""
        if not self._closed:
            self._discard()

    def close(self, kept: bool) -> None:
        """Ends what a report of several machines opened."""

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Prints the counts by verdict; and the causes of what is wrong, where pytest prints no failures (--tb=no)."""
        for run in self.runs:
            for line in run.lines(causes=self._config.getoption("tbstyle") == "no"):
                terminalreporter.write_line(line)


def _judged(carried: JudgedTest | str) -> JudgedTest:
    """Returns what a report carries: that of a worker of pytest-xdist carries a text of JSON."""
    return carried if isinstance(carried, JudgedTest) else JudgedTest.of_json(json.loads(carried))


class LocalReport(RunReport):
    """The report of a run on this machine, in this process or in workers that it forks."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Reads what is expected, and opens the files. Raises UsageError."""
        if self._config.getoption("collectonly"):
            return
        expectations = self._config.stash[EXPECTATIONS] = self.expectations()
        facts = run_facts(self._config)
        self.runs = [MachineRun(facts, expectations, self.writer(facts))]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Takes the keys of the tests to run."""
        for run in self.runs:
            run.plan(planned(session))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Marks the run as begun: from here on its files are kept."""
        self._began = True
        return (yield)

    def scratch(self) -> Scratch | None:
        """Makes the file of a worker, None if no files are wanted."""
        return self.runs[0].scratch()

    def condense(self, reports: Sequence[pytest.TestReport], scratch: Scratch | None) -> None:
        """Writes what the reports of a test carry to the file of this worker, and leaves what the other process needs."""
        for report in reports:
            carried = getattr(report, "socketcall", None)
            if carried is not None:
                judged = self.runs[0].condense(report.nodeid, _judged(carried), scratch)
                report.socketcall = judged  # type: ignore[attr-defined]
