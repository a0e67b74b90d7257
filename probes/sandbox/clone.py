"""Fork into new namespaces, with an init process: see probes/entry/machine/clone.s."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from dataclasses import dataclass

from probes.entry.gate import WORD
from probes.entry.machine.code import CLONE
from probes.entry.memory import PAGE, PROT_EXEC, PROT_READ, map_low, protect
from probes.trace.processes import kill

_PR_GET_TID_ADDRESS = 40
_STACK = 2 * PAGE


@dataclass(frozen=True)
class Child:
    """Holds the process ids of a forked child and of the init of its pid namespace.

    `pid` is 0 in the child itself, as from fork(2). `init` is 0 without a new pid namespace.
    """

    pid: int
    init: int = 0


class _Code:
    """Holds the machine code, its frame, and stacks for the two processes that share this process's memory."""

    def __init__(self) -> None:
        code, _ = CLONE[WORD]
        page = map_low(PAGE)
        ctypes.memmove(page, code, len(code))
        protect(page, PAGE, PROT_READ | PROT_EXEC)
        # PYFUNCTYPE keeps the interpreter's lock during the call, as os.fork does.
        self.enter = ctypes.PYFUNCTYPE(ctypes.c_long, ctypes.c_void_p)(page)
        self.frame = (ctypes.c_size_t * 11)()
        self.stacks = map_low(2 * _STACK)
        address = ctypes.c_size_t()
        # The C library caches the thread's id at its clear_child_tid address: the child's copy must have the child's id.
        found = ctypes.CDLL(None).prctl(_PR_GET_TID_ADDRESS, ctypes.byref(address), 0, 0, 0) == 0
        self.tid_address = address.value if found else 0
        python = ctypes.pythonapi
        hooks = (python.PyOS_BeforeFork, python.PyOS_AfterFork_Child, python.PyOS_AfterFork_Parent)
        self.fork_hooks = [ctypes.cast(function, ctypes.c_void_p).value or 0 for function in hooks]


_code: _Code | None = None


def fork(namespaces: int, init: bool) -> Child:
    """Fork a child into new namespaces (flags of unshare(2)).

    With `init`, which needs CLONE_NEWPID among the flags, the pid namespace has an init, which dies with this process or
    by `end`. Raises OSError: EPERM without privileges, ENOSPC or EUSERS at a limit of namespaces.
    """
    global _code
    if _code is None:
        _code = _Code()
    frame = _code.frame
    init_stack = _code.stacks + 2 * _STACK if init else 0
    frame[:] = [0, namespaces, _code.stacks + _STACK, init_stack, _code.tid_address, 0, 0, 0, *_code.fork_hooks]
    sys.stdout.flush()
    sys.stderr.flush()
    helper: int = _code.enter(ctypes.addressof(frame))
    if helper == 0:
        return Child(0)
    if helper < 0:
        raise OSError(-helper, os.strerror(-helper))
    os.waitpid(helper, 0)
    error = ctypes.c_long(frame[5]).value
    child = Child(frame[7], frame[6])
    if error:
        end(child)
        raise OSError(-error, f"cannot leave the caller's namespaces: {os.strerror(-error)}")
    return child


def end(child: Child) -> None:
    """Kill the init of a child that has ended, and with it all processes left in its pid namespace."""
    kill(child.init)
    if child.init:
        with suppress(ChildProcessError):
            os.waitpid(child.init, 0)
