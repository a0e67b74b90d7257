"""The sandbox: what it isolates, what is recorded in it, and that nothing remains of it."""

import mmap
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from probes.abi.operations import SOCKETCALL
from probes.entry.calls import Calls
from probes.entry.gate import gate
from probes.entry.memory import Memory
from probes.sandbox import clone, namespaces, sandbox, work
from probes.sandbox.channel import Channel, ChannelFull, Received
from probes.sandbox.messages import Broke, Finished, Report, SandboxFailed
from probes.sandbox.sandbox import SandboxResult, SandboxSpec
from probes.trace.deadline import Deadline
from probes.trace.processes import kill

DEADLINE = 20
#: CLONE_NEWUSER, by which a fork takes the way of a sandbox.
NEW_USER = 0x10000000

Run = Callable[..., SandboxResult]


def open_descriptors() -> list[str]:
    """Return the open descriptors of this process."""
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


def maps_of(path: Path) -> str:
    """Return what /proc/PID/maps holds, "" if the process has ended."""
    try:
        return path.read_text()
    except OSError:
        return ""


def sent(result: SandboxResult) -> dict[str, Any]:
    """Return the data of the one report that a body sent."""
    (message,) = result.messages
    assert isinstance(message, Report)
    return message.data


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a body, which gets a channel, in a sandbox."""
    channel = Channel()

    def do(body: Callable[[Channel], None], deadline: float = DEADLINE, **spec: Any) -> SandboxResult:
        return sandbox.run(lambda: body(channel), SandboxSpec(**spec), channel, tmp_path, deadline)

    return do


def test_standard_input_is_no_file_of_the_machine(run):
    """A body that changes the mode of its standard input does not change that of /dev/null."""
    saved, null = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    try:
        result = run(lambda channel: channel.send(Report({"fifo": stat.S_ISFIFO(os.fstat(0).st_mode)})))
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        os.close(null)
    assert sent(result) == {"fifo": True}


def test_a_signal_before_the_child_is_supervised(run, monkeypatch):
    """The child ends and is reaped: its init would wait for that, and the command for init."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    def end_children():
        for child in psutil.Process().children():
            child.kill()

    monkeypatch.setattr(sandbox, "Tracer", interrupted)
    with Deadline(DEADLINE, end_children) as limit, pytest.raises(KeyboardInterrupt):
        run(lambda channel: signal.pause())
    assert not limit.passed
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_namespaces_are_its_own(run):
    """Each of the five namespaces differs from the caller's, and the body is not the first process of its own."""
    found = sent(run(lambda channel: channel.send(Report({"links": namespaces.current(), "pid": os.getpid()}))))
    assert set(found["links"].values()).isdisjoint(namespaces.current().values())
    assert len(found["links"]) == 5
    assert found["pid"] == 2


def test_files_are_its_own(run, tmp_path):
    """Files that the body writes to its directory do not exist outside."""

    def body(channel):
        Path("left").write_text("x")
        found = [path.name for path in Path().iterdir()]
        channel.send(Report({"cwd": str(Path.cwd()), "tmp": os.environ["TMPDIR"], "found": found}))

    seen = sent(run(body))
    assert (seen["tmp"], seen["found"]) == (seen["cwd"], ["left"])
    assert list(Path(seen["cwd"]).iterdir()) == list(tmp_path.iterdir()) == []


def test_a_body_may_remove_its_directory(run, tmp_path):
    """A body without mounts of its own that removes its directory, or puts a link in its place, harms no later one."""
    (tmp_path.parent / "other").mkdir()
    (tmp_path.parent / "other" / "file").touch()

    def remove(channel):
        tmp_path.rmdir()

    def replace(channel):
        tmp_path.rmdir()
        tmp_path.symlink_to("other")

    def leave_a_link(channel):
        Path("link").symlink_to("x" * 256)

    for body in (remove, replace, leave_a_link):
        run(body, isolation="none", trace="none")
        run(
            lambda channel: channel.send(Report({"found": [*map(str, Path().iterdir())]})),
            isolation="none",
            trace="none",
        )
    assert tmp_path.is_dir()
    assert list(tmp_path.iterdir()) == []
    assert [path.name for path in (tmp_path.parent / "other").iterdir()] == ["file"]


@pytest.mark.parametrize("isolation", ["full", "none"])
def test_a_directory_is_made_where_it_is_needed_only(
    isolation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sandbox with mounts of its own works in a directory that exists and is empty, if there is one."""
    (tmp_path / "used" / "file").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    for usual, there in ((["none", "link", "used", "empty"], "empty"), (["used"], "made")):
        monkeypatch.setattr(work, "_USUALLY_EMPTY", [str(tmp_path / name) for name in usual])
        work._empty_directory.cache_clear()
        expected = tmp_path / (there if isolation == "full" else "made")
        assert work.made(isolation, tmp_path / "made") == expected
        assert (tmp_path / "made").exists() == (expected.name == "made")
    work._empty_directory.cache_clear()


def test_nothing_is_left(run):
    """Sandboxes whose bodies leave threads, processes and sockets behind leave no descriptor, socket, thread or process."""

    def body(channel):
        calls = Calls(gate("int80"), "socketcall", Memory())
        for _ in range(5):
            calls.socket(1, 1, 0)
        threading.Thread(target=signal.pause, daemon=True).start()
        if os.fork() == 0:
            os.setsid()
            signal.pause()

    def holders() -> list[int]:
        """Return the processes that have the mark in memory, which a fork inherits: this one, and what is left."""
        return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/maps") if mark in maps_of(path)]

    mark = f"socketcall-left-{os.getpid()}"
    descriptor = os.memfd_create(mark)
    os.ftruncate(descriptor, mmap.PAGESIZE)
    marked = mmap.mmap(descriptor, mmap.PAGESIZE)
    os.close(descriptor)
    run(body)
    this = psutil.Process()
    # Sockets are among the descriptors of a process; /proc/net/unix has those of others too.
    before = open_descriptors(), this.num_threads()
    for trace in ("gate", "calls", "none"):
        for _ in range(10):
            assert run(body, trace=trace).status == 0
    after = open_descriptors(), this.num_threads()
    assert after == before
    assert holders() == [this.pid]
    marked.close()


@pytest.mark.parametrize("isolation", ["net", "none"])
def test_a_process_that_a_body_leaves_ends_with_it(run, isolation):
    """Without a pid namespace too, in which init would end it: a traced one is killed, and no deadline passes."""

    def body(channel):
        if os.fork() == 0:
            os.setsid()
            signal.pause()

    for trace in ("gate", "calls"):
        result = run(body, isolation=isolation, trace=trace)
        assert (result.status, result.late) == (0, False)
    assert psutil.Process().children(recursive=True) == []


@pytest.mark.parametrize("trace", ["gate", "calls", "none"])
def test_deadline(run, trace):
    """A body that does not end is killed at the deadline, and the result is marked as late."""
    start = time.monotonic()
    result = run(lambda channel: signal.pause(), deadline=0.3, trace=trace)
    assert result.late
    assert result.status == signal.SIGKILL
    assert time.monotonic() - start < DEADLINE


def test_records_hold_every_call(run):
    """Each call through the gate has a record with its id, registers, words and result; calls of Python have none."""

    def body(channel):
        memory = Memory()
        calls = Calls(gate("int80"), "socketcall", memory)
        made = [calls.socket(2, 1, 0), calls.bind(-1, bytes(16)), calls.close(99)]
        words = memory.words(9999, 8)
        made.append(gate("int80").enter(SOCKETCALL, 4, words.address))
        channel.send(Report({"made": [[result.call_id, int(result)] for result in made], "words": words.address}))

    result = run(body)
    found, records = sent(result), result.records()
    assert [[record.call, record.ret] for record in records] == found["made"]
    assert [record.op for record in records] == ["socket", "bind", "close", "listen"]
    last = records[-1]
    assert (last.nr, last.route, last.gate, list(last.args)) == (102, "socketcall", "int80", [9999, 8])
    assert [last.regs_in[name] for name in ("eax", "ebx", "ecx")] == ["0x66", "0x4", hex(found["words"])]
    assert (last.args_ptr, last.args_after, last.regs_out["eax"]) == (hex(found["words"]), (9999, 8), "0xfffffff7")


def test_children_and_threads_are_followed(run):
    """Calls of a thread and of a child process are recorded with their own tids, and with ids that are unique."""

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


def test_body_does_not_run_in_an_incomplete_sandbox(run, monkeypatch):
    """A body does not run if its process is still in the caller's namespaces."""
    # An unshare that succeeds without effect cannot be provoked: no flags leave no namespace.
    monkeypatch.setattr(namespaces, "unshare_flags", lambda isolation, user: 0)
    result = run(lambda channel: channel.send(Finished()), trace="none")
    assert [type(message) for message in result.messages] == [SandboxFailed]


def test_channel_keeps_order_and_has_an_end():
    """Messages are received in the order sent; one that does not fit is refused, and those before it remain."""
    channel = Channel(200)
    messages = [Broke("a"), Report({"b": [2]})]
    for message in messages:
        channel.send(message)
    with pytest.raises(ChannelFull):
        channel.send(Broke("x" * 200))
    assert channel.received() == Received(messages)


@pytest.mark.parametrize("namespace", [0, NEW_USER], ids=["none", "user"])
def test_fork_with_a_thread_that_waits_for_the_interpreter(namespace):
    """A fork succeeds while another thread waits for the interpreter's lock: the child has no such thread."""
    done = threading.Event()
    interval = sys.getswitchinterval()
    thread = threading.Thread(target=lambda: [None for _ in iter(done.is_set, True)])
    thread.start()
    sys.setswitchinterval(1e-6)
    try:
        # (With the hooks called from Python the first to the eleventh child hung, in six trials of six.)
        for _ in range(60):
            child = clone.fork(namespace, init=False)
            if not child.pid:
                os._exit(7)
            with Deadline(DEADLINE, lambda pid=child.pid: kill(pid)):
                assert os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]) == 7
    finally:
        sys.setswitchinterval(interval)
        done.set()
        thread.join()
