"""Hold the threads that are traced: seize, interrupt, detach and kill them, and take their stops in a fair order."""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

from probes.trace import ptrace
from probes.trace.processes import kill, tgid
from probes.trace.spin import Spin
from probes.trace.traced_call import TracedCall
from probes.trace.unchanged import Restore

_OPTIONS = (
    ptrace.O_TRACESYSGOOD | ptrace.O_TRACESECCOMP | ptrace.O_TRACEFORK | ptrace.O_TRACEVFORK
    | ptrace.O_TRACECLONE | ptrace.O_TRACEEXEC
)  # fmt: skip


@dataclass
class Tracee:
    """Holds a traced thread, and the call that it is in."""

    tid: int
    pid: int
    call: TracedCall | None = None
    #: True after the clone event of its parent, which may arrive after the first stop of the thread itself.
    announced: bool = False
    #: Puts back, at the exit of a call that is not recorded, what was changed at its entry.
    restore: Restore | None = None


@dataclass(kw_only=True)
class Tracees:
    """Holds all that is traced.

    `every_call` stops at every system call (PTRACE_SYSCALL), not where a seccomp filter asks for it. With `exitkill` the
    tracees are killed if the loop fails or the tracer dies (PTRACE_O_EXITKILL); without, they are detached.
    """

    every_call: bool = False
    exitkill: bool = True
    tracees: dict[int, Tracee] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin with no tracee."""
        self._resume = ptrace.SYSCALL if self.every_call else ptrace.CONT
        self._spin = Spin()
        #: Stops that were waited for and are not handled yet: tids and wait statuses.
        self._pending: deque[tuple[int, int]] = deque()
        #: Tids whose exit was reaped before the parent's PTRACE_EVENT_CLONE arrived.
        self._reaped_early: set[int] = set()
        self._killing = self._releasing = False

    def seize(self, tid: int, pid: int | None = None) -> None:
        """Begin to trace a process, or a thread of one. Raises OSError (EPERM: not permitted, or traced already)."""
        ptrace.request(ptrace.SEIZE, tid, 0, _OPTIONS | (ptrace.O_EXITKILL if self.exitkill else 0))
        self._add(tid, tid if pid is None else pid).announced = True

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

    def resume(self, tid: int) -> None:
        """Continue a tracee that `run_to_exec` has left stopped."""
        with suppress(ProcessLookupError):
            ptrace.request(self._resume, tid)

    def interrupt(self, tid: int) -> None:
        """Stop a running tracee once (PTRACE_INTERRUPT); with `every_call` its calls are traced from then on."""
        with suppress(ProcessLookupError):
            ptrace.request(ptrace.INTERRUPT, tid)

    def _wait(self) -> None:
        """Wait for a stop, and take all that are there: waitpid(2) returns the oldest tracee's first, again and again."""
        self._pending.append(self._spin.wait())
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, ptrace.WALL | os.WNOHANG))[0]:
                self._pending.append(found)

    def _add(self, tid: int, pid: int | None = None) -> Tracee:
        if pid is None:
            pid = tgid(tid, {each.pid for each in self.tracees.values()})
        tracee = self.tracees[tid] = Tracee(tid, pid)
        return tracee

    def _let_go(self, tid: int) -> None:
        """Detach a tracee that is still at the stop whose handling failed: `release` would wait for another report of it."""
        if not self.exitkill:
            with suppress(OSError):  # it runs, or is gone
                ptrace.request(ptrace.DETACH, tid)
                self.tracees.pop(tid, None)

    def _cloned(self, parent: int, tid: int) -> None:
        if tid in self._reaped_early:
            self._reaped_early.discard(tid)
        elif tid:  # 0: it is in a pid namespace that this process cannot see into
            (self.tracees.get(tid) or self._add(tid, tgid(tid, (parent,)))).announced = True
