"""Calls that block: a child acts on the caller, or on its sockets, only once it sleeps in the call."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from probes.testing.expect import Broke
from probes.testing.signals import Signals, pipe, state

#: A time after which a call gives up, as struct timeval of SO_RCVTIMEO and SO_SNDTIMEO, and in seconds. What a call takes at
#: least is judged, never what it takes at most.
SHORT, LEAST = struct.pack("<ii", 0, 10_000), 0.010
#: What a step does; it runs in a child of this process, which has inherited every descriptor.
Step = Callable[[], object]


class Meanwhile:
    """Acts on the process that makes the calls while it is blocked in one.

    `with meanwhile(*steps):` starts a child of this process that takes one step after the other, each once the caller
    sleeps (again) in the call that the body makes. It waits for that state, never for a time; it takes no further step when
    the body is over. `signal` and `stop` are steps; so is any function.
    """

    def __init__(self, signals: Signals) -> None:
        """Takes the process to act on."""
        self._signals = signals

    def catch(self, restart: bool) -> None:
        """Installs a handler for SIGUSR1 in the caller, with SA_RESTART or without (sigaction(2))."""
        self._signals.catch(restart)

    def handled(self) -> int:
        """Returns how many signals the handler has handled."""
        return self._signals.handled()

    def handled_at(self) -> int | None:
        """Returns the address of the instruction that the last signal preceded, None where the handler does not see it."""
        return self._signals.handled_at()

    def send(self) -> None:
        """Sends SIGUSR1. A step."""
        os.kill(self._signals.pid, signal.SIGUSR1)

    def signal(self) -> None:
        """Sends SIGUSR1 and waits until its handler has run. A step."""
        self.send()
        self._signals.await_handled()

    def stop(self) -> None:
        """Stops the process by SIGSTOP, waits until it is stopped, and continues it by SIGCONT. A step."""
        os.kill(self._signals.pid, signal.SIGSTOP)
        while state(self._signals.pid) not in "tT":
            os.sched_yield()
        os.kill(self._signals.pid, signal.SIGCONT)

    @contextmanager
    def __call__(self, *steps: Step, without: int | None = None) -> Iterator[None]:
        """Starts the child, and reaps it after the body. Raises Broke if a step failed.

        `without` is a descriptor of the caller that the body closes: a copy in the child would keep the socket open.
        """
        # The child writes an error to the first pipe; the second one reaches its end when the body is over, the third one
        # when the child has no copy of the descriptor.
        (error_read, error_write), (over_read, over_write), (closed_read, closed_write) = pipe(), pipe(), pipe()
        child = os.fork()
        if child == 0:
            os.close(error_read)
            os.close(over_write)
            if without is not None and self._signals.pid == os.getppid():
                os.close(without)
            os.close(closed_write)
            self._take(steps, error_write, over_read)
        for end in (error_write, over_read, closed_write):
            os.close(end)
        try:
            os.read(closed_read, 1)
            os.close(closed_read)
            yield
        finally:
            os.close(over_write)
            with os.fdopen(error_read) as file:
                error = file.read()
            os.waitpid(child, 0)
        if error:
            raise Broke(f"a step failed while the caller was blocked: {error}")

    def _take(self, steps: tuple[Step, ...], error_write: int, over_read: int) -> NoReturn:
        try:
            for step in steps:
                while not self._signals.asleep():
                    if select.select([over_read], [], [], 0)[0]:
                        os._exit(0)
                    os.sched_yield()
                step()
            # The child must outlive the call: its end sends SIGCHLD, which would interrupt the call.
            os.read(over_read, 1)
        except BaseException as error:
            os.write(error_write, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)


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
