"""What a sandbox cannot reach: its parent's memory, processes, descriptors and terminal; each is tried by a hostile test."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from probes.sandbox import clone, namespaces, sandbox
from probes.sandbox.channel import Channel
from probes.sandbox.messages import Report
from probes.sandbox.sandbox import SandboxSpec
from tests.instruments.support import DEADLINE, run_check, wait_for, write_tests

#: Isolation "net" needs the capabilities of root, in a container at least.
ISOLATIONS = ("full", "net", "none") if os.geteuid() == 0 else ("full", "none")

#: A hostile test: name: (source, verdict of its check "hostile", what its detail says). The body comes after a judged call.
HOSTILE = {
    "writes to the memory of init": ('''
    with pytest.raises(OSError):
        with open("/proc/1/mem", "r+b", buffering=0) as memory:
            memory.seek(MARK_ADDRESS)
            memory.write(b"x" * 64)
''', "conforms", ""),
    "writes to the memory of its parent, whose /proc it uncovers": ('''
    assert ctypes.CDLL(None).umount2(b"/proc", 2) == 0
    parent = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[1]
    assert "probes" in Path(f"/proc/{parent}/cmdline").read_text()
    with pytest.raises(OSError):
        with open(f"/proc/{parent}/mem", "r+b", buffering=0) as memory:
            memory.seek(MARK_ADDRESS)
            memory.write(b"x" * 64)
    with pytest.raises(OSError):
        os.open(f"/proc/{parent}/fd/1", os.O_WRONLY)
''', "conforms", ""),
    "writes to its own copy": ('''
    MARK.raw = b"x" * 64
''', "conforms", ""),
    "signals its process group": ('''
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    os.kill(0, signal.SIGUSR1)
''', "conforms", ""),
    "signals its parent": ('''
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    os.kill(os.getppid(), signal.SIGUSR1)
''', "conforms", ""),
    "kills its process group": ('''
    os.kill(0, signal.SIGKILL)
''', "broke", "died SIGKILL"),
    "kills its parent": ('''
    os.kill(os.getppid(), signal.SIGKILL)
''', "broke", "died SIGKILL"),
    "ends by a real-time signal": ('''
    os.kill(os.getpid(), signal.SIGRTMIN + 5)
''', "broke", "died signal"),
    "kills all": ('''
    with pytest.raises(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
''', "conforms", ""),
    "kills init": ('''
    os.kill(1, signal.SIGKILL)
''', "conforms", ""),
    "kills every number": ('''
    for pid in range(2, 70000):
        if pid != os.getpid():
            with pytest.raises(OSError):
                os.kill(pid, signal.SIGKILL)
''', "conforms", ""),
    "traces init": ('''
    from probes.trace import ptrace
    with pytest.raises(OSError):
        ptrace.request(ptrace.SEIZE, 1, 0, 0)
''', "conforms", ""),
    "writes to every descriptor": ('''
    for path in os.listdir("/proc/self/fd"):
        if os.path.islink(f"/proc/self/fd/{path}") and os.readlink(f"/proc/self/fd/{path}").startswith("pipe:"):
            continue  # The standard output and error of the run.
        for write in (lambda: os.lseek(int(path), 0, 0), lambda: os.write(int(path), b"\\xff" * 100)):
            try:
                write()
            except OSError:
                pass
''', "conforms", ""),
}  # fmt: skip

HOSTILE_TEST = '''
from pathlib import Path

MARK = ctypes.create_string_buffer(b"m" * 64, 64)
MARK_ADDRESS = ctypes.addressof(MARK)

@law
def test_hostile(calls, expect):
    """Binding descriptor -1 fails, in a test that then does what it must not."""
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
BODY

@behaviour("made.{name}.after", "this test")
def test_after(calls, expect):
    """What the test before it wrote did not reach the parent, of which this one is a copy."""
    expect({"mark": "m" * 64}).of({"mark": MARK.raw.decode()}, calls.bind(-1, ADDRESS))
'''


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Run all hostile tests in one run."""
    folder = tmp_path_factory.mktemp("hostile")
    sources = [
        HOSTILE_TEST.replace("BODY", body).replace("{name}", f"m{number}")
        for number, (body, *_) in enumerate(HOSTILE.values())
    ]
    write_tests(folder, *sources)
    return run_check(folder, "--deadline", "20", "--", "--tb=short")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_test_harms_itself_alone(name, ended):
    """A hostile test gets its verdict, and the test after it finds the parent as it was."""
    _, verdict, said = HOSTILE[name]
    number = list(HOSTILE).index(name)
    of_it = [check for check in ended.checks if check["id"] == f"made.m{number}.law"]
    after = [check["verdict"] for check in ended.checks if check["id"] == f"made.m{number}.after"]
    assert (of_it[-1]["verdict"], after) == (verdict, ["conforms"]), of_it
    assert said in of_it[-1]["detail"]
    assert ended.status == 3
    assert ended.lines("results.jsonl")[-1]["type"] == "end"


@pytest.fixture
def run(tmp_path):
    """Run a body, which gets a channel, in a sandbox."""
    channel = Channel()

    def do(body, **spec):
        return sandbox.run(lambda: body(channel), SandboxSpec(**spec), channel, tmp_path, DEADLINE)

    return do


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_no_descriptor_is_inherited(isolation, run, tmp_path):
    """Of the parent's descriptors the body has standard input, output and error alone; others are of its own root."""

    def body(channel):
        found = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        channel.send(Report({"fds": [int(path.name) for path in found if str(path.readlink()) != "/"]}))

    inherited = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(inherited, True)
    try:
        (message,) = run(body, isolation=isolation).messages
    finally:
        os.close(inherited)
    assert message.data["fds"] == [0, 1, 2]


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_session_is_its_own(isolation, run):
    """The body leads a session and a process group of its own, so no terminal's signal reaches it, nor its the parent."""

    def body(channel):
        channel.send(Report({"own": os.getsid(0) == os.getpgrp() == os.getpid()}))

    (message,) = run(body, isolation=isolation).messages
    assert message.data["own"]


def test_init_has_an_address_space_of_its_own():
    """Init is another program in a session of its own, without any of the parent's descriptors but the end of a pipe."""
    child = clone.fork(namespaces.unshare_flags("full", user=True), init=True)
    if not child.pid:
        signal.pause()
    try:
        init = psutil.Process(child.init)
        wait_for(lambda: init.name() == "socketcall-init", "the name of init")
        wait_for(lambda: len(list(Path(f"/proc/{child.init}/fd").iterdir())) == 1, "init to close descriptors")
        assert str(Path(f"/proc/{child.init}/fd/0").readlink()).startswith("pipe:")
        assert "python" not in Path(f"/proc/{child.init}/maps").read_text()
        assert os.getsid(child.init) == child.init
    finally:
        os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
        clone.end(child)
