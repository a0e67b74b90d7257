"""Runs on one kernel are alike: no compared value holds what the machine chose (pointers, ports, names, descriptors)."""

from probes.installation import checkout
from probes.report.reader import read
from tests.instruments.support import ONE_GATE, run_command, write_tests

#: Behaviours whose values hold pointers, ephemeral ports, names by autobind, and numbers of descriptors.
CHOSEN_BY_THE_MACHINE = (
    "entry.registers.preserved*", "entry.signals.registers", "multiplexer.observers.proc", "bind.automatic.range",
    "bind.rebind.unix", "teardown.close.descriptor",
)  # fmt: skip
#: A plugin that runs the tests in another order, the same on every worker of pytest-xdist.
SHUFFLED = """
import random
def pytest_collection_modifyitems(items):
    random.Random(1).shuffle(items)
"""
#: A check that conforms, and one that deviates, each with a value that differs from run to run.
DIFFERS = '''
@law
def test_it(calls, expect):
    """A value is one value."""
    for verdict, actual in (("conforms", int(os.environ["VALUE"])), ("deviates", 0)):
        check = expect(int(os.environ["VALUE"]), verdict=verdict)
        check.of(actual, calls.bind(-1, ADDRESS))
'''


def judged(run):
    """Return all that a run says of each check, but for the time that it took and the numbers of its evidence."""
    return {check.key: (check.verdict, check.expected, check.actual, check.detail) for check in read(run.report).checks}


def test_runs_are_alike(tmp_path):
    """One process, and two workers with another order of the tests."""
    (tmp_path / "shuffled.py").write_text(SHUFFLED)
    ways = {"alone": ["-n", "0"], "shuffled": ["-n", "2", "-p", "shuffled"]}
    path = {"PYTHONPATH": f"{checkout()}:{tmp_path}"}
    runs = {}
    for name, words in ways.items():
        (tmp_path / name).mkdir()
        runs[name] = run_command(tmp_path / name, "check", *CHOSEN_BY_THE_MACHINE, "--", *words, env=path)
        assert runs[name].status == 0, runs[name].out + runs[name].err
    alone = judged(runs["alone"])
    for name, run in runs.items():
        assert judged(run) == alone, name
        done = run_command(tmp_path, "diff", str(runs["alone"].report), str(run.report))
        assert (done.status, done.out) == (0, ""), name


def test_diff_names_a_value_that_changed(tmp_path):
    """The verdicts are the same: the values that are expected differ."""
    write_tests(tmp_path, DIFFERS)
    for number in ("1", "2"):
        where = ("--tests", "tests", "--report", f"run{number}")
        assert run_command(tmp_path, "check", *ONE_GATE, *where, env={"VALUE": number}).status == 1
    done = run_command(tmp_path, "diff", "run1", "run2")
    assert done.status == 1
    conforms, deviates = done.out.splitlines()
    assert conforms.endswith(": conforms (1) to conforms (2)")
    assert deviates.endswith(": deviates (expected 1, actual 0) to deviates (expected 2, actual 0)")
