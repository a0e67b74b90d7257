"""A second tracer: a child that traces this process by ptrace requests of its own, as strace would."""

from __future__ import annotations

import json
import os
import signal
import traceback
from types import TracebackType

from probes.abi.operations import SOCKETCALL
from probes.entry.gate import Gate
from probes.testing import Broke, not_applicable
from probes.trace import ptrace

_PRCTL, _PR_SET_PTRACER, _ANY = 172, 0x59616D61, -1
_WALL = 0x40000000
#: A number that is no operation: the last call that is watched.
_END = 0
#: What PTRACE_GET_SYSCALL_INFO reports at one stop.
Stop = dict[str, int | list[int]]


def permit_tracing(gate: Gate) -> None:
    """Permits any process of this user to read the caller, where Yama would forbid it (prctl(2) PR_SET_PTRACER)."""
    # Without Yama it fails with EINVAL.
    gate.quieted().enter(_PRCTL, _PR_SET_PTRACER, _ANY)


class SecondTracer:
    """Traces the socketcalls of the body of a `with` statement.

    `stops` holds what PTRACE_GET_SYSCALL_INFO reported at each, once the body is over: entry, exit, entry, exit, …
    Not applicable where a child may not trace its parent.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.stops: list[Stop] = []

    def __enter__(self) -> SecondTracer:
        """Starts the child, and returns when it traces this process."""
        permit_tracing(self._gate)
        (started, start), (self._report, report) = os.pipe(), os.pipe()
        parent, self._child = os.getpid(), os.fork()
        if self._child == 0:
            os.close(self._report)
            _report(parent, start, report)
        os.close(start)
        os.close(report)
        tracing = os.read(started, 1)
        os.close(started)
        if not tracing:
            self._finish()
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the tracing."""
        self._gate.enter(SOCKETCALL, _END)
        self._finish()

    def _finish(self) -> None:
        with os.fdopen(self._report) as file:
            report = json.loads(file.read() or '{"error": "it ended without a report"}')
        os.waitpid(self._child, 0)
        if "refused" in report:
            not_applicable(f"a child that may trace its parent: {report['refused']}")
        if "error" in report:
            raise Broke(f"the second tracer failed: {report['error']}")
        # Without the two stops of the last call.
        self.stops = report["stops"][:-2]


def _report(parent: int, start: int, report: int) -> None:
    """Traces the parent, writes the stops as JSON, and ends this process."""
    try:
        found: dict[str, object] = {"stops": _trace(parent, start)}
    except PermissionError as error:
        found = {"refused": str(error)}
    except BaseException:
        found = {"error": traceback.format_exc()}
    os.write(report, json.dumps(found).encode())
    os._exit(0)


def _trace(parent: int, start: int) -> list[Stop]:
    """Traces the parent until its last watched call; writes one byte to `start` when it does."""
    ptrace.request(ptrace.SEIZE, parent, 0, ptrace.O_TRACESYSGOOD)
    ptrace.request(ptrace.INTERRUPT, parent)
    os.waitpid(parent, _WALL)
    ptrace.request(ptrace.SYSCALL, parent)
    os.write(start, b"s")
    stops: list[Stop] = []
    inside = last = False
    while True:
        _, status = os.waitpid(parent, _WALL)
        if not os.WIFSTOPPED(status):
            raise ChildProcessError(f"the traced process ended, status {status}")
        number = os.WSTOPSIG(status)
        if number == signal.SIGTRAP | 0x80:
            info = ptrace.syscall_info(parent)
            if inside:
                stops.append({"op": info.op, "arch": info.arch, "rval": info.nr})
                if last:
                    ptrace.request(ptrace.DETACH, parent)
                    return stops
            inside = not inside and (info.arch, info.nr) == (ptrace.ARCH_I386, SOCKETCALL)
            if inside:
                last = info.args[0] == _END
                stops.append({"op": info.op, "arch": info.arch, "nr": info.nr, "args": list(info.args)})
        # A signal goes on to the process; an event (PTRACE_EVENT_STOP) is the tracer's own.
        own = number == signal.SIGTRAP | 0x80 or status >> 16
        ptrace.request(ptrace.SYSCALL, parent, 0, 0 if own else number)
