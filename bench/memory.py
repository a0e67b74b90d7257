"""Measures the memory of a run: over pytest with as many empty tests, and as the run grows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench import commands
from bench.measure import Row, in_turn

TESTS, CHECKS, GROWN = 50, 20, 4


def measure(rounds: int, directory: Path, tests: int = TESTS) -> Iterator[Row]:
    """Yields rows of the most memory that the first process of a run had resident."""
    small = commands.check(directory, commands.write_tests(directory, tests, CHECKS))
    large = commands.check(directory, commands.write_tests(directory, tests, GROWN * CHECKS))
    empty = directory / "test_empty.py"
    empty.write_text(commands.EMPTY_TESTS.format(tests=tests))
    pytest = commands.python("-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={directory}", str(empty))

    def memory(command: list[str]) -> float:
        return float(commands.run(command, watched=True).memory)

    found = in_turn(rounds, lambda: memory(small), lambda: memory(pytest), lambda: memory(large))
    yield Row("memory of a run / of pytest with as many empty tests", "MB", 3, found[0], found[1])
    yield Row(f"memory of a run / of one with 1/{GROWN} of the checks", "MB", 1.1, found[2], found[0])
