"""Several runs side by side: what each target answered for each behaviour, and the causes of what does not conform."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

from probes.errors import CommandError
from probes.report.check import NOT_CONFORMING, VERDICTS, Check, Json
from probes.report.formats.html import shown_check
from probes.report.judged_test import Statement
from probes.report.reader import EVIDENCE, ResultsFile, evidence

#: How a cell shows a verdict, beside its colour, and which of several it shows first.
MARKS = {"deviates": "✘", "broke": "!", "lost": "?", "not_run": "…", "not_applicable": "n/a", "conforms": "✔"}
#: Bytes of examples in full on a page, shared by its targets, and what one takes at most times.
_EXAMPLES, _EXAMPLE = 7_000_000, 1_600
#: Evidence by which the cause of a group without an example is found: the last lines that its check rests on.
_LAST = 2
#: Names for the answers of a behaviour on which targets do not agree.
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass
class Group:
    """Counts checks of a behaviour that do not conform, with one verdict and one answer; `check` is the first of them.

    `cause` groups them further, across behaviours; `text` is the first in full, "" where the page has no room.
    """

    check: Check
    count: int = 0
    cause: str = ""
    text: str = ""


@dataclass
class Column:
    """Holds one run: its name and facts, and of each behaviour the checks by verdict, the groups, and what it answered."""

    name: str
    facts: dict[str, str]
    identity: tuple[str, ...] = ()
    cells: dict[str, Counter[str]] = field(default_factory=dict)
    behaviours: dict[str, Statement] = field(default_factory=dict)
    groups: dict[str, list[Group]] = field(default_factory=dict)
    answers: dict[str, set[int]] = field(default_factory=dict)

    @property
    def counts(self) -> Counter[str]:
        """Return the checks by verdict."""
        return sum(self.cells.values(), Counter[str]())

    @property
    def left_out(self) -> int:
        """Return the number of groups that have no example in full and would have one if there were room."""
        return sum(
            one.check.verdict in NOT_CONFORMING and not one.text for found in self.groups.values() for one in found
        )

    def worst(self, behaviour: str) -> str:
        """Return the verdict that a cell shows, "" if the run has no check of the behaviour."""
        cell = self.cells.get(behaviour, Counter())
        return next((verdict for verdict in MARKS if cell[verdict]), "")

    def answer(self, behaviour: str) -> frozenset[int] | None:
        """Return what a target answered that does not conform, empty if nothing; None if nothing was judged."""
        cell = self.cells.get(behaviour, Counter())
        judged = any(cell[verdict] for verdict in ("conforms", *NOT_CONFORMING))
        return frozenset(self.answers.get(behaviour, ())) if judged else None


def column(where: Path, targets: Iterable[str], of: int = 1) -> Column:
    """Read a run, one of so many. Raises CommandError: it is damaged, cut off, of another schema, or of no known target."""
    results = ResultsFile(where)
    run, target = results.run, results.run["target"]
    if target["name"] not in targets:
        raise CommandError(f"{results.path}: there is no target {target['name']!r}; see `socketcall target list`")
    made = Column(_name(run), _facts(run))
    found: dict[tuple[object, ...], Group] = {}
    digest = 0
    for check in results.checks():
        made.cells.setdefault(check.key.id, Counter())[check.verdict] += 1
        digest = crc32(f"{check.key} {check.verdict}".encode(), digest)
        if check.verdict != "conforms":
            said = hash((check.verdict, repr(check.expected), repr(check.actual)))
            # What a deviation says besides is the machine's: the number of a request, a path.
            alike = (check.key.id, said, "" if check.verdict == "deviates" else check.detail, check.known)
            group = found.get(alike)
            if group is None:
                group = found[alike] = Group(check)
                made.groups.setdefault(check.key.id, []).append(group)
            group.count += 1
            if check.verdict in NOT_CONFORMING:
                # Gate and word are the caller's: two targets may have different ones.
                made.answers.setdefault(check.key.id, set()).add(hash((check.key.case, check.key.route, said)))
    made.behaviours = results.behaviours
    made.identity = (target["name"], target["implementation"], run["started"], str(run["seed"]), str(digest))
    _explain(made, results, _EXAMPLES // of)
    return made


def _explain(made: Column, results: ResultsFile, room: int) -> None:
    """Find the cause of each group, and write examples in full of as many as there is room for."""
    wrong = [group for group in _by_turns(made.groups.values()) if group.check.verdict in NOT_CONFORMING]
    most = room // _EXAMPLE
    wanted = {seq for group in wrong[:most] for seq in group.check.seq}
    wanted |= {seq for group in wrong[most:] for seq in group.check.seq[-_LAST:]}
    lines = _evidence(results.path, wanted)
    for number, group in enumerate(wrong):
        shown = shown_check(group.check, results, lines)
        group.cause = shown["cause"]
        text = shown["text"] + (f"\n  known     {shown['known']}" if shown["known"] else "")
        room -= len(text)
        if number < most and room >= 0:
            group.text = text
    for group in (group for groups in made.groups.values() for group in groups if not group.cause):
        group.cause = f"{group.check.verdict.replace('_', ' ')}: {' '.join(group.check.detail.split())}"


def _by_turns(groups: Iterable[Sequence[Group]]) -> Iterator[Group]:
    """Yield the first group of each behaviour, then the second of each, …: no behaviour is without an example."""
    left = [iter(found) for found in groups]
    while left:
        again = []
        for found in left:
            for group in found:
                yield group
                again.append(found)
                break
        left = again


def _evidence(path: Path, wanted: set[int]) -> Mapping[int, Mapping[str, Json]]:
    """Return evidence that lies beside a file of results; none for a file that was copied alone. Raises CommandError."""
    beside = (path.with_name(EVIDENCE), path.with_name(EVIDENCE.removesuffix(".gz")))
    return evidence(path.parent, wanted) if any(file.exists() for file in beside) else {}


def _name(run: Mapping[str, Json]) -> str:
    target = run["target"]
    kernel = target["kernel"]["release"]
    if target["implementation"] == "linux":
        return f"linux {kernel}" if target["name"] == "local" else f"linux {kernel} ({target['name']})"
    return str(target["implementation"])


def _facts(run: Mapping[str, Json]) -> dict[str, str]:
    target = run["target"]
    callers = ", ".join(f"{one['word']}-bit {one['name']} ({' '.join(one['gates'])})" for one in target["callers"])
    return {
        "target": target["name"], "implementation": target["implementation"], "callers": callers,
        "kernel": f"{target['kernel']['release']} {target['kernel']['machine']}", "judged against": run["reference"],
        "privileges": target["privileges"], "started": run["started"],
        "suite": f"{run['suite_version']}, seed {run['seed']}",
    }  # fmt: skip


#: What distinguishes runs of one name, in this order: each is added where those before leave two alike.
_APART: tuple[Callable[[Mapping[str, str]], str], ...] = (
    lambda facts: f"({facts['target']})",
    lambda facts: facts["started"][:16].replace("T", " "),
    lambda facts: f"against {facts['judged against']}",
    lambda facts: facts["started"][11:19],
    lambda facts: facts["callers"],
    lambda facts: facts["suite"].rpartition(", ")[2],
)


def _distinguish(columns: Sequence[Column]) -> None:
    """Give columns of one name longer names, each its own."""
    for distinct in _APART:
        for alike in _alike(columns):
            if len({distinct(one.facts) for one in alike}) > 1:
                for one in alike:
                    more = distinct(one.facts)
                    one.name += f" {more}" if more.startswith("(") else f", {more}"
    for alike in _alike(columns):
        for number, one in enumerate(alike, 1):
            one.name += f", {number}"


def _alike(columns: Sequence[Column]) -> list[list[Column]]:
    names: dict[str, list[Column]] = {}
    for one in columns:
        names.setdefault(one.name, []).append(one)
    return [found for found in names.values() if len(found) > 1]


class Matrix:
    """Holds the columns, with distinct names, and the behaviours of all of them."""

    def __init__(self, columns: Sequence[Column]) -> None:
        """Take the columns. Raises CommandError: two are of one run."""
        seen: set[tuple[str, ...]] = set()
        for one in columns:
            if one.identity in seen:
                raise CommandError(
                    f"the results of {one.name} of {one.facts['started']} are given twice; give each run once"
                )
            seen.add(one.identity)
        _distinguish(columns)
        self.columns = columns
        self.behaviours: dict[str, Statement] = {}
        for one in columns:
            self.behaviours |= one.behaviours | {
                id: Statement(id, "", "") for id in one.cells if id not in one.behaviours
            }
        self.behaviours = dict(sorted(self.behaviours.items()))

    def answers(self, id: str) -> list[str]:
        """Return a letter for each target, the same for those that answered the same, "" for what conforms or is not judged.

        All are "" where all that do not conform answered the same.
        """
        given = [one.answer(id) for one in self.columns]
        letters = {answer: "" for answer in given if not answer}
        wrong = [answer for answer in dict.fromkeys(given) if answer]
        for number, answer in enumerate(wrong):
            letters[answer] = _LETTERS[number % len(_LETTERS)] if len(wrong) > 1 else ""
        return [letters[answer] for answer in given]

    def differs(self, id: str) -> bool:
        """Return True if the targets on which the behaviour was judged did not all answer the same."""
        return len({answer for one in self.columns if (answer := one.answer(id)) is not None}) > 1

    def causes(self) -> dict[tuple[str, str], list[int]]:
        """Return the checks of each cause on each target, by verdict and text, the most frequent cause first."""
        found: dict[tuple[str, str], list[int]] = {}
        for at, one in enumerate(self.columns):
            for group in (group for groups in one.groups.values() for group in groups):
                counts = found.setdefault((group.check.verdict, group.cause), [0] * len(self.columns))
                counts[at] += group.count
        return dict(sorted(found.items(), key=lambda item: (list(MARKS).index(item[0][0]), -sum(item[1]))))

    def data(self) -> dict[str, Json]:
        """Return what the page needs: groups are [cause, checks, example], by number, -1 for no example."""
        numbers = {cause: number for number, cause in enumerate(self.causes())}
        texts: dict[str, int] = {}
        columns = [
            {
                "name": one.name, "facts": one.facts, "counts": {name: one.counts[name] for name in VERDICTS},
                "left_out": one.left_out, "wrong": sum(one.worst(id) in NOT_CONFORMING for id in one.cells),
            }
            for one in self.columns
        ]  # fmt: skip
        rows = [
            {
                "id": id, "statement": this.statement, "source": this.source, "tag": this.tag,
                "differs": self.differs(id), "answers": self.answers(id),
                "cells": [dict(one.cells.get(id, {})) for one in self.columns],
                "groups": [
                    [
                        [
                            numbers[group.check.verdict, group.cause], group.count,
                            texts.setdefault(group.text, len(texts)) if group.text else -1,
                        ]
                        for group in one.groups.get(id, ())
                    ]
                    for one in self.columns
                ],
            }
            for id, this in self.behaviours.items()
        ]  # fmt: skip
        causes = [list(cause) for cause in numbers]
        return {"marks": MARKS, "columns": columns, "rows": rows, "causes": causes, "texts": list(texts)}
