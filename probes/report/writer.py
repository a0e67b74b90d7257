"""Writes the files of a run: results, evidence, summary.json. Beside their place, moved into it at the end."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from probes.report.check import Json
from probes.report.counts import Counts
from probes.report.directory import SCHEMA, ReportDirectory
from probes.report.formats import html, junit, ktap, pcapng
from probes.report.judged_test import JudgedTest
from probes.report.packed import Packed, Scratch, brief, fetch, member, pack
from probes.report.reader import EVIDENCE, RESULTS, ResultsFile


class Writer:
    """Writes checks and evidence as they arrive, packed here or by a worker of this machine.

    `evidence` is "all", or "failing" for the evidence of checks that are not as expected alone.

    Raises CommandError: the directory cannot be a report. Raises OSError: it cannot be written.
    """

    def __init__(self, directory: Path, run: Mapping[str, Json], evidence: str = "all") -> None:
        """Make the directory, and write the first line."""
        self._place = ReportDirectory(directory)
        self._part = self._place.part
        self._results = (self._part / RESULTS).open("wb", buffering=0)
        self._evidence = (self._part / EVIDENCE).open("wb", buffering=0)
        self._all = evidence == "all"
        self._run = dict(run)
        self._began = datetime.now(UTC)
        self._stated: set[str] = set()
        head = {"type": "run", "schema": SCHEMA, "started": self._began.isoformat(timespec="seconds"), **run}
        _write(self._results, member([head]))

    def add(self, judged: JudgedTest, number: int) -> None:
        """Write the checks and the evidence of a test; `number` is the test's in its run, from 1."""
        about = judged.behaviour
        if about is not None and about.id not in self._stated:
            self._stated.add(about.id)
            _write(self._results, member([{"type": "behaviour", **about.as_json()}]))
        packed = fetch(judged.segment) if judged.segment is not None else self._packed(judged, number)
        _write(self._evidence, packed.evidence)
        _write(self._results, packed.results)

    def scratch(self) -> Scratch:
        """Make the file of a worker: it packs its tests by `condense`, and `add` copies them."""
        return Scratch.within(self._part)

    def condense(self, judged: JudgedTest, number: int, scratch: Scratch) -> JudgedTest:
        """Write a test to a worker's file, and return what `add` and a count of its checks take."""
        return brief(judged, scratch.put(self._packed(judged, number)))

    def _packed(self, judged: JudgedTest, number: int) -> Packed:
        return pack(judged, number, self._all)

    def finish(self, counts: Counts) -> Path:
        """Write the end, the summary and the other formats, and return the directory with them in place."""
        _write(self._results, member([{"type": "end", "counts": counts.as_json()}]))
        # A file of no bytes is not a gzip file.
        if not self._evidence.tell():
            _write(self._evidence, gzip.compress(b"", mtime=0))
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
        ktap_writer, junit_writer = ktap.KtapWriter(points, suites), junit.JunitWriter(cases, suites)
        for check in ResultsFile(directory).checks():
            ktap_writer.add(check)
            junit_writer.add(check)
        ktap_writer.end()
        junit_writer.end()
    with _create(directory / "report.html") as file:
        file.write(page.text(results, directory))
    frames.write(directory)


def _create(path: Path) -> IO[str]:
    return path.open("w", encoding="utf-8", errors="backslashreplace")


def _write(file: IO[bytes], data: bytes) -> None:
    """Write all bytes to a file without a buffer: what a buffer holds after an error would be written later."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
