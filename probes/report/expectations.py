"""What an implementation is known to get wrong: --expect, and what may be missing: --require."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from probes.errors import CommandError
from probes.report.failure import value


@dataclass
class Line:
    """A line of a file: which behaviours, which cases, why. `checks` and `deviations` count what it matched."""

    number: int
    id: str
    case: str
    reason: str
    checks: int = 0
    deviations: int = 0


class ExpectedDeviations:
    """A list of known deviations: lines `ID-GLOB | CASE-GLOB | reason`, with # for remarks.

    A deviation that a line matches does not fail the run. A line of whose checks none deviates any more does.
    """

    def __init__(self, path: Path, texts: list[str] | None = None) -> None:
        """`texts` are the lines of a file that is elsewhere. Raises CommandError: unreadable, or a line that is none."""
        self.path, self.texts = path, _read(path) if texts is None else texts
        self.lines: list[Line] = []
        for number, text in enumerate(self.texts, 1):
            if not text.strip() or text.lstrip().startswith("#"):
                continue
            fields = [part.strip() for part in text.split("|", 2)]
            if len(fields) != 3 or not fields[0] or not fields[2]:
                raise CommandError(f"{path} line {number}: {text.strip()!r} is not `ID-GLOB | CASE-GLOB | reason`")
            self.lines.append(Line(number, fields[0], fields[1], fields[2]))

    def reason(self, check: Mapping[str, Any]) -> str | None:
        """Why a deviation is known, None if it is not."""
        return next((line.reason for line in self._matching(check)), None)

    def count(self, check: Mapping[str, Any]) -> None:
        """Takes note of a check of the run."""
        for line in self._matching(check):
            line.checks += 1
            line.deviations += check["verdict"] == "deviates"

    def hold_against(self, ids: Iterable[str]) -> None:
        """Raises CommandError for a line about a behaviour that does not exist."""
        known = list(ids)
        for line in self.lines:
            if not fnmatch.filter(known, line.id):
                raise CommandError(f"{self.path} line {line.number}: no behaviour matches {line.id!r}")

    def unmatched(self, ids: Iterable[str]) -> list[Line]:
        """The lines that matched no check although a behaviour of theirs was judged: their cases do not exist."""
        judged = list(ids)
        return [line for line in self.lines if not line.checks and fnmatch.filter(judged, line.id)]

    def stale(self) -> list[Line]:
        """The lines of whose checks none deviates."""
        return [line for line in self.lines if line.checks and not line.deviations]

    def _matching(self, check: Mapping[str, Any]) -> list[Line]:
        return [
            line
            for line in self.lines
            if fnmatch.fnmatchcase(check["id"], line.id) and fnmatch.fnmatchcase(check["case"], line.case or "*")
        ]


def written(checks: Iterable[Mapping[str, Any]]) -> str:
    """The list of a run's deviations, for --write-expect."""
    lines = dict.fromkeys(
        f"{check['id']} | {check['case']} | actual {' '.join(value(check['actual']).split())}" for check in checks
    )
    return "# ID-GLOB | CASE-GLOB | reason\n" + "".join(f"{line}\n" for line in lines)


@dataclass
class Expectations:
    """What a run was told to expect: known deviations, what may be missing, where to write what deviates.

    `required`: id globs that may be not applicable, None if everything may.
    """

    known: ExpectedDeviations | None
    required: list[str] | None
    write: Path | None
    deviating: list[Mapping[str, Any]] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    judged: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, expect: str | None, require: str | None, write: str | None) -> Expectations:
        """From the options. Raises CommandError for a file that cannot be read, or folder that cannot be written."""
        if write and not Path(write).absolute().parent.is_dir():
            raise CommandError(f"--write-expect: there is no folder {Path(write).absolute().parent}; make it first")
        known = ExpectedDeviations(Path(expect)) if expect else None
        globs = None
        if require is not None:
            lines = _read(Path(require)) if require else []
            globs = [text for line in lines if (text := line.partition("#")[0].strip())]
        return cls(known, globs, Path(write) if write else None)

    def mark(self, checks: Iterable[dict[str, Any]]) -> None:
        """Writes into deviations that are known why they are."""
        for check in checks:
            if check["verdict"] == "deviates" and self.known is not None and (reason := self.known.reason(check)):
                check["known"] = reason

    def count(self, check: Mapping[str, Any]) -> None:
        """Takes note of a check of the run."""
        if check["verdict"] in ("conforms", "deviates"):
            self.judged.add(check["id"])
        if self.known is not None:
            self.known.count(check)
        if check["verdict"] == "deviates":
            self.deviating.append(check)
        elif check["verdict"] == "not_applicable" and not self._may_be_missing(check["id"]):
            self.missing.setdefault(check["id"], check["detail"])

    def _may_be_missing(self, id: str) -> bool:
        return self.required is None or any(fnmatch.fnmatchcase(id, glob) for glob in self.required)

    def finish(self) -> tuple[int, list[str]]:
        """Writes the list if it is wanted, and tells what else is wrong with the run: an exit status and lines."""
        if self.write is not None:
            self.write.write_text(written(self.deviating), encoding="utf-8")
        status, lines = 0, []
        for id, detail in sorted(self.missing.items()):
            status = 3
            lines.append(f"--require: {id} is not applicable: {detail}")
        if self.known is not None:
            for line in self.known.stale():
                status = 1
                lines.append(f"{self.known.path} line {line.number}: nothing deviates there any more; remove the line")
            for line in self.known.unmatched(self.judged):
                status = 2
                lines.append(f"{self.known.path} line {line.number}: no check has a case like {line.case!r}")
        return status, lines


def _read(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise CommandError(f"cannot read {path}: {why}") from error
