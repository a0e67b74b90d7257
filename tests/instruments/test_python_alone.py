"""Compares tests/python.txt, the behaviours that Python alone judges, with the tests; tests what judges the others."""

import json
import sys

import pytest

from probes.entry.agent import Agent, AgentError
from probes.installation import checkout
from probes.testing.behaviours import PYTHON_ALONE, python_alone
from tests.instruments.support import missing, run_command

#: The most behaviours that may need Python in the process that calls.
MOST = 30
GATES = ("int80", "vdso")
#: Acts on the process that calls from outside, by a signal, and by children of it.
SIGNALS = """
@law
def test_law(calls, the_gate, caller, memory, meanwhile, children, expect):
    '''A statement.'''
    meanwhile.catch(restart=False)
    ends = memory.alloc(8)
    need(calls.make("socketpair", 1, 1, 0, ends))
    left, right = ends.words()
    interrupted, handled = expect(-errno.EINTR, step="interrupted"), expect(2, step="handled")
    child, status = expect(7 << 8, step="child"), expect(errno.EBADF << 8, step="error")
    with meanwhile(meanwhile.signal):
        result = calls.make("recv", left, memory.alloc(4), 4, 0)
        interrupted.of(result)
    need(the_gate.enter(37, caller.pid, signal.SIGUSR1))
    handled.of(meanwhile.handled(), result)
    child.of(children.ended(children.start((1, 7))), result)
    status.of(children.ended(children.start((20,), (6, 0x7FFF))), result)
"""
#: The call does not block, so the step is not taken.
NOT_BLOCKED = """
@law
def test_law(calls, memory, meanwhile, expect):
    '''A statement.'''
    meanwhile.catch(restart=False)
    ends = memory.alloc(8)
    need(calls.make("socketpair", 1, 1, 0, ends))
    returned, handled = expect(-errno.EAGAIN, step="returned"), expect(0, step="handled")
    with meanwhile(meanwhile.signal):
        result = calls.make("recv", ends.words()[0], memory.alloc(4), 4, socket.MSG_DONTWAIT)
    returned.of(result)
    handled.of(meanwhile.handled(), result)
"""


def test_the_list_has_the_behaviours_that_are_marked(tmp_path):
    """Every behaviour of the list needs Python, every other one runs by an agent too, and the list is short."""
    run = run_command(tmp_path, "behaviours", "--json")
    assert run.status == 0, run.err
    marked = {line["id"]: line["python"] for line in map(json.loads, run.out.splitlines()) if line["python"]}
    listed = python_alone(checkout() / "tests")
    assert listed == marked, f"compare the lines of tests/{PYTHON_ALONE} with the tests that have @pytest.mark.python"
    assert 0 < len(listed) <= MOST


def test_an_agent_makes_the_calls_of_every_other_behaviour(tmp_path):
    """What --caller agent runs is the catalogue without the list: a listed behaviour has no check there."""
    if sys.maxsize < 2**32:
        pytest.skip("32-bit Python has no agent beside it")
    runs_agents()
    listed = python_alone(checkout() / "tests")
    run = run_command(tmp_path, "check", "--list")
    assert run.status == 0, run.err
    words = dict[str, set[str]]()
    for line in run.out.splitlines():
        words.setdefault(line.split()[0], set()).add(line.split()[-1])
    assert {id for id, found in words.items() if found == {"64"}} == set(listed)
    assert {id for id, found in words.items() if found == {"64", "32"}} == set(words) - set(listed)


def test_a_mark_without_a_reason_is_an_error(judge):
    """A behaviour that needs Python and is not in the list stops the run before its first test."""
    run = judge("""
@law
@pytest.mark.python
def test_law(calls, expect):
    '''A statement.'''
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
""")
    assert run.status == 2, run.out + run.err
    assert "behaviour made.m0.law has @pytest.mark.python, and python.txt no reason" in run.err
    assert run.err.count("\n") == 1


@pytest.mark.parametrize("line", ["entry.errno.values", "entry.errno.values |", "x | y", "a.b.c | y\na.b.c | z"])
def test_a_malformed_line_of_the_list_is_named(tmp_path, line):
    (tmp_path / PYTHON_ALONE).write_text(f"# A comment.\n\n{line}\n")
    with pytest.raises(ValueError, match=rf"{PYTHON_ALONE} line [34]: .* is not `id \| reason`"):
        python_alone(tmp_path)


@pytest.mark.parametrize("words", [("--caller", "python"), *(("--caller", "agent", "--gate", name) for name in GATES)])
def test_signals_and_children_of_a_caller(judge, words):
    """A signal interrupts a call of the caller, and its handler counts; children of the caller make calls and exit."""
    if "agent" in words:
        runs_agents()
    run = judge(SIGNALS, args=words)
    assert run.verdicts == ["conforms"] * 4, run.out + run.err


def test_a_step_waits_no_longer_than_the_body(judge):
    """A call of the agent that does not sleep ends the wait of a step, which is not taken: the agent waits for requests."""
    runs_agents()
    run = judge(NOT_BLOCKED, args=("--caller", "agent"))
    assert run.verdicts == ["conforms"] * 2, run.out + run.err


def runs_agents():
    """Skip where this kernel runs no i386 program."""
    try:
        Agent().close()
    except (AgentError, OSError) as error:
        missing(f"a kernel that runs i386 programs: {error}")
