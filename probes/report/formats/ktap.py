"""KTAP, as the kernel's test tools read it (Documentation/dev-tools/ktap.rst): a point for each check, by directory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from probes.report.check import Check
from probes.report.failure import comparison
from probes.report.formats.junit import Suite, Suites, suite_of

#: By how much a subtest is indented.
_INDENT = "  "


class KtapWriter:
    """Writes the file, check by check: a test for each directory of behaviours, with a subtest for each check.

    conforms: ok; not applicable: ok # SKIP why; a known deviation: ok # XFAIL why; else not ok. A directory is not ok if one
    of its checks is not.
    """

    def __init__(self, file: IO[str], suites: Suites) -> None:
        """Write the version and the plan of the directories."""
        self._file, self._waiting = file, iter(suites.found)
        self._suite: Suite | None = None
        self._suites = self._points = 0
        self._ok = True
        file.write(f"KTAP version 1\n1..{len(suites.found)}\n")

    def add(self, check: Check) -> None:
        """Write the lines of the next check."""
        if self._suite is None or self._suite.name != suite_of(check):
            self._close_suite()
            self._suite = next(self._waiting)
            self._points, self._ok = 0, True
            for line in ("KTAP version 1", f"# Subtest: {self._suite.name}", f"1..{self._suite.tests}"):
                self._file.write(f"{_INDENT}{line}\n")
        self._points += 1
        lines = list(_point(self._points, check))
        self._ok &= lines[-1].startswith("ok ")
        self._file.writelines(f"{_INDENT}{line}\n" for line in lines)

    def _close_suite(self) -> None:
        if self._suite is not None:
            self._suites += 1
            self._file.write(f"{'ok' if self._ok else 'not ok'} {self._suites} {self._suite.name}\n")

    def end(self) -> None:
        """Write the result of the last directory."""
        self._close_suite()


def _point(number: int, check: Check) -> Iterator[str]:
    name = _one_line(str(check.key))
    verdict = check.verdict
    if verdict == "conforms":
        yield f"ok {number} {name}"
    elif verdict == "not_applicable":
        yield f"ok {number} {name} # SKIP {_one_line(check.detail)}"
    elif check.known is not None:
        yield f"ok {number} {name} # XFAIL {_one_line(check.known)}"
    else:
        # KTAP: diagnostic lines precede the result line that they belong to.
        if verdict == "deviates":
            yield f"# {_one_line(comparison(check))}"
        if check.detail:
            yield f"# {_one_line(check.detail)}"
        yield f"not ok {number} {name} # {verdict}"


def _one_line(text: str) -> str:
    # A # would begin a directive.
    return " ".join(text.replace("#", "").split())
