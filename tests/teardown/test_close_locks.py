"""close(2) and record locks: a process can lock a socket, as it can any file."""

import os
import struct
from errno import EAGAIN

import pytest

from probes.entry.memory import Block
from probes.testing import behaviour, need
from probes.testing.children import Children
from probes.testing.socket_kinds import TCP, UDP, UNIX_STREAM

FCNTL, F_SETLK, F_WRLCK, SEEK_SET = 55, 6, 1, 0
#: struct flock of i386: l_type, l_whence, l_start, l_len, l_pid.
WHOLE = struct.pack("<hhiii", F_WRLCK, SEEK_SET, 0, 0, 0)
FREE, LOCKED = 0, 1


@behaviour(
    "teardown.close.record-locks", "close(2) `Any record locks`; fcntl(2) F_SETLK; filp_flush, locks_remove_posix"
)
@pytest.mark.routes("direct")
def test_record_locks(new_socket, calls, children, memory, expect):
    """close of any descriptor of a socket removes the process's record locks on it; close of another socket does not."""
    whole = memory.put(WHOLE)
    for kind in (TCP, UDP, UNIX_STREAM):
        sock, other = (new_socket(*kind.triple).fd for _ in range(2))
        duplicate = need(calls.syscall("dup", sock))
        after_another = expect(LOCKED, kind=kind, closed="another")
        after_duplicate = expect(FREE, kind=kind, closed="duplicate")
        locked = calls.syscall("fcntl", sock, F_SETLK, whole)
        need(locked)
        closed = calls.close(other)
        need(closed)
        after_another.of(record_lock_state(children, sock, whole), locked, closed)
        closed = calls.close(duplicate)
        need(closed)
        after_duplicate.of(record_lock_state(children, sock, whole), locked, closed)
        need(calls.close(sock))


def record_lock_state(children: Children, fd: int, lock: Block) -> int:
    """Tries to lock a file in a child, whose lock ends with it: 0 it was free, 1 it is locked, else another error."""
    code = os.waitstatus_to_exitcode(children.ended(children.start((FCNTL, fd, F_SETLK, lock))))
    return {0: FREE, EAGAIN: LOCKED}.get(code, code)
