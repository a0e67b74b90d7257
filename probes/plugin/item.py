"""Runs one test in its sandbox and returns its reports, with its checks and its evidence."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from _pytest.outcomes import Skipped

from probes.entry.agent_frames import AgentError, AgentGone, AgentSilent
from probes.entry.calls import SetUpRefused
from probes.plugin import descriptors
from probes.plugin.phases import Phases
from probes.plugin.sent_reports import reports_of
from probes.plugin.verdicts import IN_SET_UP, Judgement, Subject, ending, how_ended, judge
from probes.report import failure
from probes.report.expectations import Expectations
from probes.report.judged_test import JudgedTest, Statement
from probes.sandbox import messages, sandbox
from probes.sandbox.channel import Channel
from probes.sandbox.sandbox import SandboxResult, SandboxSpec
from probes.sandbox.sysctls import Sysctls
from probes.testing.callers import caller_of, end_like
from probes.testing.expect import Broke, NotApplicable
from probes.testing.fixtures import CHANNEL, EXPECT, OBSERVED, STOPPED, UNTIL
from probes.trace import seccomp

#: The part of a test's time after which a call by another process has not returned: enough is left to say so.
_PART = 0.9
#: Seconds for which a call must have been waited for when the time of its test is over: else the test is too long.
_LEAST_WAIT = 1.0
#: The name under which a test's report carries each case that --case left out.
LEFT_OUT = "socketcall-left-out"


class Reporter:
    """Sends the parent, from inside a sandbox, what pytest reports of a test. Outside a sandbox it does nothing.

    It is registered from the beginning: registering a plugin in each sandbox costs more than the test.
    """

    def __init__(self) -> None:
        """Starts without a channel: outside a sandbox."""
        self.channel: Channel | None = None
        self.early: list[pytest.TestReport] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keeps the reports of subtests, which arrive while their test runs."""
        if self.channel is not None:
            self.early.append(report)

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        """Sends the reason for which a phase of the test did not end well; adds the cases that --case left out."""
        judge = item.stash.get(EXPECT, None)
        if call.when == "call" and judge is not None:
            item.user_properties += [(LEFT_OUT, case) for case in judge.left_out]
        error = call.excinfo
        if error is None or self.channel is None:
            return
        if isinstance(error.value, AgentError) and caller_of(item).via is not None:
            self.channel.send(_without_answer(error.value))
        elif isinstance(error.value, AgentGone):
            end_like(error.value)
        elif isinstance(error.value, NotApplicable):
            self.channel.send(messages.NotApplicable(str(error.value.msg)))
        elif isinstance(error.value, SetUpRefused):
            result, why = error.value.result, error.value.why
            self.channel.send(messages.SetUpRefused(result.call_id, int(result), why, [result.record()]))
        elif isinstance(error.value, Broke):
            self.channel.send(messages.Broke(str(error.value)))
        elif isinstance(error.value, Skipped):
            why = f"skipped ({error.value.msg}): name what is missing with not_applicable()"
            self.channel.send(messages.Broke(why))
        else:
            self.channel.send(messages.Broke(f"{call.when}: {error.typename}: {error.value}"))


def _without_answer(error: AgentError) -> messages.Message:
    """Returns what an agent that a command runs has done in place of answering: its call deviates, other requests broke."""
    if not error.calling:
        return messages.Broke(str(error))
    if isinstance(error, AgentSilent) and error.waited < _LEAST_WAIT:
        return messages.Broke(
            f"{error}; that was {error.waited:.1f} s after the request: the test is too long for --deadline"
        )
    how = how_ended(error.status) if isinstance(error, AgentGone) else "no return"
    noted = [error.call] if error.call else []
    why = f"{IN_SET_UP}{error}" if error.quiet else str(error)
    return messages.NoAnswer(noted[0].call or 0 if noted else 0, how, why, noted)


@dataclass(frozen=True)
class Surroundings:
    """Holds what every test of a session runs with. `deadline` is None under a debugger."""

    reporter: Reporter
    phases: Phases
    channel: Channel
    work: Path
    deadline: float | None


def run(item: pytest.Item, spec: SandboxSpec, around: Surroundings) -> SandboxResult:
    """Runs a test in a sandbox of its own. Raises sandbox.CannotSandbox, MachineLost: there is no machine for its calls."""
    reporter, channel = around.reporter, around.channel
    config = item.config

    def body() -> None:
        config.stash[CHANNEL] = reporter.channel = channel
        config.stash[OBSERVED] = spec.trace != "none"
        # (Where a filter is on this process and it cannot install another, "calls" is the best that it has.)
        config.stash[STOPPED] = spec.trace == "gate" or (spec.trace == "calls" and not seccomp.is_filtered())
        config.stash[UNTIL] = None if around.deadline is None else began + _PART * around.deadline
        if not config.getoption("usepdb", False):
            # Reports of subtests reach the terminal here as well; the parent is the one that prints them.
            config.get_terminal_writer()._file = io.StringIO()
        found = around.phases.run(item, by_protocol)
        if isinstance(found, messages.Passed):
            channel.send(found)
        else:
            for report in (found[0], *reporter.early, *found[1:]):
                data = config.hook.pytest_report_to_serializable(config=config, report=report)
                channel.send(messages.Report(data))
        channel.send(messages.Finished())

    kind, by_protocol = caller_of(item), around.phases.take_protocol(item)
    keep = descriptors.of_output(config)
    if kind.machine is not None:
        kind.machine.begin()
        keep = {*keep, *kind.machine.descriptors}
    began = time.monotonic()
    sysctls = Sysctls() if spec.isolation == "none" and kind.via is None else None
    try:
        result = sandbox.run(body, spec, channel, around.work, around.deadline, keep, kind.traced_gates)
    finally:
        # Also if a signal ends the run: they are those of the user's network.
        if sysctls is not None:
            sysctls.restore()
    if kind.machine is not None:
        lost = kind.machine.end(None if around.deadline is None else began + _PART * around.deadline)
        result.messages += [messages.MachineLost(lost)] * bool(lost)
    result.seconds = round(time.monotonic() - began, 4)
    return result


@dataclass(frozen=True)
class Context:
    """What a test of a behaviour is about, and what a person needs to run it again."""

    subject: Subject
    behaviour: Statement
    rerun: failure.Rerun


def suite_test_reports(item: pytest.Item, result: SandboxResult) -> list[pytest.TestReport]:
    """Returns the reports of a test of the suite itself: pytest judges it, but its process must have ended well."""
    reports = reports_of(item, result)
    if not any(isinstance(message, messages.Finished) for message in result.messages):
        failed = [message.why for message in result.messages if isinstance(message, messages.SandboxFailed)]
        why = f"the sandbox could not be made: {failed[0]}" if failed else f"the test's process {ending(result)}"
        reports.append(_report(item, why))
    if result.damage:
        reports.append(_report(item, f"the channel was damaged: {result.damage}"))
    return reports


def behaviour_reports(
    item: pytest.Item, result: SandboxResult, context: Context, expectations: Expectations
) -> list[pytest.TestReport]:
    """Returns the reports of a test of a behaviour: it fails if anything deviates or broke, and is not expected to.

    The last report carries the checks and the evidence (`report.socketcall`) to what writes them.
    """
    reports = reports_of(item, result)
    judgement = judge(context.subject, result, {gate.page for gate in caller_of(item).gates})
    expectations.mark(judgement.checks)
    text = "\n\n".join(
        failure.text(check, judgement.records_of(check), context.behaviour, context.rerun, judgement.frames_of(check))
        for check in judgement.checks if check.unexpected
    )  # fmt: skip
    if text:
        _blame(item, reports, text)
    elif context.subject.under_filter:
        _excuse(item, reports, judgement)
    if not reports:
        # It never began.
        why = (str(item.path), item.reportinfo()[1] or 0, judgement.checks[-1].detail)
        reports.append(pytest.TestReport(item.nodeid, item.location, {}, "skipped", why, "setup"))
    judged = judged_test(judgement, result, context.behaviour)
    reports[-1].socketcall = judged  # type: ignore[attr-defined]
    return reports


def judged_test(judgement: Judgement, result: SandboxResult, behaviour: Statement) -> JudgedTest:
    """Returns what goes to the files."""
    evidence = [record.as_json() for record in judgement.records]
    evidence += [frame.as_json() for frame in judgement.frames]
    evidence += [signal.as_json() for signal in result.signals]
    return JudgedTest(judgement.checks, evidence, behaviour, result.seconds)


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


def _excuse(item: pytest.Item, reports: list[pytest.TestReport], judgement: Judgement) -> None:
    """Skips a test whose failure a seccomp filter made: its checks are not applicable."""
    for report in reports:
        if report.failed and any(check.verdict == "not_applicable" for check in judgement.checks):
            why = (str(item.path), item.reportinfo()[1] or 0, judgement.checks[-1].detail)
            report.outcome, report.longrepr = "skipped", why


def _report(item: pytest.Item, text: str) -> pytest.TestReport:
    return pytest.TestReport(item.nodeid, item.location, {}, "failed", text, "call")
