"""`socketcall check --caller agent`: the agent's calls are judged, traced and repeated as those of Python are."""

import os
import pty
import subprocess
import sys

import pytest

from probes.entry.agent import Agent, AgentError
from probes.entry.agent_start import PROGRAM
from probes.installation import checkout
from tests.instruments.support import missing

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
    assert run.lines("results.jsonl")[0]["target"]["caller"] == "agent"


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
    source = """
@law
@pytest.mark.python("an alarm of its own")
def test_marked(calls, expect):
    '''A statement.'''
    expect(0).of(calls.socket(2, 1))

@behaviour("made.m0.other", "this test")
def test_fixture(calls, meanwhile, expect):
    '''A statement.'''
    expect(0).of(calls.socket(2, 1))
"""
    run = judge(source, args=BY_AGENT)
    assert run.verdicts == ["not_applicable"] * 2, run.out + run.err
    details = [check["detail"] for check in run.checks]
    assert details[0] == "Python in the process that calls: an alarm of its own"
    assert details[1] == "Python in the process that calls: steps that are taken while it is blocked"


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
