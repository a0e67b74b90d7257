"""Verdicts about what the tracer saw; and the numbers by which the suite calls, against the kernel's table."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from probes.abi.operations import BY_DIRECT, SOCKETCALL
from probes.abi.record import Record
from probes.abi.syscalls import SYSCALLS
from probes.entry.calls import Output
from probes.entry.gate import Result
from probes.plugin.verdicts import Subject, judge, route_of
from probes.report.causes import Causes
from probes.report.check import BOTH, Check, Key
from probes.sandbox.messages import Announced, Broke, Finished, Judged, Message, NoAnswer, Passed, SetUpRefused
from probes.sandbox.sandbox import SandboxResult

KEY = Key("made.up.law", "", "direct", "int80", 32)


class Traced(SandboxResult):
    """A sandbox whose calls were traced to these records."""

    def __init__(self, messages: list[Message], records: list[Record]) -> None:
        super().__init__(messages)
        self._records = records

    def records(self) -> list[Record]:
        return self._records


def record(t_ns: int, call: int, ret: int | None, ebx: str = "0x5") -> Record:
    registers = {"eax": "0x3", "ebx": ebx}
    return Record(1, 1, t_ns, "i386", 32, "int80", "direct", 3, "read", registers, None, (5, 6), 0, call, ret=ret,
                  regs_out=None if ret is None else {**registers, "eax": hex(ret & 0xFFFFFFFF)})  # fmt: skip


def judged(name: str, expected: object, records: list[Record], calls: list[int], observed: bool = True) -> Check:
    messages = [Announced(1, "", expected), Judged(1, None, calls, record_field=name), Finished()]
    (only,) = judge(Subject(KEY, observed), Traced(messages, records), set()).checks
    return only


RESTARTED = [record(1, 7, -512), record(2, 8, 0), record(3, 7, 4)]


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("ret", [-512, 4]),
        ("nr", [3, 3]),
        ("args", [[5, 6], [5, 6]]),
        ("regs_in.ebx", [5, 5]),
        ("regs_out.eax", [0xFFFFFE00, 4]),
        ("clobbered", [[], []]),
    ],
)
def test_one_value_for_each_record_of_the_call(field: str, expected: object) -> None:
    """A restarted call has several records; those of other calls do not count."""
    check = judged(field, expected, RESTARTED, [7])
    assert (check.verdict, check.actual, check.rests_on) == ("conforms", expected, [0, 2])
    assert field in check.detail
    assert judged(field, [None], RESTARTED, [7]).verdict == "deviates"


@pytest.mark.parametrize(("result", "actual"), [(0, 1), (1, [1, 1]), (-22, -22)])
def test_a_result_that_is_not_documented_is_judged_with_the_value(result: int, actual: object) -> None:
    """A call that writes 1 and returns 1, where 0 is documented, is not taken for one that writes 1."""
    assert Output(Result(result), b"\1\0\0\0" if result >= 0 else b"").as_int().actual == actual


def test_what_a_failed_call_has_written_is_judged_with_its_error() -> None:
    """A getsockopt that fails, and writes all the same, does not conform where the error is expected."""
    failed = Output(Result(-22), b"", b"\1\0\0\0")
    assert failed.as_int().actual == failed[2:].actual == [-22, b"\1\0\0\0"]


@pytest.mark.parametrize(
    ("written", "actual"), [(b"\1\0\2\0", [0, [1, 2]]), (b"\1\0\2", [0, b"\1\0\2"]), (b"", [0, b""])]
)
def test_members_of_a_structure_of_another_size_are_its_bytes(written, actual):
    """An implementation that writes too little deviates: the test does not end at the first such call."""
    assert Output(Result(0), written).unpack("<2H").with_result().actual == actual


def test_a_call_that_never_returned_has_no_registers_after_it() -> None:
    assert judged("regs_out.eax", [-1], [record(1, 7, None)], [7]).verdict == "conforms"
    assert judged("ret", [None], [record(1, 7, None)], [7]).verdict == "conforms"


def test_no_record_is_no_evidence() -> None:
    assert judged("ret", [], [], [7]).verdict == "broke"
    assert judged("ret", [0], [record(1, 7, 0)], [7, 9]).verdict == "broke"


def test_without_a_tracer_it_is_not_applicable() -> None:
    assert judged("ret", [0], [], [7], observed=False).verdict == "not_applicable"


def test_a_register_that_changed_is_named() -> None:
    changed = record(1, 7, 0)
    changed.regs_out = {"eax": "0x0", "ebx": "0x6"}
    assert changed.clobbered == ["ebx"]


def test_the_numbers_are_those_of_the_table() -> None:
    """The numbers of operations.py, which is written by hand, are those of syscalls.py, which is generated."""
    assert SYSCALLS[SOCKETCALL] == ("socketcall", "yyyy", "yyyy")
    for number, operation in BY_DIRECT.items():
        assert SYSCALLS[number][0] == operation.direct_name


def test_route_is_that_of_the_judged_call() -> None:
    """The route of a check is that of the operations it rests on; another call counts only where there is none."""
    other = record(1, 7, 0)
    direct = replace(record(2, 8, 0), op="bind", nr=361)
    multiplexed = replace(record(3, 9, 0), op="bind", nr=102, route="socketcall")
    bad_number = replace(record(4, 10, -22), op="", nr=102, route="socketcall")
    assert route_of([]) == ""
    assert route_of([other]) == "direct"
    assert route_of([other, multiplexed]) == "socketcall"
    assert route_of([bad_number]) == "socketcall"
    assert route_of([multiplexed, direct]) == BOTH


def test_a_call_over_another_route_than_the_test_is_broke() -> None:
    """A test of one route that judges a call over another would give two checks one key."""
    messages = [Announced(1, "", 0), Judged(1, 0, [7]), Finished()]
    run = Traced(messages, [record(1, 7, 0)])
    over = replace(KEY, route="socketcall")
    (only,) = judge(Subject(over), run, set()).checks
    assert (only.verdict, only.key.route) == ("broke", "direct")
    assert "took route direct" in only.detail
    (only,) = judge(Subject(replace(KEY, route=BOTH)), run, set()).checks
    assert (only.verdict, only.key.route) == ("conforms", "direct")
    assert judge(Subject(replace(KEY, route=BOTH), only="socketcall"), run, set()).checks == []


def test_one_key_judged_twice_is_broke() -> None:
    """Two checks of one key in one test are ambiguous."""
    messages = [Announced(1, "", 0), Announced(2, "", 0), Judged(1, 0, [7]), Judged(2, 0, [7]), Finished()]
    first, second = judge(Subject(KEY), Traced(messages, [record(1, 7, 0)]), set()).checks
    assert (first.verdict, second.verdict) == ("conforms", "broke")


def test_what_was_announced_before_a_fatal_call_deviates() -> None:
    """Every open announcement deviates with how the process ended; one announced after the call is not concerned."""
    messages = [Announced(1, "a=1", 0), Announced(2, "b=1", 5), Announced(9, "c=1", 0)]
    run = Traced(messages, [record(1, 7, None)])
    run.status = signal.SIGSEGV
    checks = judge(Subject(KEY), run, set()).checks
    assert [(check.key.case, check.verdict, check.actual) for check in checks] == [
        ("a=1", "deviates", "died SIGSEGV"),
        ("b=1", "deviates", "died SIGSEGV"),
    ]


def test_without_a_tracer_the_note_of_the_gate_is_the_record() -> None:
    """Where no tracer watches, a check rests on the gate's own note."""
    noted = replace(record(1, 7, 0), observed=False)
    messages = [Announced(1, "", 0), Judged(1, 0, [7], noted=[noted]), Finished()]
    judgement = judge(Subject(KEY, observed=False), SandboxResult(messages), set())
    assert (judgement.checks[0].verdict, judgement.checks[0].rests_on) == ("conforms", [0])
    assert judgement.records == [noted]


def test_a_refused_set_up_deviates() -> None:
    """A documented call refused in set-up deviates, with the call; what was announced before it deviates too."""
    refused = [SetUpRefused(7, -9, "a bound socket"), Finished()]
    run = Traced(refused, [record(1, 7, -9)])
    (check,) = judge(Subject(replace(KEY, case="kind=tcp")), run, set()).checks
    assert (check.key.case, check.verdict, check.actual, check.rests_on) == (
        "kind=tcp set-up=refused",
        "deviates",
        -9,
        [0],
    )
    assert check.detail == "in set-up, a bound socket was refused"
    run = Traced([Announced(1, "a=1", 5), *refused], [record(1, 7, -9)])
    (check,) = judge(Subject(KEY), run, set()).checks
    assert (check.key.case, check.verdict, check.expected, check.actual) == ("a=1", "deviates", 5, -9)


def test_a_check_that_broke_carries_the_last_calls() -> None:
    """What broke has the calls before it as evidence."""
    messages = [Broke("no such thing"), Finished()]
    (check,) = judge(Subject(KEY), Traced(messages, [record(n, n, 0) for n in range(5)]), set()).checks
    assert (check.verdict, check.rests_on) == ("broke", [2, 3, 4])


def test_keys_are_distinct_where_a_call_has_no_answer() -> None:
    """What was announced for both routes is one check if the first call ends its process; a judged key stays alone."""
    fatal, before = replace(record(7, 7, 0), ret=None, regs_out=None), replace(record(3, 3, 0), observed=False)
    messages = [
        Announced(1, "a=1", 0), Judged(1, 0, [3], noted=[before]), Announced(4, "a=1", 0), Announced(5, "b=1", 0),
        Announced(6, "b=1", 0), NoAnswer(7, "died SIGSEGV", "why", [fatal]),
    ]  # fmt: skip
    checks = judge(Subject(KEY, observed=False), SandboxResult([*messages]), set()).checks
    assert [(check.key.case, check.verdict, check.actual) for check in checks] == [
        ("a=1", "conforms", 0), ("a=1 ended=early", "deviates", "died SIGSEGV"), ("b=1", "deviates", "died SIGSEGV")
    ]  # fmt: skip


def test_causes_are_grouped_most_frequent_first() -> None:
    """Checks of one operation, expected and actual value are one cause; the lines stay within the limit."""
    causes = Causes()
    for number in range(9):
        check = Check(replace(KEY, case=f"n={number}"), "deviates", 0, -1 if number % 3 else -13)
        causes.add(check, [replace(record(1, 7, -1), op="bind")], lambda: "example\nof two lines")
    lines = causes.lines()
    assert lines[0] == "6 times bind: expected 0, actual -1 EPERM (1 behaviour)"
    assert lines[4] == "3 times bind: expected 0, actual -13 EACCES (1 behaviour)"
    assert causes.lines(limit=5) == lines[:5]
    assert causes.lines(limit=4) == [lines[0], lines[4]]
    assert causes.lines(limit=1) == ["2 more causes with 9 checks: see report.html and results.jsonl.gz"]
    one = Causes()
    one.add(Check(KEY, "deviates", 0, -13), [], lambda: "")
    assert one.lines()[0] == "1 time no call: expected 0, actual -13 EACCES (1 behaviour)"
    for number in range(300):
        causes.add(Check(KEY, "deviates", number, -1), [], lambda: "line\n" * 12)
    assert len(causes.lines()) <= 50


def test_a_test_that_claims_to_have_finished_has_judged() -> None:
    """A test that sent by itself that it passed and finished broke: it judged nothing, or left an announced check open."""
    passed = [Passed([[0, 1]] * 3), Finished()]
    (check,) = judge(Subject(KEY), SandboxResult([*passed]), set()).checks
    assert (check.verdict, check.detail) == ("broke", "the test judged nothing")
    assert judge(Subject(KEY, partial=True), SandboxResult([*passed]), set()).checks == []
    (check,) = judge(Subject(KEY, partial=True), SandboxResult([Announced(1, "a=1", 0), *passed]), set()).checks
    assert (check.key.case, check.verdict, check.detail) == ("a=1", "broke", "announced and never judged")
