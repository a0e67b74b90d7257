"""Tests `socketcall capture`: how it begins and ends, and that no process of it remains."""

import errno
import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from probes.entry.gate import WORD
from probes.sandbox.namespaces import keep_capabilities
from probes.trace import ptrace, seccomp
from tests.instruments.capture_programs import (
    ABI,
    DATA,
    DEADLINE,
    ENVIRONMENT,
    WAIT,
    WAITING,
    Captured,
    asleep,
    capture,
    gone,
    i386,
    int80,
    one_line,
    pid_of,
    program,
    python,
    status_of,
    wait_for,
    x86_64,
)

pytestmark = pytest.mark.sandbox(trace="none")


def test_the_status_is_that_of_the_program():
    for status in (0, 1, 7, 255):
        assert capture(*program(i386(int80(1, status)))).status == status
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV):
        done = capture(*python(f"import os; os.kill(os.getpid(), {int(number)})"))
        assert done.status == 128 + number
        assert done.lines()[-1]["signal"] == number


def test_the_program_is_left_as_it_is():
    """Signals, descriptors, output and arguments are the program's own; the capture goes to standard error."""
    # The program is a shell: Python changes signal dispositions.
    source = """
grep -E "Sig(Blk|Ign|Cgt)|ShdPnd" /proc/self/status; ls /proc/self/fd
echo "$0 $1 $2 $(cut -d" " -f5 /proc/$$/stat)" >&2
"""
    program = ["sh", "-c", source, "a b", "-c", "--"]
    alone = subprocess.run(program, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    done = capture("--", *program)
    assert done.out == alone.stdout
    assert done.err == f"a b -c -- {done.process.pid}\n"
    command = [
        sys.executable,
        "-m",
        "probes.cli",
        "capture",
        *python("import socket; print(socket.socket().fileno())"),
    ]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True,
                          check=True, timeout=DEADLINE)  # fmt: skip
    assert done.stdout == "3\n"
    assert re.search(r"socket\(AF_INET, SOCK_STREAM\|SOCK_CLOEXEC, IPPROTO_IP\) += 3 +", done.stderr)


def test_a_program_that_is_not_there():
    for name in ("nothing-of-that-name", "./nothing", "/no/folder/program"):
        done = capture("--", name)
        assert done.status == 127
        assert f"{name}: not found" in one_line(done)
    Path("closed").mkdir(mode=0)
    path = {"PATH": f"{Path('closed').absolute()}:/bin"}
    done = capture("--", "nothing", environment=path, preexec_fn=lambda: keep_capabilities(()))
    assert done.status == 127
    assert "nothing: not found" in one_line(done)
    Path("script").write_text("#!/no/interpreter\n")
    Path("script").chmod(0o755)
    done = capture("--", "./script")
    assert done.status == 127
    assert "interpreter that it names is missing" in one_line(done)


def test_a_program_that_cannot_be_executed():
    # Not even root may execute a file without any x bit.
    Path("text").write_text("echo hello\n")
    for mode, why in ((0o644, "chmod +x"), (0o755, "no ELF program")):
        Path("text").chmod(mode)
        done = capture("--", "./text")
        assert done.status == 126
        assert why in one_line(done)
    done = capture("--", "")
    assert done.status == 127
    assert "the name of the program is empty" in one_line(done)
    done = capture("--", "/tmp")
    assert done.status == 126
    assert "is a directory" in one_line(done)
    Path("half").write_bytes(i386(int80(1, 0))[:40])
    Path("half").chmod(0o755)
    assert capture("--", "./half").status == 126


def test_usage():
    for words, said in (
        ([], "nothing to capture"),
        (["-p", "1", "--", "true"], "both a program and -p"),
        (["-p", "1,"], "'' is not a process id"),
        (["-p", "0"], "'0' is not a process id"),
        (["--raw", "--brief", "--", "true"], "--raw and --brief contradict each other"),
        (["-c", "--compare", "x", "--", "true"], "-c and --compare contradict each other"),
        (["-ff", "-c", "--", "true"], "-c and -ff contradict each other"),
        (["--tree", "--", "true"], "--tree is for -p"),
        (["--summary-of", "x", "--", "true"], "leave out the program"),
        (["--fd", "x", "--", "true"], "'x' is not a number"),
        (["--format", "html2", "--", "true"], "invalid choice"),
        (["--nonsense", "--", "true"], "--nonsense"),
    ):
        done = capture(*words)
        assert done.status == 2
        assert said in one_line(done)


def test_an_output_that_cannot_be_written(tmp_path):
    """The program does not run if the file cannot be opened, and does not run on unseen if the disk is full later."""
    made = program(i386(int80(102, 8, DATA) + int80(1, 0)))
    for path, why in (("/no/folder/file", "No such file"), ("/proc", "Is a directory")):
        done = capture("-o", path, *python("open('ran', 'w')"))
        assert done.status == 125
        assert f"cannot write {path}: {why}" in one_line(done)
        assert not Path("ran").exists()
    done = capture("-o", "/dev/full", *made)
    assert done.status == 125
    assert "cannot write /dev/full: No space left" in one_line(done)
    # Where the lines go to standard error, nor can the reason.
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "probes.cli", "capture", *made]
        done = subprocess.run(command, env=ENVIRONMENT, stderr=full, timeout=DEADLINE, check=False)
    assert done.returncode == 125
    # A pipe without a reader: the same.
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run(
        [sys.executable, "-m", "probes.cli", "capture", "-o", "/dev/stdout", *made], env=ENVIRONMENT, stdout=writing,
        stderr=subprocess.PIPE, text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip
    os.close(writing)
    assert process.returncode == 125
    assert "Broken pipe" in process.stderr and process.stderr.count("\n") == 1


def test_a_file_is_replaced_only_when_the_program_runs():
    Path("old").write_text("old")
    assert capture("-o", "old", "--", "./nothing").status == 127
    assert Path("old").read_text() == "old"
    assert capture("-o", "old", *program(i386(int80(1, 0)))).status == 0
    assert Path("old").read_text().count("\n") == 1


def refuse_ptrace():
    """Forbid ptrace to this process: for children."""
    number, architecture = (101, ptrace.ARCH_X86_64) if WORD == 64 else (26, ptrace.ARCH_I386)
    ptrace.set_filter(seccomp.answering(number, errno.EPERM, architecture))


def test_ptrace_is_forbidden(spawn):
    done = capture(*python("open('ran', 'w')"), preexec_fn=refuse_ptrace)
    assert done.status == 125
    assert "Operation not permitted; run as root" in one_line(done)
    assert not Path("ran").exists()
    sleeper = spawn([sys.executable, "-c", WAITING])
    pid_of()
    wait_for(lambda: asleep(sleeper.pid), "accept")
    done = capture("-p", str(sleeper.pid), preexec_fn=refuse_ptrace)
    assert done.status == 125
    assert "Operation not permitted" in one_line(done)
    assert asleep(sleeper.pid)
    sleeper.kill()
    sleeper.wait()


@pytest.mark.skipif(WORD == 64, reason="64-bit Python sees every program")
def test_a_32_bit_capture_refuses_a_64_bit_program():
    done = capture(*program(x86_64(b"\xb8\x3c\0\0\0\x31\xff\x0f\x05")))
    if ABI == "i386":
        assert done.status == 126
    else:
        assert done.status == 125
        assert "capture that with 64-bit Python" in one_line(done)


BOTH = (
    WAIT
    + """
child = os.fork()
Path(f"pid{bool(child):d}").write_text(f"{os.getpid()}\\n")
s.accept()
"""
)


def all_gone(*pids):
    wait_for(lambda: all(gone(pid) for pid in pids), f"the end of {pids}")


def test_control_c_ends_the_program_and_its_children():
    running = Captured(*python(BOTH))
    parent, child = pid_of("pid1"), pid_of("pid0")
    wait_for(lambda: asleep(parent) and asleep(child), "both in accept")
    running.interrupt()
    assert running.wait().status == 128 + signal.SIGINT
    all_gone(parent, child)
    exits = [line for line in running.lines() if line["type"] == "exit"]
    assert {(line["pid"], line["signal"]) for line in exits} == {(parent, signal.SIGINT), (child, signal.SIGINT)}


def test_a_program_that_handles_control_c_goes_on():
    running = Captured(*python(WAIT + """
signal.signal(signal.SIGINT, lambda *_: sys.exit(7))
Path("pid").write_text(f"{os.getpid()}\\n")
s.accept()
"""))  # fmt: skip
    wait_for(lambda: asleep(pid_of()), "accept")
    running.interrupt()
    assert running.wait().status == 7


def test_sigterm_is_passed_on():
    running = Captured(*python(WAITING))
    pid = pid_of()
    wait_for(lambda: asleep(pid), "accept")
    running.process.terminate()
    assert running.wait().status == 128 + signal.SIGTERM
    all_gone(pid)


def test_a_capture_that_is_killed_takes_the_program_with_it():
    running = Captured(*python(BOTH))
    parent, child = pid_of("pid1"), pid_of("pid0")
    running.process.kill()
    running.wait()
    all_gone(parent, child)


def test_a_call_that_never_returns_is_unfinished():
    running = Captured(*python(WAITING))
    pid = pid_of()
    wait_for(lambda: asleep(pid), "accept")
    os.kill(pid, signal.SIGKILL)
    assert running.wait().status == 128 + signal.SIGKILL
    accept = running.calls()[-1]
    assert (accept["op"][:6], accept["ret"], accept["regs_out"], accept["dur_ns"]) == ("accept", None, None, None)
    text = Captured(*python(WAITING.replace("here", "there").replace("'pid'", "'again'")), format="text")
    pid = pid_of("again")
    wait_for(lambda: asleep(pid), "accept")
    os.kill(pid, signal.SIGKILL)
    text.wait()
    assert " = ? " in text.lines()[-2]
    assert text.lines()[-1].endswith("+++ killed by SIGKILL +++")


def test_a_daemon_is_captured_to_its_end():
    """Calls of a daemon that outlives the program are captured; Ctrl-C, which its session does not get, ends it."""
    running = Captured(*python(WAIT + """
if os.fork(): os._exit(3)
os.setsid()
Path("pid").write_text(f"{os.getpid()}\\n")
s.accept()
"""))  # fmt: skip
    daemon = pid_of()
    wait_for(lambda: [line for line in running.lines() if line["type"] == "exit"], "the end of the program")
    wait_for(lambda: asleep(daemon), "accept")
    assert running.process.poll() is None
    running.interrupt()
    assert running.wait().status == 3
    all_gone(daemon)
    assert running.calls(pid=daemon)[-1]["ret"] is None


def test_children_that_are_forked_as_their_parent_ends():
    """The fork event of a parent may come before or after the first stop of its child: the child is traced either way."""
    running = capture(*python("""
import os, socket
for _ in range(100):
    middle = os.fork()
    if middle == 0:
        if os.fork() == 0:
            socket.socket()
        os._exit(0)
    os.waitpid(middle, 0)
if os.fork():
    os._exit(5)
socket.socket()
"""))  # fmt: skip
    assert running.status == 5
    assert len(running.calls("socket")) == 101
    exits = [line["status"] for line in running.lines() if line["type"] == "exit"]
    assert sorted(exits) == [0] * 201 + [5]


def test_a_stopped_program_stays_stopped_until_it_is_continued():
    """A group stop of a tracee lasts until SIGCONT."""
    running = Captured(*python(WAITING))
    pid = pid_of()
    os.kill(pid, signal.SIGSTOP)
    # Under PTRACE_LISTEN a tracee in a group stop has state t.
    wait_for(lambda: [line for line in running.lines() if line["type"] == "signal"], "SIGSTOP")
    wait_for(lambda: status_of(pid, "State") in "tT", "the stop")
    os.kill(pid, signal.SIGCONT)
    wait_for(lambda: asleep(pid), "accept")
    os.kill(pid, signal.SIGTERM)
    assert running.wait().status == 128 + signal.SIGTERM


@pytest.mark.parametrize(("options", "name"), [((), "\x1b[1maccept4\x1b[0m"), (("--color", "never"), "accept4")])
def test_a_terminal_shows_a_call_while_it_is_blocked(options, name):
    """The beginning of a call is written at its entry, in colours, and the rest at its exit; --color never: without."""
    shown, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "probes.cli", "capture", "-e", "accept4", *options, *python(WAITING)],
        env={**ENVIRONMENT, "NO_COLOR": ""}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=terminal,
        start_new_session=True,
    )  # fmt: skip
    os.close(terminal)
    os.set_blocking(shown, False)
    text = []

    def arrived(wanted):
        with suppress(OSError):
            text.append(os.read(shown, 4096).decode())
        return wanted in "".join(text)

    wait_for(lambda: arrived(f"{name}(3, "), "the beginning")
    assert "".join(text) == f"{name}(3, "
    os.kill(pid_of(), signal.SIGKILL)
    wait_for(lambda: arrived("+++ killed by SIGKILL +++"), "the end")
    assert process.wait(DEADLINE) == 128 + signal.SIGKILL
    os.close(shown)
    first = "".join(text).splitlines()[0]
    rest = r"0x\w+, \[\d+\], SOCK_CLOEXEC\) += \? .*(direct|socketcall) \w+.*"
    assert re.fullmatch(re.escape(f"{name}(3, ") + rest, first), first
