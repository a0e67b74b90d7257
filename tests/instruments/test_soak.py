"""The soak does what it says, in the small."""

import gzip
import random

from probes.report.check import VERDICTS
from tests.instruments.support import run_check, write_tests
from tools import soak

JUDGES = '''
@law
def test_it(calls, expect):
    """Binding descriptor -1 fails."""
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
'''


def test_half_of_the_calls_succeed():
    """Every second call makes a socket; the others are decoded whatever they are."""
    found = soak.calls(400, random.Random(1))
    assert 200 <= found["succeeded"] < 230
    assert found.total() == 400


def test_the_calls_of_a_program_under_capture_are_all_there(tmp_path):
    """As many fail as without a tracer."""
    alone, under = soak.calls(400, random.Random(3)), soak.captured(400, 3, tmp_path)
    assert under == alone


def test_damaged_results_are_read_or_refused(tmp_path):
    """A reader never fails otherwise; damage that changes no meaning is read."""
    write_tests(tmp_path, JUDGES)
    ended = run_check(tmp_path)
    found = soak.lines(200, random.Random(1), ended.report)
    assert found.total() == 200
    assert found["refused"] > 50
    assert all(
        verdict in gzip.decompress((ended.report / "results.jsonl.gz").read_bytes()).decode() for verdict in VERDICTS
    )
