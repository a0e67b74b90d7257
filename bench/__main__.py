"""Prints three ratios, each against the barest way to do the same within one run.

    a test's fixed cost / a fork with the same namespaces       (at most 2)
    a traced call / a tracer that only stops the call twice     (at most 2)
    the swept loop's calls a second / a C loop's                (0.9 or better)

Exits with 1 if one is missed, with 2 if it cannot be measured here.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from probes.abi.operations import SOCKETCALL
from probes.entry.calls import Calls
from probes.entry.gate import gate
from probes.entry.memory import Memory
from probes.entry.sweep import Sweep
from probes.sandbox import namespaces, sandbox
from probes.sandbox.channel import Channel
from probes.sandbox.sandbox import SandboxSpec
from probes.trace import ptrace, seccomp

TESTS = 60
CALLS = 3000
SWEPT = 200_000
ROUNDS = 5

TEST = '''
import errno
import pytest
from probes.testing import behaviour

@behaviour("made.bench.law", "this benchmark")
@pytest.mark.routes("socketcall")
@pytest.mark.parametrize("number", range({tests}))
def test_it(number, the_gate, expect):
    """A call of an unknown operation fails with EINVAL."""
    expect(-errno.EINVAL).of(the_gate.enter(102, 0, 0))
'''


def bare_fork(work: Path) -> None:
    """Does what any sandbox with these namespaces must: two forks, the namespaces, two mounts, the link, two waits."""
    ids = os.geteuid(), os.getegid()
    child = os.fork()
    if child == 0:
        namespaces.unshare(namespaces.unshare_flags("full", user=True))
        namespaces.map_own_ids(*ids)
        inner = os.fork()
        if inner == 0:
            namespaces.set_up("full", work)
            os._exit(0)
        os.waitpid(inner, 0)
        os._exit(0)
    os.waitpid(child, 0)


class Timer:
    """Is a plugin that times every test of a run, and a bare fork after each, in the same process."""

    def __init__(self, work: Path) -> None:
        self.work, self.tests, self.forks = work, list[float](), list[float]()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Iterator[None]:
        """Times a whole test, including its reports, and a bare fork."""
        start = time.perf_counter()
        result = yield
        self.tests.append(time.perf_counter() - start)
        start = time.perf_counter()
        bare_fork(self.work)
        self.forks.append(time.perf_counter() - start)
        return result


def fixed_cost() -> float:
    """Returns the fixed cost of a test over a bare fork with the same namespaces, as the median of pairs."""
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory, "tests", "made")
        made.mkdir(parents=True)
        Path(made, "test_made.py").write_text(TEST.format(tests=TESTS))
        work = Path(directory, "work")
        work.mkdir()
        timer = Timer(work)
        root = Path(__file__).resolve().parent.parent
        options = ["-c", str(root / "pyproject.toml"), f"--rootdir={directory}", "-p", "no:cacheprovider", "-qq"]
        plugins = ["-p", "probes.testing.fixtures", "-p", "probes.plugin.plugin", "--no-progress"]
        if pytest.main([str(made), *options, *plugins], plugins=[timer]) != 0:
            sys.exit("bench: the made tests did not pass")
    print(
        f"test {1e3 * statistics.median(timer.tests):.2f} ms, bare fork {1e3 * statistics.median(timer.forks):.2f} ms"
    )
    return statistics.median(test / fork for test, fork in zip(timer.tests, timer.forks, strict=True))


def calling(count: int) -> Callable[[], None]:
    """Returns a body that makes calls through the gate as fast as it can."""

    def body() -> None:
        words = Memory().words(-1, 0, 0)
        enter, address = gate("int80").enter, words.address
        for _ in range(count):
            enter(SOCKETCALL, 2, address)

    return body


def bare_trace(count: int) -> float:
    """Returns the seconds of a tracer that does nothing but continue each call twice."""
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


def traced_call(work: Path) -> float:
    """Returns a traced call over a bare two-stop loop, on one CPU, as the median of rounds, without the sandbox's cost."""
    channel, ratios = Channel(), []
    for _ in range(ROUNDS):
        took = []
        for count in (1, CALLS):
            start = time.perf_counter()
            sandbox.run(calling(count), SandboxSpec(), channel, work, None)
            took.append(time.perf_counter() - start)
        ours = took[1] - took[0]
        bare = bare_trace(CALLS) - bare_trace(1)
        print(f"traced call {1e6 * ours / CALLS:.1f} us, bare two stops {1e6 * bare / CALLS:.1f} us")
        ratios.append(ours / bare)
    return statistics.median(ratios)


C_LOOP = r"""
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
int main(int argc, char **argv) {
    unsigned count = atoi(argv[1]);
    int sum = 0;
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (unsigned i = 0; i < count; i++) {
        int result;
        __asm__ volatile("int $0x80" : "=a"(result) : "0"(102), "b"(21 + i), "c"(0), "d"(0), "S"(0), "D"(0) : "memory");
        sum += result;
    }
    clock_gettime(CLOCK_MONOTONIC, &b);
    printf("%.9f\n", (b.tv_sec - a.tv_sec) + (b.tv_nsec - a.tv_nsec) / 1e9);
    return sum != -22 * (int)count;
}
"""


def swept_loop(work: Path) -> float:
    """Returns the speed of the machine-code loop over a C loop's on the same gate, as the median of rounds."""
    program = work / "loop"
    subprocess.run(["gcc", "-O2", "-o", program, "-x", "c", "-"], input=C_LOOP, text=True, check=True)
    ratios = []
    sweep = Sweep(Calls(gate("int80"), "socketcall", Memory()))
    sweep.raw(SOCKETCALL, sweep.value, 0, judged=True)
    for _ in range(ROUNDS):
        start = time.perf_counter()
        sweep.run(range(21, 21 + SWEPT))
        ours = time.perf_counter() - start
        theirs = float(subprocess.run([program, str(SWEPT)], capture_output=True, text=True, check=True).stdout)
        print(f"swept call {1e9 * ours / SWEPT:.0f} ns, C loop {1e9 * theirs / SWEPT:.0f} ns")
        ratios.append(theirs / ours)
    return statistics.median(ratios)


def main() -> int:
    """Measures, prints the ratios, and returns the exit status."""
    if shutil.which("gcc") is None:
        print("bench: the C loop needs gcc: apt-get install gcc libc6-dev", file=sys.stderr)
        return 2
    sandbox.pin()
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        found = [
            ("a test's fixed cost / a bare fork with the same namespaces", fixed_cost(), "at most 2", lambda r: r <= 2),
            ("a traced call / a bare two-stop loop", traced_call(work), "at most 2", lambda r: r <= 2),
            ("the swept loop / a C loop", swept_loop(work), "0.9 or better", lambda r: r >= 0.9),
        ]
    for name, ratio, bound, _ in found:
        print(f"{ratio:6.2f}  {name} ({bound})")
    return 0 if all(kept(ratio) for _, ratio, _, kept in found) else 1


if __name__ == "__main__":
    sys.exit(main())
