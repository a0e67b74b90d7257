"""Calls that block, and what somebody else does meanwhile: a child that acts only once we really are blocked."""

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

#: Where descriptors of our own begin.
_HIGH = 500
#: What a step does; it runs in the child, which has every descriptor that we had.
Step = Callable[[], object]


class Meanwhile:
    """What happens to this process while it is blocked.

    `with meanwhile(*steps):` starts a child that does one step after the other, each when the process is asleep (again)
    in the call that the body makes. No time is involved. `signal` and `stop` are steps; so is any function.
    """

    def __init__(self) -> None:
        self._target = os.getpid()
        self._woken, written = _pipe()
        os.set_blocking(written, False)
        # The interpreter's handler writes here when it runs, long before the function in Python.
        signal.set_wakeup_fd(written, warn_on_full_buffer=False)

    def catch(self, restart: bool) -> None:
        """From now on SIGUSR1 has a handler, with SA_RESTART or without (sigaction(2))."""
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.siginterrupt(signal.SIGUSR1, not restart)

    def signal(self) -> None:
        """A step: sends SIGUSR1, and waits until its handler has run."""
        os.kill(self._target, signal.SIGUSR1)
        os.read(self._woken, 1)

    def stop(self) -> None:
        """A step: stops the process by SIGSTOP, waits until it is stopped, and has it go on by SIGCONT."""
        os.kill(self._target, signal.SIGSTOP)
        self._await("tT")
        os.kill(self._target, signal.SIGCONT)

    @contextmanager
    def __call__(self, *steps: Step) -> Iterator[None]:
        """Starts the child; after the body it is gone. Raises Broke if a step failed."""
        (told, tell), (held, hold) = _pipe(), _pipe()
        child = os.fork()
        if child == 0:
            os.close(told)
            os.close(hold)
            self._meddle(steps, tell, held)
        os.close(tell)
        os.close(held)
        try:
            yield
        finally:
            os.close(hold)
            with os.fdopen(told) as answer:
                error = answer.read()
            os.waitpid(child, 0)
        if error:
            raise Broke(f"what was to happen meanwhile did not: {error}")

    def _meddle(self, steps: tuple[Step, ...], tell: int, held: int) -> NoReturn:
        try:
            for step in steps:
                self._await("S")
                step()
            # Not before the call is over: the end of a child is a signal too.
            os.read(held, 1)
        except BaseException as error:
            os.write(tell, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)

    def _await(self, states: str) -> None:
        """Waits until the process is in one of these states (proc(5), /proc/PID/stat)."""
        stat = Path(f"/proc/{self._target}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] not in states:
            os.sched_yield()


def _pipe() -> tuple[int, int]:
    # Out of the way: a call that gives descriptors gives the same with us as without.
    ends = os.pipe()
    read, write = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _HIGH) for end in ends)
    for end in ends:
        os.close(end)
    return read, write


def fill(end: socket.socket) -> None:
    """Sends on a stream until nothing more fits: the next call that sends blocks."""
    end.setblocking(False)
    for size in (1 << 16, 1 << 10, 1):
        with suppress(BlockingIOError):
            while True:
                end.send(bytes(size))
    end.setblocking(True)


def drain(end: socket.socket) -> None:
    """Receives all there is on a stream: a call that blocks at the other end goes on."""
    end.setblocking(False)
    with suppress(BlockingIOError):
        while end.recv(1 << 20):
            pass
    end.setblocking(True)
