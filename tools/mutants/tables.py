"""Counts the outcomes of mutants, and names those that no behaviour found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from tools.mutants.abi import HELD

#: The least share of mutants that must be found; a sample's may be lower by chance.
RATE, SAMPLED = 0.98, 0.94


def found(outcome: dict[str, Any]) -> bool:
    """Return True if a behaviour that has to find the mutant deviated."""
    return bool(outcome["killed"])


def applied(outcome: dict[str, Any]) -> bool:
    """Return True if a test made a call that was wrong: otherwise the mutant says nothing."""
    return bool(outcome["changed"])


def rates(outcomes: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a Markdown table of both populations by folder and by operator."""
    yield "| population | by | of | found | of mutants | not met by any call |"
    yield "|---|---|---|---|---|---|"
    for population in ("A", "B"):
        for by in ("folder", "operator"):
            groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
            for outcome in outcomes:
                if outcome["population"] == population:
                    groups[outcome[by]].append(outcome)
            for name, group in sorted(groups.items()):
                met = [outcome for outcome in group if applied(outcome)]
                share = f"{100 * sum(map(found, met)) / len(met):.1f} %" if met else "—"
                yield f"| {population} | {by} | {name} | {share} | {len(met)} | {len(group) - len(met)} |"


def survivors(outcomes: Sequence[dict[str, Any]], most: int) -> Iterator[str]:
    """Yield a line for each mutant that survived, those that have to be found first, `most` at most."""
    left = [outcome for outcome in outcomes if applied(outcome) and not found(outcome)]
    left.sort(key=lambda outcome: (outcome["population"] != "A", outcome["folder"] not in HELD, outcome["name"]))
    for outcome in left[:most]:
        what = f"{outcome['changed']} calls in {outcome['tests']} tests, {outcome['broke']} broke"
        yield f"survived: {outcome['name']} ({what})"
    if len(left) > most:
        yield f"… and {len(left) - most} more survivors"


def missed(outcomes: Sequence[dict[str, Any]], sampled: bool) -> list[str]:
    """Return what is wrong with the rates that have to hold: all of A, and of B the operations that are held."""
    least, lines = SAMPLED if sampled else RATE, []
    held = {
        "A": [one for one in outcomes if one["population"] == "A" and applied(one)],
        "B": [one for one in outcomes if one["population"] == "B" and one["folder"] in HELD and applied(one)],
    }
    for population, group in held.items():
        share = sum(map(found, group)) / len(group) if group else 1.0
        if share < least:
            lines.append(
                f"population {population}: {100 * share:.1f} % of {len(group)} found, at least {100 * least:.0f} %"
            )
    return lines
