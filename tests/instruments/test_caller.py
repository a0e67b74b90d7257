"""`socketcall check --caller agent`: the agent's calls are judged, traced and repeated as those of Python are."""

import os
import pty
import shlex
import subprocess
import sys

import pytest

from probes.entry.agent import Agent
from probes.entry.agent_frames import AgentError
from probes.entry.agent_start import PROGRAM
from probes.installation import checkout
from tests.instruments.support import missing, run_command, write_tests

BY_AGENT = ("--caller", "agent")
BIND = """
@law
def test_law(new_socket, calls, memory, expect):
    '''A statement.'''
    made = new_socket(socket.AF_INET, socket.SOCK_STREAM)
    expect(0, step="bind").of(made.bind(ADDRESS))
    expect(-errno.EFAULT, step="fault").of(made.bind(memory.unmapped(), 16))
    expect(bytes([127, 0, 0, 1]), step="name").of(made.sockname()[4:8])
"""
SEEDED = """
@law
def test_law(seeded, calls, expect):
    '''A statement.'''
    drawn = seeded.randrange(1 << 30)
    expect(drawn).of(drawn, calls.socket(2, 1))
"""
NEEDS_PYTHON = """
@law
@pytest.mark.python("an alarm of its own")
def test_marked(calls, expect):
    '''A statement.'''
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
"""
PARAMETERS = """
@law
@pytest.mark.routes("socketcall", "direct")
@pytest.mark.parametrize("number", [1, 2])
def test_law(number, calls, expect):
    '''A statement.'''
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
"""
#: Options, and gate and word of each key that they leave.
PARTS = {
    "": [["int80", "64"], ["int80", "32"], ["vdso", "32"]],
    "--caller python": [["int80", "64"]],
    "--caller agent": [["int80", "32"], ["vdso", "32"]],
    "--gate vdso": [["vdso", "32"]],
    "--gate int80": [["int80", "64"], ["int80", "32"]],
}
#: The program `socketcall`, with an agent for a machine that this one is not: as a kernel without 32-bit entry refuses it.
WITHOUT_AGENT = """
import sys
from probes.entry import agent_start
agent_start.PROGRAM = agent_start.PROGRAM[:18] + bytes([255]) + agent_start.PROGRAM[19:]
from probes.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
BESIDE_PYTHON = pytest.mark.skipif(sys.maxsize < 2**32, reason="32-bit Python has no agent beside it")


@pytest.fixture(autouse=True)
def runs_agents():
    """Skip where this kernel runs no i386 program."""
    try:
        Agent().close()
    except (AgentError, OSError) as error:
        missing(f"a kernel that runs i386 programs: {error}")


def test_calls_are_traced(judge):
    """Every check has the word 32 and the evidence of the tracer; the vDSO's calls are found among those of the agent."""
    run = judge(BIND, args=[*BY_AGENT, "--gate=vdso"])
    assert run.verdicts == ["conforms"] * 3, run.out + run.err
    assert {(check["word"], check["gate"]) for check in run.checks} == {(32, "vdso")}
    calls = [line for line in run.lines("evidence.jsonl") if line["type"] == "call"]
    assert [call["op"] for call in calls] == ["socket", "bind", "bind", "getsockname"]
    assert {(call["word"], call["gate"], call["observed"]) for call in calls} == {(32, "vdso", True)}
    assert calls[1]["decoded"]["addr"]["host"] == "127.0.0.1"
    (caller,) = run.lines("results.jsonl")[0]["target"]["callers"]
    assert (caller["name"], caller["word"], caller["gates"]) == ("agent", 32, ["int80", "vdso"])


@pytest.fixture
def check(tmp_path):
    """Run `socketcall check` on the sources of test modules, with the callers that it has by default."""

    def run(*sources, args=()):
        write_tests(tmp_path, *sources)
        return run_command(tmp_path, "check", "--tests", "tests", *args)

    return run


@BESIDE_PYTHON
def test_both_words_are_judged(check):
    """Python and the agent make the calls of each test, the agent by both gates; the keys differ in word or gate."""
    run = check(BIND)
    assert run.status == 0, run.out + run.err
    assert "socketcall: 64-bit Python (int80) and 32-bit agent (int80, vdso)\n" in run.out
    names = [(check["word"], check["gate"]) for check in run.checks]
    assert names == [(64, "int80")] * 3 + [(32, "int80")] * 3 + [(32, "vdso")] * 3
    calls = [line for line in run.lines("evidence.jsonl") if line["type"] == "call"]
    assert {(call["word"], call["gate"], call["abi"], call["observed"]) for call in calls} == {
        (word, gate, "ia32-compat", True) for word, gate in names
    }
    callers = run.lines("results.jsonl")[0]["target"]["callers"]
    assert {one["name"]: one["options"] for one in callers} == {
        name: ["--caller", name] for name in ("python", "agent")
    }


@BESIDE_PYTHON
def test_a_caller_and_a_gate_choose_a_part(check):
    """--list names the keys; a gate that the agent alone has leaves Python out."""
    listed = {words: check(BIND, args=["--list", *words.split()]).out.splitlines() for words in PARTS}
    assert {words: [line.split()[-2:] for line in lines] for words, lines in listed.items()} == PARTS


@BESIDE_PYTHON
def test_a_second_gate_judges_once(check):
    """Over its second gate a caller has the first parameters and one route; if the gate is asked for, all of them."""
    listed = check(PARAMETERS, args=["--list"]).out.splitlines()
    assert [line.split(" ", 1)[1] for line in listed if "vdso" in line] == ["[number=1] direct vdso 32"]
    assert sorted(line.split()[2:] for line in listed if "vdso" not in line) == sorted(
        [route, "int80", word] for route in ("socketcall", "direct") for word in ("32", "64") for _ in range(2)
    )
    assert len(check(PARAMETERS, args=["--list", "--gate", "vdso"]).out.splitlines()) == 4


@BESIDE_PYTHON
def test_the_agent_judges_once_what_has_no_word(tmp_path):
    """Beside 64-bit Python the agent has the first parameters of bind's tests over each route, alone it has all."""
    both, alone = (run_command(tmp_path, "check", "--list", "bind.rebind.bound", *words) for words in ((), BY_AGENT))
    listed = both.out.splitlines()
    by_python = [line.removesuffix(" 64") for line in listed if line.endswith(" 64")]
    by_agent = [line.removesuffix(" 32") for line in listed if line.endswith(" int80 32")]
    assert by_agent == [next(line for line in by_python if f" {route} " in line) for route in ("socketcall", "direct")]
    assert {line.removesuffix(" 32") for line in alone.out.splitlines() if "int80" in line} == set(by_python)


@BESIDE_PYTHON
def test_a_test_has_one_id_in_every_run(check):
    """What a seed draws for a test of the agent is the same with and without Python beside it, and differs from Python's."""
    both, alone = (check(SEEDED, args=["--seed", "7", *words]).checks for words in ((), BY_AGENT))
    drawn = {(one["gate"], one["word"]): one["actual"] for one in both}
    assert len(set(drawn.values())) == len(drawn) == 3
    assert {(one["gate"], one["word"]): one["actual"] for one in alone} == {
        key: value for key, value in drawn.items() if key[1] == 32
    }


@BESIDE_PYTHON
def test_what_needs_python_is_judged_once(check):
    """A test that acts on its own process is Python's; the agent has none of it."""
    run = check(NEEDS_PYTHON)
    assert [(one["verdict"], one["word"]) for one in run.checks] == [("conforms", 64)], run.out + run.err


@BESIDE_PYTHON
def test_again_names_the_caller(check):
    """The command that a failure of the agent prints judges that key alone."""
    bad = BIND.replace('expect(0, step="bind")', 'expect(int(calls.gate.name == "vdso"), step="bind")')
    run = check(bad)
    assert [(one["word"], one["gate"]) for one in run.checks if one["verdict"] == "deviates"] == [(32, "vdso")]
    (again,) = [line for line in run.out.splitlines() if line.startswith("  again")]
    words = shlex.split(again.removeprefix("  again"))
    assert words[:4] == ["socketcall", "check", "--caller", "agent"]
    once = check(bad, args=words[2:])
    assert [(one["word"], one["verdict"]) for one in once.checks] == [(32, "deviates")], once.out + once.err


@BESIDE_PYTHON
def test_ranges_are_swept_whole_by_python(check):
    """The agent beside it takes a sample, alone too: its keys are the same in every run."""
    source = """
@law
def test_law(ranges, calls, expect):
    '''A statement.'''
    name, values = ranges.of(1, 100000)
    expect(True, ports=name).of(len(values) >= 200, calls.socket(2, 1))
"""
    cases = [[(one["word"], one["case"]) for one in check(source, args=words).checks] for words in ((), BY_AGENT)]
    of_agent = [(32, "ports=sample")] * 2
    assert cases == [[(64, "ports=1..100000"), *of_agent], of_agent]


@BESIDE_PYTHON
@pytest.mark.parametrize("words", [(), BY_AGENT], ids=["default", "agent"])
def test_without_an_agent(words, tmp_path):
    """Where the kernel refuses its program Python judges alone, and the first line says why; --caller agent cannot start."""
    write_tests(tmp_path, BIND)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_AGENT, "check", "--tests", "tests", *words], cwd=tmp_path, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(checkout())}, text=True, check=False,
    )  # fmt: skip
    if words:
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stdout + done.stderr
        assert "--caller agent: this kernel does not run 32-bit programs (" in done.stderr
    else:
        assert done.returncode == 0, done.stdout + done.stderr
        why = "no agent: this kernel does not run 32-bit programs ("
        assert done.stdout.startswith(f"socketcall: 64-bit Python (int80); {why}")


def test_python_and_a_command_exclude_each_other(socketcall):
    """--caller python with --via: one line, status 2."""
    done = socketcall("check", "--caller", "python", "--via", "true {agent}")
    assert (done.status, done.err.count("\n")) == (2, 1), done.out + done.err
    assert "leave out one of the two" in done.err


def test_a_call_that_kills_the_agent_deviates(judge):
    """A call that never comes back because its process died is judged as one of Python's own is."""
    source = """
@law
def test_law(calls, caller, expect):
    '''A statement.'''
    check = expect(0)
    check.of(calls.gate.enter(37, caller.pid, signal.SIGSEGV))
"""
    run = judge(source, args=BY_AGENT)
    (check,) = run.checks
    assert (check["verdict"], check["actual"]) == ("deviates", "died SIGSEGV"), run.out + run.err
    assert run.status == 1
    assert "socketcall check --caller agent made.m0.law" in run.out


def test_what_needs_python_is_not_applicable(judge):
    """A test that acts on its own process is left out, and the reason is named."""
    run = judge(NEEDS_PYTHON, args=BY_AGENT)
    assert run.verdicts == ["not_applicable"], run.out + run.err
    assert [check["detail"] for check in run.checks] == ["Python in the process that calls: an alarm of its own"]


def test_capabilities_and_descriptors_are_those_of_the_caller(judge):
    """Fixtures that drop privileges change the agent; its descriptors are listed."""
    source = """
from probes.testing import procfs

@law
def test_law(unprivileged, new_socket, calls, expect):
    '''A statement.'''
    expect(-errno.EPERM, step="raw").of(calls.socket(socket.AF_INET, socket.SOCK_RAW, 253))
    lowest, listed = expect(procfs.lowest(), step="lowest"), expect(True, step="listed")
    made = calls.socket(socket.AF_INET, socket.SOCK_STREAM)
    lowest.of([int(made)], made)
    listed.of(int(made) in procfs.descriptors(), made)
"""
    run = judge(source, args=BY_AGENT)
    assert run.verdicts == ["conforms"] * 3, run.out + run.err


def test_agent_is_written_and_runs(socketcall, tmp_path):
    """`socketcall agent -o FILE` writes a program that serves a driver; a file that exists keeps its inode and mode."""
    path = tmp_path / "agent"
    assert socketcall("agent", "-o", str(path)).status == 0
    with Agent([str(path)]) as agent:
        assert agent.call(20) == agent.pid
    path.write_bytes(bytes(1 << 16))
    path.chmod(0o600)
    before = path.stat()
    assert socketcall("agent", "-o", str(path)).status == 0
    after = path.stat()
    assert path.read_bytes() == PROGRAM
    assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)


def test_agent_on_a_full_disk(socketcall):
    """One line names the file, and the status is 3."""
    done = socketcall("agent", "-o", "/dev/full")
    assert (done.status, done.err.count("\n")) == (3, 1), done.out + done.err
    assert "-o /dev/full: No space left on device" in done.err


def test_agent_goes_to_standard_output_unless_that_is_a_terminal():
    """Without -o the program is written to standard output; to a terminal it is not, and the status is 2."""
    command = [sys.executable, "-m", "probes.cli", "agent"]
    assert subprocess.run(command, cwd=checkout(), stdout=subprocess.PIPE, check=True).stdout == PROGRAM
    master, slave = pty.openpty()
    try:
        done = subprocess.run(command, cwd=checkout(), stdout=slave, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(slave)
        os.close(master)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "standard output is a terminal" in done.stderr
