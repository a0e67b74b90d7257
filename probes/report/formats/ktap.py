"""KTAP, as the kernel's test tools read it (Documentation/dev-tools/ktap.rst): a point for each check."""

from __future__ import annotations

from collections.abc import Iterator

from probes.report.check import Check
from probes.report.failure import comparison
from probes.report.reader import Results


def text(results: Results) -> str:
    """Return the whole file. conforms: ok; not applicable: ok # SKIP why; a known deviation: ok # XFAIL why; else not ok."""
    lines = ["KTAP version 1", f"1..{len(results.checks)}"]
    for number, check in enumerate(results.checks, 1):
        lines += _point(number, check)
    return "\n".join(lines) + "\n"


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
