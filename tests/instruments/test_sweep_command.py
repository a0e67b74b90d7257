"""`socketcall sweep`: whole number spaces, what deviates in them, interruption, resumption and bad input."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from probes.cli import sweep_workers as workers
from probes.cli.sweep_workers import Remaining
from probes.entry.sweep import Sweep
from probes.installation import checkout
from probes.report.sweep import LISTED, Deviations, Outcome
from probes.sandbox.channel import Channel
from probes.sandbox.free_memory import available
from probes.sandbox.trial import Found
from probes.targets import i386, store
from probes.testing import sweep_chunks as chunks
from probes.testing.reference import parse
from probes.testing.socket_model import OK
from probes.testing.spaces import SPACES, Plan, Space, Stretch, Track, around
from probes.testing.sweep_chunks import Task
from tests.instruments.support import COMMAND_DEADLINE, end, missing, run_command, wait_for

#: Installs a seccomp filter that answers socketcall with some operation number, and executes `socketcall sweep` under it.
WRONG_KERNEL = """
import os, struct, sys
from probes.trace import ptrace
number, action = int(sys.argv[1], 0), int(sys.argv[2], 0)
op = lambda code, value, yes=0, no=0: struct.pack("<HBBI", code, yes, no, value)
load, equal, answer = 0x20, 0x15, 0x06
ptrace.set_filter([
    op(load, 4), op(equal, ptrace.ARCH_I386, 0, 5), op(load, 0), op(equal, 102, 0, 3),
    op(load, 16), op(equal, number, 0, 1), op(answer, action), op(answer, 0x7FFF0000),
])
os.execv(sys.executable, [sys.executable, "-P", "-m", "probes.cli", *sys.argv[3:]])
"""
RET_ERRNO, RET_KILL_PROCESS = 0x00050000, 0x80000000
#: Takes seconds through int $0x80, so that it can be interrupted.
LONG = ("operations", "--range", "0..400000")


def sweep(directory, *args):
    """Run a sweep, and return what it printed with the report that it wrote."""
    done = run_command(directory, "sweep", *args, "-o", "report.json", env={"TMPDIR": str(directory)})
    report = json.loads((directory / "report.json").read_text()) if done.status in (0, 1, 3) else {}
    return done, report


def start(directory, *args, prefix=()):
    """Start a sweep in a session of its own."""
    return subprocess.Popen(
        [*prefix, sys.executable, "-P", "-m", "probes.cli", "sweep", *args], cwd=directory, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(checkout()), "TMPDIR": str(directory)}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wrong_kernel(directory, number, action, *args):
    """Run a sweep under a filter that answers one operation number, and return its status, output and report."""
    done = subprocess.run(
        [sys.executable, "-c", WRONG_KERNEL, hex(number), hex(action), "sweep", *args, "-o", "report.json"],
        cwd=directory, env={**os.environ, "PYTHONPATH": str(checkout())}, capture_output=True, text=True,
        timeout=COMMAND_DEADLINE, check=False,
    )  # fmt: skip
    return done, json.loads((directory / "report.json").read_text())


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


# What conforms

CONFORMING = {
    "operations": (["--range", "0..70000"], 70001, {"-22 EINVAL": 69981, "-14 EFAULT": 20}),
    "ports": (["--range", "1000..1100"], 808, {"0": 712, "-13 EACCES": 96}),
    "types": (
        ["--range", "0..0x1000", "--route", "direct"],
        4097,
        {"-22 EINVAL": 4075, "-94 ESOCKTNOSUPPORT": 14, "a descriptor": 8},
    ),
    "families": (["--range", "3..4"], 16384, {"-97 EAFNOSUPPORT": 11264, "-22 EINVAL": 5120}),
}


@pytest.mark.parametrize("space", CONFORMING)
def test_a_space(space, tmp_path):
    """On Linux every member conforms, and the report says what was covered, with the count of each result."""
    args, members, results = CONFORMING[space]
    done, report = sweep(tmp_path, space, *args)
    assert (done.status, done.err) == (0, ""), done.out
    assert report["results"] == results
    assert (report["swept"], report["complete"], report["deviations"], report["lost"]) == (members, True, [], [])
    covered = {one["case"]: (one["first"], one["last"]) for one in report["covered"]}
    assert sum(last - first + 1 for first, last in covered.values()) == members
    assert "0 deviate, 0 lost, 0 not swept, 0 not judged" in done.out
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_what_is_expected_of_single_members():
    """What is expected is what the documents state, member by member."""

    def answer(space, value, case=""):
        plan = Plan(SPACES[space], value, value, parse("ia32-compat-6.12"))
        (found,) = [
            expected.answer
            for member in range(plan.size)
            for expected in plan.expected(member, member + 1)
            if plan.named(member) == case or (" protocol " not in case and plan.named(member).startswith(case))
        ]
        return found

    for number in (0, 21, 22, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
        assert answer("operations", number) == -errno.EINVAL
    for number in (1, 20):
        assert answer("operations", number) == -errno.EFAULT
    assert answer("ports", 1023, "kind=tcp capabilities=none") == -errno.EACCES
    assert answer("ports", 1023, "kind=tcp capabilities=all") == 0
    assert answer("ports", 0, "kind=udp6 capabilities=none") == 0
    assert answer("ports", 1024, "kind=udp6 capabilities=none") == 0
    assert [answer("types", word) for word in (1, 0x80801, 4, 10, 11, 0x11, 0xFFFFFFFF)] == [
        OK, OK, -errno.ESOCKTNOSUPPORT, -errno.ESOCKTNOSUPPORT, -errno.EINVAL, -errno.EINVAL, -errno.EINVAL,
    ]  # fmt: skip
    assert answer("families", 2, "family=2 type=1 protocol 6") == OK
    assert answer("families", 2, "family=2 type=1 protocol 17") == -errno.EPROTONOSUPPORT
    assert answer("families", 2, "family=2 type=11 protocol 17") == -errno.EINVAL
    assert answer("families", 46, "family=46 type=11 protocol 17") == -errno.EAFNOSUPPORT
    assert answer("families", 1, "family=1 type=1 protocol 2") == -errno.EPROTONOSUPPORT


# What deviates


def test_a_wrong_answer_is_found(tmp_path):
    """One number of 40,000 that fails with EPERM: it is named, and made again with registers and words as evidence."""
    done, report = wrong_kernel(tmp_path, 0x8765, RET_ERRNO | errno.EPERM, "operations", "--range", "20000..60000")
    assert done.returncode == 1, done.stdout + done.stderr
    (group,) = report["deviations"]
    assert (group["expected"], group["actual"], group["count"]) == ("-22 EINVAL", "-1 EPERM", 1)
    assert group["members"] == [{"case": "", "first": 0x8765, "last": 0x8765}]
    assert report["results"] == {"-22 EINVAL": 40000, "-1 EPERM": 1}
    (evidence,) = report["evidence"]
    (call,) = evidence["calls"]
    assert (call["regs_in"]["ebx"], call["ret"], call["observed"]) == ("0x8765", -errno.EPERM, True)
    assert "members   1: 0x8765" in done.stdout
    assert "ebx=0x8765" in done.stdout
    assert "again     socketcall sweep operations --range 0x8765..0x8765 --gate int80 --route socketcall" in done.stdout


def test_a_missing_operation_is_found(tmp_path):
    """An operation that fails with EINVAL instead of EFAULT."""
    done, report = wrong_kernel(tmp_path, 19, RET_ERRNO | errno.EINVAL, "operations", "--range", "0..100")
    assert done.returncode == 1, done.stdout + done.stderr
    assert [(one["expected"], one["actual"]) for one in report["deviations"]] == [("-14 EFAULT", "-22 EINVAL")]
    assert report["deviations"][0]["members"] == [{"case": "", "first": 19, "last": 19}]


def test_a_number_that_kills_the_process_is_narrowed_down(tmp_path):
    """The member is found, and all others are swept."""
    done, report = wrong_kernel(tmp_path, 30000, RET_KILL_PROCESS, "operations", "--range", "0..50000", "-n", "1")
    assert done.returncode == 1, done.stdout + done.stderr
    (group,) = report["deviations"]
    assert (group["actual"], group["members"]) == (
        "the process was killed by SIGSYS", [{"case": "", "first": 30000, "last": 30000}],
    )  # fmt: skip
    assert report["results"] == {
        "-22 EINVAL": 49980, "-14 EFAULT": 20, "the process was killed by SIGSYS": 1,
    }  # fmt: skip
    assert (report["complete"], report["deaths"]) == (True, 3)
    (call,) = report["evidence"][0]["calls"]
    assert call["regs_in"]["ebx"] == "0x7530"


def test_deviations_are_ranges_by_result():
    """Members that follow each other are one range in whatever order they come; a group lists a bounded number."""
    found = Deviations()
    for first in (10, 30, 20):
        found.add("0", "-1 EPERM", first, 10)
    ((_, _, group),) = found
    assert (group.count, group.ranges) == (30, [[10, 30]])
    for member in range(100, 100 + 4 * LISTED, 2):
        found.add("0", "-1 EPERM", member, 1)
    outcome = Outcome(found, [(1, 2, "why")], [(3, 4, 5)], 6)
    again = Outcome.of_json(json.loads(json.dumps(outcome.as_json())))
    assert again.as_json() == outcome.as_json()
    assert again.deviations.count == 30 + 2 * LISTED
    assert again.status == 1


#: Direct numbers: pause blocks for ever, dup makes a descriptor.
PAUSE, DUP = 29, 41


def swept(tmp_path, track, slowness=1.0):
    """Sweep a made space of one track in this process, and return what was found."""
    space = Space("made", "made", "It is made.", "this test", track.last, lambda first, last: [track])
    plan = Plan(space, track.first, track.last, parse("ia32-compat-6.12"))
    task = Task(plan, "int80", "socketcall", Found("full", "gate"), slowness)
    return chunks.sweep(task, 0, plan.size, chunks.Board(), Channel(1 << 16), tmp_path)


def numbers(calls):
    """Return a sweep over the numbers of system calls."""
    made = Sweep(calls)
    made.raw(made.value, 0, judged=True)
    return made


def blocks_at(number):
    """Return a track of numbers that fail with ENOSYS, one of which blocks."""
    stretches = lambda first, last: around({}, -errno.ENOSYS, first, last)  # noqa: E731
    return Track("", number, number, numbers, stretches)


def test_a_member_that_never_returns_is_narrowed_down(tmp_path):
    """It deviates after the deadline of its sandbox."""
    found = swept(tmp_path, blocks_at(PAUSE), slowness=0.03)
    ((expected, actual, group),) = found.deviations
    assert (expected, group.ranges, found.deaths) == ("-38 ENOSYS", [[0, 1]], 3)
    assert actual.startswith("the process did not end within ")


def test_too_many_deaths_lose_the_rest_of_a_block(tmp_path, monkeypatch):
    """What is not narrowed down is lost, which is no deviation."""
    monkeypatch.setattr(chunks, "_MOST_DEATHS", 0)
    found = swept(tmp_path, blocks_at(PAUSE), slowness=0.03)
    assert (found.deviations.count, found.status) == (0, 3)
    ((start, count, why),) = found.lost
    assert (start, count) == (0, 1)
    assert why.startswith("the process did not end within ")


def test_descriptors_that_stay_open_are_found(tmp_path):
    """A call that fails as expected, and leaves a descriptor behind."""

    def leaking(calls):
        made = Sweep(calls)
        made.raw(DUP, 0)
        made.raw(0xFFFF, made.value, judged=True)
        return made

    found = swept(tmp_path, Track("", 0, 9, leaking, lambda first, last: [Stretch(first, last, -errno.ENOSYS)]))
    assert found.deviations.count == 0
    assert (found.left_open, found.status) == ([(0, 10, 10)], 1)


# Interruption


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


# Bad input

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


@pytest.mark.parametrize("name", OTHERS)
def test_a_state_of_another_sweep(name, tmp_path):
    """It is refused, and stays as it is."""
    assert run_command(tmp_path, "sweep", *SMALL).status == 0
    first, *rest = lines(tmp_path / "state")
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
def test_a_damaged_state(line, tmp_path):
    assert run_command(tmp_path, "sweep", *SMALL).status == 0
    with (tmp_path / "state").open("a") as file:
        file.write(line + "\n")
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


# Another target


def test_the_vdso_gate_in_the_i386_root(tmp_path):
    """`target run i386 -- sweep` sweeps in the 32-bit root, and writes the report outside."""
    if store.have(i386.ROOT) is None:
        missing("the i386 root: socketcall target build i386")
    words = ("sweep", "operations", "--gate", "vdso", "--range", "0xfff00000..0xffffffff", "-o", "report.json")
    done = run_command(tmp_path, "target", "run", "i386", "--", *words)
    assert done.status == 0, done.out + done.err
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["word"], report["gate"], report["target"]) == (32, "vdso", "i386")
    assert report["results"] == {"-22 EINVAL": 1 << 20}
