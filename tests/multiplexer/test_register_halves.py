"""Tests the registers of socketcall: eax, ebx and ecx count; the other registers and all upper halves do not."""

import pytest

from probes.abi.operations import SOCKETCALL
from probes.entry.gate import REGISTERS
from probes.testing import behaviour, not_applicable

pytestmark = pytest.mark.routes("socketcall")

SOURCE = "socketcall(2); net/compat.c COMPAT_SYSCALL_DEFINE2(socketcall); S4 1.5"
SOURCE_UPPER = (
    "syscall(2) Architecture calling conventions, i386; arch/x86/include/asm/syscall_wrapper.h SC_IA32_REGS_TO_ARGS; "
    "arch/x86/entry/common.c do_int80_emulation, syscall_32_enter `(int)regs->orig_ax`"
)
ALL = (1 << 32) - 1


@behaviour("multiplexer.registers.two", SOURCE)
@pytest.mark.sandbox(trace="calls")
@pytest.mark.parametrize("others", [0, 1, 0x7FFFFFFF, 0x80000000, ALL], ids=hex)
def test_two(the_gate, memory, samples, others, expect):
    """socketcall takes two arguments: it ignores edx, esi, edi and ebp."""
    for call, sample in samples.items():
        array = memory.put(sample.words)
        expect(sample.result, call=call).of(the_gate.enter(SOCKETCALL, call, array.address, *[others] * 4))


@behaviour("multiplexer.registers.upper-halves", SOURCE_UPPER)
@pytest.mark.parametrize("register", ["rax", "rbx", "rcx"])
def test_upper_halves(the_gate, memory, samples, register, expect):
    """In a 64-bit process socketcall ignores each bit of the upper halves of rax, rbx and rcx."""
    if the_gate.word == 32:
        not_applicable("a 64-bit process: registers of 32 bits have no upper halves")
    for call, sample in samples.items():
        array = memory.put(sample.words)
        check, results = expect([sample.result], call=call), []
        for upper in [1 << bit for bit in range(32)] + [ALL]:
            values = {"rax": SOCKETCALL, "rbx": call, "rcx": array.address}
            values[register] |= upper << 32
            results.append(the_gate.enter(*values.values()))
        check.of(sorted(set(results)), *results)


@behaviour("multiplexer.registers.all-upper-halves", SOURCE_UPPER)
def test_all_upper_halves(the_gate, memory, samples, expect):
    """In a 64-bit process every operation returns the same with all bits set in the upper half of every register and in
    r8 to r15.
    """
    if the_gate.word == 32:
        not_applicable("a 64-bit process: registers of 32 bits have no upper halves")
    upper = ALL << 32
    others = dict.fromkeys(REGISTERS[the_gate.word][7:], upper | ALL)
    for call, sample in samples.items():
        address = memory.put(sample.words).address
        values = [upper | value for value in (SOCKETCALL, call, address, 0, 0, 0, 0)]
        expect(sample.result, call=call).of(the_gate.enter(*values, others=others))
