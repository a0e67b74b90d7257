"""Measures the machine-code loop of sweeps: over a loop in C, through the same gate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench import commands
from bench.measure import Row, in_turn, seconds
from probes.abi.operations import SOCKETCALL
from probes.entry.calls import Calls
from probes.entry.gate import gate
from probes.entry.memory import Memory
from probes.entry.sweep import Sweep

SWEPT = 100_000


def sweep() -> Sweep:
    """Returns a sweep that makes the call of an unknown operation for each value."""
    found = Sweep(Calls(gate("int80"), "socketcall", Memory()))
    found.raw(SOCKETCALL, found.value, 0, judged=True)
    return found


def measure(rounds: int, directory: Path, calls: int = SWEPT) -> Iterator[Row]:
    """Yields a row; a round is a sweep of so many values, with all that Python does for it."""
    program, swept = commands.compiled("loop", directory), sweep()

    def ours() -> float:
        return seconds(lambda: swept.run(range(21, 21 + calls))) / calls

    found = in_turn(rounds, ours, lambda: commands.printed_seconds(program, calls) / calls)
    yield Row("a call of a sweep / of a loop in C", "us", 1.1, *found)
