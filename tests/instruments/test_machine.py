"""The machine code that enters the kernel, against its sources and against what it must do."""

import struct

import pytest

from probes.entry.calls import Calls
from probes.entry.gate import COOKIE, MARK, SEGMENTS, WORD, gate, gate_names
from probes.entry.machine import code
from probes.entry.memory import PAGE, Memory
from probes.entry.sweep import Sweep
from tests.instruments.support import installed
from tools import generate_machine_code as generate


@pytest.mark.parametrize("word", generate.WORDS)
@pytest.mark.parametrize("source", generate.SOURCES)
def test_code_is_what_its_source_says(source, word):
    """code.py holds what GNU as makes of each source."""
    installed("binutils")
    assert getattr(code, source.upper())[word] == generate.assemble(source, word)


@pytest.mark.parametrize("name", gate_names())
def test_gate_loads_and_stores_every_register(name):
    """What a call is given arrives, and what the kernel left comes back: getpid changes eax alone."""
    given = {"ebx": 1, "ecx": 2, "edx": 3, "esi": 4, "edi": 5, "ebp": COOKIE}
    result = gate(name).enter(20, **given)
    prefix = "r" if WORD == 64 else "e"
    for register, value in given.items():
        assert result.regs_in[prefix + register[1:]] == value
        assert result.regs_out[prefix + register[1:]] == value
    before, after = result.segments
    assert set(before) == set(SEGMENTS)
    assert before == after


@pytest.mark.skipif(WORD == 32, reason="a 32-bit process has no r15")
def test_number_lies_in_r15():
    """In a 64-bit process the call's number is in r15 under the mark, unless the caller has something there."""
    assert gate("int80").enter(20).regs_in["r15"] == MARK << 32 | gate("int80").enter(20).call - 1
    assert gate("int80").enter(20, others={"r15": 7}).regs_in["r15"] == 7


def test_guarded_memory_ends_hard():
    """The byte after a guarded block faults, the byte before it is poison."""
    memory = Memory()
    block = memory.guarded(b"abc")
    calls = Calls(gate("int80"), "socketcall", memory)
    assert block.end % PAGE == 0
    assert calls.plain("write", -1, block, 3) == -9
    assert memory.guarded(PAGE).read() == b"\xa5" * PAGE
    with pytest.raises(IndexError):
        block.write(b"abcd")


@pytest.mark.parametrize("route", ["socketcall", "direct"])
def test_sweep_equals_single_calls(route):
    """The loop answers what the gate answers, one by one; a result is the argument of two later calls."""
    memory = Memory()
    calls = Calls(gate("int80"), route, memory)
    address = memory.put(struct.pack("<H2x4s8x", 2, bytes([127, 0, 0, 1])))
    sweep = Sweep(calls)
    kind = sweep.value
    fd = sweep.call("socket", 2, kind, 0)
    sweep.call("bind", fd, address, 16)
    sweep.call("listen", fd, 1, judged=True)
    sweep.plain("close", fd)
    swept = sweep.run(range(8))
    assert list(swept.results) == [int(swept.again(value)) for value in range(8)]
    assert swept.results[1] == 0
    assert swept.results[2] == -95
    assert swept.results[7] == -9


def test_sweep_refuses_what_it_cannot_do():
    """A varied port is no word, a result has two copies at most, something must be judged."""
    memory = Memory()
    sweep = Sweep(Calls(gate("int80"), "socketcall", memory))
    with pytest.raises(TypeError):
        sweep.run(range(3))
    fd = sweep.call("socket", 2, 1, 0)
    sweep.call("listen", fd, 1)
    sweep.call("listen", fd, 1)
    with pytest.raises(TypeError):
        sweep.call("listen", fd, 1)
    sweep.varied_port(memory.alloc(16), 2)
    with pytest.raises(TypeError):
        sweep.call("listen", sweep.value, 1)
