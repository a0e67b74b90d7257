"""report.html: one page that needs nothing else. What was run, the counts, each deviation, the catalogue folded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from probes.errors import CommandError
from probes.report import failure
from probes.report.causes import cause_of, records_of
from probes.report.check import Check, Json
from probes.report.counts import counted
from probes.report.judged_test import Statement
from probes.report.reader import ResultsFile, evidence

#: How many checks are shown in full: where more is wrong, most of it has one cause.
SHOWN = 200


class Page:
    """Collects what the page shows of a run: add all of its checks, then make the text."""

    def __init__(self) -> None:
        """Start without a check."""
        self._counts: dict[str, Counter[str]] = {}
        self._missing: set[tuple[str, str]] = set()
        self._shown: list[Check] = []
        self._hidden = 0

    def add(self, check: Check) -> None:
        """Count a check, and keep it if the page shows it."""
        self._counts.setdefault(check.key.id, Counter())[check.verdict] += 1
        if check.verdict == "not_applicable":
            self._missing.add((check.detail, check.key.id))
        elif check.verdict != "conforms":
            if len(self._shown) < SHOWN:
                self._shown.append(check)
            else:
                self._hidden += 1

    def text(self, results: ResultsFile, directory: Path) -> str:
        """Return the page, with the evidence of what deviates. Raises CommandError: the directory has none."""
        # Imported here: a machine without jinja2 can judge all the same.
        import jinja2

        loader = jinja2.FileSystemLoader(Path(__file__).parent)
        template = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined).get_template(
            "report.html"
        )
        lines = evidence(directory, {seq for check in self._shown for seq in check.seq})
        shown = [
            {"anchor": f"check-{number}", **shown_check(check, results, lines)}
            for number, check in enumerate(self._shown, 1)
        ]
        causes = [
            {"name": name, "times": counted(len(found), "time"), "anchor": f"cause-{number}", "checks": found}
            for number, (name, found) in enumerate(_grouped(shown), 1)
        ]
        counts: dict[str, Counter[str]] = {id: Counter() for id in results.behaviours} | self._counts
        return template.render(
            run=results.run, counts=results.counts, causes=causes, hidden=self._hidden, missing=sorted(self._missing),
            catalogue=[(results.behaviours.get(id), id, found) for id, found in sorted(counts.items())],
        )  # fmt: skip


def _grouped(shown: Sequence[Mapping[str, Json]]) -> list[tuple[str, list[Mapping[str, Json]]]]:
    """The checks by cause, the most frequent cause first."""
    groups: dict[str, list[Mapping[str, Json]]] = {}
    for check in shown:
        groups.setdefault(check["cause"], []).append(check)
    return sorted(groups.items(), key=lambda group: -len(group[1]))


def shown_check(check: Check, results: ResultsFile, lines: Mapping[int, Mapping[str, Json]]) -> dict[str, Json]:
    """Return what a page says of a check that does not conform. Raises CommandError: its evidence is damaged."""
    about = results.behaviours.get(check.key.id, Statement(check.key.id, "", ""))
    try:
        records = records_of(check, lines)
        text = failure.text(check, records, about, failure.rerun_of(results.run))
        cause = str(cause_of(check, records))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        why = f"{results.path}: {check.key}: it or its evidence is not as docs/schema.json describes: judge again"
        raise CommandError(why) from error
    return {"key": str(check.key), "verdict": check.verdict, "known": check.known, "text": text, "cause": cause}
