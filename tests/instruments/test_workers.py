"""`check -n`: several processes judge one run, and its files, its output and its end are those of one process."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from probes.installation import checkout
from probes.plugin.shard import Shard
from probes.sandbox.free_memory import available, left_in_cgroup
from tests.instruments.support import COMMAND_DEADLINE, DEADLINE, ONE_GATE, wait_for, write_tests

GOOD = '''
@law
def test_it(calls, expect):
    """Binding descriptor -1 fails."""
    for case in range(3):
        expect(-errno.EBADF, case=case).of(calls.bind(-1, ADDRESS))
'''
BAD = GOOD.replace("-errno.EBADF", "0")
BROKE = GOOD.replace("    for case", '    raise RuntimeError("a fault of the test")\n    for case')
MISSING = GOOD.replace("    for case", '    not_applicable("a moon")\n    for case')
#: Opens a file, and keeps it open for ever.
WAITS = '''
@law
def test_it(calls, expect):
    """The test is at work."""
    held = open({path!r}, "w")
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
    signal.pause()
'''
#: Makes a file, and waits for one that another test makes; each notes its CPUs.
MEETS = '''
import json, time
@law
def test_it(calls, expect):
    """The tests are at work at the same time."""
    with open({mine!r}, "w") as file:
        json.dump(sorted(os.sched_getaffinity(0)), file)
    while not os.path.exists({other!r}):
        time.sleep(0.01)
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
'''
#: Its evidence takes more than 64 kB when it is packed.
LARGE = '''
@law
def test_it(calls, expect):
    """Binding descriptor -1 fails."""
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
    for _ in range(2000):
        calls.bind(-1, os.urandom(16))
'''
CPUS = os.cpu_count() or 1
#: pytest is pinned to a CPU, and with it what it starts.
ON_ALL_CPUS = ("taskset", "-c", f"0-{CPUS - 1}")


@pytest.fixture
def start(tmp_path, spawn):
    """Start `socketcall check` on the tests in the test's directory, in a session of its own."""

    def begin(*words, prefix=()):
        words = ("--tests", "tests", "--deadline", str(DEADLINE), *words)
        return spawn(
            [*prefix, sys.executable, "-P", "-m", "probes.cli", "check", *ONE_GATE, *words], cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(checkout())},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return begin


@pytest.fixture
def held(tmp_path):
    """Return a path for WAITS, and a function that waits for the process that has it open."""
    path = tmp_path / "held"

    def has_open(process):
        try:
            return any(str(link.readlink()) == str(path) for link in Path(f"/proc/{process.pid}/fd").iterdir())
        except OSError:
            return False

    def holder(run):
        def find():
            below = psutil.Process(run.pid).children(recursive=True)
            return path.exists() and next((process for process in below if has_open(process)), None)

        return wait_for(find, "the test that waits", COMMAND_DEADLINE)

    return str(path), holder


#: What two runs have in common of the lines of their files.
ALIKE = {
    "results": {
        "type",
        "schema",
        "id",
        "case",
        "route",
        "gate",
        "word",
        "verdict",
        "expected",
        "actual",
        "seq",
        "detail",
    },
    "evidence": {"type", "seq", "route", "op", "ret", "errno", "decoded", "number"},
}


def lines(directory, name):
    """Return the lines of a file of a run, without what is different in every run."""
    packed = subprocess.run(["zcat", directory / f"{name}.jsonl.gz"], capture_output=True, check=True).stdout
    read = map(json.loads, packed.splitlines())
    return [{key: value for key, value in line.items() if key in ALIKE[name]} for line in read]


def printed(run):
    """Return what a run printed, without addresses, the time that it took and its seed."""
    lines = [line for line in run.out.splitlines() if "0x" not in line]
    return [line.partition(" in ")[0].partition(" --seed ")[0] for line in lines]


def verdicts(directory):
    """Return the verdicts of a run in the order of its results."""
    return [line["verdict"] for line in lines(directory / "report", "results") if line["type"] == "check"]


def test_workers_write_what_one_process_writes(judge, tmp_path):
    """Results and evidence, their order and numbers, the list of --write-expect, the terminal, the status."""
    sources = [GOOD, BAD, BROKE, GOOD, MISSING, BAD, GOOD]
    found = []
    for count in (1, 3):
        run = judge(*sources, args=["-n", str(count), "--seed", "1", "--write-expect", "known"])
        found.append((lines(run.report, "results"), (tmp_path / "known").read_text(), printed(run), run.status))
        found[-1] += (lines(run.report, "evidence"),)
    one, several = found
    assert one == several
    results, _, _, status, evidence = one
    assert status == 1
    checks = [line for line in results if line["type"] == "check"]
    expected = {
        0: "conforms",
        1: "deviates",
        2: "broke",
        3: "conforms",
        4: "not_applicable",
        5: "deviates",
        6: "conforms",
    }
    assert {line["id"]: line["verdict"] for line in checks} == {
        f"made.m{n}.law": verdict for n, verdict in expected.items()
    }
    # What a check rests on is in the evidence, once.
    numbers = [line["seq"] for line in evidence]
    assert len(set(numbers)) == len(numbers)
    assert {seq for line in checks for seq in line["seq"]} <= set(numbers)
    assert all(line["seq"] for line in checks if line["verdict"] in ("conforms", "deviates"))


@pytest.mark.skipif(CPUS < 2, reason="one CPU")
def test_two_workers_are_at_work_at_once(judge, tmp_path):
    """By default, and each has a CPU of its own."""
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    run = judge(
        MEETS.format(mine=a, other=b),
        MEETS.format(mine=b, other=a),
        args=["--deadline", str(DEADLINE)],
        prefix=ON_ALL_CPUS,
    )
    assert (run.status, run.verdicts) == (0, ["conforms"] * 2), run.out + run.err
    of_a, of_b = json.loads(Path(a).read_text()), json.loads(Path(b).read_text())
    assert (len(of_a), len(of_b)) == (1, 1)
    assert of_a != of_b


@pytest.mark.skipif(CPUS < 2, reason="one CPU")
@pytest.mark.parametrize("shard", ["1/1", "2/2"])
def test_streamed_parts_have_a_cpu_each(shard, start, tmp_path):
    """As the parts of a run in a VM, whatever part of a whole run that is."""
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    sources = [MEETS.format(mine=a, other=b), MEETS.format(mine=b, other=a)]
    write_tests(tmp_path, *[source for source in sources for _ in range(Shard.of(shard).count)])
    words = ("--report=", "--stream", "1", "--shard")
    parts = [start(*words, str(Shard.of(shard).part(number, CPUS)), prefix=ON_ALL_CPUS) for number in range(2)]
    for part in parts:
        out, err = part.communicate(timeout=COMMAND_DEADLINE)
        assert part.returncode == 0, out + err
    assert json.loads(Path(a).read_text()) != json.loads(Path(b).read_text())


ONE_PROCESS = {
    "-n 1": ((), ("-n", "1")),
    "one CPU": (("taskset", "-c", "0"), ()),
    "one test": (ON_ALL_CPUS, ("made.m0.law",)),
    "a shared network": ((), ("-n", "2", "--isolation", "none")),
    "no capture": ((), ("-n", "2", "--", "-s")),
    "a stream": ((), ("-n", "2", "--stream", "1")),
}


@pytest.mark.parametrize("name", ONE_PROCESS)
def test_one_process(name, start, held, tmp_path):
    """These run in the process that was started, and not in a worker."""
    path, holder = held
    write_tests(tmp_path, WAITS.format(path=path), GOOD)
    prefix, words = ONE_PROCESS[name]
    run = start(*words, prefix=prefix)
    assert holder(run).ppid() == run.pid


def test_a_worker_that_is_killed(start, held, tmp_path):
    """Its test is lost, another worker runs what it had not begun, and the run goes on."""
    path, holder = held
    write_tests(tmp_path, GOOD, WAITS.format(path=path), *[GOOD] * 6)
    run = start("-n", "2")
    worker = holder(run).parent()
    assert worker.ppid() == run.pid
    worker.kill()
    out, err = run.communicate(timeout=COMMAND_DEADLINE)
    assert run.returncode == 3, out + err
    assert verdicts(tmp_path) == ["conforms"] * 3 + ["lost"] + ["conforms"] * 18
    lost = [line for line in lines(tmp_path / "report", "results") if line.get("verdict") == "lost"]
    assert [(line["id"], line["detail"]) for line in lost] == [
        ("made.m1.law", "the worker that ran it was ended by SIGKILL")
    ]  # fmt: skip
    assert "Traceback" not in out + err


def test_a_worker_that_is_stopped(start, held, tmp_path):
    """It is lost when twice the deadline of a test has passed, with the test that it ran."""
    path, holder = held
    write_tests(tmp_path, GOOD, WAITS.format(path=path), GOOD)
    run = start("-n", "2", "--deadline", "1")
    holder(run).parent().suspend()
    out, err = run.communicate(timeout=COMMAND_DEADLINE)
    assert run.returncode == 3, out + err
    details = [line["detail"] for line in lines(tmp_path / "report", "results") if line.get("verdict") == "lost"]
    assert details == ["the worker that ran it did not answer"]


def test_a_worker_that_cannot_be_replaced(start, held, tmp_path):
    """The run ends as an error that says so."""
    path, holder = held
    write_tests(tmp_path, GOOD, WAITS.format(path=path), GOOD)
    run = start("-n", "2")
    worker = holder(run).parent()
    # It may open no descriptor more.
    used = len([*Path(f"/proc/{run.pid}/fd").iterdir()])
    resource.prlimit(run.pid, resource.RLIMIT_NOFILE, (used, used))
    worker.kill()
    out, err = run.communicate(timeout=COMMAND_DEADLINE)
    assert run.returncode == 3, out + err
    assert "a worker died and cannot be replaced: Too many open files" in out + err
    assert "Traceback" not in out + err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal(number, start, held, tmp_path):
    """As by Ctrl-C, every process of the group gets it: what was judged is written, and no process is left."""
    path, holder = held
    marker = tmp_path / "sixth"
    last = GOOD.replace("    for case", f"    open({str(marker)!r}, 'w').close()\n    for case")
    write_tests(tmp_path, WAITS.format(path=path), *[GOOD] * 4, last)
    run = start("-n", "2")
    started = [holder(run), *psutil.Process(run.pid).children()]
    # The sixth test is given to a worker when its answer to the second has arrived.
    wait_for(marker.exists, "the sixth test", COMMAND_DEADLINE)
    os.killpg(run.pid, number)
    out, err = run.communicate(timeout=COMMAND_DEADLINE)
    assert run.returncode == 128 + number, out + err
    found = [(line["id"], line["verdict"]) for line in lines(tmp_path / "report", "results") if line["type"] == "check"]
    assert ("made.m0.law", "not_run") in found
    assert found.count(("made.m1.law", "conforms")) == 3
    # It waited behind the first.
    assert ("made.m2.law", "not_run") in found
    assert "Traceback" not in out + err
    assert not [process for process in started if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def test_a_killed_run_leaves_no_process(start, held, tmp_path):
    """SIGKILL of the process that was started ends the workers and their sandboxes."""
    path, holder = held
    write_tests(tmp_path, WAITS.format(path=path), GOOD)
    run = start("-n", "2")
    test = holder(run)
    below = psutil.Process(run.pid).children(recursive=True)
    assert test in below
    run.kill()
    wait_for(lambda: not any(process.is_running() for process in below), "the end of the workers")


def test_fail_fast(judge):
    """The first deviation in the order of the tests ends the run, wherever the others are."""
    found = []
    for count in (1, 3):
        run = judge(GOOD, BAD, *[GOOD] * 5, args=["-n", str(count), "--fail-fast"])
        assert run.status == 1, run.out + run.err
        found.append([(check["id"], check["case"], check["verdict"]) for check in run.checks])
    assert found[0] == found[1]
    assert [verdict for _, _, verdict in found[0]] == ["conforms"] * 3 + ["deviates"] * 3 + ["not_run"] * 5


@pytest.mark.skipif(os.geteuid() != 0, reason="root mounts")
def test_a_full_disk(socketcall, tmp_path):
    """A worker that cannot write its file ends the run: one line, status 3, and no report."""
    write_tests(tmp_path, LARGE, LARGE)
    (tmp_path / "small").mkdir()
    script = (
        'mount -t tmpfs -o size=64k none small && "$@"; status=$?; ls -A small | sed "s/^/remains: /"; exit $status'
    )
    run = socketcall(
        "check", *ONE_GATE, "--tests", "tests", "-n", "2", "--report", "small/report",
        prefix=("unshare", "-m", "sh", "-c", script, "sh"),
    )  # fmt: skip
    assert run.status == 3, run.out + run.err
    said = [line for line in run.err.splitlines() if line.strip()]
    assert len(said) == 1, run.out + run.err
    assert "No space left on device" in said[0]
    assert "Traceback" not in run.out + run.err
    assert "remains: " not in run.out


@pytest.mark.parametrize("count", ["0", "-1", "two", "1000000", "10000000000"])
def test_a_wrong_number(count, judge):
    """Also more workers than memory allows: one line, status 2, and no report."""
    run = judge(GOOD, args=[f"-n={count}"])
    assert run.status == 2, run.out + run.err
    assert len([line for line in run.err.splitlines() if "error" in line or "socketcall:" in line]) == 1
    assert ("MB of memory are available" in run.err) == (count == "1000000")
    assert not run.report.exists()


def test_what_is_left_of_a_container_s_memory(tmp_path):
    """The limits of the cgroup and of those above it count; what the kernel would drop does not."""
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    for directory, limit in ((inner, "max"), (inner.parent, "500000")):
        (directory / "memory.max").write_text(f"{limit}\n")
        (directory / "memory.current").write_text("400000\n")
        (directory / "memory.stat").write_text("anon 350000\ninactive_file 50000\nactive_file 1\n")
    assert list(left_in_cgroup(inner)) == [150000]


def test_memory_of_a_kernel_without_control_groups(tmp_path):
    """What is there counts; where there is nothing, nothing is known."""
    assert available(tmp_path, tmp_path) is None
    (tmp_path / "meminfo").write_text("MemTotal:  100 kB\nMemAvailable:  50 kB\n")
    assert available(tmp_path, tmp_path) == 50 << 10
