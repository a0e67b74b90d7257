"""The ptrace loop: waits for stops, takes calls in and out, follows threads and children, ends by its deadline."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field

from probes.entry.gate import Gate
from probes.trace import ptrace
from probes.trace.processes import group, in_vdso, kill
from probes.trace.traced_call import IP, SP, Call, installs_filter, number_of, restarts

_WALL = 0x40000000
_OPTIONS = (
    ptrace.O_TRACESYSGOOD | ptrace.O_TRACESECCOMP | ptrace.O_TRACEFORK | ptrace.O_TRACEVFORK
    | ptrace.O_TRACECLONE | ptrace.O_TRACEEXEC
)  # fmt: skip
_SYSCALL_STOP = signal.SIGTRAP | 0x80
#: Wait statuses of the two stops of a traced call.
_ENTERED, _LEFT = ptrace.EVENT_SECCOMP << 16 | signal.SIGTRAP << 8 | 0x7F, _SYSCALL_STOP << 8 | 0x7F
_STOPPING = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
Sink = Callable[[Call], None]


@dataclass
class Tracee:
    """A thread that we trace, and its call if it is in one."""

    tid: int
    pid: int
    call: Call | None = None
    #: Whether the stop in which its parent tells of its birth has come: it may come after the newborn's own first.
    announced: bool = False


@dataclass(frozen=True)
class Signal:
    """A signal on its way to a tracee, with the instruction pointer it had."""

    t_ns: int
    pid: int
    tid: int
    number: int
    ip: int


@dataclass(frozen=True)
class Exit:
    """The end of a thread: its wait status."""

    t_ns: int
    pid: int
    tid: int
    status: int


@dataclass
class Tracer:
    """Traces processes until none is left, and hands each call to `sink` when it ends.

    `gates` are our own gates: then only calls made there are taken, and they carry a number. Without it those that are
    `wanted` (numbers by architecture) are, of any program. `every_call` stops at every system call (PTRACE_SYSCALL)
    instead of where a seccomp filter says so. Tracees that are `ours` end when we fail, and the kernel
    kills them if we die; others are let go.
    """

    sink: Sink
    gates: Sequence[Gate] | None = None
    every_call: bool = False
    wanted: Mapping[int, Set[int]] | None = None
    signalled: Callable[[Signal], None] = lambda _: None
    ended: Callable[[Exit], None] = lambda _: None
    ours: bool = True
    tracees: dict[int, Tracee] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._resume = ptrace.SYSCALL if self.every_call else ptrace.CONT
        # An instruction enters by one ABI and one gate for as long as the program lives.
        self._entries: dict[int, dict[int, tuple[bool, str]]] = {}
        #: Those that ended before their birth was announced: nobody has to wait for them.
        self._early: set[int] = set()
        self._killing = self._releasing = False
        self._gates = {gate.ip: gate for gate in self.gates or ()}
        #: What a call at our own int $0x80 is, and needs no further look.
        self._sure = True, "int80"
        self._own: dict[int, tuple[bool, str]] = {}

    def seize(self, tid: int) -> None:
        """Begins to trace a process or thread. Raises OSError (EPERM: ptrace is forbidden, or it is traced already)."""
        ptrace.request(ptrace.SEIZE, tid, 0, _OPTIONS | (ptrace.O_EXITKILL if self.ours else 0))
        self._adopt(tid).announced = True

    def kill(self) -> None:
        """Ends all tracees; `run` then sees them go."""
        self._killing = True
        for tracee in list(self.tracees.values()):
            kill(tracee.pid)

    def release(self) -> None:
        """Lets all tracees go on as if nobody had traced them; `run` then sees them go. For signal handlers too."""
        self._releasing = True
        for tid in list(self.tracees):
            self.interrupt(tid)

    def run(self) -> None:
        """Handles stops until no tracee is left."""
        try:
            self._handle_all()
        except BaseException:
            if self.ours:
                self.kill()
            else:
                self.release()
            self._handle_all()
            raise

    def run_to_exec(self, tid: int) -> bool:
        """Handles the stops of one tracee until it has executed a program, and leaves it stopped there; False if it
        ended first. `resume` lets it go on."""
        while tid in self.tracees:
            _, status = os.waitpid(tid, _WALL)
            if os.WIFSTOPPED(status) and status >> 16 == ptrace.EVENT_EXEC:
                return True
            self._stop(tid, status)
        return False

    def resume(self, tid: int) -> None:
        """Lets a tracee go on that `run_to_exec` has left stopped."""
        with suppress(ProcessLookupError):
            ptrace.request(self._resume, tid)

    def interrupt(self, tid: int) -> None:
        """Stops a running tracee for a moment: what it does from then on is seen."""
        with suppress(ProcessLookupError):
            ptrace.request(ptrace.INTERRUPT, tid)

    def _handle_all(self) -> None:
        # Records pile up while we trace, and none of them is garbage.
        collecting = gc.isenabled()
        gc.disable()
        try:
            # No child at all: the kernel knows better than we do.
            with suppress(ChildProcessError):
                while self.tracees:
                    tid, status = os.waitpid(-1, _WALL)
                    self._stop(tid, status)
        finally:
            if collecting:
                gc.enable()

    def _adopt(self, tid: int) -> Tracee:
        tracee = self.tracees[tid] = Tracee(tid, group(tid))
        return tracee

    def _stop(self, tid: int, status: int) -> None:
        tracee = self.tracees.get(tid)
        try:
            # The two stops that every traced call makes come first.
            if tracee is not None and not self._releasing and not self._killing:
                if status == _ENTERED and tracee.call is None:
                    return self._enter(tracee)
                if status == _LEFT and tracee.call is not None:
                    return self._leave(tracee, tracee.call)
            if not os.WIFSTOPPED(status):
                return self._gone(tid, tracee, status)
            if tracee is None:
                tracee = self._adopt(tid)
            if self._killing:
                kill(tracee.pid)
            self._stopped(tracee, status >> 8 & 0xFF, status >> 16)
        except OSError as error:
            if not ptrace.gone(error):
                raise

    def _gone(self, tid: int, tracee: Tracee | None, status: int) -> None:
        pid = tid if tracee is None else tracee.pid
        if tracee is None or not tracee.announced:
            self._early.add(tid)
        ptrace.forget(tid)
        if tracee is not None:
            del self.tracees[tid]
            if tracee.call is not None:
                self.sink(tracee.call)
        if pid == tid:
            self._entries.pop(pid, None)
        self.ended(Exit(time.monotonic_ns(), pid, tid, status))

    def _stopped(self, tracee: Tracee, number: int, event: int) -> None:
        if event in ptrace.EVENTS_OF_BIRTH:
            self._born(ptrace.event_message(tracee.tid))
        elif event == ptrace.EVENT_EXEC:
            self._executed(tracee)
        if self._releasing:
            self._let_go(tracee, number, event)
        elif event == ptrace.EVENT_SECCOMP:
            if tracee.call is None:
                self._enter(tracee)
            else:
                # Its entry was seen already, because every call is.
                ptrace.request(ptrace.SYSCALL, tracee.tid)
        elif number == _SYSCALL_STOP:
            if tracee.call is not None:
                self._leave(tracee, tracee.call)
            elif self.every_call and ptrace.syscall_info(tracee.tid).op == ptrace.INFO_ENTRY:
                # Asked, not counted: a newborn's first stop is an exit.
                self._enter(tracee)
            else:
                ptrace.request(self._resume, tracee.tid)
        elif event == ptrace.EVENT_STOP:
            ptrace.request(ptrace.LISTEN if number in _STOPPING else self._resume, tracee.tid)
        elif event:
            # A call that gives birth is not over yet.
            ptrace.request(self._resume if tracee.call is None else ptrace.SYSCALL, tracee.tid)
        else:
            regs = ptrace.registers(tracee.tid)
            self.signalled(Signal(time.monotonic_ns(), tracee.pid, tracee.tid, number, regs[IP]))
            ptrace.request(self._resume, tracee.tid, 0, number)

    def _enter(self, tracee: Tracee) -> None:
        now = time.monotonic_ns()
        regs = ptrace.registers(tracee.tid)
        entry = self._own.get(regs[IP])
        if entry is None:
            entry = self._entry(tracee, regs[IP])
        if entry is not self._sure and not self._takes(tracee.tid, entry, regs):
            ptrace.request(self._resume, tracee.tid)
            return
        tracee.call = Call(tracee.pid, tracee.tid, now, regs, entry[0], entry[1], self.gates is not None)
        ptrace.request(ptrace.SYSCALL, tracee.tid)

    def _takes(self, tid: int, entry: tuple[bool, str], regs: tuple[int, ...]) -> bool:
        if self.gates is not None:
            gate = self._gates.get(regs[IP])
            if gate is None or gate.name == "int80":
                return gate is not None
            # Anybody's call may come by the vDSO. Under the three registers that it pushed lies where the call returns.
            return ptrace.read(tid, regs[SP] + 12, 4) == gate.returns.to_bytes(4, "little")
        if installs_filter(regs, entry[0]):
            # What a filter of its own refuses never reaches ours: from now on, stop before both.
            self.every_call, self._resume = True, ptrace.SYSCALL
        if self.wanted is None:
            return True
        return number_of(regs) in self.wanted.get(ptrace.ARCH_I386 if entry[0] else ptrace.ARCH_X86_64, ())

    def _leave(self, tracee: Tracee, call: Call) -> None:
        call.leave(time.monotonic_ns(), ptrace.registers(tracee.tid))
        tracee.call = None
        ptrace.request(self._resume, tracee.tid)
        # The tracee runs; what follows is on our own time.
        self.sink(call)

    def _let_go(self, tracee: Tracee, number: int, event: int) -> None:
        call = tracee.call
        if call is not None and number == _SYSCALL_STOP:
            regs = ptrace.registers(tracee.tid)
            if not restarts(regs):
                call.leave(time.monotonic_ns(), regs)
        passed = 0 if event or number == _SYSCALL_STOP else number
        ptrace.request(ptrace.DETACH, tracee.tid, 0, passed)
        ptrace.forget(tracee.tid)
        del self.tracees[tracee.tid]
        if call is not None:
            self.sink(call)

    def _entry(self, tracee: Tracee, ip: int) -> tuple[bool, str]:
        known = self._own if ip in self._gates else self._entries.setdefault(tracee.pid, {})
        entry = known.get(ip)
        if entry is None or self.gates is None:
            # Programs may write other code to the same place: the ABI is asked each time.
            i386 = ptrace.syscall_info(tracee.tid).arch == ptrace.ARCH_I386
            if entry is None or entry[0] != i386:
                entry = known[ip] = i386, self._gate(tracee.pid, ip, i386)
                if ip in self._gates and entry == self._sure:
                    entry = known[ip] = self._sure
        return entry

    def _gate(self, pid: int, ip: int, i386: bool) -> str:
        if ip in self._gates:
            return self._gates[ip].name
        if not i386:
            return "syscall"
        try:
            return "vdso" if in_vdso(pid, ip) else "int80"
        except OSError:
            return "unknown"

    def _born(self, tid: int) -> None:
        if tid in self._early:
            self._early.discard(tid)
        elif tid:  # 0: it is in a pid namespace that we cannot see into
            (self.tracees.get(tid) or self._adopt(tid)).announced = True

    def _executed(self, tracee: Tracee) -> None:
        former = ptrace.event_message(tracee.tid)
        ptrace.forget(former)
        ptrace.forget(tracee.tid)
        if former != tracee.tid:
            # It took the id of the first thread, which is gone without a word.
            self.tracees.pop(former, None)
        call, tracee.call, tracee.pid, tracee.announced = tracee.call, None, tracee.tid, True
        self._entries.pop(tracee.pid, None)
        if call is not None:
            self.sink(call)
