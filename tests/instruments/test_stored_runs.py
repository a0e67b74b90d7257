"""Stored runs of genuine kernels, and the page of their differences."""

import pytest

from probes.errors import CommandError
from probes.report.reader import read
from probes.report.references import Answer, StoredRun, by_behaviour, stored
from probes.testing.reference import local
from tools import stored_runs

DIFFERS = '''
from probes.testing.reference import VersionDifference, AbiDifference
@law
def test_it(calls, expect):
    """Something differs."""
    here = VersionDifference("2.0", before=0, after=-errno.EBADF, cite="a commit")
    expect(here, of="version").of(calls.bind(-1, ADDRESS))
    expect(-errno.EBADF, of="none").of(calls.bind(-1, ADDRESS))
'''


def test_the_page_is_what_the_stored_runs_say():
    assert stored_runs.page().read_text() == stored_runs.text(stored())


def test_every_difference_is_shown_by_two_kernels():
    assert stored_runs.unmeasured(stored()) == []


def test_what_differs_is_stored(judge):
    judged = judge(DIFFERS)
    assert judged.status == 0, judged.out
    ((kernel, run),) = stored_runs.combined([read(judged.report)]).items()
    assert kernel == str(local())
    assert run.counts == {"conforms": 2}
    assert run.answers == {"made.m0.law of=version": Answer("a commit", -9, "version")}
    answers = {"made.m0.law of=version": Answer("a commit", 0, "version")}
    other = StoredRun("i386 1.2", run.kernel, run.counts, answers)
    text = stored_runs.text([other, run])
    assert "| made.m0.law of=version | 0 | -9 EBADF |" in text
    assert by_behaviour([other, run]) == {"made.m0.law": {"of=version": {"i386 1.2": 0, kernel: -9}}}
    assert stored_runs.unmeasured([run]) == ["made.m0.law of=version"]
    assert stored_runs.unmeasured([run, other]) == []
    assert stored_runs.not_stored([read(judged.report)], [other]) == []
    assert stored_runs.not_stored([read(judged.report)], []) == ["made.m0.law of=version (a commit)"]


def test_some_behaviours_are_added_to_a_stored_run():
    def on(**actuals):
        answers = {name.replace("_", " "): Answer("c", actual, "version") for name, actual in actuals.items()}
        return StoredRun("i386 6.1.176", {}, {"conforms": len(actuals)}, answers)

    whole, part = on(one_case=1, one_gone=2, two_case=3, four_case=6), on(one_case=4, three_case=5)
    # Of "four" nothing differs any more.
    together = stored_runs.added(whole, part, {"one", "three", "four"})
    assert together == StoredRun(
        "i386 6.1.176", {}, {"conforms": 4}, on(one_case=4, three_case=5, two_case=3).answers
    )  # fmt: skip
    # What the later run could not judge stays.
    together = stored_runs.added(whole, part, {"three"})
    assert together.answers == on(four_case=6, one_case=4, one_gone=2, three_case=5, two_case=3).answers


def test_entries_are_compared_in_one_version():
    def on(reference, actual):
        return StoredRun(reference, {}, {}, {"x": Answer("c", actual, "entry")})

    native, later, control = on("i386 6.1.176", 1), on("ia32-compat 6.18", 2), on("ia32-compat 6.1.170", 2)
    assert stored_runs.unmeasured([native, later]) == ["x"]
    assert stored_runs.unmeasured([native, later, control]) == []


def test_a_run_that_deviates_is_no_reference_until_it_is_judged_again(judge):
    judged = judge(DIFFERS.replace("after=-errno.EBADF", "after=1"))
    assert judged.status == 1
    wrong = read(judged.report)
    with pytest.raises(CommandError, match=r"made.m0.law of=version deviates on .*: that is no reference"):
        stored_runs.combined([wrong])
    right = read(judge(DIFFERS).report)
    assert stored_runs.combined([wrong, right]) == stored_runs.combined([right])


def test_a_run_judged_against_another_kernel_is_no_reference(judge):
    other = read(judge(DIFFERS, args=["--reference", "i386-5.10"]).report)
    with pytest.raises(CommandError, match=r"was judged against i386 5.10: leave out --reference"):
        stored_runs.combined([other])
