"""Measures a run of two workers over the same run of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from bench import commands
from bench.measure import CannotMeasure, Row, in_turn

TESTS = 300


def measure(rounds: int, directory: Path, tests: int = TESTS) -> Iterator[Row]:
    """Yields a row: whole runs, with their start, collection and report. Raises CannotMeasure: there is one CPU."""
    cpus = len(os.sched_getaffinity(0))
    if cpus < 2:
        raise CannotMeasure(f"-n 2 needs two CPUs, and this process may use {cpus}; run it without `taskset`")
    option = commands.write_tests(directory, tests)

    def run(workers: int) -> float:
        return commands.run(commands.check(directory, option, workers=workers)).wall

    yield Row("a run with -n 2 / with -n 1", "s", 0.7, *in_turn(rounds, lambda: run(2), lambda: run(1)))
