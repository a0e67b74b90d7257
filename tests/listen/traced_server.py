"""Runs a program of Debian's under a tracer of the test's own: busybox, which serves one client and ends."""

from __future__ import annotations

from collections.abc import Callable

from probes.abi.operations import OPERATIONS
from probes.targets import debian, store
from probes.testing import not_applicable
from probes.trace.loop import Tracer
from probes.trace.spawn import CannotCapture, spawn
from probes.trace.traced_call import TracedCall, numbers_of

#: What a server calls to serve a client.
SERVING = ("socket", "bind", "listen", "accept")
#: How the tracer stops the program: at calls that its seccomp filter chooses, or at every call (PTRACE_SYSCALL).
STOPS = {"seccomp": False, "every-call": True}


def echo_server(port: int) -> list[str]:
    """Returns the command of a server that sends one client what it receives. Not applicable without the program."""
    built = store.have(debian.BUSYBOX)
    if built is None:
        not_applicable("Debian's busybox for i386: `socketcall target build busybox` gets it")
    busybox = str(built / "bin" / "busybox")
    return [busybox, "nc", "-l", "-p", str(port), "-e", busybox, "cat"]


def traced(command: list[str], stops: str, listening: Callable[[], None]) -> list[TracedCall]:
    """Runs a server to its end, and returns those of its calls that are SERVING, in their order.

    `listening` is called while the server is stopped at the end of listen: a client that connects then is served next.
    Not applicable where this process may not trace a program that it starts.
    """
    made: list[TracedCall] = []
    is_listening = False

    def leave(call: TracedCall) -> None:
        nonlocal is_listening
        if call.op == "listen" and call.ret == 0 and not is_listening:
            is_listening = True
            listening()

    tracer = Tracer(
        made.append,
        every_call=STOPS[stops],
        numbers=numbers_of(OPERATIONS, socketcall=True, direct=True),
        on_leave=leave,
    )
    try:
        tracer.resume(spawn(tracer, command))
    except CannotCapture as error:
        not_applicable(f"a program of the test's own that it may trace: {error}")
    tracer.run()
    return [call for call in made if call.op in SERVING]
