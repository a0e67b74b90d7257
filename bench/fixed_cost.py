"""Measures the fixed cost of a test: over an empty C process with the same namespaces, and over a fork of Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench import commands
from bench.measure import Row

#: Tests of a round.
TESTS = 20


def measure(rounds: int, directory: Path) -> Iterator[Row]:
    """Yields rows; a round is the medians of some tests and of the bare forms timed after each of them."""
    tests = commands.write_tests(directory, TESTS * rounds)
    commands.compiled("empty", directory)
    bare = {"empty": 1, "fork": 1}
    _, found = commands.timed(commands.check(directory, tests), directory, bare=bare, programs=str(directory))
    parts = [found[at : at + TESTS] for at in range(0, len(found), TESTS)]
    ours = [median(test["seconds"] for test in part) for part in parts]
    empty, fork = ([median(test["bare"][name] for test in part) for part in parts] for name in bare)
    yield Row("a test / an empty C process with the same namespaces", "ms", 15, ours, empty)
    yield Row("a test / a fork of its Python with the same namespaces", "ms", 2, ours, fork)
