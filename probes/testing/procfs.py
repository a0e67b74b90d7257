"""What others know about the sockets of a test: /proc, another process, the kernel's own lists.

A witness is asked by ordinary calls of Python, never through the gate: it stands beside the judged call.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from probes.testing.expect import Broke, not_applicable

#: Where each table of /proc/net names the inode of a row's socket (net/*/…_seq_show).
_INODE = {
    "tcp": 9, "tcp6": 9, "udp": 9, "udp6": 9, "udplite": 9, "udplite6": 9, "raw": 9, "raw6": 9,
    "icmp": 9, "icmp6": 9, "unix": 6, "netlink": 9, "packet": 8,
}  # fmt: skip
TABLES = tuple(_INODE)
#: Seconds that the kernel may take to free what was closed; a test that waits a dozen times in vain still ends in time.
_PATIENCE = 2.0


def protocols() -> frozenset[str]:
    """The protocols that the kernel has registered, by the names in /proc/net/protocols: "TCP", "UDPv6", "PACKET"."""
    try:
        lines = Path("/proc/net/protocols").read_text().splitlines()[1:]
    except FileNotFoundError:
        not_applicable("/proc/net/protocols: nothing says which protocols the kernel has")
    return frozenset(line.split()[0] for line in lines)


def modprobe() -> str:
    """What the kernel runs to load a module that it misses, "" if it loads none (Documentation/admin-guide/sysctl)."""
    try:
        disabled = Path("/proc/sys/kernel/modules_disabled").read_text().strip() != "0"
        return "" if disabled else Path("/proc/sys/kernel/modprobe").read_text().strip()
    except FileNotFoundError:
        return ""


@functools.cache
def loadable(alias: str) -> bool:
    """Whether the kernel would find a module for an alias like "net-pf-21" (request_module). Not applicable if it loads
    modules and we cannot see which, as in a root that is not its own."""
    program = modprobe()
    if not program:
        return False
    if not Path(f"/lib/modules/{os.uname().release}/modules.dep").exists() or not os.access(program, os.X_OK):
        not_applicable(f"the kernel's modules: nothing says whether it would load {alias}")
    asked = subprocess.run([program, "--resolve-alias", alias], capture_output=True, text=True, check=False)
    return bool(set(asked.stdout.split()) - {"off"})


def rows(table: str) -> dict[int, list[str]]:
    """The rows of /proc/net/TABLE by the inodes of their sockets; no rows if the kernel has no such table."""
    path = Path("/proc/net") / table
    if not path.exists():
        return {}
    fields = [line.split() for line in path.read_text().splitlines()[1:]]
    return {int(row[_INODE[table]]): row for row in fields}


def listed(inode: int) -> list[str]:
    """The tables of /proc/net that have a row for a socket."""
    return [table for table in TABLES if inode in rows(table)]


def inode(fd: int) -> int:
    """The inode of a socket, from the link in /proc/self/fd. Raises Broke if the descriptor is no socket."""
    link = str(Path(f"/proc/self/fd/{fd}").readlink())
    if not link.startswith("socket:["):
        raise Broke(f"descriptor {fd} is {link}")
    return int(link[8:-1])


def descriptors() -> list[int]:
    """The open descriptors of this process."""
    listed = {int(link.name) for link in Path("/proc/self/fd").iterdir()}
    # The listing had the lowest descriptor that was free, and is gone again: whoever comes next gets the same.
    own = os.open("/", os.O_PATH)
    os.close(own)
    return sorted(listed - {own})


def lowest(count: int = 1) -> list[int]:
    """The lowest descriptors that are free."""
    taken = set(descriptors())
    free: list[int] = []
    candidate = 0
    while len(free) < count:
        if candidate not in taken:
            free.append(candidate)
        candidate += 1
    return free


def counted() -> dict[str, int]:
    """How many sockets this network namespace has, by /proc/net/sockstat and sockstat6: all, and in use by protocol."""
    counts = {}
    for name in ("sockstat", "sockstat6"):
        path = Path("/proc/net") / name
        for line in path.read_text().splitlines() if path.exists() else ():
            protocol, _, rest = line.partition(": ")
            # Not `alloc`, `mem`, `orphan`: those are of the whole machine.
            counts[protocol] = int(rest.split()[1])
    return counts


def in_time(read: Callable[[], Any], value: object) -> Any:
    """What `read` tells once it tells `value`, or after all the time that it may take: some sockets are freed after an
    RCU grace period."""
    end = time.monotonic() + _PATIENCE
    while (told := read()) != value and time.monotonic() < end:
        time.sleep(0.001)
    return told


def sysctl(name: str) -> list[int]:
    """The numbers of a sysctl: net.core.rmem_default. Where this network namespace does not show it, as it was before.
    Not applicable if nobody shows it.
    """
    path = Path("/proc/sys") / name.replace(".", "/")
    if path.exists():
        return [int(number) for number in path.read_text().split()]
    if name not in _OUTSIDE:
        not_applicable(f"sysctl {name}")
    return _OUTSIDE[name]


#: Older kernels show these in the initial network namespace only (net/core/sysctl_net_core.c): read before any sandbox.
_OUTSIDE = {
    name: [int(path.read_text())]
    for name in ("net.core.rmem_default", "net.core.wmem_default")
    if (path := Path("/proc/sys") / name.replace(".", "/")).exists()
}


def elsewhere(ask: Callable[[], Any]) -> Any:
    """What `ask` returns in another process of this sandbox, as JSON carries it. Raises Broke if it fails there."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            text = json.dumps({"value": ask()})
        except BaseException:
            text = json.dumps({"error": traceback.format_exc()})
        with os.fdopen(send, "w") as file:
            file.write(text)
        os._exit(0)
    os.close(send)
    with os.fdopen(receive) as file:
        answer = file.read()
    os.waitpid(child, 0)
    told = json.loads(answer or '{"error": "another process did not answer"}')
    if "error" in told:
        raise Broke(told["error"])
    return told["value"]


def connections(pid: int) -> list[list[Any]]:
    """What psutil tells another process about the sockets of this one: descriptor, family, type, names, state."""
    try:
        import psutil
    except ImportError:
        not_applicable("psutil")

    def ask() -> list[list[Any]]:
        # Of that process: the one that asks has inherited the same sockets.
        process = psutil.Process(pid)
        found = (process.net_connections if hasattr(process, "net_connections") else process.connections)("all")
        return [[e.fd, int(e.family), int(e.type), _name(e.laddr), _name(e.raddr), e.status] for e in found]

    told: list[list[Any]] = elsewhere(ask)
    return sorted(told, key=lambda entry: int(entry[0]))


def _name(address: Any) -> str:
    return address if isinstance(address, str) else ":".join(map(str, address))
