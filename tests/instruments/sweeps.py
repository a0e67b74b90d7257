"""Run `socketcall sweep`, for the tests of what it finds, of how it goes on, and of what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from probes.installation import checkout
from tests.instruments.support import run_command


def sweep(directory, *args):
    """Run a sweep, and return what it printed with the report that it wrote."""
    done = run_command(directory, "sweep", *args, "-o", "report.json", env={"TMPDIR": str(directory)})
    report = json.loads((directory / "report.json").read_text()) if done.status in (0, 1, 3) else {}
    return done, report


def start(directory, *args, prefix=()):
    """Start a sweep in a session of its own."""
    return subprocess.Popen(
        [*prefix, sys.executable, "-P", "-m", "probes.cli", "sweep", *args], cwd=directory, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(checkout()), "TMPDIR": str(directory)}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def lines(path):
    return path.read_text().splitlines() if path.exists() else []
