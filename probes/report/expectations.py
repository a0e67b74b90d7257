"""What a run is expected to show: the deviations of --expect, what --require lets be missing, --write-expect."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from probes.errors import CommandError, no_behaviour
from probes.report.check import NOT_CONFORMING, Check
from probes.report.failure import value
from probes.report.regular import lines_of as lines_of_file

#: The first line of a file that --write-expect writes, and the most characters of a reason there.
_HEAD = "# ID-GLOB | CASE-GLOB | reason\n"
_REASON_SHOWN = 100


@dataclass
class ExpectedLine:
    """A line of an --expect file: globs of ids and cases, a reason; and how many checks and deviations it matched."""

    number: int
    id: str
    case: str
    reason: str
    checks: int = 0
    deviations: int = 0


class ExpectedDeviations:
    """The known deviations of an implementation: lines `ID-GLOB | CASE-GLOB | reason`, with # for comments.

    A deviation that a line matches does not fail the run. The run fails if a line no longer matches any deviation
    although checks that it matches were judged (stale entry).
    """

    def __init__(self, path: Path, texts: Sequence[str] | None = None) -> None:
        """Parses a file, or `texts`, the lines of a file on another machine. Raises CommandError."""
        self.path, self.texts = path, lines_of_file(path) if texts is None else list(texts)
        self.lines: list[ExpectedLine] = []
        for number, text in enumerate(self.texts, 1):
            if not text.strip() or text.lstrip().startswith("#"):
                continue
            fields = [part.strip() for part in text.split("|", 2)]
            if len(fields) != 3 or not fields[0] or not fields[2]:
                raise CommandError(f"{path} line {number}: {text.strip()!r} is not `ID-GLOB | CASE-GLOB | reason`")
            self.lines.append(ExpectedLine(number, fields[0], fields[1], fields[2]))

    def reason(self, check: Check) -> str | None:
        """Return the reason of the first line that matches, None if no line does."""
        return next((line.reason for line in self._matching(check)), None)

    def count(self, check: Check) -> None:
        """Count a check of the run for the lines that match it."""
        for line in self._matching(check):
            line.checks += 1
            line.deviations += check.verdict in NOT_CONFORMING

    def require_ids(self, ids: Iterable[str]) -> None:
        """Raise CommandError for a line that names no behaviour of the catalogue."""
        known = list(ids)
        for line in self.lines:
            if not fnmatch.filter(known, line.id):
                raise CommandError(f"{self.path} line {line.number}: {no_behaviour(line.id, known)}")

    def unmatched(self, ids: Iterable[str]) -> list[ExpectedLine]:
        """Return the lines that matched no check although a behaviour of theirs was judged: no such case exists."""
        judged = list(ids)
        return [line for line in self.lines if not line.checks and fnmatch.filter(judged, line.id)]

    def stale(self) -> list[ExpectedLine]:
        """Return the lines that matched checks, none of which deviates."""
        return [line for line in self.lines if line.checks and not line.deviations]

    def _matching(self, check: Check) -> list[ExpectedLine]:
        id, case = check.key.id, check.key.case
        return [
            line
            for line in self.lines
            if fnmatch.fnmatchcase(id, line.id) and fnmatch.fnmatchcase(case, line.case or "*")
        ]


def _reason(check: Check) -> str:
    """Returns what the line of an --expect file says of a check."""
    said = f"actual {value(check.actual)}" if check.verdict == "deviates" else f"{check.verdict}: {check.detail}"
    words = " ".join(said.split())
    return words if len(words) <= _REASON_SHOWN else words[: _REASON_SHOWN - 1] + "…"


@dataclass
class Expectations:
    """What --expect, --require and --write-expect ask of a run.

    `required` holds the id globs that may be not applicable, None if every behaviour may.
    """

    known: ExpectedDeviations | None = None
    required: list[str] | None = None
    write: Path | None = None
    #: The lines that --write-expect writes, in the order of the run: reasons by id and case, which over several routes and
    #: gates are one line.
    deviating: dict[tuple[str, str], str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    judged: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, expect: str | None, require: str | None, write: str | None) -> Expectations:
        """Read the files of the options. Raises CommandError: unreadable file, or no directory to write to."""
        if write and not Path(write).absolute().parent.is_dir():
            raise CommandError(f"--write-expect: there is no directory {Path(write).absolute().parent}; make it first")
        if write and Path(write).is_dir():
            raise CommandError(f"--write-expect: {write} is a directory; name a file")
        known = ExpectedDeviations(Path(expect)) if expect else None
        globs = None
        if require is not None:
            lines = lines_of_file(Path(require)) if require else []
            globs = [text for line in lines if (text := line.partition("#")[0].strip())]
        return cls(known, globs, Path(write) if write else None)

    def mark(self, checks: Iterable[Check]) -> None:
        """Set `known` of what --expect lists: checks that deviate, broke or were lost."""
        for check in checks:
            if check.verdict in NOT_CONFORMING and self.known is not None:
                check.known = self.known.reason(check)

    def count(self, check: Check) -> None:
        """Count a check of the run."""
        if check.verdict in ("conforms", "deviates"):
            self.judged.add(check.key.id)
        if self.known is not None:
            self.known.count(check)
        if check.verdict in NOT_CONFORMING:
            if self.write is not None:
                self.deviating.setdefault((check.key.id, check.key.case), _reason(check))
        elif check.verdict == "not_applicable" and not self._may_be_missing(check.key.id):
            self.missing.setdefault(check.key.id, check.detail)

    def _may_be_missing(self, id: str) -> bool:
        return self.required is None or any(fnmatch.fnmatchcase(id, glob) for glob in self.required)

    def finish(self) -> tuple[int, list[str]]:
        """Write the list that --write-expect asks for; return an exit status and the lines that explain it."""
        if self.write is not None:
            lines = [f"{id} | {case} | {reason}\n" for (id, case), reason in self.deviating.items()]
            self.write.write_text(_HEAD + "".join(lines), encoding="utf-8")
        status, lines = 0, list[str]()
        for id, detail in sorted(self.missing.items()):
            status = 3
            lines.append(f"--require: {id} is not applicable: {detail}")
        if self.known is not None:
            for line in self.known.stale():
                status = 1
                lines.append(f"{self.known.path} line {line.number}: it matches no deviation any more; remove the line")
            for line in self.known.unmatched(self.judged):
                status = 2
                lines.append(f"{self.known.path} line {line.number}: no check has a case like {line.case!r}")
        return status, lines
