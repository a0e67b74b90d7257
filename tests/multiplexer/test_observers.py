"""What others see of a socketcall: number 102 and two registers; a tracer, a seccomp filter, /proc."""

import os
import socket
import struct
from errno import ENOMEDIUM
from pathlib import Path

import pytest

from probes.abi.operations import BY_CALL, OPERATIONS, SOCKETCALL
from probes.entry.calls import Calls
from probes.entry.gate import WORD
from probes.testing import behaviour, not_applicable
from probes.trace import ptrace, seccomp
from tests.multiplexer.audit_log import SOCKETCALL as WORDS
from tests.multiplexer.audit_log import SYSCALL, AuditLog
from tests.multiplexer.outside_watcher import may_be_traced, watched
from tests.multiplexer.seccomp_reader import FIELDS, Reader

pytestmark = pytest.mark.routes("socketcall")

SOURCE = "socketcall(2); arch/x86/include/asm/syscall.h syscall_get_nr, syscall_get_arguments"
SOURCE_TRACER = f"{SOURCE}; ptrace(2) PTRACE_GET_SYSCALL_INFO"
SOURCE_SECCOMP = f"{SOURCE}; seccomp(2) struct seccomp_data; kernel/seccomp.c populate_seccomp_data"
#: include/uapi/linux/audit.h AUDIT_ARCH_I386, include/uapi/linux/ptrace.h PTRACE_SYSCALL_INFO_ENTRY and _EXIT.
ARCH, ENTRY, EXIT = 0x40000003, 1, 2
LISTEN = OPERATIONS["listen"].call
LOW, UPPER = 0xFFFFFFFF, 0x5EED0001 << 32
#: Numbers that are operations, and some that are none.
NUMBERS = (*BY_CALL, 0, 21, 0x80000000, LOW)


@behaviour("multiplexer.observers.tracer", f"{SOURCE}; ptrace(2) PTRACE_SYSCALL, PTRACE_GETREGS")
def test_tracer(the_gate, memory, telling, expect):
    """A tracer sees number 102 for every operation, the operation in ebx, and in ecx the address of the words."""
    for call, (words, answer) in telling.items():
        array = memory.put(words)
        check = expect([answer], call=call, seen="ret")
        result = the_gate.enter(SOCKETCALL, call, array.address)
        check.seen("ret", result)
        seen = {"nr": SOCKETCALL, "regs_in.eax": SOCKETCALL, "regs_in.ebx": call, "regs_in.ecx": array.address}
        for field, value in (seen | {"args": list(struct.unpack(f"<{len(words) // 4}I", words))}).items():
            expect([value], call=call, seen=field).seen(field, result)


@behaviour("multiplexer.observers.syscall-info", SOURCE_TRACER)
@pytest.mark.sandbox(trace="none")
def test_syscall_info(the_gate, memory, telling, expect):
    """PTRACE_GET_SYSCALL_INFO tells of every operation that the architecture is i386 and the number 102, with the
    operation and the address of the words as the first two arguments; at the exit the same architecture, the result.
    """
    arrays = {call: memory.put(words).address for call, (words, _) in telling.items()}
    check = expect([answer for _, answer in telling.values()], traced="all")
    results, stops = watched(the_gate, lambda: [the_gate.enter(SOCKETCALL, *pair) for pair in arrays.items()])
    check.of([int(result) for result in results], *results)
    for (call, at), result, entry, left in zip(arrays.items(), results, stops[::2], stops[1::2], strict=True):
        seen = [entry["op"], entry["arch"], entry["nr"], *entry["args"][:2]]
        expect([ENTRY, ARCH, SOCKETCALL, call, at], call=call, stop="entry").of(seen, result)
        seen = [left["op"], left["arch"], left["rval"]]
        expect([EXIT, ARCH, telling[call][1] % (1 << 64)], call=call, stop="exit").of(seen, result)


@behaviour("multiplexer.observers.syscall-info-registers", SOURCE_TRACER)
@pytest.mark.sandbox(trace="none")
def test_syscall_info_registers(the_gate, memory, telling, expect):
    """Of a 64-bit process a tracer is told whole registers, upper halves included that the call does not look at; the
    number is the lower half of rax.
    """
    if WORD == 32:
        not_applicable("a 64-bit process: registers of 32 bits have no upper halves")
    words, answer = telling[LISTEN]
    array = memory.put(words).address
    others = UPPER | 1, UPPER | 2, UPPER | 3, UPPER | 4
    check = expect(answer, part="result")
    result, stops = watched(
        the_gate, lambda: the_gate.enter(UPPER | SOCKETCALL, UPPER | LISTEN, UPPER | array, *others)
    )
    check.of(result)
    expect(SOCKETCALL, part="number").of(stops[0]["nr"], result)
    expect([UPPER | LISTEN, UPPER | array, *others], part="arguments").of(stops[0]["args"], result)


@behaviour("multiplexer.observers.seccomp-data", SOURCE_SECCOMP)
@pytest.mark.sandbox(trace="calls")
def test_seccomp_data(the_gate, memory, expect):
    """A seccomp filter sees architecture i386, number 102, and the two registers, whether there is such an operation
    and whatever the pointer; above the 32 bits of each there are zeros.
    """
    reader = Reader(the_gate)
    for call in NUMBERS:
        for place, pointer in {"mapped": memory.alloc(24).address, "null": 0, "top": LOW}.items():
            seen = {"nr": SOCKETCALL, "arch": ARCH, "args0": call, "args0-upper": 0, "args1": pointer, "args1-upper": 0}
            check, results = expect(seen, call=f"{call:#x}", pointer=place), []
            found = {}
            for field in FIELDS:
                found[field], made = reader.read(field, call, pointer)
                results += made
            check.of(found, *results)


@behaviour("multiplexer.observers.seccomp-registers", SOURCE_SECCOMP)
@pytest.mark.sandbox(trace="calls")
def test_seccomp_registers(the_gate, memory, expect):
    """Of a 64-bit process a seccomp filter sees whole registers, upper halves included that the call does not look at.
    A filter that compares all 64 bits of an argument is passed by.
    """
    if WORD == 32:
        not_applicable("a 64-bit process: registers of 32 bits have no upper halves")
    reader, array = Reader(the_gate), memory.alloc(24).address
    seen = {"args0": LISTEN, "args0-upper": UPPER >> 32, "args1": array, "args1-upper": UPPER >> 32}
    for field, value in seen.items():
        check = expect(value, field=field)
        found, results = reader.read(field, UPPER | LISTEN, UPPER | array)
        check.of(found, *results)


@behaviour("multiplexer.observers.seccomp-first", "seccomp(2) SECCOMP_RET_ERRNO; syscall_trace_enter; S4 1.5")
@pytest.mark.sandbox(trace="calls")
def test_seccomp_first(the_gate, memory, telling, entry, expect):
    """A filter that refuses number 102 answers for every operation and for numbers that are none, before the range
    check and before the words are read; the direct calls are not its business.
    """
    direct = Calls(the_gate, "direct", memory)
    ptrace.set_filter(seccomp.answering(SOCKETCALL, ENOMEDIUM))
    for call in NUMBERS:
        places = {"null": 0} if call not in telling else {"words": memory.put(telling[call][0]).address, "null": 0}
        for place, pointer in places.items():
            expect(-ENOMEDIUM, call=f"{call:#x}", pointer=place).of(the_gate.enter(SOCKETCALL, call, pointer))
    for name in OPERATIONS:
        expect(telling_of(telling, name), direct=name).of(direct.make(name, *words_of(telling, name)))


@behaviour("multiplexer.observers.seccomp-direct", "seccomp(2) Caveats; socketcall(2); S4 1.5 step 3")
@pytest.mark.sandbox(trace="calls")
def test_seccomp_direct(the_gate, memory, telling, expect):
    """A filter that refuses a direct call does not refuse the operation: what it sees of that is number 102."""
    direct = Calls(the_gate, "direct", memory)
    for number in sorted({operation.direct for operation in OPERATIONS.values()}):
        ptrace.set_filter(seccomp.answering(number, ENOMEDIUM))
    for name, operation in OPERATIONS.items():
        expect(-ENOMEDIUM, direct=name).of(direct.make(name, *words_of(telling, name)))
        array = memory.put(telling[operation.call][0])
        check = expect(telling_of(telling, name), operation=name)
        check.of(the_gate.enter(SOCKETCALL, operation.call, array.address))


def words_of(telling, name):
    """The words of an operation as numbers."""
    words, _ = telling[OPERATIONS[name].call]
    return struct.unpack(f"<{len(words) // 4}I", words)


def telling_of(telling, name):
    """What they answer."""
    return telling[OPERATIONS[name].call][1]


@behaviour("multiplexer.observers.proc", f"{SOURCE}; proc(5) /proc/pid/syscall; lib/syscall.c collect_syscall")
def test_proc(the_gate, memory, meanwhile, expect):
    """Of a process that is blocked in an operation, /proc/PID/syscall tells number 102, the operation and the address
    of the words.
    """
    may_be_traced()
    path = Path(f"/proc/{os.getpid()}/syscall")
    if not path.exists():
        not_applicable("/proc/PID/syscall (CONFIG_HAVE_ARCH_TRACEHOOK)")
    here, there = socket.socketpair()
    with here, there:
        call, (told, tell) = OPERATIONS["recv"].call, os.pipe()
        array = memory.words(here.fileno(), memory.alloc(8), 8, 0)
        check = expect([SOCKETCALL, call, array.address])
        with meanwhile(lambda: os.write(tell, path.read_bytes()), lambda: there.send(b"x")):
            result = the_gate.enter(SOCKETCALL, call, array.address)
        number, *arguments = os.read(told, 4096).split()
        check.of([int(number), *(int(argument, 16) for argument in arguments[:2])], result)


@behaviour("multiplexer.observers.audit", f"{SOURCE}; audit_syscall_entry; net/socket.c audit_socketcall; auditctl(8)")
@pytest.mark.sandbox(isolation="none", initial_user_ns=True)
def test_audit(the_gate, memory, telling, expect):
    """Audit writes of every operation architecture i386, system call 102, and the two registers; and in a record of its
    own the words, as many as the operation has.
    """
    array = memory.alloc(24)
    log = AuditLog(SOCKETCALL, array.address)
    with log.following():
        for call, (words, answer) in telling.items():
            array.write(words)
            check = expect([f"{ARCH:x}", str(SOCKETCALL), f"{call:x}", f"{array.address:x}", str(answer)], call=call)
            result = the_gate.enter(SOCKETCALL, call, array.address)
            event = log.event()
            check.of([event.get(SYSCALL, {}).get(name) for name in ("arch", "syscall", "a0", "a1", "exit")], result)
            values = struct.unpack(f"<{len(words) // 4}I", words)
            told = {"nargs": str(len(values))} | {f"a{index}": f"{value:x}" for index, value in enumerate(values)}
            expect(told, call=call, record="words").of(event.get(WORDS), result)
