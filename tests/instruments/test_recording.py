"""`socketcall record`: the programs that it writes agree with this kernel, find what an emulator gets wrong, and say so."""

import errno
import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from probes.script import c, elf
from probes.script.script import Call, Expected, Put, Verdict, Word
from probes.trace import ptrace, seccomp
from tests.instruments.support import DEADLINE, missing, ran, run_command, write_tests
from tests.instruments.test_scripts import script, words

#: A behaviour of which qemu-user gets every check of a flag wrong, and the others none.
LAW = "socket.pair.unknown-flags"
#: Calls whose arguments are what earlier calls returned and wrote: a descriptor, a port, a name, a pointer in memory.
SYMBOLS = """
@law
def test_law(new_socket, calls, memory, expect):
    '''A statement.'''
    server, client = new_socket(socket.AF_INET, socket.SOCK_DGRAM), new_socket(socket.AF_INET, socket.SOCK_DGRAM)
    need(server.bind(ADDRESS))
    name = server.sockname()
    port = struct.unpack(">H", name.bytes[2:4])[0]
    expect(0, step="whole").of(client.connect(name.bytes))
    expect(0, step="packed").of(client.connect(struct.pack("<H", 2) + struct.pack(">H", port) + ADDRESS[4:]))
    expect(ADDRESS[4:8], step="peer").of(client.peername()[4:8])
    data = memory.put(b"abc")
    vector = memory.words(data, 3)
    message = memory.words(0, 0, vector, 1, 0, 0, 0)
    expect(3, step="sendmsg").of(calls.make("sendmsg", client, message, 0))
    room = memory.guarded(8)
    received = expect(3, step="recv")
    content = expect(b"abc", step="recv", judged="bytes")
    result = calls.make("recv", server, room, 8, 0)
    received.of(result)
    content.of(room.part(0, 3).read(), result)
    expect(socket.SOCK_DGRAM, step="type").of(server.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE).as_int())
"""


@pytest.fixture
def compiled(tmp_path):
    """Compile a recorded C program as its own comment says."""
    if shutil.which("gcc") is None:
        missing("gcc: install Debian's packages gcc and gcc-multilib")

    def compile(text):
        (tmp_path / "test.c").write_text(text)
        command = ["gcc", "-m32", "-nostdlib", "-static", "-Wall", "-Werror", "-o", "compiled", "test.c"]
        subprocess.run(command, cwd=tmp_path, check=True, timeout=DEADLINE)
        return tmp_path / "compiled"

    return compile


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Record LAW once in both forms, and return the directory with law.c and law.elf."""
    directory = tmp_path_factory.mktemp("recorded")
    for form in ("c", "elf"):
        run = run_command(directory, "record", LAW, "-o", f"law.{form}")
        assert (run.status, run.out, run.err) == (0, "", "")
    return directory


def record_made(socketcall, tmp_path, source, *words):
    """Record a test module that a test wrote."""
    write_tests(tmp_path, source)
    return socketcall("record", "made.*", "--tests", str(tmp_path / "tests"), *words)


def qemu():
    """Return the path of qemu-user."""
    found = shutil.which("qemu-i386-static")
    if found is None:
        missing("qemu-i386-static: install Debian's package qemu-user-static")
    return found


def test_the_c_program_conforms_on_this_kernel_and_finds_a_defect_of_qemu(recorded, compiled):
    program = compiled((recorded / "law.c").read_text())
    assert ran(program) == (0, "")
    status, out = ran(qemu(), program)
    assert status == 1
    assert out.splitlines()[0] == (
        "socket.pair.unknown-flags [bit=4]: socketcall(SYS_SOCKETPAIR, AF_UNIX, SOCK_STREAM | 0x10, 0, M(0xff8)) = 0,"
        " expected -22 EINVAL (socketpair(2); __sys_socketpair `flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)`; socket(2) EINVAL)"
    )
    # One line for each of the two routes.
    assert len(out.splitlines()) == 2


def test_the_elf_program_conforms_on_this_kernel_and_finds_a_defect_of_qemu(recorded, tmp_path):
    program = recorded / "law.elf"
    assert os.access(program, os.X_OK)
    status, out = ran(program)
    lines = out.splitlines()
    assert status == 0
    assert lines[:3] == ["KTAP version 1", "1..56", f"ok 1 {LAW} bit=4 route=socketcall"]
    assert all(line.startswith("ok ") for line in lines[2:])
    assert len(lines) == 58
    status, out = ran(qemu(), program)
    assert status == 1
    assert f"not ok 1 {LAW} bit=4 route=socketcall" in out.splitlines()
    assert f"ok 8 {LAW} bit=11 route=socketcall" in out.splitlines()
    (line,) = [line for line in out.splitlines() if line.startswith(f"# {LAW} bit=4 route=socketcall: ")]
    call = "socketcall(SYS_SOCKETPAIR, AF_UNIX, SOCK_STREAM | 0x10, 0, 0x60000ff8)"
    assert line.endswith(f": {call} = 0, expected -22 EINVAL")


def test_route_and_case_are_chosen(socketcall, tmp_path):
    run = socketcall("record", LAW, "--route", "direct", "--case", "bit=4", "-o", "law.c")
    assert (run.status, run.err) == (0, "")
    text = (tmp_path / "law.c").read_text()
    assert "NR_socketpair" in text
    assert "SYS_SOCKETPAIR" not in text
    assert text.count("\texpect(") == 1


def test_an_inverted_expectation_fails_with_one_line(recorded, compiled):
    text = (recorded / "law.c").read_text()
    inverted = text.replace('expect(-EINVAL, "bit=5", socketcall', 'expect(-EACCES, "bit=5", socketcall')
    assert inverted != text
    status, out = ran(compiled(inverted.replace("EINVAL =", "EACCES = 13, EINVAL =")))
    assert status == 1
    (line,) = out.splitlines()
    assert line.startswith(f"{LAW} [bit=5]: socketcall(SYS_SOCKETPAIR")
    assert " = -22, expected -13 EACCES (" in line


WRONG = script(Call(words(6, 0xFFFFFFFF), expected=[Expected(Word(0), 0)]), Verdict(0))
RIGHT = script(Call(words(6, 0xFFFFFFFF), expected=[Expected(Word(-9 & 0xFFFFFFFF), 0)]), Verdict(0))
ENDS = script(Call(words(1, 0), expected=[Expected(Word(0), 0)]), Verdict(0))


def ignores_children():
    """Leave it to the kernel to reap children, as some supervisors do."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def cannot_fork():
    """Let fork(2) fail."""
    ptrace.set_filter(seccomp.answering(2, errno.ENOSYS))


@pytest.mark.parametrize(
    ("made", "before", "status", "says"),
    [
        (WRONG, ignores_children, 1, " = -9, expected 0 "),
        (RIGHT, ignores_children, 0, ""),
        (RIGHT, cannot_fork, 4, " = -38, but the test needs a child "),
        (ENDS, None, 1, "syscall(NR_exit) ends its process with status 0 "),
    ],
)
def test_the_c_program_conforms_only_if_each_test_came_to_its_end(compiled, made, before, status, says):
    """A child that is not made, not waited for, or ends early has judged nothing."""
    done = subprocess.run([compiled(c.program([made]))], capture_output=True, text=True, preexec_fn=before, timeout=60)
    assert (done.returncode, says in done.stdout) == (status, True), done.stdout


def test_the_c_program_fails_where_its_output_is_not_read(compiled):
    """SIGPIPE ends a child that finds a wrong answer."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([compiled(c.program([WRONG]))], stdout=writer, timeout=60)
    os.close(writer)
    assert done.returncode == 1


#: Binds a socket to the path "s" in the current directory.
BINDS = script(
    Put(0x60000000, b"\1\0s\0"),
    Call(words(359, 1, 1), slot=0),
    Call((Word(361), Word(0, "slot"), Word(0x60000000, "pointer"), *words(4)[:4]), expected=[Expected(Word(0), 0)]),
    Verdict(0),
)


@pytest.mark.parametrize("form", ["c", "elf"])
def test_each_test_has_a_directory_without_files(tmp_path, compiled, form):
    """Where a script cannot mount, what an earlier process of the same number has left behind is not its directory."""
    program = tmp_path / "made.elf"
    made = replace(BINDS, files=True)
    if form == "c":
        program = compiled(c.program([made]))
    else:
        program.write_bytes(elf.program([made]))
        program.chmod(0o755)
    used = "mkdir $(seq 99) $(seq -f socketcall.%07g 99) && for d in *; do : >$d/s; done"
    # The program is below /tmp.
    copied = f"mount -t tmpfs none /mnt && cp {program} /mnt/program"
    inside = f"{copied} && mount -t tmpfs none /tmp && cd /tmp && {used} && exec /mnt/program"
    done = subprocess.run(
        ["unshare", "-Urpfm", "sh", "-c", inside], capture_output=True, text=True, timeout=60,
        preexec_fn=lambda: ptrace.set_filter(seccomp.answering(310, errno.EPERM)),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_a_long_array_needs_no_library(compiled):
    """gcc makes an array of many zeros on the stack by memset, unless it is constant."""
    data = bytes([2]) + bytes(800)
    program = compiled(c.program([replace(BINDS, steps=[Put(0x60000000, data), *BINDS.steps])]))
    assert ran(program) == (0, "")


def test_what_calls_return_and_write_is_used_by_later_ones(socketcall, tmp_path, compiled):
    run = record_made(socketcall, tmp_path, SYMBOLS, "-o", "made.c")
    assert (run.status, run.err) == (0, "")
    text = (tmp_path / "made.c").read_text()
    program = compiled(text)
    assert ran(program) == (0, "")
    # The words of the message are addresses of the program's own memory.
    assert "put_words(M(" in text
    assert ran(compiled(text.replace("0x61, 0x62, 0x63", "0x61, 0x62, 0x64", 1)))[0] == 1


def test_an_expectation_that_this_kernel_does_not_meet_is_not_written(socketcall, tmp_path):
    source = SYMBOLS.replace('expect(0, step="whole")', 'expect(-22, step="whole")')
    run = record_made(socketcall, tmp_path, source, "-o", "made.elf")
    assert run.status == 2
    assert "its replay differs here: made.m0.law step=whole route=socketcall: socketcall(SYS_CONNECT" in run.err
    assert run.err.splitlines()[-1] == "socketcall: nothing is written: none of these behaviours can be recorded"
    assert not (tmp_path / "made.elf").exists()


NETWORK = """
from probes.testing import procfs

@law
def test_law(new_socket, expect):
    '''A statement.'''
    procfs.set_sysctl("net.ipv4.ip_local_port_range", "50000 50000")
    made = new_socket(socket.AF_INET, socket.SOCK_DGRAM)
    need(made.bind(ADDRESS))
    expect(struct.pack(">H", 50000), bytes="port").of(made.sockname()[2:4])
"""
#: Runs the words after it where there can be no further network namespace.
NO_NETWORK = ("unshare", "-rU", "sh", "-c", 'echo 0 >/proc/sys/user/max_net_namespaces && exec "$0"')
RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_sysctls_are_written_in_a_network_of_its_own(socketcall, tmp_path, compiled):
    before = RANGE.read_text()
    for form in ("c", "elf"):
        run = record_made(socketcall, tmp_path, NETWORK, "-o", f"made.{form}")
        assert (run.status, run.err) == (0, "")
    program = compiled((tmp_path / "made.c").read_text())
    assert ran(program) == (0, "")
    status, out = ran(tmp_path / "made.elf")
    assert (status, out.splitlines()[2:]) == (0, ["ok 1 made.m0.law bytes=port route=socketcall"])
    # Where there is none, nothing is written.
    status, out = ran(*NO_NETWORK, program)
    assert status == 4
    assert out == "made.m0.law: unshare(CLONE_NEWNET) = -28, but the test needs 0 (this test)\n"
    status, out = ran(*NO_NETWORK, tmp_path / "made.elf")
    assert (status, out.splitlines()[2:]) == (
        0,
        ["ok 1 made.m0.law bytes=port route=socketcall # SKIP a call that prepares the test fails"],
    )
    assert RANGE.read_text() == before


ASKS = """
from probes.testing import procfs

@law
def test_law(calls, expect):
    '''A statement.'''
    assert "TCP" in procfs.protocols() and not procfs.protocols() & {"SCTPv9"}
    expect(-errno.EBADF).of(calls.close(-1))
"""


def test_protocols_that_a_test_asks_for_are_those_of_its_kernel(socketcall, tmp_path, compiled):
    run = record_made(socketcall, tmp_path, ASKS, "-o", "made.c")
    assert (run.status, run.err) == (0, "")
    text = (tmp_path / "made.c").read_text()
    assert ran(compiled(text)) == (0, "")
    for there, other in (('"TCP", 1', '"TCP", 0'), ('"SCTPv9", 0', '"SCTPv9", 1')):
        assert f"\tprotocol({there});\n" in text
        status, out = ran(compiled(text.replace(there, other)))
        name = other.split('"')[1]
        said = f"the kernel {'has' if name == 'TCP' else 'lacks'} the protocol {name}"
        assert (status, out) == (4, f"made.m0.law: {said} (this test)\n")


NETLINK = """
from probes.testing import procfs

@law
def test_law(calls, expect):
    '''A statement.'''
    assert procfs.has_netlink(0)
    expect(-errno.EBADF).of(calls.close(-1))
"""


def test_a_protocol_of_netlink_that_a_test_found_is_set_up(socketcall, tmp_path, compiled):
    """On a kernel without it what the test expects is not judged."""
    run = record_made(socketcall, tmp_path, NETLINK, "-o", "made.c")
    assert (run.status, run.err) == (0, "")
    text = (tmp_path / "made.c").read_text()
    assert ran(compiled(text)) == (0, "")
    there = "AF_NETLINK, SOCK_DGRAM, NETLINK_ROUTE"
    status, out = ran(compiled(text.replace(there, "AF_NETLINK, SOCK_DGRAM, 31")))
    assert (there in text, status, "success" in out) == (True, 4, True), (text, out)
