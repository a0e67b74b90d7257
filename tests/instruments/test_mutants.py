"""Mutants: what the suite finds of a wrong kernel is found, what no behaviour judges survives and is listed."""

import fnmatch
import json
import os
import subprocess
import sys
from collections import Counter
from itertools import product

import pytest

from probes.abi.operations import OPERATIONS
from probes.installation import checkout
from tests.instruments.support import COMMAND_DEADLINE, write_tests
from tools.mutants import abi, forked, named, plugin, tables
from tools.mutants.observed import Seen

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
    assert all(
        outcome["changed"] and outcome["record"]["op"] == "bind" and outcome["unmoved"] for outcome in outcomes.values()
    )
    assert status == 1
    assert "bind EBADF: error for an error" in out


def test_a_test_that_breaks_has_found_nothing(mutate):
    status, out, outcomes = mutate(BREAKING)
    assert all(outcome["broke"] and not outcome["killed"] for outcome in outcomes.values())
    assert status == 1
    assert "broke" in out


def test_a_named_wrong_kernel_is_found_by_the_behaviour_that_names_it(tmp_path):
    behaviours = sorted({behaviour for mutant in named.mutants() for behaviour in mutant.behaviours})
    command = [sys.executable, "-m", "tools.mutants", *behaviours, "--population", "B"]
    command += ["--mutants", "B wrong kernel: *", "--json", str(tmp_path / "outcomes")]
    done = subprocess.run(
        command, cwd=checkout(), capture_output=True, text=True, timeout=COMMAND_DEADLINE, check=False
    )
    # A control that deviates gives 1.
    assert done.returncode == 0, done.stdout + done.stderr
    outcomes = json.loads((tmp_path / "outcomes").read_text())["outcomes"]
    assert {outcome["of"] for outcome in outcomes} == {
        "accept4 forgets its flags", "no msg_flags", "control data dropped", "64-bit control headers",
        "descriptors not passed on", "recvmmsg's timeout read as 64 bits",
    }  # fmt: skip
    assert len(outcomes) == 12
    assert [outcome["killed"] for outcome in outcomes] == [outcome["behaviours"][0] for outcome in outcomes]


def test_population_b_has_every_operation_and_each_mutant_once():
    mutants = abi.population()
    assert not [name for name, count in Counter(mutant.name for mutant in mutants).items() if count > 1]
    assert {mutant.operation for mutant in mutants} >= {*OPERATIONS, "close"}
    assert all(mutant.match.operation == mutant.operation for mutant in mutants)


def test_population_b_has_each_state_of_a_socket_on_which_a_call_was_seen():
    seen = [Seen("getsockname", "success", "", state) for state in ("AF_INET SOCK_STREAM bound", "", "AF_UNIX bound")]
    of_kinds = [mutant for mutant in abi.population(seen) if mutant.kind]
    succeeding = [mutant for mutant in abi.population() if mutant.match.outcome == "success"]
    fields = [mutant for mutant in succeeding if mutant.operation == "getsockname"]
    assert Counter(mutant.kind for mutant in of_kinds) == {
        "AF_INET SOCK_STREAM bound": len(fields), "AF_UNIX bound": len(fields),
    }  # fmt: skip


@pytest.mark.parametrize(
    "mutant, behaviour, right",
    [
        (abi.population()[0], abi.population()[0].behaviours[0], True),
        (abi.population()[0], "teardown.close.again", False),
        (next(m for m in abi.population() if m.folder == "bind" and not m.behaviours), "bind.port.zero", True),
        (next(m for m in abi.population() if m.folder == "bind" and not m.behaviours), "wire.silence.bind", False),
        (next(m for m in abi.population() if m.folder == "multiplexer"), "multiplexer.array.exact", True),
        (next(m for m in abi.population() if m.folder == "multiplexer"), "bind.port.zero", False),
    ],
)
def test_behaviours_that_judge_what_is_wrong(mutant, behaviour, right):
    assert mutant.is_right(behaviour) == right


def test_a_sample_does_not_rest_on_the_place_of_a_mutant():
    """Which are drawn is decided by their names: other mutants in the list change nothing."""
    mutants = abi.population()
    names = [mutant.name for mutant in plugin._sampled(mutants, {"seed": 1, "sample": 40, "names": ["*"]})]
    again = plugin._sampled(mutants[::-1], {"seed": 1, "sample": 40, "names": ["*"]})
    assert [mutant.name for mutant in again] == names
    assert len({*names}) == 40
    assert len(plugin._sampled(mutants, {"seed": 1, "sample": 0, "names": ["B bind*"]})) > 40


def test_work_is_shared_by_processes():
    """Each piece is done once, and the results have the order of the pieces, whatever process did which."""
    numbers: list[int] = []
    found = forked.results(range(2000), lambda piece: (piece, os.getpid(), *numbers), [0, 0, 0], numbers.append)
    assert [piece for piece, _, _ in found] == [*range(2000)]
    assert os.getpid() not in {pid for _, pid, _ in found}
    assert {(pid, number) for _, pid, number in found} <= {*product({pid for _, pid, _ in found}, range(3))}
    assert not numbers
    for pid in {pid for _, pid, _ in found}:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def test_work_that_fails_is_noticed(capfd):
    with pytest.raises(forked.WorkerFailed, match="status 1"):
        forked.results([1, 0], lambda piece: 1 // piece, [0, 0], lambda number: None)
    assert "ZeroDivisionError" in capfd.readouterr().err


def outcome(population, folder, killed, changed=1, right=True):
    """Return the outcome of a made mutant."""
    return {
        "population": population, "folder": folder, "operator": "x", "killed": "b" * killed, "changed": changed,
        "name": "m", "tests": 1, "broke": 0, "right": killed and right, "other": "",
        "unmoved": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    "outcomes, missed",
    [
        ([outcome("A", "bind", True)] * 98 + [outcome("A", "bind", False)] * 2, 0),
        ([outcome("A", "bind", True)] * 97 + [outcome("A", "bind", False)] * 3, 1),
        ([outcome("B", "socket", True)] * 9 + [outcome("B", "socket", False)], 1),
        ([outcome("B", "other operations", False)], 0),
        ([outcome("B", "bind, by state", True)] * 9 + [outcome("B", "bind, by state", False)], 1),
        ([outcome("B", "bind", True)] * 95 + [outcome("B", "bind", True, right=False)] * 5, 0),
        ([outcome("B", "bind", True)] * 94 + [outcome("B", "bind", True, right=False)] * 6, 1),
        ([outcome("A", "bind", True), outcome("A", "bind", False, changed=0)], 0),
    ],
)
def test_rates_that_hold(outcomes, missed):
    assert len(tables.missed(outcomes, sampled=False)) == missed


def test_at_most_two_in_a_hundred_are_called_equivalent(monkeypatch):
    monkeypatch.setattr(tables, "EQUIVALENTS", {"no document": "why"})
    same = outcome("B", "other operations", False) | {"name": "no document"}
    assert not tables.missed([outcome("B", "bind", True)] * 98 + [same] * 2, sampled=False)
    assert len(tables.missed([outcome("B", "bind", True)] * 97 + [same] * 3, sampled=False)) == 1


def test_what_is_called_equivalent_is_a_mutant():
    names = [mutant.name for mutant in abi.population()]
    # In a population that was seen nowhere no mutant is of one state: what stands before the bracket is looked for.
    assert not [glob for glob in tables.EQUIVALENTS if not fnmatch.filter(names, glob.partition(" [[]")[0])]


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
