"""Stores what genuine kernels answered where they differ.

    python -m tools.stored_runs [--held-against | --add] REPORT…

Takes the reports of whole runs on genuine kernels, stores of each what stands on a cited difference as
docs/references/ABI-VERSION.json, and writes docs/differences.md from all stored runs: a value for each kernel. A
difference that no two stored kernels show is unmeasured. With --add the reports have some behaviours only: what is stored
of the others, and the counts of the last whole run, stay.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path

from probes.errors import CommandError
from probes.installation import checkout
from probes.report.check import Check
from probes.report.failure import value
from probes.report.reader import Results, read
from probes.report.references import Answer, StoredRun, directory, stored, version_numbers
from probes.testing.reference import Reference, version_of
from tools.command import run


def page() -> Path:
    """Return the path of the page that is written from the stored runs."""
    return checkout() / "docs" / "differences.md"


def kernel_of(results: Results) -> str:
    """Return which genuine kernel answered. Raises CommandError: the run was judged against another."""
    target, judged = results.run["target"], results.run["reference"]
    kernel = str(Reference(target["abi"], version_of(target["kernel"]["release"], target["kernel"]["version"])))
    if not f"{kernel}.".startswith(f"{judged}."):
        raise CommandError(f"a run on {kernel} was judged against {judged}: leave out --reference")
    return kernel


def combined(reports: Iterable[Results]) -> dict[str, StoredRun]:
    """Return what is stored of each kernel. A later report replaces what an earlier one has of a behaviour and word."""
    kernels, checks = dict[str, Mapping[str, str]](), dict[str, dict[tuple[str, int], list[Check]]]()
    for results in reports:
        name, target = kernel_of(results), results.run["target"]
        kernels[name] = {
            "release": _release(target["kernel"]),
            "machine": target["kernel"]["machine"],
            "abi": target["abi"],
        }
        by_id: dict[tuple[str, int], list[Check]] = {}
        for check in results.checks:
            by_id.setdefault((check.key.id, check.key.word), []).append(check)
        checks.setdefault(name, {}).update(by_id)
    return {
        name: stored_run(name, kernel, [check for found in checks[name].values() for check in found])
        for name, kernel in kernels.items()
    }


def _release(kernel: Mapping[str, str]) -> str:
    """Return the distribution's name of its kernel; of a kernel built by hand the version alone."""
    return kernel["release"] if "Debian" in kernel["version"] else kernel["release"].partition("-")[0]


def stored_run(reference: str, kernel: Mapping[str, str], checks: Sequence[Check]) -> StoredRun:
    """Return what is stored of a kernel: counts, and the answer of each case with a difference.

    Raises CommandError: something deviates, or routes, gates or word sizes disagree.
    """
    answers: dict[str, Answer] = {}
    for check in checks:
        name = f"{check.key.id} {check.key.case}".strip()
        if check.verdict not in ("conforms", "not_applicable"):
            raise CommandError(f"{name} {check.verdict} on {reference}: that is no reference")
        if check.difference is None or check.verdict != "conforms":
            continue
        of_entry = "i386" in check.difference
        # A 64-bit process exists on one of the two entries only.
        if of_entry and check.key.word == 64:
            continue
        answer = Answer(check.difference["cite"], check.actual, "entry" if of_entry else "version")
        if answers.setdefault(name, answer) != answer:
            raise CommandError(f"{name} on {reference}: routes, gates or word sizes disagree; give them a case each")
    counts = Counter(check.verdict for check in checks)
    return StoredRun(reference, kernel, dict(sorted(counts.items())), answers)


def added(before: StoredRun, later: StoredRun, judged: Set[str]) -> StoredRun:
    """Return a stored run with the answers of a later one.

    Of the behaviours that this `judged` whole the earlier answers go, also where none differs any more. Where it judged in
    part they stay: an agent alone, or a kernel without some protocol, cannot make every check.
    """
    kept = {name: answer for name, answer in before.answers.items() if name.partition(" ")[0] not in judged}
    return replace(before, answers=dict(sorted({**kept, **later.answers}.items())))


def text(runs: Sequence[StoredRun]) -> str:
    """Return docs/differences.md."""
    heads = [one.reference for one in runs]
    lines = [
        "# Differences between genuine kernels",
        "",
        "Written by `python -m tools.stored_runs` from the runs stored in `docs/references/`; do not edit it.",
        "",
        "| kernel | release | conform | not applicable |",
        "|---|---|--:|--:|",
    ]
    for one in runs:
        counts = [one.counts.get(verdict, 0) for verdict in ("conforms", "not_applicable")]
        lines.append(f"| {' | '.join(map(str, [one.reference, one.kernel['release'], *counts]))} |")
    lines += ["", f"| behaviour and case | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    for cite, rows in _by_cite(runs).items():
        lines.append(f"| *{_cell(cite)}* |" + " |" * len(heads))
        lines += [f"| {_cell(name)} | {' | '.join(map(_cell, cells))} |" for name, cells in rows]
    return "\n".join(lines) + "\n"


def _by_cite(runs: Sequence[StoredRun]) -> dict[str, list[tuple[str, list[str]]]]:
    """Return the rows of the table: cases of a behaviour that all kernels answer alike are one row."""
    cites = {name: answer.cite for one in runs for name, answer in one.answers.items()}
    found: dict[str, dict[tuple[str, tuple[str, ...]], list[str]]] = {}
    for name, cite in sorted(cites.items(), key=lambda item: item[::-1]):
        cells = tuple(_shown(one.answers.get(name)) for one in runs)
        id, _, case = name.partition(" ")
        found.setdefault(cite, {}).setdefault((id, cells), []).append(case)
    return {
        cite: [(f"{id} {cases[0]}{f' and {len(cases) - 1} more' * (len(cases) > 1)}", list(cells))
               for (id, cells), cases in rows.items()]
        for cite, rows in found.items()
    }  # fmt: skip


def _shown(answer: Answer | None) -> str:
    return "—" if answer is None else value(answer.actual)


def _cell(words: str) -> str:
    return words.replace("|", "\\|").replace("\n", " ")[:160]


def unmeasured(runs: Sequence[StoredRun]) -> list[str]:
    """Return the differences that no two stored runs show.

    A difference of the entry needs two runs of one version, a difference of the version any two.
    """
    shown = set()
    for one, other in itertools.combinations(runs, 2):
        same_version = version_numbers(one.reference)[:2] == version_numbers(other.reference)[:2]
        for name in one.answers.keys() & other.answers.keys():
            first, second = one.answers[name], other.answers[name]
            if first.actual != second.actual and (same_version or first.of == "version"):
                shown.add(name)
    return sorted({name for one in runs for name in one.answers} - shown)


def not_stored(reports: Iterable[Results], runs: Sequence[StoredRun]) -> list[str]:
    """Return the differences of reports, by name and cite, that no stored run has."""
    known = {(name, answer.cite) for one in runs for name, answer in one.answers.items()}
    met = {(name, answer.cite) for one in combined(reports).values() for name, answer in one.answers.items()}
    return sorted(f"{name} ({cite})" for name, cite in met - known)


def main(words: list[str]) -> int:
    """Stores the reports and writes the page; with --held-against only compares, and returns 1 if something is new."""
    if words[:1] == ["--held-against"]:
        new = not_stored([read(Path(report)) for report in words[1:]], stored())
        for name in new:
            print(f"no stored run shows {name}: run it on the kernels of docs/references, and store those runs")
        return 1 if new else 0
    directory().mkdir(exist_ok=True)
    adds, reports = words[:1] == ["--add"], [read(Path(report)) for report in words if report != "--add"]
    known = {one.reference: one for one in stored()}
    for reference, one in combined(reports).items():
        if adds:
            if reference not in known:
                raise CommandError(f"nothing is stored of {reference}: store a whole run of it first")
            checks = [check for report in reports if kernel_of(report) == reference for check in report.checks]
            partly = {check.key.id for check in checks if check.verdict == "not_applicable"}
            one = added(known[reference], one, {check.key.id for check in checks} - partly)
        path = directory() / f"{reference.replace(' ', '-')}.json"
        path.write_text(json.dumps(one.as_json(), indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    page().write_text(text(stored()))
    for id, names in itertools.groupby(unmeasured(stored()), lambda name: name.partition(" ")[0]):
        print(f"no two kernels show both sides of {len(list(names))} cases of {id}")
    return 0


if __name__ == "__main__":
    run(main)
