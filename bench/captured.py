"""Measures a program whose socketcalls are captured beside the same program under strace."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench import commands
from bench.measure import CannotMeasure, Row, in_turn

#: Calls that the program makes.
CALLS = 50_000
_PROGRAM = """\
from probes.entry.gate import gate
from probes.entry.memory import Memory
words = Memory().words(-1, 0, 0)
enter, address = gate("int80").enter, words.address
for _ in range({calls}):
    enter(102, 2, address)
"""


def measure(rounds: int, directory: Path, calls: int = CALLS) -> Iterator[Row]:
    """Yields rows: whole processes that write text to a file, as users run them and on one CPU.

    Raises CannotMeasure: there is no strace, or one CPU.
    """
    if shutil.which("strace") is None:
        raise CannotMeasure("capture is measured beside strace; apt-get install strace")
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise CannotMeasure("a capture as users run it needs two CPUs; run it without `taskset`")
    program = commands.python("-c", _PROGRAM.format(calls=calls))
    ours = commands.socketcall("capture", "-o", str(directory / "ours"), "--", *program)
    theirs = ["strace", "-f", "-e", "trace=network", "-o", str(directory / "theirs"), *program]
    for where, bound, before in (
        ("as users run both", 0.8, []),
        ("on one CPU", 2.0, ["taskset", "-c", str(cpus[0])]),
    ):
        found = in_turn(rounds, _wall([*before, *ours]), _wall([*before, *theirs]))
        yield Row(f"socketcall capture / strace -f -e trace=network, {where}", "s", bound, *found)


def _wall(command: Sequence[str]) -> Callable[[], float]:
    return lambda: commands.run(command).wall
