"""Tests the gate's own note of a call: the record of a check where no tracer watches."""

SOURCE = '''
@law
@pytest.mark.routes("socketcall")
@pytest.mark.sandbox(trace="none")
def test_it(calls, expect):
    """Binding descriptor -1 works."""
    expect(0).of(calls.bind(-1, ADDRESS))
'''


def test_a_note_shows_the_registers_of_an_unobserved_call(judge):
    run = judge(SOURCE)
    assert run.verdicts == ["deviates"]
    (record,) = (line for line in run.lines("evidence.jsonl") if line["type"] == "call")
    assert run.checks[0]["seq"] == [record["seq"]]
    assert (record["observed"], record["route"], record["op"], record["ret"]) == (False, "socketcall", "bind", -9)
    assert (record["regs_in"]["eax"], record["regs_in"]["ebx"]) == ("0x66", "0x2")
    assert "the gate's own registers: no tracer runs here" in run.out
