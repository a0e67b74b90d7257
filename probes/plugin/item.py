"""Runs one test in its sandbox and brings back its reports, its checks and its evidence."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from _pytest.outcomes import Skipped
from _pytest.runner import runtestprotocol

from probes.abi.record import Record
from probes.entry.gate import gate, gate_names
from probes.plugin.verdicts import Check, Subject, frame_lines, judge
from probes.report import failure
from probes.report.expectations import Expectations
from probes.sandbox import sandbox
from probes.sandbox.channel import Channel
from probes.sandbox.sandbox import SandboxResult, SandboxSpec
from probes.testing.expect import Broke, NotApplicable

#: Where a test finds the channel to its parent: inside a sandbox only.
CHANNEL: pytest.StashKey[Channel] = pytest.StashKey()


class Reporter:
    """Tells the parent, from inside a sandbox, what pytest makes of a test. Outside it is silent.

    A plugin from the beginning: to register one in each sandbox costs more than the test.
    """

    def __init__(self) -> None:
        self.channel: Channel | None = None
        self.early: list[pytest.TestReport] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keeps the reports of subtests, which come this way while their test runs."""
        if self.channel is not None:
            self.early.append(report)

    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> None:
        """Says why a phase of the test did not end well."""
        error = call.excinfo
        if error is None or self.channel is None:
            return
        if isinstance(error.value, NotApplicable):
            self.channel.say({"not_applicable": error.value.msg})
        elif isinstance(error.value, Broke):
            self.channel.say({"broke": str(error.value)})
        elif isinstance(error.value, Skipped):
            self.channel.say({"broke": f"skipped ({error.value.msg}): name what is missing with not_applicable()"})
        else:
            self.channel.say({"broke": f"{call.when}: {error.typename}: {error.value}"})


def run(
    item: pytest.Item, reporter: Reporter, wish: SandboxSpec, work: Path, deadline: float | None, channel: Channel
) -> SandboxResult:
    """Runs a test in a sandbox of its own. Raises sandbox.CannotSandbox."""
    config = item.config

    def body() -> None:
        config.stash[CHANNEL] = reporter.channel = channel
        if not config.getoption("usepdb", False):
            # Reports of subtests reach the terminal here as well; the parent is the one that prints them.
            config.get_terminal_writer()._file = io.StringIO()
        setup, *others = runtestprotocol(item, nextitem=None, log=False)
        for report in (setup, *reporter.early, *others):
            channel.say({"report": config.hook.pytest_report_to_serializable(config=config, report=report)})
        channel.say({"finished": True})

    return sandbox.run(body, wish, channel, work, deadline)


def reports_of(item: pytest.Item, outcome: SandboxResult) -> list[pytest.TestReport]:
    """The reports a test made, in order."""
    reports = []
    for message in outcome.messages:
        if "report" in message:
            report = item.config.hook.pytest_report_from_serializable(config=item.config, data=message["report"])
            if isinstance(report.longrepr, list):
                report.longrepr = tuple(report.longrepr)
            reports.append(report)
    return reports


def concluded(
    item: pytest.Item, outcome: SandboxResult, subject: Subject | None, context: Mapping[str, Any], policy: Expectations
) -> list[pytest.TestReport]:
    """The reports of a test with its verdicts put into them: a test fails if anything deviates or broke.

    The last report carries the checks and the evidence (`report.socketcall`), from wherever it ran to whoever writes.
    """
    reports = reports_of(item, outcome)
    if subject is None:
        # A test of the suite itself: pytest judges it, but its process must have come to its end.
        if not any("finished" in message for message in outcome.messages):
            subject = Subject("", "", "", "", 0)
            reports.append(_report(item, judge(subject, outcome, [], set())[-1]["detail"]))
        return reports
    records = outcome.records()
    checks = judge(subject, outcome, records, {gate(name).page for name in gate_names()})
    policy.mark(checks)
    bad = [check for check in checks if check["verdict"] in ("deviates", "broke") and "known" not in check]
    by_seq = {record.seq: record for record in records}
    text = "\n\n".join(
        failure.text(check, [by_seq[seq] for seq in check["seq"] if seq in by_seq], context) for check in bad
    )
    if bad:
        _blame(item, reports, text)
    if not reports:
        # It never began.
        why = (str(item.path), item.reportinfo()[1] or 0, checks[-1]["detail"])
        reports.append(pytest.TestReport(item.nodeid, item.location, {}, "skipped", why, "setup"))
    reports[-1].socketcall = carried(checks, records, outcome, context)  # type: ignore[attr-defined]
    return reports


def carried(
    checks: list[Check], records: list[Record], outcome: SandboxResult, context: Mapping[str, Any]
) -> dict[str, Any]:
    """What goes to the files: checks, and evidence in the order of time."""
    signals = [
        {"type": "signal", "t_ns": s.t_ns, "pid": s.pid, "tid": s.tid, "signal": s.number, "ip": hex(s.ip)}
        for s in outcome.signals
    ]
    about = {name: context[name] for name in ("id", "statement", "source")}
    calls = [record.as_json() for record in records]
    return {"behaviour": about, "checks": checks, "evidence": calls + frame_lines(outcome, len(records)) + signals}


def _blame(item: pytest.Item, reports: list[pytest.TestReport], text: str) -> None:
    for report in reversed(reports):
        if report.when == "call" and type(report) is pytest.TestReport:
            break
        if report.skipped or report.failed:
            break
    else:
        reports.append(_report(item, text))
        return
    raised = f"\n\n{report.longreprtext}" if report.failed and report.longreprtext else ""
    report.outcome, report.longrepr = "failed", text + raised


def _report(item: pytest.Item, text: str) -> pytest.TestReport:
    return pytest.TestReport(item.nodeid, item.location, {}, "failed", text, "call")
