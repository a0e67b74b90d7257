"""Name the interfaces of traced processes, as far as they are in the network namespace of the tracer."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path


def names_of_links(pid: int) -> Callable[[int], str | None]:
    """Return what names an interface of a process by its index; it returns None for all in another namespace."""
    return _name if _namespace(pid) == _namespace("self") else lambda _: None


def _namespace(pid: int | str) -> str | None:
    try:
        return str(Path(f"/proc/{pid}/ns/net").readlink())
    except OSError:
        return None


def _name(index: int) -> str | None:
    try:
        return socket.if_indextoname(index)
    except (OSError, OverflowError):
        return None
