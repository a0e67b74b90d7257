"""Turns the signals that end a command (SIGINT, SIGTERM, SIGHUP) into one exception, in the process that was started.

This module imports little: `handled` is entered before anything else is imported.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

#: The signals by which a person, a supervisor or a closing terminal ends a command.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: The variable that asks for the traceback of an error that no command expects.
TRACEBACK = "SOCKETCALL_TRACEBACK"
#: Seconds within which further signals are the same request: a supervisor signals a process and then its group.
_SAME_REQUEST = 1.0


class EndedBySignal(KeyboardInterrupt):
    """Is raised in the main thread when a signal ends the command. `number` is the signal."""

    def __init__(self, number: int) -> None:
        """Names the signal."""
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number


class _State:
    """Holds what the handler needs: the process that installed it, and the first signal that it received."""

    pid = 0
    received = 0
    at = 0.0
    #: The signals that are handled: those that the parent process did not ignore.
    handled: tuple[signal.Signals, ...] = ()
    registered = False
    #: The status of the command is determined: further signals are ignored.
    ended = False
    #: What is done at a signal instead of raising an exception, inside `ending_by`.
    instead: Callable[[], None] | None = None


def status_of(error: KeyboardInterrupt) -> int:
    """Returns the exit status of a command that a signal ended: 128+N."""
    return 128 + (error.number if isinstance(error, EndedBySignal) else signal.SIGINT)


@contextmanager
def handled() -> Iterator[None]:
    """Raises EndedBySignal for each signal of ENDING in a `with` block, except those that this process inherited ignored.

    After the block these signals end the process by their default action, unless `ignore` was called. A forked child has
    Python's handlers.
    """
    _State.pid, _State.received, _State.ended = os.getpid(), 0, False
    _State.handled = tuple(number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN)
    if not _State.registered:
        os.register_at_fork(after_in_child=_restore)
        _State.registered = True
    hook = sys.unraisablehook
    sys.unraisablehook = _quiet
    for number in _State.handled:
        signal.signal(number, _end)
    try:
        yield
    finally:
        if is_started() and not _State.ended:
            for number in _State.handled:
                signal.signal(number, signal.SIG_DFL)
        sys.unraisablehook = hook


def ignore() -> None:
    """Ignores the signals from here to the end of the process: the status of the command is determined."""
    _State.ended = True
    for number in _State.handled:
        signal.signal(number, signal.SIG_IGN)


def raise_received() -> None:
    """Raises EndedBySignal if a signal was received: Python drops an exception that is raised in a destructor."""
    if _State.received and is_started():
        raise EndedBySignal(_State.received)


def is_started() -> bool:
    """Returns True in the process that entered `handled`, False in a forked one."""
    return os.getpid() == _State.pid


@contextmanager
def ending_by(end: Callable[[], None]) -> Iterator[None]:
    """Calls `end` at each signal of ENDING in a `with` block, which that ends, and raises EndedBySignal after the block.

    An exception between the return of waitpid(2) and the use of its result would lose the result.
    """
    _State.instead = end
    try:
        yield
    finally:
        _State.instead = None
        raise_received()


@contextmanager
def deferred() -> Iterator[None]:
    """Blocks the signals of ENDING in a `with` block, so that it is not left half done."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(number: int, _: FrameType | None) -> None:
    if _State.ended:
        return
    if _State.instead is not None:
        _State.received, _State.at = _State.received or number, time.monotonic()
        _State.instead()
        return
    if _State.received and time.monotonic() - _State.at < _SAME_REQUEST:
        return
    _State.received, _State.at = number, time.monotonic()
    raise EndedBySignal(number)


def _restore() -> None:
    """Gives a forked child the handlers of a Python process that installed none."""
    for number in _State.handled:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    _State.handled, _State.received, _State.pid, _State.instead = (), 0, 0, None


def _quiet(unraisable: sys.UnraisableHookArgs) -> None:
    """Prints what Python cannot raise, but for the end by a signal, which `raise_received` raises later."""
    error: BaseException | None = unraisable.exc_value
    if not isinstance(error, EndedBySignal):
        sys.__unraisablehook__(unraisable)
