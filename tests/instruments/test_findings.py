"""docs/findings: each program passes on this kernel and fails on the implementation; how the programs are made small."""

import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from probes.installation import checkout
from probes.script.script import Call, Check, Expected, Put, Script, Verdict, Word
from probes.targets import TARGETS, store
from tests.instruments.support import DEADLINE, missing
from tools import findings, smallest

DOCS = checkout() / "docs"


@dataclass(frozen=True)
class Finding:
    """Is a section of the page: its name, program, line and targets."""

    name: str
    path: str
    line: str
    targets: tuple[str, ...]


def page():
    """Return the findings that the page lists, by implementation."""
    found, names = {}, {}
    for part in re.split(r"^(?=##)", (DOCS / "findings.md").read_text(), flags=re.MULTILINE):
        head, _, text = part.partition("\n")
        if head.startswith("## "):
            family = head[3:]
            found[family] = []
            names = dict(re.findall(r"(\S+ \S+) \(`([^`]+)`\)", text.partition(".\n")[0].partition("deviate")[0]))
        elif (path := re.search(r"\[(findings/[^]]+\.c)\]", text)) is not None:
            on = re.search(r"^- on: (.*)$", text, re.MULTILINE)
            versions = on[1].split(", ") if on else list(names)
            line = re.search(r"^- answer: `[^`]*`: `([^`]*)`$", text, re.MULTILINE)
            found[family].append(Finding(head[4:], path[1], line[1], tuple(names[one] for one in versions)))
    return found


def test_the_page_and_the_programs_agree():
    listed = [finding.path for found in page().values() for finding in found]
    assert sorted(listed) == sorted(str(path.relative_to(DOCS)) for path in DOCS.glob("findings/*/*.c"))
    assert all(finding.targets for found in page().values() for finding in found)


def test_defects_that_were_known_are_found():
    """Each has a program that fails on the versions that have it; the list of 7.2 has the behaviours that it covers."""
    text = (DOCS / "known" / "README.md").read_text().partition("## Defects that were known before")[2]
    rows = [line.split("|")[2:5] for line in text.partition("\n## ")[0].splitlines() if line.count("`") > 2]
    lines = (DOCS / "known" / "qemu-user-bookworm.txt").read_text().splitlines()
    listed = {line.partition(" | ")[0] for line in lines}
    named = {finding.name: set(finding.targets) for finding in page()["qemu-user"]}
    of = {"7.2": ["bookworm"], "10, 11": ["trixie", "sid"], "all": ["bookworm", "trixie", "sid"]}
    assert len(rows) == 9
    for versions, behaviours, program in rows:
        wanted = {f"qemu-user:{suite}" for suite in of[versions.strip()]}
        assert wanted <= named[program.split("`")[1]], program
        if "qemu-user:bookworm" in wanted:
            covered = [id for id in re.findall("`([^`]+)`", behaviours) if not id.startswith("transfer.")]
            assert set(covered) <= listed


def command_of(name):
    """Return the words that run a program on a target, None if it is not there; that of bookworm may be installed."""
    target = TARGETS[name]
    if target.recipe is None or store.have(target.recipe) is not None:
        return findings.command_of(target)
    own = shutil.which("qemu-i386-static") if name == "qemu-user:bookworm" else None
    return [own] if own else None


def status_of(*command, cwd):
    """Run a program, and return its status and its first line."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, timeout=3 * DEADLINE, check=False)
    return done.returncode, done.stdout.decode(errors="replace").partition("\n")[0]


@pytest.mark.parametrize("family", page())
def test_each_program_passes_here_and_fails_on_the_implementation(family, tmp_path):
    if shutil.which("gcc") is None:
        missing("gcc: install Debian's packages gcc and gcc-multilib")
    commands = {name: command_of(name) for finding in page()[family] for name in finding.targets}
    if not any(commands.values()):
        missing(f"{family}: `socketcall target run {next(iter(commands))}` fetches it")

    def wrong(finding):
        program = tmp_path / finding.name
        gcc = ["gcc", "-m32", "-nostdlib", "-static", "-o", str(program), str(DOCS / finding.path)]
        subprocess.run(gcc, check=True, timeout=3 * DEADLINE)
        if (native := status_of(program, cwd=tmp_path)) != (0, ""):
            return f"{finding.name} on this kernel: {native}"
        said = []
        for name in finding.targets:
            if command := commands[name]:
                status, line = status_of(*command, program, cwd=tmp_path)
                said.append(line)
                if status != 1 or not line.startswith(re.sub(r"-\d+$", "", finding.name)):
                    return f"{finding.name} on {name}: {status} {line}"
        # One of them gives the answer of the page; bytes and ends of processes are worded otherwise there.
        answer = re.search(r" = -?\d+, expected -?\w+", finding.line)
        if answer and len(said) == len(finding.targets) and not any(answer[0] in line for line in said):
            return f"{finding.name}: none of {finding.targets} answers{answer[0]}: {said}"
        return ""

    with ThreadPoolExecutor(2) as pool:
        assert [text for text in pool.map(wrong, page()[family]) if text] == []


def call(number, *words, **how):
    """Return a call step."""
    registers = [Word(number), *words]
    return Call(tuple(registers + [Word(0)] * (7 - len(registers))), **how)


def made():
    """Return a script: two sockets, of which the second is bound and judged, and what has nothing to do with it."""
    array = Put(0x60001000, bytes(12), [(0, 4, Word(1, "slot")), (4, 4, Word(0x60002000, "pointer"))])
    return Script(
        "made.by.hand", "A statement.", "a source", "socketcall", [Check("n=0"), Check("n=1")],
        [
            call(359, Word(2), Word(1), slot=0, expected=[Expected("success")]),
            call(359, Word(2), Word(2), slot=1, expected=[Expected("success")]),
            call(6, Word(0, "slot"), expected=[Expected(Word(0), 0)]),
            Verdict(0),
            Put(0x60002000, b"address"),
            array,
            call(102, Word(2), Word(0x60001000, "pointer"), expected=[Expected(Word(0), 1)]),
            Verdict(1),
        ],
        written=[(0x60000000, 4096)],
    )  # fmt: skip


def test_a_script_of_one_check_has_no_expectation_of_another():
    one = smallest.of_check(made(), 0)
    assert [type(step).__name__ for step in one.steps] == ["Call", "Call", "Call", "Verdict"]
    two = smallest.of_check(made(), 1)
    assert [check.case for check in two.checks] == ["n=1"]
    assert [one.check for step in two.steps if isinstance(step, Call) for one in step.expected] == [None, None, 0]


def shrink(needed):
    """Return the smallest script that has steps for which `needed` is true, and what was asked."""
    asked = []

    def ask(questions):
        asked.extend(script for scripts in questions.values() for script in scripts)
        return {number: [needed(script) for script in scripts] for number, scripts in questions.items()}

    (found,) = smallest.search([smallest.smallest(smallest.of_check(made(), 1))], ask)
    return found, asked


def test_steps_are_left_out_that_the_failure_does_not_need():
    found, _ = shrink(lambda script: True)
    # The call under judgement stays, with its words and what their slots are, which get new numbers.
    assert [type(step).__name__ for step in found.steps] == ["Call", "Put", "Call", "Verdict"]
    assert (found.steps[0].registers[2], found.steps[0].slot) == (Word(2), 0)
    assert found.steps[1].words[0] == (0, 4, Word(0, "slot"))
    assert found.written == []


def test_steps_stay_that_the_failure_needs():
    found, asked = shrink(
        lambda script: any(isinstance(step, Put) and step.data == b"address" for step in script.steps)
    )
    assert any(isinstance(step, Put) and step.data == b"address" for step in found.steps)
    assert asked
    found, _ = shrink(lambda script: False)
    assert len(found.steps) == len(smallest.of_check(made(), 1).steps)


def test_results_of_a_target_that_runs_no_program_are_named(judge, tmp_path):
    judge("@law\ndef test_law(calls, expect):\n    '''A statement.'''\n    expect(-9).of(calls.close(-1))\n")
    done = subprocess.run(
        [sys.executable, "-m", "tools.findings", str(tmp_path / "report")],
        cwd=checkout(), capture_output=True, text=True, timeout=3 * DEADLINE, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "results of local, which runs no agent by a program: leave them out" in done.stderr
    assert done.stderr.count("\n") == 1
