"""report.html: one page that needs nothing else. What was run, the counts, each deviation, the catalogue folded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from probes.report import failure
from probes.report.causes import cause_of, records_of
from probes.report.check import Check, Json
from probes.report.judged_test import Statement
from probes.report.reader import Results, evidence

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
        {"key": str(check.key), "verdict": check.verdict, "known": check.known, "text": _text(check, results, lines),
         "anchor": f"check-{number}", "cause": str(cause_of(check, records_of(check, lines)))}
        for number, check in enumerate(bad[:SHOWN], 1)
    ]  # fmt: skip
    causes = [
        {"name": name, "count": len(found), "anchor": f"cause-{number}", "checks": found}
        for number, (name, found) in enumerate(_grouped(shown), 1)
    ]
    counts: dict[str, Counter[str]] = {id: Counter() for id in results.behaviours}
    for check in results.checks:
        counts.setdefault(check.key.id, Counter())[check.verdict] += 1
    missing = sorted({(check.detail, check.key.id) for check in results.checks if check.verdict == "not_applicable"})
    return template.render(
        run=results.run, counts=results.counts, causes=causes, hidden=len(bad) - len(shown), missing=missing,
        catalogue=[(results.behaviours.get(id), id, found) for id, found in sorted(counts.items())],
    )  # fmt: skip


def _grouped(shown: Sequence[Mapping[str, Json]]) -> list[tuple[str, list[Mapping[str, Json]]]]:
    """The checks by cause, the most frequent cause first."""
    groups: dict[str, list[Mapping[str, Json]]] = {}
    for check in shown:
        groups.setdefault(check["cause"], []).append(check)
    return sorted(groups.items(), key=lambda group: -len(group[1]))


def _text(check: Check, results: Results, lines: Mapping[int, Mapping[str, Json]]) -> str:
    about = results.behaviours.get(check.key.id, Statement(check.key.id, "", ""))
    return failure.text(check, records_of(check, lines), about, failure.rerun_of(results.run))
