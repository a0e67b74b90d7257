"""KTAP, as the kernel's test tools read it (Documentation/dev-tools/ktap.rst): a point for each check."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from probes.report.failure import value
from probes.report.reader import Results, key_text


def text(results: Results) -> str:
    """The whole file. conforms: ok; not applicable: ok # SKIP why; a known deviation: ok # XFAIL why; else not ok."""
    lines = ["KTAP version 1", f"1..{len(results.checks)}"]
    for number, check in enumerate(results.checks, 1):
        lines += _point(number, check)
    return "\n".join(lines) + "\n"


def _point(number: int, check: dict[str, Any]) -> Iterator[str]:
    name = _plain(key_text(check))
    verdict = check["verdict"]
    if verdict == "conforms":
        yield f"ok {number} {name}"
    elif verdict == "not_applicable":
        yield f"ok {number} {name} # SKIP {_plain(check['detail'])}"
    elif "known" in check:
        yield f"ok {number} {name} # XFAIL {_plain(check['known'])}"
    else:
        # Diagnostics come before the point that they are about.
        if verdict == "deviates":
            yield f"# expected {_plain(value(check['expected']))}, actual {_plain(value(check['actual']))}"
        if check["detail"]:
            yield f"# {_plain(check['detail'])}"
        yield f"not ok {number} {name} # {verdict}"


def _plain(said: str) -> str:
    # One line, and no sign that would begin a directive.
    return " ".join(said.replace("#", "").split())
