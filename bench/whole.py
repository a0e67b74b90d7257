"""Measures a whole run over the sum of its bare parts, on one CPU.

The bare parts are the least that the run can cost: for each test an empty C process with the same namespaces, for each
traced call a C program that only stops it twice, and the machine-code loops themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench import commands
from bench.measure import Row

#: Numbers of tests after which an empty process, and bare stops, are timed.
EMPTY, STOPS = 10, 100


def measure(rounds: int, directory: Path, globs: Sequence[str] = ()) -> Iterator[Row]:
    """Yields rows; one run is dealt into as many alike parts as there are rounds.

    What is serial (start, collection, report) is divided among the parts.
    """
    for name in ("empty", "stops"):
        commands.compiled(name, directory)
    settings = {"bare": {"empty": EMPTY, "stops": STOPS}, "programs": str(directory), "parts": rounds}
    taken, found = commands.timed(commands.check(directory, *globs), directory, **settings)
    tests = sum(test["seconds"] for test in found)
    serial = taken.wall - tests - _beside(found)
    empty, stops = (_median_of(found, name) for name in ("empty", "stops"))
    parts = [found[len(found) * at // rounds : len(found) * (at + 1) // rounds] for at in range(rounds)]
    ours = [sum(test["seconds"] for test in part) + serial / rounds for part in parts]
    bare = [sum(_bare(test, empty, stops) for test in part) for part in parts]
    yield Row("a whole run on one CPU / its bare parts", "s", None, ours, bare)
    yield Row("its start, collection and report / the whole run", "s", None, [serial], [tests + serial])


def _bare(test: dict[str, Any], empty: float, stops: float) -> float:
    return float(empty + test["calls"] * stops + test["swept"])


def _median_of(found: Sequence[dict[str, Any]], name: str) -> float:
    return float(median(test["bare"][name] for test in found if name in test["bare"]))


def _beside(found: Sequence[dict[str, Any]]) -> float:
    """Returns the seconds that the bare forms took themselves: those in C report less than their start and end take."""
    return float(sum(test["beside"] for test in found))
