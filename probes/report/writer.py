"""The files of a run: results.jsonl, evidence.jsonl, summary.json. Written aside, moved into place at the end."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from probes.plugin.verdicts import VERDICTS, Check
from probes.report.formats import html, junit, ktap, pcapng
from probes.report.reader import SCHEMA, read


class Counts:
    """How many checks of each verdict, altogether and by behaviour."""

    def __init__(self) -> None:
        self.all: Counter[str] = Counter()
        self.by_behaviour: dict[str, Counter[str]] = {}
        #: Deviations among them that were expected.
        self.known = 0

    def add(self, check: Check) -> None:
        """Counts a check."""
        self.all[check["verdict"]] += 1
        self.known += "known" in check
        self.by_behaviour.setdefault(check["id"], Counter())[check["verdict"]] += 1

    def as_json(self) -> dict[str, int]:
        """All verdicts with their counts."""
        return {verdict: self.all[verdict] for verdict in VERDICTS}

    def status(self) -> int:
        """The exit status: 0 all as expected, 1 a deviation, 3 something else that keeps us from knowing."""
        if self.all["deviates"] > self.known:
            return 1
        unknown = self.all["broke"] + self.all["lost"] + self.all["not_run"]
        return 3 if unknown or not self.all["conforms"] + self.known else 0

    def line(self) -> str:
        """The counts as people read them."""
        parts = [f"{self.all[verdict]} {verdict.replace('_', ' ')}" for verdict in VERDICTS if self.all[verdict]]
        if self.known:
            parts.append(f"of the deviations {self.known} known")
        return f"{len(self.by_behaviour)} behaviours, {self.all.total()} checks: {', '.join(parts) or 'nothing judged'}"


def overall(*statuses: int) -> int:
    """The exit status of a whole: usage before a deviation before what could not be known."""
    return next((status for status in (2, 1, 3) if status in statuses), 0)


class Aside:
    """A folder that is written aside, as FOLDER.part. Raises OSError: it cannot be made."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.part = folder, folder.with_name(folder.name + ".part")
        shutil.rmtree(self.part, ignore_errors=True)
        self.part.mkdir(parents=True)

    def keep(self) -> Path:
        """Moves it into place, keeps what was there as FOLDER.old, and returns the folder."""
        old = self._folder.with_name(self._folder.name + ".old")
        if self._folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            self._folder.rename(old)
        self.part.rename(self._folder)
        return self._folder

    def discard(self) -> None:
        """Leaves nothing of it."""
        shutil.rmtree(self.part, ignore_errors=True)


class Writer:
    """Writes checks and evidence as they come, aside. Raises OSError: it cannot."""

    def __init__(self, folder: Path, run: Mapping[str, Any]) -> None:
        self._aside = Aside(folder)
        self._part = self._aside.part
        self._results = self._open("results.jsonl")
        self._evidence = self._open("evidence.jsonl")
        self._run = dict(run)
        self._began = datetime.now(UTC)
        self._seq = 0
        self._told: set[str] = set()
        head = {"type": "run", "schema": SCHEMA, "started": self._began.isoformat(timespec="seconds"), **run}
        _line(self._results, head)

    def _open(self, name: str) -> IO[str]:
        return (self._part / name).open("w", encoding="utf-8")

    def add(self, carried: Mapping[str, Any]) -> None:
        """Writes the checks and the evidence of a test; evidence is numbered through the whole run."""
        start = self._seq
        about = carried.get("behaviour")
        if about is not None and about["id"] not in self._told:
            self._told.add(about["id"])
            _line(self._results, {"type": "behaviour", **about})
        for piece in carried["evidence"]:
            self._seq += 1
            _line(self._evidence, {**piece, "seq": start + piece["seq"] if "seq" in piece else self._seq})
        for check in carried["checks"]:
            written = {key: item for key, item in check.items() if key != "calls"}
            _line(self._results, {"type": "check", **written, "seq": [start + seq for seq in check["seq"]]})
        self._results.flush()
        self._evidence.flush()

    def finish(self, counts: Counts) -> Path:
        """Writes the end, the summary and the views, and returns the folder with them in place."""
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
        return self._aside.keep()

    def discard(self) -> None:
        """Leaves nothing of a run that never began."""
        self._results.close()
        self._evidence.close()
        self._aside.discard()


def write_views(folder: Path) -> None:
    """Writes ktap.txt, junit.xml, report.html and wire/*.pcapng of a run. Raises CommandError: its files are not whole."""
    results = read(folder)
    for name, text in (
        ("ktap.txt", ktap.text(results)),
        ("junit.xml", junit.text(results)),
        ("report.html", html.page(results, folder)),
    ):
        (folder / name).write_text(text, encoding="utf-8")
    pcapng.write(results, folder)


def _line(file: IO[str], value: Mapping[str, Any]) -> None:
    file.write(json.dumps(value, separators=(",", ":"), ensure_ascii=False) + "\n")
