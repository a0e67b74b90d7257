"""JUnit XML, as CI servers read it: a suite for each directory of tests, a case for each check."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from html import escape
from typing import IO

from probes.report.check import Check
from probes.report.failure import comparison

#: Characters that XML 1.0 cannot carry, and those that an attribute has only as references: a parser reads a line break
#: as a space. (A regular expression of these ranges takes longer to compile than all else here to import.)
_REPLACED = dict.fromkeys((*range(0x20), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF), "?") | {
    ord(character): f"&#{ord(character)};" for character in "\t\n\r"
}
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
        """Return the number of checks."""
        return sum(suite.tests for suite in self.found)

    def add(self, check: Check) -> None:
        """Count the next check; one of another directory begins another suite."""
        name = suite_of(check)
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
        if self._open != suite_of(check):
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


def suite_of(check: Check) -> str:
    """Return the name of a check's suite: its directory, the first word of its id."""
    return check.key.id.partition(".")[0]


def _element(check: Check) -> str:
    """Return the name of the element inside a case, "" for one that is as expected."""
    return "skipped" if check.known is not None else _ELEMENTS.get(check.verdict, "")


def _attributes(**values: str | float | None) -> str:
    texts = {name: f"{value:.3f}" if isinstance(value, float) else str(value) for name, value in values.items()
             if value is not None}  # fmt: skip
    return "".join(f' {name}="{_escaped(text)}"' for name, text in texts.items())


def _escaped(text: str) -> str:
    """Returns a text as it stands in an attribute between double quotes."""
    # (Importing xml.sax.saxutils imports urllib, http, email and ssl: a tenth of the imports of `check`.)
    return escape(text).translate(_REPLACED)
