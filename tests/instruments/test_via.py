"""`socketcall check --via COMMAND`: agents that a command runs, on this kernel, under an emulator, or not at all."""

import shlex
import sys

import pytest

from probes.entry.agent import Agent
from probes.entry.agent_frames import AgentError
from probes.testing.reference import local
from tests.instruments.support import installed, missing

QEMU = "qemu-i386-static {agent}"
BIND = """
@law
def test_law(new_socket, calls, memory, expect):
    '''A statement.'''
    made = new_socket(socket.AF_INET, socket.SOCK_STREAM)
    expect(0, step="bind").of(made.bind(ADDRESS))
    expect(-errno.EFAULT, step="fault").of(made.bind(memory.unmapped(), 16))
    expect(bytes([127, 0, 0, 1]), step="name").of(made.sockname()[4:8])
"""
#: Passes frames between its standard streams and the agent, and spoils what follows the first bind over socketcall.
BETWEEN = r"""
import os, struct, subprocess, sys
how, agent = sys.argv[1:]
child = subprocess.Popen([agent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
def exactly(stream, size):
    data = b""
    while len(data) < size:
        part = os.read(stream, size - len(data))
        if not part:
            os._exit(7)
        data += part
    return data
def frame(stream):
    head = exactly(stream, 24)
    return head + exactly(stream, struct.unpack_from("<I", head, 12)[0])
ENTER, BIND = struct.pack("<I", 3), struct.pack("<2I", 102, 2)
OTHER, GETPID = struct.pack("<I", 1298), struct.pack("<I", 20)
info = frame(child.stdout.fileno())
os.write(1, info[:24] + OTHER + info[28:] if how == "other-pid" else info)
while True:
    request = frame(0)
    child.stdin.write(request)
    reply = frame(child.stdout.fileno())
    if how == "other-pid":
        if request[8:12] == ENTER and request[28:32] == GETPID:
            reply = reply[:56] + OTHER + reply[60:]
    elif request[8:12] == ENTER and request[28:36] == BIND:
        if how == "silent":
            os.read(0, 1)
        if how == "dies":
            os.write(2, b"the emulator is out of order\n")
            os.abort()
        if how == "ends":
            os._exit(3)
        reply = {"half": reply[:30], "nonsense": b"Segmentation fault, core dumped", "twice": reply + reply}[how]
    os.write(1, reply)
    if how == "half" and len(reply) == 30:
        os._exit(0)
"""


@pytest.fixture
def runs_agents():
    """Skip where this kernel runs no i386 program."""
    try:
        Agent().close()
    except (AgentError, OSError) as error:
        missing(f"a kernel that runs i386 programs: {error}")


@pytest.fixture
def between(tmp_path, runs_agents):
    """Return a command that runs the agent natively and spoils its replies in a way."""
    program = tmp_path / "between.py"
    program.write_text(BETWEEN)
    return lambda how: f"{shlex.quote(sys.executable)} -S {program} {how} {{agent}}"


@pytest.mark.parametrize(
    ("package", "command"),
    [("qemu-user-static", QEMU), ("valgrind", "valgrind -q --tool=none {agent}"), ("proot", "proot {agent}")],
)
def test_an_emulator_is_judged(judge, package, command):
    """The agent runs under an emulator: the calls are not observed, the run names command, implementation, reference."""
    installed(package)
    run = judge(BIND, args=("--via", command))
    assert run.verdicts == ["conforms"] * 3, run.out + run.err
    assert {(check["word"], check["gate"]) for check in run.checks} == {(32, "int80")}
    calls = [line for line in run.lines("evidence.jsonl") if line["type"] == "call"]
    assert [(call["op"], call["abi"], call["observed"]) for call in calls] == [
        ("bind", "i386", False), ("bind", "i386", False), ("getsockname", "i386", False)
    ]  # fmt: skip
    assert calls[0]["decoded"]["addr"]["host"] == "127.0.0.1"
    head = run.lines("results.jsonl")[0]
    target = head["target"]
    name = command.split()[0]
    assert (target["implementation"], target["via"], target["traced"]) == (name, command, False)
    assert ([one["name"] for one in target["callers"]], target["abi"]) == (["agent"], "i386")
    said = f"socketcall: {name}, which calls this kernel, judged against {head['reference']}"
    assert run.out.splitlines()[0] == said
    assert head["reference"].startswith("i386 ")


def test_known_defects_of_an_emulator_are_found(socketcall):
    """qemu-user 7.2 accepts unknown type flags, and dies of a bind with a great length: each deviates, with its call."""
    installed("qemu-user-static")
    run = socketcall(
        "check", "--via", QEMU, "--route", "direct", "socket.pair.unknown-flags", "bind.length.out-of-range"
    )
    assert run.status == 1, run.out + run.err
    found = {check["id"]: check for check in run.checks}
    assert {check["verdict"] for check in run.checks} == {"conforms", "deviates"}
    assert found["socket.pair.unknown-flags"]["actual"] == 0
    died = found["bind.length.out-of-range"]
    assert (died["verdict"], died["actual"]) == ("deviates", "died SIGSEGV")
    (call,) = [line for line in run.lines("evidence.jsonl") if line["type"] == "call" and line["seq"] in died["seq"]]
    assert (call["op"], call["ret"], call["regs_out"]) == ("bind", None, None)
    assert call["decoded"]["addrlen"] > 128
    assert f"again     socketcall check --via '{QEMU}' socket.pair.unknown-flags" in run.out


@pytest.mark.parametrize(
    ("how", "verdict", "actual", "detail"),
    [
        ("silent", "deviates", "no return", "no reply came within the time of the test"),
        ("dies", "deviates", "died SIGABRT", "died by signal 6; it wrote: the emulator is out of order"),
        ("ends", "deviates", "exited 3", "ended with status 3"),
        ("half", "broke", None, "only 30 of 132 bytes of the reply came"),
        ("nonsense", "broke", None, "'Segmentation fault, core dumped' is no reply"),
        ("twice", "broke", None, "which came already: it came twice or too late"),
    ],
)
def test_a_command_that_fails_in_a_call(judge, between, how, verdict, actual, detail):
    """A call that kills or blocks its process deviates, and is the evidence; a spoiled reply broke, with the reason."""
    run = judge(BIND, args=("--via", between(how), "--deadline", "3"))
    last = run.checks[-1]
    assert (last["verdict"], last["actual"]) == (verdict, actual), run.out + run.err
    assert detail in last["detail"]
    assert run.status == (1 if verdict == "deviates" else 3)
    if verdict == "deviates":
        (call,) = [line for line in run.lines("evidence.jsonl") if line["type"] == "call"]
        assert (call["op"], call["ret"], call["args"][0], call["decoded"]["addrlen"]) == ("bind", None, 3, 16)


def test_a_test_that_has_no_time_left_is_no_call_that_does_not_return(judge, runs_agents):
    source = """
@law
def test_law(calls, expect):
    '''A statement.'''
    check = expect(0)
    while True:
        calls.close(-1)
"""
    (check,) = judge(source, args=("--via", """sh -c 'exec "$0"' {agent}""", "--deadline", "1.5")).checks
    assert check["verdict"] == "broke"
    assert "(enter): no reply came within the time of the test" in check["detail"]
    assert check["detail"].endswith(" s after the request: the test is too long for --deadline")


@pytest.mark.parametrize("announced", [False, True])
def test_a_command_that_fails_in_set_up(judge, between, announced):
    """A call of set-up that ends its process makes what was announced deviate, or the set-up; both say so."""
    source = f"""
from probes.testing.socket_kinds import TCP
@law
def test_law(prepare, calls, expect):
    '''A statement.'''
    check = expect(0, step="close") if {announced} else None
    prepare("bound", TCP)
    expect(-errno.EBADF).of(calls.close(-1))
"""
    (check,) = judge(source, args=("--via", between("ends"))).checks
    wanted = ("step=close", 0) if announced else ("set-up=refused", "success")
    assert (check["case"], check["expected"], check["actual"]) == (*wanted, "exited 3")
    assert check["verdict"] == "deviates"
    assert check["detail"].startswith("in set-up, request ")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "/nonexistent/emulator {agent}",
            "cannot run '/nonexistent/emulator': No such file or directory; name a program",
        ),
        ("true {agent}", "no reply came; `true {path}` ended with status 0"),
        ("sh -c 'echo no such option >&2; exit 3' {agent}", "ended with status 3; it wrote: no such option"),
        ("sh -c 'echo usage' {agent}", r"no reply came, but 'usage\n', and it ended with status 0"),
        ("qemu-i386-static", "'qemu-i386-static' does not name {{agent}}, which stands for the program that it runs"),
        ("sh -c '", "No closing quotation; quote it as for a shell"),
        ("{agent}", "'{{agent}}' names no command: name what answers the calls by --implementation"),
    ],
)
def test_a_command_that_runs_no_agent(judge, command, message):
    """What runs no agent is named in one line before the first test, and the status is 2."""
    run = judge(BIND, args=("--via", command))
    assert run.status == 2, run.out + run.err
    assert message.partition("{path}")[0].replace("{{", "{").replace("}}", "}") in run.err
    assert run.err.startswith("socketcall: --via: ")
    assert run.err.count("\n") == 1
    assert not run.report.exists()


def test_a_program_of_the_users_directory(judge, tmp_path, runs_agents):
    """A path of the command is one of the directory where `check` was started, not of that of a test."""
    (tmp_path / "build").mkdir()
    program = tmp_path / "build" / "emulator"
    program.write_text('#!/bin/sh\nexec "$@"\n')
    program.chmod(0o755)
    run = judge(BIND, args=("--via", "build/emulator {agent}"))
    assert run.verdicts == ["conforms"] * 3, run.out + run.err
    assert run.lines("results.jsonl")[0]["target"]["via"] == f"{program} {{agent}}"


@pytest.mark.parametrize(
    ("command", "options", "reference"),
    [
        ("env {agent}", (), str(local())),
        ("env {agent}", ("--reference", "i386-6.1.176"), "i386 6.1.176"),
        (QEMU, ("--reference", "local"), str(local())),
    ],
    ids=["executed here", "another is given", "forwarded"],
)
def test_the_reference_is_this_kernel_where_it_executes_the_agent(judge, runs_agents, command, options, reference):
    """Nothing stands between the agent and the kernel in a container; `local` says so of what forwards its calls."""
    if command == QEMU:
        installed("qemu-user-static")
    run = judge(BIND, args=("--via", command, *options))
    assert run.verdicts == ["conforms"] * 3, run.out + run.err
    assert run.lines("results.jsonl")[0]["reference"] == reference


def test_a_command_that_prints_first(judge, runs_agents):
    """What a command prints before it runs the agent is skipped; --implementation names what answers."""
    command = "sh -c 'echo SCr1 booting; exec $0' {agent}"
    run = judge(BIND, args=("--via", command, "--implementation", "my kernel 0.1"))
    assert run.verdicts == ["conforms"] * 3, run.out + run.err
    target = run.lines("results.jsonl")[0]["target"]
    assert target["implementation"] == "my kernel 0.1"
    assert target["again"] == ["socketcall", "check", "--via", command, "--implementation", "my kernel 0.1"]


def test_what_its_set_up_lacks_is_not_applicable(judge):
    """Set-up that an emulator cannot do is no deviation and broke nothing: the call that it lacks is named."""
    installed("qemu-user-static")
    source = """
@law
def test_law(caller, calls, expect):
    '''A statement.'''
    caller.unshare(0x10000000)
    expect(0).of(calls.socket(2, 1))
"""
    run = judge(source, args=("--via", QEMU))
    (check,) = run.checks
    assert (check["verdict"], check["detail"]) == (
        "not_applicable", "unshare by qemu-i386-static, for set-up: Invalid argument"
    )  # fmt: skip


def test_a_process_that_this_kernel_knows_by_another_pid(judge, between):
    """What getpid returns may be the implementation's own: its sockets are this kernel's all the same, its descriptors are
    those that it reads in /proc/self itself, and what is done by that pid is not applicable."""
    source = """
from probes.testing import procfs
@law
def test_law(caller, calls, expect):
    '''A statement.'''
    check = expect(1, step="table")
    made = calls.socket(socket.AF_INET, socket.SOCK_RAW, 253)
    check.of(len(procfs.read_table("raw")), made)
    check = expect(True, step="inode")
    made = calls.socket(socket.AF_INET, socket.SOCK_RAW, 253)
    check.of(procfs.inode(made) in procfs.read_table("raw"), made)
    caller.lend(made)
"""
    run = judge(source, args=("--via", between("other-pid")))
    assert ", which calls this kernel, judged against " in run.out.splitlines()[0]
    details = {check["case"]: (check["verdict"], check["detail"]) for check in run.checks}
    name = run.lines("results.jsonl")[0]["target"]["implementation"]
    unknown = f"the process of {name}, with its descriptors, as this kernel knows it"
    assert details == {
        "step=table": ("conforms", ""),
        "step=inode": ("conforms", ""),
        "": ("not_applicable", unknown),
    }, run.out


def test_calls_that_an_emulator_makes_instead(judge, runs_agents):
    """What shows calls from outside, as a seccomp filter does, is judged of an agent that makes them itself alone."""
    source = """
@law
def test_law(caller, calls, expect):
    '''A statement.'''
    caller.require_own_calls()
    expect(-errno.EBADF).of(calls.listen(-1, 1))
"""
    own = judge(source, args=("--via", "sh -c 'exec \"$0\"' {agent}"))
    assert own.verdicts == ["conforms"], own.out
    installed("qemu-user-static")
    (check,) = judge(source, args=("--via", QEMU)).checks
    instead = "calls that this kernel sees as they are made, not as qemu-i386-static makes them"
    assert (check["verdict"], check["detail"]) == ("not_applicable", instead)


def test_a_silent_command_is_given_up(judge):
    """A command that says nothing is named when the time for its start is over, and is ended."""
    run = judge(BIND, args=("--via", "sh -c 'exec sleep 600' {agent}", "--deadline", "0.5"))
    assert run.status == 2, run.out + run.err
    assert "no reply came within 0.5 s; `sh -c 'exec sleep 600' " in run.err


#: Judges a listening socket by what /proc shows of it.
PROC = """
from probes.testing import procfs

@law
def test_law(new_socket, calls, caller, expect):
    '''A statement.'''
    free, before = procfs.lowest(2), procfs.descriptors()
    number, listed, pid = (expect(value, step=step) for value, step in ((free[0], "fd"), (free[0], "listed"), (1, "pid")))
    row, machine = expect(["0100007F", "0A"], step="row"), expect([True, 1, 3], step="machine")
    made = calls.socket(socket.AF_INET, socket.SOCK_STREAM)
    number.of(made)
    listed.of(*set(procfs.descriptors()) - set(before), made)
    need(calls.bind(made, ADDRESS))
    result = calls.make("listen", made, 1)
    found = procfs.row("tcp", procfs.inode(made))
    row.of([found["local"][:8], found["state"]], result)
    counted = procfs.socket_counts()["TCP"], len(procfs.sysctl("net.ipv4.tcp_rmem"))
    machine.of(["TCP" in procfs.protocols(), *counted], result)
    pid.of(caller.pid, result)
"""


def test_a_machine_with_a_proc_of_its_own(judge, runs_agents):
    """Where this kernel's /proc does not have the agent, the agent reads that of its machine: here, of a pid namespace."""
    run = judge(PROC, args=("--via", "unshare --fork --pid --mount-proc {agent}"))
    assert run.verdicts == ["conforms"] * 5, run.out + run.err
    assert f", which calls this kernel, judged against {local()}\n" in run.out


def test_a_machine_without_a_proc(judge, runs_agents):
    """Where neither shows the agent's sockets, what would be read there is not applicable."""
    hidden = "unshare --fork --pid --mount sh -c 'mount -t tmpfs none /proc; exec $0' {agent}"
    run = judge(PROC, args=("--via", hidden))
    (check,) = run.checks
    unknown = "the process of unshare, with its descriptors, as this kernel knows it"
    assert (check["verdict"], check["detail"]) == ("not_applicable", unknown), run.out
