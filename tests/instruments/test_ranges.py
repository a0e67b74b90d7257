"""Ranges: the values of a sample, and the page that states what the members of the largest behaviours tell apart."""

import fnmatch
import random

import pytest

from probes.entry.calls import Calls
from probes.entry.gate import gate
from probes.entry.memory import Memory
from probes.entry.sweep import Sweep
from probes.installation import checkout
from probes.report.check import Key
from probes.testing.behaviours import registered
from probes.testing.ranges import DRAWN, Ranges
from tools import ranges as page


def test_the_page_states_behaviours_of_the_catalogue():
    """Each id or glob of the table matches a registered behaviour."""
    ids = list(registered(checkout() / "tests"))
    assert [glob for glob in page.stated() if not fnmatch.filter(ids, glob)] == []
    assert page.stated()[0] == "multiplexer.dispatch.*"


def test_the_largest_behaviours_of_a_run_are_stated():
    """A behaviour among the 40 largest that no glob matches is named with its checks, a smaller one is not."""
    keys = [
        Key(f"a.b.c{number:02}", f"x={case}", "direct", "int80", 64) for number in range(45) for case in range(number)
    ]
    assert page.missing(keys, ["a.b.c[0-3]*"]) == [f"a.b.c{number}: {number} checks" for number in range(44, 39, -1)]
    assert page.missing(keys, ["a.b.c0*", "a.b.*"]) == []


def test_a_range_is_whole_over_one_entry():
    """Over another, and where the test says so, it is a sample."""
    seeded = random.Random(1)
    assert Ranges(True, seeded).of(1, 65535) == ("1..65535", range(1, 65536))
    for sampled in (Ranges(False, seeded).of(1, 65535), Ranges(True, seeded).of(1, 65535, whole=False)):
        assert sampled[0] == "sample"
        assert len(sampled[1]) > DRAWN


def test_a_sample_has_ends_powers_and_drawn_values():
    """It ascends, is repeated by the seed, stays in its ranges, and is all of a short range."""
    drawn = Ranges(False, random.Random(1)).sample((-(2**31), -1), (46, 70000))
    assert drawn == sorted(set(drawn)) == Ranges(False, random.Random(1)).sample((-(2**31), -1), (46, 70000))
    assert {-(2**31), -1, -2, 46, 63, 64, 65, 65535, 65536, 65537, 70000} <= set(drawn)
    assert all(value < 0 or 46 <= value <= 70000 for value in drawn)
    assert drawn != Ranges(False, random.Random(2)).sample((-(2**31), -1), (46, 70000))
    assert Ranges(False, random.Random(1)).sample((5, 9)) == [5, 6, 7, 8, 9]


def test_a_sweep_takes_a_sample():
    """The loop runs once for consecutive values, and each result stands beside its value."""
    sweep = Sweep(Calls(gate("int80"), "socketcall", Memory()))
    sweep.call("socket", 2, sweep.value, 0, judged=True)
    values = [-1, 0, 11, 12, 13, 15, 0x10]
    swept = sweep.run(values)
    assert list(swept) == [(value, int(swept.again(value))) for value in values]
    assert swept.results[1] != swept.results[2]


@pytest.mark.parametrize("values", [[3, 2], [1, 1], [1, 5, 3, 4], range(0, 8, 2), range(8, 0, -1)], ids=str)
def test_a_sweep_needs_values_that_ascend(values):
    """The loop counts up by one."""
    sweep = Sweep(Calls(gate("int80"), "socketcall", Memory()))
    sweep.raw(20, sweep.value, judged=True)
    with pytest.raises(TypeError, match="ascend"):
        sweep.run(values)
