"""Calls that block: a child acts on this process, or on its sockets, only once it sleeps in the call."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from probes.testing.expect import Broke

#: Descriptors of the suite start here, so that a call under test gets the same numbers as without them.
_HIGH = 500
#: What a step does; it runs in the child, which has inherited every descriptor.
Step = Callable[[], object]


class Meanwhile:
    """Acts on this process while it is blocked.

    `with meanwhile(*steps):` starts a child that takes one step after the other, each once the process sleeps (again)
    in the call that the body makes. It waits for that state, never for a time. `signal` and `stop` are steps; so is any
    function.
    """

    def __init__(self) -> None:
        """Takes the calling process as the one to act on."""
        self._target = os.getpid()
        self._woken, written = _pipe()
        os.set_blocking(written, False)
        # The interpreter's C handler writes here as soon as it runs; the Python handler runs later.
        signal.set_wakeup_fd(written, warn_on_full_buffer=False)

    def catch(self, restart: bool) -> None:
        """Installs a handler for SIGUSR1, with SA_RESTART or without (sigaction(2))."""
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.siginterrupt(signal.SIGUSR1, not restart)

    def signal(self) -> None:
        """Sends SIGUSR1 and waits until its handler has run. A step."""
        os.kill(self._target, signal.SIGUSR1)
        os.read(self._woken, 1)

    def stop(self) -> None:
        """Stops the process by SIGSTOP, waits until it is stopped, and continues it by SIGCONT. A step."""
        os.kill(self._target, signal.SIGSTOP)
        self._await("tT")
        os.kill(self._target, signal.SIGCONT)

    @contextmanager
    def __call__(self, *steps: Step) -> Iterator[None]:
        """Starts the child, and reaps it after the body. Raises Broke if a step failed."""
        # The child writes an error to the first pipe; the second one reaches its end when the body is over.
        (error_read, error_write), (over_read, over_write) = _pipe(), _pipe()
        child = os.fork()
        if child == 0:
            os.close(error_read)
            os.close(over_write)
            self._take(steps, error_write, over_read)
        os.close(error_write)
        os.close(over_read)
        try:
            yield
        finally:
            os.close(over_write)
            with os.fdopen(error_read) as pipe:
                error = pipe.read()
            os.waitpid(child, 0)
        if error:
            raise Broke(f"a step failed while this process was blocked: {error}")

    def _take(self, steps: tuple[Step, ...], error_write: int, over_read: int) -> NoReturn:
        try:
            for step in steps:
                self._await("S")
                step()
            # The child must outlive the call: its end sends SIGCHLD, which would interrupt the call.
            os.read(over_read, 1)
        except BaseException as error:
            os.write(error_write, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)

    def _await(self, states: str) -> None:
        """Waits until the process is in one of these states (proc(5), /proc/PID/stat)."""
        stat = Path(f"/proc/{self._target}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] not in states:
            os.sched_yield()


def _pipe() -> tuple[int, int]:
    ends = os.pipe()
    read, write = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _HIGH) for end in ends)
    for end in ends:
        os.close(end)
    return read, write


def fill(end: socket.socket) -> None:
    """Sends on a stream socket until its buffers are full: the next call that sends blocks."""
    end.setblocking(False)
    for size in (1 << 16, 1 << 10, 1):
        with suppress(BlockingIOError):
            while True:
                end.send(bytes(size))
    end.setblocking(True)


def drain(end: socket.socket) -> None:
    """Receives everything queued on a stream socket: a sender that is blocked at the other end goes on."""
    end.setblocking(False)
    with suppress(BlockingIOError):
        while end.recv(1 << 20):
            pass
    end.setblocking(True)
