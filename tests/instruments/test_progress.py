"""On a terminal `check` shows how far it has come in one line; in a file it does not."""

import os
import pty
import subprocess
import sys
from types import SimpleNamespace

from probes.installation import checkout
from probes.plugin.progress import Progress
from probes.report.check import Check, Key
from probes.report.counts import Counts
from tests.instruments.support import COMMAND_DEADLINE, ONE_GATE, run_check, write_tests

JUDGES = '''
@law
@pytest.mark.parametrize("n", range(3))
def test_one(n, calls, expect):
    """Binding descriptor -1 fails."""
    expect(0 if n == 1 else -errno.EBADF).of(calls.bind(-1, ADDRESS))
'''
AGAIN = "\r\x1b[K"


def test_line():
    """The line has what was done, the rate, the time that the rest may take, what is unexpected, and the behaviour."""
    clock, key, counts, written = [100.0], Key("bind.a.b", "", "direct", "int80", 64), Counts(), []
    progress = Progress(SimpleNamespace(counts=counts), written.append, lambda: clock[0])
    progress.plan(400, {"node": key})
    loop = progress.pytest_runtestloop()
    next(loop)
    for number in range(100):
        clock[0] += 0.05
        counts.add(Check(key, "deviates" if number % 50 == 0 else "conforms", 0, 1, known="x" if number == 0 else None))
        progress.pytest_runtest_logfinish("node")
    assert progress.line("node") == "100/400 tests, 20/s, 0:15 left, 1 deviation  bind.a.b"
    assert progress.line("other") == "100/400 tests, 20/s, 0:15 left, 1 deviation"
    # Not more than ten lines in a second; this clock is of binary fractions.
    assert 33 <= len(written) <= 51
    assert all(text.startswith(AGAIN) for text in written)


def on_terminal(directory, **environment):
    """Run `check` with a terminal as its output, and return its status and what it wrote."""
    master, slave = pty.openpty()
    where = ["--tests", str(directory / "tests"), "--report", str(directory / "report")]
    process = subprocess.Popen(
        [sys.executable, "-m", "probes.cli", "check", *ONE_GATE, *where], stdout=slave, stderr=slave,
        stdin=subprocess.DEVNULL, cwd=directory, env={**os.environ, "PYTHONPATH": str(checkout()), **environment},
    )  # fmt: skip
    os.close(slave)
    written = b""
    try:
        while data := os.read(master, 4096):
            written += data
    except OSError:
        pass  # EIO: the other side is closed.
    finally:
        os.close(master)
    return process.wait(COMMAND_DEADLINE), written.decode()


def test_on_a_terminal(tmp_path):
    """The line is cleared before what stays; a dumb terminal and a file get none."""
    write_tests(tmp_path, JUDGES)
    status, text = on_terminal(tmp_path, TERM="xterm", COLUMNS="60")
    assert status == 1, text
    assert f"{AGAIN}1/3 tests, " in text
    assert f"{AGAIN}1 time bind" in text or f"{AGAIN}\r\n1 time bind" in text, text
    shown = [line.partition("\r")[0] for line in text.split(AGAIN)[1:-1]]
    assert all(len(line) < 60 for line in shown)
    assert AGAIN not in on_terminal(tmp_path, TERM="dumb")[1]
    assert AGAIN not in run_check(tmp_path).out
