"""Tests the gate's own note of a call: the record of a check where no tracer watches."""

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
