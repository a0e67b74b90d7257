"""Signals for the process that makes the calls of a test: the handler there, and what it sleeps in."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
from pathlib import Path
from typing import Protocol

from probes.entry.agent_driver import Driver
from probes.entry.agent_gate import AgentSpace
from probes.entry.machine.agent_code import HANDLER
from probes.entry.memory import PAGE, PROT_EXEC, PROT_READ
from probes.testing.expect import not_applicable

#: Descriptors of the suite start here, so that a call under test gets the same numbers as without them.
_HIGH = 500
_RT_SIGACTION, _SA_RESTORER, _SA_RESTART = 174, 0x04000000, 0x10000000
#: struct sigaction of rt_sigaction: handler, flags, restorer, mask.
_ACTION = struct.Struct("<3IQ")
#: Where the restorer begins in HANDLER, which ends with it: pop eax, mov eax, 119, int $0x80.
_RESTORER = len(HANDLER[32][0]) - 8
#: Where the handler notes the instruction that is executed next, in the page behind its code, which begins with the counter.
_NEXT = 64


class Signals(Protocol):
    """Handles SIGUSR1 in the process that makes the calls. `asleep` and `await_handled` are for other processes."""

    pid: int

    def catch(self, restart: bool) -> None:
        """Installs a handler for SIGUSR1, with SA_RESTART or without (sigaction(2))."""

    def handled(self) -> int:
        """Returns how many signals it has handled."""

    def handled_at(self) -> int | None:
        """Returns the address of the instruction that the last signal preceded, None where the handler does not see it."""

    def await_handled(self) -> None:
        """Waits until the handler has run, after a signal."""

    def asleep(self) -> bool:
        """Returns True if the process sleeps in a call that a test makes."""


def state(pid: int) -> str:
    """Returns the letter of the state of a process (proc(5), /proc/PID/stat). Raises OSError: there is no such process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


class PythonSignals:
    """Handles signals in this process."""

    def __init__(self) -> None:
        """Takes this process."""
        self.pid, self._count = os.getpid(), 0
        self._woken, written = pipe()
        os.set_blocking(written, False)
        # The interpreter's C handler writes here as soon as it runs; the Python handler runs later.
        signal.set_wakeup_fd(written, warn_on_full_buffer=False)

    def catch(self, restart: bool) -> None:
        """Installs a handler for SIGUSR1."""
        signal.signal(signal.SIGUSR1, self._handle)
        signal.siginterrupt(signal.SIGUSR1, not restart)

    def _handle(self, *_: object) -> None:
        self._count += 1

    def handled(self) -> int:
        """Returns how many signals it has handled."""
        return self._count

    def handled_at(self) -> int | None:
        """Returns None: the interpreter's handler does not show it."""
        return None

    def await_handled(self) -> None:
        """Waits until the interpreter's C handler has run."""
        os.read(self._woken, 1)

    def asleep(self) -> bool:
        """Returns True if this process sleeps, which it does in no other call while a test waits for that."""
        return state(self.pid) == "S"


class AgentSignals:
    """Handles signals in an agent that is a process of this kernel, by machine code."""

    def __init__(self, agent: Driver, pid: int) -> None:
        """Takes an agent that has nothing to do, and its id as this kernel knows it.

        Not applicable where /proc does not show in what call it sleeps.
        """
        self.pid, self._agent, self._page = pid, agent, 0
        try:
            idle, before = self._call(), list[str]()
            # An emulator may sleep for itself between two instructions: the same call is seen twice.
            while not idle or idle != before or state(self.pid) != "S":
                os.sched_yield()
                idle, before = self._call(), idle
        except OSError as error:
            not_applicable(f"/proc/PID/syscall, which shows when the caller sleeps in a call: {error.strerror}")
        #: The number and the first word of the call that it waits for requests by, and the instruction after it.
        self._idle, self.idle_at = idle[:2], int(idle[-1], 16)

    def catch(self, restart: bool) -> None:
        """Installs a handler for SIGUSR1."""
        space = AgentSpace(self._agent)
        if not self._page:
            self._page = space.map_low(2 * PAGE)
            space.write(self._page, HANDLER[32][0])
            space.protect(self._page, PAGE, PROT_READ | PROT_EXEC)
        flags = _SA_RESTORER | (_SA_RESTART if restart else 0)
        action = self._page + PAGE + 4
        space.write(action, _ACTION.pack(self._page, flags, self._page + _RESTORER, 0))
        self._agent.post_call("rt_sigaction", 0, _RT_SIGACTION, signal.SIGUSR1, action, 0, 8)
        self._agent.flush()

    def handled(self) -> int:
        """Returns how many signals it has handled, 0 without a handler."""
        return int.from_bytes(self._agent.read(self._page + PAGE, 4), "little") if self._page else 0

    def handled_at(self) -> int | None:
        """Returns the address of the instruction that the last signal preceded, 0 without a handler."""
        return int.from_bytes(self._agent.read(self._page + PAGE + _NEXT, 4), "little") if self._page else 0

    def await_handled(self) -> None:
        """Returns at once: from the signal on it does not sleep, until it sleeps in a call again."""

    def asleep(self) -> bool:
        """Returns True if the agent sleeps, and not because it waits for a request."""
        call = self._call()
        return bool(call) and call[:2] != self._idle and state(self.pid) == "S" and self._call() == call

    def _call(self) -> list[str]:
        """Returns the call that the agent is in, its words, stack and instruction pointer, [] if it runs."""
        fields = Path(f"/proc/{self.pid}/syscall").read_text().split()
        return fields if len(fields) > 1 else []


def pipe() -> tuple[int, int]:
    """Returns the ends of a pipe, with high numbers."""
    ends = os.pipe()
    read, write = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _HIGH) for end in ends)
    for end in ends:
        os.close(end)
    return read, write
