"""Runs what is measured from outside: `socketcall` with its options, generated tests, compiled C programs."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.measure import CannotMeasure
from probes.installation import checkout

#: Seconds between two looks at the memory of a command.
_TICK = 0.02

TESTS = '''
import errno
import pytest
from probes.testing import behaviour

@behaviour("made.bench.law", "this benchmark")
@pytest.mark.routes("socketcall")
@pytest.mark.parametrize("number", range({tests}))
def test_it(number, the_gate, expect):
    """A call of an unknown operation fails with EINVAL."""
    for check in range({checks}):
        expect(-errno.EINVAL, check=check).of(the_gate.enter(102, 0, 0))
'''
EMPTY_TESTS = '''
import pytest

@pytest.mark.parametrize("number", range({tests}))
def test_it(number):
    """Does nothing."""
'''


@dataclass(frozen=True)
class Taken:
    """Holds what a command took: seconds of the clock, seconds of CPU with its children's, and bytes of memory.

    `memory` is the most that its first process had resident, `shared` the most that its processes had together, where
    what they share counts once; both are 0 if they were not watched.
    """

    wall: float
    cpu: float
    memory: int = 0
    shared: int = 0


def socketcall(*words: str) -> list[str]:
    """Returns the command line of `socketcall` as a user starts it. Raises CannotMeasure."""
    path = Path(sysconfig.get_path("scripts"), "socketcall")
    if not path.exists():
        raise CannotMeasure(f"there is no {path}; pip install -e . puts it there")
    return [str(path), *words]


def check(directory: Path, *words: str, workers: int = 1) -> list[str]:
    """Returns the command line of a run that leaves its report in a directory. Raises CannotMeasure."""
    return socketcall(
        "check", "-n", str(workers), "--caller=python", "--gate=int80", f"--report={directory / 'report'}", *words
    )


def write_tests(directory: Path, tests: int, checks: int = 1) -> str:
    """Writes a directory of so many tests with so many checks each, and returns the option that runs it."""
    made = directory / f"tests-{tests}-{checks}" / "made"
    made.mkdir(parents=True, exist_ok=True)
    (made / "test_made.py").write_text(TESTS.format(tests=tests, checks=checks))
    return f"--tests={made.parent}"


def start(command: Sequence[str], **variables: str) -> subprocess.Popen[bytes]:
    """Starts a command that imports from this checkout, with its output dropped."""
    environment = {**os.environ, "PYTHONPATH": str(checkout()), **variables}
    devnull = subprocess.DEVNULL
    return subprocess.Popen(command, env=environment, stdin=devnull, stdout=devnull, stderr=subprocess.PIPE)


def run(command: Sequence[str], watched: bool = False, **variables: str) -> Taken:
    """Runs a command to its end, and returns what it took. Raises CannotMeasure unless its status is 0.

    Watching its memory takes CPU: a command that is watched is not one that is timed.
    """
    began = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with start(command, **variables) as process:
        memory, shared = _watch(process) if watched else (0, 0)
        error = process.stderr.read() if process.stderr else b""
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        last = error.decode(errors="replace").strip().rpartition("\n")[2]
        what = " ".join([Path(command[0]).name, *command[1:]])
        raise CannotMeasure(f"`{what}` ended with status {process.returncode}{last and f': {last}'}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Taken(time.perf_counter() - began, cpu, memory, shared)


def _watch(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    """Looks at the memory of a command until it ends, and returns the most that was seen."""
    seen, memory, shared = psutil.Process(process.pid), 0, 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            memory = max(memory, 1024 * int(status.partition("VmHWM:")[2].split()[0]))
        except (OSError, IndexError):  # It has ended.
            break
        shared = max(shared, sum(_proportional(one) for one in [seen, *_children(seen)]))
        time.sleep(_TICK)
    return memory, shared


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        found: list[psutil.Process] = process.children(recursive=True)
        return found
    except psutil.Error:
        return []


def _proportional(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.Error, OSError):
        return 0


def compiled(name: str, directory: Path) -> Path:
    """Compiles bench/programs/NAME.c into a directory, and returns the program. Raises CannotMeasure."""
    if shutil.which("gcc") is None:
        raise CannotMeasure(f"{name}.c needs gcc; apt-get install gcc libc6-dev")
    program = directory / name
    source = Path(__file__).with_name("programs") / f"{name}.c"
    done = subprocess.run(["gcc", "-O2", "-Wall", "-o", program, source], capture_output=True, text=True, check=False)
    if done.returncode:
        why = done.stderr.strip().partition("\n")[0]
        raise CannotMeasure(f"{name}.c does not compile: {why}; apt-get install gcc libc6-dev")
    return program


def printed_seconds(program: Path, count: int) -> float:
    """Runs a compiled program for so many calls, and returns the seconds that it prints. Raises CannotMeasure."""
    done = subprocess.run([program, str(count)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotMeasure(f"`{program.name} {count}` ended with status {done.returncode}: {done.stderr.strip()}")
    return float(done.stdout)


def timed(command: Sequence[str], directory: Path, **settings: Any) -> tuple[Taken, list[dict[str, Any]]]:
    """Runs a `check` with the plugin bench.timer, and returns what it took, and each test. Raises CannotMeasure."""
    output = directory / "timed.json"
    settings |= {"output": str(output), "directory": str(directory)}
    taken = run([*command, "--", "-p", "bench.timer"], BENCH_TIMER=json.dumps(settings))
    found: list[dict[str, Any]] = json.loads(output.read_text())
    return taken, found


def python(*words: str) -> list[str]:
    """Returns a command line of this Python."""
    return [sys.executable, *words]
