"""JUnit XML, as CI servers read it: a suite for each directory of tests, a case for each check."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import IO
from xml.sax.saxutils import quoteattr

from probes.report.check import Check
from probes.report.failure import comparison

#: What XML 1.0 cannot carry.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ELEMENTS = {
    "deviates": "failure",
    "broke": "error",
    "lost": "error",
    "not_run": "skipped",
    "not_applicable": "skipped",
}
#: The attributes of a suite, and the elements that they count.
_COUNTS = {"failures": "failure", "errors": "error", "skipped": "skipped"}


@dataclass
class Suite:
    """What the first line of a suite has to know: how many cases it has, of which sort, and what its tests took."""

    name: str
    tests: int = 0
    elements: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


class Suites:
    """Counts the checks of a run by suite: add all of them before the file is written."""

    def __init__(self) -> None:
        """Start without a suite."""
        self.found: list[Suite] = []

    @property
    def total(self) -> int:
        """The number of checks."""
        return sum(suite.tests for suite in self.found)

    def add(self, check: Check) -> None:
        """Count the next check; one of another directory begins another suite."""
        name = _suite_of(check)
        if not self.found or self.found[-1].name != name:
            self.found.append(Suite(name))
        suite = self.found[-1]
        suite.tests += 1
        suite.elements[_element(check)] += 1
        suite.seconds += check.seconds or 0.0


class JunitWriter:
    """Writes the file, check by check. A deviation is a failure unless --expect lists it; what broke or was lost an error.

    A case has the time of its test if it is the first check of the test.
    """

    def __init__(self, file: IO[str], suites: Suites) -> None:
        """Write the root element."""
        self._file = file
        self._waiting = iter(suites.found)
        self._open = ""
        seconds = sum(suite.seconds for suite in suites.found)
        file.write(
            f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites{_attributes(name="socketcall", time=seconds)}>\n'
        )

    def add(self, check: Check) -> None:
        """Write the case of the next check."""
        if self._open != _suite_of(check):
            self._close_suite()
            suite = next(self._waiting)
            counts = {name: suite.elements[element] for name, element in _COUNTS.items()}
            attributes = _attributes(name=suite.name, tests=suite.tests, **counts, time=suite.seconds)
            self._file.write(f"  <testsuite{attributes}>\n")
            self._open = suite.name
        case = f"    <testcase{_attributes(classname=check.key.id, name=str(check.key), time=check.seconds)}"
        element = _element(check)
        if not element:
            self._file.write(f"{case} />\n")
            return
        message = check.known or check.detail
        if check.verdict == "deviates":
            message = f"{comparison(check)} {message}".strip()
        inner = f"<{element}{_attributes(message=message, type=check.verdict)} />"
        self._file.write(f"{case}>\n      {inner}\n    </testcase>\n")

    def _close_suite(self) -> None:
        if self._open:
            self._file.write("  </testsuite>\n")

    def end(self) -> None:
        """Close what is open."""
        self._close_suite()
        self._file.write("</testsuites>\n")


def _suite_of(check: Check) -> str:
    return check.key.id.partition(".")[0]


def _element(check: Check) -> str:
    """Return the name of the element inside a case, "" for one that is as expected."""
    return "skipped" if check.known is not None else _ELEMENTS.get(check.verdict, "")


def _attributes(**values: str | float | None) -> str:
    texts = {name: f"{value:.3f}" if isinstance(value, float) else str(value) for name, value in values.items()
             if value is not None}  # fmt: skip
    return "".join(f" {name}={quoteattr(_ILLEGAL.sub('?', text))}" for name, text in texts.items())
