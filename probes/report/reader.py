"""Reads the files of a run. Raises CommandError for files that are damaged or cut off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from probes.errors import CommandError
from probes.report.check import Check, Json, Key
from probes.report.directory import SCHEMA
from probes.report.judged_test import Statement

RESULTS, EVIDENCE = "results.jsonl", "evidence.jsonl"


@dataclass
class Results:
    """The content of results.jsonl: the run, the behaviours by id, the checks, the counts at its end."""

    run: dict[str, Json]
    behaviours: dict[str, Statement] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


def read(where: Path) -> Results:
    """Return the results of a run: of a report directory, or of its results.jsonl."""
    path = where / RESULTS if where.is_dir() else where
    lines = list(_lines(path))
    if not lines:
        raise CommandError(f"{path} is empty: run `socketcall check --report {path.parent}`")
    head, *rest = lines
    if head.get("type") != "run" or head.get("schema") != SCHEMA:
        raise CommandError(
            f"{path} has schema {head.get('schema')!r}, this suite reads {SCHEMA}: judge again, or use its suite"
        )
    if not rest or rest[-1].get("type") != "end":
        raise CommandError(f"{path} is cut off: it has no end line; judge again")
    found = Results(head, counts=rest[-1]["counts"])
    seen: set[Key] = set()
    for number, line in enumerate(rest[:-1], 2):
        if line["type"] == "behaviour":
            about = {name: line[name] for name in ("id", "statement", "source", "tag") if name in line}
            found.behaviours[line["id"]] = Statement(**about)
        elif line["type"] == "check":
            # A check that broke has the key of its test, which other checks of the test may have too.
            check = Check.of_json(line)
            if check.verdict in ("conforms", "deviates"):
                if check.key in seen:
                    raise CommandError(f"{path} line {number} is a duplicate: {check.key}; judge again")
                seen.add(check.key)
            found.checks.append(check)
        else:
            raise CommandError(
                f"{path} line {number} has type {line['type']!r}: it belongs to no run, or the run ends twice; judge again"
            )
    return found


def keys_of(where: Path) -> list[Key]:
    """Return the keys of the checks of a run, of any suite version. Raises CommandError: its file is damaged."""
    path = where / RESULTS if where.is_dir() else where
    return [Key.of_json(line) for line in _lines(path) if line["type"] == "check"]


def evidence(directory: Path, wanted: set[int] | None = None) -> dict[int, dict[str, Json]]:
    """Return the lines of evidence.jsonl by `seq`: all, or those wanted."""
    if wanted is not None and not wanted:
        return {}
    return {line["seq"]: line for line in _lines(directory / EVIDENCE) if wanted is None or line["seq"] in wanted}


def _lines(path: Path) -> Iterator[dict[str, Json]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, text in enumerate(file, 1):
                try:
                    line = json.loads(text)
                except ValueError as error:
                    raise CommandError(f"{path} line {number} is cut off or not JSON: judge again") from error
                if not isinstance(line, dict) or "type" not in line:
                    raise CommandError(f"{path} line {number} has no type: it is not a file of a run")
                yield line
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}; name a report directory") from error
