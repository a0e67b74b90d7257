"""Inverts some expected values of a run, and verifies that each of these checks deviates and no other one does.

    python -m tools.inverted SEED EVERY [ID-GLOB…] [options of check]

About one check in EVERY is chosen, by its id, case and SEED. A check whose value does not rest on what the kernel answers
would conform, inverted or not. Of a list or a table one member is inverted: which must make a difference.

As a pytest plugin (-p tools.inverted) this module inverts the expectations; it acts where SOCKETCALL_INVERTED is set.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from probes.errors import CommandError
from probes.installation import checkout
from probes.report.check import Check
from probes.report.reader import read
from probes.testing.expect import Expect, Expectation, case_text
from probes.testing.reference import resolved
from tools.command import run

#: Seed and share for the plugin: "7 300".
VARIABLE = "SOCKETCALL_INVERTED"


def chosen(id: str, case: str, seed: int, every: int) -> int | None:
    """Return a number drawn for a check that is inverted, None for any other."""
    drawn = zlib.crc32(f"{seed} {id} [{case}]".encode())
    return drawn // every if drawn % every == 0 else None


def inverted(value: object, drawn: int) -> object:
    """Return another value of the same type; of a list or a table one with another member."""
    if value is None:
        return 0
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return ~value
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:] if value else b"\1"
    if isinstance(value, str):
        return f"{value}~"
    if isinstance(value, Mapping):
        at = sorted(value, key=str)[drawn % len(value)] if value else "~"
        return {**value, at: inverted(value.get(at), drawn)}
    if isinstance(value, Sequence):
        at = drawn % len(value) if value else 0
        return [*value[:at], inverted(value[at] if value else None, drawn), *value[at + 1 :]]
    raise CommandError(f"no inverse of {type(value).__name__}: add one to tools/inverted.py")


def pytest_configure() -> None:
    """Makes every Expect invert the values of the chosen checks."""
    if VARIABLE not in os.environ:
        return
    seed, every = map(int, os.environ[VARIABLE].split())
    original = Expect.__call__

    @functools.wraps(original)
    def announce(self: Expect, value: object, **case: object) -> Expectation:
        drawn = chosen(self.id, case_text({**self.parameters, **case}), seed, every)
        if drawn is not None:
            value = inverted(resolved(value, self.reference)[0], drawn)
        return original(self, value, **case)

    Expect.__call__ = announce  # type: ignore[method-assign]


def wrong(checks: Iterable[Check], seed: int, every: int) -> tuple[int, list[str]]:
    """Return how many checks were inverted and judged, and those whose verdict is not what that makes it."""
    judged, lines = 0, []
    for check in checks:
        due = "conforms" if chosen(check.key.id, check.key.case, seed, every) is None else "deviates"
        judged += due == "deviates" and check.verdict != "not_applicable"
        if check.verdict not in (due, "not_applicable"):
            lines.append(f"{check.key} {check.verdict}, and {'inverted' if due == 'deviates' else 'not inverted'}")
    return judged, lines


def main(words: list[str]) -> int:
    """Runs check with inverted expectations; returns 1 if a verdict is wrong. Raises CommandError."""
    if len(words) < 2 or not all(word.isdecimal() and int(word) for word in words[:2]):
        raise CommandError("usage: python -m tools.inverted SEED EVERY [ID-GLOB…] [options of check]; both from 1 on")
    seed, every = map(int, words[:2])
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report"
        command: list[str] = [
            sys.executable,
            "-m",
            "probes.cli",
            "check",
            *words[2:],
            "--report",
            str(report),
            "--",
            "-p",
            "tools.inverted",
        ]
        environment = {**os.environ, VARIABLE: f"{seed} {every}"}
        done = subprocess.run(command, cwd=checkout(), env=environment, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode not in (0, 1):
            ends = done.stdout.strip()[-400:]
            raise CommandError(f"check ended with {done.returncode}: {ends}; run it without tools.inverted")
        judged, lines = wrong(read(report).checks, seed, every)
    print(*lines, f"{judged} checks inverted by seed {seed}, {len(lines)} wrong verdicts", sep="\n")
    return 1 if lines or not judged else 0


if __name__ == "__main__":
    run(main)
