"""Another process that traces this one, by requests of its own: what any tracer sees of the multiplexer."""

import json
import os
import signal
import traceback
from contextlib import suppress

from probes.abi.operations import SOCKETCALL
from probes.testing import Broke, not_applicable
from probes.trace import ptrace

_PR_SET_PTRACER, _ANY = 0x59616D61, -1
_WALL = 0x40000000
#: A number that is no operation: the last call that is watched.
END = 0


def may_be_traced():
    """Lets any process of this user look into this one, where Yama would forbid it (prctl(2) PR_SET_PTRACER)."""
    with suppress(OSError):
        ptrace.prctl(_PR_SET_PTRACER, _ANY)


def watched(gate, act):
    """(what `act` returns, the stops at the socketcalls that it made through the gate: entry, exit, entry, exit, …).

    A stop is what PTRACE_GET_SYSCALL_INFO says of it. Not applicable where a child may not trace its parent.
    """
    may_be_traced()
    (started, start), (told, tell) = os.pipe(), os.pipe()
    parent, child = os.getpid(), os.fork()
    if child == 0:
        os.close(told)
        try:
            answer = {"stops": _watch(parent, start)}
        except PermissionError as error:
            answer = {"refused": str(error)}
        except BaseException:
            answer = {"error": traceback.format_exc()}
        os.write(tell, json.dumps(answer).encode())
        os._exit(0)
    os.close(start)
    os.close(tell)
    answer = None
    if os.read(started, 1):
        answer = act()
        gate.enter(SOCKETCALL, END)
    with os.fdopen(told) as file:
        seen = json.loads(file.read() or '{"error": "it died"}')
    os.close(started)
    os.waitpid(child, 0)
    if "refused" in seen:
        not_applicable(f"a child that may trace its parent: {seen['refused']}")
    if "error" in seen:
        raise Broke(f"another process was to trace this one: {seen['error']}")
    return answer, seen["stops"][:-2]


def _watch(parent, start):
    ptrace.request(ptrace.SEIZE, parent, 0, ptrace.O_TRACESYSGOOD)
    ptrace.request(ptrace.INTERRUPT, parent)
    os.waitpid(parent, _WALL)
    ptrace.request(ptrace.SYSCALL, parent)
    os.write(start, b"s")
    stops, inside = [], False
    while True:
        _, status = os.waitpid(parent, _WALL)
        if not os.WIFSTOPPED(status):
            raise ChildProcessError(f"the traced process ended, status {status}")
        number = os.WSTOPSIG(status)
        if number == signal.SIGTRAP | 0x80:
            info = ptrace.syscall_info(parent)
            if inside:
                stops.append({"op": info.op, "arch": info.arch, "rval": info.nr})
                if stops[-2]["args"][0] == END:
                    ptrace.request(ptrace.DETACH, parent)
                    return stops
            inside = not inside and (info.arch, info.nr) == (ptrace.ARCH_I386, SOCKETCALL)
            if inside:
                stops.append({"op": info.op, "arch": info.arch, "nr": info.nr, "args": list(info.args)})
        # A signal goes on to the process; an event (PTRACE_EVENT_STOP) is the tracer's own.
        own = number == signal.SIGTRAP | 0x80 or status >> 16
        ptrace.request(ptrace.SYSCALL, parent, 0, 0 if own else number)
