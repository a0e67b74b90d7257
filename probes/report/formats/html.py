"""report.html: one page that loads nothing else. What was run, the counts, each deviation by cause, the catalogue folded."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from probes.errors import CommandError
from probes.report import failure, references
from probes.report.causes import cause_of, frames_of, records_of
from probes.report.check import Check, Json, Key
from probes.report.counts import counted
from probes.report.judged_test import Statement
from probes.report.reader import ResultsFile, evidence

#: How many checks are shown in full: where more is wrong, most of it has one cause.
SHOWN = 200
#: A manual page in a source: bind(2).
_PAGE = re.compile(r"\b([a-z][a-z0-9_]*)\(([2-8])\)")
_PAGES = "https://man7.org/linux/man-pages/man{section}/{name}.{section}.html"


class Page:
    """Collects what the page shows of a run: add all of its checks, then make the text."""

    def __init__(self) -> None:
        """Start without a check."""
        self._counts: dict[str, Counter[str]] = {}
        self._missing: dict[str, set[str]] = {}
        self._shown: list[Check] = []
        self._hidden = 0

    def add(self, check: Check) -> None:
        """Count a check, and keep it if the page shows it."""
        self._counts.setdefault(check.key.id, Counter())[check.verdict] += 1
        if check.verdict == "not_applicable":
            self._missing.setdefault(check.detail, set()).add(check.key.id)
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
        answers = references.by_behaviour(references.stored()) if self._shown else {}
        shown = [
            {
                "anchor": anchor(check.key), "id": check.key.id, **shown_check(check, results, lines),
                "kernels": _kernels(answers, check.key),
            }
            for check in self._shown
        ]  # fmt: skip
        causes = [
            {"name": name, "times": counted(len(found), "time"), "anchor": f"cause-{number}", "checks": found}
            for number, (name, found) in enumerate(_grouped(shown), 1)
        ]
        return template.render(
            run=results.run, counts=results.counts, causes=causes, hidden=self._hidden,
            missing=[(why, sorted(ids)) for why, ids in sorted(self._missing.items())], catalogue=self._catalogue(results),
        )  # fmt: skip

    def _catalogue(self, results: ResultsFile) -> list[tuple[str, list[dict[str, Json]]]]:
        """Return the behaviours of each directory, with their counts and the checks that do not conform."""
        wrong: dict[str, list[tuple[str, str]]] = {}
        for check in self._shown:
            wrong.setdefault(check.key.id, []).append((anchor(check.key), str(check.key)))
        ids = sorted({*results.behaviours, *self._counts})
        return [
            (folder, [
                {
                    "id": id, "counts": self._counts.get(id, Counter()), "about": results.behaviours.get(id),
                    "sources": list(linked(results.behaviours[id].source)) if id in results.behaviours else [],
                    "wrong": wrong.get(id, []),
                }
                for id in found
            ])
            for folder, found in groupby(ids, lambda id: id.partition(".")[0])
        ]  # fmt: skip


def anchor(key: Key) -> str:
    """Return the anchor of a check, which is the same in every run."""
    return f"{key.id}--{zlib.crc32(str(key).encode()):08x}"


def linked(source: str) -> Iterator[tuple[str, str]]:
    """Yield the parts of a source, each with the address of its manual page, or "" if it names none."""
    at = 0
    for found in _PAGE.finditer(source):
        yield source[at : found.start()], ""
        yield found[0], _PAGES.format(name=found[1], section=found[2])
        at = found.end()
    yield source[at:], ""


def _kernels(answers: Mapping[str, Mapping[str, Mapping[str, Json]]], key: Key) -> dict[str, str]:
    """Return what the stored genuine kernels answered in the case of a check, if they differ there."""
    return {kernel: failure.value(answer) for kernel, answer in answers.get(key.id, {}).get(key.case, {}).items()}


def _grouped(shown: Sequence[Mapping[str, Json]]) -> list[tuple[str, list[Mapping[str, Json]]]]:
    """Return the checks by cause, the most frequent cause first."""
    groups: dict[str, list[Mapping[str, Json]]] = {}
    for check in shown:
        groups.setdefault(check["cause"], []).append(check)
    return sorted(groups.items(), key=lambda group: -len(group[1]))


def shown_check(check: Check, results: ResultsFile, lines: Mapping[int, Mapping[str, Json]]) -> dict[str, Json]:
    """Return what a page says of a check that does not conform. Raises CommandError: its evidence is damaged."""
    about = results.behaviours.get(check.key.id, Statement(check.key.id, "", ""))
    try:
        records = records_of(check, lines)
        text = failure.text(check, records, about, failure.rerun_of(results.run), frames_of(check, lines))
        cause = str(cause_of(check, records))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        why = f"{results.path}: {check.key}: it or its evidence is not as docs/schema.json describes: judge again"
        raise CommandError(why) from error
    return {"key": str(check.key), "verdict": check.verdict, "known": check.known, "text": text, "cause": cause}
