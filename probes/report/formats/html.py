"""report.html: one page that needs nothing else. What was run, the counts, each deviation, the catalogue folded."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from probes.abi.record import Record
from probes.report import failure
from probes.report.reader import Results, evidence, key_text

#: Checks shown in full; a run in which more is wrong has one reason for most of it.
SHOWN = 200


def page(results: Results, folder: Path) -> str:
    """The page of a run, with the evidence of what deviates from its folder. Raises CommandError: no evidence there."""
    # Imported here: a machine without jinja2 can still judge.
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    template = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined).get_template(
        "report.html"
    )
    bad = [check for check in results.checks if check["verdict"] not in ("conforms", "not_applicable")]
    records = evidence(folder, {seq for check in bad[:SHOWN] for seq in check["seq"]})
    shown = [
        {
            "key": key_text(check),
            "verdict": check["verdict"],
            "known": check.get("known"),
            "text": _text(check, results, records),
        }
        for check in bad[:SHOWN]
    ]
    counts: dict[str, Counter[str]] = {id: Counter() for id in results.behaviours}
    for check in results.checks:
        counts.setdefault(check["id"], Counter())[check["verdict"]] += 1
    missing = sorted(
        {(check["detail"], check["id"]) for check in results.checks if check["verdict"] == "not_applicable"}
    )
    return template.render(
        run=results.run, counts=results.counts, shown=shown, hidden=len(bad) - len(shown), missing=missing,
        catalogue=[(results.behaviours.get(id), id, found) for id, found in sorted(counts.items())],
    )  # fmt: skip


def _text(check: dict[str, Any], results: Results, records: dict[int, dict[str, Any]]) -> str:
    lines = [records[seq] for seq in check["seq"] if seq in records and records[seq]["type"] == "call"]
    calls = [Record.of_json(line) for line in lines]
    about = results.behaviours.get(check["id"], {"statement": "", "source": ""})
    return failure.text(check, calls, {**about, "seed": results.run["seed"], "target": results.run["target"]["name"]})
