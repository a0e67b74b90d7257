"""Expected deviations, requirements, shards and diffs, where a seccomp filter of the tests makes the kernel deviate."""

import json

import pytest

from probes.entry.gate import WORD
from probes.errors import CommandError
from probes.report.check import Check, Key
from probes.report.expectations import Expectations
from tests.instruments.support import ONE_GATE, run_check, run_command, write_tests

ROUTES = ("socketcall", "direct")
#: Two checks for each of three names, over each route.
NAMES = '''
pytestmark = []
@law
@pytest.mark.sandbox(trace="calls")
@pytest.mark.parametrize("host", [1, 2, 3])
def test_it(host, new_socket, expect):
    """getsockname gives the name that bind gave."""
    made = new_socket(socket.AF_INET, socket.SOCK_DGRAM)
    if "DEVIATE" in os.environ:
        from probes.trace import ptrace, seccomp
        ptrace.set_filter(seccomp.answering(367, errno.ENOTCONN))
    expect(0, call="bind", host=host).of(made.bind(ADDRESS[:7] + bytes([host]) + ADDRESS[8:]))
    expect(bytes([127, 0, 0, host]), call="getsockname", host=host).of(made.sockname()[4:8])
'''
#: With it a filter of the test itself answers the direct getsockname with ENOTCONN.
PREFIX = ("env", "DEVIATE=1")


@pytest.fixture(scope="module")
def deviating(tmp_path_factory):
    """A run on the deviating kernel, and the list that it wrote."""
    folder = tmp_path_factory.mktemp("deviating")
    write_tests(folder, NAMES, NAMES)
    run = run_check(folder, "--write-expect", "known", prefix=PREFIX)
    assert run.status == 1, run.out + run.err
    return run, (folder / "known").read_text()


@pytest.fixture
def check(tmp_path):
    """Runs a check of the same behaviours with a list, on the deviating kernel."""

    def run(text, *args, prefix=PREFIX):
        write_tests(tmp_path, NAMES, NAMES)
        (tmp_path / "known").write_text(text)
        return run_check(tmp_path, "--expect", "known", *args, prefix=prefix)

    return run


def test_written_list_names_what_deviates(deviating):
    """The list has a line for each key that deviates, and every deviation carries its evidence."""
    run, text = deviating
    bad = [check for check in run.checks if check["verdict"] == "deviates"]
    assert {check["route"] for check in bad} == {"direct"}
    assert len(bad) == 6
    assert len(text.splitlines()) == 1 + 6
    calls = {line["seq"]: line for line in run.lines("evidence.jsonl")}
    assert {calls[seq]["errno"] for check in bad for seq in check["seq"]} == {"ENOTCONN"}


def test_a_case_has_one_line_with_a_short_reason(tmp_path):
    """The routes and gates of a case share a line, as they do when it is read; a long value is cut in it."""
    expectations = Expectations.of(None, None, str(tmp_path / "known"))
    for route, actual in (("socketcall", "x" * 1000), ("direct", -14)):
        expectations.count(Check(Key("made.m0.law", "step=1", route, "int80", 32), "deviates", 0, actual))
    expectations.finish()
    _, line = (tmp_path / "known").read_text().splitlines()
    assert line == "made.m0.law | step=1 | actual " + "x" * 92 + "…"


@pytest.mark.parametrize(
    ("place", "why"), [("", "is a directory; name a file"), ("missing/known", "there is no directory")]
)
def test_a_list_that_cannot_be_written_is_found_before_the_run(tmp_path, place, why):
    with pytest.raises(CommandError, match=f"--write-expect: .*{why}"):
        Expectations.of(None, None, str(tmp_path / place))


def test_the_list_makes_it_green(deviating, check):
    """With the whole list the run ends 0, and the deviations are XFAIL."""
    run = check(deviating[1])
    assert run.status == 0, run.out + run.err
    assert (run.report / "ktap.txt").read_text().count("# XFAIL") == 6


def test_a_line_less(deviating, check):
    """With one line removed the run ends 1."""
    assert check("\n".join(deviating[1].splitlines()[:-1])).status == 1


def test_a_line_too_many(deviating, check):
    """A line about checks that conform makes the run end 1, and is named."""
    run = check(deviating[1] + "made.m0.law | host=1 call=bind | it was so\n")
    assert run.status == 1
    assert "known line 8: it matches no deviation any more" in run.out


BAD_LISTS = {
    "an unknown id": ("bind.no.such | * | why\n", "line 1: no behaviour matches 'bind.no.such'"),
    "a case that nothing has": ("made.m0.law | host=9* | why\n", "line 1: no check has a case like"),
    "no fields": ("# fine\nmade.m0.law\n", "line 2: 'made.m0.law' is not `ID-GLOB | CASE-GLOB | reason`"),
    "no reason": ("made.m0.law | * |\n", "line 1"),
}


@pytest.mark.parametrize("name", BAD_LISTS)
def test_bad_lists(name, check):
    """A list that cannot be meant: status 2, the line named."""
    text, said = BAD_LISTS[name]
    run = check(text, prefix=())
    assert run.status == 2
    assert said in run.out + run.err


def test_diff_names_exactly_that(deviating, tmp_path):
    """The diff with a run on the true kernel names the deviations, and nothing else."""
    write_tests(tmp_path, NAMES, NAMES)
    true = run_check(tmp_path)
    assert true.status == 0
    done = run_command(tmp_path, "diff", str(true.report), str(deviating[0].report), "--json")
    found = json.loads(done.out)
    assert done.status == 1
    assert {name: len(checks) for name, checks in found.items()} == {
        "newly_deviating": 6, "newly_conforming": 0, "appeared": 0, "vanished": 0, "other": 0,
    }  # fmt: skip
    again = run_command(tmp_path, "diff", str(deviating[0].report), str(true.report))
    assert [line.split(":")[0] for line in again.out.splitlines()] == ["newly conforming"] * 6
    assert run_command(tmp_path, "diff", str(true.report), str(true.report)).status == 0


def test_shards_are_a_partition(tmp_path):
    """The shards of a run have all its keys, each once."""
    write_tests(tmp_path, NAMES, NAMES)
    words = ("check", "--tests", "tests", "made.m1.law")
    whole = run_command(tmp_path, *words).checks
    parts = [run_command(tmp_path, *words, "--shard", f"{number}/3").checks for number in (1, 2, 3)]
    key = ("id", "case", "route", "gate", "word")
    assert sorted([check[name] for name in key] for check in whole) == sorted(
        [check[name] for name in key] for part in parts for check in part
    )
    assert all(parts)


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1/0", "x", "1"])
def test_shard_out_of_range(shard, tmp_path):
    """A shard that does not exist: one line, status 2."""
    run = run_command(tmp_path, "check", "--shard", shard)
    assert run.status == 2
    assert f"'{shard}' is not I/N" in run.err


def test_again_runs_one_key(deviating, tmp_path):
    """The command that a failure prints judges that key alone, and it deviates again."""
    run, _ = deviating
    bad = next(check for check in run.checks if check["verdict"] == "deviates")
    command = [bad["id"], "--case", bad["case"], "--route", bad["route"]]
    line = f"--case '{bad['case']}' --route {bad['route']} --gate {bad['gate']}"
    assert line in run.out
    write_tests(tmp_path, NAMES, NAMES)
    once = run_check(tmp_path, *command, prefix=PREFIX)
    assert once.status == 1
    assert [(check["case"], check["verdict"]) for check in once.checks] == [(bad["case"], "deviates")]


def test_list_prints_keys(tmp_path):
    """--list prints what would run, and judges nothing."""
    lists = {}
    for chosen in ("", "--route direct", "--shard 1/2"):
        run = run_command(tmp_path, "check", *ONE_GATE, "bind.rebind.raw", "--list", *chosen.split())
        assert run.status == 0
        assert not run.report.exists()
        lists[chosen] = run.out.splitlines()
    everything = [f"bind.rebind.raw [kind={kind}] {route} int80 {WORD}" for route in ROUTES for kind in ("raw", "raw6")]
    assert lists == {"": everything, "--route direct": everything[2:], "--shard 1/2": everything[::2]}


def test_require(tmp_path, judge):
    """--require fails a run in which something is not applicable, unless its file lists it."""
    source = '''
@law
def test_it(calls, expect):
    """Not here."""
    not_applicable("protocol SCTP")
'''
    good = '''
@law
def test_it(calls, expect):
    """Binding descriptor -1 fails."""
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
'''
    run = judge(source, good, args=["--require"])
    assert run.status == 3
    assert "made.m0.law is not applicable: protocol SCTP" in run.out
    (tmp_path / "allowed").write_text("# no SCTP\nmade.m0.*\n")
    assert judge(source, good, args=["--require", "allowed"]).status == 0
    assert judge(source, good, args=["--require", "nowhere"]).status == 2
