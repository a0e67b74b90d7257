"""The machine code that enters the kernel: it is what its sources assemble to, and does what they say."""

import ctypes
import errno
import importlib
import os
import struct

import pytest

from probes.entry.calls import Calls
from probes.entry.gate import COOKIE, MARK, SEGMENTS, WORD, gate, gate_names
from probes.entry.memory import PAGE, POISON, Memory
from probes.entry.sweep import Sweep
from tests.instruments.support import installed
from tools import generate_machine_code as generate


@pytest.mark.parametrize(
    ("module", "source", "word"),
    [
        (module, source, word)
        for module, sources in generate.MODULES.items()
        for source, words in sources.items()
        for word in words
    ],
)
def test_code_is_what_its_source_assembles_to(module, source, word):
    """The modules of machine code hold the output of GNU as for each source."""
    installed("binutils")
    held = importlib.import_module(f"probes.entry.machine.{module}")
    assert getattr(held, source.upper())[word] == generate.assemble(source, word)


@pytest.mark.parametrize("name", gate_names())
def test_gate_loads_and_stores_every_register(name):
    """Registers have the given values at the entry and the kernel's at the exit: getpid changes eax only."""
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
def test_call_id_is_in_r15():
    """In a 64-bit process r15 holds the call id with MARK in its upper half, unless the caller sets r15."""
    first, second = gate("int80").enter(20), gate("int80").enter(20)
    assert first.regs_in["r15"] == MARK << 32 | first.call_id
    assert second.call_id == first.call_id + 1
    assert gate("int80").enter(20, others={"r15": 7}).regs_in["r15"] == 7


def test_guarded_memory_ends_at_a_page_that_faults():
    """The byte after a guarded block faults, the bytes before it are poison, and a longer write is refused."""
    memory = Memory()
    block = memory.guarded(b"abc")
    calls = Calls(gate("int80"), "socketcall", memory)
    reader, writer = os.pipe()
    assert block.end % PAGE == 0
    assert calls.syscall("write", writer, block, 3) == 3
    assert calls.syscall("write", writer, block.end, 1) == -errno.EFAULT
    os.close(writer)
    assert os.read(reader, 9) == b"abc"
    os.close(reader)
    assert ctypes.string_at(block.address - 1, 1) == bytes([POISON])
    assert memory.guarded(PAGE).read() == bytes([POISON]) * PAGE
    with pytest.raises(IndexError):
        block.write(b"abcd")


def test_what_was_written_to_poisoned_memory():
    """Block.written has the first bytes alone, and the whole block where a byte behind them was written."""
    block = Memory().alloc(4)
    block.write(b"ab")
    assert [block.written(count) for count in (-1, 1, 2, 9)] == [block.read(), block.read(), b"ab", block.read()]
    assert Memory().alloc(4).written(-1) == b""


@pytest.mark.parametrize("route", ["socketcall", "direct"])
def test_sweep_equals_single_calls(route):
    """The loop and the gate give the same results; a result is the argument of two later calls."""
    memory = Memory()
    calls = Calls(gate("int80"), route, memory)
    address = memory.put(struct.pack("<H2x4s8x", 2, bytes([127, 0, 0, 1])))
    sweep = Sweep(calls)
    fd = sweep.call("socket", 2, sweep.value, 0)
    sweep.call("bind", fd, address, 16)
    sweep.call("listen", fd, 1, judged=True)
    sweep.syscall("close", fd)
    swept = sweep.run(range(8))
    assert list(swept.results) == [int(swept.again(value)) for value in range(8)]
    assert swept.results[1] == 0
    assert swept.results[2] == -errno.EOPNOTSUPP
    assert swept.results[7] == -errno.EBADF


def test_sweep_refuses_what_the_loop_cannot_do():
    """A call must be judged, a result is a word of two socketcalls at most, and a varied port is no word."""
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
