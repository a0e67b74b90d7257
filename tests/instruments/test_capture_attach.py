"""Tests `socketcall capture -p`: a running process is captured, and continues after a detach."""

import os
import signal
import subprocess
import sys
from collections import Counter

import pytest

from probes.trace.processes import threads
from tests.instruments.capture_programs import (
    DATA,
    DEADLINE,
    WAIT,
    WAITING,
    Captured,
    asleep,
    capture,
    i386,
    int80,
    one_line,
    pid_of,
    program,
    python,
    status_of,
    u32,
    wait_for,
)
from tests.instruments.support import COMMAND_DEADLINE

pytestmark = pytest.mark.sandbox(trace="none")


def test_a_process_that_cannot_be_attached_to():
    assert "no such process" in one_line(capture("-p", "4000000"))
    first = Captured(*python(WAITING))
    pid = pid_of()
    done = capture("-p", str(pid))
    assert done.status == 125
    assert f"process {first.process.pid} traces it already" in one_line(done)
    os.kill(pid, signal.SIGTERM)
    assert first.wait().status == 128 + signal.SIGTERM


def test_one_of_several_that_there_is_not(spawn):
    """Then none is captured, and those that there are go on."""
    server = spawn([sys.executable, "-c", SERVER])
    pid_of()
    done = capture("-p", f"{server.pid},4000000")
    assert done.status == 125 and "process 4000000: no such process" in one_line(done)
    assert status_of(server.pid, "TracerPid") == "0"
    assert ask() == "served"
    server.kill()
    server.wait()


TREE = (
    WAIT
    + """
if not (child := os.fork()): os.execvp("sleep", ["sleep", "1000"])
Path("pid").write_text(f"{child}\\n")
s.accept()
"""
)


def test_a_tree_and_several_processes(spawn):
    """-p takes several ids, and --tree the processes that one started; all go on after the detach."""
    parent = spawn([sys.executable, "-c", TREE])
    child = pid_of()
    for options in (
        ("--tree", "-p", str(parent.pid)),
        ("-p", f"{parent.pid},{child}"),
        ("-p", str(child), "-p", str(parent.pid)),
    ):
        running = Captured(*options)
        wait_for(running.path.exists, "the output file")
        assert {status_of(pid, "TracerPid") for pid in (parent.pid, child)} == {str(running.process.pid)}
        running.interrupt()
        assert running.wait().status == 0, running.err
        assert {status_of(pid, "TracerPid") for pid in (parent.pid, child)} == {"0"}
    named = Captured("-p", "sleep")
    wait_for(named.path.exists, "the output file")
    assert status_of(child, "TracerPid") == str(named.process.pid)
    os.kill(child, signal.SIGTERM)
    assert named.wait().status == 128 + signal.SIGTERM
    done = capture("-p", "no-process-of-that-name")
    assert done.status == 125
    assert "no process has that name" in one_line(done)
    parent.kill()
    parent.wait()


def busy(children):
    """Return an i386 program that forks children, each of which calls socketcall without end, and pauses."""
    call = int80(102, 0, DATA)
    loop = call + b"\xeb" + bytes((256 - len(call) - 2,))
    fork = b"\xb8" + u32(2) + b"\xcd\x80\x85\xc0\x74"  # then the distance to the child's loop
    pause = b"\xb8" + u32(29) + b"\xcd\x80"
    again = b"\x4e\x75" + bytes((256 - len(fork) - 1 - 3,))
    return i386(b"\xbe" + u32(children) + fork + bytes((len(again + pause),)) + again + pause + loop)


def test_200_busy_processes_each_get_on():
    """No tracee waits for its turn while others have several: among 10,000 calls each has made some."""
    running = Captured("-e", "signal=none", *program(busy(200)), format="text")

    def since_all_run():
        """Return whose call each line ends, from that of the last child on: 10,000 of them."""
        # (A call is on two lines, unfinished and resumed, if another came between.)
        callers = [line.split()[0] for line in running.lines() if "unfinished" not in line]
        firsts = {caller: index for index, caller in reversed([*enumerate(callers)])}
        calls = callers[max(firsts.values(), default=0) :]
        return len(firsts) == 200 and len(calls) >= 10_000 and calls

    counts = Counter(wait_for(since_all_run, "10,000 calls", COMMAND_DEADLINE))
    running.process.kill()
    running.wait()
    assert len(counts) == 200
    assert min(counts.values()) >= sum(counts.values()) / 200 / 4, counts


SERVER = (
    WAIT
    + """
def serve():
    while True:
        connection, _ = s.accept()
        connection.send(b"served")
        connection.close()
threading.Thread(target=serve).start()
Path("pid").write_text(f"{os.getpid()}\\n")
serve()
"""
)


def ask(path="here"):
    """Return the answer of the server."""
    source = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({path!r}); print(s.recv(9).decode(), end='')"
    return subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=DEADLINE, check=True
    ).stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_attach_and_detach(spawn, number):
    """Calls of two threads that were blocked in accept are captured, and both continue after the detach."""
    server = spawn([sys.executable, "-c", SERVER])
    pid_of()
    wait_for(lambda: len(threads(server.pid)) == 2, "two threads")
    tids = sorted(threads(server.pid))
    wait_for(lambda: all(map(asleep, tids)), "accept")
    running = Captured("-p", str(server.pid))
    # The file exists when all threads were interrupted: asleep again, they have restarted accept.
    wait_for(lambda: running.path.exists() and all(map(asleep, tids)), "accept again")
    assert {status_of(tid, "TracerPid") for tid in tids} == {str(running.process.pid)}
    assert ask() == "served"
    served = running.until("accept4")
    assert served["ret"] >= 0 and served["pid"] == server.pid and served["tid"] in tids
    wait_for(lambda: all(map(asleep, tids)), "accept again")
    running.process.send_signal(number)
    assert running.wait().status == 0, running.err
    assert {status_of(tid, "TracerPid") for tid in tids} == {"0"}
    left = [call for call in running.calls() if call["ret"] is None]
    assert sorted(call["tid"] for call in left) == tids
    assert not [line for line in running.lines() if line["type"] != "call"]
    wait_for(lambda: all(map(asleep, tids)), "accept after the detach")
    assert ask() == "served"
    server.kill()
    assert server.wait() == -signal.SIGKILL


def test_an_attached_process_survives_a_capture_that_is_killed_or_fails(spawn):
    server = spawn([sys.executable, "-c", SERVER])
    pid_of()
    running = Captured("-p", str(server.pid))
    wait_for(running.path.exists, "the output file")
    assert ask() == "served"
    running.until("accept4")
    running.process.kill()
    running.wait()
    assert running.path.read_text().endswith("}\n") and running.calls("accept4")[-1]["ret"] >= 0
    assert ask() == "served"
    done = Captured("-o", "/dev/full", "-p", str(server.pid))
    wait_for(lambda: status_of(server.pid, "TracerPid") == str(done.process.pid), "the tracer")
    assert ask() == "served"
    assert done.wait().status == 125
    assert "No space left" in done.err
    # The line that cannot be written is one of a signal, at whose stop the process is.
    # (A thread that is not traced yet would ignore it.)
    done = Captured("-o", "/dev/full", "-p", str(server.pid))
    tracers = lambda: {status_of(tid, "TracerPid") for tid in threads(server.pid)}  # noqa: E731
    wait_for(lambda: tracers() == {str(done.process.pid)}, "the tracer of each thread")
    server.send_signal(signal.SIGWINCH)
    assert done.wait().status == 125
    assert ask() == "served"
    done = capture("-o", "/no/folder/file", "-p", str(server.pid))
    assert done.status == 125
    assert status_of(server.pid, "TracerPid") == "0"
    assert ask() == "served"
    server.kill()
    server.wait()


def test_an_attached_process_that_ends_gives_its_status(spawn):
    server = spawn([sys.executable, "-c", SERVER])
    pid_of()
    running = Captured("-p", str(server.pid))
    wait_for(running.path.exists, "the output file")
    server.terminate()
    assert running.wait().status == 128 + signal.SIGTERM
    assert server.wait() == -signal.SIGTERM
