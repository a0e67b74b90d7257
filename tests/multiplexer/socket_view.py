"""Reads the state of a descriptor by ordinary calls: what a call left, and what its peer received.

They are Python's, on a copy of the descriptor; the caller's own, where it is on another machine.
"""

from __future__ import annotations

import array
import fcntl
import os
import select
import socket
import stat
import termios
from collections.abc import Callable, Mapping
from errno import ENOTSOCK
from types import TracebackType
from typing import TypeVar

from probes.entry.calls import Calls
from probes.testing import procfs
from probes.testing.caller import Caller
from tests.multiplexer.caller_socket import CallerSocket

_Value = TypeVar("_Value")
#: What is found, or expected, in memory and of sockets, by name.
Found = dict[str, object]
_View = socket.socket | CallerSocket
_OPTIONS = {
    "family": socket.SO_DOMAIN,
    "type": socket.SO_TYPE,
    "protocol": socket.SO_PROTOCOL,
    "listens": socket.SO_ACCEPTCONN,
    "error": socket.SO_ERROR,
}
_SIZE, _ROOM = 64, 16
#: What can be waited for: reading it changes nothing.
_ARRIVING = ("events", "queued")


class SocketView:
    """Is a descriptor of the caller, seen through a copy that this process borrows, if it can. It is empty for no socket.

    Then only the flags of the descriptor are read by a call of the caller. Such calls should not be traced.
    """

    def __init__(self, fd: int, caller: Caller, calls: Calls) -> None:
        self._fd, self._calls, self._caller = fd, calls, caller
        with caller.unrecorded():
            self._borrowed = None if fd < 0 else _borrowed(fd, caller) if caller.lends else _own(fd, calls)

    def __enter__(self) -> SocketView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._borrowed is not None:
            self._borrowed.close()

    def option(self, level: int, name: int) -> bytes | int:
        """Returns the value of an option, at most 16 bytes, or the negated number of an error."""
        borrowed = self._borrowed
        return b"" if borrowed is None else _or_errno(lambda: borrowed.getsockopt(level, name, _ROOM))

    def read(self, awaited: Mapping[str, object]) -> Found:
        """Returns all that can be read, and takes what is queued to be received.

        Options, flags, names, `events` (poll), `queued` (FIONREAD), `received`. What `awaited` has of the last three may
        still be on its way, so it is waited for.
        """
        borrowed = self._borrowed
        if borrowed is None:
            return {}
        with self._caller.unrecorded():
            return self._read(borrowed, awaited)

    def _read(self, borrowed: _View, awaited: Mapping[str, object]) -> Found:
        arriving = {name: awaited[name] for name in _ARRIVING if name in awaited}
        procfs.read_until(lambda: {name: self._arrived(borrowed)[name] for name in arriving}, arriving)
        found: Found = {name: borrowed.getsockopt(socket.SOL_SOCKET, number) for name, number in _OPTIONS.items()}
        found["flags"] = [
            int(self._calls.syscall("fcntl", self._fd, what, 0)) for what in (fcntl.F_GETFD, fcntl.F_GETFL)
        ]
        if found["listens"] and found["protocol"] == socket.IPPROTO_TCP:
            found["backlog"] = _backlog(borrowed)
        found |= {"name": borrowed.getsockname(), "peer": _or_errno(borrowed.getpeername)} | self._arrived(borrowed)
        messages: list[list[object]] = []

        def received() -> list[list[object]] | int:
            error = _take(borrowed, messages)
            return messages or error

        return found | {
            "received": procfs.read_until(received, awaited["received"]) if "received" in awaited else received()
        }

    @staticmethod
    def _arrived(borrowed: _View) -> Found:
        # A pending error is read as an option, which ends it.
        return {
            "events": _events(borrowed, select.POLLIN | select.POLLOUT | select.POLLRDHUP) & ~select.POLLERR,
            "queued": _or_errno(lambda: _queued(borrowed)),
        }


def _borrowed(fd: int, caller: Caller) -> socket.socket | None:
    """Returns a copy of a descriptor of the caller, None if it is no socket."""
    lent = caller.lend(fd)
    if stat.S_ISSOCK(os.fstat(lent).st_mode):
        return socket.socket(fileno=lent)
    os.close(lent)
    return None


def _own(fd: int, calls: Calls) -> CallerSocket | None:
    """Returns a descriptor that its caller reads itself, None if it is no socket."""
    try:
        return CallerSocket(fd, calls)
    except OSError as error:
        # A descriptor of O_PATH is open, but not for these calls.
        if error.errno != ENOTSOCK and calls.syscall("fcntl", fd, fcntl.F_GETFD, 0) < 0:
            raise
        return None


def _events(borrowed: _View, wanted: int) -> int:
    if isinstance(borrowed, CallerSocket):
        return borrowed.events(wanted)
    poll = select.poll()
    poll.register(borrowed, wanted)
    return sum(events for _, events in poll.poll(0))


def _backlog(borrowed: _View) -> int:
    """Returns the backlog of a listening TCP socket, which the kernel uses (tcp_get_info, tcpi_sacked)."""
    at = 28
    info = borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, at + 4)
    assert isinstance(info, bytes)
    return int.from_bytes(info[at:], "little")


def _queued(borrowed: _View) -> int:
    """Returns the number of bytes to receive (FIONREAD)."""
    if isinstance(borrowed, CallerSocket):
        return borrowed.queued(termios.FIONREAD)
    count = array.array("i", [0])
    fcntl.ioctl(borrowed.fileno(), termios.FIONREAD, count)
    return count[0]


def _take(borrowed: _View, messages: list[list[object]]) -> int:
    """Receives all there is, and appends each message: data, control data, flags, name. Returns why there is no more.

    That is the negated number of an error, 0 at the end of a stream. What a stream brings in several segments is one
    message. Of SCM_RIGHTS there is how many descriptors; they are closed.
    """
    stream = borrowed.type == socket.SOCK_STREAM
    while True:
        try:
            data, control, flags, name = borrowed.recvmsg(_SIZE, _SIZE, socket.MSG_DONTWAIT)
        except OSError as error:
            return -(error.errno or 0)
        ended = not data and borrowed.type != socket.SOCK_DGRAM
        if ended and messages and not messages[-1][0]:
            return 0
        shown = [data, [_control(borrowed, *one) for one in control], flags, name]
        if stream and data and messages and messages[-1][1:] == shown[1:] == [[], 0, name]:
            messages[-1][0] += data  # type: ignore[operator]
        else:
            messages.append(shown)
        if ended:
            return 0


def _control(borrowed: _View, level: int, type_: int, content: bytes) -> list[object]:
    if (level, type_) != (socket.SOL_SOCKET, socket.SCM_RIGHTS):
        return [level, type_, content]
    descriptors = array.array("i", content)
    close = borrowed.close_received if isinstance(borrowed, CallerSocket) else os.close
    for fd in descriptors:
        close(fd)
    return [level, type_, len(descriptors)]


def _or_errno(read: Callable[[], _Value]) -> _Value | int:
    """Returns what a call returns, or the negated number of its error."""
    try:
        return read()
    except OSError as error:
        return -(error.errno or 0)
