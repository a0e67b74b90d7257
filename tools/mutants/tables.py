"""Counts the outcomes of mutants, and names those that no behaviour found."""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tools.mutants.mutant import HELD, operation_of

#: The least share of mutants that must be found; a sample's may be lower by chance.
RATE, SAMPLED = 0.98, 0.94
#: The least share of the found ones of B that a behaviour found which judges what is wrong.
RIGHT = 0.95
#: The greatest share of B that may be called equivalent to the genuine kernel.
_EQUIVALENT = 0.02
#: Why no document forbids a mutant, by a glob of names.
EQUIVALENTS: dict[str, str] = tomllib.loads((Path(__file__).parent / "equivalents.toml").read_text())


def found(outcome: dict[str, Any]) -> bool:
    """Return True if a behaviour that has to find the mutant deviated."""
    return bool(outcome["killed"])


def applied(outcome: dict[str, Any]) -> bool:
    """Return True if a test made a call that was wrong, and documents forbid it: otherwise the mutant says nothing."""
    return bool(outcome["changed"]) and not equivalent(outcome)


def equivalent(outcome: dict[str, Any]) -> str:
    """Return why no document forbids a mutant, "" if one does."""
    return next((why for glob, why in EQUIVALENTS.items() if fnmatchcase(outcome["name"], glob)), "")


def rates(outcomes: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a Markdown table of both populations by folder and by operator."""
    yield "| population | by | of | found | of mutants | by the right behaviour | not met by any call |"
    yield "|---|---|---|---|---|---|---|"
    for population in ("A", "B"):
        for by in ("folder", "operator"):
            groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
            for outcome in outcomes:
                if outcome["population"] == population:
                    groups[outcome[by]].append(outcome)
            for name, group in sorted(groups.items()):
                met = [outcome for outcome in group if applied(outcome)]
                right = _share(one["right"] for one in met if found(one))
                share = _share(map(found, met))
                yield f"| {population} | {by} | {name} | {share} | {len(met)} | {right} | {len(group) - len(met)} |"


def _share(ones: Iterable[bool]) -> str:
    counted = [*ones]
    return f"{100 * sum(counted) / len(counted):.1f} %" if counted else "—"


def misattributed(outcomes: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for each mutant that only behaviours found which judge something else."""
    for outcome in outcomes:
        if outcome["other"] and not outcome["right"]:
            yield f"found by another: {outcome['name']} (by {outcome['other']})"


def survivors(outcomes: Sequence[dict[str, Any]], most: int) -> Iterator[str]:
    """Yield a line for each mutant that survived, those that have to be found first, `most` at most."""
    left = [outcome for outcome in outcomes if applied(outcome) and not found(outcome)]
    left.sort(
        key=lambda outcome: (outcome["population"] != "A", operation_of(outcome["folder"]) not in HELD, outcome["name"])
    )
    for outcome in left[:most]:
        what = f"{outcome['changed']} calls in {outcome['tests']} tests, {outcome['broke']} broke"
        unmoved = ", ".join(outcome["unmoved"][:3]) + ", …" * (len(outcome["unmoved"]) > 3)
        yield f"survived: {outcome['name']} ({what}): {unmoved}"
    if len(left) > most:
        yield f"… and {len(left) - most} more survivors"


def missed(outcomes: Sequence[dict[str, Any]], sampled: bool) -> list[str]:
    """Return what is wrong with the rates that have to hold: all of A, and of B the operations that are held."""
    least = SAMPLED if sampled else RATE
    lines = []
    b = [one for one in outcomes if one["population"] == "B" and one["changed"]]
    same = [one for one in b if equivalent(one)]
    if not sampled and len(same) > _EQUIVALENT * len(b):
        lines.append(
            f"{len(same)} of {len(b)} mutants of B are called equivalent, at most {100 * _EQUIVALENT:.0f} % may be"
        )
    for population in ("A", "B"):
        met = [one for one in outcomes if one["population"] == population and applied(one)]
        group = [one for one in met if population == "A" or operation_of(one["folder"]) in HELD]
        killed = [one for one in group if found(one)]
        for what, part, whole, limit in (
            ("found", killed, group, least),
            ("found by the right behaviour", [one for one in killed if one["right"]], killed, RIGHT),
        ):
            share = len(part) / len(whole) if whole else 1.0
            if share < limit:
                lines.append(
                    f"population {population}: {100 * share:.1f} % of {len(whole)} {what}, at least {100 * limit:.0f} %"
                )
    return lines
