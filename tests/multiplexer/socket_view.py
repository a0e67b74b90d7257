"""Reads the state of a descriptor by ordinary calls of Python, to compare what two calls left."""

from __future__ import annotations

import array
import fcntl
import os
import select
import socket
import stat
import termios
from collections.abc import Callable
from typing import TypeVar

from probes.entry.calls import Calls
from probes.testing.caller import Caller

_Value = TypeVar("_Value")
_OPTIONS = {
    "family": socket.SO_DOMAIN,
    "type": socket.SO_TYPE,
    "protocol": socket.SO_PROTOCOL,
    "listens": socket.SO_ACCEPTCONN,
    "error": socket.SO_ERROR,
}
_SIZE = 64


def socket_view(fd: int, caller: Caller, calls: Calls) -> dict[str, object]:
    """Returns what can be read of a socket: options, flags, names, queued data, poll events. {} if it is no socket.

    Only the flags of the descriptor are read by a call of the caller, which should not be traced.
    """
    if fd < 0:
        return {}
    lent = caller.lend(fd)
    if not stat.S_ISSOCK(os.fstat(lent).st_mode):
        os.close(lent)
        return {}
    poll = select.poll()
    poll.register(lent, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
    with socket.socket(fileno=lent) as borrowed:
        return {name: borrowed.getsockopt(socket.SOL_SOCKET, number) for name, number in _OPTIONS.items()} | {
            "flags": [int(calls.syscall("fcntl", fd, what, 0)) for what in (fcntl.F_GETFD, fcntl.F_GETFL)],
            "name": borrowed.getsockname(),
            "peer": _or_errno(borrowed.getpeername),
            "queued": _or_errno(lambda: _queued(lent)),
            "received": _or_errno(lambda: _received(borrowed)),
            "events": [events for _, events in poll.poll(0)],
        }


def _queued(fd: int) -> int:
    """Returns the number of bytes to receive (FIONREAD)."""
    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]


def _received(borrowed: socket.socket) -> list[object]:
    """Returns what recvmsg reads with MSG_PEEK: data, control data, flags, name; of SCM_RIGHTS how many descriptors.

    MSG_PEEK makes descriptors for SCM_RIGHTS; they are closed.
    """
    data, control, flags, name = borrowed.recvmsg(_SIZE, _SIZE, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    shown: list[object] = []
    for level, type_, content in control:
        if (level, type_) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors = array.array("i", content)
            for fd in descriptors:
                os.close(fd)
            shown.append([level, type_, len(descriptors)])
        else:
            shown.append([level, type_, content])
    return [data, shown, flags, name]


def _or_errno(read: Callable[[], _Value]) -> _Value | int:
    """Returns what a call returns, or the negated number of its error."""
    try:
        return read()
    except OSError as error:
        return -(error.errno or 0)
