"""Judges the registers: at the entry of a call those that it reads, at its return all of them."""

import ctypes
import socket
from errno import EBADF, EFAULT, EINVAL, EMSGSIZE, ENOSYS, EOPNOTSUPP

import pytest

from probes.entry.gate import REGISTERS
from probes.entry.memory import PAGE, PROT_EXEC, PROT_READ, map_low, protect
from probes.testing import AbiDifference, behaviour, need, not_applicable
from tests.entry.documented_calls import documented_calls, judged_over
from tests.entry.registers import NUMBER, Registers, values_of_call

# A call through the vDSO with an ebp of our choice is seen only where every call is.
pytestmark = pytest.mark.sandbox(trace="calls")

SOURCE = (
    "syscall(2) Architecture calling conventions, i386; vdso(7) __kernel_vsyscall; S1, S2 4.3, S3 system_call, S5 1; "
    "arch/x86/entry/entry_64_compat.S, entry_32.S; tools/testing/selftests/x86/test_syscall_vdso.c"
)
SOURCE_64 = f"{SOURCE} `Starting in Linux 4.17, R8..11 are preserved`; entry_64_compat.S int80 `Preserve r8-r11`"
#: A number of the table without a call.
HOLE = 222
FLAGS = {"carry": 0, "parity": 2, "adjust": 4, "zero": 6, "sign": 7, "direction": 10, "overflow": 11, "id": 21}


@behaviour("entry.registers.preserved", SOURCE_64)
def test_preserved(the_gate, entry, memory, expect, caller):
    """Every documented call preserves all general registers but eax, including r8 to r15 and all upper halves."""
    for call in judged_over(entry.route, documented_calls(memory, caller)):
        before = Registers.filled(the_gate.word, values_of_call(entry.route, call.name, call.words, memory))
        check = expect(before.without_result(), call=call.name)
        result = before.enter(the_gate)
        need(result, call.name, returns=call.returns)
        check.of(Registers(result.regs_out).without_result(), result)


@behaviour("entry.registers.preserved-on-error", SOURCE_64)
@pytest.mark.routes("both")
def test_preserved_on_error(the_gate, memory, expect):
    """A call that fails, and a number without a call, preserve all general registers but eax."""
    for name, error, *values in (
        ("close", -EBADF, NUMBER["close"], -1),
        ("socketcall", -EINVAL, NUMBER["socketcall"], 0, 0),
        ("socketcall-words", -EFAULT, NUMBER["socketcall"], 1, memory.unmapped()),
        ("hole", -ENOSYS, HOLE),
        ("beyond", -ENOSYS, 0xFFFFFFFF),
    ):
        before = Registers.filled(the_gate.word, values)
        check = expect([error, before.without_result()], call=name)
        result = before.enter(the_gate)
        check.of([int(result), Registers(result.regs_out).without_result()], result)


@behaviour("entry.registers.nothing-else", f"{SOURCE}; ptrace(2) PTRACE_GETREGS, PTRACE_GET_SYSCALL_INFO")
def test_nothing_else(the_gate, entry, memory, expect, caller):
    """A tracer finds every register but eax the same at the exit of a call as at its entry, including the stack
    pointer, flags, segment registers and their bases.
    """
    for call in judged_over(entry.route, documented_calls(memory, caller)):
        before = Registers.filled(the_gate.word, values_of_call(entry.route, call.name, call.words, memory))
        clobbered = expect([[]], call=call.name)
        result = before.enter(the_gate)
        need(result, call.name, returns=call.returns)
        clobbered.seen("clobbered", result)


@behaviour("entry.registers.result", f"{SOURCE}; do_syscall_32_irqs_on `regs->ax = ia32_sys_call(regs, unr)`, a long")
@pytest.mark.routes("both")
def test_result(the_gate, expect, caller):
    """The result is in eax; in a 64-bit process an error is sign-extended to the whole of rax."""
    for name, number, value in (
        ("getpid", NUMBER["getpid"], caller.pid), ("close", NUMBER["close"], -EBADF), ("hole", HOLE, -ENOSYS),
        ("socketcall", NUMBER["socketcall"], -EINVAL),
    ):  # fmt: skip
        check = expect(value & (1 << the_gate.word) - 1, call=name)
        result = Registers.filled(the_gate.word, [number, 0xFFFFFFFF]).enter(the_gate)
        check.of(result.regs_out[REGISTERS[the_gate.word][0]], result)


@behaviour("entry.registers.arguments", f"{SOURCE}; sendto(2); __sys_sendto")
@pytest.mark.routes("direct")
def test_arguments(the_gate, memory, expect, caller):
    """The six arguments are in ebx, ecx, edx, esi, edi and ebp: a bad value in each gives the error of its argument."""
    fd = caller.adopt(socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach())
    address = memory.put(bytes([2, 0, 0x13, 0x88, 127, 0, 0, 1]) + bytes(8))
    good = [NUMBER["sendto"], fd, int(memory.put(b"abc")), 3, 0, int(address), 16]
    bad = {
        "ebx": (1, 0xFFFFFFFF, -EBADF),
        "ecx": (2, memory.unmapped(), -EFAULT),
        "edx": (3, 0x10000, -EMSGSIZE),
        "esi": (4, socket.MSG_OOB, -EOPNOTSUPP),
        "edi": (5, memory.unmapped(), -EFAULT),
        "ebp": (6, 15, -EINVAL),
    }
    expect(-EMSGSIZE, register="none").of(the_gate.enter(*good[:3], 0x10000, *good[4:]))
    expect(3, register="good").of(the_gate.enter(*good))
    for name, (index, value, error) in bad.items():
        changed = [value if at == index else word for at, word in enumerate(good)]
        expect(error, register=name).of(the_gate.enter(*changed))


@behaviour("entry.registers.flags", f"{SOURCE} `set almost all flags`; entry_32.S `Restore all flags except IF`")
@pytest.mark.routes("direct")
def test_flags(the_gate, expect, caller):
    """A call preserves each flag that a process may set, both set and clear."""
    initial = the_gate.enter(NUMBER["getpid"]).flags[0]
    for name, bit in FLAGS.items():
        check = expect([initial | 1 << bit] * 2, flag=name)
        result = the_gate.enter(NUMBER["getpid"], flags=1 << bit)
        need(result, "getpid", returns=caller.pid)
        check.of(list(result.flags), result)
    every = sum(1 << bit for bit in FLAGS.values())
    for call, number, error in (("close", NUMBER["close"], -EBADF), ("hole", HOLE, -ENOSYS)):
        check = expect([initial | every] * 2, call=call, flag="all")
        result = the_gate.enter(number, 0xFFFFFFFF, flags=every)
        need(result, call, returns=error)
        check.of(list(result.flags), result)
    check = expect([initial, initial], flag="none")
    result = the_gate.enter(NUMBER["getpid"])
    check.of(list(result.flags), result)


#: mov ds, edi; mov es, edi; mov gs, edi; ret
LOAD_SEGMENTS = bytes.fromhex("8edf 8ec7 8eef c3")
#: __USER_DS of the x86-64 kernel, arch/x86/include/asm/segment.h.
USER_DS = 0x2B


@behaviour("entry.registers.segments", f"{SOURCE}; arch/x86/include/asm/segment.h __USER_DS")
@pytest.mark.routes("direct")
def test_segments(the_gate, expect, caller):
    """A call preserves the segment registers: those of the process and, in a 64-bit process, a data segment that was
    loaded into ds, es and gs.
    """
    own = the_gate.enter(NUMBER["getpid"]).segments[0]
    check = expect(own, segments="own")
    result = the_gate.enter(NUMBER["getpid"])
    need(result, "getpid", returns=caller.pid)
    check.of(result.segments[1], result)
    if the_gate.word == 64:
        code = map_low(PAGE)
        ctypes.memmove(code, LOAD_SEGMENTS, len(LOAD_SEGMENTS))
        protect(code, PAGE, PROT_READ | PROT_EXEC)
        load = ctypes.CFUNCTYPE(None, ctypes.c_long)(code)
        load(USER_DS)
        check = expect(own | dict.fromkeys(("ds", "es", "gs"), USER_DS), segments="loaded")
        result = the_gate.enter(NUMBER["getpid"])
        check.of(result.segments[1], result)


@behaviour(
    "entry.registers.abi", "syscall(2); vdso(7); ptrace(2) PTRACE_GET_SYSCALL_INFO; entry_64_compat.S, entry_32.S"
)
@pytest.mark.routes("direct")
def test_abi(the_gate, expect, caller):
    """A tracer sees an i386 system call with its number, made through its gate, whatever the process's word size."""
    cite = "arch/x86/entry/entry_32.S entry_INT80_32; entry_64_compat.S, do_int80_emulation"
    abi = expect(AbiDifference(["i386"], ["ia32-compat"], cite), seen="abi")
    gate = expect([the_gate.name], seen="gate")
    number = expect([NUMBER["getpid"]], seen="nr")
    word = expect([the_gate.word], seen="word")
    result = the_gate.enter(NUMBER["getpid"])
    need(result, "getpid", returns=caller.pid)
    abi.seen("abi", result)
    gate.seen("gate", result)
    number.seen("nr", result)
    word.seen("word", result)


@behaviour(
    "entry.registers.argument-halves", "syscall(2) i386; arch/x86/include/asm/syscall_wrapper.h SC_IA32_REGS_TO_ARGS"
)
@pytest.mark.routes("direct")
def test_argument_halves(the_gate, memory, expect, caller):
    """In a 64-bit process the upper halves of the argument registers are ignored, each alone and all together."""
    if the_gate.word == 32:
        not_applicable("a 64-bit process: registers of 32 bits have no upper halves")
    fd = caller.adopt(socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach())
    address = memory.put(bytes([2, 0, 0x13, 0x88, 127, 0, 0, 1]) + bytes(8))
    good = [NUMBER["sendto"], fd, int(memory.put(b"abc")), 3, 0, int(address), 16]
    for name, upper in (("one", 1), ("sign", 0x80000000), ("all", 0xFFFFFFFF)):
        for index in range(1, 7):
            values = [word | (upper << 32 if at == index else 0) for at, word in enumerate(good)]
            expect(3, register=REGISTERS[64][index], upper=name).of(the_gate.enter(*values))
        expect(3, register="every", upper=name).of(the_gate.enter(*(word | upper << 32 for word in good)))
