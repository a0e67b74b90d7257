"""Observes sockets from another process of the sandbox: by a function run in a child, and by psutil.

An observer makes ordinary calls of Python, never calls through the gate: what it sees is independent of the judged call.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from typing import NamedTuple

from probes.report.check import Json
from probes.testing.expect import Broke, not_applicable


class Connection(NamedTuple):
    """Describes one socket of a process, as psutil lists it. Names are "host:port", a path, or "" if there is none."""

    fd: int
    family: int
    type: int
    local: str
    remote: str
    status: str


def in_child(function: Callable[[], Json]) -> Json:
    """Runs a function in a forked child and returns what it returned, as JSON. Raises Broke if it raised there."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            text = json.dumps({"value": function()})
        except BaseException:
            text = json.dumps({"error": traceback.format_exc()})
        with os.fdopen(send, "w") as file:
            file.write(text)
        os._exit(0)
    os.close(send)
    with os.fdopen(receive) as file:
        text = file.read()
    os.waitpid(child, 0)
    answer = json.loads(text or '{"error": "the child ended without an answer"}')
    if "error" in answer:
        raise Broke(answer["error"])
    return answer["value"]


def connections(pid: int) -> list[Connection]:
    """Returns the sockets of a process as psutil lists them in another process, by descriptor."""
    try:
        import psutil
    except ImportError:
        not_applicable("Python module psutil")

    def read() -> Json:
        # Of `pid`, not of the child itself, which has inherited the same sockets.
        process = psutil.Process(pid)
        found = (process.net_connections if hasattr(process, "net_connections") else process.connections)("all")
        return [[e.fd, int(e.family), int(e.type), _name(e.laddr), _name(e.raddr), e.status] for e in found]

    return sorted(Connection(*fields) for fields in in_child(read))


def _name(address: str | tuple[object, ...]) -> str:
    return address if isinstance(address, str) else ":".join(map(str, address))
