"""Finds the kind and the state of the socket that a call concerns, by a copy of its descriptor (pidfd_getfd(2))."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from contextlib import suppress

from probes.abi import names
from probes.trace.stop import Stop

_PIDFD_GETFD = 438
_libc = ctypes.CDLL(None, use_errno=True)
_SO_ACCEPTCONN = 30
#: Operations whose first words are a family and a type, not a descriptor.
MAKERS = ("socket", "socketpair")


def kind_of(stop: Stop) -> str:
    """Return family, type and state, as "AF_INET SOCK_STREAM listening".

    "" where the call concerns no socket, or asks for one of a family or type without a name.
    """
    words = len(stop.call.args)
    if stop.call.op in MAKERS:
        kind = (names.family(stop.word(0)), names.socktype(stop.word(1) & 0xF)) if words > 1 else (0,)
        return " ".join(map(str, kind)) if all(isinstance(name, str) for name in kind) else ""
    if not words:
        return ""
    with suppress(OSError, ValueError), _copy(stop.call.pid, stop.word(0)) as copy:
        return f"{names.family(copy.family)} {names.socktype(copy.type)} {_state(copy)}"
    return ""


def _copy(pid: int, descriptor: int) -> socket.socket:
    """Return the caller's socket under a descriptor of this process. Raises OSError: EBADF, ENOTSOCK."""
    process = os.pidfd_open(pid)
    try:
        copied = _libc.syscall(_PIDFD_GETFD, process, ctypes.c_int(descriptor), 0)
    finally:
        os.close(process)
    if copied < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    try:
        return socket.socket(fileno=copied)
    except OSError:
        os.close(copied)
        raise


def _state(copy: socket.socket) -> str:
    """Return the state that the names and SO_ACCEPTCONN show."""
    with suppress(OSError):
        if copy.getsockopt(socket.SOL_SOCKET, _SO_ACCEPTCONN):
            return "listening"
    try:
        copy.getpeername()
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            return "without names"
    else:
        return "connected"
    name = copy.getsockname()
    port = name[0 if copy.family == socket.AF_NETLINK else 1] if isinstance(name, tuple) else name
    return "bound" if port else "unbound"
