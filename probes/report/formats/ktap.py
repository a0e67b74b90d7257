"""KTAP, as the kernel's test tools read it (Documentation/dev-tools/ktap.rst): a point for each check."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from probes.report.check import Check
from probes.report.failure import comparison


class KtapWriter:
    """Writes the file, check by check.

    conforms: ok; not applicable: ok # SKIP why; a known deviation: ok # XFAIL why; else not ok.
    """

    def __init__(self, file: IO[str], total: int) -> None:
        """Write the version and the plan of `total` checks."""
        self._file, self._number = file, 0
        file.write(f"KTAP version 1\n1..{total}\n")

    def add(self, check: Check) -> None:
        """Write the lines of the next check."""
        self._number += 1
        self._file.writelines(line + "\n" for line in _point(self._number, check))


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
