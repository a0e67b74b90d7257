"""`socketcall check --boot COMMAND` and `--via-tty PATH`: agents over a line that loses, damages and adds bytes."""

import os
import pty
import shlex
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from probes.entry import line
from probes.entry.agent import Agent
from probes.entry.agent_frames import AgentError
from probes.entry.agent_line import LineAgent, MachineLost
from probes.entry.agent_start import PROGRAM
from probes.entry.initramfs import initramfs
from probes.testing import via_line
from probes.trace.processes import has_ended
from tests.instruments.support import checkout, installed, missing, wait_for

#: Two tests: the bytes of the first are damaged, the second shows that the line is in order again.
BIND = """
@law
@pytest.mark.parametrize("number", [1, 2])
def test_law(number, new_socket, expect):
    '''A statement.'''
    made = new_socket(socket.AF_INET, socket.SOCK_STREAM)
    expect(0).of(made.bind(ADDRESS))
"""
#: Is a machine: passes bytes between its standard streams and an agent on a terminal, and notes each start in a file. At the
#: first bind of the first start it does what `how` says.
MACHINE = r"""
import os, pty, select, struct, subprocess, sys, tty
how, starts, agent = sys.argv[1:]
with open(starts, "a") as file:
    file.write(f"{os.getpid()}\n")
master, slave = pty.openpty()
tty.setraw(slave)
if how == "never":
    os.read(0, 1)
child = subprocess.Popen([agent, os.ttyname(slave)], stdin=subprocess.DEVNULL, stdout=2)
MESSAGE = b"[    1.234567] eth0: link is up\r\n"
spoil = len(open(starts).readlines()) == 1 and how != "noise"
requests = replies = b""
os.write(1, MESSAGE)

def take(data, magic):
    found = []
    while len(data) >= 24 and data.startswith(magic):
        size = 28 + struct.unpack_from("<I", data, 12)[0]
        if len(data) < size:
            break
        found.append(data[:size])
        data = data[size:]
    return found, data

waits = ready = False
while True:
    for fd in select.select([0, master], [], [])[0]:
        data = os.read(fd, 65536)
        if not data:
            sys.exit(0)
        if fd == 0:
            found, requests = take(requests + data, b"SCq1")
            for one in found:
                if spoil and one[8:12] == struct.pack("<I", 3) and one[28:36] == struct.pack("<2I", 102, 2):
                    waits, number, spoil = True, one[4:8], False
                    if how == "request":
                        one = one[:30] + b"?" + one[31:]
                os.write(master, one)
        else:
            found, replies = take(replies + data, b"SCr1")
            for one in found:
                if how == "noise":
                    one = MESSAGE + one
                if waits and one[4:8] == number:
                    waits = False
                    if how == "silent":
                        os.close(1)
                        os.read(os.pipe()[0], 1)
                    if how == "panics":
                        os.write(2, b"Kernel panic - not syncing\n")
                        os._exit(3)
                    one = {
                        "message": one[:60] + MESSAGE + one[60:], "half": one[:30], "nonsense": b"Segmentation fault",
                        "twice": one + one, "flipped": one[:70] + bytes(255 - byte for byte in one[70:71]) + one[71:],
                        "request": one,
                    }[how]
                os.write(1, one)
"""


@pytest.fixture
def machine(tmp_path):
    """Return a function that gives the command of a machine; its attribute `starts` is the file of its starts."""
    try:
        Agent().close()
    except (AgentError, OSError) as error:
        missing(f"a kernel that runs i386 programs: {error}")
    program = tmp_path / "machine.py"
    program.write_text(MACHINE)

    def command(how):
        return f"{shlex.quote(sys.executable)} -S {program} {how} {command.starts} {{agent}}"

    command.starts = tmp_path / "starts"
    return command


def starts(machine):
    """Return the processes that were started as a machine."""
    return [int(line) for line in machine.starts.read_text().splitlines()]


def test_a_machine_is_booted_once(judge, machine):
    """Messages between replies do no harm; all tests have one machine, which ends with the run; the results name it."""
    run = judge(BIND, args=("--boot", machine("noise"), "-n", "1"))
    assert run.verdicts == ["conforms"] * 2, run.out + run.err
    (pid,) = starts(machine)
    assert has_ended(pid)
    target = run.lines("results.jsonl")[0]["target"]
    assert target["boot"] == machine("noise")
    assert target["kernel"]["release"] == os.uname().release
    assert target["isolation"] == ("net" if os.geteuid() == 0 else "none")
    assert target["again"] == ["socketcall", "check", "--boot", machine("noise")]
    assert {(check["word"], check["gate"]) for check in run.checks} == {(32, "int80")}
    calls = [line for line in run.lines("evidence.jsonl") if line["type"] == "call"]
    assert [(call["op"], call["observed"], call["args"][0]) for call in calls] == [("bind", False, 3)] * 2


@pytest.mark.parametrize(
    ("how", "detail"),
    [
        ("message", "the reply was damaged on"),
        ("flipped", "the reply was damaged on"),
        ("half", r"but 'SCr1"),
        ("nonsense", "but 'Segmentation fault'"),
        ("twice", "which came already: it came twice or too late"),
        ("request", "it was damaged on"),
    ],
)
def test_a_damaged_line_broke_one_test(judge, machine, how, detail):
    """What a line damages is named and broke that test, never the implementation; the next test has the same machine."""
    source = BIND if how != "twice" else BIND + "    expect(-errno.EINVAL, step='again').of(made.bind(ADDRESS))\n"
    run = judge(source, args=("--boot", machine(how), "-n", "1", "--deadline", "3"))
    first, *others = run.checks if how != "twice" else run.checks[1:]
    assert first["verdict"] == "broke", run.out + run.err
    assert detail in first["detail"]
    assert {other["verdict"] for other in others} == {"conforms"}
    assert len(starts(machine)) == 1
    assert run.status == 3


@pytest.mark.parametrize(
    ("how", "detail"),
    [("silent", "no agent answers"), ("panics", "ended with status 3; it wrote: Kernel panic - not syncing")],
)
def test_a_lost_machine_is_started_anew(judge, machine, how, detail):
    """The test during which a machine stops is lost, with its last words, and the next one has another machine."""
    run = judge(BIND, args=("--boot", machine(how), "-n", "1", "--deadline", "3"))
    first, second = run.checks
    assert (first["verdict"], first["case"]) == ("lost", "number=1"), run.out + run.err
    assert detail in first["detail"]
    assert second["verdict"] == "conforms"
    gone, _ = starts(machine)
    assert has_ended(gone)
    assert run.status == 3


@pytest.mark.parametrize(
    ("body", "actual"),
    [("calls.gate.enter(29)", "no return"), ("calls.gate.enter(37, caller.pid, 11)", "died SIGSEGV")],
)
def test_a_call_that_does_not_return(judge, machine, body, actual):
    """A call that blocks or kills its process deviates, and costs its test only: the machine goes on."""
    source = f"""
@law
@pytest.mark.routes("direct")
@pytest.mark.parametrize("number", [1, 2])
def test_law(number, calls, caller, expect):
    '''A statement.'''
    expect(0).of({body} if number == 1 else calls.gate.enter(24))
"""
    run = judge(source, args=("--boot", machine("noise"), "-n", "1", "--deadline", "3"))
    first, second = run.checks
    assert (first["verdict"], first["actual"]) == ("deviates", actual), run.out + run.err
    assert second["verdict"] == "conforms"
    assert len(starts(machine)) == 1


def test_two_workers_have_a_machine_each(judge, machine):
    """Each process of a run boots a machine of its own."""
    run = judge(BIND.replace("[1, 2]", "range(8)"), args=("--boot", machine("noise"), "-n", "2"))
    assert run.verdicts == ["conforms"] * 8, run.out + run.err
    assert len(starts(machine)) == 2
    assert all(map(has_ended, starts(machine)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--boot", "/nonexistent/emulator"), "--boot: cannot run '/nonexistent/emulator': No such file or directory"),
        (("--boot", "true"), "--boot: `true` ended with status 0"),
        (("--boot", "sh -c 'echo panic >&2; exit 3'"), "`sh` ended with status 3; it wrote: panic"),
        (("--boot", "sleep 600", "--deadline", "0.05"), "no reply came within"),
        (("--boot", "sh -c 'echo login:; sleep 600'", "--deadline", "0.05"), r"but 'login:\n'"),
        (("--boot", ""), "--boot: the command is empty"),
        (("--boot", "sh -c '"), "No closing quotation; quote it as for a shell"),
        (("--via-tty", "/nonexistent"), "--via-tty: /nonexistent: No such file or directory"),
        (
            ("--via-tty", "/dev/null"),
            "/dev/null is no line; it takes a terminal device, as of a serial port, or a Unix socket",
        ),
        (("--via-tty", "/dev"), "--via-tty: /dev: Is a directory"),
        (("--via-tty", "/dev/null", "--via", "true {agent}"), "--via and --via-tty: a run has one agent"),
        (("--via-tty", "/dev/null", "--caller", "python"), "--caller python with --via-tty"),
    ],
)
def test_what_is_no_machine(judge, arguments, message):
    """What cannot be booted, opened or combined is named in one line before the first test, and the status is 2."""
    run = judge(BIND, args=arguments)
    assert run.status == 2, run.out + run.err
    assert message in run.err
    assert run.err.count("\n") == 1
    assert not run.report.exists()


@pytest.fixture
def terminal(tmp_path, machine):
    """Start an agent on a terminal; return the path of the other end, as a program that copies bytes gives it."""
    near, far = pty.openpty(), pty.openpty()
    agent = tmp_path / "agent"
    agent.write_bytes(PROGRAM)
    agent.chmod(0o755)
    code = (
        "import os, select, sys, tty\na, b = map(int, sys.argv[1:])\n"
        "while True:\n for fd in select.select([a, b], [], [])[0]:\n  os.write(a + b - fd, os.read(fd, 65536))\n"
    )
    copies = [sys.executable, "-c", code, str(near[0]), str(far[0])]
    try:
        with (
            subprocess.Popen(copies, pass_fds=(near[0], far[0])) as copier,
            subprocess.Popen([agent, os.ttyname(far[1])], stdin=subprocess.DEVNULL) as process,
        ):
            try:
                yield os.ttyname(near[1])
            finally:
                process.kill()
                copier.kill()
    finally:
        for descriptor in (*near, *far):
            os.close(descriptor)


def test_a_terminal_is_judged_twice(judge, terminal):
    """The agent of a terminal stays there for the next run; one run uses it at a time."""
    for _ in range(2):
        run = judge(BIND, args=("--via-tty", terminal))
        assert run.verdicts == ["conforms"] * 2, run.out + run.err
    assert run.lines("results.jsonl")[0]["target"]["via_tty"] == terminal
    run = judge(BIND, args=("--via-tty", terminal, "-n", "2"))
    assert (run.status, run.err.count("\n")) == (2, 1)
    assert "there is one line for the whole run" in run.err


def test_a_terminal_without_its_agent(judge, terminal):
    """If the agent of a terminal ends, the test is lost, and the run ends: status 3, what is left did not run."""
    source = """
@law
@pytest.mark.routes("direct")
@pytest.mark.parametrize("number", [1, 2, 3])
def test_law(number, calls, expect):
    '''A statement.'''
    check = expect(0)
    if number == 2:
        parent = calls.gate.enter(64)
        calls.gate.enter(37, parent, signal.SIGKILL)
    check.of(calls.gate.enter(24) if number == 1 else calls.gate.enter(29))
"""
    run = judge(source, args=("--via-tty", terminal, "--deadline", "3"))
    assert run.verdicts == ["conforms", "lost", "not_run"], run.out + run.err
    assert run.status == 3
    assert f"the machine is lost: {terminal}: no agent answers" in run.out + run.err


def test_a_socket_without_an_agent(judge, tmp_path):
    """A Unix socket is a line too; if no agent answers there, the status is 2, within the deadline."""
    path = tmp_path / "line"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        run = judge(BIND, args=("--via-tty", str(path), "--deadline", "1"))
    assert run.status == 2
    assert f"--via-tty: {path}: no agent answers" in run.err


def test_a_socket_that_takes_no_connection(tmp_path, monkeypatch):
    """Where those before it fill the queue of a socket, it is waited for in seconds."""
    monkeypatch.setattr(line, "_CONNECT", 1)
    path = tmp_path / "line"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as first:
        server.bind(str(path))
        server.listen(0)
        first.connect(str(path))
        with pytest.raises(line.NoLine, match=f"{path}: Resource temporarily unavailable"):
            line.open_line(path)


def test_a_machine_whose_line_cannot_be_opened_again(monkeypatch):
    """A device that is unplugged during a run makes the machine lost; at the beginning there is none."""

    class Fake:
        def __init__(self, opened):
            self.line = opened

        def meet(self, end):
            pass

        begin = meet

        def resume(self, end):
            raise AgentError("gone")

    def opened():
        if lines:
            return lines.pop()
        raise line.NoLine("/dev/ttyUSB0: No such file or directory")

    monkeypatch.setattr(via_line, "LineAgent", Fake)
    lines = []
    machine = via_line.Machine(opened, False, 1.0)
    with pytest.raises(line.NoLine):
        machine.begin()
    lines.append(SimpleNamespace(close=lambda: None))
    machine.begin()
    assert machine.end(None) == "gone"
    with pytest.raises(MachineLost, match="it cannot be reached again: /dev/ttyUSB0: No such file or directory"):
        machine.begin()


class Console(line.Line):
    """Is a line that never falls silent."""

    def receive(self, end):
        """Return noise."""
        return b"flood\n"


def test_a_line_that_never_falls_silent():
    """Noise is read no longer than a reply is waited for."""
    read, write = os.pipe()
    os.close(write)
    console = Console("console", read)
    with pytest.raises(AgentError, match="no reply came over console within"):
        LineAgent(console).start(time.monotonic() + 0.1)
    console.close()


@pytest.mark.parametrize(("left", "seconds"), [(10.0, 12), (-100.0, 1)])
def test_the_alarm_of_a_child_is_set_also_late(monkeypatch, left, seconds):
    """alarm(2) with 0 seconds sets none, and a blocked child would keep the machine for ever."""
    read, write = os.pipe()
    os.close(write)
    agent, posted = LineAgent(line.Line("line", read)), []
    monkeypatch.setattr(agent, "post_call", lambda *arguments: posted.append(arguments))
    agent.limit(time.monotonic() + left)
    agent.line.close()
    assert posted == [("alarm", 0, 27, seconds)]


def test_a_machine_is_ended_once(monkeypatch):
    """What is said of its end stays the same, and no other process that got its number is killed."""
    booted = line.BootedLine(["sh", "-c", "exit 3"], "sh")
    os.waitid(os.P_PID, booted.process.pid, os.WEXITED | os.WNOWAIT)
    assert booted.ending(None) == "`sh` ended with status 3"
    killed = []
    monkeypatch.setattr(line.os, "killpg", lambda *arguments: killed.append(arguments))
    assert booted.ending(None) == "`sh` ended with status 3"
    booted.close()
    assert killed == []


def test_effects_of_calls_are_read_by_the_machine(socketcall, machine):
    """What a call left of a socket is read there: state of the socket, data, and descriptors that came with it."""
    ids = ("multiplexer.dispatch.listen", "multiplexer.dispatch.recvmsg")
    run = socketcall("check", "--boot", machine("noise"), "--implementation", "linux", *ids)
    assert run.status == 0, run.out + run.err
    assert {check["verdict"] for check in run.checks} == {"conforms"}
    effects = [check for check in run.checks if check["case"].endswith("left=effects")]
    assert {"fd listens", "fd queued"} <= {name for check in effects for name in check["expected"]}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_machine_ends_with_its_run(tmp_path, machine, number):
    """No machine outlives its run, however that ends."""
    (tmp_path / "tests").mkdir()
    code = "import sys; from probes.cli.main import main; sys.exit(main())"
    source = "from probes.testing import behaviour\n@behaviour('made.m0.law', 'x')\ndef test_law(calls, expect):\n"
    source += "    '''A statement.'''\n    expect(0).of(calls.gate.enter(29))\n"
    (tmp_path / "tests" / "made").mkdir()
    (tmp_path / "tests" / "made" / "test_m0.py").write_text(source)
    words = [
        "check",
        "--boot",
        machine("noise"),
        "--tests",
        str(tmp_path / "tests"),
        "--report",
        str(tmp_path / "report"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(checkout())}
    with subprocess.Popen(
        [sys.executable, "-c", code, *words],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as run:
        wait_for(lambda: (tmp_path / "report.part").exists(), "the beginning of the run")
        run.send_signal(number)
        run.wait(30)
    for pid in starts(machine):
        wait_for(lambda pid=pid: has_ended(pid), "the end of the machine")


def test_initramfs_is_a_cpio_archive(tmp_path):
    """cpio lists the archive: directories, nodes, process 1, the agent, and modules in their order."""
    installed("cpio")
    done = subprocess.run(["cpio", "-tv"], input=initramfs([b"first", b"second"]), capture_output=True, check=True)
    lines = [line.split() for line in done.stdout.decode().splitlines()]
    names = {line[-1]: line for line in lines}
    assert names["dev/console"][0] == "crw-------"
    assert names["init"][0] == names["agent"][0] == "-rwxr-xr-x"
    assert int(names["agent"][4]) == len(PROGRAM)
    assert [name for name in names if name.startswith("m/")] == ["m/0", "m/1"]
