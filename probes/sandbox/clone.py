"""A fork whose child is born into new namespaces, with an init of its own: see probes/entry/machine/clone.s."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass

from probes.entry.gate import WORD
from probes.entry.machine.code import CLONE
from probes.entry.memory import PAGE, PROT_EXEC, PROT_READ, map_low, protect

_PR_GET_TID_ADDRESS = 40
_STACK = 2 * PAGE


@dataclass(frozen=True)
class Child:
    """`child` is 0 in the newborn. `init` is the first process of its pid namespace, 0 if it has none of its own."""

    child: int
    init: int = 0


class _Code:
    """The machine code, with stacks for the two that share our memory. Made once."""

    def __init__(self) -> None:
        code, _ = CLONE[WORD]
        page = map_low(PAGE)
        ctypes.memmove(page, code, len(code))
        protect(page, PAGE, PROT_READ | PROT_EXEC)
        # It keeps the interpreter's lock, as fork does.
        self.enter = ctypes.PYFUNCTYPE(ctypes.c_long, ctypes.c_void_p)(page)
        self.frame = (ctypes.c_size_t * 11)()
        self.stacks = map_low(2 * _STACK)
        address = ctypes.c_size_t()
        # The C library keeps the thread's id where the kernel was told to clear it.
        found = ctypes.CDLL(None).prctl(_PR_GET_TID_ADDRESS, ctypes.byref(address), 0, 0, 0) == 0
        self.tid_address = address.value if found else 0
        python = ctypes.pythonapi
        around = (python.PyOS_BeforeFork, python.PyOS_AfterFork_Child, python.PyOS_AfterFork_Parent)
        self.around_fork = [ctypes.cast(function, ctypes.c_void_p).value or 0 for function in around]


_code: _Code | None = None


def fork(namespaces: int, init: bool) -> Child:
    """Forks into new namespaces (flags of unshare(2)). With `init`, they have a pid namespace, and a first process that
    dies with us or by `end`. Raises OSError: EPERM without privileges, ENOSPC or EUSERS at a limit."""
    global _code
    if _code is None:
        _code = _Code()
    frame = _code.frame
    init_stack = _code.stacks + 2 * _STACK if init else 0
    frame[:] = [0, namespaces, _code.stacks + _STACK, init_stack, _code.tid_address, 0, 0, 0, *_code.around_fork]
    sys.stdout.flush()
    sys.stderr.flush()
    helper: int = _code.enter(ctypes.addressof(frame))
    if helper == 0:
        return Child(0)
    if helper < 0:
        raise OSError(-helper, os.strerror(-helper))
    os.waitpid(helper, 0)
    error = ctypes.c_long(frame[5]).value
    born = Child(frame[7], frame[6])
    if error:
        end(born)
        raise OSError(-error, f"leaving the caller's namespaces: {os.strerror(-error)}")
    return born


def kill(pid: int) -> None:
    """SIGKILL for a process; none for 0, or for one that is gone."""
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def end(born: Child) -> None:
    """Ends the init of a child that has ended, and whatever else is left in its pid namespace."""
    kill(born.init)
    if born.init:
        with suppress(ChildProcessError):
            os.waitpid(born.init, 0)
