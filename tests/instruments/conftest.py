"""Runs the suite on tests made for the occasion, and reads what it left."""

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from probes.installation import checkout, packages
from probes.targets import debian, store

pytest.register_assert_rewrite("captured")

#: Tests here count checks: 32-bit Python has two gates, and every check twice.
ONE_GATE = ("--gate", "int80")
#: Seconds that anything may take before its test fails: less than a test may take (probes.sandbox.sandbox.DEADLINE).
DEADLINE = 20
#: Seconds that a command may take before its test fails.
COMMAND_DEADLINE = 120


def installed(name):
    """Skips a test for want of a Debian package of packages.txt, naming it; fails instead under SOCKETCALL_REQUIRE."""
    package = next(package for package in packages() if package.name == name)
    if not package.is_there():
        missing(f"{name} is not installed: apt-get install {name}")


def missing(what):
    """Skips a test for want of something of the machine's, naming it; fails instead under SOCKETCALL_REQUIRE."""
    say = pytest.fail if os.environ.get("SOCKETCALL_REQUIRE") else pytest.skip
    say(str(what))


def wait_for(condition, what, deadline=DEADLINE):
    """Waits until a condition is true, and returns what it gave."""
    end = time.monotonic() + deadline
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {deadline} s for {what}"
        time.sleep(0.005)
    return found


PRELUDE = """
import ctypes, errno, os, signal, socket, struct, sys
import pytest
from probes.testing import behaviour, need, not_applicable

ADDRESS = struct.pack("<H2s4s8x", 2, b"\\0\\0", bytes([127, 0, 0, 1]))
law = behaviour("made.{name}.law", "this test")
pytestmark = pytest.mark.routes("socketcall")
"""


@dataclass
class Judged:
    """What a run left: its status and output, and the lines of its files."""

    status: int
    out: str
    err: str
    report: Path

    def lines(self, name):
        """The lines of a file of the run."""
        return [json.loads(line) for line in (self.report / name).read_text().splitlines()]

    @property
    def checks(self):
        """The check lines of results.jsonl."""
        return [line for line in self.lines("results.jsonl") if line["type"] == "check"]

    @property
    def verdicts(self):
        """The verdicts in order."""
        return [check["verdict"] for check in self.checks]


def run_command(folder, *args, prefix=(), env=None):
    """Runs `socketcall` with some arguments in a folder."""
    command = [*prefix, sys.executable, "-m", "probes.cli.main", *args]
    environment = {**os.environ, "PYTHONPATH": str(checkout()), **(env or {})}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=COMMAND_DEADLINE,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    return Judged(done.returncode, done.stdout, done.stderr, folder / "report")


def run_check(folder, *args, prefix=()):
    """Runs `socketcall check` on the tests in a folder."""
    where = ["--tests", str(folder / "tests"), "--report", str(folder / "report")]
    return run_command(folder, "check", *ONE_GATE, *where, *args, prefix=prefix)


def write_tests(folder, *sources):
    """Writes the sources of test modules to tests/made/ in a folder."""
    made = folder / "tests" / "made"
    made.mkdir(parents=True, exist_ok=True)
    for number, source in enumerate(sources):
        (made / f"test_m{number:02}.py").write_text(PRELUDE.replace("{name}", f"m{number}") + source)


@pytest.fixture
def spawn():
    """Starts processes as subprocess.Popen does, in sessions of their own; a test that fails leaves none."""
    with contextlib.ExitStack() as stack:

        def start(command, **how):
            process = subprocess.Popen(command, start_new_session=True, **how)
            stack.callback(_end, process)
            return process

        yield start


def _end(process):
    """Ends a process that still runs, and those it started: unclosed, it would be told of in every later sandbox."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in filter(None, (process.stdin, process.stdout, process.stderr)):
        stream.close()


@pytest.fixture
def socketcall(tmp_path):
    """Runs `socketcall` in an empty folder."""
    return functools.partial(run_command, tmp_path)


@pytest.fixture
def judge(tmp_path):
    """Runs `socketcall check` on the sources of one or more test modules."""

    def run(*sources, args=(), prefix=()):
        write_tests(tmp_path, *sources)
        return run_check(tmp_path, *args, prefix=prefix)

    return run


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item):
    """Builds the program that a test captures while there is a network: a sandbox has none."""
    if "busybox" in getattr(item, "fixturenames", ()) and store.have(debian.BUSYBOX) is None:
        # The fixture says why.
        with contextlib.suppress(store.CannotBuild):
            store.make(debian.BUSYBOX, lambda line: None)


@pytest.fixture
def busybox():
    """Debian's static i386 busybox."""
    try:
        return store.make(debian.BUSYBOX, lambda line: None) / "bin" / "busybox"
    except store.CannotBuild as why:
        missing(why)
