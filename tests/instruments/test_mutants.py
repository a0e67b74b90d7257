"""Mutants: what the suite finds of a wrong kernel is found, what no behaviour judges survives and is listed."""

import json
import subprocess
import sys
from collections import Counter

import pytest

from probes.abi.operations import OPERATIONS
from probes.installation import checkout
from tests.instruments.support import COMMAND_DEADLINE, write_tests
from tools.mutants import abi, tables

STRONG = '''
@law
def test_it(calls, expect):
    """bind of descriptor -1 fails with EBADF."""
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
'''
#: It rests on the same call, and does not judge it.
WEAK = '''
@law
def test_it(calls, expect):
    """bind of descriptor -1 leaves 1 and 1 equal."""
    check = expect(True)
    check.of(1 == 1, calls.bind(-1, ADDRESS))
'''
#: It breaks on a wrong kernel, which finds nothing.
BREAKING = '''
@law
def test_it(calls, expect):
    """bind of descriptor -1 fails with EBADF."""
    check = expect(True)
    result = calls.bind(-1, ADDRESS)
    check.of({-errno.EBADF: True}[int(result)], result)
'''


@pytest.fixture
def mutate(tmp_path):
    """Judge population A by a made test; return the status, what was printed, and the outcomes by operator."""

    def do(source):
        write_tests(tmp_path, source)
        command = [sys.executable, "-m", "tools.mutants", "--population", "A", "-n", "1"]
        command += ["--tests", str(tmp_path / "tests"), "--json", str(tmp_path / "outcomes")]
        done = subprocess.run(
            command, cwd=checkout(), capture_output=True, text=True, timeout=COMMAND_DEADLINE, check=False
        )
        assert done.returncode in (0, 1), done.stderr
        outcomes = json.loads((tmp_path / "outcomes").read_text())["outcomes"]
        return done.returncode, done.stdout, {outcome["operator"]: outcome for outcome in outcomes}

    return do


def test_a_wrong_result_is_found(mutate):
    status, out, outcomes = mutate(STRONG)
    assert outcomes.keys() == {"error for an error", "success for an error"}
    assert all(outcome["killed"] for outcome in outcomes.values())
    assert status == 0
    assert "survived" not in out


def test_what_is_not_judged_survives(mutate):
    status, out, outcomes = mutate(WEAK)
    assert not any(outcome["killed"] for outcome in outcomes.values())
    assert all(outcome["changed"] and outcome["record"]["op"] == "bind" for outcome in outcomes.values())
    assert status == 1
    assert "bind EBADF: error for an error" in out


def test_a_test_that_breaks_has_found_nothing(mutate):
    status, out, outcomes = mutate(BREAKING)
    assert all(outcome["broke"] and not outcome["killed"] for outcome in outcomes.values())
    assert status == 1
    assert "broke" in out


def test_population_b_has_every_operation_and_each_mutant_once():
    mutants = abi.population()
    assert not [name for name, count in Counter(mutant.name for mutant in mutants).items() if count > 1]
    assert {mutant.operation for mutant in mutants} >= {*OPERATIONS, "close"}
    assert all(mutant.match.operation == mutant.operation for mutant in mutants)


def outcome(population, folder, killed, changed=1):
    """Return the outcome of a made mutant."""
    return {
        "population": population, "folder": folder, "operator": "x", "killed": "b" * killed, "changed": changed,
        "name": "m", "tests": 1, "broke": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "outcomes, missed",
    [
        ([outcome("A", "bind", True)] * 98 + [outcome("A", "bind", False)] * 2, 0),
        ([outcome("A", "bind", True)] * 97 + [outcome("A", "bind", False)] * 3, 1),
        ([outcome("B", "socket", True)] * 9 + [outcome("B", "socket", False)], 1),
        ([outcome("B", "other operations", False)], 0),
        ([outcome("A", "bind", True), outcome("A", "bind", False, changed=0)], 0),
    ],
)
def test_rates_that_hold(outcomes, missed):
    assert len(tables.missed(outcomes, sampled=False)) == missed


@pytest.mark.parametrize("words", [["--sample", "-1"], ["-n", "0"], ["--population", "C"]])
def test_wrong_arguments(words):
    done = subprocess.run(
        [sys.executable, "-m", "tools.mutants", *words],
        cwd=checkout(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
