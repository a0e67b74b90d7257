"""The sandbox itself: what it keeps apart, what it sees, and that nothing of it stays."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from probes.abi.operations import SOCKETCALL
from probes.entry.calls import Calls
from probes.entry.gate import gate
from probes.entry.memory import Memory
from probes.sandbox import clone, namespaces, sandbox
from probes.sandbox.channel import Channel, ChannelFull
from probes.sandbox.sandbox import SandboxSpec
from probes.trace.deadline import Deadline

DEADLINE = 20


def open_descriptors():
    """The descriptors that this process has, but the one used to look."""
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


@pytest.fixture
def run(tmp_path):
    """Runs a body, which gets a channel, in a sandbox."""
    channel = Channel()

    def do(body, deadline=DEADLINE, **wish):
        return sandbox.run(lambda: body(channel), SandboxSpec(**wish), channel, tmp_path, deadline)

    return do


def test_namespaces_are_its_own(run):
    """None of the five namespaces is the caller's, and the body is not their first process."""
    outcome = run(lambda channel: channel.say({"links": namespaces.links(), "pid": os.getpid()}))
    (said,) = outcome.messages
    assert set(said["links"].values()).isdisjoint(namespaces.links().values())
    assert said["pid"] == 2


def test_files_are_its_own(run, tmp_path):
    """What it writes into its folder is gone with it."""

    def body(channel):
        Path("left").write_text("x")
        channel.say(
            {"cwd": str(Path.cwd()), "tmp": os.environ["TMPDIR"], "found": [path.name for path in Path().iterdir()]}
        )

    assert run(body).messages == [{"cwd": str(tmp_path), "tmp": str(tmp_path), "found": ["left"]}]
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left(run):
    """After many sandboxes, which leave tasks, sockets and files behind: no descriptor, no process, no socket."""

    def body(channel):
        calls = Calls(gate("int80"), "socketcall", Memory())
        for _ in range(5):
            calls.socket(1, 1, 0)
        threading.Thread(target=signal.pause, daemon=True).start()
        if os.fork() == 0:
            os.setsid()
            signal.pause()

    run(body)
    me = psutil.Process()
    before = open_descriptors(), me.num_threads(), Path("/proc/net/unix").read_text().count("\n")
    for trace in ("gate", "calls", "none"):
        for _ in range(10):
            assert run(body, trace=trace).status == 0
    after = open_descriptors(), me.num_threads(), Path("/proc/net/unix").read_text().count("\n")
    assert after == before
    assert me.children(recursive=True) == []


@pytest.mark.parametrize("trace", ["gate", "calls", "none"])
def test_deadline(run, trace):
    """A body that never ends is ended, and that is said."""
    start = time.monotonic()
    outcome = run(lambda channel: signal.pause(), deadline=0.3, trace=trace)
    assert outcome.late
    assert outcome.status == signal.SIGKILL
    assert time.monotonic() - start < DEADLINE


def test_records_tell_all(run):
    """Each call of the gate has a record, with number, registers, words and result; Python's own have none."""

    def body(channel):
        memory = Memory()
        calls = Calls(gate("int80"), "socketcall", memory)
        made = [calls.socket(2, 1, 0), calls.bind(-1, bytes(16)), calls.close(99)]
        words = memory.words(9999, 8)
        made.append(gate("int80").enter(SOCKETCALL, 4, words.address))
        channel.say({"made": [[result.call, int(result)] for result in made], "words": words.address})

    outcome = run(body)
    (said,) = outcome.messages
    records = outcome.records()
    assert [[record.call, record.ret] for record in records] == said["made"]
    assert [record.op for record in records] == ["socket", "bind", "close", "listen"]
    last = records[-1]
    assert (last.nr, last.route, last.gate, list(last.args)) == (102, "socketcall", "int80", [9999, 8])
    assert [last.regs_in[name] for name in ("eax", "ebx", "ecx")] == ["0x66", "0x4", hex(said["words"])]
    assert (last.args_ptr, last.args_after, last.regs_out["eax"]) == (hex(said["words"]), (9999, 8), "0xfffffff7")


def test_children_and_threads_are_followed(run):
    """Calls of a thread and of a child have records of their own tasks, with numbers that nobody else has."""

    def body(channel):
        enter = gate("int80").enter
        enter(20)
        thread = threading.Thread(target=enter, args=(20,))
        thread.start()
        thread.join()
        child = os.fork()
        if child == 0:
            enter(20)
            os._exit(0)
        os.waitpid(child, 0)

    records = run(body).records()
    main, thread, child = records
    assert len({record.call for record in records}) == 3
    assert thread.pid == main.pid != child.pid
    assert thread.tid != main.tid


def test_sandbox_needs_a_whole_one(run, monkeypatch):
    """If the body would run outside, it does not run: here leaving changes nothing."""
    # A fault that cannot be provoked: an unshare that says yes and does nothing.
    monkeypatch.setattr(namespaces, "to_leave", lambda isolation, user: 0)
    outcome = run(lambda channel: channel.say({"ran": True}), trace="none")
    assert [list(message) for message in outcome.messages] == [["sandbox"]]


def test_channel_keeps_order_and_has_an_end():
    """Messages come back in order; one that does not fit is refused, and those before it stay."""
    channel = Channel(200)
    channel.say({"a": 1})
    channel.say({"b": [2]})
    with pytest.raises(ChannelFull):
        channel.say({"c": "x" * 200})
    assert channel.heard() == [{"a": 1}, {"b": [2]}]


def test_another_thread_that_wants_the_interpreter_keeps_nobody_from_being_born():
    """The newborn has no other thread to hand the interpreter's lock to."""
    done = threading.Event()
    interval = sys.getswitchinterval()
    thread = threading.Thread(target=lambda: [None for _ in iter(done.is_set, True)])
    thread.start()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(300):
            born = clone.fork(0, init=False)
            if not born.child:
                os._exit(7)
            with Deadline(DEADLINE, lambda born=born: clone.kill(born.child)):
                assert os.waitstatus_to_exitcode(os.waitpid(born.child, 0)[1]) == 7
    finally:
        sys.setswitchinterval(interval)
        done.set()
        thread.join()
