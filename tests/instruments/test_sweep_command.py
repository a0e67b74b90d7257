"""`socketcall sweep`: whole number spaces, and what deviates in them."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import pytest

from probes.entry.sweep import Sweep
from probes.installation import checkout
from probes.report.sweep import LISTED, Deviations, Outcome
from probes.sandbox.channel import Channel
from probes.sandbox.trial import Found
from probes.targets import i386, store
from probes.testing import sweep_chunks as chunks
from probes.testing.reference import parse
from probes.testing.socket_model import OK
from probes.testing.spaces import SPACES, Plan, Space, Stretch, Track, around
from probes.testing.sweep_chunks import Task
from tests.instruments.support import COMMAND_DEADLINE, missing, run_command
from tests.instruments.sweeps import sweep

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


def wrong_kernel(directory, number, action, *args):
    """Run a sweep under a filter that answers one operation number, and return its status, output and report."""
    done = subprocess.run(
        [sys.executable, "-c", WRONG_KERNEL, hex(number), hex(action), "sweep", *args, "-o", "report.json"],
        cwd=directory, env={**os.environ, "PYTHONPATH": str(checkout())}, capture_output=True, text=True,
        timeout=COMMAND_DEADLINE, check=False,
    )  # fmt: skip
    return done, json.loads((directory / "report.json").read_text())


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
