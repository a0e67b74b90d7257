"""Measures tests of this suite beside the socket tests of the Linux Test Project, built with -m32 by the user."""

from __future__ import annotations

import os
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from bench import commands
from bench.measure import CannotMeasure, Row
from probes.abi.operations import OPERATIONS
from probes.installation import suite

#: Tests of each directory that are timed, and seconds that a program of LTP may take.
MOST, DEADLINE = 60, 60
_PASSED = re.compile(r"^passed +([0-9]+)", re.MULTILINE)
_PLAIN = re.compile(r"\bTPASS\b")


def measure(rounds: int, directory: Path, ltp: Path) -> Iterator[Row]:
    """Yields rows: tests of the operations that LTP's programs are named after, with one program run after each test.

    Raises CannotMeasure: no program there passes.
    """
    results = passing(ltp)
    operations = sorted({_operation(Path(path).name) for path in results})
    globs = [f"{name}.*" for name in operations if (suite() / "tests" / name).is_dir()]
    if not globs:
        raise CannotMeasure(f"the suite judges none of {', '.join(operations)} in a directory of its own; build others")
    settings = {"commands": sorted(results), "most": MOST, "parts": rounds}
    _, found = commands.timed(commands.check(directory, *globs), directory, **settings)
    sums: list[dict[str, float]] = []
    for at in range(rounds):
        part: dict[str, float] = defaultdict(float)
        for test in found[len(found) * at // rounds : len(found) * (at + 1) // rounds]:
            part["tests"] += 1
            part["ours"] += test["seconds"]
            part["checks"] += test["checks"]
            part["theirs"] += test["bare"]["command"]
            part["results"] += results[test["command"]]
        sums.append(part)
    ours, theirs = ([part[side] / part["tests"] for part in sums] for side in ("ours", "theirs"))
    yield Row(f"a test of {' '.join(globs)} / a program of LTP", "ms", None, ours, theirs)
    ours = [part["ours"] / part["checks"] for part in sums]
    theirs = [part["theirs"] / part["results"] for part in sums]
    yield Row("a check of theirs / a result of LTP", "ms", None, ours, theirs)


def passing(ltp: Path) -> dict[str, int]:
    """Returns the programs that pass here with the number of their results. Raises CannotMeasure: there is none."""
    if not ltp.is_dir():
        raise CannotMeasure(f"--ltp {ltp}: no such directory; name that of LTP's socket tests, built with -m32")
    programs = [path for path in sorted(ltp.rglob("*")) if _is_socket_test(path)]
    found = {str(path.absolute()): count for path in programs if (count := _results(path))}
    if not found:
        why = f"none of {len(programs)} passes" if programs else "no i386 program is named after a socket call"
        raise CannotMeasure(f"--ltp {ltp}: {why}; build LTP's testcases/kernel/syscalls/socket with -m32")
    return found


def _operation(name: str) -> str:
    return re.sub(r"_?[0-9]+$", "", name)


def _is_socket_test(path: Path) -> bool:
    """Returns True for an i386 ELF program with the name of an operation and a number."""
    if _operation(path.name) not in OPERATIONS or _operation(path.name) == path.name or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(20)
    return head[:5] == b"\x7fELF\x01" and head[18:20] == b"\x03\x00" and os.access(path, os.X_OK)


def _results(program: Path) -> int:
    """Runs a program of LTP, and returns how many results it passed; 0 if it does not end with status 0."""
    try:
        done = subprocess.run(
            [program.absolute()], capture_output=True, text=True, errors="replace", timeout=DEADLINE, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return 0
    output = done.stdout + done.stderr
    passed = _PASSED.search(output)
    return (int(passed[1]) if passed else len(_PLAIN.findall(output))) if done.returncode == 0 else 0
