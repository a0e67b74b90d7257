"""Programs that are traced from their first instruction, and processes that are traced from now on."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from probes.trace import ptrace, seccomp
from probes.trace.loop import Tracer
from probes.trace.processes import field, has_ended, threads
from probes.trace.traced_call import FILTERING, socket_numbers

#: As env(1) has them.
CANNOT_TRACE, CANNOT_EXECUTE, NOT_FOUND = 125, 126, 127
#: What a terminal or a supervisor ends a program with.
ENDING = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
#: Python ignores these, and programs would inherit that.
_RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)
_PREPARE, _EXECUTE = b"p", b"x"


class CannotCapture(Exception):
    """A capture cannot be made. `status` is the exit status that says so, the text one line: what, why, what to do."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def filtered() -> bool:
    """Whether this process is under a seccomp filter already (a container's): what that refuses never reaches one that
    we add, so a tracer has to stop at every call instead."""
    return field(os.getpid(), "Seccomp") not in ("", "0")


def spawn(tracer: Tracer, argv: Sequence[str]) -> int:
    """Starts a program and leaves it stopped before its first instruction (`tracer.resume` lets it go). Returns its
    process id. Signals that end programs wait meanwhile. Raises CannotCapture; then nothing is left of it."""
    program = seccomp.of_numbers(_stops()) if not tracer.every_call else []
    go, failure = os.pipe(), os.pipe()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        try:
            child = os.fork()
        except OSError as error:
            raise CannotCapture(
                CANNOT_TRACE, f"cannot start a process: {os.strerror(error.errno or 0)}; see ulimit -u"
            ) from error
        if child == 0:
            os.close(go[1])
            os.close(failure[0])
            _become(argv, program, mask, go[0], failure[1])
        os.close(go[0])
        os.close(failure[1])
        try:
            return _begun(tracer, child, argv[0], go[1], failure[0])
        finally:
            os.close(failure[0])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _begun(tracer: Tracer, child: int, name: str, go: int, failure: int) -> int:
    try:
        tracer.seize(child)
    except OSError as error:
        os.close(go)  # It ends by itself then.
        os.waitpid(child, 0)
        raise CannotCapture(CANNOT_TRACE, f"cannot trace a program: {_forbidden(error)}") from error
    os.write(go, b"g")
    os.close(go)
    if tracer.run_to_exec(child):
        return child
    said = os.read(failure, 64)
    if not said:
        raise CannotCapture(CANNOT_TRACE, f"{name}: it was ended by a signal before it began; start it again")
    number = int(said[1:])
    if said[:1] == _EXECUTE:
        raise _unexecuted(name, number)
    raise CannotCapture(
        CANNOT_TRACE,
        f"cannot install a seccomp filter: {os.strerror(number)}; a kernel with CONFIG_SECCOMP_FILTER is needed",
    )


def _stops() -> dict[int, set[int]]:
    return {arch: numbers | set(FILTERING[arch]) for arch, numbers in socket_numbers().items()}


def _become(
    argv: Sequence[str], program: list[bytes], mask: set[int | signal.Signals], go: int, failure: int
) -> NoReturn:
    stage = _PREPARE
    try:
        ptrace.prctl(ptrace.PR_SET_PDEATHSIG, signal.SIGKILL)
        _restore_signals(mask)
        if os.read(go, 1) != b"g":
            os._exit(CANNOT_TRACE)
        # It is traced now, and ends with its tracer by that; the program inherits no such wish.
        ptrace.prctl(ptrace.PR_SET_PDEATHSIG, 0)
        if program:
            _filter(program)
        stage = _EXECUTE
        os.execvp(argv[0], list(argv))
    except OSError as error:
        os.write(failure, stage + b"%d" % (error.errno or 0))
    except ValueError:
        os.write(failure, stage + b"%d" % errno.EINVAL)  # a null byte in an argument
    finally:
        os._exit(CANNOT_TRACE)


def _restore_signals(mask: set[int | signal.Signals]) -> None:
    for number in (*ENDING, *_RESTORED):
        if signal.getsignal(number) != signal.SIG_IGN or number in _RESTORED:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _filter(program: list[bytes]) -> None:
    try:
        # Whoever may do so installs it without a promise that would take the program's own set-user-ID bits away.
        ptrace.set_filter(program, no_new_privs=False)
    except PermissionError:
        ptrace.set_filter(program)


def _unexecuted(name: str, number: int) -> CannotCapture:
    why = os.strerror(number)
    folders = [""] if "/" in name else os.environ.get("PATH", os.defpath).split(":")
    there = any(os.access(Path(folder, name), os.F_OK) for folder in folders)
    if not there and (number == errno.ENOENT or (number == errno.EACCES and "/" not in name)):
        # (EACCES: a folder of PATH is closed to this user.)
        return CannotCapture(NOT_FOUND, f"{name}: not found; give its path, or add its folder to PATH")
    if number == errno.ENOENT:
        return CannotCapture(
            NOT_FOUND,
            f"{name}: the loader or interpreter that it names is missing; install that (i386 programs: libc6:i386)",
        )
    if number == errno.EACCES and "/" in name and Path(name).is_dir():
        return CannotCapture(CANNOT_EXECUTE, f"{name}: is a folder; name a program in it")
    advice = {
        errno.EACCES: "chmod +x makes it executable, unless its folder or file system forbids that",
        errno.ENOEXEC: "it is no ELF program for this machine and has no #! line; name its interpreter before it",
    }
    return CannotCapture(CANNOT_EXECUTE, f"{name}: cannot be executed: {why}; {advice.get(number, 'see execve(2)')}")


def attach(tracer: Tracer, pid: int) -> None:
    """Begins to trace every thread of a process. Raises CannotCapture; then it goes on untraced."""
    seized: set[int] = set()
    # Threads that a seized thread starts are traced from birth; others may come while we look.
    while new := threads(pid) - seized:
        for tid in new:
            seized.add(tid)
            try:
                tracer.seize(tid)
            except OSError as error:
                if _need_not(tid):
                    continue
                tracer.release()
                tracer.run()
                by = field(tid, "TracerPid")
                why = f"process {by} traces it already; end that" if by not in ("", "0") else _forbidden(error)
                raise CannotCapture(CANNOT_TRACE, f"cannot trace process {pid}: {why}") from error
            # What it waits for in the kernel begins anew, and is seen.
            tracer.interrupt(tid)
    if not tracer.tracees:
        raise CannotCapture(CANNOT_TRACE, f"cannot trace process {pid}: there is none; `ps` lists them")


def _need_not(tid: int) -> bool:
    return has_ended(tid) or field(tid, "TracerPid") == str(os.getpid())


def _forbidden(error: OSError) -> str:
    return (
        f"{os.strerror(error.errno or 0)}; run as root or as its user, and allow ptrace "
        "(kernel.yama.ptrace_scope, the container's profile)"
    )


def wider(pid: int) -> bool:
    """Whether a process runs a 64-bit program and this is 32-bit Python, which cannot see 64-bit registers."""
    try:
        with Path(f"/proc/{pid}/exe").open("rb") as file:
            head = file.read(5)
    except OSError:
        return False
    return ptrace.ARCH_X86_64 not in socket_numbers() and head == b"\x7fELF\x02"
