"""Tests `socketcall capture -p`: a running process is captured, and continues after a detach."""

import os
import signal
import subprocess
import sys

import pytest

from probes.trace.processes import threads
from tests.instruments.capture_programs import (
    DEADLINE,
    WAIT,
    WAITING,
    Captured,
    asleep,
    capture,
    one_line,
    pid_of,
    python,
    status_of,
    wait_for,
)

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
    running.process.kill()
    running.wait()
    assert ask() == "served"
    done = Captured("-o", "/dev/full", "-p", str(server.pid))
    wait_for(lambda: status_of(server.pid, "TracerPid") == str(done.process.pid), "the tracer")
    assert ask() == "served"
    assert done.wait().status == 125
    assert "No space left" in done.err
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
