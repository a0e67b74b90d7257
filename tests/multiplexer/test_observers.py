"""Tests what a tracer, a seccomp filter, /proc and audit see of a socketcall: number 102 and two registers."""

import os
from errno import ENOMEDIUM
from pathlib import Path

import pytest

from probes.abi.operations import BY_CALL, OPERATIONS, SOCKETCALL
from probes.entry.calls import Calls
from probes.testing import behaviour, not_applicable
from probes.testing.signals import pipe
from probes.testing.socket_kinds import UNIX_STREAM
from probes.trace import seccomp
from tests.multiplexer.audit_log import SOCKETCALL as WORDS
from tests.multiplexer.audit_log import SYSCALL, AuditLog
from tests.multiplexer.sample_words import Sample
from tests.multiplexer.seccomp_reader import FIELDS, Reader
from tests.multiplexer.second_tracer import SecondTracer, permit_tracing

pytestmark = pytest.mark.routes("socketcall")

SOURCE = "socketcall(2); arch/x86/include/asm/syscall.h syscall_get_nr, syscall_get_arguments"
SOURCE_TRACER = f"{SOURCE}; ptrace(2) PTRACE_GET_SYSCALL_INFO"
SOURCE_SECCOMP = f"{SOURCE}; seccomp(2) struct seccomp_data; kernel/seccomp.c populate_seccomp_data"
#: include/uapi/linux/audit.h AUDIT_ARCH_I386, include/uapi/linux/ptrace.h PTRACE_SYSCALL_INFO_ENTRY and _EXIT.
ARCH, ENTRY, EXIT = 0x40000003, 1, 2
LISTEN = OPERATIONS["listen"].call
LOW, UPPER = 0xFFFFFFFF, 0x5EED0001 << 32
#: The numbers of all operations, and some of none.
NUMBERS = (*BY_CALL, 0, 21, 0x80000000, LOW)


@behaviour("multiplexer.observers.tracer", f"{SOURCE}; ptrace(2) PTRACE_SYSCALL, PTRACE_GETREGS")
def test_tracer(the_gate, memory, samples, expect):
    """A tracer sees number 102 for every operation, the operation in ebx, and in ecx the address of the words."""
    for call, sample in samples.items():
        array = memory.put(sample.words)
        seen = {
            "ret": sample.result,
            "nr": SOCKETCALL,
            "regs_in.eax": SOCKETCALL,
            "regs_in.ebx": call,
            "regs_in.ecx": array.address,
            "args": list(sample.values),
        }
        checks = {field: expect([value], call=call, seen=field) for field, value in seen.items()}
        result = the_gate.enter(SOCKETCALL, call, array.address)
        for field, check in checks.items():
            check.seen(field, result)


@pytest.mark.python
@behaviour("multiplexer.observers.syscall-info", SOURCE_TRACER)
@pytest.mark.sandbox(trace="none")
def test_syscall_info(the_gate, memory, samples, expect):
    """For every operation PTRACE_GET_SYSCALL_INFO reports architecture i386 and number 102 at the entry, with the operation
    and the address of the words as the first two arguments; at the exit it reports the same architecture and the result.
    """
    arrays = {call: memory.put(sample.words).address for call, sample in samples.items()}
    traced = expect([sample.result for sample in samples.values()], traced="all")
    checks = []
    for call, address in arrays.items():
        entry = expect([ENTRY, ARCH, SOCKETCALL, call, address], call=call, stop="entry")
        checks.append((entry, expect([EXIT, ARCH, samples[call].result % (1 << 64)], call=call, stop="exit")))
    with SecondTracer(the_gate) as tracer:
        results = [the_gate.enter(SOCKETCALL, *pair) for pair in arrays.items()]
    traced.of([int(result) for result in results], *results)
    stops = zip(tracer.stops[::2], tracer.stops[1::2], strict=True)
    for (entry, exit_), result, (at_entry, at_exit) in zip(checks, results, stops, strict=True):
        entry.of([at_entry["op"], at_entry["arch"], at_entry["nr"], *at_entry["args"][:2]], result)
        exit_.of([at_exit["op"], at_exit["arch"], at_exit["rval"]], result)


@pytest.mark.python
@behaviour("multiplexer.observers.syscall-info-registers", SOURCE_TRACER, tag="implementation")
@pytest.mark.sandbox(trace="none")
def test_syscall_info_registers(the_gate, memory, samples, expect):
    """Of a 64-bit process PTRACE_GET_SYSCALL_INFO reports whole registers as the arguments, also the upper halves that
    socketcall ignores; the number is the lower half of rax.
    """
    if the_gate.word == 32:
        not_applicable("a 64-bit process: registers of 32 bits have no upper halves")
    array = memory.put(samples[LISTEN].words).address
    others = UPPER | 1, UPPER | 2, UPPER | 3, UPPER | 4
    part = {
        "result": expect(samples[LISTEN].result, part="result"),
        "number": expect(SOCKETCALL, part="number"),
        "arguments": expect([UPPER | LISTEN, UPPER | array, *others], part="arguments"),
    }
    with SecondTracer(the_gate) as tracer:
        result = the_gate.enter(UPPER | SOCKETCALL, UPPER | LISTEN, UPPER | array, *others)
    part["result"].of(result)
    part["number"].of(tracer.stops[0]["nr"], result)
    part["arguments"].of(tracer.stops[0]["args"], result)


@behaviour("multiplexer.observers.seccomp-data", SOURCE_SECCOMP)
@pytest.mark.sandbox(trace="calls")
def test_seccomp_data(the_gate, caller, memory, expect):
    """A seccomp filter sees architecture i386, number 102, and ebx and ecx as the arguments, for numbers that are no
    operation and for bad pointers too; the upper 32 bits of each argument are zero.
    """
    reader = Reader(the_gate, caller)
    for call in NUMBERS:
        for place, pointer in {"mapped": memory.alloc(24).address, "null": 0, "top": LOW}.items():
            seen = {"nr": SOCKETCALL, "arch": ARCH, "args0": call, "args0-upper": 0, "args1": pointer, "args1-upper": 0}
            check, found, results = expect(seen, call=f"{call:#x}", pointer=place), {}, []
            for field in FIELDS:
                found[field], made = reader.read(field, call, pointer)
                results += made
            check.of(found, *results)


@behaviour("multiplexer.observers.seccomp-registers", SOURCE_SECCOMP, tag="implementation")
@pytest.mark.sandbox(trace="calls")
def test_seccomp_registers(the_gate, caller, memory, expect):
    """Of a 64-bit process a seccomp filter sees whole registers as the arguments, also the upper halves that socketcall
    ignores, so that a filter which compares all 64 bits of an argument can be bypassed.
    """
    if the_gate.word == 32:
        not_applicable("a 64-bit process: registers of 32 bits have no upper halves")
    reader, array = Reader(the_gate, caller), memory.alloc(24).address
    seen = {"args0": LISTEN, "args0-upper": UPPER >> 32, "args1": array, "args1-upper": UPPER >> 32}
    for field, value in seen.items():
        check = expect(value, field=field)
        found, results = reader.read(field, UPPER | LISTEN, UPPER | array)
        check.of(found, *results)


@behaviour("multiplexer.observers.seccomp-first", "seccomp(2) SECCOMP_RET_ERRNO; syscall_trace_enter; S4 1.5")
@pytest.mark.routes("both")
@pytest.mark.sandbox(trace="calls")
def test_seccomp_first(the_gate, caller, memory, samples, expect):
    """A filter that refuses number 102 refuses every operation, and numbers that are none, before the range check and
    before the words are read; it does not affect the direct calls.
    """
    direct = Calls(the_gate, "direct", memory)
    caller.set_filter(seccomp.answering(SOCKETCALL, ENOMEDIUM))
    for call in NUMBERS:
        places = {"words": memory.put(samples[call].words).address} if call in samples else {}
        for place, pointer in {**places, "null": 0}.items():
            expect(-ENOMEDIUM, call=f"{call:#x}", pointer=place).of(the_gate.enter(SOCKETCALL, call, pointer))
    for name, sample in by_name(samples).items():
        expect(sample.result, direct=name).of(direct.make(name, *sample.values))


@behaviour("multiplexer.observers.seccomp-direct", "seccomp(2) Caveats; socketcall(2); S4 1.5 step 3")
@pytest.mark.routes("both")
@pytest.mark.sandbox(trace="calls")
def test_seccomp_direct(the_gate, caller, memory, samples, expect):
    """A filter that refuses the number of a direct call does not refuse the operation by socketcall, which has 102."""
    direct = Calls(the_gate, "direct", memory)
    for number in sorted({operation.direct for operation in OPERATIONS.values()}):
        caller.set_filter(seccomp.answering(number, ENOMEDIUM))
    for name, sample in by_name(samples).items():
        expect(-ENOMEDIUM, direct=name).of(direct.make(name, *sample.values))
        array = memory.put(sample.words)
        check = expect(sample.result, operation=name)
        check.of(the_gate.enter(SOCKETCALL, OPERATIONS[name].call, array.address))


def by_name(samples: dict[int, Sample]) -> dict[str, Sample]:
    """Returns the samples by the name of the operation."""
    return {name: samples[operation.call] for name, operation in OPERATIONS.items()}


@behaviour(
    "multiplexer.observers.proc",
    f"{SOURCE}; proc(5) /proc/pid/syscall; lib/syscall.c collect_syscall",
    tag="implementation",
)
def test_proc(the_gate, caller, memory, prepare, meanwhile, expect):
    """/proc/PID/syscall of a process that is blocked in an operation shows number 102, the operation and the address of
    the words.
    """
    caller.require_own_calls()
    permit_tracing(the_gate)
    path = Path(f"/proc/{caller.process}/syscall")
    if not path.exists():
        not_applicable("/proc/PID/syscall (CONFIG_HAVE_ARCH_TRACEHOOK)")
    end = prepare("connected", UNIX_STREAM)
    call, (read, write), peer = OPERATIONS["recv"].call, pipe(), caller.lend(end.peer)
    array = memory.words(end, memory.alloc(8), 8, 0)
    check = expect([SOCKETCALL, call, array.address])
    with meanwhile(lambda: os.write(write, path.read_bytes()), lambda: os.write(peer, b"x")):
        result = the_gate.enter(SOCKETCALL, call, array.address)
    number, *arguments = os.read(read, 4096).split()
    check.of([int(number), *(int(argument, 16) for argument in arguments[:2])], result)


@behaviour(
    "multiplexer.observers.audit",
    f"{SOURCE}; audit_syscall_entry; net/socket.c audit_socketcall; auditctl(8)",
    tag="implementation",
)
@pytest.mark.sandbox(isolation="none", initial_user_ns=True)
def test_audit(the_gate, caller, memory, samples, expect):
    """For every operation audit logs architecture i386, system call 102, ebx, ecx and the result; a second record has as
    many words as the operation takes.
    """
    array = memory.alloc(24)
    log = AuditLog(caller.process, SOCKETCALL, array.address)
    with log.following():
        for call, sample in samples.items():
            array.write(sample.words)
            logged = [f"{ARCH:x}", str(SOCKETCALL), f"{call:x}", f"{array.address:x}", str(sample.result)]
            words = {f"a{index}": f"{value:x}" for index, value in enumerate(sample.values)}
            check = expect(logged, call=call)
            check_words = expect({"nargs": str(len(sample.values)), **words}, call=call, record="words")
            result = the_gate.enter(SOCKETCALL, call, array.address)
            event = log.event()
            check.of([event.get(SYSCALL, {}).get(name) for name in ("arch", "syscall", "a0", "a1", "exit")], result)
            check_words.of(event.get(WORDS), result)
