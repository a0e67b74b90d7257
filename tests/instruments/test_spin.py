"""Tests probes.trace.spin: how a tracer waits for the next stop."""

import json
import subprocess
import sys

import pytest

from probes.installation import checkout

#: Starts commands and waits for each. Prints of each wait how often it looked before it slept.
WAITS = """\
import json, os, subprocess, sys
from probes.trace.spin import Spin
made, looks = os.waitpid, []
def waitpid(pid, options):
    looks[-1] += bool(options & os.WNOHANG)
    return made(pid, options)
os.waitpid = waitpid
spin = Spin()
for command in json.loads(sys.argv[1]):
    child = subprocess.Popen(command)
    if command == ["true"]:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    looks.append(0)
    assert spin.wait() == (child.pid, 0)
for _ in range(2):
    looks.append(0)
    try:
        spin.wait()
    except ChildProcessError:
        pass
    else:
        sys.exit("a wait without a child returned")
print(json.dumps(looks[:-2]))
"""
LATE, THERE = ["sleep", "0.05"], ["true"]
LOOKS = 100


@pytest.mark.parametrize(
    ("commands", "looks"),
    [
        ([THERE] * 3, [1] * 3),
        ([LATE] * 7, [LOOKS, 0, LOOKS, 0, 0, 0, LOOKS]),
        ([LATE, LATE, LATE, THERE, THERE, THERE, THERE, LATE], [LOOKS, 0, LOOKS, 0, 0, 0, 1, LOOKS]),
    ],
    ids=["there", "late", "there-again"],
)
def test_looking_in_vain_is_left_out(commands, looks):
    """A stop that is there is found by the first look. After waits in vain more and more waits go by without a look."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", WAITS, json.dumps(commands)],
        env={"PYTHONPATH": str(checkout()), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == looks
