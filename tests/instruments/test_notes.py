"""Tests the gate's own note of a call: the record of a check where no tracer watches."""

from dataclasses import replace

import pytest

from probes.abi.note import completed, with_memory
from probes.abi.record import Record
from probes.sandbox.untrusted import require_note

ADDRESS = bytes.fromhex("0200005000000000") + bytes(8)
BIND = Record(
    pid=1, tid=1, t_ns=0, abi="i386", word=32, gate="int80", route="socketcall", nr=102, op="bind",
    regs_in={"eax": "0x66", "ebx": "0x2"}, args_ptr="0x1000", args=(), ret=0, observed=False,
)  # fmt: skip

SOURCE = '''
@law
@pytest.mark.routes("socketcall")
@pytest.mark.sandbox(trace="none")
def test_it(calls, expect):
    """Binding descriptor -1 works."""
    expect(0).of(calls.bind(-1, ADDRESS))
'''

REFUSED = '''
from probes.testing.socket_kinds import TCP
@law
@pytest.mark.routes("socketcall")
def test_it(calls, prepare, expect):
    """Two sockets have one address."""
    calls.bind(-1, ADDRESS)
    check = expect(0)
    prepare("bound", TCP)
    prepare("bound", TCP)
    check.of(calls.bind(-1, ADDRESS))
'''


def test_a_note_shows_the_registers_of_an_unobserved_call(judge):
    run = judge(SOURCE)
    assert run.verdicts == ["deviates"]
    (record,) = (line for line in run.lines("evidence.jsonl") if line["type"] == "call")
    assert run.checks[0]["seq"] == [record["seq"]]
    assert (record["observed"], record["route"], record["op"], record["ret"]) == (False, "socketcall", "bind", -9)
    assert (record["regs_in"]["eax"], record["regs_in"]["ebx"]) == ("0x66", "0x2")
    assert "the gate's own registers: no tracer runs here" in run.out


def test_a_note_shows_a_refused_call_of_a_gate_that_is_not_traced(judge):
    run = judge(REFUSED)
    assert (run.verdicts, run.checks[0]["actual"]) == (["deviates"], -98)
    calls = [line for line in run.lines("evidence.jsonl") if line["type"] == "call"]
    assert [(call["ret"], call["observed"]) for call in calls] == [(-9, True), (-98, False)]
    assert run.checks[0]["seq"] == [calls[1]["seq"]]


def test_a_note_is_decoded_from_the_memory_that_it_carries():
    """Words and memory of a note are decoded by who receives it; words that are not known are counted."""
    whole = with_memory(BIND, "i386", (3, 0x2000, 16), {"addr": ADDRESS})
    require_note(whole)
    assert completed(whole).decoded == {
        "fd": 3,
        "addr": {"family": "AF_INET", "host": "0.0.0.0", "port": 80},
        "addrlen": 16,
    }
    assert completed(with_memory(BIND, "i386", (3, 0x2000), {})).args_error == "only 2 of 3 words are known"


@pytest.mark.parametrize(
    "damage",
    [
        {"args": (1 << 32,)},
        {"args": (-1,)},
        {"decoded": {"addr": 1}},
        {"decoded": {"addr": {"bytes": "0g"}}},
        {"decoded": {"addr": {"bytes": "00", "family": "AF_INET"}}},
        {"args_after": (3,)},
        {"op": "connect"},
    ],
    ids=str,
)
def test_a_damaged_note_is_refused(damage):
    """What a sandbox sends as the memory of a note is bytes, its words are words."""
    with pytest.raises(ValueError, match=r"note|non-hex"):
        require_note(replace(BIND, **damage))
