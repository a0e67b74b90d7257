"""Keeps a socket open beyond its descriptor: by a duplicate, another process, a message in flight, or a program."""

import fcntl
import os
import socket
from collections.abc import Callable

from probes.testing import Broke

#: Releases what was kept.
Release = Callable[[], None]


def by_duplicate(fd: int) -> Release:
    """Duplicates a descriptor; the release closes the duplicate."""
    duplicate = os.dup(fd)
    return lambda: os.close(duplicate)


def by_child(fd: int) -> Release:
    """Forks a child, which inherits the descriptor; the release ends the child."""
    held, hold = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(hold)
        os.read(held, 1)
        os._exit(0)
    os.close(held)

    def release() -> None:
        os.close(hold)
        os.waitpid(child, 0)

    return release


def by_message(fd: int) -> Release:
    """Sends the descriptor over AF_UNIX (SCM_RIGHTS); the release drops the message unreceived."""
    sender, receiver = socket.socketpair()
    socket.send_fds(sender, [b"x"], [fd])

    def release() -> None:
        receiver.close()
        sender.close()

    return release


#: By the name that the case shows.
KEEPERS: dict[str, Callable[[int], Release]] = {"dup": by_duplicate, "fork": by_child, "in-flight": by_message}


def execute(fd: int, flag: int) -> Release:
    """Executes cat in a child whose descriptor has a flag (F_SETFD), and returns once cat runs.

    The release ends cat. Raises Broke if cat does not run.
    """
    (feed_read, feed_write), (echo_read, echo_write) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(feed_read, 0)
        os.dup2(echo_write, 1)
        fcntl.fcntl(fd, fcntl.F_SETFD, flag)
        os.execvp("cat", ["cat"])
    os.close(echo_write)
    os.close(feed_read)
    os.write(feed_write, b"x")
    echoed = os.read(echo_read, 1)

    def release() -> None:
        os.close(feed_write)
        os.waitpid(child, 0)
        os.close(echo_read)

    if echoed != b"x":
        raise Broke("cat, executed in a child, does not echo its input")
    return release


def record_lock_state(fd: int) -> int:
    """Tries to lock a file in a child, whose lock ends with it: 0 it was free, 1 it is locked, 2 another error."""
    child = os.fork()
    if child == 0:
        state = 2
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            state = 0
        except BlockingIOError:
            state = 1
        finally:
            os._exit(state)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
