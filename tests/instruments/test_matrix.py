"""`socketcall matrix`: several runs side by side; what it shows is what the runs say, and bad results are named."""

import gzip
import json
import re
import shutil
import subprocess
import sys

import pytest

from tests.instruments.support import run_check, unpacked, write_tests

SOURCE = '''
@law
def test_it(calls, expect):
    """bind of descriptor -1 fails with EBADF."""
    expect({expected}, number=1).of(calls.bind(-1, ADDRESS))
'''
#: Text that would end a script element, or start a comment in one.
HOSTILE = "</script><!--&'\""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Make a run that conforms and one that deviates; return their report directories."""
    found = {}
    for name, expected in {"right": "-errno.EBADF", "wrong": "0"}.items():
        place = tmp_path_factory.mktemp(name)
        write_tests(place, SOURCE.format(expected=expected))
        found[name] = run_check(place, "--seed", "1").report
    return found


@pytest.fixture
def copied(runs, tmp_path):
    """Copy a run with a changed first line: copied(name, implementation=…)."""

    def do(run, directory, **target):
        place = tmp_path / directory
        shutil.copytree(runs[run], place)
        lines = unpacked(place / "results.jsonl.gz").splitlines()
        head = json.loads(lines[0])
        head["target"] |= target
        (place / "results.jsonl.gz").write_bytes(gzip.compress("\n".join([json.dumps(head), *lines[1:], ""]).encode()))
        return place

    return do


def data_of(place):
    """Return what the page of a matrix has embedded."""
    text = (place / "matrix.html").read_text()
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(found)


def test_page_and_table(runs, copied, tmp_path, socketcall):
    wrong = copied("wrong", "emulator", implementation=f"emulator {HOSTILE}")
    made = socketcall("matrix", str(runs["right"]), str(wrong), "-o", str(tmp_path / "out"))
    assert (made.status, made.err) == (0, "")
    data = data_of(tmp_path / "out")
    right, emulator = data["columns"]
    assert right["name"].startswith("linux ")
    assert emulator["name"] == f"emulator {HOSTILE}"
    (row,) = data["rows"]
    assert row["differs"]
    checks = len(unpacked(runs["right"] / "results.jsonl.gz").split('"type":"check"')) - 1
    assert row["cells"] == [{"conforms": checks}, {"deviates": checks}]
    (example,) = emulator["examples"]
    assert example["cause"] == "bind: expected 0, actual -9 EBADF"
    assert example["count"] == checks
    for part in (
        "states    bind of descriptor -1",
        "source ",
        "expected  0",
        "in        eax=",
        "words     0xffffffff",
        "again ",
    ):
        assert part in example["text"]
    table = (tmp_path / "out" / "matrix.md").read_text()
    assert f"| ✔ {checks} | ✘ {checks} |" in table


def test_what_no_target_gets_wrong_is_not_in_the_table(runs, copied, tmp_path, socketcall):
    other = copied("right", "other", implementation="other")
    assert socketcall("matrix", str(runs["right"]), str(other), "-o", str(tmp_path / "out")).status == 0
    (row,) = data_of(tmp_path / "out")["rows"]
    assert not row["differs"]
    assert row["id"] not in (tmp_path / "out" / "matrix.md").read_text()


def cut_off(place):
    lines = unpacked(place / "results.jsonl.gz").splitlines(keepends=True)
    (place / "results.jsonl.gz").write_bytes(gzip.compress("".join(lines[:-1]).encode()))


def other_schema(place):
    text = unpacked(place / "results.jsonl.gz")
    (place / "results.jsonl.gz").write_bytes(gzip.compress(text.replace('"schema": 3', '"schema": 99', 1).encode()))


BAD = {
    "cut off": (cut_off, {}, "has no end line"),
    "another schema": (other_schema, {}, "has schema 99"),
    "unknown target": (lambda place: None, {"name": "moon"}, "there is no target 'moon'"),
    "damaged evidence": (
        lambda place: (place / "evidence.jsonl.gz").write_bytes(b"no evidence"),
        {},
        "evidence.jsonl.gz",
    ),
    "missing": (shutil.rmtree, {}, "cannot read"),
}


@pytest.mark.parametrize("how", BAD)
def test_bad_results_are_named(runs, copied, tmp_path, socketcall, how):
    damage, target, says = BAD[how]
    place = copied("wrong", "bad", **target)
    damage(place)
    made = socketcall("matrix", str(runs["right"]), str(place), "-o", str(tmp_path / "out"))
    assert (made.status, made.out) == (2, "")
    assert made.err.count("\n") == 1
    assert str(place) in made.err
    assert says in made.err
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith("out")]


def test_a_run_twice_is_refused(runs, tmp_path, socketcall):
    made = socketcall("matrix", str(runs["right"]), str(runs["right"]), "-o", str(tmp_path / "out"))
    assert made.status == 2
    assert "are given twice" in made.err


def test_a_directory_of_the_user_stays(runs, tmp_path, socketcall):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    made = socketcall("matrix", str(runs["right"]), "-o", str(tmp_path / "out"))
    assert made.status == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_sixteen_targets_are_small(runs, copied, tmp_path, socketcall):
    """The page grows with what differs, not with what was judged, and 400 MB of addresses suffice."""
    places = [copied("wrong", f"t{number}", implementation=f"emulator {number}") for number in range(16)]
    words = ["prlimit", f"--as={400 << 20}", sys.executable, "-m", "probes.cli", "matrix", *map(str, places)]
    done = subprocess.run(
        [*words, "-o", str(tmp_path / "out")], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(data_of(tmp_path / "out")["columns"]) == 16
    assert (tmp_path / "out" / "matrix.html").stat().st_size < 200_000
