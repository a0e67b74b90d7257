"""`socketcall matrix`: several runs side by side; what it shows is what the runs say, and bad results are named."""

import gzip
import json
import re
import shutil
import subprocess
import sys

import pytest

from probes.report import matrix
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


def made(socketcall, out, *places):
    """Write a matrix of some runs; return what its page has embedded, and its table."""
    done = socketcall("matrix", *map(str, places), "-o", str(out))
    assert (done.status, done.err, done.out) == (0, "", f"{out}/matrix.html\n"), done.err
    return data_of(out), (out / "matrix.md").read_text()


def test_page_and_table(runs, copied, tmp_path, socketcall):
    wrong = copied("wrong", "emulator", implementation=f"emulator {HOSTILE}")
    data, table = made(socketcall, tmp_path / "out", runs["right"], wrong)
    right, emulator = data["columns"]
    assert right["name"].startswith("linux ")
    assert (emulator["name"], right["wrong"], emulator["wrong"]) == (f"emulator {HOSTILE}", 0, 1)
    (row,) = data["rows"]
    assert row["differs"]
    checks = len(unpacked(runs["right"] / "results.jsonl.gz").split('"type":"check"')) - 1
    assert row["cells"] == [{"conforms": checks}, {"deviates": checks}]
    assert row["groups"] == [[], [[0, checks, 0]]]
    assert data["causes"] == [["deviates", "bind: expected 0, actual -9 EBADF"]]
    (text,) = data["texts"]
    for part in (
        "states    bind of descriptor -1",
        "source ",
        "expected  0",
        "in        eax=",
        "words     0xffffffff",
        "again ",
    ):
        assert part in text
    assert (
        f"\n## made\n\n| behaviour | {right['name']} | emulator \\</script\\>\\<!--\\&'\" |\n|---|---|---|\n" in table
    )
    assert f"| made.m0.law | ✔ {checks} | ✘ {checks} |" in table
    assert f"| bind: expected 0, actual -9 EBADF |  | {checks} |" in table
    assert f"| deviates | 0 | {checks} |" in table


def test_what_no_target_gets_wrong_is_not_in_the_table(runs, copied, tmp_path, socketcall):
    other = copied("right", "other", implementation="other")
    data, table = made(socketcall, tmp_path / "out", runs["right"], other)
    (row,) = data["rows"]
    assert not row["differs"]
    assert row["id"] not in table
    assert "None: every check that could be made conforms." in table


#: Checks of one behaviour on three targets: what each answered, if not what was expected.
ANSWERS = """
@law
@pytest.mark.parametrize("at", range({members}))
def test_it(at, calls, expect):
    '''A statement.'''
    {body}
"""


@pytest.fixture
def answering(tmp_path):
    """Make a run: answering(name, body, members) whose test has that body for each of so many cases."""

    def do(name, body, members=3):
        place = tmp_path / name
        write_tests(place, ANSWERS.format(members=members, body=body))
        return run_check(place, "--seed", name).report

    return do


def test_targets_that_deviate_differently_differ(answering, tmp_path, socketcall):
    """A letter is that of the targets which answered the same in the same cases; one that judged nothing has none."""
    right = answering("1", "expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))")
    one = answering("2", "expect(at - 9).of(calls.bind(-1, ADDRESS))")
    alike = answering("3", "expect(at - 9).of(calls.bind(-1, ADDRESS))")
    other = answering("4", "expect(-9 if at != 1 else 5).of(calls.bind(-1, ADDRESS))")
    none = answering("5", 'not_applicable("a | moon")')
    data, table = made(socketcall, tmp_path / "out", right, one, alike, other, none)
    (row,) = data["rows"]
    assert row["answers"] == ["", "a", "a", "b", ""]
    assert row["differs"]
    assert "| ✔ 3 | ✘ 2 of 3 a | ✘ 2 of 3 a | ✘ 1 of 3 b | n/a 3 |" in table
    data, _ = made(socketcall, tmp_path / "same", one, alike, none)
    assert (data["rows"][0]["answers"], data["rows"][0]["differs"]) == (["", "", ""], False)
    assert ["not_applicable", "not applicable: a | moon"] in data["causes"]
    assert data["rows"][0]["groups"][2] == [
        [data["causes"].index(["not_applicable", "not applicable: a | moon"]), 3, -1]
    ]


def test_every_cause_is_counted(answering, tmp_path, socketcall, monkeypatch):
    """Where there is no room for an example in full, the group has its cause and its count all the same."""
    right = answering("1", "expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))", 40)
    wrong = answering("2", "expect(at).of(calls.bind(-1, ADDRESS))", 40)
    monkeypatch.setattr(matrix, "_EXAMPLES", 20_000)
    columns = [matrix.column(where, ["local"], 2) for where in (right, wrong)]
    data = matrix.Matrix(columns).data()
    assert sorted(text for _, text in data["causes"]) == sorted(
        f"bind: expected {at}, actual -9 EBADF" for at in range(40)
    )
    groups = data["rows"][0]["groups"][1]
    assert [count for _, count, _ in groups] == [1] * 40
    shown = [example for _, _, example in groups if example >= 0]
    assert 0 < len(shown) < 20
    assert len(data["texts"]) == len(shown)
    assert data["columns"][1]["left_out"] == 40 - len(shown)
    assert sum(map(len, data["texts"])) <= 10_000


def test_runs_of_one_minute_have_names_of_their_own(runs, copied, tmp_path, socketcall):
    """What distinguishes runs of one implementation is added to their names: target, time, reference, callers or seed."""

    def again(name, **head):
        place = copied("wrong", name, implementation="emulator")
        lines = unpacked(place / "results.jsonl.gz").splitlines()
        changed = json.loads(lines[0]) | {"started": "2026-01-02T03:04:05Z"} | head
        (place / "results.jsonl.gz").write_bytes(
            gzip.compress("\n".join([json.dumps(changed), *lines[1:], ""]).encode())
        )
        return place

    places = [again("1", seed=1), again("2", seed=2), again("3", started="2026-01-02T03:04:06Z", seed=1)]
    data, _ = made(socketcall, tmp_path / "out", *places)
    assert [one["name"] for one in data["columns"]] == [
        "emulator, 03:04:05, seed 1", "emulator, 03:04:05, seed 2", "emulator, 03:04:06"
    ]  # fmt: skip
    places = [again("4", started="2026-01-02T03:05:06Z"), places[0]]
    data, _ = made(socketcall, tmp_path / "out", *places)
    assert [one["name"] for one in data["columns"]] == ["emulator, 2026-01-02 03:05", "emulator, 2026-01-02 03:04"]
    target = json.loads(unpacked(places[0] / "results.jsonl.gz").splitlines()[0])["target"]
    places = [again("5", target={**target, "name": "valgrind:memcheck"}), places[1]]
    data, _ = made(socketcall, tmp_path / "out", *places)
    assert [one["name"] for one in data["columns"]] == ["emulator (valgrind:memcheck)", f"emulator ({target['name']})"]


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
    "gates that are no names": (
        lambda place: None,
        {"callers": [{"name": "python", "word": 64, "gates": [1], "options": []}]},
        "line 1 has no gates",
    ),
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
    done = socketcall("matrix", str(runs["right"]), str(place), "-o", str(tmp_path / "out"))
    assert (done.status, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert str(place) in done.err
    assert says in done.err
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith("out")]


def test_a_run_twice_is_refused(runs, tmp_path, socketcall):
    done = socketcall("matrix", str(runs["right"]), str(runs["right"]), "-o", str(tmp_path / "out"))
    assert done.status == 2
    assert "are given twice" in done.err


def test_a_directory_of_the_user_stays(runs, tmp_path, socketcall):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    done = socketcall("matrix", str(runs["right"]), "-o", str(tmp_path / "out"))
    assert done.status == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]
    assert "give another -o, or remove it" in done.err


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
