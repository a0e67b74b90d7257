"""Several runs side by side: what each target answered for each behaviour, and the causes of what does not conform."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from probes.errors import CommandError
from probes.report.check import VERDICTS, Check, Json
from probes.report.formats.html import shown_check
from probes.report.judged_test import Statement
from probes.report.reader import EVIDENCE, ResultsFile, evidence

#: Verdicts that have an example in full.
_WRONG = ("deviates", "broke", "lost")
#: Examples in full of one target: the first check of each cause in each behaviour, so many at most.
_EXAMPLES = 250
#: How a cell shows a verdict, beside its colour, and which of several it shows first.
MARKS = {"deviates": "✘", "broke": "!", "lost": "?", "not_run": "…", "not_applicable": "n/a", "conforms": "✔"}


@dataclass
class Example:
    """Is a check that does not conform: its cause, its key, and its text with the evidence."""

    behaviour: str
    verdict: str
    cause: str
    key: str
    text: str
    #: Checks of the behaviour that were expected to give the same and gave the same.
    count: int = 1


@dataclass
class Column:
    """Holds one run: its name and facts, the checks of each behaviour by verdict, and examples of what is wrong."""

    name: str
    facts: dict[str, str]
    identity: tuple[str, ...]
    cells: dict[str, Counter[str]] = field(default_factory=dict)
    behaviours: dict[str, Statement] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)
    #: Groups of wrong checks that have no example in full.
    left_out: int = 0

    @property
    def counts(self) -> Counter[str]:
        """Return the checks by verdict."""
        return sum(self.cells.values(), Counter[str]())

    def worst(self, behaviour: str) -> str:
        """Return the verdict that a cell shows, "" if the run has no check of the behaviour."""
        cell = self.cells.get(behaviour, Counter())
        return next((verdict for verdict in MARKS if cell[verdict]), "")


def column(where: Path, targets: Iterable[str]) -> Column:
    """Read a run. Raises CommandError: it is damaged, cut off, of another schema, or of a target that is none of these."""
    results = ResultsFile(where)
    run, target = results.run, results.run["target"]
    if target["name"] not in targets:
        raise CommandError(f"{results.path}: there is no target {target['name']!r}; see `socketcall target list`")
    made = Column(_name(run), _facts(run), (target["name"], target["implementation"], run["started"], str(run["seed"])))
    groups: dict[tuple[str, ...], list[Check]] = {}
    for check in results.checks():
        made.cells.setdefault(check.key.id, Counter())[check.verdict] += 1
        if check.verdict in _WRONG:
            alike = (check.key.id, check.verdict, repr(check.expected), repr(check.actual), check.detail)
            group = groups.setdefault(alike, [])
            # The first is the example; of the others the number is enough.
            group.append(check if not group else group[0])
    made.behaviours = results.behaviours
    chosen = [*groups.values()][:_EXAMPLES]
    made.left_out = len(groups) - len(chosen)
    lines = _evidence(results.path, {seq for group in chosen for seq in group[0].seq})
    for group in chosen:
        found = shown_check(group[0], results, lines)
        verdict, cause = group[0].verdict, found["cause"]
        made.examples.append(Example(group[0].key.id, verdict, cause, found["key"], found["text"], len(group)))
    return made


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


class Matrix:
    """Holds the columns, with distinct names, and the behaviours of all of them."""

    def __init__(self, columns: Sequence[Column]) -> None:
        """Take the columns. Raises CommandError: two are of one run."""
        seen: dict[tuple[str, ...], Column] = {}
        names = Counter(one.name for one in columns)
        for one in columns:
            if one.identity in seen:
                raise CommandError(
                    f"the results of {one.name} of {one.facts['started']} are given twice; give each run once"
                )
            seen[one.identity] = one
            if names[one.name] > 1:
                one.name += f", {one.facts['started'][:16].replace('T', ' ')}"
        self.columns = columns
        self.behaviours: dict[str, Statement] = {}
        for one in columns:
            self.behaviours |= one.behaviours | {
                id: Statement(id, "", "") for id in one.cells if id not in one.behaviours
            }
        self.behaviours = dict(sorted(self.behaviours.items()))

    def differs(self, id: str) -> bool:
        """Return True if the targets that have the behaviour do not all show the same verdict."""
        return len({verdict for one in self.columns if (verdict := one.worst(id))}) > 1

    def data(self) -> dict[str, Json]:
        """Return what the page needs, each text once."""
        return {
            "marks": MARKS,
            "columns": [
                {
                    "name": one.name, "facts": one.facts, "counts": {name: one.counts[name] for name in VERDICTS},
                    "left_out": one.left_out,
                    "wrong": sum(one.worst(id) in _WRONG for id in one.cells),
                    "examples": [vars(example) for example in one.examples],
                }
                for one in self.columns
            ],
            "rows": [
                {
                    "id": id, "statement": this.statement, "source": this.source, "tag": this.tag,
                    "differs": self.differs(id),
                    "cells": [dict(one.cells.get(id, {})) for one in self.columns],
                }
                for id, this in self.behaviours.items()
            ],
        }  # fmt: skip

    def markdown(self) -> str:
        """Return the table of the behaviours whose verdicts differ, or that do not conform on any target."""
        names = [one.name.replace("|", "\\|") for one in self.columns]
        lines = ["| behaviour | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
        totals = [self._total(one) for one in self.columns]
        lines.append("| **checks: conforming of all** | " + " | ".join(totals) + " |")
        for id in self.behaviours:
            worst = [one.worst(id) for one in self.columns]
            if self.differs(id) or not {"conforms", "not_applicable", ""}.issuperset(worst):
                cells = [_cell(one.cells.get(id, Counter()), one.worst(id)) for one in self.columns]
                lines.append(f"| {id} | " + " | ".join(cells) + " |")
        return "\n".join(lines) + "\n"

    @staticmethod
    def _total(one: Column) -> str:
        counts = one.counts
        return f"{counts['conforms']} of {counts.total()}"


def _cell(counts: Mapping[str, int], worst: str) -> str:
    if not worst:
        return ""
    number, of = counts[worst], sum(counts.values())
    return f"{MARKS[worst]} {number}" if number == of else f"{MARKS[worst]} {number} of {of}"
