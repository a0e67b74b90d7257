"""Run the ptrace loop: wait for stops, record calls at entry and exit, follow threads and children until all have ended."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from probes.abi.events import Exit, Signal
from probes.entry.gate import Gate
from probes.entry.vdso import vdso_range
from probes.trace import ptrace
from probes.trace.injection import Injection
from probes.trace.processes import kill, tgid
from probes.trace.traced_call import IP, SP, TracedCall, installs_filter, number_of, restarts

_WALL = 0x40000000
_OPTIONS = (
    ptrace.O_TRACESYSGOOD | ptrace.O_TRACESECCOMP | ptrace.O_TRACEFORK | ptrace.O_TRACEVFORK
    | ptrace.O_TRACECLONE | ptrace.O_TRACEEXEC
)  # fmt: skip
_SYSCALL_STOP = signal.SIGTRAP | 0x80
#: Wait statuses of the two stops of a traced call: seccomp stop at the entry, syscall-exit-stop.
_ENTERED, _LEFT = ptrace.EVENT_SECCOMP << 16 | signal.SIGTRAP << 8 | 0x7F, _SYSCALL_STOP << 8 | 0x7F
_STOPPING = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)


class Entry(NamedTuple):
    """Says how a call entered the kernel: by the i386 ABI or by that of x86-64, through which gate."""

    i386: bool
    gate: str


#: The entry of every call made at an int80 gate of this process; compared by identity.
_INT80_GATE = Entry(True, "int80")


@dataclass
class Tracee:
    """Holds a traced thread, and the call that it is in."""

    tid: int
    pid: int
    call: TracedCall | None = None
    #: True after the clone event of its parent, which may arrive after the first stop of the thread itself.
    announced: bool = False


@dataclass
class Tracer:
    """Traces processes until all have ended, and passes each call to `on_call` after its exit.

    With `gates`, it records the calls made through them, which have a call id; without, those of any program whose number
    is in `numbers` (by architecture; None: all). `every_call` stops at every system call (PTRACE_SYSCALL), not where a
    seccomp filter asks for it. With `exitkill` the tracees are killed if the loop fails or the tracer dies
    (PTRACE_O_EXITKILL); without, they are detached.
    """

    on_call: Callable[[TracedCall], None]
    gates: Sequence[Gate] | None = None
    every_call: bool = False
    numbers: Mapping[int, Set[int]] | None = None
    on_signal: Callable[[Signal], None] = lambda _: None
    on_exit: Callable[[Exit], None] = lambda _: None
    exitkill: bool = True
    #: Makes calls wrong on purpose.
    injection: Injection | None = None
    tracees: dict[int, Tracee] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin with no tracee."""
        self._resume = ptrace.SYSCALL if self.every_call else ptrace.CONT
        #: Entries of programs by process and instruction pointer.
        self._entries: dict[int, dict[int, Entry]] = {}
        #: Tids whose exit was reaped before the parent's PTRACE_EVENT_CLONE arrived.
        self._reaped_early: set[int] = set()
        self._killing = self._releasing = False
        self._gates = {gate.ip: gate for gate in self.gates or ()}
        self._vdso_returns = {gate.returns.to_bytes(4, "little") for gate in self.gates or () if gate.name == "vdso"}
        #: Entries of the gates by instruction pointer: equal in all processes, which inherit the pages.
        self._gate_entries: dict[int, Entry] = {}

    def seize(self, tid: int) -> None:
        """Begin to trace a process or thread. Raises OSError (EPERM: not permitted, or traced already)."""
        ptrace.request(ptrace.SEIZE, tid, 0, _OPTIONS | (ptrace.O_EXITKILL if self.exitkill else 0))
        self._add(tid).announced = True

    def kill(self) -> None:
        """Kill all tracees; `run` returns when they have been reaped."""
        self._killing = True
        for tracee in list(self.tracees.values()):
            kill(tracee.pid)

    def release(self) -> None:
        """Interrupt all tracees, to detach them at their next stop; `run` returns then. Safe in a signal handler."""
        self._releasing = True
        for tid in list(self.tracees):
            self.interrupt(tid)

    def run(self) -> None:
        """Handle stops until there is no tracee."""
        try:
            self._handle_all()
        except BaseException:
            (self.kill if self.exitkill else self.release)()
            self._handle_all()
            raise

    def run_to_exec(self, tid: int) -> bool:
        """Handle the stops of one tracee until it has executed a program, and leave it stopped there.

        Returns False if it ended first. `resume` continues it.
        """
        while tid in self.tracees:
            _, status = os.waitpid(tid, _WALL)
            if os.WIFSTOPPED(status) and status >> 16 == ptrace.EVENT_EXEC:
                return True
            self._handle(tid, status)
        return False

    def resume(self, tid: int) -> None:
        """Continue a tracee that `run_to_exec` has left stopped."""
        with suppress(ProcessLookupError):
            ptrace.request(self._resume, tid)

    def interrupt(self, tid: int) -> None:
        """Stop a running tracee once (PTRACE_INTERRUPT); with `every_call` its calls are traced from then on."""
        with suppress(ProcessLookupError):
            ptrace.request(ptrace.INTERRUPT, tid)

    def _handle_all(self) -> None:
        # The records that accumulate while tracing are not garbage: collections would scan them in vain.
        collecting = gc.isenabled()
        gc.disable()
        try:
            # ECHILD: every tracee has been reaped, whatever self.tracees still holds.
            with suppress(ChildProcessError):
                while self.tracees:
                    tid, status = os.waitpid(-1, _WALL)
                    self._handle(tid, status)
        finally:
            if collecting:
                gc.enable()

    def _add(self, tid: int) -> Tracee:
        tracee = self.tracees[tid] = Tracee(tid, tgid(tid))
        return tracee

    def _handle(self, tid: int, status: int) -> None:
        tracee = self.tracees.get(tid)
        try:
            # The two stops of a traced call are the most frequent ones.
            if tracee is not None and not self._releasing and not self._killing:
                if status == _ENTERED and tracee.call is None:
                    return self._enter(tracee)
                if status == _LEFT and tracee.call is not None:
                    return self._leave(tracee, tracee.call)
            if not os.WIFSTOPPED(status):
                return self._exited(tid, tracee, status)
            if tracee is None:
                tracee = self._add(tid)
            if self._killing:
                kill(tracee.pid)
            self._stopped(tracee, status >> 8 & 0xFF, status >> 16)
        except OSError as error:
            if not ptrace.is_gone(error):
                raise

    def _exited(self, tid: int, tracee: Tracee | None, status: int) -> None:
        pid = tid if tracee is None else tracee.pid
        if tracee is None or not tracee.announced:
            self._reaped_early.add(tid)
        ptrace.close_memory(tid)
        if tracee is not None:
            del self.tracees[tid]
            if tracee.call is not None:
                self.on_call(tracee.call)
        if pid == tid:
            self._entries.pop(pid, None)
        self.on_exit(Exit(time.monotonic_ns(), pid, tid, status))

    def _stopped(self, tracee: Tracee, number: int, event: int) -> None:
        if event in ptrace.EVENTS_OF_CLONE:
            self._cloned(ptrace.event_message(tracee.tid))
        elif event == ptrace.EVENT_EXEC:
            self._executed(tracee)
        if self._releasing:
            self._detach(tracee, number, event)
        elif event == ptrace.EVENT_SECCOMP:
            if tracee.call is None:
                self._enter(tracee)
            else:
                # With every_call, the syscall-entry-stop came before.
                ptrace.request(ptrace.SYSCALL, tracee.tid)
        elif number == _SYSCALL_STOP:
            if tracee.call is not None:
                self._leave(tracee, tracee.call)
            elif self.every_call and ptrace.syscall_info(tracee.tid).op == ptrace.INFO_ENTRY:
                # Entries and exits do not simply alternate: the first stop of a child is the exit of clone.
                self._enter(tracee)
            else:
                ptrace.request(self._resume, tracee.tid)
        elif event == ptrace.EVENT_STOP:
            ptrace.request(ptrace.LISTEN if number in _STOPPING else self._resume, tracee.tid)
        elif event:
            # The event of a call (clone, exec) precedes its exit.
            ptrace.request(self._resume if tracee.call is None else ptrace.SYSCALL, tracee.tid)
        else:
            regs = ptrace.registers(tracee.tid)
            self.on_signal(Signal(time.monotonic_ns(), tracee.pid, tracee.tid, number, regs[IP]))
            ptrace.request(self._resume, tracee.tid, 0, number)

    def _enter(self, tracee: Tracee) -> None:
        now = time.monotonic_ns()
        raw = ptrace.raw_registers(tracee.tid)
        regs = ptrace.registers_in(raw)
        entry = self._gate_entries.get(regs[IP])
        if entry is None:
            entry = self._entry(tracee, regs[IP])
        if entry is not _INT80_GATE and not self._is_wanted(tracee.tid, entry, regs):
            ptrace.resume(self._resume, tracee.tid)
            return
        tracee.call = TracedCall(tracee.pid, tracee.tid, now, raw, regs, entry[0], entry[1], self.gates is not None)
        if self.injection is not None:
            self.injection.enter(tracee.call)
        ptrace.resume(ptrace.SYSCALL, tracee.tid)

    def _is_wanted(self, tid: int, entry: Entry, regs: tuple[int, ...]) -> bool:
        if self.gates is not None:
            if entry.gate != "vdso":
                return regs[IP] in self._gates
            # Other code calls through the vDSO too. The return address lies above the three registers that it pushed.
            return ptrace.read(tid, regs[SP] + 12, 4) in self._vdso_returns
        if installs_filter(regs, entry.i386):
            # A filter of the program takes precedence over ours: from here on, stop at every call before all filters.
            self.every_call, self._resume = True, ptrace.SYSCALL
        if self.numbers is None:
            return True
        return number_of(regs) in self.numbers.get(ptrace.ARCH_I386 if entry.i386 else ptrace.ARCH_X86_64, ())

    def _leave(self, tracee: Tracee, call: TracedCall) -> None:
        if self.injection is not None:
            self.injection.leave(call)
        call.leave(time.monotonic_ns(), ptrace.raw_registers(tracee.tid))
        tracee.call = None
        ptrace.resume(self._resume, tracee.tid)
        # The tracee runs while on_call works.
        self.on_call(call)

    def _detach(self, tracee: Tracee, number: int, event: int) -> None:
        call = tracee.call
        if call is not None and number == _SYSCALL_STOP:
            raw = ptrace.raw_registers(tracee.tid)
            if not restarts(raw):
                call.leave(time.monotonic_ns(), raw)
        delivered = 0 if event or number == _SYSCALL_STOP else number
        ptrace.request(ptrace.DETACH, tracee.tid, 0, delivered)
        ptrace.close_memory(tracee.tid)
        del self.tracees[tracee.tid]
        if call is not None:
            self.on_call(call)

    def _entry(self, tracee: Tracee, ip: int) -> Entry:
        known = self._gate_entries if ip in self._gates else self._entries.setdefault(tracee.pid, {})
        entry = known.get(ip)
        if entry is None or self.gates is None:
            # A program may write other code to the same address: the ABI is read at every call.
            i386 = ptrace.syscall_info(tracee.tid).arch == ptrace.ARCH_I386
            if entry is None or entry.i386 != i386:
                entry = Entry(i386, self._gate(tracee.pid, ip, i386))
                if ip in self._gates and entry == _INT80_GATE:
                    entry = _INT80_GATE
                known[ip] = entry
        return entry

    def _gate(self, pid: int, ip: int, i386: bool) -> str:
        if ip in self._gates:
            return self._gates[ip].name
        if not i386:
            return "syscall"
        try:
            return "vdso" if ip in vdso_range(pid) else "int80"
        except OSError:
            return "unknown"

    def _cloned(self, tid: int) -> None:
        if tid in self._reaped_early:
            self._reaped_early.discard(tid)
        elif tid:  # 0: it is in a pid namespace that this process cannot see into
            (self.tracees.get(tid) or self._add(tid)).announced = True

    def _executed(self, tracee: Tracee) -> None:
        former = ptrace.event_message(tracee.tid)
        ptrace.close_memory(former)
        ptrace.close_memory(tracee.tid)
        if former != tracee.tid:
            # It took the tid of the thread group leader, whose exit is not reported.
            self.tracees.pop(former, None)
        call, tracee.call, tracee.pid, tracee.announced = tracee.call, None, tracee.tid, True
        self._entries.pop(tracee.pid, None)
        if call is not None:
            self.on_call(call)
