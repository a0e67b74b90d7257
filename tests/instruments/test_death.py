"""A sandbox dies with the process that made it, at whatever moment that is killed."""

import os
import subprocess
import sys

from probes.installation import checkout
from tests.instruments.support import COMMAND_DEADLINE

#: How often the process is killed; the long run sets it.
KILLS = int(os.environ.get("SOCKETCALL_KILLS", "40"))

#: Forks a process that makes sandboxes, kills it at a random moment, and adopts and waits for what it left behind.
WATCHER = """
import ctypes, os, random, signal, sys, time
from pathlib import Path
from probes.sandbox import sandbox
from probes.sandbox.channel import Channel
from probes.sandbox.sandbox import SandboxSpec

PR_SET_CHILD_SUBREAPER = 36
KILLS, WORK, SEED, WAIT = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], 20
SPECS = [SandboxSpec(), SandboxSpec(trace="none"), SandboxSpec(trace="calls"), SandboxSpec(isolation="none", trace="none")]
if os.geteuid() == 0:
    SPECS += [SandboxSpec(isolation="net"), SandboxSpec(initial_user_ns=True)]


def body(spec):
    if spec.isolation == "full" and os.fork() == 0:
        os.setsid()
        signal.pause()
    time.sleep(random.choice((0, 0, 0.01)))


def make_sandboxes(begun):
    channel = Channel(1 << 16)
    os.write(begun, b"b")
    while True:
        spec = random.choice(SPECS)
        sandbox.run(lambda: body(spec), spec, channel, WORK, None)


def left_after(moment):
    ready, begun = os.pipe()
    maker = os.fork()
    if maker == 0:
        make_sandboxes(begun)
    os.close(begun)
    os.read(ready, 1)
    os.close(ready)
    time.sleep(moment)
    os.kill(maker, signal.SIGKILL)
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.001)
        except ChildProcessError:
            return []
    tasks = Path("/proc/self/task", str(os.getpid()), "children").read_text().split()
    return [Path("/proc", pid, "stat").read_text() for pid in tasks]


assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
random.seed(SEED)
for number in range(KILLS):
    moment = random.uniform(0, 0.06)
    left = left_after(moment)
    if left or list(WORK.iterdir()) or str(WORK) in Path("/proc/self/mountinfo").read_text():
        sys.exit(f"kill {number}, after {moment} s: {left} {list(WORK.iterdir())}")
print("nothing left")
"""


def test_nothing_is_left_of_a_killed_process(tmp_path):
    """No process, mount or file is left when a process that makes sandboxes is killed, however far it was."""
    work = tmp_path / "work"
    work.mkdir()
    seed = os.environ.get("SOCKETCALL_KILLS_SEED", str(os.getpid()))
    done = subprocess.run(
        [sys.executable, "-c", WATCHER, str(KILLS), str(work), seed], env={**os.environ, "PYTHONPATH": str(checkout())},
        capture_output=True, text=True, timeout=COMMAND_DEADLINE + KILLS, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "nothing left\n"), f"seed {seed}: {done.stderr}"
    work.rmdir()
