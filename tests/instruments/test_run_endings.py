"""How a run ends where tests break, cannot be judged, leave tasks behind, or have no sandbox; and what Ctrl-C leaves."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from probes.installation import checkout
from tests.instruments.support import write_tests
from tests.instruments.test_verdicts import ENDINGS, GOOD

#: Seconds for a run to begin or to end.
COMMAND_DEADLINE = 60


def test_broken_set_up_ends_3(judge):
    """Where nothing deviates but something broke, the status is 3."""
    run = judge(ENDINGS["a fixture that breaks"][0], GOOD)
    assert (run.status, run.verdicts) == (3, ["broke", "conforms"])


def test_good_is_green(judge):
    """A law that is kept is the one thing that ends 0."""
    run = judge(GOOD)
    assert (run.status, run.verdicts) == (0, ["conforms"])


def test_not_applicable_names_what_is_missing(judge):
    """A row that cannot be judged says why, and does not fail a run in which something was judged."""
    missing = '''
@law
def test_it(calls, expect):
    """Not here."""
    not_applicable("protocol SCTP")
'''
    run = judge(missing, GOOD)
    assert (run.status, run.verdicts) == (0, ["not_applicable", "conforms"])
    assert run.checks[0]["detail"] == "protocol SCTP"
    alone = judge(missing, "")
    assert alone.status == 3
    assert "nothing could be judged" in alone.err


def test_closed_descriptors_lose_nothing(judge):
    """Checks that a test judged before it closed every descriptor, pytest's own too, are reported."""
    run = judge(GOOD + "    os.closerange(0, 4096)\n", GOOD)
    assert (run.status, run.verdicts) == (3, ["conforms", "broke", "conforms"])


@pytest.mark.parametrize("what", ["leaves children", "leaves threads"])
def test_tasks_left_behind_change_nothing(what, judge):
    """A test that leaves tasks behind gets its verdict, and they do not stay."""
    manners = {
        "leaves children": "    for _ in range(3):\n        if os.fork() == 0:\n            signal.pause()\n",
        "leaves threads": "    import threading\n    threading.Thread(target=signal.pause, daemon=True).start()\n",
    }[what]
    run = judge(GOOD + manners, GOOD)
    assert (run.status, run.verdicts) == (0, ["conforms", "conforms"])


def test_sandbox_that_cannot_be_made(judge):
    """A test whose sandbox cannot be made never runs, and broke: here the last network namespace is gone by then."""
    limit = 'from pathlib import Path\nPath("/proc/sys/user/max_net_namespaces").write_text("0")\n'
    run = judge(limit + GOOD, prefix=["unshare", "--user", "--map-root-user"])
    assert (run.status, run.verdicts) == (3, ["broke"])
    assert "sandbox could not be made" in run.checks[0]["detail"]


def test_user_ids_that_cannot_be_mapped(judge):
    """A test that needs a second user id is not applicable where root can map none."""
    source = '''
@law
@pytest.mark.sandbox(ids=2)
def test_it(calls, expect):
    """Needs a second user id."""
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
'''
    run = judge(source, GOOD, prefix=["unshare", "--user", "--map-root-user"])
    assert (run.status, run.verdicts) == (0, ["not_applicable", "conforms"])
    assert "the user ids 1000 and 1001" in run.checks[0]["detail"]


def spent(process):
    """Return the seconds that a process has used; 0 if it is gone."""
    try:
        return process.cpu_times().user
    except psutil.NoSuchProcess:
        return 0


def test_interrupt_leaves_nothing(tmp_path, spawn):
    """Ctrl-C ends the run and everything in it."""
    write_tests(tmp_path, ENDINGS["a loop"][0])
    command = [sys.executable, "-m", "probes.cli", "check", "--tests", str(tmp_path / "tests")]
    run = spawn(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(checkout())}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    me = psutil.Process(run.pid)
    deadline = time.monotonic() + COMMAND_DEADLINE
    children = []
    while not any(spent(child) > 0.3 for child in children):
        assert time.monotonic() < deadline, "the test never began to loop"
        children = me.children()
    os.killpg(run.pid, signal.SIGINT)
    run.communicate(timeout=COMMAND_DEADLINE)
    assert run.returncode == 130
    assert len(children) == 2, "the init and the body of a sandbox"
    _, alive = psutil.wait_procs(children, timeout=COMMAND_DEADLINE)
    assert not alive
