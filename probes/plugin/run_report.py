"""The plugin's bookkeeping: takes what tests brought, from wherever they ran, and gives account of it at the end."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

from probes.errors import CommandError
from probes.plugin.run_facts import run_facts, subject_of
from probes.plugin.verdicts import Check
from probes.report.expectations import Expectations
from probes.report.machine_run import MachineRun
from probes.report.writer import Counts, Writer, overall
from probes.testing.behaviours import behaviour_of

#: The name of the plugin that has `status` and `counts` at the end of a run.
ACCOUNT = "socketcall"
#: What the run was told to expect.
EXPECTATIONS: pytest.StashKey[Expectations] = pytest.StashKey()


class RunReport:
    """What accounts of runs have in common; see LocalReport and machines.XdistReport."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self.tallies: list[MachineRun] = []
        self._began = False

    @property
    def counts(self) -> Counts:
        """The counts of all machines together."""
        counts = Counts()
        for tally in self.tallies:
            counts.all.update(tally.counts.all)
            counts.known += tally.counts.known
        return counts

    @property
    def status(self) -> int:
        """The exit status that `check` ends with."""
        found = [status for tally in self.tallies for status in (tally.status, tally.counts.status())]
        return overall(*found) if found else 3

    def policy(self, name: str = "") -> Expectations:
        """What is expected of a machine: where there are several, --expect may be a folder with a list for each, and
        --write-expect makes one. Raises UsageError."""
        expect, require, write = (self._config.getoption(name) for name in ("expect", "require", "write_expect"))
        try:
            if name and expect and Path(expect).is_dir():
                expect = str(Path(expect) / name)
            if name and write and Path(write).absolute().parent.is_dir():
                Path(write).mkdir(exist_ok=True)
                write = str(Path(write) / name)
            return Expectations.of(expect, require, write)
        except CommandError as trouble:
            raise pytest.UsageError(str(trouble)) from trouble
        except FileExistsError as error:
            raise pytest.UsageError(f"--write-expect: {write} is no folder, to hold a list for each machine") from error

    def writer(self, facts: Mapping[str, Any], within: Path | None = None) -> Writer | None:
        """Opens the files of a run, if they are wanted. Raises UsageError."""
        folder = self._config.getoption("report")
        if not folder:
            return None
        try:
            return Writer(within or Path(folder).absolute(), facts)
        except OSError as error:
            raise pytest.UsageError(f"cannot write to {folder}: {error.strerror}; give another --report") from error

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Counts and writes what a test brought."""
        carried = getattr(report, "socketcall", None)
        if carried is None:
            return
        # pytest keeps its reports to the end: with the evidence, every fork would copy more.
        del report.socketcall
        self.tally_of(report).take(report.nodeid, carried)

    def tally_of(self, report: pytest.TestReport) -> MachineRun:
        """The run that a report belongs to."""
        return self.tallies[0]

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Puts the files into place; of usage, or tests that cannot be collected, nothing is left but the run before."""
        kept = self._began and exitstatus != pytest.ExitCode.USAGE_ERROR
        for tally in self.tallies:
            if kept:
                tally.finish()
            else:
                tally.discard()
        self.close(kept)

    def close(self, kept: bool) -> None:
        """The last of a run: nothing, in one folder."""

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The counts, in verdicts."""
        for tally in self.tallies:
            for line in tally.lines():
                terminalreporter.write_line(line)


class LocalReport(RunReport):
    """The account of a run in this process."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Reads what is expected, and opens the files. Raises UsageError."""
        if self._config.getoption("collectonly"):
            return
        policy = self._config.stash[EXPECTATIONS] = self.policy()
        facts = run_facts(self._config)
        self.tallies = [MachineRun(facts, policy, self.writer(facts))]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """What is to run."""
        for tally in self.tallies:
            tally.plan(planned(session))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """From here on there is something to keep."""
        self._began = True
        return (yield)


def planned(session: pytest.Session) -> dict[str, Check]:
    """The keys of the tests of behaviours that a session is to run."""
    return {item.nodeid: subject_of(item).key() for item in session.items if behaviour_of(item)}
