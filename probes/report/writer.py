"""Writes the files of a run: results, evidence, summary.json. Beside their place, moved into it at the end."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from probes.report.check import Check, Json
from probes.report.counts import Counts
from probes.report.directory import SCHEMA, ReportDirectory
from probes.report.formats import html, junit, ktap, pcapng
from probes.report.judged_test import JudgedTest
from probes.report.reader import EVIDENCE, RESULTS, ResultsFile

#: zlib's fastest: it packs a run to a tenth, for less time than writing it unpacked takes.
_LEVEL = 1
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


class Writer:
    """Writes checks and evidence as they arrive; here, and only here, evidence gets its `seq`.

    `evidence` is "all", or "failing" for the evidence of checks that are not as expected alone.

    Raises CommandError: the directory cannot be a report. Raises OSError: it cannot be written.
    """

    def __init__(self, directory: Path, run: Mapping[str, Json], evidence: str = "all") -> None:
        """Make the directory, and write the first line."""
        self._place = ReportDirectory(directory)
        self._part = self._place.part
        self._results = self._open(RESULTS)
        self._evidence = self._open(EVIDENCE)
        self._all = evidence == "all"
        self._run = dict(run)
        self._began = datetime.now(UTC)
        self._seq = 0
        self._stated: set[str] = set()
        head = {"type": "run", "schema": SCHEMA, "started": self._began.isoformat(timespec="seconds"), **run}
        _line(self._results, head)
        self._flush()

    def _open(self, name: str) -> IO[str]:
        return gzip.open(self._part / name, "wt", _LEVEL, encoding="utf-8", errors="backslashreplace")

    def add(self, judged: JudgedTest) -> None:
        """Write the checks and the evidence of a test."""
        about = judged.behaviour
        if about is not None and about.id not in self._stated:
            self._stated.add(about.id)
            _line(self._results, {"type": "behaviour", **about.as_json()})
        numbers = self._number(judged)
        for at, seq in numbers.items():
            _line(self._evidence, {**judged.evidence[at], "seq": seq})
        seconds = judged.seconds
        for check in judged.checks:
            seqs = [numbers[at] for at in check.rests_on] if self._kept(check) else []
            numbered = replace(check, seq=seqs, rests_on=[], seconds=seconds)
            _line(self._results, {"type": "check", **numbered.as_json()})
            seconds = None
        self._flush()

    def _kept(self, check: Check) -> bool:
        return self._all or check.unexpected

    def _number(self, judged: JudgedTest) -> dict[int, int]:
        """Number the evidence of a test that is written, by its position."""
        if self._all:
            wanted = list(range(len(judged.evidence)))
        else:
            wanted = sorted({at for check in judged.checks if self._kept(check) for at in check.rests_on})
        first = self._seq + 1
        self._seq += len(wanted)
        return {at: seq for seq, at in enumerate(wanted, first)}

    def _flush(self) -> None:
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
        """Remove what was written of a run that never began, or that could not be written."""
        for file in (self._results, self._evidence):
            # On a full disk the rest of a file cannot be written either.
            with suppress(OSError):
                file.close()
        self._place.discard()


def write_views(directory: Path) -> None:
    """Write ktap.txt, junit.xml, report.html and wire/*.pcapng of a run. Raises CommandError: its files are damaged.

    The results are read twice, check by check: what stands before the first check of a format is known after the last.
    """
    results, suites, page, frames = ResultsFile(directory), junit.Suites(), html.Page(), pcapng.Frames()
    for check in results.checks():
        suites.add(check)
        page.add(check)
        frames.add(check)
    with _create(directory / "ktap.txt") as points, _create(directory / "junit.xml") as cases:
        ktap_writer, junit_writer = ktap.KtapWriter(points, suites.total), junit.JunitWriter(cases, suites)
        for check in ResultsFile(directory).checks():
            ktap_writer.add(check)
            junit_writer.add(check)
        junit_writer.end()
    with _create(directory / "report.html") as file:
        file.write(page.text(results, directory))
    frames.write(directory)


def _create(path: Path) -> IO[str]:
    return path.open("w", encoding="utf-8", errors="backslashreplace")


def _line(file: IO[str], value: Mapping[str, Json]) -> None:
    file.write(_ENCODER.encode(value) + "\n")
