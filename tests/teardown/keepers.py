"""Keeps a socket open beyond its descriptor: by a duplicate, another process, or a message in flight."""

from collections.abc import Callable

from probes.entry.calls import Calls
from probes.testing import need
from probes.testing.children import Children, Release
from probes.testing.socket_kinds import UNIX_STREAM
from probes.testing.states import Prepare

SOL_SOCKET, SCM_RIGHTS = 1, 1


class Keepers:
    """Keeps sockets of the caller open, by calls that are not traced."""

    def __init__(self, calls: Calls, children: Children) -> None:
        """Takes the calls, and what makes children of the caller."""
        self._calls, self._children = calls, children
        #: By the name that the case shows.
        self.by: dict[str, Callable[[int], Release]] = {
            "dup": self._duplicate, "fork": lambda _: children.kept(), "in-flight": self._message
        }  # fmt: skip

    def _duplicate(self, fd: int) -> Release:
        """Duplicates a descriptor; the release closes the duplicate."""
        duplicate = need(self._calls.syscall("dup", fd))
        return lambda: self._close(duplicate)

    def _message(self, fd: int) -> Release:
        """Sends the descriptor over AF_UNIX; the release drops the message unreceived."""
        memory, end = self._calls.memory, Prepare(self._calls)("connected", UNIX_STREAM)
        control, text = memory.words(16, SOL_SOCKET, SCM_RIGHTS, fd), memory.words(memory.put(b"x"), 1)
        need(self._calls.make("sendmsg", end.fd, memory.words(0, 0, text, 1, control, 16, 0), 0))
        return lambda: self._close(end.peer, end.fd)

    def _close(self, *descriptors: int) -> None:
        for descriptor in descriptors:
            need(self._calls.close(descriptor))
