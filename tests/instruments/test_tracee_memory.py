"""Tests probes.trace.ptrace: how the memory of another process is read."""

import subprocess
import sys

from probes.installation import checkout

#: Reads four times from a child, whose memory is a copy of this one's, where no /proc is.
WITHOUT_PROC = """\
import ctypes, os, signal
from probes.trace import ptrace
room = ctypes.create_string_buffer(b"words")
child = os.fork()
if not child:
    signal.pause()
try:
    print([ptrace.read(child, ctypes.addressof(room), 5) for _ in range(4)])
finally:
    os.kill(child, signal.SIGKILL)
"""
HIDDEN = ("unshare", "--map-root-user", "--mount", "sh", "-ec", 'mount -t tmpfs none /proc; exec "$0" "$@"')


def test_memory_is_read_without_proc():
    """A process that is read again and again is read without /proc, too."""
    done = subprocess.run(
        [*HIDDEN, sys.executable, "-P", "-c", WITHOUT_PROC],
        env={"PYTHONPATH": str(checkout())}, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (f"{[b'words'] * 4}\n", "")
