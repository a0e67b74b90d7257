"""The ptrace loop: waits for stops, takes calls in and out, follows threads and children, ends by its deadline."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType

from probes.gate import Gate
from probes.trace import ptrace
from probes.trace.call import IP, SP, Call

_WALL = 0x40000000
_OPTIONS = (
    ptrace.O_EXITKILL | ptrace.O_TRACESYSGOOD | ptrace.O_TRACESECCOMP | ptrace.O_TRACEFORK | ptrace.O_TRACEVFORK
    | ptrace.O_TRACECLONE | ptrace.O_TRACEEXEC
)  # fmt: skip
_SYSCALL_STOP = signal.SIGTRAP | 0x80
_STOPPING = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
Sink = Callable[[Call], None]


@dataclass
class Tracee:
    """A thread that we trace, and its call if it is in one."""

    tid: int
    pid: int
    call: Call | None = None


@dataclass(frozen=True)
class Signal:
    """A signal on its way to a tracee, with the instruction pointer it had."""

    t_ns: int
    tid: int
    number: int
    ip: int


@dataclass
class Deadline:
    """Calls `late` in this process after some seconds; None: never. Usable in the main thread only (setitimer)."""

    seconds: float | None
    late: Callable[[], None]
    passed: bool = False

    def _alarm(self, number: int, frame: FrameType | None) -> None:
        self.passed = True
        self.late()
        # Again until it is over: one that was asked may not have listened, another may have been born in between.
        signal.setitimer(signal.ITIMER_REAL, 1)

    def __enter__(self) -> Deadline:
        self._old = signal.signal(signal.SIGALRM, self._alarm)
        if self.seconds is not None:
            signal.setitimer(signal.ITIMER_REAL, self.seconds)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._old)


@dataclass
class Tracer:
    """Traces processes until none is left, and hands each call to `sink` when it ends.

    `gates` are our own gates: then only calls made there are taken, and they carry a number. Without it every socket call of any program is taken. `every_call` stops at every system call
    (PTRACE_SYSCALL) instead of where a seccomp filter says so. The kernel kills all tracees if we die.
    """

    sink: Sink
    gates: Sequence[Gate] | None = None
    every_call: bool = False
    wanted: Mapping[int, Set[int]] | None = None
    signals: list[Signal] = field(default_factory=list)
    exits: dict[int, int] = field(default_factory=dict)
    tracees: dict[int, Tracee] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._resume = ptrace.SYSCALL if self.every_call else ptrace.CONT
        # An instruction enters by one ABI and one gate for as long as the program lives.
        self._entries: dict[tuple[int, int], tuple[bool, str]] = {}
        self._killing = False
        self._gates = {gate.ip: gate for gate in self.gates or ()}

    def seize(self, tid: int) -> None:
        """Begins to trace a process or thread. Raises OSError (EPERM: ptrace is forbidden, or it is traced already)."""
        ptrace.request(ptrace.SEIZE, tid, 0, _OPTIONS)
        self._adopt(tid)

    def kill(self) -> None:
        """Ends all tracees; `run` then sees them go."""
        self._killing = True
        for tracee in list(self.tracees.values()):
            _kill(tracee.pid)

    def run(self) -> None:
        """Handles stops until every tracee has ended."""
        try:
            while self.tracees:
                self._stop(*os.waitpid(-1, _WALL))
        except BaseException:
            self.kill()
            while self.tracees:
                self._stop(*os.waitpid(-1, _WALL))
            raise

    def _adopt(self, tid: int) -> Tracee:
        tracee = self.tracees[tid] = Tracee(tid, _group(tid))
        return tracee

    def _stop(self, tid: int, status: int) -> None:
        tracee = self.tracees.get(tid)
        if not os.WIFSTOPPED(status):
            self.exits[tid] = status
            if tracee is not None:
                del self.tracees[tid]
                if tracee.call is not None:
                    self.sink(tracee.call)
            return
        if tracee is None:
            tracee = self._adopt(tid)
        if self._killing:
            _kill(tracee.pid)
        try:
            self._stopped(tracee, status >> 8 & 0xFF, status >> 16)
        except OSError as error:
            if not ptrace.gone(error):
                raise

    def _stopped(self, tracee: Tracee, number: int, event: int) -> None:
        if event == ptrace.EVENT_SECCOMP:
            self._enter(tracee)
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
        elif event == ptrace.EVENT_EXEC:
            self._executed(tracee)
        elif event:
            ptrace.request(self._resume, tracee.tid)
        else:
            regs = ptrace.registers(tracee.tid)
            self.signals.append(Signal(time.monotonic_ns(), tracee.tid, number, regs[IP]))
            ptrace.request(self._resume, tracee.tid, 0, number)

    def _enter(self, tracee: Tracee) -> None:
        now = time.monotonic_ns()
        regs = ptrace.registers(tracee.tid)
        key = (tracee.pid, regs[IP])
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = self._entry(tracee, regs[IP])
        if not self._takes(tracee.tid, entry, regs):
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
        if not self.every_call:
            return True
        if self.wanted is None:
            return True
        return number_of(regs) in self.wanted.get(ptrace.ARCH_I386 if entry[0] else ptrace.ARCH_X86_64, ())

    def _leave(self, tracee: Tracee, call: Call) -> None:
        call.leave(time.monotonic_ns(), ptrace.registers(tracee.tid))
        tracee.call = None
        ptrace.request(self._resume, tracee.tid)
        # The tracee runs; what follows is on our own time.
        self.sink(call)

    def _entry(self, tracee: Tracee, ip: int) -> tuple[bool, str]:
        i386 = ptrace.syscall_info(tracee.tid).arch == ptrace.ARCH_I386
        if ip in self._gates:
            return i386, self._gates[ip].name
        if not i386:
            return i386, "syscall"
        return i386, "vdso" if in_vdso(tracee.pid, ip) else "int80"

    def _executed(self, tracee: Tracee) -> None:
        former = ptrace.event_message(tracee.tid)
        if former != tracee.tid:
            self.tracees.pop(former, None)
        tracee.call, tracee.pid = None, tracee.tid
        self._entries = {key: entry for key, entry in self._entries.items() if key[0] != tracee.pid}
        ptrace.request(self._resume, tracee.tid)


_NUMBER = ptrace.REGISTER_NAMES.index("orig_rax" if "orig_rax" in ptrace.REGISTER_NAMES else "orig_eax")


def number_of(regs: tuple[int, ...]) -> int:
    """The number of the call a tracee is in."""
    return regs[_NUMBER] & 0xFFFFFFFF


def in_vdso(pid: int, address: int) -> bool:
    """Whether an address lies in a process's [vdso]."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if line.endswith("[vdso]"):
            first, last = (int(end, 16) for end in line.split(maxsplit=1)[0].split("-"))
            return first <= address < last
    return False


def _group(tid: int) -> int:
    """The process that a thread belongs to; the thread itself if it is gone already."""
    try:
        text = Path(f"/proc/{tid}/status").read_text()
    except OSError:
        return tid
    return int(text.partition("\nTgid:")[2].split(maxsplit=1)[0])


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
