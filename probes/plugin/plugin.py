"""The pytest plugin: collects behaviours and runs each test in a sandbox; run_report takes the checks."""

from __future__ import annotations

import fnmatch
import gc
import secrets
import shutil
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from probes.entry.agent_line import MachineLost
from probes.errors import CommandError, no_behaviour
from probes.interrupts import raise_received
from probes.plugin import item as items
from probes.plugin import options
from probes.plugin.phases import Phases
from probes.plugin.progress import Progress
from probes.plugin.run_facts import key_of, run_facts, sandboxes
from probes.plugin.run_report import EXPECTATIONS, RUN_REPORT, LocalReport
from probes.plugin.shard import Shard
from probes.plugin.stream import Stream
from probes.plugin.verdicts import Subject
from probes.plugin.worker_count import how_many
from probes.plugin.workers import Reports, Workers
from probes.plugin.xdist import Worker, XdistReport, cpu_of, distributes, is_worker
from probes.report.failure import Rerun, rerun_of
from probes.report.judged_test import JudgedTest, Statement
from probes.sandbox import messages, namespaces, sandbox, work
from probes.sandbox.channel import Channel
from probes.sandbox.sandbox import DEADLINE, CannotSandbox, SandboxResult, SandboxSpec
from probes.testing.behaviours import behaviour_of, catalogue, needs_python
from probes.testing.callers import caller_of, callers, entry_of, found_callers, thinned
from probes.testing.fixtures import reference, started_as_root

ROOT_ONLY = "root, which alone maps a second user id and has capabilities outside a user namespace"
OTHERS_SEEN = "the capability CAP_SYS_PTRACE, to see the calls of a process with another user id"
OTHER_IDS = "the user ids 1000 and 1001 in this user namespace, and the capabilities to change to them"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options of a run; `socketcall check` passes them on."""
    options.add_to_pytest(parser.getgroup("socketcall"))


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marks, the run and its report."""
    config.addinivalue_line("markers", "behaviour(id, source, statement, tag): set by @behaviour")
    config.addinivalue_line(
        "markers", "routes(*names): the only routes of the test's calls; both: it calls over both itself"
    )
    config.addinivalue_line("markers", "python: the calls are made by the test's own Python, never by an agent")
    config.addinivalue_line(
        "markers", "sandbox(**spec): what a test needs of its sandbox, see probes.sandbox.sandbox.SandboxSpec"
    )
    if config.getoption("seed") is None:
        config.option.seed = secrets.randbelow(1 << 31)
    descriptor: int | None = config.getoption("stream")
    if distributes(config):
        if descriptor is not None:
            raise pytest.UsageError("--stream writes the run of one process: leave out -n, --dist and --tx")
        config.pluginmanager.register(XdistReport(config), RUN_REPORT)
        return
    reporter = items.Reporter()
    config.pluginmanager.register(reporter)
    run = Run(config, reporter)
    config.pluginmanager.register(run)
    if is_worker(config):
        config.pluginmanager.register(Worker(config))
        return
    report = LocalReport(config)
    config.pluginmanager.register(report, RUN_REPORT)
    if config.getoption("progress_line"):
        config.pluginmanager.register(
            Progress(report, lambda text: config.get_terminal_writer().write(text, flush=True))
        )
    if (count := how_many(config)) > 1:
        config.pluginmanager.register(Workers(report, run, count))
    if descriptor is not None:
        config.pluginmanager.register(Stream(config, descriptor, lambda: run.deadline))


def pytest_report_header(config: pytest.Config) -> str:
    """Returns what a person needs to repeat a failure: callers with their gates, seed."""
    text = f"socketcall: {callers(config)}, seed {config.getoption('seed')}"
    return text if config.option.collectonly or distributes(config) else f"{text}, {sandboxes(config)}"


def spec_of(item: pytest.Item) -> SandboxSpec | None:
    """Returns what a test gets of what it needs of its sandbox; None if it runs without one (a test of the suite itself)."""
    mark = item.get_closest_marker("sandbox")
    if mark is None and behaviour_of(item) is None:
        return None
    found = sandboxes(item.config)
    return found.spec(SandboxSpec(**{"isolation": found.isolation, **(mark.kwargs if mark else {})}))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collects without the garbage collector: what is made stays, and it would be walked again and again as it grows."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return (yield)
    finally:
        if was_enabled:
            gc.enable()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None, object, object]:
    """Leaves out the sets of parameters with which a test is not judged, before pytest makes an item of each."""
    result = yield
    metafunc._calls[:] = thinned(metafunc.definition, metafunc._calls)
    return result


class Run:
    """Runs the tests of one pytest process."""

    def __init__(self, config: pytest.Config, reporter: items.Reporter) -> None:
        """Keeps the configuration; the session makes the rest."""
        self._config, self._reporter = config, reporter
        self._around: items.Surroundings | None = None
        self._work = Path()
        #: Seconds that a test may take, None under a debugger; and those that a worker may take before one.
        self.deadline: float | None = None
        self.before = 0.0
        self._rerun: Rerun | None = None
        #: In a worker, where reports go instead of to pytest.
        self._sink: Reports | None = None

    def pytest_sessionstart(self) -> None:
        """Finds the sandboxes that work, pins the process to a CPU, and scales the deadline to its speed."""
        if self._config.getoption("collectonly"):
            return
        found, made = sandboxes(self._config), callers(self._config)
        via = made.via
        if self._config.getoption("no_header"):
            said = [str(found)] * bool(found.lacks or found.filter)
            if via is not None:
                said.append(f"{via}, judged against {reference(self._config)}")
            elif self._config.getoption("stream") is None:
                # (Of a part of a run on another machine, the last line says why it ended.)
                said.append(f"{made}")
            for line in said:
                self._config.get_terminal_writer().line(f"socketcall: {line}")
        self._work = work.unmade()
        sandbox.pin(cpu_of(self._config))
        asked: float | None = self._config.getoption("deadline")
        # A machine without IA32 entry may run an emulator.
        self.deadline = asked or (DEADLINE * sandbox.slowness() if via is None else DEADLINE)
        if self._config.getoption("usepdb", False):
            self.deadline = None
        if made.machine is not None:
            self.before = made.machine.longest
            if self.deadline is not None and asked is None:
                self.deadline *= made.machine.slowness

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Requires the gate of --gate. Raises UsageError: no caller has one of that name."""
        wanted: str | None = self._config.getoption("gate")
        made = callers(self._config)
        if wanted not in (None, *made.gate_names):
            chosen: str | None = self._config.getoption("caller")
            remedy = "; leave out --caller python: the agent may have it" if chosen and made.kinds[0].word == 64 else ""
            raise pytest.UsageError(f"--gate {wanted}: the only calls are by {made}{remedy}")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Checks the ids, and keeps the tests that the options select. Raises UsageError: a malformed or unknown id."""
        known = catalogue(items)
        # pytest would skip a test of which --route and --gate select no entry.
        self._keep(items, [one for one in items if entry_of(one) or "entry" not in getattr(one, "fixturenames", ())])
        tag: str | None = self._config.getoption("only")
        if tag is not None:
            self._keep(items, [item for item in items if (this := behaviour_of(item)) and this.tag == tag])
        globs: list[str] = self._config.getoption("behaviour") or []
        for glob in globs:
            if not fnmatch.filter(known, glob):
                raise pytest.UsageError(no_behaviour(glob, known))
        if globs:
            chosen = {id for glob in globs for id in fnmatch.filter(known, glob)}
            self._keep(items, [item for item in items if (this := behaviour_of(item)) and this.id in chosen])
        shard: Shard | None = self._config.getoption("shard")
        if shard:
            self._keep(items, shard.choose(items))
        expectations = self._config.stash.get(EXPECTATIONS, None)
        if expectations is not None and expectations.known is not None:
            try:
                expectations.known.require_ids(known)
            except CommandError as trouble:
                raise pytest.UsageError(str(trouble)) from trouble

    def _keep(self, items: list[pytest.Item], kept: Sequence[pytest.Item]) -> None:
        gone = set(items).difference(kept)
        self._config.hook.pytest_deselected(items=[item for item in items if item in gone])
        items[:] = kept

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Freezes the garbage collector's objects: a child whose collector walked them would copy every page."""
        if self._config.getoption("collectonly"):
            return (yield)
        gc.collect()
        gc.freeze()
        try:
            return (yield)
        finally:
            gc.unfreeze()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        """Runs a test in its sandbox, if it has one."""
        raise_received()
        spec = spec_of(item)
        if spec is None:
            return None
        if self._sink is not None:
            self._sink += self._sandboxed(item, spec)
            return True
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._sandboxed(item, spec):
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def has_sandbox(self, item: pytest.Item) -> bool:
        """Returns True for a test that runs in a sandbox."""
        return spec_of(item) is not None

    def become_worker(self, number: int) -> Reports:
        """Makes this process, forked from the one that collected, a worker; returns the list that reports go to."""
        self._work /= str(number)
        self._sink = []
        machine = callers(self._config).machine
        if machine is not None and number:
            machine.leave()
        return self._sink

    def _sandboxed(
        self, item: pytest.Item, spec: SandboxSpec, deadline: float | None = None
    ) -> list[pytest.TestReport]:
        if self._around is None:
            phases = Phases(self._config)
            self._around = items.Surroundings(self._reporter, phases, Channel(), self._work, self.deadline)
        around = self._around if deadline is None else replace(self._around, deadline=deadline)
        lacking = needs_python(item) if caller_of(item).name == "agent" else ""
        if lacking:
            why = f"Python in the process that calls: {lacking}"
            result = SandboxResult([messages.NotApplicable(why), messages.Finished()])
        elif (spec.ids > 1 or spec.initial_user_ns) and not started_as_root():
            result = SandboxResult([messages.NotApplicable(ROOT_ONLY), messages.Finished()])
        elif spec.ids > 1 and not namespaces.has_other_ids():
            result = SandboxResult([messages.NotApplicable(OTHER_IDS), messages.Finished()])
        elif spec.ids > 1 and not sandbox.sees_other_ids(spec):
            result = SandboxResult([messages.NotApplicable(OTHERS_SEEN), messages.Finished()])
        else:
            try:
                result = items.run(item, spec, around)
            except CannotSandbox as error:
                result = SandboxResult([messages.SandboxFailed(str(error))])
            except MachineLost as error:
                raise pytest.exit.Exception(f"the machine is lost: {error}", returncode=3) from error
        this = behaviour_of(item)
        if this is None:
            return items.suite_test_reports(item, result)
        if self._rerun is None:
            self._rerun = rerun_of(run_facts(self._config))
        option = self._config.getoption
        under_filter = bool(sandboxes(self._config).filter)
        subject = Subject(key_of(item), spec.trace != "none", option("route"), option("case") is not None, under_filter)
        context = items.Context(subject, Statement(this.id, this.statement, this.source, this.tag), self._rerun)
        return items.behaviour_reports(item, result, context, self._config.stash[EXPECTATIONS])

    def judged(self, item: pytest.Item, spec: SandboxSpec, deadline: float | None = None) -> JudgedTest:
        """Runs the test of a behaviour in a sandbox, and returns what it brings to the report.

        `deadline` are the seconds that it may take, by default those of every test.
        """
        judged: JudgedTest = self._sandboxed(item, spec, deadline)[-1].socketcall
        return judged

    def pytest_unconfigure(self) -> None:
        """Ends a machine that was booted, and removes the working directory, also of a session that did not begin."""
        found = found_callers(self._config)
        if found is not None and found.machine is not None:
            found.machine.close()
        if self._work != Path():
            shutil.rmtree(self._work, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport, config: pytest.Config) -> tuple[str, str, str] | None:
    """Prints no progress dots with --no-progress, and not even failures beside a line that is written over."""
    if config.getoption("progress_line"):
        return (report.outcome if report.when == "call" or not report.passed else "", "", "")
    if not config.getoption("no_progress") or report.outcome == "failed":
        return None
    return (report.outcome if report.when == "call" or report.skipped else "", "", "")
