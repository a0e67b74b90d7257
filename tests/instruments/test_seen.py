"""What the tracer saw, judged in the parent; and the numbers that the suite calls by, against the kernel's table."""

from __future__ import annotations

import pytest

from probes.abi.numbers import BY_DIRECT, PLAIN, SOCKETCALL
from probes.abi.record import Record
from probes.abi.syscalls import SYSCALLS
from probes.plugin.verdicts import Check, Subject, judge
from probes.sandbox.sandbox import SandboxResult

KEY = {"id": "made.up.law", "case": "", "route": "direct", "gate": "int80", "word": 32}


def record(seq: int, call: int, ret: int | None, ebx: str = "0x5") -> Record:
    registers = {"eax": "0x3", "ebx": ebx}
    return Record(1, 1, seq, "i386", 32, "int80", "direct", 3, "read", registers, None, (5, 6), seq, call, ret=ret,
                  regs_out=None if ret is None else {**registers, "eax": hex(ret & 0xFFFFFFFF)})  # fmt: skip


def judged(field: str, expected: object, records: list[Record], calls: list[int], observed: bool = True) -> Check:
    check = {**KEY, "verdict": "unjudged", "expected": expected, "calls": calls, "field": field}
    outcome = SandboxResult([{"check": check}, {"finished": True}])
    (only,) = judge(Subject(**KEY, observed=observed), outcome, records, set())
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
    """A restarted call has several records; another's do not count, and the evidence is theirs."""
    check = judged(field, expected, RESTARTED, [7])
    assert (check["verdict"], check["actual"], check["seq"]) == ("conforms", expected, [1, 3])
    assert field in check["detail"]
    assert judged(field, [None], RESTARTED, [7])["verdict"] == "deviates"


def test_a_call_that_never_returned_has_no_registers_after_it() -> None:
    assert judged("regs_out.eax", [-1], [record(1, 7, None)], [7])["verdict"] == "conforms"
    assert judged("ret", [None], [record(1, 7, None)], [7])["verdict"] == "conforms"


def test_no_record_is_no_evidence() -> None:
    assert judged("ret", [], [], [7])["verdict"] == "broke"
    assert judged("ret", [0], [record(1, 7, 0)], [7, 9])["verdict"] == "broke"


def test_nobody_saw_anything_without_a_tracer() -> None:
    assert judged("ret", [0], [], [7], observed=False)["verdict"] == "not_applicable"


def test_a_register_that_changed_is_named() -> None:
    changed = record(1, 7, 0)
    changed.regs_out = {"eax": "0x0", "ebx": "0x6"}
    assert changed.clobbered == ["ebx"]


def test_the_numbers_are_those_of_the_table() -> None:
    """numbers.py was written by hand, syscalls.py was not."""
    assert SYSCALLS[SOCKETCALL] == ("socketcall", "yyyy", "yyyy")
    for number, operation in BY_DIRECT.items():
        assert SYSCALLS[number][0] == operation.direct_name
    for name, number in PLAIN.items():
        assert SYSCALLS[number][0] == name
