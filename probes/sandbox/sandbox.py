"""The process that a test runs in: its own namespaces, its tracer, its deadline, and nothing left of it afterwards.

    caller ─┬─ init: first process of the pid namespace, waits for the caller to end it
            └─ the body: what the caller asked to run, traced by the caller, with all that it bears

When init is gone the kernel ends whatever is left inside.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import NoReturn

from probes.abi.events import Exit, Signal
from probes.abi.record import Record
from probes.entry.gate import gate, gate_names
from probes.sandbox import clone, namespaces
from probes.sandbox.channel import Channel
from probes.sandbox.clone import Child
from probes.sandbox.messages import Message, SandboxFailed
from probes.trace import ptrace, seccomp
from probes.trace.deadline import Deadline
from probes.trace.loop import Tracer
from probes.trace.traced_call import TracedCall

#: Seconds that anything in the suite may take on the reference machine; multiply by `slowness()`.
DEADLINE = 60.0


@dataclass(frozen=True)
class SandboxSpec:
    """What a body asks of its sandbox.

    `trace`: "gate" stops at the probe's own calls by a seccomp filter; "calls" stops at every system call, for bodies
    that install filters of their own; "none" leaves the body free to trace. `ids`: how many user ids it needs (more
    than one: only root can map them). `initial_user_ns`: no user namespace, so that capabilities are real; root only.
    `isolation`: "full"; "net" where somebody else provides the user namespace; "none" where they provide everything.
    """

    trace: str = "gate"
    ids: int = 1
    initial_user_ns: bool = False
    isolation: str = "full"


@dataclass
class SandboxResult:
    """What is left of a sandbox: its messages, its calls in the order they ended, its signals, and how it ended.

    `status` is the body's wait status, None if it is not known. `late` says that the deadline ended it.
    """

    messages: list[Message]
    calls: list[TracedCall] = field(default_factory=list)
    signals: list[Signal] = field(default_factory=list)
    status: int | None = None
    late: bool = False

    def records(self) -> list[Record]:
        """The records of the calls, in the order in which the calls were entered."""
        return [call.record() for call in sorted(self.calls, key=lambda call: call.t_in)]


class CannotSandbox(Exception):
    """The caller could not make the sandbox: what, and why."""


class CannotTrace(CannotSandbox):
    """The caller could not trace it."""


def run(
    body: Callable[[], None], wish: SandboxSpec, channel: Channel, work: Path, deadline: float | None
) -> SandboxResult:
    """Runs a body in a sandbox and returns when nothing of it is left.

    `work` is an empty folder: inside it becomes the current and temporary folder, on a file system of its own. The body
    speaks through `channel`; it never runs unless its sandbox is whole, and then the message SandboxFailed says what
    was missing. Raises CannotSandbox if the sandbox could not be begun, CannotTrace if it could not be traced.
    """
    channel.clear()
    outcome = SandboxResult([])
    if wish.trace == "gate" and filtered():
        wish = replace(wish, trace="calls")
    user = not wish.initial_user_ns
    before = namespaces.links()
    ready, go = os.pipe(), os.pipe()
    try:
        born = clone.fork(namespaces.to_leave(wish.isolation, user), init=wish.isolation == "full")
    except OSError as error:
        for fd in (*ready, *go):
            os.close(fd)
        raise CannotSandbox(str(error)) from error
    if not born.child:
        os.close(ready[0])
        os.close(go[1])
        _inside(body, wish, channel, work, before, ready[1], go[0])
    os.close(ready[1])
    os.close(go[0])
    try:
        _attend(born, wish, outcome, ready[0], go[1], deadline)
    finally:
        clone.end(born)
        os.close(ready[0])
        os.close(go[1])
    outcome.messages = channel.received()
    return outcome


@cache
def filtered() -> bool:
    """Whether we run under seccomp filters ourselves: what they answer never reaches the filter of a sandbox, so there
    every call has to be stopped before all of them."""
    return "\nSeccomp:\t2\n" in Path("/proc/self/status").read_text()


def _attend(
    born: Child, wish: SandboxSpec, outcome: SandboxResult, ready: int, go: int, deadline: float | None
) -> None:
    """Lets the newborn go, traces it, and waits for its end."""

    def ended(exit: Exit) -> None:
        if exit.tid == born.child:
            outcome.status = exit.status
            clone.kill(born.init)

    gates = [gate(name) for name in gate_names()]
    tracer = Tracer(
        outcome.calls.append, gates, every_call=wish.trace == "calls", on_signal=outcome.signals.append, on_exit=ended
    )

    def late() -> None:
        clone.kill(born.child)
        clone.kill(born.init)

    with Deadline(deadline, late) as limit:
        try:
            _admit(born.child, wish, tracer, ready, go)
            if wish.trace == "none":
                _, outcome.status = os.waitpid(born.child, 0)
            else:
                tracer.run()
        except BaseException:
            late()
            with suppress(ChildProcessError):
                os.waitpid(born.child, 0)
            raise
    outcome.late = limit.passed


def _admit(child: int, wish: SandboxSpec, tracer: Tracer, ready: int, go: int) -> None:
    # It is in its namespaces before the tracer comes: a map of several ids is ours to write.
    os.read(ready, 1)
    try:
        if wish.ids > 1:
            namespaces.map_ids(child, wish.ids)
    except OSError as error:
        raise CannotSandbox(f"cannot map user ids: {error}") from error
    try:
        if wish.trace != "none":
            tracer.seize(child)
        if wish.trace == "calls":
            # From its first stop on it stops at every call; a filter would make that stop itself.
            tracer.interrupt(child)
    except OSError as error:
        raise CannotTrace(f"cannot trace a child: {error.strerror}") from error
    os.write(go, b"g")


def die_with_parent() -> None:
    """Asks for SIGKILL when the parent dies. A change of ids forgets it: ask again after one. Raises OSError."""
    ptrace.prctl(ptrace.PR_SET_PDEATHSIG, signal.SIGKILL)


def _inside(
    body: Callable[[], None],
    wish: SandboxSpec,
    channel: Channel,
    work: Path,
    before: dict[str, str],
    ready: int,
    go: int,
) -> NoReturn:
    """The newborn: the last preparations, the proof that it is inside, then the body."""
    try:
        die_with_parent()
        os.write(ready, b"r")
        if os.read(go, 1) != b"g":
            os._exit(0)  # The caller has given up.
        os.close(ready)
        os.close(go)
        if wish.isolation == "full" and not wish.initial_user_ns and wish.ids == 1:
            namespaces.map_own_ids(*_IDS)
        namespaces.furnish(wish.isolation, work)
        namespaces.prove_left(before, wish.isolation, user=not wish.initial_user_ns)
        if wish.trace == "gate":
            ptrace.set_filter(seccomp.at_gates(*(gate(name).ip for name in gate_names())))
    except BaseException as error:
        channel.send(SandboxFailed(_why(error)))
        os._exit(0)
    try:
        body()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


#: Who we are outside of any sandbox.
_IDS = os.geteuid(), os.getegid()


def _why(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if not isinstance(error, OSError) else str(error)


def pin() -> int:
    """Keeps this process and its children on the CPU it runs on, and returns that: tracer and tracee on one CPU hand
    over to each other several times faster than on two."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    cpu = int(fields[36])
    if cpu not in os.sched_getaffinity(0):
        cpu = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpu})
    return cpu


#: What `slowness` takes on the machine for which DEADLINE is meant, in seconds.
_REFERENCE = 0.006


def slowness() -> float:
    """How much slower than the reference this machine runs Python and int 0x80: 1.0 or more."""
    entry = gate("int80")
    start = time.perf_counter()
    for _ in range(400):
        entry.enter(20)
    return max(1.0, (time.perf_counter() - start) / _REFERENCE)
