"""Runs the three phases of a test inside its sandbox: set-up, call, teardown.

A test of the suite goes through pytest's own runtestprotocol. A test of a behaviour is the same three hooks, without the
plugins that have nothing to do there: in a forked process, every page that they touch is copied. A phase that passed with
nothing to report makes no report: the parent knows what such a report says.
"""

from __future__ import annotations

from functools import partial

import pytest
from _pytest.runner import runtestprotocol

from probes.plugin import requests
from probes.sandbox.messages import PHASES, Passed
from probes.testing.behaviours import behaviour_of
from probes.testing.fixtures import EXPECT

#: Plugins whose hooks a phase does without: logs, output by phase (it is captured by test), marks that no test here has.
_IDLE = ("logging-plugin", "capturemanager", "skipping", "hypothesispytest")
#: Marks, fixtures and options that need what the plugins above do, or pytest's own protocol.
_MARKS = frozenset(["skip", "skipif", "xfail"])
_FIXTURES = frozenset(["subtests", "capsys", "capsysbinary", "capfd", "capfdbinary", "capteesys", "caplog"])
_OPTIONS = ("usepdb", "trace", "setuponly", "setupshow", "setupplan")


class Phases:
    """Runs the phases of one test after another; made in the parent, used in each sandbox."""

    def __init__(self, config: pytest.Config) -> None:
        """Find the hooks without the plugins that are idle."""
        manager = config.pluginmanager
        idle = [plugin for name in _IDLE if (plugin := manager.get_plugin(name)) is not None]
        self._hooks = {when: manager.subset_hook_caller(f"pytest_runtest_{when}", idle) for when in PHASES}
        self._capturing = manager.get_plugin("capturemanager")
        self._whole = any(config.getoption(name, False) for name in _OPTIONS)
        requests.make_cheap(config)

    def take_protocol(self, item: pytest.Item) -> bool:
        """Returns True for a test that goes through pytest's own protocol."""
        return (
            self._whole
            or behaviour_of(item) is None
            or not _FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
            or any(mark.name in _MARKS for mark in item.iter_markers())
        )

    def run(self, item: pytest.Item, by_protocol: bool) -> list[pytest.TestReport] | Passed:
        """Runs a test, and returns its reports, or that it has nothing to report."""
        if by_protocol:
            return runtestprotocol(item, nextitem=None, log=False)
        self._resume()
        calls: list[pytest.CallInfo[None]] = []
        reports: list[pytest.TestReport] = []
        for when in PHASES:
            if when == "call" and calls[0].excinfo is not None:
                continue
            hook = partial(self._hooks[when], item=item, **({"nextitem": None} if when == "teardown" else {}))
            call = pytest.CallInfo.from_call(hook, when, reraise=(pytest.exit.Exception, KeyboardInterrupt))
            calls.append(call)
            if when == "teardown" or call.excinfo is not None:
                self._keep_output(item, when)
            if reports or call.excinfo is not None:
                reports += _reports(item, calls[len(reports) :])
        judge = item.stash.get(EXPECT, None)
        if reports or item._report_sections or item.user_properties or (judge is not None and judge.left_out):
            return reports + _reports(item, calls[len(reports) :])
        return Passed([[call.start, call.stop] for call in calls])

    def _resume(self) -> None:
        if self._capturing is not None:
            self._capturing.resume_global_capture()

    def _keep_output(self, item: pytest.Item, when: str) -> None:
        """Adds what the test has printed to its report."""
        if self._capturing is None:
            return
        self._capturing.suspend_global_capture()
        for name, text in zip(("stdout", "stderr"), self._capturing.read_global_capture(), strict=True):
            item.add_report_section(when, name, text)
        if when != "teardown":
            self._resume()


def _reports(item: pytest.Item, calls: list[pytest.CallInfo[None]]) -> list[pytest.TestReport]:
    return [item.ihook.pytest_runtest_makereport(item=item, call=call) for call in calls]
