"""Run the ptrace loop: wait for stops, record calls at entry and exit, follow threads and children until all have ended."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass

from probes.abi.arguments.fetcher import EVIDENCE, Limits
from probes.abi.events import Exit, Note, Signal
from probes.abi.operations import SOCKETCALL
from probes.abi.record import unsigned
from probes.entry.gate import Gate
from probes.trace import ptrace
from probes.trace.entries import INT80_GATE, Entries, Entry
from probes.trace.injection import Injection, Several
from probes.trace.processes import kill
from probes.trace.seccomp import OURS
from probes.trace.siginfo import siginfo
from probes.trace.traced_call import (
    CS,
    CS_32,
    FILTER_CALLS,
    FIRST,
    IP,
    Netlink,
    TracedCall,
    installs_filter,
    is_for_all_threads,
    number_of,
    restarts,
)
from probes.trace.tracees import Tracee, Tracees
from probes.trace.unchanged import CLONES, follow_untraced, refuse, remark

_SYSCALL_STOP = signal.SIGTRAP | 0x80
#: Wait statuses of the two stops of a traced call: seccomp stop at the entry, syscall-exit-stop.
_ENTERED, _LEFT = ptrace.EVENT_SECCOMP << 16 | signal.SIGTRAP << 8 | 0x7F, _SYSCALL_STOP << 8 | 0x7F
_STOPPING = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)


@dataclass
class Tracer(Tracees):
    """Traces processes until all have ended, and passes each call to `on_call` after its exit.

    With `gates`, it records the calls made through them, which have a call id; without, those of any program whose number
    is in `numbers` (by architecture; None: all). With `passes` and `every_call` a seccomp filter stops the calls of the
    gates once more, unless another filter, whose action takes precedence, answers them (seccomp(2)).
    """

    on_call: Callable[[TracedCall], None]
    gates: Sequence[Gate] | None = None
    passes: bool = False
    numbers: Mapping[int, Set[int]] | None = None
    #: The operation numbers of socketcall among them; None: all.
    operations: Set[int] | None = None
    on_signal: Callable[[Signal], None] = lambda _: None
    on_exit: Callable[[Exit], None] = lambda _: None
    #: Says of each call at its entry whether it is recorded; None: all are.
    wants: Callable[[TracedCall], bool] | None = None
    #: Gets each call at its exit while the thread is stopped, if given.
    on_leave: Callable[[TracedCall], None] | None = None
    #: How much of a call's memory is copied.
    limits: Limits = EVIDENCE
    #: Says which descriptors are sockets of netlink, whose messages are copied whole; None: that is not asked.
    netlink: Netlink | None = None
    #: Gets what a capture cannot see, once for each process.
    on_note: Callable[[Note], None] = lambda _: None
    #: Gets each call at its entry while there are several threads, or also of one that is alone, if given.
    on_enter: Callable[[TracedCall], None] | None = None
    enters_alone: bool = False
    #: Read the words of a socketcall again at its exit.
    words_after: bool = True
    #: Read why a signal is delivered.
    siginfo: bool = False
    #: Makes calls wrong on purpose.
    injection: Injection | Several | None = None

    def __post_init__(self) -> None:
        """Begin with no tracee."""
        super().__post_init__()
        self._entries = Entries(self.gates)
        self._noted: set[tuple[int, str]] = set()
        #: True if seccomp stops may be those of filters that are not ours.
        self._other_filters = self.every_call and self.gates is None
        #: True if our seccomp filter is installed in what is traced.
        self._has_filter = not self.every_call and self.gates is None

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
            _, status = os.waitpid(tid, ptrace.WALL)
            if os.WIFSTOPPED(status) and status >> 16 == ptrace.EVENT_EXEC:
                return True
            self._handle(tid, status)
        return False

    def _handle_all(self) -> None:
        # The records that accumulate while tracing are not garbage: collections would scan them in vain.
        collecting = gc.isenabled()
        gc.disable()
        try:
            # ECHILD: every tracee has been reaped, whatever self.tracees still holds.
            with suppress(ChildProcessError):
                while self.tracees:
                    if self._pending:
                        self._handle(*self._pending.popleft())
                    elif len(self.tracees) == 1:
                        self._handle(*self._spin.wait())
                    else:
                        self._wait()
        finally:
            if collecting:
                gc.enable()

    def _handle(self, tid: int, status: int) -> None:
        tracee = self.tracees.get(tid)
        try:
            # The two stops of a traced call are the most frequent ones.
            if tracee is not None and not self._releasing and not self._killing:
                if status == _ENTERED and tracee.call is None and not self._other_filters:
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
        except BaseException as error:
            if not (isinstance(error, OSError) and ptrace.is_gone(error)):
                self._let_go(tid)
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
            self._entries.forget(pid)
        self.on_exit(Exit(time.monotonic_ns(), pid, tid, status))

    def _stopped(self, tracee: Tracee, number: int, event: int) -> None:
        if event in ptrace.EVENTS_OF_CLONE:
            self._cloned(tracee.pid, ptrace.event_message(tracee.tid))
        elif event == ptrace.EVENT_EXEC:
            self._executed(tracee)
        if self._releasing:
            self._detach(tracee, number, event)
        elif event == ptrace.EVENT_SECCOMP:
            if self._other_filters and ptrace.event_message(tracee.tid) != OURS:
                refuse(tracee.tid)
                ptrace.request(self._resume if tracee.call is None else ptrace.SYSCALL, tracee.tid)
            elif tracee.call is None:
                self._enter(tracee)
            else:
                # With every_call, the syscall-entry-stop came before.
                tracee.call.filtered = False
                ptrace.request(ptrace.SYSCALL, tracee.tid)
        elif number == _SYSCALL_STOP:
            if tracee.call is not None:
                self._leave(tracee, tracee.call)
            elif tracee.restore is not None:
                restore, tracee.restore = tracee.restore, None
                restore()
                ptrace.request(self._resume, tracee.tid)
            elif self.every_call and ptrace.syscall_info(tracee.tid).op == ptrace.INFO_ENTRY:
                # Entries and exits do not simply alternate: the first stop of a child is the exit of clone.
                self._enter(tracee)
            else:
                ptrace.request(self._resume, tracee.tid)
        elif event == ptrace.EVENT_STOP:
            ptrace.request(ptrace.LISTEN if number in _STOPPING else self._resume, tracee.tid)
        elif event:
            # The event of a call (clone, exec) precedes its exit.
            in_call = tracee.call is not None or tracee.restore is not None
            ptrace.request(ptrace.SYSCALL if in_call else self._resume, tracee.tid)
        else:
            regs = ptrace.registers(tracee.tid)
            info = siginfo(tracee.tid) if self.siginfo else ()
            seen = Signal(time.monotonic_ns(), tracee.pid, tracee.tid, number, regs[IP], info)
            ptrace.request(self._resume, tracee.tid, 0, number)
            self.on_signal(seen)

    def _enter(self, tracee: Tracee) -> None:
        now = time.monotonic_ns()
        raw = ptrace.raw_registers(tracee.tid)
        regs = ptrace.registers_in(raw)
        ip = regs[IP]
        entry = self._entries.at_gates.get(ip)
        if entry is None:
            entry = self._entries.find(tracee.pid, tracee.tid, ip, regs[CS] == CS_32)
        if entry is not INT80_GATE and not self._is_wanted(tracee, entry, regs):
            ptrace.resume(self._resume if tracee.restore is None else ptrace.SYSCALL, tracee.tid)
            return
        call = TracedCall(
            tracee.pid, tracee.tid, now, raw, regs, entry[0], entry[1], self.gates is not None, self.limits,
            self.netlink,
        )  # fmt: skip
        if self.wants is not None and not self.wants(call):
            ptrace.resume(self._resume, tracee.tid)
            return
        tracee.call = call
        call.filtered = self.passes
        if self.injection is not None:
            self.injection.enter(tracee.call)
        ptrace.resume(ptrace.SYSCALL, tracee.tid)
        if self.on_enter is not None and (self.enters_alone or len(self.tracees) > 1):
            self.on_enter(tracee.call)

    def _is_wanted(self, tracee: Tracee, entry: Entry, regs: tuple[int, ...]) -> bool:
        if self.gates is not None:
            return self._entries.is_of_gate(tracee.tid, entry, regs)
        number, arch = number_of(regs), ptrace.ARCH_I386 if entry.i386 else ptrace.ARCH_X86_64
        if number in FILTER_CALLS[arch] and installs_filter(regs, entry.i386):
            # A filter of the program takes precedence over ours: from here on, stop at every call before all filters.
            self.every_call, self._resume, self._other_filters = True, ptrace.SYSCALL, True
            if self._has_filter and is_for_all_threads(regs, entry.i386):
                self._interrupt_others(tracee)
        if self.numbers is None:
            return True
        if number not in self.numbers.get(arch, ()):
            self._look_at_other(tracee, arch, number, regs)
            return False
        if self.operations is None or number != SOCKETCALL or not entry.i386:
            return True
        return unsigned(regs[FIRST]) in self.operations

    def _interrupt_others(self, tracee: Tracee) -> None:
        """Let the other threads of a process stop at every call from now on, not where our filter asks for it."""
        for other in list(self.tracees.values()):
            if other.pid == tracee.pid and other is not tracee and other.call is None:
                self.interrupt(other.tid)

    def _look_at_other(self, tracee: Tracee, arch: int, number: int, regs: tuple[int, ...]) -> None:
        """Handle a call that is not recorded, but may hide others: from the tracer, or from the filter."""
        if number in CLONES[arch] and self._has_filter:
            # (Where every call stops, this is reached twice: at the call's entry and at the stop of our filter.)
            tracee.restore = follow_untraced(tracee.tid, arch, regs) or tracee.restore
        elif (text := remark(number, arch)) and (tracee.pid, text) not in self._noted:
            self._noted.add((tracee.pid, text))
            self.on_note(Note(time.monotonic_ns(), tracee.pid, tracee.tid, text))

    def _leave(self, tracee: Tracee, call: TracedCall) -> None:
        if self.injection is not None:
            self.injection.leave(call)
        call.leave(time.monotonic_ns(), ptrace.raw_registers(tracee.tid), self.words_after)
        tracee.call = None
        if self.on_leave is not None:
            self.on_leave(call)
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

    def _executed(self, tracee: Tracee) -> None:
        former = ptrace.event_message(tracee.tid)
        ptrace.close_memory(former)
        ptrace.close_memory(tracee.tid)
        if former != tracee.tid:
            # It took the tid of the thread group leader, whose exit is not reported.
            self.tracees.pop(former, None)
        call, tracee.call, tracee.pid, tracee.announced = tracee.call, None, tracee.tid, True
        self._entries.forget(tracee.pid)
        if call is not None:
            self.on_call(call)
