"""Signals that end a command: what it judged is written, nothing is left, and the status says which signal it was."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from probes.installation import checkout
from probes.interrupts import ENDING
from probes.report.reader import RESULTS, read
from tests.instruments.support import COMMAND_DEADLINE, DEADLINE, ONE_GATE, unpacked, wait_for, write_tests

JUDGES = '''
@law
def test_it(calls, expect):
    """Binding descriptor -1 fails."""
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
'''
WAITS = '''
@law
def test_it(calls, expect):
    """The machine is at work."""
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
    signal.pause()
'''


@pytest.fixture
def start(tmp_path, spawn):
    """Start a command in an empty directory, with a temporary directory of its own."""
    (tmp_path / "temporary").mkdir()

    def begin(*words, prefix=()):
        environment = {**os.environ, "PYTHONPATH": str(checkout()), "TMPDIR": str(tmp_path / "temporary")}
        return spawn(
            [*prefix, sys.executable, "-P", "-m", "probes.cli", *words], cwd=tmp_path, env=environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return begin


def results(directory):
    """Return the verdicts that a run wrote."""
    return [check.verdict for check in read(directory / "report").checks]


def wait_for_a_check(directory):
    """Wait until a run has written its first check."""
    part = directory / "report.part" / RESULTS

    def judged():
        return part.exists() and '"conforms"' in unpacked(part)

    wait_for(judged, "the first check")


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("command", [["check"], ["target", "run", "local", "--", "--isolation", "net"]], ids=" ".join)
def test_what_was_judged_is_written(number, command, start, tmp_path):
    """The run is at its second test of three."""
    write_tests(tmp_path, JUDGES, WAITS, JUDGES)
    run = start(*command, "-n", "1", *ONE_GATE, "--tests", "tests", "--report", "report")
    wait_for_a_check(tmp_path)
    run.send_signal(number)
    out, err = run.communicate(timeout=DEADLINE)
    assert run.returncode == 128 + number, out + err
    assert results(tmp_path) == ["conforms", "not_run", "not_run"]
    assert "Traceback" not in out + err
    assert list((tmp_path / "temporary").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report", "temporary", "tests"]


def test_a_signal_that_the_parent_ignores_stays_ignored(start, tmp_path):
    """As under nohup."""
    write_tests(tmp_path, JUDGES, WAITS.replace("signal.pause()", "time.sleep(2)").replace("@law", "import time\n@law"))
    run = start("check", *ONE_GATE, "--tests", "tests", prefix=("env", "--ignore-signal=HUP"))
    wait_for_a_check(tmp_path)
    run.send_signal(signal.SIGHUP)
    out, err = run.communicate(timeout=DEADLINE)
    assert run.returncode == 0, out + err
    assert results(tmp_path) == ["conforms", "conforms"]


def test_further_signals_are_the_same_request(start, tmp_path):
    """A supervisor signals a process and its group; a terminal that closes sends SIGHUP after Ctrl-C."""
    write_tests(tmp_path, JUDGES, WAITS)
    run = start("check", *ONE_GATE, "--tests", "tests")
    wait_for_a_check(tmp_path)
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        run.send_signal(number)
        time.sleep(0.02)
    out, err = run.communicate(timeout=DEADLINE)
    assert run.returncode in {128 + number for number in ENDING}, out + err
    assert results(tmp_path) == ["conforms", "not_run"]


#: Runs a command, and sends itself a signal when it executes a file.
AT_IMPORT = """
import os, sys
from probes.cli.main import main
name, number = sys.argv[1], int(sys.argv[2])
def hook(event, arguments):
    if event == "exec" and getattr(arguments[0], "co_filename", "").endswith(name):
        os.kill(os.getpid(), number)
sys.addaudithook(hook)
sys.exit(main(sys.argv[3:]))
"""


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize(
    "module", ["argparse.py", "_pytest/config/__init__.py", "plugin/plugin.py", "bind/test_arguments.py"]
)
def test_start_up_ends_without_a_traceback(module, number, tmp_path):
    """The signal comes while the command line is parsed, pytest is imported, the plugin, or a test module."""
    run = subprocess.run(
        [sys.executable, "-P", "-c", AT_IMPORT, module, str(int(number)), "check", "bind.rebind.*"], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(checkout()), "TMPDIR": str(tmp_path)}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=COMMAND_DEADLINE, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (128 + number, "")
    assert "Traceback" not in run.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_forked_child_that_comes_back_prints_nothing(tmp_path):
    """Under an emulator clone(2) can return twice: the copy ends, and the process that was started has the status."""
    copy = (
        "import os, sys\nfrom probes.cli import diff\nfrom probes.cli.main import main\n"
        "from probes.errors import CommandError\n"
        "def run(args):\n    pid = os.fork()\n    if not pid:\n        raise CommandError('the copy')\n"
        "    print(os.waitpid(pid, 0)[1] >> 8)\n    return 0\n"
        "diff.main = run\nsys.exit(main(['diff', 'a', 'b']))\n"
    )
    run = subprocess.run(
        [sys.executable, "-P", "-c", copy], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(checkout())},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_DEADLINE, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stdout, run.stderr) == (0, "70\n", "")


#: Runs a command once for each line that is executed after it has its status, with a signal there, and prints the statuses.
AT_THE_END = """
import os, sys
from probes import interrupts
from probes.cli import main as command

def traced(frame, event, arg):
    global over, lines
    if event == "return" and frame.f_code is command._guarded.__code__:
        over = True
    elif event == "line" and over:
        lines += 1
        if lines == at:
            os.kill(os.getpid(), number)
    return traced if frame.f_code.co_filename in (command.__file__, interrupts.__file__) else None

def run():
    sys.settrace(traced)
    status = command.main(["--version"])
    sys.settrace(None)
    os.kill(os.getpid(), number)
    # Python calls the handlers of signals between instructions.
    os._exit(status if lines >= at else 99)

number, at, statuses = int(sys.argv[1]), 0, []
while at < 50 and 99 not in statuses:
    at, over, lines = at + 1, False, 0
    pid = os.fork() or run()
    statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(statuses)
"""


@pytest.mark.parametrize("number", ENDING)
def test_the_last_moments_end_with_the_status_of_the_command_or_of_the_signal(number, tmp_path):
    """A signal at any line after the command ended: until the status is determined it counts, then it is ignored."""
    run = subprocess.run(
        [sys.executable, "-P", "-c", AT_THE_END, str(int(number))], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(checkout())}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=COMMAND_DEADLINE, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, "")
    *statuses, beyond = json.loads(run.stdout.rpartition("\n[")[2].join(["[", ""]))
    counted = statuses.count(128 + number)
    assert (beyond, statuses) == (99, [128 + number] * counted + [0] * (len(statuses) - counted))
    assert 0 < counted < len(statuses)
