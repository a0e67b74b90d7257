"""Fork into new namespaces, with an init process: see probes/entry/machine/clone.s.

Whatever clone(2) returns, the process that was started returns as the parent: an emulator may return 0 in it, or the id of
a child in the child.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import sys
import warnings
from contextlib import suppress
from dataclasses import dataclass

from probes.entry.gate import WORD
from probes.entry.machine.code import CLONE, INIT
from probes.entry.memory import PAGE, PROT_EXEC, PROT_READ, map_low, protect
from probes.trace.processes import kill

_PR_GET_TID_ADDRESS = 40
_STACK = 2 * PAGE
_MFD_EXEC = 0x10
#: Exit status of a process that is not the caller, but got what the caller should have got.
_NOT_STARTED = 70
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


@dataclass(frozen=True)
class Child:
    """Holds the process ids of a forked child and of the init of its pid namespace.

    `pid` is 0 in the child itself, as from fork(2). `init` is 0 without a new pid namespace. `lifetime` is the write end of
    a pipe from which init reads: init ends when it is closed, at the latest when this process ends.
    """

    pid: int
    init: int = 0
    lifetime: int = -1


class _Code:
    """Holds the machine code, its frame, the helper's stack, and the program of init."""

    def __init__(self) -> None:
        code, _ = CLONE[WORD]
        page = map_low(PAGE)
        ctypes.memmove(page, code, len(code))
        protect(page, PAGE, PROT_READ | PROT_EXEC)
        # PYFUNCTYPE keeps the interpreter's lock during the call, as os.fork does.
        self.enter = ctypes.PYFUNCTYPE(ctypes.c_long, ctypes.c_void_p)(page)
        self.frame = (ctypes.c_size_t * 14)()
        self.stack = map_low(_STACK)
        self.argv = (ctypes.c_char_p * 2)(b"socketcall-init", None)
        self.program = -1
        address = ctypes.c_size_t()
        # The C library caches the thread's id at its clear_child_tid address: the child's copy must have the child's id.
        found = ctypes.CDLL(None).prctl(_PR_GET_TID_ADDRESS, ctypes.byref(address), 0, 0, 0) == 0
        self.tid_address = address.value if found else 0
        python = ctypes.pythonapi
        hooks = (python.PyOS_BeforeFork, python.PyOS_AfterFork_Child, python.PyOS_AfterFork_Parent)
        self.fork_hooks = [ctypes.cast(function, ctypes.c_void_p).value or 0 for function in hooks]

    def init_program(self) -> int:
        """Return a descriptor of init's program, a sealed file in memory. Raises OSError."""
        if self.program < 0:
            flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
            try:
                program = os.memfd_create("socketcall-init", flags | _MFD_EXEC)
            except OSError:  # Linux before 6.3 does not know the flag.
                program = os.memfd_create("socketcall-init", flags)
            os.write(program, INIT[WORD][0])
            # No process of a sandbox may trace init or open its memory and descriptors: init executes what it may not
            # read, before its user namespace has ids, so the kernel asks for CAP_SYS_PTRACE in the namespace above.
            os.fchmod(program, 0o111)
            fcntl.fcntl(program, fcntl.F_ADD_SEALS, _SEALS)
            self.program = program
        return self.program


_code: _Code | None = None


def fork(namespaces: int, init: bool) -> Child:
    """Fork a child into new namespaces (flags of unshare(2)).

    With `init`, which needs CLONE_NEWPID among the flags, the pid namespace has an init, which dies with this process or
    by `end`. Raises OSError: EPERM without privileges, ENOSPC or EUSERS at a limit of namespaces, EAGAIN at one of
    processes, ENOSYS if clone(2) does not do what it documents.
    """
    global _code
    if not namespaces:
        return Child(_plain_fork())
    if _code is None:
        _code = _Code()
    read_end, lifetime = _pipe() if init else (-1, -1)
    try:
        program = _code.init_program() if init else -1
        child = _enter(_code, namespaces, program, read_end)
    except BaseException:
        _close(lifetime)
        raise
    finally:
        _close(read_end)
    if child.pid:
        return Child(child.pid, child.init, lifetime)
    _close(lifetime)
    _close(_code.program)
    _code.program = -1
    return child


def _plain_fork() -> int:
    """Fork, and return the child's id, 0 in the child. Raises OSError. It works where clone(2) shares no memory, too."""
    sys.stdout.flush()
    sys.stderr.flush()
    started = os.getpid()
    with warnings.catch_warnings():
        # Python 3.12 warns of every fork beside a thread; see above for what a child needs.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if (os.getpid() == started) == bool(child):
        return child
    if child:
        os._exit(_NOT_STARTED)
    raise OSError(errno.ENOSYS, "fork returned 0 in the process that called it")


def _enter(code: _Code, namespaces: int, program: int, lifetime: int) -> Child:
    code.frame[:] = [
        0, namespaces, code.stack + _STACK, program, code.tid_address, 0, 0, 0, *code.fork_hooks, lifetime,
        ctypes.addressof(code.argv), os.getpid(),
    ]  # fmt: skip
    sys.stdout.flush()
    sys.stderr.flush()
    helper: int = code.enter(ctypes.addressof(code.frame))
    if helper == 0:
        return Child(0)
    if helper < 0:
        raise OSError(-helper, os.strerror(-helper))
    _, status = os.waitpid(helper, 0)
    error = ctypes.c_long(code.frame[5]).value
    child = Child(code.frame[7], code.frame[6])
    if not error and not child.pid:
        raise OSError(errno.ENOSYS, f"clone(2) made a process that shares no memory, as emulators do; {_ended(status)}")
    if error:
        end(child)
        what = "cannot execute the init of a pid namespace" if child.init else "cannot leave the caller's namespaces"
        raise OSError(-error, f"{what}: {os.strerror(-error)}")
    return child


def _ended(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)} ended it"
    number = os.WEXITSTATUS(status)
    if number in (0, _NOT_STARTED):
        return "it did not know itself for a child" if number else "it reported no error"
    return f"it got: {os.strerror(number)}"


def _pipe() -> tuple[int, int]:
    """Return the ends of a pipe. The read end is not descriptor 0, onto which init duplicates it."""
    read_end, write_end = os.pipe()
    if read_end == 0:
        read_end = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3)
        os.close(0)
    return read_end, write_end


def _close(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)


def end(child: Child) -> None:
    """Kill and reap a child that was not reaped, then its init, and with it all processes left in its pid namespace.

    Either may be missing, after a fork that failed half way.
    """
    _close(child.lifetime)
    if child.pid:
        _reap(child.pid)
    if child.init:
        kill(child.init)
        with suppress(ChildProcessError):
            os.waitpid(child.init, 0)


def _reap(pid: int) -> None:
    flags = os.WNOHANG
    # A signal may have ended the command before the child was supervised, and an init ends after its child is reaped.
    with suppress(ChildProcessError):
        while True:
            ended, status = os.waitpid(pid, flags)
            if ended and (os.WIFEXITED(status) or os.WIFSIGNALED(status)):
                return
            kill(pid)
            flags = 0
