"""report.html: one page that needs nothing else. What was run, the counts, each deviation, the catalogue folded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from probes.abi.record import Record
from probes.report import failure
from probes.report.check import Check, Json
from probes.report.judged_test import Statement
from probes.report.reader import Results, evidence, rerun_of

#: How many checks are shown in full: where more is wrong, most of it has one cause.
SHOWN = 200


def page(results: Results, directory: Path) -> str:
    """Return the page of a run, with the evidence of what deviates. Raises CommandError: the directory has none."""
    # Imported here: a machine without jinja2 can judge all the same.
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    template = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined).get_template(
        "report.html"
    )
    bad = [check for check in results.checks if check.verdict not in ("conforms", "not_applicable")]
    lines = evidence(directory, {seq for check in bad[:SHOWN] for seq in check.seq})
    shown = [
        {"key": str(check.key), "verdict": check.verdict, "known": check.known, "text": _text(check, results, lines)}
        for check in bad[:SHOWN]
    ]
    counts: dict[str, Counter[str]] = {id: Counter() for id in results.behaviours}
    for check in results.checks:
        counts.setdefault(check.key.id, Counter())[check.verdict] += 1
    missing = sorted({(check.detail, check.key.id) for check in results.checks if check.verdict == "not_applicable"})
    return template.render(
        run=results.run, counts=results.counts, shown=shown, hidden=len(bad) - len(shown), missing=missing,
        catalogue=[(results.behaviours.get(id), id, found) for id, found in sorted(counts.items())],
    )  # fmt: skip


def _text(check: Check, results: Results, lines: Mapping[int, Mapping[str, Json]]) -> str:
    found = [lines[seq] for seq in check.seq if seq in lines and lines[seq]["type"] == "call"]
    about = results.behaviours.get(check.key.id, Statement(check.key.id, "", ""))
    return failure.text(check, [Record.of_json(line) for line in found], about, rerun_of(results))
