"""Run a test in a process of its own: its namespaces, its tracer, its deadline.

    parent ─┬─ init: first process of the pid namespace, killed by the parent at the end
            └─ child: runs the body, traced by the parent, with all threads and processes that it starts

When init dies the kernel kills every process left in the pid namespace. Init dies when the parent does, whenever that is:
it reads from a pipe whose write end only the parent holds.

The body cannot reach the parent: init and child have address spaces of their own, the child a session and process group of
its own, and it inherits no descriptor but those of standard input, output and error. What it shares with the parent is the
memory of the channel, whose content the parent does not trust, and the file system outside its directory. With isolation
"full" it has no pid of a process outside and no /proc that lists them; a body that unmounts /proc sees the caller's, but
may not open what belongs to a process outside, unless it runs as root in the initial user namespace. With isolation "net"
or "none" it has the caller's pids, /proc and user ids: it can signal and trace every process of that user, the parent too,
and processes that it leaves behind untraced go on.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

from probes.abi.events import Exit, Signal
from probes.abi.record import Record
from probes.entry.gate import Gate, gate, gate_names
from probes.interrupts import deferred, ending_by
from probes.sandbox import clone, namespaces
from probes.sandbox.channel import Channel
from probes.sandbox.clone import Child
from probes.sandbox.link_fault import LinkFault
from probes.sandbox.messages import Message, SandboxFailed
from probes.sandbox.work import made
from probes.trace import ptrace, seccomp
from probes.trace.deadline import Deadline
from probes.trace.injection import Injection
from probes.trace.loop import Tracer
from probes.trace.processes import kill
from probes.trace.traced_call import TracedCall

#: Seconds that a test may take on the reference machine; multiply by `slowness()`.
DEADLINE = 60.0
#: The lowest descriptor that is free when a body begins.
_FIRST = 15
#: How a body is traced that stops at every system call.
_EVERY_CALL = ("calls", "passes")
#: Effective uid and gid of the parent.
_PARENT_IDS = os.geteuid(), os.getegid()


@dataclass(frozen=True)
class SandboxSpec:
    """Describes the sandbox that a body needs.

    `trace`: "gate" traces the calls made through the gates, by a seccomp filter; "calls" stops at every system call, for
    bodies that install filters of their own; "passes", which stands for both where this process is under a filter already,
    does so too, and finds which calls of the gates that filter answers; "none" leaves the body free to be traced by
    another process. `ids`: how many user ids there are (more than one only by root). `initial_user_ns`: no user namespace of
    its own, so that capabilities hold in the initial one; root only. `isolation`: "full"; "net" without a pid namespace and,
    where this process needs none to make the others, without a user namespace; "none" without any, for a run that is
    isolated as a whole. `injection` makes traced calls wrong on purpose, `link_fault`, which is entered, the frames of the
    loopback link.
    """

    trace: str = "gate"
    ids: int = 1
    initial_user_ns: bool = False
    isolation: str = "full"
    injection: Injection | None = None
    link_fault: LinkFault | None = None


@dataclass
class SandboxResult:
    """Holds the messages of a body, its calls in the order of their exits, and its signals.

    `status` is its wait status, None if it was not reaped. `late`: it was killed at the deadline. `damage` says what is
    wrong with the channel after the messages, "" if nothing is.
    `seconds` is the time that it took, with its sandbox.
    """

    messages: list[Message]
    calls: list[TracedCall] = field(default_factory=list)
    signals: list[Signal] = field(default_factory=list)
    status: int | None = None
    late: bool = False
    damage: str = ""
    seconds: float | None = None

    def records(self) -> list[Record]:
        """Return the records of the calls in the order of their entries."""
        return [call.record() for call in sorted(self.calls, key=lambda call: call.t_in)]


def sees_other_ids(spec: SandboxSpec) -> bool:
    """Return True if the memory of a body can be read that has changed to another user id.

    In a user namespace that this process made it has every capability; without one a container may have taken this one away.
    """
    own = not spec.initial_user_ns and namespaces.needs_user(spec.isolation)
    return own or spec.trace == "none" or namespaces.has_capabilities("CAP_SYS_PTRACE")


class CannotSandbox(Exception):
    """Is raised when the sandbox could not be made. The text says what failed, and why."""


class CannotTrace(CannotSandbox):
    """Is raised when the body could not be traced."""


def run(
    body: Callable[[], None],
    spec: SandboxSpec,
    channel: Channel,
    work: Path,
    deadline: float | None,
    keep: Collection[int] = (),
    gates: Sequence[Gate] = (),
) -> SandboxResult:
    """Run a body in a sandbox, and return when all its processes have ended.

    The body works in an empty tmpfs, its current directory and TMPDIR, or where it has no mounts of its own in `work`,
    an empty directory or the path of one that is made if it is needed. The body sends its
    messages through `channel`. If the sandbox cannot be completed from inside, the body does not run, and the only
    message is SandboxFailed. `deadline` is in seconds, None for none. `keep` are descriptors that the body inherits besides
    0, 1 and 2. `gates` are those of processes that the body starts: their calls are traced as those of this process's own.
    Raises CannotSandbox if the sandbox could not be made, CannotTrace if its process could not be traced.
    """
    channel.clear()
    # (Asked here in any case: the child may have filters of its own when it asks.)
    if seccomp.is_filtered() and spec.trace == "gate":
        spec = replace(spec, trace="passes")
    before = namespaces.current()
    ready, go = os.pipe(), os.pipe()
    try:
        directory = made(spec.isolation, work)
        user = not spec.initial_user_ns and namespaces.needs_user(spec.isolation)
        flags = namespaces.unshare_flags(spec.isolation, user)
        # Python drops an exception that is raised in a hook of fork.
        with deferred():
            child = clone.fork(flags, init=spec.isolation == "full")
    except OSError as error:
        for fd in (*ready, *go):
            os.close(fd)
        raise CannotSandbox(_why(error)) from error
    if not child.pid:
        _run_inside(body, spec, user, channel, directory, before, ready[1], go[0], keep)
    os.close(ready[1])
    os.close(go[0])
    try:
        result = _supervise(child, spec, user, ready[0], go[1], deadline, gates)
    finally:
        clone.end(child)
        os.close(ready[0])
        os.close(go[1])
        if spec.isolation != "full":
            _empty(work)
    received = channel.received()
    result.messages, result.damage = received.messages, received.damage
    return result


def _supervise(
    child: Child,
    spec: SandboxSpec,
    user: bool,
    ready: int,
    go: int,
    deadline: float | None,
    gates: Sequence[Gate],
) -> SandboxResult:
    """Start the child, trace it, and wait for its end."""
    result = SandboxResult([])

    def on_exit(exit: Exit) -> None:
        if exit.tid == child.pid:
            result.status = exit.status
            if child.init:
                kill(child.init)
            else:
                # Without a pid namespace nothing else ends the processes that it left.
                tracer.kill()

    traced = [*(gate(name) for name in gate_names()), *gates]
    tracer = Tracer(
        result.calls.append, traced, every_call=spec.trace in _EVERY_CALL, passes=spec.trace == "passes",
        on_signal=result.signals.append, on_exit=on_exit, injection=spec.injection,
    )  # fmt: skip

    def kill_all() -> None:
        kill(child.pid)
        kill(child.init)

    def interrupted() -> None:
        kill_all()
        tracer.kill()

    with ending_by(interrupted), Deadline(deadline, kill_all) as limit:
        _start(child.pid, spec, user, tracer, ready, go)
        if spec.trace == "none":
            _, result.status = os.waitpid(child.pid, 0)
        else:
            tracer.run()
    result.late = limit.passed
    return result


def _start(pid: int, spec: SandboxSpec, user: bool, tracer: Tracer, ready: int, go: int) -> None:
    # Ready: the child is in its namespaces. A map of several ids can be written by the parent only.
    os.read(ready, 1)
    try:
        if user and spec.ids > 1:
            namespaces.map_ids(pid, spec.ids)
    except OSError as error:
        raise CannotSandbox(f"cannot map user ids: {_why(error)}") from error
    try:
        if spec.trace != "none":
            tracer.seize(pid)
        if spec.trace in _EVERY_CALL:
            # Without a filter nothing stops the child: from this stop on the tracer resumes it by PTRACE_SYSCALL.
            tracer.interrupt(pid)
    except OSError as error:
        raise CannotTrace(f"cannot trace a child: {os.strerror(error.errno or 0)}") from error
    os.write(go, b"g")


def _run_inside(
    body: Callable[[], None],
    spec: SandboxSpec,
    user: bool,
    channel: Channel,
    work: Path,
    before: dict[str, str],
    ready: int,
    go: int,
    keep: Collection[int],
) -> NoReturn:
    """Complete the sandbox in the child, verify that it left the caller's namespaces, and run the body."""
    try:
        os.setsid()
        # The write end of `go` too: the read from it must end when the parent does.
        fault = spec.link_fault
        _close_all_but({ready, go, *keep, *([fault.program] if fault else [])})
        _leave_null()
        # The parent was alive after this if it answers: then the signal will come whenever it dies.
        ptrace.prctl(ptrace.PR_SET_PDEATHSIG, signal.SIGKILL)
        os.write(ready, b"r")
        if os.read(go, 1) != b"g":
            os._exit(0)  # The parent has closed the pipe: it failed.
        os.close(ready)
        os.close(go)
        _take_descriptors()
        if user and spec.ids == 1:
            namespaces.map_own_ids(*_PARENT_IDS)
        namespaces.set_up(spec.isolation, work)
        namespaces.verify_left(before, spec.isolation, user)
        if fault:
            fault.attach()
        if spec.trace in ("gate", "passes"):
            _stop_at_gates(every=spec.trace == "passes")
    except BaseException as error:
        channel.send(SandboxFailed(_why(error)))
        os._exit(0)
    try:
        body()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _stop_at_gates(every: bool) -> None:
    """Install the filter that stops the calls of this process's gates."""
    try:
        ptrace.set_filter(seccomp.at_gates(*(gate(name).ip for name in gate_names()), every=every))
    except OSError as error:
        raise OSError(error.errno, f"no seccomp filter: {os.strerror(error.errno or 0)}") from error


def _close_all_but(kept: Collection[int]) -> None:
    for descriptor in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 (a Path would touch many pages)
        if descriptor > 2 and descriptor not in kept:
            with suppress(OSError):  # The one that listed the directory is closed already.
                os.close(descriptor)


def _take_descriptors() -> None:
    """Open every free descriptor below _FIRST, so that the first one of the body has the same number in every run.

    Which of them pytest has for a test's output differs, also between its own process and a worker of pytest-xdist.
    """
    taken = os.open("/", os.O_PATH)
    while taken < _FIRST:
        taken = os.dup(taken)
    os.close(taken)


def _empty(work: Path) -> None:
    """Remove what a body left in its directory where that was no tmpfs, or was not its own alone.

    It may have removed the directory, or put a link in its place, which is not followed.
    """
    if work.is_symlink() or not work.is_dir():
        work.unlink(missing_ok=True)
        return
    for path in work.iterdir():
        if not path.is_symlink() and path.is_dir():  # is_dir follows a link, also to a name that is too long
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def _leave_null() -> None:
    """Replace /dev/null as standard input by a pipe without content: a test may change the mode of what it has open."""
    with suppress(OSError):  # It may be closed.
        if os.fstat(0).st_rdev == os.makedev(1, 3):
            reading, writing = os.pipe()
            os.dup2(reading, 0)
            os.close(reading)
            os.close(writing)


def _why(error: BaseException) -> str:
    if not isinstance(error, OSError) or error.strerror is None:
        return f"{type(error).__name__}: {error}"
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def pin(cpu: int | None = None) -> int:
    """Bind this process and its children to a CPU, by default the one that it runs on, and return that CPU.

    A switch between tracer and tracee is several times faster on one CPU than between two.
    """
    if cpu is None:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        cpu = int(fields[36])
        if cpu not in os.sched_getaffinity(0):
            cpu = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpu})
    return cpu


#: Seconds that the calls of `slowness` take on the machine for which DEADLINE is meant.
_REFERENCE = 0.006


def slowness() -> float:
    """Return by which factor this machine runs Python and int 0x80 slower than the reference: 1.0 or more."""
    entry = gate("int80")
    start = time.perf_counter()
    for _ in range(400):
        entry.enter(20)
    return max(1.0, (time.perf_counter() - start) / _REFERENCE)
