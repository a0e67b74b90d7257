"""matrix.md: a Markdown table of the behaviours on which targets differ or do not conform, by folder, and of the causes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from probes.report.check import NOT_CONFORMING, VERDICTS
from probes.report.matrix import MARKS, Matrix

#: The most causes in the table: the page has all.
_CAUSES = 200


def text(matrix: Matrix) -> str:
    """Returns the document."""
    names = [one.name for one in matrix.columns]
    lines = [f"# i386 socket calls on {len(names)} targets", ""]
    lines += _table(["checks", *names], [
        [verdict.replace("_", " "), *(str(one.counts[verdict]) for one in matrix.columns)] for verdict in VERDICTS
    ])  # fmt: skip
    lines += [
        "",
        "A cell has the verdict of a target and the number of such checks. Targets with one letter answered alike.",
    ]
    folder = ""
    for id in matrix.behaviours:
        worst = [one.worst(id) for one in matrix.columns]
        if not matrix.differs(id) and not set(NOT_CONFORMING) & set(worst):
            continue
        if (name := id.partition(".")[0]) != folder:
            folder = name
            lines += ["", f"## {_escaped(folder)}", "", *_table(["behaviour", *names], [])]
        cells = [
            _cell(one.cells.get(id, {}), verdict, letter)
            for one, verdict, letter in zip(matrix.columns, worst, matrix.answers(id), strict=True)
        ]
        lines += _rows([[id, *cells]])
    causes = [(cause, counts) for cause, counts in matrix.causes().items() if cause[0] in NOT_CONFORMING]
    lines += ["", "## Causes", ""]
    if not causes:
        lines.append("None: every check that could be made conforms.")
    else:
        lines += _table(["cause", *names], [
            [name, *(str(count or "") for count in counts)] for (_, name), counts in causes[:_CAUSES]
        ])  # fmt: skip
    if len(causes) > _CAUSES:
        lines += ["", f"{len(causes) - _CAUSES} more are in matrix.html."]
    return "\n".join(lines) + "\n"


def _cell(counts: Mapping[str, int], worst: str, letter: str) -> str:
    if not worst:
        return ""
    number, of = counts[worst], sum(counts.values())
    return " ".join(filter(None, [MARKS[worst], f"{number}" if number == of else f"{number} of {of}", letter]))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [*_rows([head]), "|" + "---|" * len(head), *_rows(rows)]


def _rows(rows: Iterable[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(map(_escaped, row)) + " |" for row in rows]


def _escaped(text: str) -> str:
    """Returns text in which Markdown and HTML find nothing of theirs."""
    return re.sub(r"([\\`*_<>\[\]|&~#])", r"\\\1", " ".join(text.split()))
