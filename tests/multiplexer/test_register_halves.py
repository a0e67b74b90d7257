"""The registers of the multiplexer: eax, ebx and ecx, and what the others and their upper halves may hold."""

import pytest

from probes.abi.operations import SOCKETCALL
from probes.entry.gate import REGISTERS, WORD
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
def test_two(the_gate, memory, telling, others, expect):
    """socketcall takes two arguments: what edx, esi, edi and ebp hold does not count."""
    for call, (words, answer) in telling.items():
        array = memory.put(words)
        expect(answer, call=call).of(the_gate.enter(SOCKETCALL, call, array.address, *[others] * 4))


@behaviour("multiplexer.registers.upper-halves", SOURCE_UPPER)
@pytest.mark.parametrize("register", ["rax", "rbx", "rcx"])
def test_upper_halves(the_gate, memory, telling, register, expect):
    """Of the registers of a 64-bit process only the lower halves count, of each bit above them nothing."""
    if WORD == 32:
        not_applicable("a 64-bit process: registers of 32 bits have no upper halves")
    for call, (words, answer) in telling.items():
        array = memory.put(words)
        check, results = expect([answer], call=call), []
        for upper in [1 << bit for bit in range(32)] + [ALL]:
            values = {"rax": SOCKETCALL, "rbx": call, "rcx": array.address}
            values[register] |= upper << 32
            results.append(the_gate.enter(*values.values()))
        check.of(sorted(set(results)), *results)


@behaviour("multiplexer.registers.all-upper-halves", SOURCE_UPPER)
def test_all_upper_halves(the_gate, memory, telling, expect):
    """With every bit of every upper half set, and of the registers that i386 does not have, all 20 operations do what
    they do without.
    """
    if WORD == 32:
        not_applicable("a 64-bit process: registers of 32 bits have no upper halves")
    upper = ALL << 32
    others = dict.fromkeys(REGISTERS[WORD][7:], upper | ALL)
    for call, (words, answer) in telling.items():
        address = memory.put(words).address
        values = [upper | value for value in (SOCKETCALL, call, address, 0, 0, 0, 0)]
        expect(answer, call=call).of(the_gate.enter(*values, others=others))
