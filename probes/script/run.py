"""Records the tests of behaviours: each twice, in sandboxes of its own, by the native agent."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from probes.entry import native_agent
from probes.errors import CommandError
from probes.interrupts import raise_received
from probes.plugin import descriptors
from probes.plugin.phases import Phases
from probes.plugin.plugin import spec_of
from probes.report.check import Json
from probes.sandbox import messages, sandbox, work
from probes.sandbox.channel import Channel
from probes.sandbox.sandbox import DEADLINE, CannotSandbox
from probes.script import recorder
from probes.script.build import Build
from probes.script.log import Log
from probes.script.script import Script
from probes.testing.behaviours import Behaviour, behaviour_of, needs_python
from probes.testing.callers import choose
from probes.testing.expect import Broke, NotApplicable
from probes.testing.fixtures import CHANNEL, OBSERVED, UNTIL


@dataclass(frozen=True)
class NotRecorded:
    """Names a test of which there is no script, and why."""

    id: str
    route: str
    why: str


@dataclass
class Recorded:
    """Holds the scripts of some tests, and the tests without one."""

    scripts: list[Script] = field(default_factory=list)
    missing: list[NotRecorded] = field(default_factory=list)


class Recorder:
    """Is a plugin that records what pytest collected, and keeps it as `recorded`."""

    def __init__(self) -> None:
        """Has recorded nothing yet."""
        self.recorded = Recorded()
        self.errors: list[str] = []
        self._channel = Channel()
        self._work = Path()

    def pytest_configure(self, config: pytest.Config) -> None:
        """Chooses the caller. Raises UsageError: this kernel runs no 32-bit programs."""
        try:
            gate = native_agent.gates()[0]
        except native_agent.CannotRun as error:
            raise pytest.UsageError(f"record: {error}") from error
        choose(config, recorder.RecordedKind("agent", 32, (gate.name,), (gate,)))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keeps the last line of an error."""
        if report.failed:
            self.errors.append(f"{report.nodeid}: {report.longreprtext.strip().splitlines()[-1]}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Records every test, in the place of running them."""
        if self.errors:
            return True
        sandbox.pin()
        self._work = work.unmade()
        phases = Phases(session.config)
        try:
            for item in session.items:
                raise_received()
                this = behaviour_of(item)
                if this is not None:
                    self._record(item, this, phases)
        finally:
            shutil.rmtree(self._work, ignore_errors=True)
        return True

    def _record(self, item: pytest.Item, this: Behaviour, phases: Phases) -> None:
        entry = item.callspec.params["entry"] if hasattr(item, "callspec") else None
        route = entry.route if entry else ""
        why = needs_python(item)
        logs: list[dict[str, Json]] = []
        for second in (False, True):
            if not why:
                log, why = self._run(item, phases, second)
                logs.append(log)
        if why:
            self.recorded.missing.append(NotRecorded(this.id, route, why))
            return
        built = Build(*logs)
        if not any(not check.left_out for check in built.checks):
            why = built.stopped or next((check.left_out for check in built.checks if check.left_out), "judges nothing")
            self.recorded.missing.append(NotRecorded(this.id, route, why))
            return
        script = Script(this.id, this.statement, this.source, route, built.checks, built.steps, built.stopped)
        script.files, script.ids, script.written = bool(logs[0]["files"]), _needs_ids(item), built.written
        script.network, script.protocols = bool(logs[0]["network"]), logs[0]["protocols"]
        self.recorded.scripts.append(script)

    def _run(self, item: pytest.Item, phases: Phases, second: bool) -> tuple[dict[str, Json], str]:
        """Runs a test in a sandbox, and returns its log, and why there is none."""
        config, channel = item.config, self._channel

        def body() -> None:
            config.stash[CHANNEL], config.stash[OBSERVED] = channel, False
            config.stash[UNTIL] = time.monotonic() + DEADLINE
            log = recorder.begin(second)
            watch = _Ending(log)
            config.pluginmanager.register(watch)
            phases.run(item, False)
            channel.send(messages.Report({"log": recorder.end(log), "why": watch.why}))

        spec = spec_of(item)
        assert spec is not None
        try:
            result = sandbox.run(
                body, replace(spec, trace="none"), channel, self._work, DEADLINE * sandbox.slowness(),
                descriptors.of_output(config),
            )  # fmt: skip
        except CannotSandbox as error:
            raise CommandError(f"no sandbox: {error}") from error
        for message in reversed(result.messages):
            if isinstance(message, messages.Report):
                return message.data["log"], message.data["why"]
        return {}, "its process ended" if not result.late else "it does not end"


def _needs_ids(item: pytest.Item) -> bool:
    spec = spec_of(item)
    return spec is not None and (spec.ids > 1 or spec.initial_user_ns)


class _Ending:
    """Is a plugin that keeps the reason for which a test ended early."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.why = ""

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        """Keeps it."""
        if call.excinfo is None or self.why:
            return
        error = call.excinfo.value
        if isinstance(error, NotApplicable):
            self.why = f"not applicable here: {error.msg}"
        elif isinstance(error, Broke):
            self.why = str(error)
        else:
            self.why = f"{call.excinfo.typename}: {error}"
