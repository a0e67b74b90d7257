"""Tests probes.targets.remote: streams of other machines make one run; what an early end leaves open is lost or not_run."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from probes.installation import checkout
from tests.instruments.support import COMMAND_DEADLINE, ONE_GATE, PYTHON, Judged, unpacked, wait_for, write_tests

GOOD = '''
@law
def test_it(calls, expect):
    """Binding descriptor -1 fails."""
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
'''
BAD = GOOD.replace("-errno.EBADF", "0")
#: The parent of the test is the process that judges, and stands for the machine: it is killed, or hangs.
DIES = '''
@law
def test_it(calls, expect):
    """The machine fails."""
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()
'''
HANGS = DIES.replace("SIGKILL", "SIGSTOP")
TALKS = '''
@law
def test_it(calls, expect):
    """Another process writes to the stream."""
    os.write(os.open(f"/proc/{os.getppid()}/fd/3", os.O_WRONLY), b"hello\\n")
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
'''

BUSY = '''
import time
@law
def test_it(calls, expect):
    """The machine is at work."""
    stream = os.open(f"/proc/{os.getppid()}/fd/3", os.O_WRONLY)
    end = time.monotonic() + 25
    while time.monotonic() < end:
        os.write(stream, b'{"type":"started","test":"tests/made/test_m01.py::test_it[socketcall-int80]"}\\n')
        time.sleep(0.1)
'''

#: The machine is a shell on this one, with the same command lines, streams and files as a VM.
RUN = """
import json, sys
from probes.installation import checkout
from probes.cli.command_line import parsed
from probes.report.expectations import Expectations
from probes.targets import remote
from probes.targets.machine import Machine
from probes.targets.target import Target
from probes.errors import CommandError

class Far(Target):
    def run(self, args, progress):
        machine = Machine(
            self, lambda script: ["sh", "-c", script], str(checkout()), sys.executable, parts,
            lambda: "the guest's kernel panicked" if panicked else None, lambda: ["[1.0] oops"],
        )
        # Its tests are not in the checkout, which remote.expectations_of() refuses.
        expectations = Expectations.of(args.expect, args.require, args.write_expect)
        return remote.RemoteRun(machine, args, expectations).run()

parts, panicked, remote.GRACE, *words = json.loads(sys.argv[1])
try:
    sys.exit(Far("far", "a shell", implementation="linux by shell").run(parsed(["check", *words]), print))
except CommandError as error:
    print(f"socketcall: {error}", file=sys.stderr)
    sys.exit(2)
"""


@pytest.fixture
def start(tmp_path, spawn):
    """Start a run of the sources of test modules on the machine."""

    def begin(*sources, args=(), parts=1, panicked=False, grace=1.0):
        write_tests(tmp_path, *sources)
        # Without a pid namespace a test can signal the process that judges it.
        words = [*ONE_GATE, "--tests", "tests", "--report", str(tmp_path / "report"), "--isolation", "none", *args]
        return spawn(
            [sys.executable, "-c", RUN, json.dumps([parts, panicked, grace, *words])],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(checkout())}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return begin


@pytest.fixture
def run(start, tmp_path):
    """Run it to its end."""

    def to_the_end(*sources, **how):
        process = start(*sources, **how)
        out, err = process.communicate(timeout=COMMAND_DEADLINE)
        return Judged(process.returncode, out, err, tmp_path / "report")

    return to_the_end


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_the_parts_are_one_run(run, parts):
    judged = run(GOOD, GOOD, GOOD, GOOD, parts=parts)
    assert judged.status == 0, judged.err
    assert sorted(check["id"] for check in judged.checks) == [f"made.m{number}.law" for number in range(4)]
    assert judged.verdicts == ["conforms"] * 4
    head, *_, end = judged.lines("results.jsonl")
    assert head["target"]["name"] == "far"
    assert end["counts"]["conforms"] == 4
    calls = {line["seq"]: line for line in judged.lines("evidence.jsonl")}
    assert [calls[check["seq"][0]]["ret"] for check in judged.checks] == [-9] * 4
    assert {path.name for path in judged.report.iterdir()} > {"summary.json", "report.html", "junit.xml", "ktap.txt"}
    assert head["target"]["implementation"] == "linux by shell"
    assert judged.out == "4 behaviours, 4 checks: 4 conforms\n"


def test_a_deviation_is_shown_with_its_call(run):
    judged = run(GOOD, BAD, parts=2)
    assert judged.status == 1
    assert sorted(judged.verdicts) == ["conforms", "deviates"]
    for part in (
        "made.m1.law deviates over socketcall",
        "actual    -9 EBADF",
        "in        eax=0x66",
        f"again     socketcall target run far -- {PYTHON}made.m1.law --route socketcall --gate int80 --seed ",
    ):
        assert part in judged.out


def test_known_deviations_are_applied_here(run, tmp_path):
    (tmp_path / "known.txt").write_text("made.m1.law | | not implemented\nmade.m2.law | | fixed since\n")
    judged = run(GOOD, BAD, GOOD, args=["--expect", "known.txt", "--write-expect", "new.txt"], parts=2)
    assert judged.status == 1
    assert "known.txt line 2: it matches no deviation any more" in judged.out
    assert "deviates over" not in judged.out
    assert "made.m1.law" in (tmp_path / "new.txt").read_text()
    (tmp_path / "known.txt").write_text("made.m1.law | | not implemented\n")
    assert run(GOOD, BAD, GOOD, args=["--expect", "known.txt"], parts=2).status == 0


def test_a_machine_that_fails_loses_the_test_it_was_at(run):
    judged = run(GOOD, DIES, GOOD, GOOD)
    assert judged.status == 3
    assert judged.verdicts == ["conforms", "lost", "not_run", "not_run"]
    lost = judged.checks[1]
    assert lost["id"] == "made.m1.law"
    assert lost["detail"].startswith("its stream broke off: ")
    assert lost["detail"].endswith("; console: [1.0] oops")
    assert judged.lines("results.jsonl")[-1]["counts"]["lost"] == 1
    assert "made.m1.law socketcall int80" in judged.out
    assert "1 lost, 2 not run" in judged.out


def test_a_part_that_is_lost_leaves_the_others_alone(run):
    judged = run(DIES, GOOD, GOOD, GOOD, GOOD, GOOD, parts=2)
    assert judged.status == 3
    verdicts = {check["id"].split(".")[1]: check["verdict"] for check in judged.checks}
    assert verdicts == {"m0": "lost", "m2": "not_run", "m4": "not_run", **dict.fromkeys(("m1", "m3", "m5"), "conforms")}


def test_a_part_that_hangs_ends_the_others_but_does_not_lose_them(run):
    # The other part sends a line now and then while its test runs.
    judged = run(HANGS, BUSY, args=["--deadline", "30"], parts=2, grace=-28.0)
    assert judged.status == 3
    verdicts = {check["id"].split(".")[1]: (check["verdict"], check["detail"][:15]) for check in judged.checks}
    assert verdicts == {"m0": ("lost", "no message for "), "m1": ("not_run", "the run ended f")}


def test_a_deviation_before_the_failure_decides_the_status(run):
    judged = run(BAD, DIES)
    assert judged.status == 1
    assert judged.verdicts == ["deviates", "lost"]


def test_a_machine_that_hangs_is_lost_within_a_deadline(run):
    judged = run(GOOD, HANGS, GOOD, args=["--deadline", "1"])
    assert judged.status == 3
    assert judged.verdicts == ["conforms", "lost", "not_run"]
    assert judged.checks[1]["detail"].startswith("no message for ")


def test_a_panic_is_read_from_the_console(run):
    judged = run(HANGS, GOOD, panicked=True)
    assert judged.status == 2
    assert judged.err == ("socketcall: far: the run did not begin: the guest's kernel panicked; console: [1.0] oops\n")


def test_a_damaged_stream_is_lost(run):
    judged = run(TALKS, GOOD)
    assert judged.status == 3
    assert judged.verdicts == ["lost", "not_run"]
    assert "hello" in judged.checks[0]["detail"]


def test_a_report_that_cannot_be_written_is_one_line(run):
    judged = run(GOOD, args=["--report", "/proc/report"])
    assert judged.status == 2
    assert re.fullmatch(r"socketcall: cannot write to /proc/report: .*; give another --report\n", judged.err)


@pytest.mark.parametrize("parts", [1, 2])
def test_a_run_that_does_not_begin_leaves_the_one_before(run, parts):
    assert run(GOOD, parts=parts).status == 0
    judged = run(GOOD, args=["no.such.id"], parts=parts)
    assert judged.status == 2
    assert judged.err.count("\n") == 1
    assert "far: the run did not begin: no behaviour matches 'no.such.id'" in judged.err
    assert judged.verdicts == ["conforms"]


def test_fail_fast_ends_every_part(run):
    judged = run(BAD, GOOD, DIES.replace("SIGKILL", "SIGURG"), args=["--fail-fast"], parts=1)
    assert judged.status == 1
    assert judged.verdicts == ["deviates", "not_run", "not_run"]


def test_an_interrupt_ends_the_run_with_what_is_there(start, tmp_path):
    # The second test never ends: the first has been reported by then.
    process = start(GOOD, DIES.replace("SIGKILL", "SIGURG"))
    results = tmp_path / "report.part" / "results.jsonl.gz"
    wait_for(lambda: results.exists() and '"conforms"' in unpacked(results), "the first check", COMMAND_DEADLINE)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=COMMAND_DEADLINE)
    assert process.returncode == 130
    assert Judged(130, "", "", tmp_path / "report").verdicts == ["conforms", "not_run"]


def test_a_shard_is_divided_further(run):
    first = run(GOOD, GOOD, GOOD, GOOD, GOOD, args=["--shard", "1/2"], parts=2)
    ids = {check["id"] for check in first.checks}
    second = run(GOOD, GOOD, GOOD, GOOD, GOOD, args=["--shard", "2/2"], parts=2)
    others = {check["id"] for check in second.checks}
    assert not ids & others
    assert len(ids | others) == 5
