"""Runs `socketcall` for the tests of the suite, on test modules that they write, and reads what the run left."""

import json
import os
import signal
import subprocess
import sys
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import pytest

from probes.installation import checkout, packages

#: Tests here count checks, and every caller and gate has all of them: two with 32-bit Python, three with 64-bit Python.
ONE_CALLER = ("--caller", "python")
ONE_GATE = (*ONE_CALLER, "--gate", "int80")
#: What an again line has where Python made the call: 32-bit Python has no agent beside it.
PYTHON = "--caller python " if sys.maxsize > 2**32 else ""
#: Seconds that anything may take before its test fails: less than a test may take (probes.sandbox.sandbox.DEADLINE).
DEADLINE = 20
#: Seconds that a command may take before its test fails.
COMMAND_DEADLINE = 120


def installed(name):
    """Skip a test for want of a Debian package of packages.txt, or fail it if SOCKETCALL_REQUIRE is set."""
    package = next(package for package in packages() if package.name == name)
    if not package.is_there():
        missing(f"{name} is not installed: apt-get install {name}")


def missing(what):
    """Skip a test because this machine lacks something, or fail it if SOCKETCALL_REQUIRE is set."""
    give_up = pytest.fail if os.environ.get("SOCKETCALL_REQUIRE") else pytest.skip
    give_up(str(what))


def wait_for(condition, what, deadline=DEADLINE):
    """Wait until a condition is true, and return its value."""
    end = time.monotonic() + deadline
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {deadline} s for {what}"
        time.sleep(0.005)
    return found


def end(process):
    """End a process that still runs, and those it started: pytest would report its pipes in every later test."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in filter(None, (process.stdin, process.stdout, process.stderr)):
        stream.close()


PRELUDE = """
import ctypes, errno, os, signal, socket, struct, sys
import pytest
from probes.testing import behaviour, need, not_applicable

ADDRESS = struct.pack("<H2s4s8x", 2, b"\\0\\0", bytes([127, 0, 0, 1]))
law = behaviour("made.{name}.law", "this test")
pytestmark = pytest.mark.routes("socketcall")
"""


def unpacked(path):
    """Return the text of a gzip file of any number of members, as far as it has been written."""
    packed, text = path.read_bytes(), b""
    while packed:
        member = zlib.decompressobj(16 + zlib.MAX_WBITS)
        text += member.decompress(packed)
        packed = member.unused_data
    return text.decode()


@dataclass
class Judged:
    """Holds what a run left: its status and output, and the lines of its files."""

    status: int
    out: str
    err: str
    report: Path

    def lines(self, name):
        """Return the lines of a file of the run, `results.jsonl` or `evidence.jsonl`."""
        return [json.loads(line) for line in unpacked(self.report / f"{name}.gz").splitlines()]

    @property
    def checks(self):
        """Return the check lines of results.jsonl."""
        return [line for line in self.lines("results.jsonl") if line["type"] == "check"]

    @property
    def verdicts(self):
        """Return the verdicts in order."""
        return [check["verdict"] for check in self.checks]


def run_command(directory, *args, prefix=(), env=None):
    """Run `socketcall` with some arguments in a directory."""
    command = [*prefix, sys.executable, "-m", "probes.cli", *args]
    environment = {**os.environ, "PYTHONPATH": str(checkout()), **(env or {})}
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=COMMAND_DEADLINE,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    return Judged(done.returncode, done.stdout, done.stderr, directory / "report")


def run_check(directory, *args, prefix=()):
    """Run `socketcall check` on the tests in a directory."""
    where = ["--tests", str(directory / "tests"), "--report", str(directory / "report")]
    # There an agent calls.
    chosen = ONE_GATE[len(ONE_CALLER) :] if {"--via", "--via-tty", "--boot"} & set(args) else ONE_GATE
    return run_command(directory, "check", *chosen, *where, *args, prefix=prefix)


def ran(*command, cwd=None):
    """Run a program, and return its status and output."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False, cwd=cwd)
    return done.returncode, done.stdout


def write_tests(directory, *sources):
    """Write the sources of test modules to tests/made/ in a directory."""
    made = directory / "tests" / "made"
    made.mkdir(parents=True, exist_ok=True)
    for number, source in enumerate(sources):
        (made / f"test_m{number:02}.py").write_text(PRELUDE.replace("{name}", f"m{number}") + source)
