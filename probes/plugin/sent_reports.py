"""Reads the pytest reports that a test sent from its sandbox; a test may have sent anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

from probes.sandbox import messages

if TYPE_CHECKING:
    from collections.abc import Mapping

    from probes.report.check import Json
    from probes.sandbox.sandbox import SandboxResult

_SUBTEST = "_subtest.context"
#: What is taken from the sandbox; id and location of the test are known here.
_TAKEN = frozenset(
    [
        "$report_type", "_report_type", _SUBTEST, "duration", "longrepr", "outcome", "sections", "start", "stop",
        "user_properties", "wasxfail", "when",
    ]
)  # fmt: skip


def reports_of(item: pytest.Item, result: SandboxResult) -> list[pytest.TestReport]:
    """Returns the reports that a test made, in order, up to one that is none: then `result.damage` says so."""
    reports = []
    for message in result.messages:
        if isinstance(message, messages.Report | messages.Passed):
            try:
                if isinstance(message, messages.Passed):
                    reports += _passed(item, message)
                else:
                    reports.append(_report(item, message.data))
            except Exception as error:  # pytest's own reader may raise any.
                result.damage = result.damage or f"a report is damaged: {type(error).__name__}: {error}"[:200]
                break
    kinds = {type(message) for message in result.messages}
    if not reports and messages.Finished in kinds and messages.NotApplicable not in kinds:
        result.damage = result.damage or "the test ended without a report"
    return reports


def _passed(item: pytest.Item, message: messages.Passed) -> list[pytest.TestReport]:
    """Returns a report of each phase. Raises ValueError if a phase lacks its times."""
    keywords: dict[str, Literal[1]] = dict.fromkeys(item.keywords, 1)
    return [
        pytest.TestReport(
            item.nodeid, item.location, keywords, "passed", None, when, duration=stop - start, start=start, stop=stop
        )
        for when, (start, stop) in zip(messages.PHASES, message.times, strict=True)
    ]


def _report(item: pytest.Item, sent: Mapping[str, Json]) -> pytest.TestReport:
    """Returns a report. Raises any exception for one that is none, or that cannot be printed."""
    _require(sent)
    data = {
        **{name: value for name, value in sent.items() if name in _TAKEN},
        "nodeid": item.nodeid, "location": list(item.location), "keywords": dict.fromkeys(item.keywords, 1),
    }  # fmt: skip
    report = item.config.hook.pytest_report_from_serializable(config=item.config, data=data)
    if not isinstance(report, pytest.TestReport):
        raise TypeError(f"{sent['$report_type']} is no report of a test")
    if isinstance(report.longrepr, list):
        path, line, why = report.longrepr
        report.longrepr = (str(path), int(line), str(why))
    # They raise for a part that is none.
    _ = report.longreprtext, report.head_line
    return report


def _require(sent: Mapping[str, Json]) -> None:
    """Checks the values that pytest takes as they are. Raises ValueError, KeyError or TypeError."""
    numbers = [sent[name] for name in ("duration", "start", "stop")]
    pairs = [*sent["sections"], *sent["user_properties"]]
    if (
        sent["outcome"] not in ("passed", "failed", "skipped")
        or sent["when"] not in ("setup", "call", "teardown")
        or not all(isinstance(number, int | float) for number in numbers)
        or not all(isinstance(name, str) for name, _ in pairs)
        or not all(isinstance(text, str) for _, text in sent["sections"])
        or not isinstance(sent.get("wasxfail", ""), str)
        or not isinstance(sent["longrepr"], dict | list | str | None)
        or (sent["outcome"] == "skipped" and "wasxfail" not in sent and not isinstance(sent["longrepr"], list))
    ):
        raise ValueError("its values are none of a report")
