"""`socketcall sweep` that is interrupted or killed, its workers, and its progress."""

from __future__ import annotations

import json
import os
import pty
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from probes.cli.sweep_workers import Remaining
from probes.installation import checkout
from tests.instruments.support import COMMAND_DEADLINE, end, missing, wait_for
from tests.instruments.sweeps import lines, start, sweep

#: Takes seconds through int $0x80, so that it can be interrupted.
LONG = ("operations", "--range", "0..400000")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupted_sweep_is_resumed(number, tmp_path):
    """It ends with 128+N and says how to go on; the same command sweeps the rest, and nothing twice."""
    process = start(tmp_path, *LONG, "-n", "2", "--state", "state")
    try:
        wait_for(lambda: len(lines(tmp_path / "state")) > 2, "two chunks")
        # As a terminal does, to all processes of the command.
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=COMMAND_DEADLINE)
    finally:
        end(process)
    assert process.returncode == 128 + number, out + err
    assert err == "socketcall: the sweep was ended; the same command resumes it from state\n"
    kept = sum(line["stop"] - line["start"] for line in map(json.loads, lines(tmp_path / "state")[1:]))
    assert 0 < kept < 400001
    assert f": {kept} of 400001 members swept" in out
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    done, report = sweep(tmp_path, *LONG, "--state", "state")
    assert done.status == 0, done.out + done.err
    assert (report["resumed"], report["complete"]) == (kept, True)
    assert report["results"] == {"-22 EINVAL": 399981, "-14 EFAULT": 20}
    again, report = sweep(tmp_path, *LONG, "--state", "state")
    assert (again.status, report["resumed"]) == (0, 400001)


def test_a_killed_sweep_is_resumed(tmp_path):
    """What was appended to the state file holds; the end of a line that was not written whole is dropped."""
    process = start(tmp_path, *LONG, "--state", "state")
    try:
        wait_for(lambda: len(lines(tmp_path / "state")) > 2, "two chunks")
        process.kill()
        process.wait(COMMAND_DEADLINE)
    finally:
        end(process)
    whole = (tmp_path / "state").read_bytes()
    kept = sum(line["stop"] - line["start"] for line in map(json.loads, whole.decode().splitlines()[1:]))
    (tmp_path / "state").write_bytes(whole + b'{"start":390000,"st')
    done, report = sweep(tmp_path, *LONG, "--state", "state")
    assert done.status == 0, done.out + done.err
    assert (report["resumed"], report["complete"]) == (kept, True)
    assert [json.loads(line)["seconds"] > 0 for line in lines(tmp_path / "state")[1:]]


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_worker_that_dies_is_replaced(tmp_path):
    """Its chunk is swept again."""
    process = start(tmp_path, *LONG, "-n", "1", "--state", "state", "-o", "report.json")
    try:
        wait_for(lambda: len(lines(tmp_path / "state")) > 1, "a chunk")
        (worker,) = children(process.pid)
        os.kill(worker, signal.SIGKILL)
        out, err = process.communicate(timeout=COMMAND_DEADLINE)
    finally:
        end(process)
    assert process.returncode == 0, out + err
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["results"] == {"-22 EINVAL": 399981, "-14 EFAULT": 20}


def test_a_worker_that_cannot_be_replaced(tmp_path):
    """The sweep ends in one line; its state holds."""
    process = start(tmp_path, *LONG, "-n", "1", "--state", "state", "--quiet")
    try:
        wait_for(lambda: len(lines(tmp_path / "state")) > 1, "a chunk")
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, 3))
        os.kill(children(process.pid)[0], signal.SIGKILL)
        _, err = process.communicate(timeout=COMMAND_DEADLINE)
    finally:
        end(process)
    assert process.returncode == 3, err
    assert err == "socketcall: a worker died and cannot be replaced: Too many open files\n"


def test_workers_are_bound_to_different_processors(tmp_path):
    if (os.cpu_count() or 1) < 2:
        missing("two CPUs")
    # pytest's own process is bound to one.
    process = start(tmp_path, *LONG, "-n", "2", "--state", "state", prefix=("taskset", "-c", "0,1"))
    try:
        wait_for(lambda: len(lines(tmp_path / "state")) > 1, "a chunk")
        bound = [os.sched_getaffinity(child) for child in children(process.pid)]
    finally:
        end(process)
    assert len(bound) == 2
    assert [len(cpus) for cpus in bound] == [1, 1]
    assert bound[0] != bound[1]


def test_progress_on_a_terminal(tmp_path):
    """Part, rate and time left, in one line that is written again."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "probes.cli", "sweep", *LONG], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(checkout())}, stdout=subprocess.DEVNULL, stderr=theirs,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    try:
        while data := _read(ours):
            seen += data
        assert process.wait(COMMAND_DEADLINE) == 0
    finally:
        end(process)
        os.close(ours)
    assert b" % of 400001 swept, " in seen
    assert b" a second, " in seen
    assert b" left, 0 deviate" in seen
    assert seen.endswith(b"\r\x1b[K")


def _read(terminal):
    try:
        return os.read(terminal, 4096)
    except OSError:  # EIO: the last process that had it open has ended.
        return b""


def test_what_remains():
    remaining = Remaining(100, [(10, 20), (40, 100), (0, 5)])
    assert remaining.count == 25
    assert remaining.take(3) == (5, 8)
    assert remaining.take(30) == (8, 10)
    remaining.put_back(8, 10)
    assert [remaining.take(30), remaining.take(30), remaining.take(30)] == [(8, 10), (20, 40), None]
