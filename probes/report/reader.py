"""A run's files, read back: what every view and `diff` start from. Raises CommandError for files that are not whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from probes.errors import CommandError

#: Version of the files that this suite writes and reads; docs/schema.json describes it.
SCHEMA = 1
KEY = ("id", "case", "route", "gate", "word")
RESULTS, EVIDENCE = "results.jsonl", "evidence.jsonl"


@dataclass
class Results:
    """The lines of results.jsonl: the run, the behaviours by id, the checks, the counts at its end."""

    run: dict[str, Any]
    behaviours: dict[str, dict[str, Any]] = field(default_factory=dict)
    checks: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


def key(check: Mapping[str, Any]) -> tuple[Any, ...]:
    """The five fields by which a check is known everywhere."""
    return tuple(check[name] for name in KEY)


def key_text(check: Mapping[str, Any]) -> str:
    """A key as people read it."""
    case = f"[{check['case']}] " if check["case"] else ""
    return f"{check['id']} {case}{check['route']} {check['gate']} {check['word']}"


def read(where: Path) -> Results:
    """The results of a run: a report folder, or its results.jsonl."""
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
    seen: set[tuple[Any, ...]] = set()
    for number, line in enumerate(rest[:-1], 2):
        if line["type"] == "behaviour":
            found.behaviours[line["id"]] = line
        elif line["type"] == "check":
            # What broke has the key of its test, which other checks of the test may have as well.
            if line["verdict"] in ("conforms", "deviates"):
                if key(line) in seen:
                    raise CommandError(f"{path} line {number} is a duplicate: {key_text(line)}; judge again")
                seen.add(key(line))
            found.checks.append(line)
        else:
            raise CommandError(
                f"{path} line {number} has type {line['type']!r}: only the last line ends a run; judge again"
            )
    return found


def evidence(folder: Path, wanted: set[int] | None = None) -> dict[int, dict[str, Any]]:
    """The lines of evidence.jsonl by their numbers: all, or those that are wanted."""
    if wanted is not None and not wanted:
        return {}
    return {line["seq"]: line for line in _lines(folder / EVIDENCE) if wanted is None or line["seq"] in wanted}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, text in enumerate(file, 1):
                try:
                    line = json.loads(text)
                except ValueError as error:
                    raise CommandError(f"{path} line {number} is cut off or no JSON: judge again") from error
                if not isinstance(line, dict) or "type" not in line:
                    raise CommandError(f"{path} line {number} has no type: this is no file of a run")
                yield line
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}; name a report folder") from error
