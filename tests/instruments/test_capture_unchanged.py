"""Tests that a captured program has the answers that it has alone, and that what a capture cannot see is said."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from probes.entry.gate import WORD
from probes.trace import ptrace
from tests.instruments.capture_programs import DEADLINE, ENVIRONMENT, capture, python

pytestmark = [
    pytest.mark.sandbox(trace="none"),
    pytest.mark.skipif(WORD == 32, reason="the programs have numbers of x86-64"),
]

#: The beginning of programs that make calls by number.
CALLS = """
import ctypes, errno, os, signal, socket, struct
libc = ctypes.CDLL(None, use_errno=True)
def call(*words):
    return libc.syscall(*(ctypes.c_long(word) if isinstance(word, int) else word for word in words))
def in_child(pid):
    if pid == 0:
        try: socket.socket(socket.AF_INET6).close()
        except OSError as error: os._exit(error.errno)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0x40000000)[1]))
"""
UNTRACED = 0x00800000


def alone_and_captured(source):
    """Return what a program prints alone, and its capture, in which it prints the same."""
    alone = subprocess.run(
        [sys.executable, "-c", source], env=ENVIRONMENT, capture_output=True, text=True, timeout=DEADLINE, check=True
    ).stdout
    done = capture(*python(source))
    assert (done.status, done.out) == (0, alone), done.err
    return alone, done


@pytest.mark.parametrize("source", [
    f"in_child(call(56, {UNTRACED} | signal.SIGCHLD, 0, 0, 0, 0))",
    f"""
args = ctypes.create_string_buffer(struct.pack("<8Q", {UNTRACED}, 0, 0, 0, signal.SIGCHLD, 0, 0, 0))
pid = call(435, args, 64)
if pid: print(hex(struct.unpack_from("<Q", args.raw)[0]))
in_child(pid)
""",
], ids=["clone", "clone3"])  # fmt: skip
def test_a_child_that_asks_not_to_be_traced(source):
    """A child made with CLONE_UNTRACED makes socket calls as without a capture, and is captured."""
    alone, done = alone_and_captured(CALLS + source)
    assert alone.splitlines()[-1] == "0"
    assert [call["decoded"]["family"] for call in done.calls("socket")] == ["AF_INET6"]


def test_a_filter_that_asks_for_a_tracer():
    """SECCOMP_RET_TRACE of the program's own filter fails calls with ENOSYS, as it has no tracer."""
    filter = f"""
from probes.trace import ptrace, seccomp
program = seccomp.answering(41, 0, {ptrace.ARCH_X86_64})
program[4] = struct.pack("<HBBI", 0x06, 0, 0, seccomp.RET_TRACE)
socket.socket().close()
ptrace.set_filter(program)
try: socket.socket()
except OSError as error: print(errno.errorcode[error.errno])
a, b = socket.socketpair()
a.send(b"x")
"""
    alone, done = alone_and_captured(CALLS + filter)
    assert alone == "ENOSYS\n"
    # (Python calls getsockname by itself.)
    made = [(call["op"], call["errno"]) for call in done.calls() if call["op"] in ("socket", "socketpair", "sendto")]
    assert made == [("socket", None), ("socket", "ENOSYS"), ("socketpair", None), ("sendto", None)]


def test_no_call_is_lost_where_another_thread_installs_a_filter():
    """A thread that runs under our filter when another installs one is seen at its next call."""
    source = """
import threading
from probes.trace import ptrace, seccomp
turn = threading.Barrier(2)
a, b = socket.socketpair()
def work():
    turn.wait(); turn.wait()
    for _ in range(3): a.send(b"x")
thread = threading.Thread(target=work)
thread.start()
turn.wait()
ptrace.set_filter(seccomp.answering(41, 13, ptrace.ARCH_X86_64))
turn.wait()
thread.join()
"""
    done = alone_and_captured(CALLS + source)[1]
    assert [call["ret"] for call in done.calls("sendto")] == [1, 1, 1]


def test_no_call_is_lost_where_a_filter_is_for_all_threads():
    """SECCOMP_FILTER_FLAG_TSYNC: a call that the filter refuses to another thread is captured."""
    source = """
import threading
from probes.trace import ptrace, seccomp
turn = threading.Barrier(2)
def work():
    turn.wait(); turn.wait()
    try: socket.socket()
    except OSError as error: print(errno.errorcode[error.errno])
thread = threading.Thread(target=work)
thread.start()
turn.wait()
program = seccomp.answering(41, 13, ptrace.ARCH_X86_64)
code = ctypes.create_string_buffer(b"".join(program))
ptrace.prctl(ptrace.PR_SET_NO_NEW_PRIVS, 1)
assert call(317, 1, 1, (ctypes.c_size_t * 2)(len(program), ctypes.addressof(code))) == 0
turn.wait()
thread.join()
"""
    alone, done = alone_and_captured(CALLS + source)
    assert alone == "EACCES\n"
    assert [call["errno"] for call in done.calls("socket")] == ["EACCES"]


def test_a_child_that_asks_not_to_be_traced_behind_a_filter():
    """The child is captured although every call stops since the program installed a filter."""
    source = f"""
from probes.trace import ptrace, seccomp
ptrace.set_filter(seccomp.answering(1000, 13, ptrace.ARCH_X86_64))
in_child(call(56, {UNTRACED} | signal.SIGCHLD, 0, 0, 0, 0))
"""
    alone, done = alone_and_captured(CALLS + source)
    assert alone == "0\n"
    assert [call["decoded"]["family"] for call in done.calls("socket")] == ["AF_INET6"]


def test_a_number_of_no_abi_is_not_remarked_on():
    done = alone_and_captured(f"{CALLS}\nprint(call(-1))")[1]
    assert {line["type"] for line in done.lines()} == {"exit"}


@pytest.mark.parametrize(("source", "said"), [
    ("call(425, 0, 0)", "io_uring: what is done through the ring is no system call, and is not captured"),
    (f"call({0x40000000 | 41}, 2, 1, 0)", "x32: calls of this ABI are not captured"),
], ids=["io_uring", "x32"])  # fmt: skip
def test_what_is_not_seen_is_said(source, said):
    """A note says so, once for each process."""
    _, done = alone_and_captured(f"{CALLS}\n{source}\n{source}")
    notes = [line for line in done.lines() if line["type"] == "note"]
    assert [note["text"] for note in notes] == [said]
    assert notes[0]["pid"] == done.lines()[-1]["pid"] and notes[0]["seq"] == 1
    text = capture(*python(f"{CALLS}\n{source}"), format="text")
    assert f"/* {said} */" in text.lines()[0]


def test_the_tracer_follows_its_program_to_a_cpu():
    """The affinity of the program stays; the tracer has one CPU while a thread is traced alone, all of them with several."""
    source = """
import os, socket, threading
from pathlib import Path
def call(name):
    socket.socketpair()
    Path(name).write_text(str(sorted(os.sched_getaffinity(0))) + str(sorted(os.sched_getaffinity(os.getppid()))))
call("alone")
thread = threading.Thread(target=lambda: [call("two") for _ in range(600)])
thread.start(); thread.join()
"""
    every = sorted(os.sched_getaffinity(0))
    done = capture(*python(source))
    assert done.status == 0, done.err
    program, tracer = Path("alone").read_text().replace("][", "]|[").split("|")
    assert json.loads(program) == every
    assert len(json.loads(tracer)) == 1 and set(json.loads(tracer)) <= set(every)
    assert Path("two").read_text() == f"{every}{every}"
