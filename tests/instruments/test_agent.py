"""The agent and its driver: calls in another process, faults, crashes, and replies that are none."""

import errno
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import time
import tty
import zlib

import pytest

from probes.entry import agent_frames as agents
from probes.entry.agent import Agent
from probes.entry.agent_frames import MOST, AgentError, AgentGone, Refused
from probes.entry.agent_gate import AgentGate, AgentSpace, gate_names
from probes.entry.agent_start import PROGRAM
from probes.entry.calls import Calls
from probes.entry.gate import COOKIE
from probes.entry.memory import PAGE, POISON, PROT_NONE, Memory, OutOfMemory
from probes.entry.sweep import Sweep
from probes.trace.processes import has_ended
from tests.instruments.support import missing, wait_for

GETPID, PAUSE, KILL = 20, 29, 37
LOOPBACK = struct.pack("<H2x4s8x", 2, bytes([127, 0, 0, 1]))


@pytest.fixture
def agent():
    """Start an agent, and end it after the test."""
    try:
        with Agent() as started:
            yield started
    except OSError as error:
        missing(f"a kernel that runs i386 programs: {error}")


def fake(*steps):
    """Return a command that writes bytes to stdout, and waits for its end of input after each but the last."""
    program = "import os, sys\nfor step in sys.argv[1:]:\n os.write(1, bytes.fromhex(step))\n os.read(0, 4096)\n"
    return [sys.executable, "-c", program, *(step.hex() for step in steps)]


def reply(number=0, status=0, data=bytes(32), size=None):
    """Pack a reply."""
    return struct.pack("<4s5I", b"SCr1", number, status, len(data) if size is None else size, 0, 0) + data


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize("name", ["int80", "vdso"])
def test_gate_loads_and_stores_every_register(agent, name, quiet):
    """Registers have the given values at the entry and the kernel's at the exit: getpid changes eax only."""
    if name not in gate_names(agent):
        missing("a vDSO in 32-bit processes")
    given = {"ebx": 1, "ecx": 2, "edx": 3, "esi": 4, "edi": 5, "ebp": COOKIE}
    gate = AgentGate(agent, name, quiet)
    result = gate.enter(GETPID, **given)
    assert result == agent.pid == agent.info.pid
    assert result.regs_in == {"eax": GETPID, **given}
    assert result.regs_out == {"eax": agent.pid, **given}
    before, after = result.stack_pointers
    assert before == after != 0
    assert result.segments[0] == result.segments[1]
    assert gate.enter(GETPID, flags=1).flags[0] & 1 == 1
    record = result.record()
    assert (record.word, record.pid, record.gate, record.observed) == (32, agent.pid, name, False)


def test_faults_are_reported(agent):
    """A read or write of memory that is not there is refused, and the agent goes on."""
    with pytest.raises(Refused, match="read 4 bytes at 0x0: the agent replied fault"):
        agent.read(0, 4)
    agent.write(agent.info.code.start, b"x")
    with pytest.raises(Refused, match="write 1 bytes at 0x8048000: the agent replied fault"):
        agent.flush()
    assert agent.read(agent.info.code.start, 4) == b"\x7fELF"


def test_memory_is_like_that_of_this_process(agent):
    """Blocks are poisoned, guarded, longer than a frame; a page can be asked for, once, and taken away."""
    memory = Memory(AgentSpace(agent))
    data = bytes(range(256)) * (3 * MOST // 256) + b"end"
    assert memory.put(data).read() == data
    block = memory.guarded(b"abc")
    assert block.end % PAGE == 0
    assert agent.read(block.address - 1, 4) == bytes([POISON]) + b"abc"
    for address in (block.end, memory.unmapped(), memory.before_hole(8).end):
        with pytest.raises(Refused, match="fault"):
            agent.read(address, 1)
    assert memory.at(0x30000000, PAGE).read() == bytes([POISON]) * PAGE
    with pytest.raises(OutOfMemory):
        memory.at(0x30000000, PAGE)
    memory.space.protect(0x1000, PAGE, PROT_NONE)
    with pytest.raises(Refused, match="mprotect 0x1000: Cannot allocate memory"):
        agent.flush()


@pytest.mark.parametrize("route", ["socketcall", "direct"])
@pytest.mark.parametrize("name", ["int80", "vdso"])
def test_calls_and_sweeps(agent, name, route):
    """The operations work over either gate and route, and the loop gives the same results as single calls."""
    if name not in gate_names(agent):
        missing("a vDSO in 32-bit processes")
    calls = Calls(AgentGate(agent, name), route, Memory(AgentSpace(agent)))
    fd = calls.socket(2, 1)
    assert calls.bind(fd, LOOPBACK) == 0
    assert calls.name("getsockname", fd).bytes[4:8] == LOOPBACK[4:8]
    assert calls.bind(fd, calls.memory.unmapped(), 16) == -errno.EFAULT
    sweep = Sweep(calls)
    made = sweep.call("socket", 2, sweep.value, 0)
    sweep.call("listen", made, 1, judged=True)
    sweep.syscall("close", made)
    swept = sweep.run(range(8))
    assert list(swept.results) == [int(swept.again(value)) for value in range(8)]
    assert (swept.results[1], swept.results[7]) == (0, -errno.EBADF)


def test_a_crash_costs_the_child_only(agent):
    """A child of the agent serves until it ends; then the parent says how, and serves again."""
    child = agent.fork()
    assert agent.call(GETPID) == child != agent.pid
    agent.post_call("kill the child", 0, KILL, child, signal.SIGSEGV)
    assert os.waitstatus_to_exitcode(agent.ended()) == -signal.SIGSEGV
    child = agent.fork()
    agent.post(agents.EXIT, "exit", 7)
    assert os.waitstatus_to_exitcode(agent.ended()) == 7
    assert agent.call(GETPID) == agent.pid


def test_death_is_named(agent):
    """An agent that a call kills is gone, with its wait status; SIGSEGV is not taken for a fault of the agent's own."""
    with pytest.raises(AgentGone, match=r"enter.*no reply came; the agent died by signal 11") as caught:
        agent.enter(0, [KILL, agent.pid, signal.SIGSEGV, 0, 0, 0, 0], 1)
    assert os.waitstatus_to_exitcode(caught.value.status) == -signal.SIGSEGV


def test_silence_ends_at_the_deadline(agent):
    """A call that does not return is named when the deadline passes, and the agent is ended."""
    agent.deadline = 0.2
    with pytest.raises(AgentError, match=r"request \d+ \(enter\): no reply came within 0.2 s; the agent was ended"):
        agent.enter(0, [PAUSE, 0, 0, 0, 0, 0, 0], 1)
    with pytest.raises(ProcessLookupError):
        os.kill(agent.pid, 0)


def test_a_blocked_agent_dies_with_its_driver():
    """An agent that is blocked in a call ends when its driver is killed."""
    program = f"""
from probes.entry.agent import Agent
agent = Agent()
agent.call(20)
print(agent.pid, flush=True)
agent.call({PAUSE})
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as driver:
        pid = int(driver.stdout.readline())
        driver.kill()
    wait_for(lambda: has_ended(pid), "the end of the agent")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["true"], r"request 0 \(start\): no reply came; `true` ended with status 0"),
        (["sh", "-c", "echo usage; exit 3"], r"no reply came, but 'usage\\n', and it ended with status 3"),
        (fake(reply()[:30]), r"only 30 of 56 bytes of the reply came within 0.5 s"),
        (fake(reply(data=bytes(12))), r"is no info of an agent"),
        (fake(b"login: "), r"no reply came, but 'login: '"),
        (fake(reply(size=1 << 30)), r"the reply is damaged: status 0, 1073741824 bytes"),
        (fake(reply(), reply()), r"request 1 \(info\): reply 0 came instead, which came already"),
        (fake(reply(), reply(5)), r"reply 5 came instead, which was never asked for"),
        (fake(reply(), b"[ 1.0] a message of a kernel"), r"'\[ 1.0\] a message of a kern\w*' is no reply"),
        (fake(reply(), reply(1, status=9)), r"the reply is damaged: status 9"),
        (fake(reply(), reply(1)[:10]), r"only 10 of 24 bytes of the reply came within 0.5 s"),
        (fake(reply(), b""), r"request 1 \(info\): no reply came within 0.5 s"),
    ],
)
def test_what_is_no_agent_is_named(command, message):
    """Nonsense, half a frame, nothing, a frame twice, one that was not asked for: each is named, within the deadline."""
    with pytest.raises(AgentError, match=message), Agent(command, 0.5) as started:
        started.deadline = 0.5
        started.ask(agents.INFO)


def test_noise_before_the_first_reply_is_skipped(tmp_path):
    """What a console prints before the agent starts is no part of its replies."""
    path = tmp_path / "agent"
    path.write_bytes(PROGRAM)
    path.chmod(0o755)
    with Agent(["sh", "-c", 'echo "SCr1 booting"; exec "$0"', str(path)]) as started:
        assert started.call(GETPID) == started.pid


def test_command_that_does_not_exist():
    """A command that cannot be started is an OSError."""
    with pytest.raises(FileNotFoundError):
        Agent(["/nonexistent/agent"])


@pytest.fixture
def line(tmp_path):
    """Start an agent on a terminal; return the master of that, the slave, and the process, after the first reply."""
    path = tmp_path / "agent"
    path.write_bytes(PROGRAM)
    path.chmod(0o755)
    master, slave = pty.openpty()
    try:
        null = subprocess.DEVNULL
        with subprocess.Popen([path, "unknown", os.ttyname(slave), "root=98:0"], stdin=null, stdout=null) as process:
            try:
                assert receive(master)[:3] == (0, 0, process.pid.to_bytes(4, "little"))
                yield master, slave, process
            finally:
                process.kill()
    finally:
        os.close(master)
        os.close(slave)


def request(number, operation, first=0, second=0, data=b""):
    """Pack a request as a line carries it."""
    frame = struct.pack("<4s5I", b"SCq1", number, operation, len(data), first, second) + data
    return frame + struct.pack("<I", zlib.crc32(frame))


def receive(descriptor):
    """Read a reply with its checksum: its number, its status, its first four bytes or, without any, its values."""
    head = _read(descriptor, 24)
    magic, number, status, size, first, second = struct.unpack("<4s5I", head)
    data = _read(descriptor, size)
    assert (magic, _read(descriptor, 4)) == (b"SCr1", struct.pack("<I", zlib.crc32(head + data)))
    return number, status, data[:4] or (first, second)


def test_terminal_is_made_raw(line):
    """With the name of a terminal as argument the agent serves there: no byte is echoed, translated or a signal."""
    master, slave, process = line
    # A number of bytes that a cooked terminal would change: end of line, interrupt, end of file, flow control.
    for number in (0x0A0D0304, 0x1A13110A):
        os.write(master, request(number, agents.READ, 0x8048000, 4))
        assert receive(master) == (number, 0, b"\x7fELF")
    assert tty.tcgetattr(slave)[3] == 0
    os.write(master, request(1, agents.EXIT, 5))
    assert process.wait(10) == 5


def test_requests_that_a_line_damages(line):
    """A wrong checksum is reported; what is no request is skipped, as is the rest of one that does not come."""
    master, _, _ = line
    good = request(1, agents.READ, 0x8048000, 4)
    for bad in (good[:16] + b"?" + good[17:], good[:-1] + bytes([good[-1] ^ 1])):
        os.write(master, bad + good)
        assert receive(master) == (1, agents.DAMAGED, (0, 0))
        assert receive(master) == (1, 0, b"\x7fELF")
    half, message = request(2, agents.WRITE, 0x8048000, 0, bytes(64))[:40], b"[ 1.0] SCq1 is a message"
    for bad in (message, half, half + half, request(3, agents.INFO)[:10]):
        os.write(master, bad + good)
        assert receive(master)[1:] == (agents.DAMAGED, (0, 0))
        assert receive(master) == (1, 0, b"\x7fELF")


def test_the_first_agent_stays(line):
    """An exit for children only ends a child, and the parent says so; it does not end the parent."""
    master, _, process = line
    os.write(master, request(1, agents.EXIT, 3, 1))
    assert receive(master) == (1, 0, (0, 0))
    os.write(master, request(2, agents.FORK))
    number, status, (child, _) = receive(master)
    assert (number, status) == (2, 0)
    os.write(master, request(3, agents.EXIT, 3, 1))
    assert receive(master) == (2, agents.GONE, (3 << 8, child))
    assert process.poll() is None


def test_a_line_that_is_none(tmp_path):
    """The agent ends with the errno of a line that it cannot open; it waits for one that is not there."""
    path = tmp_path / "agent"
    path.write_bytes(PROGRAM)
    path.chmod(0o755)
    assert subprocess.run([path, tmp_path], check=False, timeout=10).returncode == errno.EISDIR
    late = tmp_path / "line"
    with subprocess.Popen([path, late]) as process:
        time.sleep(0.1)
        assert process.poll() is None
        master, slave = pty.openpty()
        late.symlink_to(os.ttyname(slave))
        assert receive(master)[:2] == (0, 0)
        process.kill()
    os.close(master)
    os.close(slave)


def _read(descriptor, size):
    data = b""
    while len(data) < size:
        assert select.select([descriptor], [], [], 10)[0], f"{len(data)} of {size} bytes came: {data!r}"
        data += os.read(descriptor, size - len(data))
    return data
