"""Reads the files of a run, line by line. Raises CommandError for files that are damaged or cut off."""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NoReturn

from probes.errors import CommandError
from probes.report.check import VERDICTS, Check, Json, Key
from probes.report.directory import SCHEMA
from probes.report.judged_test import Statement
from probes.report.regular import open_regular

RESULTS, EVIDENCE = "results.jsonl.gz", "evidence.jsonl.gz"
#: The first bytes of a gzip file (RFC 1952).
_GZIP = b"\x1f\x8b"
#: A file with a longer line is not of a run: /dev/zero has no line at all.
_LONGEST_LINE = 1 << 26
#: The greatest number of a line of evidence.
_GREATEST = (1 << 64) - 1
_HEX = re.compile("([0-9a-f]{2})*")
#: The fields that readers rely on, with their types; docs/schema.json has them all.
_RUN = {
    "started": str, "suite_version": str, "seed": int, "reference": str,
    "target": {
        "name": str, "callers": list, "implementation": str, "privileges": str, "abi": str, "again": list,
        "kernel": {"release": str, "version": str, "machine": str},
    },
}  # fmt: skip
_CALLER = {"name": str, "word": int, "gates": list, "options": list}
_BEHAVIOUR = {"id": str, "statement": str, "source": str}
_CHECK = {
    "id": str, "case": str, "route": str, "gate": str, "word": int, "verdict": str, "detail": str, "seq": list,
}  # fmt: skip


@dataclass
class Results:
    """The content of results.jsonl: the run, the behaviours by id, the checks, the counts at its end."""

    run: dict[str, Json]
    behaviours: dict[str, Statement] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


class ResultsFile:
    """results.jsonl of a report directory, or a file of that content, packed by gzip or not.

    `run` is its first line. `behaviours` by id and the `counts` at its end are complete when `checks` has ended.
    """

    def __init__(self, where: Path) -> None:
        """Read the first line."""
        self.path = _file(where, RESULTS)
        self._lines = _lines(self.path)
        head = next(self._lines, None)
        if head is None:
            raise CommandError(f"{self.path} is empty: run `socketcall check --report {self.path.parent}`")
        if head.get("type") != "run" or head.get("schema") != SCHEMA:
            raise CommandError(
                f"{self.path} has schema {head.get('schema')!r}, this suite reads {SCHEMA}: judge again, or use its suite"
            )
        if isinstance(target := head.get("target"), dict) and "callers" not in target:
            target["callers"] = _only_caller(target)
        self._require(head, _RUN, 1)
        for caller in head["target"]["callers"]:
            self._require(caller if isinstance(caller, dict) else {}, _CALLER, 1)
            for name in ("gates", "options"):
                if not all(isinstance(one, str) for one in caller[name]):
                    self._fail(name, 1)
        self.run = head
        self.behaviours: dict[str, Statement] = {}
        self.counts: dict[str, int] = {}

    def checks(self) -> Iterator[Check]:
        """Yield the checks, once."""
        seen: set[Key] = set()
        ended = False
        number = 1
        for number, line in enumerate(self._lines, 2):
            kind = line["type"]
            if ended or kind not in ("behaviour", "check", "end"):
                raise CommandError(
                    f"{self.path} line {number} has type {kind!r}: it belongs to no run, or the run ends twice; judge again"
                )
            if kind == "check":
                yield self._check(line, number, seen)
            elif kind == "behaviour":
                self._require(line, _BEHAVIOUR, number)
                about = {name: line[name] for name in ("id", "statement", "source", "tag") if name in line}
                self.behaviours[line["id"]] = Statement(**about)
            else:
                self._require(line, {"counts": dict.fromkeys(VERDICTS, int)}, number)
                self.counts, ended = line["counts"], True
        if not ended:
            raise CommandError(f"{self.path} is cut off after line {number}: it has no end line; judge again")

    def _check(self, line: Mapping[str, Json], number: int, seen: set[Key]) -> Check:
        self._require(line, _CHECK, number)
        try:
            check = Check.of_json(line)
        except (KeyError, TypeError) as error:
            raise CommandError(f"{self.path} line {number} is no check of docs/schema.json: judge again") from error
        for name, valid in (
            ("expected", _is_value(check.expected)),
            ("actual", _is_value(check.actual)),
            (
                "difference",
                check.difference is None or (type(check.difference) is dict and _is_value(check.difference)),
            ),
            ("known", check.known is None or type(check.known) is str),
            ("seconds", check.seconds is None or type(check.seconds) in (int, float)),
            ("seq", all(type(seq) is int and 0 < seq <= _GREATEST for seq in check.seq)),
        ):
            if not valid:
                self._fail(name, number)
        # A check that broke has the key of its test, which other checks of the test may have too.
        if check.verdict in ("conforms", "deviates"):
            if check.key in seen:
                raise CommandError(f"{self.path} line {number} is a duplicate: {check.key}; judge again")
            seen.add(check.key)
        return check

    def _require(self, line: Mapping[str, Json], fields: Mapping[str, Json], number: int) -> None:
        for name, kind in fields.items():
            value = line.get(name)
            if isinstance(kind, type) and isinstance(value, kind) and (name != "verdict" or value in VERDICTS):
                continue
            if isinstance(kind, Mapping) and isinstance(value, Mapping):
                self._require(value, kind, number)
                continue
            self._fail(name, number)

    def _fail(self, name: str, number: int) -> NoReturn:
        raise CommandError(f"{self.path} line {number} has no {name} as docs/schema.json describes it: judge again")


def _only_caller(target: Mapping[str, Json]) -> list[dict[str, Json]]:
    """Return the callers of a run by an earlier suite, which had one, and its option in `again`; none if it has no word."""
    name, word = target.get("caller", "python"), target.get("word")
    return [] if word is None else [{"name": name, "word": word, "gates": [], "options": []}]


def read(where: Path) -> Results:
    """Return the results of a run, with all of its checks: of a report directory, or of its results.jsonl."""
    file = ResultsFile(where)
    checks = list(file.checks())
    return Results(file.run, file.behaviours, checks, file.counts)


def keys_of(where: Path) -> list[Key]:
    """Return the keys of the checks of a run, of any suite version. Raises CommandError: its file is damaged."""
    path = _file(where, RESULTS)
    try:
        return [Key.of_json(line) for line in _lines(path) if line["type"] == "check"]
    except KeyError as error:
        raise CommandError(f"{path} has a check without {error}: judge again") from error


def evidence(directory: Path, wanted: set[int]) -> dict[int, dict[str, Json]]:
    """Return the lines of evidence.jsonl with these numbers, by `seq`."""
    if not wanted:
        return {}
    return {line["seq"]: line for line in evidence_lines(directory) if line["seq"] in wanted}


def evidence_lines(directory: Path) -> Iterator[dict[str, Json]]:
    """Yield the lines of evidence.jsonl. Raises CommandError: it is damaged."""
    path = _file(directory, EVIDENCE)
    for number, line in enumerate(_lines(path), 1):
        if not isinstance(line.get("seq"), int):
            raise CommandError(f"{path} line {number} has no seq: judge again")
        yield line


def _file(where: Path, name: str) -> Path:
    """Return a file of a directory, the unpacked one where only that is there; or `where` itself, if it is a file."""
    if not where.is_dir():
        return where
    packed, unpacked = where / name, where / name.removesuffix(".gz")
    return unpacked if unpacked.exists() and not packed.exists() else packed


def _lines(path: Path) -> Iterator[dict[str, Json]]:
    number = 0
    try:
        with open_regular(path) as raw, _unpacked(raw) as file:
            while text := file.readline(_LONGEST_LINE):
                number += 1
                yield _line(path, number, text)
    except EOFError as error:
        raise CommandError(f"{path} is cut off after line {number}: judge again") from error
    except (gzip.BadGzipFile, zlib.error, UnicodeDecodeError) as error:
        if f"({_GZIP[:1]!r})" in str(error):
            # Of a further member there is the first byte alone.
            raise CommandError(f"{path} is cut off after line {number}: judge again") from error
        raise CommandError(f"{path} is damaged after line {number} ({error}): judge again") from error
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}; name a report directory") from error


def _unpacked(raw: io.BufferedReader) -> IO[str]:
    packed = raw.peek(len(_GZIP))[: len(_GZIP)] == _GZIP
    return io.TextIOWrapper(gzip.GzipFile(fileobj=raw) if packed else raw, encoding="utf-8")


def _is_value(value: Json) -> bool:
    """Return True for a value as expected and actual ones are: bytes are {"bytes": hex}."""
    if isinstance(value, list):
        return all(map(_is_value, value))
    if not isinstance(value, dict):
        return True
    if set(value) != {"bytes"}:
        return all(map(_is_value, value.values()))
    return isinstance(value["bytes"], str) and _HEX.fullmatch(value["bytes"]) is not None


def _line(path: Path, number: int, text: str) -> dict[str, Json]:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{path} line {number} is cut off or not JSON: judge again") from error
    if not isinstance(line, dict) or not isinstance(line.get("type"), str):
        raise CommandError(f"{path} line {number} has no type: it is not a file of a run")
    return line
