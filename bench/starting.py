"""Measures what is waited for before anything is judged: start-up and collection, over Python's own start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from bench import commands
from bench.measure import Row, in_turn

#: Starts of a round. A round is their sum: one start takes too little time to be compared.
STARTS = 5


def measure(rounds: int, directory: Path) -> Iterator[Row]:
    """Yields rows. What collects is timed over a start of pytest, which it cannot do without."""
    del directory
    nothing, pytest = ["-c", "pass"], ["-m", "pytest", "--version"]
    for words, bare, bound in (
        (["--version"], nothing, 4),
        (["capture", "-o", "/dev/null", "--", "true"], nothing, 12),
        (["check", "--list"], pytest, 12),
    ):
        found = in_turn(rounds, _starts(commands.socketcall(*words)), _starts(commands.python(*bare)))
        name = " ".join(["socketcall", *words, "/ python", *bare])
        yield Row(name, "ms", bound, *([took / STARTS for took in side] for side in found))


def _starts(command: list[str]) -> Callable[[], float]:
    return lambda: sum(commands.run(command).wall for _ in range(STARTS))
