"""What genuine kernels answered where they differ: `python -m tools.references [--held-against] REPORT…`

Takes the reports of whole runs on genuine kernels, keeps of each what stands on a cited difference, as
docs/references/ABI-VERSION.json, and writes docs/differences.md from all that are kept: a value for each kernel. A
difference that no two kept kernels show is one that nobody has measured.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from probes.errors import CommandError
from probes.installation import checkout
from probes.plugin.verdicts import Check
from probes.report.failure import value
from probes.report.reader import Results, read
from probes.testing.reference import Reference, version_of

Kept = dict[str, Any]


def folder() -> Path:
    """Where the kept ones lie."""
    return checkout() / "docs" / "references"


def page() -> Path:
    """What is written from them."""
    return checkout() / "docs" / "differences.md"


def kernel_of(results: Results) -> str:
    """Which genuine kernel answered. Raises CommandError: the run was judged against another."""
    target, judged = results.run["target"], results.run["reference"]
    kernel = str(Reference(target["abi"], version_of(target["kernel"]["release"], target["kernel"]["version"])))
    if not f"{kernel}.".startswith(f"{judged}."):
        raise CommandError(f"a run on {kernel} was judged against {judged}: leave out --reference")
    return kernel


def combined(reports: Iterable[Results]) -> dict[str, Kept]:
    """What is kept of each kernel. A later report replaces what an earlier one said of the same behaviour and word size."""
    kernels, checks = dict[str, Kept](), dict[str, dict[tuple[str, int], list[Check]]]()
    for results in reports:
        name, target = kernel_of(results), results.run["target"]
        kernels[name] = {
            "release": _release(target["kernel"]),
            "machine": target["kernel"]["machine"],
            "abi": target["abi"],
        }
        by_id: dict[tuple[str, int], list[Check]] = {}
        for check in results.checks:
            by_id.setdefault((check["id"], check["word"]), []).append(check)
        checks.setdefault(name, {}).update(by_id)
    return {
        name: kept(name, kernel, [check for found in checks[name].values() for check in found])
        for name, kernel in kernels.items()
    }


def _release(kernel: Mapping[str, str]) -> str:
    """A distribution's name of its kernel; of one that somebody built, the version alone."""
    return kernel["release"] if "Debian" in kernel["version"] else kernel["release"].partition("-")[0]


def kept(reference: str, kernel: Mapping[str, str], checks: list[Check]) -> Kept:
    """What is kept of a kernel: how many checks of each verdict, and each behaviour and case with a difference: what was
    answered, on every route and gate the same. Raises CommandError: something deviates, or routes and gates disagree."""
    answers: dict[str, dict[str, Any]] = {}
    for check in checks:
        name = f"{check['id']} {check['case']}".strip()
        if check["verdict"] not in ("conforms", "not_applicable"):
            raise CommandError(f"{name} {check['verdict']} on {reference}: that is no reference")
        # A 64-bit process exists on one of the two entries only.
        comparable = check["word"] == 32 or "i386" not in check.get("difference", ())
        if "difference" in check and check["verdict"] == "conforms" and comparable:
            answer = {"cite": check["difference"]["cite"], "actual": check["actual"]}
            answer |= {"of": "entry" if "i386" in check["difference"] else "version"}
            if answers.setdefault(name, answer) != answer:
                raise CommandError(
                    f"{name} on {reference}: routes, gates or word sizes disagree; give them a case each"
                )
    counts = Counter(check["verdict"] for check in checks)
    return {"reference": reference, "kernel": dict(kernel), "counts": dict(sorted(counts.items())), "answers": answers}


def stored() -> list[Kept]:
    """The kept ones: native before compat, old before new."""
    found = [json.loads(path.read_text()) for path in folder().glob("*.json")]
    return sorted(found, key=lambda one: (one["kernel"]["abi"] != "i386", _numbers(one["reference"])))


def _numbers(reference: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", reference.rpartition(" ")[2])]


def text(all_kept: list[Kept]) -> str:
    """docs/differences.md."""
    heads = [one["reference"] for one in all_kept]
    lines = [
        "# Differences between genuine kernels",
        "",
        "Written by `python -m tools.references` from the runs kept in `docs/references/`; do not edit it.",
        "",
        "| kernel | release | conform | not applicable |",
        "|---|---|--:|--:|",
    ]
    for one in all_kept:
        cells = [
            one["reference"],
            one["kernel"]["release"],
            *(one["counts"].get(v, 0) for v in ("conforms", "not_applicable")),
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += ["", f"| behaviour and case | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    for cite, rows in _by_cite(all_kept).items():
        lines.append(f"| *{_cell(cite)}* |" + " |" * len(heads))
        lines += [f"| {_cell(name)} | {' | '.join(map(_cell, cells))} |" for name, cells in rows]
    return "\n".join(lines) + "\n"


def _by_cite(all_kept: list[Kept]) -> dict[str, list[tuple[str, list[str]]]]:
    """The rows of the table: cases of a behaviour that all kernels answer alike, in one row."""
    cites = {name: answer["cite"] for one in all_kept for name, answer in one["answers"].items()}
    found: dict[str, dict[tuple[str, tuple[str, ...]], list[str]]] = {}
    for name, cite in sorted(cites.items(), key=lambda item: item[::-1]):
        cells = tuple(_shown(one["answers"].get(name)) for one in all_kept)
        id, _, case = name.partition(" ")
        found.setdefault(cite, {}).setdefault((id, cells), []).append(case)
    return {
        cite: [(f"{id} {cases[0]}{f' and {len(cases) - 1} more' * (len(cases) > 1)}", list(cells))
               for (id, cells), cases in rows.items()]
        for cite, rows in found.items()
    }  # fmt: skip


def by_behaviour(all_kept: Iterable[Kept]) -> dict[str, dict[str, dict[str, Any]]]:
    """For each behaviour with a difference: case, kernel, and what that answered."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for one in all_kept:
        for name, answer in one["answers"].items():
            id, _, case = name.partition(" ")
            found.setdefault(id, {}).setdefault(case, {})[one["reference"]] = answer["actual"]
    return found


def _shown(answer: Mapping[str, Any] | None) -> str:
    return "—" if answer is None else value(answer["actual"])


def _cell(words: str) -> str:
    return words.replace("|", "\\|").replace("\n", " ")[:160]


def unmeasured(all_kept: Sequence[Kept]) -> list[str]:
    """The differences that no two of the kept kernels show: of the entry, two of one version; of the version, any two."""
    shown = set()
    for one, other in itertools.combinations(all_kept, 2):
        control = _numbers(one["reference"])[:2] == _numbers(other["reference"])[:2]
        for name in one["answers"].keys() & other["answers"].keys():
            first, second = one["answers"][name], other["answers"][name]
            if first["actual"] != second["actual"] and (control or first["of"] == "version"):
                shown.add(name)
    return sorted({name for one in all_kept for name in one["answers"]} - shown)


def unkept(reports: Iterable[Results], all_kept: Sequence[Kept]) -> list[str]:
    """The differences of runs that no kept run knows, by name and cite: nobody has measured them."""
    known = {(name, answer["cite"]) for one in all_kept for name, answer in one["answers"].items()}
    met = {(name, answer["cite"]) for one in combined(reports).values() for name, answer in one["answers"].items()}
    return sorted(f"{name} ({cite})" for name, cite in met - known)


def main(words: list[str]) -> int:
    """Keeps the reports and writes the page; with --held-against only compares them, and returns 1 if something is new."""
    if words[:1] == ["--held-against"]:
        new = unkept([read(Path(report)) for report in words[1:]], stored())
        for name in new:
            print(f"no kept run shows {name}: run it on the kernels of docs/references, and keep those")
        return 1 if new else 0
    folder().mkdir(exist_ok=True)
    for reference, one in combined(read(Path(report)) for report in words).items():
        path = folder() / f"{reference.replace(' ', '-')}.json"
        path.write_text(json.dumps(one, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    page().write_text(text(stored()))
    for id, names in itertools.groupby(unmeasured(stored()), lambda name: name.partition(" ")[0]):
        print(f"no two kernels show both sides of {len(list(names))} cases of {id}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except CommandError as trouble:
        print(f"socketcall: {trouble}", file=sys.stderr)
        sys.exit(2)
