"""Children of the process that makes the calls of a test: each makes a list of calls by machine code."""

from __future__ import annotations

import os
import shutil
import signal
import struct
from collections.abc import Callable, Sequence
from errno import EPIPE
from socket import AF_UNIX, MSG_NOSIGNAL, SOCK_CLOEXEC, SOCK_STREAM
from typing import SupportsInt

from probes.entry.calls import Calls
from probes.entry.machine.code import CHILD
from probes.testing import procfs
from probes.testing.expect import Broke, need, not_applicable

#: System calls of the i386 table, and a call of it: its number and words.
FORK, WAITPID, EXECVE, PAUSE, KILL, DUP2, CLONE, PRCTL = 2, 7, 11, 29, 37, 63, 120, 172
_PR_SET_PDEATHSIG, _CLONE_FILES = 1, 0x400
Made = Sequence[SupportsInt]
#: The most calls of a child, the fork included.
_MOST = 16
_REGISTERS = 7
#: Releases what was kept.
Release = Callable[[], None]


class Children:
    """Starts children of the caller. `calls` makes what else is needed; its gate is that of the children too."""

    def __init__(self, calls: Calls) -> None:
        """Loads the machine code into the caller. Raises OutOfMemory."""
        self._calls = calls
        self._run = calls.gate.function(CHILD)
        self._plan = calls.memory.alloc(4 * (2 + _REGISTERS * _MOST))

    def begin(self, *made: Made, fork: Made = (FORK,)) -> int:
        """Makes a child by the call `fork`, and returns the result of that. The child is killed when the caller ends.

        It makes some calls, and then exits with the last result, or with its error number.
        """
        rows = [fork, (PRCTL, _PR_SET_PDEATHSIG, signal.SIGKILL), *made]
        words = [word for row in rows for word in (*map(int, row), *[0] * (_REGISTERS - len(row)))]
        self._plan.write(struct.pack(f"<{2 + len(words)}I", 0, len(rows), *(word & 0xFFFFFFFF for word in words)))
        self._run(self._plan.address)
        return int(struct.unpack_from("<i", self._plan.read())[0])

    def start(self, *made: Made, fork: Made = (FORK,)) -> int:
        """Starts a child that makes some calls, and returns its process id. Not applicable if the caller cannot fork."""
        pid = self.begin(*made, fork=fork)
        if pid <= 0:
            not_applicable(f"fork by the caller, for set-up: {os.strerror(-pid)}")
        return pid

    def blocked(self, *made: Made) -> int:
        """Starts a child that shares the caller's descriptors (CLONE_FILES), and returns its id once it sleeps in a call.

        A child whose calls do not block has ended then.
        """
        pid = self.start(*made, fork=(CLONE, _CLONE_FILES | signal.SIGCHLD))
        while procfs.process_state(pid) not in "SZ":
            os.sched_yield()
        return pid

    def ended(self, pid: int) -> int:
        """Waits for the end of a child, and returns its wait status. Raises SetUpRefused."""
        status = self._calls.memory.words(0)
        need(self._calls.gate.enter(WAITPID, pid, status.address, 0), "waitpid")
        return status.words()[0]

    def kept(self) -> Release:
        """Starts a child that sleeps, with every descriptor of the caller; the release ends it."""
        pid = self.start((PAUSE,))

        def release() -> None:
            need(self._calls.gate.enter(KILL, pid, signal.SIGKILL), "kill")
            self.ended(pid)

        return release

    def execute(self, *first: Made) -> tuple[int, Release]:
        """Executes cat in a child, after some calls, and returns its pid once cat runs; the release ends it.

        Not applicable where it cannot be executed. Raises Broke if it does not run.
        """
        calls, program = self._calls, shutil.which("cat")
        if program is None:
            not_applicable("the program cat")
        path, ends = calls.memory.put(os.fsencode(program) + b"\0"), calls.memory.alloc(8)
        need(calls.make("socketpair", AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
        ours, theirs = ends.words()
        arguments = calls.memory.words(path, 0)
        pid = self.start(
            *first, (DUP2, theirs, 0), (DUP2, theirs, 1), (EXECVE, path, arguments, calls.memory.words(0))
        )  # fmt: skip
        need(calls.close(theirs))
        text, room = calls.memory.put(b"x"), calls.memory.alloc(1)
        # The child may have ended already.
        sent = calls.make("send", ours, text, 1, MSG_NOSIGNAL)
        if sent == -EPIPE or calls.make("recv", ours, room, 1, 0) != 1:
            status = os.waitstatus_to_exitcode(self.ended(pid))
            not_applicable(f"a program that the caller executes: {program}: {os.strerror(status)}")
        if room.read() != b"x":
            raise Broke(f"{program}, executed in a child, does not echo its input")

        def release() -> None:
            need(calls.close(ours))
            self.ended(pid)

        return pid, release
