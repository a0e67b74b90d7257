"""Start a program under a tracer, or attach a tracer to a running process."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from probes.trace import ptrace, seccomp
from probes.trace.loop import Tracer
from probes.trace.processes import has_ended, status_field, threads
from probes.trace.traced_call import FILTER_CALLS, socket_numbers
from probes.trace.unchanged import CLONE_UNTRACED, CLONES, IO_URING_SETUP, X32

#: Exit statuses, those of env(1).
CANNOT_TRACE, CANNOT_EXECUTE, NOT_FOUND = 125, 126, 127
#: Signals by which a terminal or a supervisor ends a program.
ENDING = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
#: Signals that Python ignores: an executed program would inherit that.
_RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)
#: The stage at which the start of a program failed, before the errno in the failure pipe.
_PREPARE, _EXECUTE = b"p", b"x"


class CannotCapture(Exception):
    """Is raised where nothing can be captured. `status` is the exit status for it; the text says what, why, what to do."""

    def __init__(self, status: int, text: str) -> None:
        """Hold the exit status and the one line of text."""
        super().__init__(text)
        self.status = status


def spawn(tracer: Tracer, argv: Sequence[str]) -> int:
    """Start a program, leave it stopped before its first instruction, and return its process id.

    `tracer.resume` continues it. The signals of ENDING are blocked meanwhile. Raises CannotCapture; then the process has
    ended and was waited for.
    """
    if not argv[0]:
        raise CannotCapture(NOT_FOUND, "the name of the program is empty; give its path")
    program = _filter_for(tracer) if not tracer.every_call else []
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
            _execute(argv, program, mask, go[0], failure[1])
        os.close(go[0])
        os.close(failure[1])
        try:
            return _seize(tracer, child, argv[0], go[1], failure[0])
        finally:
            os.close(failure[0])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _seize(tracer: Tracer, child: int, name: str, go: int, failure: int) -> int:
    try:
        tracer.seize(child)
    except OSError as error:
        os.close(go)  # The child exits at end of file.
        os.waitpid(child, 0)
        raise CannotCapture(CANNOT_TRACE, f"cannot trace a program: {_forbidden(error)}") from error
    os.write(go, b"g")
    os.close(go)
    if tracer.run_to_exec(child):
        return child
    report = os.read(failure, 64)
    if not report:
        raise CannotCapture(CANNOT_TRACE, f"{name}: a signal killed it before its first instruction; start it again")
    number = int(report[1:])
    if report[:1] == _EXECUTE:
        raise _exec_error(name, number)
    raise CannotCapture(
        CANNOT_TRACE,
        f"cannot install a seccomp filter: {os.strerror(number)}; boot a kernel with CONFIG_SECCOMP_FILTER",
    )


def _filter_for(tracer: Tracer) -> list[bytes]:
    numbers = socket_numbers() if tracer.numbers is None else tracer.numbers
    stops = {arch: {*wanted, *FILTER_CALLS[arch], CLONES[arch][1], IO_URING_SETUP} for arch, wanted in numbers.items()}
    flags = {arch: (CLONES[arch][0], CLONE_UNTRACED) for arch in stops}
    return seccomp.of_numbers(stops, tracer.operations, flags, {ptrace.ARCH_X86_64: X32})


def _execute(
    argv: Sequence[str], program: list[bytes], mask: set[int | signal.Signals], go: int, failure: int
) -> NoReturn:
    stage = _PREPARE
    try:
        ptrace.prctl(ptrace.PR_SET_PDEATHSIG, signal.SIGKILL)
        _restore_signals(mask)
        if os.read(go, 1) != b"g":
            os._exit(CANNOT_TRACE)
        # From here on PTRACE_O_EXITKILL ends it with its tracer. exec would keep PDEATHSIG, which the program did not set.
        ptrace.prctl(ptrace.PR_SET_PDEATHSIG, 0)
        if program:
            _filter(program)
        stage = _EXECUTE
        os.execvp(argv[0], list(argv))
    except OSError as error:
        os.write(failure, stage + b"%d" % (error.errno or 0))
    except ValueError:
        os.write(failure, stage + b"%d" % errno.EINVAL)  # a NUL byte in an argument
    finally:
        os._exit(CANNOT_TRACE)


def _restore_signals(mask: set[int | signal.Signals]) -> None:
    for number in (*ENDING, *_RESTORED):
        if signal.getsignal(number) != signal.SIG_IGN or number in _RESTORED:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _filter(program: list[bytes]) -> None:
    try:
        # With CAP_SYS_ADMIN no_new_privs is not needed; it would disable set-user-ID bits in the program.
        ptrace.set_filter(program, no_new_privs=False)
    except PermissionError:
        ptrace.set_filter(program)


def _exec_error(name: str, number: int) -> CannotCapture:
    why = os.strerror(number)
    directories = [""] if "/" in name else os.environ.get("PATH", os.defpath).split(":")
    exists = any(os.access(Path(directory, name), os.F_OK) for directory in directories)
    if not exists and (number == errno.ENOENT or (number == errno.EACCES and "/" not in name)):
        # (EACCES: this user may not search a directory of PATH.)
        return CannotCapture(NOT_FOUND, f"{name}: not found; give its path, or add its directory to PATH")
    if number == errno.ENOENT:
        return CannotCapture(
            NOT_FOUND,
            f"{name}: the loader or interpreter that it names is missing; install it (for i386 programs: libc6:i386)",
        )
    if number == errno.EACCES and "/" in name and Path(name).is_dir():
        return CannotCapture(CANNOT_EXECUTE, f"{name}: is a directory; name a program in it")
    advice = {
        errno.EACCES: "make it executable (chmod +x), unless its directory or file system forbids that",
        errno.ENOEXEC: "it is no ELF program for this machine and has no #! line; name its interpreter before it",
    }
    return CannotCapture(CANNOT_EXECUTE, f"{name}: cannot be executed: {why}; {advice.get(number, 'see execve(2)')}")


def attach(tracer: Tracer, pid: int, must: bool = True) -> None:
    """Begin to trace every thread of a process. Raises CannotCapture; then no process is traced any more.

    Without `must`, a process that has ended is left out.
    """
    seized: set[int] = set()
    # Threads that a seized thread starts are traced by PTRACE_O_TRACECLONE; the others may start more meanwhile.
    while new := threads(pid) - seized:
        for tid in new:
            seized.add(tid)
            try:
                tracer.seize(tid, pid)
            except OSError as error:
                if _ended_or_traced(tid):
                    continue
                tracer.release()
                tracer.run()
                by = status_field(tid, "TracerPid")
                why = f"process {by} traces it already; end that process" if by not in ("", "0") else _forbidden(error)
                raise CannotCapture(CANNOT_TRACE, f"cannot trace process {pid}: {why}") from error
            # A call that the thread is blocked in is interrupted and restarted, and then traced.
            tracer.interrupt(tid)
    if must and has_ended(pid) and all(tracee.pid != pid for tracee in tracer.tracees.values()):
        tracer.release()
        tracer.run()
        raise CannotCapture(CANNOT_TRACE, f"cannot trace process {pid}: no such process; `ps -e` lists them")


def _ended_or_traced(tid: int) -> bool:
    # A thread that a seized thread started is traced already.
    return has_ended(tid) or status_field(tid, "TracerPid") == str(os.getpid())


def _forbidden(error: OSError) -> str:
    return (
        f"{os.strerror(error.errno or 0)}; run as root or as its user, and allow ptrace "
        "(kernel.yama.ptrace_scope, the container's profile)"
    )


def is_wider(pid: int) -> bool:
    """Return True for a 64-bit program under 32-bit Python, which cannot read 64-bit registers."""
    try:
        with Path(f"/proc/{pid}/exe").open("rb") as file:
            head = file.read(5)
    except OSError:
        return False
    return ptrace.ARCH_X86_64 not in socket_numbers() and head == b"\x7fELF\x02"
