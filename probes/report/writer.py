"""Writes the files of a run: results.jsonl, evidence.jsonl, summary.json. Beside their place, moved into it at the end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from probes.report.check import Json
from probes.report.counts import Counts
from probes.report.directory import SCHEMA, ReportDirectory
from probes.report.formats import html, junit, ktap, pcapng
from probes.report.judged_test import JudgedTest
from probes.report.reader import EVIDENCE, RESULTS, read


class Writer:
    """Writes checks and evidence as they arrive; here, and only here, evidence gets its `seq`.

    Raises CommandError: the directory cannot be a report. Raises OSError: it cannot be written.
    """

    def __init__(self, directory: Path, run: Mapping[str, Json]) -> None:
        """Opens the files in a directory; `run` are the facts of the first line."""
        self._place = ReportDirectory(directory)
        self._part = self._place.part
        self._results = self._open(RESULTS)
        self._evidence = self._open(EVIDENCE)
        self._run = dict(run)
        self._began = datetime.now(UTC)
        self._seq = 0
        self._stated: set[str] = set()
        head = {"type": "run", "schema": SCHEMA, "started": self._began.isoformat(timespec="seconds"), **run}
        _line(self._results, head)

    def _open(self, name: str) -> IO[str]:
        return (self._part / name).open("w", encoding="utf-8")

    def add(self, judged: JudgedTest) -> None:
        """Write the checks and the evidence of a test."""
        about = judged.behaviour
        if about is not None and about.id not in self._stated:
            self._stated.add(about.id)
            _line(self._results, {"type": "behaviour", **about.as_json()})
        first = self._seq + 1
        for self._seq, piece in enumerate(judged.evidence, first):
            _line(self._evidence, {**piece, "seq": self._seq})
        for check in judged.checks:
            numbered = replace(check, seq=[first + at for at in check.rests_on], rests_on=[])
            _line(self._results, {"type": "check", **numbered.as_json()})
        self._results.flush()
        self._evidence.flush()

    def finish(self, counts: Counts) -> Path:
        """Write the end, the summary and the other formats, and return the directory with them in place."""
        _line(self._results, {"type": "end", "counts": counts.as_json()})
        self._results.close()
        self._evidence.close()
        seconds = (datetime.now(UTC) - self._began).total_seconds()
        summary = {
            **self._run,
            "counts": counts.as_json(),
            "behaviours": {id: dict(sorted(found.items())) for id, found in sorted(counts.by_behaviour.items())},
            "wall_seconds": round(seconds, 3),
        }
        (self._part / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        write_views(self._part)
        return self._place.keep()

    def discard(self) -> None:
        """Remove what was written of a run that never began."""
        self._results.close()
        self._evidence.close()
        self._place.discard()


def write_views(directory: Path) -> None:
    """Write ktap.txt, junit.xml, report.html and wire/*.pcapng of a run. Raises CommandError: its files are damaged."""
    results = read(directory)
    for name, text in (
        ("ktap.txt", ktap.text(results)),
        ("junit.xml", junit.text(results)),
        ("report.html", html.page(results, directory)),
    ):
        (directory / name).write_text(text, encoding="utf-8")
    pcapng.write(results, directory)


def _line(file: IO[str], value: Mapping[str, Json]) -> None:
    file.write(json.dumps(value, separators=(",", ":"), ensure_ascii=False) + "\n")
