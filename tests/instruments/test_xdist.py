"""pytest-xdist: runs of several workers, on one machine and on many. What the workers tell is what the files say."""

import functools
import json
import os
import shlex
import shutil
import subprocess
import sys

import pytest

from probes.installation import TARGET, checkout
from probes.report.reader import read
from probes.testing.reference import Reference, version_of
from tests.instruments.support import (
    COMMAND_DEADLINE,
    ONE_GATE,
    PYTHON,
    Judged,
    installed,
    run_check,
    run_command,
    write_tests,
)

GOOD = '''
@law
def test_it(calls, expect):
    """Binding descriptor -1 fails."""
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
'''
BAD = GOOD.replace("-errno.EBADF", "0")
#: A law that only machine b breaks, and one that only it cannot judge.
BAD_ON_B = GOOD.replace("-errno.EBADF", '0 if os.environ.get("SOCKETCALL_TARGET") == "b" else -errno.EBADF')
MISSING_ON_B = GOOD.replace(
    "    expect(", '    if os.environ.get("SOCKETCALL_TARGET") == "b":\n        not_applicable("a moon")\n    expect('
)
A, B = "id=a//popen//env:SOCKETCALL_TARGET=a", "id=b//popen//env:SOCKETCALL_TARGET=b"
#: Two machines, of which the second knows itself as b.
EACH = ("--dist", "each", "--tx", A, "--tx", B)
#: A worker that sees another kernel version.
OLDER = f"popen//python=setarch --uname-2.6 {shlex.quote(sys.executable)}"
#: Ends the worker on machine b when it comes to the second test.
DIES = """
import os, signal
def pytest_runtest_logstart(nodeid):
    if os.environ.get("SOCKETCALL_TARGET") == "b" and "m01" in nodeid:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def machines(tmp_path):
    """Runs `socketcall check` on the sources of test modules, with arguments for pytest after `--`."""

    def run(*sources, args=(), xdist=EACH, conftest=""):
        write_tests(tmp_path, *sources)
        (tmp_path / "tests" / "made" / "conftest.py").write_text(conftest)
        return run_check(tmp_path, *args, "--", *xdist)

    return run


def of(run, name):
    """The part of a run that one machine did."""
    return Judged(run.status, run.out, run.err, run.report / name)


def facts(run):
    """The first line of a run."""
    return read(run.report).run


def test_every_machine_has_a_directory(machines):
    """With --dist each, every machine has the usual files, with its own facts and counts, and a line at the end."""
    run = machines(GOOD, GOOD)
    assert run.status == 0, run.out + run.err
    assert sorted(path.name for path in run.report.iterdir()) == [".socketcall", "a", "b"]
    # Without --seed, the controller chooses one seed for every worker.
    assert facts(of(run, "a"))["seed"] == facts(of(run, "b"))["seed"]
    for name in "ab":
        here = of(run, name)
        assert here.verdicts == ["conforms"] * 2
        assert read(here.report).counts["conforms"] == 2
        names = {path.name for path in here.report.iterdir()}
        assert names == {
            ".socketcall", "results.jsonl.gz", "evidence.jsonl.gz", "summary.json", "report.html", "junit.xml",
            "ktap.txt",
        }  # fmt: skip
        summary = json.loads((here.report / "summary.json").read_text())
        assert (summary["target"]["name"], summary["counts"]["conforms"]) == (name, 2)
        assert f"{name}: 2 behaviours, 2 checks: 2 conforms" in run.out


def test_the_previous_run_is_kept(machines):
    """The directories of all machines go into place as one, and those of the previous run are kept as one."""
    machines(GOOD)
    run = machines(GOOD, xdist=("--dist", "each", "--tx", "id=c//popen"))
    assert sorted(path.name for path in run.report.iterdir()) == [".socketcall", "c"]
    assert sorted(path.name for path in run.report.with_name("report.old").iterdir()) == [".socketcall", "a", "b"]
    assert not run.report.with_name("report.part").exists()


def test_facts_are_the_workers(machines):
    """A machine with another kernel has the facts and the reference of that kernel, not of the controller's."""
    run = machines(GOOD, xdist=("--dist", "each", "--tx", "id=new//popen", "--tx", f"id=old//{OLDER}"))
    assert run.status == 0, run.out + run.err
    new, old = (facts(of(run, name)) for name in ("new", "old"))
    assert new["target"]["kernel"]["release"] == os.uname().release
    assert old["target"]["kernel"]["release"].startswith("2.6.")
    # Debian's kernels have their version twice, and setarch changes one.
    version = version_of(*(old["target"]["kernel"][name] for name in ("release", "version")))
    assert old["reference"] == str(Reference(old["target"]["abi"], version))


def test_load_is_one_run(machines):
    """Other modes make one run, in one folder, with the facts of its workers."""
    run = machines(GOOD, GOOD, GOOD, xdist=("--dist", "load", "--tx", f"2*{OLDER}"))
    assert (run.status, run.verdicts) == (0, ["conforms"] * 3), run.out + run.err
    assert facts(run)["target"]["kernel"]["release"].startswith("2.6.")


def test_values_of_64_bits(machines):
    """The messages of pytest-xdist have no numbers below -2^31: the values of checks do."""
    source = """
@law
def test_law(calls, expect):
    '''A statement.'''
    for value in (-(2**63), 2**64):
        check = expect([value], number=value)
        check.of([value], calls.socket(1, 1, 0))
"""
    run = machines(source, xdist=("-n", "1"))
    assert run.verdicts == ["conforms"] * 2, run.out + run.err
    assert [check["actual"] for check in run.checks] == [[-(2**63)], [2**64]]


def test_load_over_unlike_workers(machines):
    """Workers of different kernels cannot share one run: one line, status 2, and the run before keeps its place."""
    before = machines(GOOD, xdist=())
    began = facts(before)["started"]
    run = machines(GOOD, xdist=("--dist", "load", "--tx", "popen", "--tx", OLDER))
    assert run.status == 2
    said = [line for line in (run.out + run.err).splitlines() if "--dist each" in line]
    assert len(said) == 1, run.out + run.err
    assert "another kernel" in said[0]
    assert facts(run)["started"] == began
    assert not run.report.with_name("report.part").exists()


def test_known_on_one_machine(machines, tmp_path):
    """--expect is held against each machine by itself, and may be a folder with a list for each."""
    line = "made.m0.law | * | it is so on b\n"
    known = tmp_path / "known"
    known.write_text(line)
    run = machines(BAD_ON_B, args=["--expect", "known"])
    assert run.status == 1
    assert "a: known line 1: it matches no deviation any more" in run.out
    assert "b: known" not in run.out
    known.unlink()
    known.mkdir()
    (known / "a").write_text("")
    (known / "b").write_text(line)
    run = machines(BAD_ON_B, args=["--expect", "known"])
    assert run.status == 0, run.out + run.err
    assert of(run, "b").checks[0]["known"] == "it is so on b"


def test_written_lists(machines, tmp_path):
    """What deviates on one machine deviates there alone, and the whole ends 1.

    --write-expect writes a list for each machine, and these are what --expect takes.
    """
    run = machines(BAD_ON_B, args=["--write-expect", "lists"])
    assert run.status == 1
    assert (of(run, "a").verdicts, of(run, "b").verdicts) == (["conforms"], ["deviates"])
    lists = {path.name: len(path.read_text().splitlines()) for path in (tmp_path / "lists").iterdir()}
    assert lists == {"a": 1, "b": 2}
    assert machines(BAD_ON_B, args=["--expect", "lists"]).status == 0


def test_required_on_each_machine(machines):
    """--require names the machine on which something is not applicable."""
    run = machines(MISSING_ON_B, GOOD, args=["--require"])
    assert run.status == 3
    assert "b: --require: made.m0.law is not applicable: a moon" in run.out
    assert "a: --require" not in run.out


def test_a_machine_that_vanishes(machines):
    """Its current test is lost, its waiting tests are not_run, the others go on, and the run ends 3."""
    run = machines(GOOD, GOOD, GOOD, conftest=DIES)
    assert run.status == 3, run.out + run.err
    assert of(run, "a").verdicts == ["conforms"] * 3
    assert [(c["id"], c["verdict"]) for c in of(run, "b").checks] == [
        ("made.m0.law", "conforms"), ("made.m1.law", "lost"), ("made.m2.law", "not_run"),
    ]  # fmt: skip
    assert {c["detail"] for c in of(run, "b").checks[1:]} == {"machine b is gone: its connection or its Python ended"}
    assert "b: 3 behaviours, 3 checks: 1 conforms, 1 lost, 1 not run" in run.out


def test_a_worker_that_dies(machines):
    """Where all share one run, another worker takes over what the one that died left: only its test is lost."""
    run = machines(GOOD, GOOD, GOOD, GOOD, conftest=DIES, xdist=("--dist", "load", "--tx", B))
    assert run.status == 3, run.out + run.err
    assert not [c for c in run.checks if c["verdict"] == "broke"]
    assert sorted((c["id"], c["verdict"]) for c in run.checks) == [
        (f"made.m{number}.law", "lost" if number == 1 else "conforms") for number in range(4)
    ]


@pytest.mark.parametrize("xdist", [("--dist", "load", "--tx", "popen"), ("--dist", "each", "--tx", "id=a//popen")])
def test_fail_fast(xdist, machines):
    """-x ends with 1, and what it kept from running is listed."""
    run = machines(BAD, GOOD, GOOD, args=["--fail-fast"], xdist=xdist)
    assert run.status == 1, run.out + run.err
    assert (of(run, "a") if "each" in xdist else run).verdicts == ["deviates", "not_run", "not_run"]


USAGE = {
    "no such behaviour": (["made.no.such"], "no behaviour matches 'made.no.such'"),
    "no such reference": (["--reference", "i386"], "--reference: 'i386' is not local, and not ABI-VERSION"),
    "a list that names no behaviour": (["--expect", "wrong"], "wrong line 1: no behaviour matches 'made.no.such'"),
    "no such list": (["--expect", "nowhere"], "cannot read nowhere"),
    "a stream": (["--stream", "1"], "--stream writes the run of one process"),
}


@pytest.mark.parametrize(("name", "mode"), [*((name, "each") for name in USAGE), ("no such behaviour", "load")])
def test_usage(name, mode, machines, tmp_path):
    """What only workers find out is one line of the controller, and the status is 2.

    (A worker's error comes the same way whatever it is, by another way in each mode.)
    """
    (tmp_path / "wrong").write_text("made.no.such | * | why\n")
    args, said = USAGE[name]
    run = machines(GOOD, args=args, xdist=("--dist", mode, "--tx", "id=a//popen"))
    assert run.status == 2, run.out + run.err
    assert len([line for line in (run.out + run.err).splitlines() if said in line]) == 1
    assert "Traceback" not in run.out + run.err
    assert not run.report.exists()
    assert not run.report.with_name("report.part").exists()


NOT_STARTED = {
    "no such host": ("ssh=-F /dev/null -o BatchMode=yes -p 1 127.0.0.1", "vm cannot be reached"),
    "no Python": ("popen//python=false", "vm cannot be reached"),
    "ends at once": ("popen//env:SOCKETCALL_TARGET=b", "vm ended before it sent what it would run"),
    "another machine's name": ("popen//id=a", "'a'"),
}


@pytest.mark.parametrize("name", NOT_STARTED)
def test_a_machine_that_does_not_start(name, machines):
    """It is named in one line, and the status is 2."""
    installed("openssh-client")
    spec, said = NOT_STARTED[name]
    spec = spec if "id=" in spec else f"id=vm//{spec}"
    dies = (
        "import os, signal\nif os.environ.get('SOCKETCALL_TARGET') == 'b':\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = machines(GOOD, conftest=dies, xdist=("--dist", "each", "--tx", "id=a//popen", "--tx", spec))
    assert run.status == 2, run.out + run.err
    assert len([line for line in (run.out + run.err).splitlines() if said in line]) == 1
    assert "Traceback" not in run.out + run.err


def test_names_of_directories(machines):
    """The name of a machine becomes a safe name of a directory."""
    run = machines(GOOD, xdist=("--dist", "each", "--tx", "id=../x y//popen", "--tx", "id=z.old//popen"))
    assert run.status == 0, run.out + run.err
    assert sorted(path.name for path in run.report.iterdir()) == [".socketcall", "_._x_y", "z_old"]


@pytest.fixture
def far(tmp_path, monkeypatch):
    """A second checkout, and an `ssh` that leads to it: a remote machine but for kernel and network.

    Its tests are others than those here, under the same names.
    """
    monkeypatch.delenv(TARGET, raising=False)
    place, programs = tmp_path / "far", tmp_path / "bin"
    write_tests(place, GOOD, BAD)
    for name in ("pyproject.toml", "conftest.py"):
        shutil.copy(checkout() / name, place)
    (place / "probes").symlink_to(checkout() / "probes")
    programs.mkdir()
    (programs / "ssh").write_text('#!/bin/sh\ncd / && for last; do :; done\nexec env -u PYTHONPATH sh -c "$last"\n')
    (programs / "ssh").chmod(0o755)
    spec = f"id=vm//ssh=-F nowhere somewhere//python={shlex.quote(sys.executable)}//chdir={place}"
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return place, spec, functools.partial(run_command, tmp_path, env={"PATH": path})


def test_over_ssh(far, tmp_path):
    """A remote machine judges with the tests of its own checkout; nothing is copied to it or from it."""
    place, spec, command = far
    write_tests(tmp_path, GOOD, GOOD)
    (tmp_path / "known").write_text("made.m1.law | * | far away it is so\n")
    before = sorted(path.name for path in place.iterdir())
    args = ["--tests", "tests", "--expect", "known", "--", "--dist", "each", "--tx", spec]
    run = command("check", *ONE_GATE, *args)
    assert run.status == 0, run.out + run.err
    vm = of(run, "vm")
    assert vm.verdicts == ["conforms", "deviates"]
    assert vm.checks[1]["known"] == "far away it is so"
    assert facts(vm)["target"]["name"] == "ssh:somewhere"
    assert sorted(path.name for path in place.iterdir() if path.name != "__pycache__") == before


def test_far_and_near(far, tmp_path):
    """Remote and local machines in one run."""
    _, spec, command = far
    write_tests(tmp_path, GOOD, GOOD)
    run = command(
        "check", *ONE_GATE, "--tests", "tests", "--", "--dist", "each", "--tx", spec, "--tx", "id=near//popen"
    )
    assert run.status == 1, run.out + run.err
    assert of(run, "vm").verdicts == ["conforms", "deviates"]
    # The example of the cause, under the name of the machine.
    again = [line for line in run.out.splitlines() if line.startswith("vm:   again ")]
    assert len(again) == 1, run.out
    assert f"socketcall check {PYTHON}made.m1.law" in again[0]
    assert again[0].endswith("# on ssh:somewhere")
    assert of(run, "near").verdicts == ["conforms", "conforms"]


def test_paths(far, tmp_path):
    """A path of here is the same path below the checkout there; the value of an option is no path to collect."""
    _, spec, _ = far
    write_tests(tmp_path, GOOD, GOOD)
    shutil.copy(checkout() / "pyproject.toml", tmp_path)
    shutil.copy(checkout() / "conftest.py", tmp_path)
    for name in ("report", "test_it"):
        (tmp_path / name).mkdir()
    words = [*ONE_GATE, "tests/made/test_m01.py", "--report", "report", "-k", "test_it", "--dist", "each", "--tx", spec]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", "pyproject.toml", *words], cwd=tmp_path, check=False, text=True,
        env={**os.environ, "PYTHONPATH": str(checkout()), "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"},
        capture_output=True, timeout=COMMAND_DEADLINE,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert [(c.key.id, c.verdict) for c in read(tmp_path / "report" / "vm").checks] == [("made.m1.law", "deviates")]


def test_tests_that_are_not_there(far, tmp_path):
    """A path outside the checkout is none that another machine has."""
    _, spec, command = far
    write_tests(tmp_path / "other", GOOD)
    write_tests(tmp_path, GOOD)
    args = ["--tests", "tests", "--", str(tmp_path / "other" / "tests"), "--rootdir", "tests"]
    run = command("check", *args, "--dist", "each", "--tx", spec)
    assert run.status == 2
    assert "another machine does not have it" in run.out + run.err
