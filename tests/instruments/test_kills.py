"""Nothing is left of a command that is ended at a random moment, by SIGKILL, SIGTERM, or Ctrl-C in its terminal."""

import os
import subprocess
import sys

from probes.installation import checkout
from probes.targets import i386, store
from tests.instruments.support import COMMAND_DEADLINE, missing, write_tests

#: How often each command is ended; the long run sets it.
KILLS = int(os.environ.get("SOCKETCALL_COMMAND_KILLS", "3"))
#: The latest moment at which a command is ended, in seconds: it has begun to judge long before.
LONGEST = 3
#: A test of a run that goes on longer than the command is left alone.
JUDGES = '''
@law
@pytest.mark.parametrize("number", range(500))
def test_it(number, calls, new_socket, expect):
    """A TCP socket can be bound."""
    expect(0).of(new_socket(2, 1).bind(ADDRESS))
'''
#: A program that starts another, which ends with it, and makes socket calls until it is ended. (SIGTERM is passed on to it
#: alone, and a capture goes on until all that it started have ended.)
PROGRAM = """
import os, signal, socket
signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python drops an exception in a destructor.
parent = os.getpid()
alone = os.fork()
while alone or os.getppid() == parent:
    socket.socket().bind(("127.0.0.1", 0))
"""

#: Adopts what the command leaves, and looks at what it can leave: processes (and with them their namespaces), mounts
#: (which hold namespaces too), links, sysctls, and files in its directories. Prints what a kill left.
WATCHER = """
import ctypes, os, random, shutil, signal, socket, subprocess, sys, time
from pathlib import Path

PR_SET_CHILD_SUBREAPER, WAIT = 36, 20
kills, seed, *command = sys.argv[1:]
temporary = Path(os.environ["TMPDIR"])

def sysctls():
    found = {}
    for path in Path("/proc/sys/net").rglob("*"):
        try:
            found[path] = path.read_bytes() if path.is_file() else b""
        except OSError:
            pass
    return found

def surroundings():
    return {
        "mounts": Path("/proc/self/mountinfo").read_text(), "links": socket.if_nameindex(), "sysctls": sysctls(),
        "namespaces": {link.name: os.readlink(link) for link in Path("/proc/self/ns").iterdir()},
        "temporary files": list(temporary.iterdir()), "files": sorted(path.name for path in Path().iterdir()),
    }

def reap(end):
    while time.monotonic() < end:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.005)
        except ChildProcessError:
            return []
    tasks = Path("/proc/self/task", str(os.getpid()), "children").read_text().split()
    return [Path("/proc", pid, "cmdline").read_text() for pid in tasks]

def signals():
    first = random.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
    yield first
    if first != signal.SIGKILL and random.random() < 0.5:
        # While the report is written, or the program of a capture goes on.
        time.sleep(random.uniform(0, 0.3))
        yield signal.SIGKILL

def left_by(number):
    run = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    time.sleep(random.uniform(0, LONGEST))
    sent = []
    for this in signals():
        sent.append(this.name)
        if this == signal.SIGINT:
            os.killpg(run.pid, this)
        else:
            run.send_signal(this)
    processes = reap(time.monotonic() + WAIT)
    if "SIGKILL" in sent:
        # What was being written: the next run removes it (test_report_directory).
        shutil.rmtree("report.part", ignore_errors=True)
    now = surroundings()
    now["files"] = [name for name in now["files"] if name not in ("tests", "report", "report.old", "temporary")]
    changed = {what: [old, now[what]] for what, old in before.items() if old != now[what]}
    return sent, processes, changed

LONGEST = float(os.environ["LONGEST"])
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
random.seed(seed)
before = {**surroundings(), "files": []}
for number in range(int(kills)):
    sent, processes, changed = left_by(number)
    if processes or changed:
        sys.exit(f"kill {number} {sent}: {processes} {changed}")
print("nothing left")
"""


def nothing_is_left(directory, *command):
    """End a command as often as asked, and fail if anything is left."""
    (directory / "temporary").mkdir()
    seed = os.environ.get("SOCKETCALL_KILLS_SEED", str(os.getpid()))
    watcher = [
        sys.executable,
        "-P",
        "-c",
        WATCHER,
        str(KILLS),
        seed,
        sys.executable,
        "-P",
        "-m",
        "probes.cli",
        *command,
    ]
    environment = {
        **os.environ, "PYTHONPATH": str(checkout()), "TMPDIR": str(directory / "temporary"), "LONGEST": str(LONGEST),
        "SOCKETCALL_CACHE": str(store.cache()),
    }  # fmt: skip
    done = subprocess.run(
        watcher, cwd=directory, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=COMMAND_DEADLINE + 30 * KILLS, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "nothing left\n"), f"seed {seed}: {done.stdout}{done.stderr}"


def test_nothing_is_left_of_a_check(tmp_path):
    write_tests(tmp_path, JUDGES)
    nothing_is_left(tmp_path, "check", "--tests", "tests")


def test_nothing_is_left_of_a_check_by_pytest_xdist(tmp_path):
    """Besides the directory that pytest keeps for the tests of a controller (tmpdir)."""
    write_tests(tmp_path, JUDGES)
    nothing_is_left(tmp_path, "check", "--tests", "tests", "--", "-n", "2", "-p", "no:tmpdir")


def test_nothing_is_left_of_a_capture(tmp_path):
    nothing_is_left(tmp_path, "capture", "--", sys.executable, "-c", PROGRAM)


def test_nothing_is_left_of_a_run_on_the_target_i386(tmp_path):
    if store.have(i386.ROOT) is None:
        missing("the target i386 is not built: socketcall target build i386")
    write_tests(tmp_path, JUDGES)
    nothing_is_left(tmp_path, "target", "run", "i386", "--", "--tests", "tests")
