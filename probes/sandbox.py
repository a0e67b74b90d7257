"""The process that a test runs in: its own namespaces, its tracer, its deadline, and nothing left of it afterwards.

    caller ── A: makes the namespaces ─┬─ init: first process of the pid namespace, waits for A to die
                                       └─ the body: what the caller asked to run

The caller traces all three. When A is gone the kernel ends whatever is left inside.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from probes import namespaces
from probes.abi.record import Record
from probes.channel import Channel
from probes.gate import WORD, gate, gate_names
from probes.machine.code import INIT
from probes.memory import PAGE, PROT_EXEC, PROT_READ, map_low, protect
from probes.trace import ptrace, seccomp
from probes.trace.call import Call
from probes.trace.loop import Deadline, Signal, Tracer

#: Seconds that anything in the suite may take on the reference machine; multiply by `slowness()`.
DEADLINE = 30.0


@dataclass(frozen=True)
class Wish:
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
class Outcome:
    """What is left of a sandbox: its messages, its calls in the order they ended, its signals, and how it ended.

    `status` is the body's wait status, None if it is not known. `late` says that the deadline ended it.
    """

    messages: list[Any]
    calls: list[Call] = field(default_factory=list)
    signals: list[Signal] = field(default_factory=list)
    status: int | None = None
    late: bool = False

    def records(self) -> list[Record]:
        """The records of the calls, numbered from 1 in the order in which the calls were entered."""
        records = [call.record() for call in sorted(self.calls, key=lambda call: call.t_in)]
        for seq, record in enumerate(records, 1):
            record.seq = seq
        return records


class CannotSandbox(Exception):
    """The caller could not make or trace the sandbox: what, and why."""


def run(body: Callable[[], None], wish: Wish, channel: Channel, work: Path, deadline: float | None) -> Outcome:
    """Runs a body in a sandbox and returns when nothing of it is left.

    `work` is an empty folder: inside it becomes the current and temporary folder, on a file system of its own. The body
    speaks through `channel`; it never runs unless its sandbox is whole, and then the message {"sandbox": why} says what
    was missing. Raises CannotSandbox if the sandbox could not be begun or traced.
    """
    channel.clear()
    outcome = Outcome([])
    gates = [gate(name) for name in gate_names()]
    tracer = Tracer(outcome.calls.append, gates, every_call=wish.trace == "calls", signals=outcome.signals)
    up, down = os.pipe(), os.pipe()
    flush()
    child = os.fork()
    if child == 0:
        os.close(up[0])
        os.close(down[1])
        _outer(body, wish, channel, work, up[1], down[0])
    os.close(up[1])
    os.close(down[0])
    try:
        with Deadline(deadline, Ending(tracer, child)) as limit:
            _admit(child, wish, tracer, up[0], down[1])
            if wish.trace == "none":
                os.waitpid(child, 0)
            else:
                tracer.run()
    except BaseException:
        Ending(tracer, child, asked=True)()
        _reap(child)
        raise
    finally:
        os.close(up[0])
        os.close(down[1])
    outcome.late = limit.passed
    outcome.messages = channel.heard()
    for message in outcome.messages:
        if "ended" in message:
            outcome.status = message["ended"]
    return outcome


def _admit(child: int, wish: Wish, tracer: Tracer, ready: int, go: int) -> None:
    # The namespaces are made before the tracer comes: a map of several ids is ours to write.
    if os.read(ready, 1) != b"r":
        return  # It has said why, and is ending.
    try:
        if wish.ids > 1:
            namespaces.map_ids(child, wish.ids)
        if wish.trace != "none":
            tracer.seize(child)
    except OSError as error:
        raise CannotSandbox(f"cannot take charge of a child: {error.strerror}") from error
    os.write(go, b"g")


@dataclass
class Ending:
    """Ends a sandbox: asks A first, which then reaps what is inside (an orphan would wait for the machine's own first
    process to reap it, seconds on some); kills everything the next time."""

    tracer: Tracer
    child: int
    asked: bool = False

    def __call__(self) -> None:
        if self.asked:
            self.tracer.kill()
        with suppress(ProcessLookupError):
            os.kill(self.child, signal.SIGKILL if self.asked else signal.SIGTERM)
        self.asked = True


def _reap(child: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(child, 0)


def flush() -> None:
    """Empties the buffers of the standard streams: a child would print what they hold again."""
    sys.stdout.flush()
    sys.stderr.flush()


def die_with_parent() -> None:
    """Asks for SIGKILL when the parent dies. A change of ids forgets it: ask again after one. Raises OSError."""
    ptrace.prctl(ptrace.PR_SET_PDEATHSIG, signal.SIGKILL)


def _outer(body: Callable[[], None], wish: Wish, channel: Channel, work: Path, up: int, down: int) -> NoReturn:
    """Process A: makes the namespaces, starts init and the body, tells how the body ended."""
    try:
        die_with_parent()
        before = namespaces.links()
        namespaces.leave(wish.isolation, user=not wish.initial_user_ns, ids=wish.ids)
        os.write(up, b"r")
        if os.read(down, 1) != b"g":
            os._exit(1)
        os.close(up)
        os.close(down)
        if wish.isolation != "full":
            _inner(body, wish, channel, work, before)
        init = _start_init()
        inner = os.fork()
        if inner == 0:
            _inner(body, wish, channel, work, before)
        signal.signal(signal.SIGTERM, lambda *_: os.kill(inner, signal.SIGKILL))
        _, status = os.waitpid(inner, 0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        channel.say({"ended": status})
        os.kill(init, signal.SIGKILL)
    except BaseException as error:
        channel.say({"sandbox": _why(error)})
    finally:
        os._exit(0)


def _inner(body: Callable[[], None], wish: Wish, channel: Channel, work: Path, before: dict[str, str]) -> NoReturn:
    """The process of the body: the last preparations, the proof that it is inside, then the body."""
    try:
        die_with_parent()
        namespaces.furnish(wish.isolation, work)
        namespaces.prove_left(before, wish.isolation, user=not wish.initial_user_ns)
        if wish.trace == "gate":
            ptrace.set_filter(seccomp.at_gates(*(gate(name).ip for name in gate_names())))
    except BaseException as error:
        channel.say({"sandbox": _why(error)})
        os._exit(0)
    try:
        body()
    finally:
        flush()
        os._exit(0)


def _why(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if not isinstance(error, OSError) else str(error)


_INIT_FLAGS = 0x100 | signal.SIGCHLD  # CLONE_VM
_init_page = 0


def _start_init() -> int:
    global _init_page
    if not _init_page:
        code, _ = INIT[WORD]
        _init_page = map_low(PAGE)
        ctypes.memmove(_init_page, code, len(code))
        protect(_init_page, PAGE, PROT_READ | PROT_EXEC)
    # Whatever is left without a parent inside becomes init's child: it takes no notice, and the kernel reaps.
    old = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    pid: int = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_long, ctypes.c_void_p)(_init_page)(
        _INIT_FLAGS, map_low(PAGE) + PAGE
    )
    signal.signal(signal.SIGCHLD, old)
    if pid < 0:
        raise OSError(-pid, f"clone of the first process: {errno.errorcode.get(-pid, pid)}")
    return pid


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
