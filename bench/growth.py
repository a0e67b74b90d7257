"""Measures how costs grow: with checks, with calls, with workers. `plots` draws the points, `document` tables them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression, median
from typing import Any

from bench import commands, swept_call, traced_call
from bench.measure import SCALES, CannotMeasure, seconds
from probes.sandbox import sandbox
from probes.sandbox.channel import Channel

#: Tests of the smallest run, and checks of each of its tests.
TESTS, CHECKS = 50, 10
#: Tests of the runs with more and more workers.
WORKERS_TESTS = 400


@dataclass
class Curve:
    """Holds how a cost grows: `points` are (size, measured values in seconds or bytes), shown in `unit`."""

    name: str
    what: str
    unit: str
    points: list[tuple[int, list[float]]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Returns its fields."""
        return dict(self.__dict__)

    @classmethod
    def of_json(cls, line: dict[str, Any]) -> Curve:
        """Reads a curve. Raises KeyError for one that lacks a field."""
        points = [(int(size), [float(value) for value in values]) for size, values in line["points"]]
        return cls(line["name"], line["what"], line["unit"], points)

    @property
    def medians(self) -> list[tuple[int, float]]:
        """Returns (size, median)."""
        return [(size, median(values)) for size, values in self.points]

    @property
    def fit(self) -> tuple[float, float]:
        """Returns the cost of one more, and the cost of none, by the line through the points with relative errors."""
        return weighted_line(self.medians)

    @property
    def _is_fitted(self) -> bool:
        """Returns True if a line through the points means something: more workers do not add up."""
        return self.name != "workers"

    def titles(self) -> list[str]:
        """Returns the titles of the columns that `cells` fills."""
        fitted = ["at none, by the line", "each more"] if self._is_fitted else []
        return [self.name, *(f"{size:,}" for size, _ in self.points), *fitted]

    def cells(self) -> list[str]:
        """Returns the cells of its line in a table: what it is, the medians, the cost of none and of one more."""
        one, none = self.fit
        fitted = [show(none, self.unit), small(one, self.unit)] if self._is_fitted else []
        return [self.what, *(show(value, self.unit) for _, value in self.medians), *fitted]


def weighted_line(points: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Returns slope and intercept of the line with the least relative errors: cost / size = slope + intercept / size."""
    line = linear_regression([1 / size for size, _ in points], [cost / size for size, cost in points])
    return line.intercept, line.slope


def show(value: float, unit: str) -> str:
    """Returns a value in its unit, with three digits."""
    return f"{SCALES[unit] * value:.3g} {unit}"


def small(value: float, unit: str) -> str:
    """Returns the cost of one in the unit that fits its size."""
    if unit == "MB":
        return f"{value:,.0f} bytes"
    fitting = next((name for name in ("s", "ms", "us", "ns") if abs(value) * SCALES[name] >= 1), "ns")
    return show(value, fitting)


Progress = Callable[[str], None]


def checks(rounds: int, directory: Path, factors: Sequence[int] = (1, 2, 4, 8, 16)) -> Iterator[Curve]:
    """Yields the curves of runs of one process with more and more checks, in more and more tests."""
    curves = [
        Curve("checks", "time", "s"), Curve("checks", "CPU", "s"), Curve("checks", "memory", "MB"),
        Curve("checks", "files of the report", "MB"),
    ]  # fmt: skip
    for factor in factors:
        command = commands.check(directory, commands.write_tests(directory, factor * TESTS, CHECKS))
        taken = [commands.run(command) for _ in range(rounds)]
        memory = commands.run(command, watched=True).memory
        size = sum(path.stat().st_size for path in (directory / "report").rglob("*") if path.is_file())
        found = [[one.wall for one in taken], [one.cpu for one in taken], [float(memory)], [float(size)]]
        for curve, values in zip(curves, found, strict=True):
            curve.points.append((factor * TESTS * CHECKS, values))
    yield from curves


def calls(rounds: int, directory: Path, counts: Sequence[int] = (10**3, 10**4, 10**5, 10**6)) -> Iterator[Curve]:
    """Yields the curves of more and more calls: swept, counted by `capture -c`, and traced in one test."""
    swept, traced = Curve("calls", "a sweep", "s"), Curve("calls", "a test, traced", "s")
    captured, memory = Curve("calls", "capture -c", "s"), Curve("calls", "memory of a test, traced", "MB")
    loop, sweep = commands.compiled("loop", directory), swept_call.sweep()
    for count in counts:
        command = commands.socketcall("capture", "-c", "-o", "/dev/null", "--", str(loop), str(count))
        swept.points.append((count, [seconds(lambda n=count: sweep.run(range(21, 21 + n))) for _ in range(rounds)]))  # type: ignore[misc]
        captured.points.append((count, [commands.run(command).wall for _ in range(rounds)]))
        one = commands.python("-m", "bench.growth", str(count), str(directory))
        # A million calls keep more than a gigabyte: the process that traces them ends after each.
        traced.points.append((count, [commands.run(one).wall for _ in range(rounds)]))
        memory.points.append((count, [float(commands.run(one, watched=True).memory)]))
    yield from (swept, captured, traced, memory)


def trace(count: int, directory: Path) -> int:
    """Makes so many traced calls, and returns the exit status."""
    work = directory / "work"
    work.mkdir(exist_ok=True)
    sandbox.pin()
    try:
        traced_call.traced(count, work, Channel())
    except CannotMeasure as why:
        print(why, file=sys.stderr)
        return 2
    return 0


def workers(rounds: int, directory: Path, counts: Sequence[int] = (1, 2, 3, 4)) -> Iterator[Curve]:
    """Yields the curves of the same run with more and more workers."""
    curves = [Curve("workers", "time", "s"), Curve("workers", "CPU", "s"), Curve("workers", "memory of all", "MB")]
    option = commands.write_tests(directory, WORKERS_TESTS, CHECKS)
    for count in counts:
        command = commands.check(directory, option, workers=count)
        taken = [commands.run(command) for _ in range(rounds)]
        shared = commands.run(command, watched=True).shared
        found = [[one.wall for one in taken], [one.cpu for one in taken], [float(shared)]]
        for curve, values in zip(curves, found, strict=True):
            curve.points.append((count, values))
    yield from curves


GROWTHS: dict[str, Callable[[int, Path], Iterator[Curve]]] = {"checks": checks, "calls": calls, "workers": workers}
"""What grows, by its name on the command line."""


if __name__ == "__main__":
    sys.exit(trace(int(sys.argv[1]), Path(sys.argv[2])))
