"""The formats of a run, held against those who read them."""

import functools
import gzip
import io
import json
import operator
import random
import re
import shutil
from html.parser import HTMLParser
from xml.etree import ElementTree

import jsonschema
import pytest

from probes.errors import CommandError
from probes.installation import checkout
from probes.report import diff
from probes.report.check import Check, Key
from probes.report.directory import SCHEMA
from probes.report.formats import html
from probes.report.formats.junit import Suites
from probes.report.formats.ktap import KtapWriter
from probes.report.reader import keys_of, read
from probes.report.writer import write_views
from tests.instruments.support import missing, run_check, run_command, unpacked, write_tests
from tests.instruments.test_verdicts import ENDINGS, GOOD

MISSING = '''
@law
def test_it(calls, expect):
    """Not here."""
    not_applicable("protocol SCTP # and | more <&>\\t\\"'\\x1b\\x00\\ufffe\\U0001f600")
'''


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with a check of each verdict that one machine can give."""
    folder = tmp_path_factory.mktemp("formats")
    write_tests(folder, GOOD, ENDINGS["a check that fails"][0], ENDINGS["a fixture that breaks"][0], MISSING)
    return run_check(folder)


def test_every_line_fits_the_schema(run):
    """docs/schema.json describes every line that is written, and nothing more."""
    schema = json.loads((checkout() / "docs" / "schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    lines = run.lines("results.jsonl") + run.lines("evidence.jsonl")
    assert {line["type"] for line in lines} >= {"run", "behaviour", "check", "end", "call"}
    for line in lines:
        validator.validate(line)
    summary = json.loads((run.report / "summary.json").read_text())
    jsonschema.Draft202012Validator({**schema, "oneOf": [{"$ref": "#/$defs/summary"}]}).validate(summary)


@pytest.mark.parametrize("spoil", ["drop", "add", "retype"])
@pytest.mark.parametrize("kind", ["run", "check", "call", "end"])
def test_the_schema_can_fail(run, kind, spoil):
    """A line with a field less, one more, or another type does not fit."""
    schema = json.loads((checkout() / "docs" / "schema.json").read_text())
    line = next(x for x in run.lines("results.jsonl") + run.lines("evidence.jsonl") if x["type"] == kind)
    name = {"run": "seed", "check": "verdict", "call": "nr", "end": "counts"}[kind]
    if spoil == "drop":
        del line[name]
    elif spoil == "add":
        line["another"] = 1
    else:
        line[name] = []
    assert not jsonschema.Draft202012Validator(schema).is_valid(line)


#: Documentation/dev-tools/ktap.rst: <result> <number> [<description>][ # [<directive>] [<diagnostic data>]]
POINT = re.compile(r"(ok|not ok) (\d+)( [^#]*?)?(?: # ?(?:(SKIP|TODO|XFAIL|TIMEOUT|ERROR)\b ?)?(.*))?")


PLAN = re.compile(r"1\.\.(\d+)")


def ktap_tests(lines, indent=""):
    """Return the tests of a KTAP document by the kernel's rules: (name, ok, directive, subtests), consuming its lines.

    A document begins with a version line and a plan. A test is a result line, numbered in order; lines that begin with #
    and documents that are indented by two spaces more, which are its subtests, come before it.
    """
    assert lines.pop(0) == f"{indent}KTAP version 1"
    tests, subtests, plan = [], [], None
    while lines and lines[0].startswith(indent):
        line = lines[0].removeprefix(indent)
        if line.startswith("  "):
            assert not subtests, "one document of subtests for a test"
            subtests = ktap_tests(lines, indent + "  ")
            continue
        lines.pop(0)
        if line.startswith("#"):
            continue
        if plan is None:
            plan = int(PLAN.fullmatch(line)[1])
            continue
        point = POINT.fullmatch(line)
        tests.append(((point[3] or "").strip(), point[1] == "ok", point[4], subtests))
        assert int(point[2]) == len(tests)
        subtests = []
    assert plan == len(tests)
    assert not subtests, "the subtests of no test"
    return tests


def test_ktap_by_the_kernels_rules(run):
    """A test for each directory, with a subtest for each check; it is not ok if one of them is not."""
    lines = (run.report / "ktap.txt").read_text().splitlines()
    ((name, ok, directive, subtests),) = ktap_tests(lines)
    assert not lines
    assert (name, ok, directive) == ("made", False, None)
    wanted = {"conforms": (True, None), "not_applicable": (True, "SKIP"), "deviates": (False, None)}
    assert [point[1:3] for point in subtests] == [wanted.get(verdict, (False, None)) for verdict in run.verdicts]
    assert [point[0].partition(" ")[0] for point in subtests] == [check["id"] for check in run.checks]


def test_ktap_of_several_directories():
    """Each directory has a plan of its own, and a result of its own."""
    keys = [Key(id, "", "direct", "int80", 64) for id in ("bind.a.b", "bind.a.c", "names.a.b", "wire.a.b")]
    checks = [Check(key, "deviates" if key.id == "names.a.b" else "conforms", 0, 1) for key in keys]
    suites, text = Suites(), io.StringIO()
    for check in checks:
        suites.add(check)
    writer = KtapWriter(text, suites)
    for check in checks:
        writer.add(check)
    writer.end()
    found = [(name, ok, len(subtests)) for name, ok, _, subtests in ktap_tests(text.getvalue().splitlines())]
    assert found == [("bind", True, 2), ("names", False, 1), ("wire", True, 1)]


def test_ktap_by_a_public_parser(run):
    """tap.py, which knows no subtests, reads the points of a directory without their indentation."""
    from tap.parser import Parser

    text = (run.report / "ktap.txt").read_text().splitlines(keepends=True)
    inner = "".join(line[2:] for line in text if line.startswith("  "))
    lines = list(Parser().parse_text(inner.replace("KTAP version 1", "TAP version 13")))
    tests = [line for line in lines if line.category == "test"]
    assert [test.ok for test in tests] == [verdict in ("conforms", "not_applicable") for verdict in run.verdicts]
    assert [test.skip for test in tests] == [verdict == "not_applicable" for verdict in run.verdicts]


def test_junit(run):
    """A deviation is a failure, what broke an error, what is not applicable skipped; the sums agree."""
    root = ElementTree.parse(run.report / "junit.xml").getroot()
    cases = list(root.iter("testcase"))
    kinds = {"conforms": [], "deviates": ["failure"], "broke": ["error"], "not_applicable": ["skipped"]}
    assert [[child.tag for child in case] for case in cases] == [kinds[verdict] for verdict in run.verdicts]
    # A parser reads the text back, "?" for what XML cannot carry.
    (skipped,) = root.iter("skipped")
    assert skipped.get("message") == "protocol SCTP # and | more <&>\t\"'???\U0001f600"
    # Every test here has one check: each has the time of its sandbox, and the suite their sum.
    times = [float(case.get("time")) for case in cases]
    assert all(0 < time < 20 for time in times)
    assert times == [round(check["seconds"], 3) for check in run.checks]
    suite = root.find("testsuite")
    assert abs(float(suite.get("time")) - sum(times)) < 0.01
    assert suite.get("time") == root.get("time")
    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["4", "1", "1", "1"]


def test_junit_by_a_public_parser(run):
    """junitparser reads the suite, its sums, and the result of each case."""
    try:
        import junitparser
    except ImportError:
        missing("junitparser is not installed: pip install junitparser")
    xml = junitparser.JUnitXml.fromfile(str(run.report / "junit.xml"))
    (suite,) = xml
    assert (suite.name, suite.tests, suite.failures, suite.errors, suite.skipped) == ("made", 4, 1, 1, 1)
    kinds = {"conforms": [], "deviates": ["Failure"], "broke": ["Error"], "not_applicable": ["Skipped"]}
    assert [[type(found).__name__ for found in case.result] for case in suite] == [
        kinds[verdict] for verdict in run.verdicts
    ]
    assert [case.classname for case in suite] == [check["id"] for check in run.checks]
    before = [case.name for case in suite]
    suite.update_statistics()
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (4, 1, 1, 1)
    assert len(set(before)) == len(before)


def test_html_shows_the_deviation(run):
    """The page loads no other file, and shows expected, actual, registers, words and source."""
    page = (run.report / "report.html").read_text()
    assert not re.search(r"<(link|img|iframe|script\s)|src=|url\(", page)
    assert not re.search(r'href="(?!#|https://man7\.org/)', page)
    for said in ("expected  0", "actual    -9 EBADF", "eax=0x66", "words     0xffffffff", "source    this test"):
        assert said in page
    assert "protocol SCTP # and | more &lt;&amp;&gt;" in page


class _Anchors(HTMLParser):
    """Collects the anchors of a page, and the links to them."""

    def __init__(self):
        super().__init__()
        self.ids, self.links = [], []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids += [found[name] for name in ("id",) if name in found]
        self.links += [link for link in [found.get("href", "")] if link.startswith("#")]


def test_html_has_anchors(run):
    """Every behaviour and every check that does not conform has an anchor, once; each link within the page has a target."""
    anchors = _Anchors()
    anchors.feed((run.report / "report.html").read_text())
    assert len(set(anchors.ids)) == len(anchors.ids)
    assert {link[1:] for link in anchors.links} <= set(anchors.ids)
    assert {check["id"] for check in run.checks} <= set(anchors.ids)
    wrong = [Check.of_json(check).key for check in run.checks if check["verdict"] in ("deviates", "broke")]
    assert {html.anchor(key) for key in wrong} <= set(anchors.ids)


def test_html_links_manual_pages():
    """A source is shown as it is, with the addresses of the manual pages that it names."""
    parts = list(html.linked("bind(2) EACCES; ip(7) x; __inet_bind; S4 3.2 step 6"))
    assert "".join(text for text, _ in parts) == "bind(2) EACCES; ip(7) x; __inet_bind; S4 3.2 step 6"
    assert [link.rpartition("/")[2] for _, link in parts if link] == ["bind.2.html", "ip.7.html"]


def test_views_again_from_a_folder(run, tmp_path):
    """The formats can be made again from the results, and are the same."""
    before = {name: (run.report / name).read_text() for name in ("ktap.txt", "junit.xml", "report.html")}
    for name in before:
        (run.report / name).unlink()
    assert run_command(tmp_path, "views", str(run.report)).status == 0
    assert {name: (run.report / name).read_text() for name in before} == before


def twice(text):
    """The results with their first check given twice."""
    *lines, end = text.splitlines()
    return "\n".join([*lines, lines[2], end])


SPOILT = {
    "cut off": (lambda text: text[: len(text) // 2], "cut off"),
    "without its end": (lambda text: "\n".join(text.splitlines()[:-1]), "no end line"),
    "of another schema": (lambda text: text.replace(f'"schema":{SCHEMA}', '"schema":99', 1), "schema 99"),
    "duplicated": (twice, "duplicate"),
    "empty": (lambda text: "", "is empty"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_spoilt_results(name, run, tmp_path):
    """Results that are not whole: one line that says so, status 2."""
    change, said = SPOILT[name]
    spoilt = tmp_path / "spoilt.jsonl"
    spoilt.write_text(change(unpacked(run.report / "results.jsonl.gz")))
    done = run_command(tmp_path, "diff", str(spoilt), str(run.report))
    assert done.status == 2
    assert said in done.err
    assert len(done.err.splitlines()) == 1


DAMAGED = {
    "cut off": (lambda data: data[: len(data) // 2], "cut off"),
    "without its checksum": (lambda data: data[:-8], "cut off"),
    "with a wrong checksum": (lambda data: data[:-8] + bytes(8), "damaged"),
    "of other bytes": (lambda data: data[:200] + bytes(range(256)) + data[200:], "damaged"),
    "with a tail": (lambda data: data + b"tail", "damaged"),
    "not UTF-8": (lambda data: gzip.compress(b"\xff\xfe"), "damaged"),
    "one endless line": (lambda data: gzip.compress(bytes((1 << 26) + 1), 1), "not JSON"),
}  # fmt: skip


@pytest.mark.parametrize("file", ["results.jsonl.gz", "evidence.jsonl.gz"])
@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files(file, name, run, tmp_path):
    """A packed file that is not whole: one line that says so, status 2."""
    change, said = DAMAGED[name]
    report = tmp_path / "report"
    shutil.copytree(run.report, report)
    (report / file).write_bytes(change((report / file).read_bytes()))
    done = run_command(tmp_path, "views", str(report))
    assert (done.status, len(done.err.splitlines())) == (2, 1), done.err
    assert said in done.err
    assert file in done.err


def test_unpacked_files_are_read_too(run, tmp_path):
    """A directory whose files were unpacked by gunzip gives the same formats, and differs in nothing."""
    report = tmp_path / "report"
    shutil.copytree(run.report, report)
    for name in ("results.jsonl", "evidence.jsonl"):
        (report / name).write_text(unpacked(report / f"{name}.gz"))
        (report / f"{name}.gz").unlink()
    (report / "junit.xml").unlink()
    assert run_command(tmp_path, "views", str(report)).status == 0
    assert (report / "junit.xml").read_bytes() == (run.report / "junit.xml").read_bytes()
    assert run_command(tmp_path, "diff", str(report), str(run.report)).status == 0
    results = report / "results.jsonl"
    assert run_command(tmp_path, "diff", str(results), str(run.report / "results.jsonl.gz")).status == 0


#: Values that stand in place of a field of a line.
WRONG = [None, True, -1, 1.5, 10**30, "", "x", "\ud800", [], [1], {}, {"a": 1}, {"bytes": 5}, {"bytes": "zz"}]


def places(value, path=()):
    """Yield the path of every value inside a line, but the line itself."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inside:
        yield (*path, key)
        yield from places(item, (*path, key))


def mutations(text, seed, count):
    """Yield a text of lines with one value of one line replaced or removed, many times."""
    chance = random.Random(seed)
    lines = text.splitlines()
    for _ in range(count):
        number = chance.randrange(len(lines))
        line = json.loads(lines[number])
        *path, last = chance.choice(list(places(line)))
        holder = functools.reduce(operator.getitem, path, line)
        if chance.random() < 0.3:
            del holder[last]
        else:
            holder[last] = chance.choice(WRONG)
        yield "\n".join([*lines[:number], json.dumps(line), *lines[number + 1 :], ""])


@pytest.mark.parametrize("file", ["results.jsonl", "evidence.jsonl"])
def test_a_wrong_value_is_one_line(file, run, tmp_path):
    """Whatever stands in place of a value: it is read, or CommandError says in one line that it is not."""
    report = tmp_path / "report"
    shutil.copytree(run.report, report)
    whole = read(run.report)
    refused = 0
    for text in mutations(unpacked(run.report / f"{file}.gz"), seed=len(file), count=120):
        (report / f"{file}.gz").write_bytes(gzip.compress(text.encode("utf-8"), 1))
        try:
            write_views(report)
            diff.text(diff.compare(whole, read(report)))
            keys_of(report)
        except CommandError as error:
            assert "\n" not in str(error), text
            refused += 1
    assert 12 < refused < 120


def test_evidence_of_what_fails_only(tmp_path):
    """With --evidence failing a check that conforms has no evidence, one that deviates has all of its own."""
    bad = ENDINGS["a check that fails"][0]
    write_tests(tmp_path, GOOD, bad)
    whole = run_check(tmp_path)
    verdicts, last, calls = whole.verdicts, whole.checks[1], whole.lines("evidence.jsonl")
    some = run_check(tmp_path, "--evidence", "failing")
    assert (some.status, some.verdicts) == (1, verdicts)
    evidence = some.lines("evidence.jsonl")
    conforms, deviates = some.checks
    assert conforms["seq"] == []
    assert [line["seq"] for line in evidence] == deviates["seq"] != []
    assert [line["op"] for line in evidence] == [line["op"] for line in calls if line["seq"] in last["seq"]]
    assert 0 < len(evidence) < len(calls)
    (tmp_path / "known").write_text("made.m1.law | | known\n")
    known = run_check(tmp_path, "--evidence", "failing", "--expect", str(tmp_path / "known"))
    assert (known.status, known.lines("evidence.jsonl")) == (0, [])


def test_missing_results(tmp_path):
    """No results at all: one line, status 2."""
    done = run_command(tmp_path, "diff", "nowhere", "nowhere")
    assert (done.status, len(done.err.splitlines())) == (2, 1)
