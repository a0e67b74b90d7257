"""close() and the record locks of its process: a socket can have them, like any file."""

import fcntl
import os
import struct

from probes.testing import behaviour, need
from probes.testing.socket_kinds import TCP, UDP, UNIX_STREAM

F_SETLK, F_WRLCK, SEEK_SET = 6, 1, 0
#: struct flock of i386: l_type, l_whence, l_start, l_len, l_pid.
WHOLE = struct.pack("<hhiii", F_WRLCK, SEEK_SET, 0, 0, 0)
FREE, LOCKED, FAILED = 0, 1, 2


def told_to_another(fd):
    """Whether another process finds the socket locked. What it locks itself is gone when it ends."""
    child = os.fork()
    if child == 0:
        answer = FAILED
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            answer = FREE
        except BlockingIOError:
            answer = LOCKED
        finally:
            os._exit(answer)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@behaviour(
    "teardown.close.record-locks", "close(2) `Any record locks`; fcntl(2) F_SETLK; filp_flush, locks_remove_posix"
)
def test_record_locks(new_socket, calls, memory, expect):
    """The record locks that a process has on a socket go when it closes any descriptor of that socket, and not when it
    closes another socket.
    """
    for kind in (TCP, UDP, UNIX_STREAM):
        sock, other = (int(new_socket(*kind.triple)) for _ in range(2))
        duplicate = os.dup(sock)
        locked = calls.plain("fcntl", sock, F_SETLK, memory.put(WHOLE))
        need(locked)
        for name, fd, found in (("another", other, LOCKED), ("duplicate", duplicate, FREE)):
            check = expect(found, kind=kind, closed=name)
            closed = calls.close(fd)
            need(closed)
            check.of(told_to_another(sock), locked, closed)
        need(calls.close(sock))
