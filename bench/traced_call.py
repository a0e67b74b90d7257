"""Measures a traced call: over a tracer that does nothing but continue the call at its two stops, in Python and in C."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import commands
from bench.measure import CannotMeasure, Row, in_turn, seconds
from probes.abi.operations import SOCKETCALL
from probes.entry.gate import gate
from probes.entry.memory import Memory
from probes.sandbox import sandbox
from probes.sandbox.channel import Channel
from probes.sandbox.sandbox import SandboxSpec
from probes.trace import ptrace, seccomp

CALLS = 3000


def traced(count: int, work: Path, channel: Channel) -> None:
    """Makes so many traced calls in a sandbox, and keeps them, as a test does. Raises CannotMeasure."""
    gate("int80")  # Parent and child have the gate at one address if it is made before the fork.
    result = sandbox.run(calling(count), SandboxSpec(), channel, work, None)
    if len(result.calls) != count:
        raise CannotMeasure(f"{len(result.calls)} of {count} calls were traced; see `socketcall doctor`")


def calling(count: int) -> Callable[[], None]:
    """Returns a body that makes calls through the gate as fast as it can."""

    def body() -> None:
        words = Memory().words(-1, 0, 0)
        enter, address = gate("int80").enter, words.address
        for _ in range(count):
            enter(SOCKETCALL, 2, address)

    return body


def bare_trace(count: int) -> float:
    """Returns the seconds of a tracer in Python that does nothing but continue each call twice."""
    body = calling(count)
    go, wait = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(wait[1], b"r")
        os.read(go[0], 1)
        ptrace.set_filter(seccomp.at_gates(gate("int80").ip))
        body()
        os._exit(0)
    os.read(wait[0], 1)
    ptrace.request(ptrace.SEIZE, child, 0, ptrace.O_EXITKILL | ptrace.O_TRACESYSGOOD | ptrace.O_TRACESECCOMP)
    start = time.perf_counter()
    os.write(go[1], b"g")
    request, cont, syscall = ptrace.request, ptrace.CONT, ptrace.SYSCALL
    while True:
        _, status = os.waitpid(child, 0)
        if not os.WIFSTOPPED(status):
            break
        request(syscall if status >> 16 == ptrace.EVENT_SECCOMP else cont, child)
    spent = time.perf_counter() - start
    for fd in (*go, *wait):
        os.close(fd)
    return spent


def measure(rounds: int, directory: Path, calls: int = CALLS) -> Iterator[Row]:
    """Yields rows; a round is some thousand calls in one sandbox, less a sandbox with one call, on one CPU."""
    stops = commands.compiled("stops", directory)
    work = directory / "work"
    work.mkdir(exist_ok=True)
    channel = Channel()
    affinity = os.sched_getaffinity(0)
    sandbox.pin()

    def sandboxed(count: int) -> float:
        return seconds(lambda: traced(count, work, channel))

    def ours() -> float:
        return (sandboxed(calls + 1) - sandboxed(1)) / calls

    def python() -> float:
        return (bare_trace(calls + 1) - bare_trace(1)) / calls

    try:
        found = in_turn(rounds, ours, python, lambda: commands.printed_seconds(stops, calls) / calls)
    finally:
        os.sched_setaffinity(0, affinity)
    yield Row("a traced call / its two stops, in Python", "us", 1.5, found[0], found[1])
    yield Row("a traced call / its two stops, in C", "us", None, found[0], found[2])
