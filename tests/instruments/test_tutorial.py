"""Tests that docs/tutorial.md shows what happens: its program, the capture of it, the behaviours and the test it names."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from probes.installation import checkout
from tests.instruments.support import DEADLINE, missing, run_command

TEXT = (checkout() / "docs/tutorial.md").read_text()
_BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def block(language: str, mark: str) -> str:
    """Returns the only block of a language that has a mark in it."""
    (found,) = [text for name, text in _BLOCKS if name == language and mark in text]
    return found


def comparable(line: str) -> str:
    """Returns a line of a capture without what differs between runs: addresses, the ABI of the machine, room."""
    line = re.sub(r"0x[0-9a-f]{7,8}", "ADDRESS", line)
    return " ".join(re.sub(r"(ia32-compat|i386)/32", "ABI", line).split())


def test_the_program_does_what_the_capture_shows(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        missing("gcc: install Debian's packages gcc and gcc-multilib")
    (tmp_path / "calls.c").write_text(block("c", "int main"))
    subprocess.run(["gcc", "-m32", "-O1", "-o", "calls", "calls.c"], cwd=tmp_path, check=True, timeout=DEADLINE)
    run = run_command(tmp_path, "capture", "--raw", "--", "./calls")
    assert run.status == 0
    *made, end = run.err.splitlines()
    assert end == "+++ exited with 0 +++"
    shown = block("", "socketcall_21").splitlines()
    # What the C library does before main makes no socket calls.
    assert [comparable(line) for line in made] == [comparable(line) for line in shown]


def test_the_test_is_the_one_of_the_suite() -> None:
    assert block("python", "@behaviour").strip() in (checkout() / "tests/bind/test_rebind.py").read_text()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:multiplexer|bind|socket)\.[a-z.-]+[a-z])`", TEXT))))
def test_a_behaviour_that_it_names_exists(name: str) -> None:
    assert name in (checkout() / "tests/ids.txt").read_text().split()
