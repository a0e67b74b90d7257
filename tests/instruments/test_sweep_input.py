"""`socketcall sweep` with wrong arguments, and with states of other sweeps: one line, status 2, nothing written."""

from __future__ import annotations

import fcntl
import json
import resource
import sys

import pytest

from probes.cli import sweep_workers as workers
from probes.sandbox.free_memory import available
from tests.instruments.support import missing, run_command
from tests.instruments.sweeps import lines

BAD = {
    "turned round": (["operations", "--range", "9..3"], "is turned round; write 3..9"),
    "beyond 32 bits": (["operations", "--range", "0..4294967296"], "goes beyond 32 bits"),
    "far beyond": (["operations", "--range", "0..0x" + "f" * 20], "goes beyond 32 bits"),
    "no range": (["operations", "--range", "5"], "is not A..B"),
    "negative": (["operations", "--range=-5..5"], "is not A..B"),
    "other digits": (["operations", "--range", "\u0661..\u0662"], "is not A..B"),
    "beyond the ports": (["ports", "--range", "0..65536"], "ports are the numbers 0 to 65535"),
    "beyond the families": (["families", "--range", "0..1024"], "families are the numbers 0 to 1023"),
    "no space": (["numbers"], "invalid choice"),
    "nothing": ([], "the following arguments are required: SPACE"),
    "a route without numbers": (["operations", "--route", "direct"], "over route socketcall only"),
    "more workers than descriptors": (["operations", "-n", "900000000"], "descriptors are too few"),
    "no workers": (["operations", "-n", "0"], "is not a number of processes"),
    "a reference": (["operations", "--reference", "vax-1"], "--reference: "),
    "words after --": (["operations", "--", "x"], "nothing can follow --"),
    "an output that is a directory": (["operations", "-o", "."], "cannot write"),
    "a state that is a directory": (["operations", "--state", "."], "cannot use the state file"),
    "a state that is a device": (["operations", "--state", "/dev/zero"], "it is no regular file"),
    "a state in no directory": (["operations", "--state", "no/state"], "No such file"),
    "one file for both": (["operations", "--state", "x", "-o", "x"], "cannot be both"),
    "on a VM": (["vagrant"], "runs check only"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input(what, tmp_path):
    """One line, status 2, and no file."""
    words, text = BAD[what]
    if what == "on a VM":
        done = run_command(tmp_path, "target", "run", "vagrant:6.1-686-pae", "--", "sweep", "ports")
    else:
        done = run_command(tmp_path, "sweep", *words)
    assert done.status == 2, done.out + done.err
    assert text in done.err
    assert done.err.startswith("socketcall: ")
    assert done.err.count("\n") == 1
    assert len(done.err) < 400
    assert done.out == ""
    assert list(tmp_path.iterdir()) == []


def test_more_workers_than_memory_allows(tmp_path):
    free = available()
    assert free is not None
    wanted = (free >> 20) // workers.MEGABYTES + 1000
    if wanted + 64 > resource.getrlimit(resource.RLIMIT_NOFILE)[1]:
        missing("descriptors for more workers than memory")
    done = run_command(tmp_path, "sweep", "operations", "-n", str(wanted))
    assert (done.status, done.err.count("\n")) == (2, 1), done.out + done.err
    assert f"-n {wanted}: so many workers need {wanted * workers.MEGABYTES} MB of memory" in done.err


def test_a_gate_that_is_not_there(tmp_path):
    if sys.maxsize < 2**32:
        missing("a 64-bit process, which has no vDSO gate")
    done = run_command(tmp_path, "sweep", "operations", "--gate", "vdso")
    assert (done.status, done.err.count("\n")) == (2, 1), done.out + done.err
    assert "--gate vdso: this 64-bit process has int80 only" in done.err


SMALL = ("operations", "--range", "0..100", "--state", "state")
OTHERS = {"kernel": "6.1.0", "gate": "vdso", "route": "direct", "range": [0, 99], "suite": "0.0.0", "space": "ports"}


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """Return the lines of the state of a sweep."""
    place = tmp_path_factory.mktemp("state")
    assert run_command(place, "sweep", *SMALL).status == 0
    return lines(place / "state")


@pytest.mark.parametrize("name", OTHERS)
def test_a_state_of_another_sweep(name, state, tmp_path):
    """It is refused, and stays as it is."""
    first, *rest = state
    other = "\n".join([json.dumps({**json.loads(first), name: OTHERS[name]}), *rest, ""])
    (tmp_path / "state").write_text(other)
    done = run_command(tmp_path, "sweep", *SMALL)
    assert (done.status, done.err.count("\n")) == (2, 1), done.out + done.err
    assert f"is the state of a sweep with another {name}" in done.err
    assert (tmp_path / "state").read_text() == other


STRANGE = {
    "notes of the user": "remember the milk\n",
    "no line": "remember",
    "other JSON": '{"type":"run"}\n',
    "bytes": "\0\u00ff" * 50,
}


@pytest.mark.parametrize("what", STRANGE)
def test_a_file_that_is_no_state(what, tmp_path):
    (tmp_path / "state").write_text(STRANGE[what])
    done = run_command(tmp_path, "sweep", *SMALL)
    assert (done.status, done.err.count("\n")) == (2, 1), done.out + done.err
    assert "holds no state of a sweep, and stays as it is" in done.err
    assert (tmp_path / "state").read_text() == STRANGE[what]


@pytest.mark.parametrize(
    "line",
    [
        "{}", "[]", "x", '{"start":0,"stop":102,"seconds":1,"deviations":[],"lost":[],"left_open":[],"deaths":0}',
        '{"start":0,"stop":50,"seconds":1,"deviations":[{}],"lost":[],"left_open":[],"deaths":0}',
        '{"start":0,"stop":50,"seconds":1,"deviations":[],"lost":[[1]],"left_open":[],"deaths":0}',
    ],
)  # fmt: skip
def test_a_damaged_state(line, state, tmp_path):
    (tmp_path / "state").write_text("\n".join([*state, line, ""]))
    done = run_command(tmp_path, "sweep", *SMALL)
    assert (done.status, done.err.count("\n")) == (2, 1), done.out + done.err
    assert "is damaged in line 3" in done.err


def test_a_state_that_another_sweep_uses(tmp_path):
    with (tmp_path / "state").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = run_command(tmp_path, "sweep", *SMALL)
    assert (done.status, done.err.count("\n")) == (2, 1), done.out + done.err
    assert "is in use by another sweep" in done.err


def test_a_full_disk_under_the_report(tmp_path):
    done = run_command(tmp_path, "sweep", "operations", "--range", "0..100", "-o", "/dev/full")
    assert (done.status, done.err.count("\n")) == (3, 1), done.out + done.err
    assert "cannot write /dev/full: No space left on device" in done.err
    # What was found is not lost with the file.
    assert "all 101 members swept" in done.out
