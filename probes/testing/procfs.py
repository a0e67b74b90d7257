"""Reads /proc: the tables and counters of sockets, this process's descriptors, sysctls, and modules.

Files are read by ordinary calls of Python, never through the gate: what they show is independent of the judged call.
"""

from __future__ import annotations

import functools
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from probes.testing.expect import Broke, not_applicable

_Value = TypeVar("_Value")
#: Columns of the tables of /proc/net, to the last one that is used (tcp4_seq_show, unix_seq_show, netlink_seq_show,
#: packet_seq_show). `queues` is tx_queue:rx_queue, `timer` is tr:tm->when.
_INET = ("slot", "local", "remote", "state", "queues", "timer", "retransmits", "uid", "timeout", "inode")
_COLUMNS = {
    **dict.fromkeys(("tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6", "icmp", "icmp6"), _INET),
    "unix": ("address", "references", "protocol", "flags", "type", "state", "inode", "path"),
    "netlink": ("address", "protocol", "port", "groups", "rmem", "wmem", "dump", "references", "drops", "inode"),
    "packet": ("address", "references", "type", "protocol", "interface", "running", "rmem", "uid", "inode"),
}
#: The tables of sockets in /proc/net.
TABLES = tuple(_COLUMNS)
#: Whose descriptors are read: the process that makes the calls of the test.
_caller = "self"
_shown = True
#: Seconds to wait for the kernel to free closed sockets, which it may do after an RCU grace period.
_PATIENCE = 2.0


def of_caller(pid: int) -> None:
    """Makes `inode`, `descriptors` and `lowest` read those of a process, the one that makes the calls of this test."""
    global _caller
    _caller = "self" if pid == os.getpid() else str(pid)


def shows_sockets(shown: bool) -> None:
    """Says whether the kernel of this process answers the calls of this test. If not, /proc here shows none of it."""
    global _shown
    _shown = shown


def _proc(path: str) -> Path:
    """Returns a path below /proc. Not applicable where another kernel answers the calls."""
    if not _shown:
        not_applicable(f"/proc/{path} of the implementation")
    return Path("/proc", path)


@dataclass(frozen=True)
class ProcRow:
    """Holds the row of one socket in a table of /proc/net: its fields by column, none if the table has no row for it."""

    fields: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        """Returns a field, "" if there is none."""
        return self.fields.get(column, "")

    def columns(self, *names: str) -> list[str]:
        """Returns the fields of these columns, in this order; [] if there is no row."""
        return [self.fields[name] for name in names] if self.fields else []


def protocols() -> frozenset[str]:
    """Returns the protocols that the kernel has registered, as /proc/net/protocols names them: "TCP", "UDPv6"."""
    try:
        lines = _proc("net/protocols").read_text().splitlines()[1:]
    except FileNotFoundError:
        not_applicable("/proc/net/protocols, which lists the kernel's protocols")
    return frozenset(line.split()[0] for line in lines)


def modprobe() -> str:
    """Returns the program that the kernel runs to load a missing module, "" if it loads none (kernel.modprobe)."""
    try:
        disabled = _proc("sys/kernel/modules_disabled").read_text().strip() != "0"
        return "" if disabled else _proc("sys/kernel/modprobe").read_text().strip()
    except FileNotFoundError:
        return ""


@functools.cache
def loadable(alias: str) -> bool:
    """Returns True if the kernel would find a module for an alias like "net-pf-21" (request_module).

    Not applicable if the kernel loads modules and this root does not have them, so that the answer is unknown.
    """
    program = modprobe()
    if not program:
        return False
    if not Path(f"/lib/modules/{os.uname().release}/modules.dep").exists() or not os.access(program, os.X_OK):
        not_applicable(f"the modules of this kernel, to see if it would load {alias}")
    resolved = subprocess.run([program, "--resolve-alias", alias], capture_output=True, text=True, check=False)
    return bool(set(resolved.stdout.split()) - {"off"})


def read_table(table: str) -> dict[int, ProcRow]:
    """Returns the rows of /proc/net/TABLE by inode; none if the kernel has no such table."""
    path, names = _proc(f"net/{table}"), _COLUMNS[table]
    if not path.exists():
        return {}
    rows = [ProcRow(dict(zip(names, line.split(), strict=False))) for line in path.read_text().splitlines()[1:]]
    return {int(row["inode"]): row for row in rows}


def row(table: str, inode: int) -> ProcRow:
    """Returns the row of a socket in /proc/net/TABLE, one without fields if it is not listed."""
    return read_table(table).get(inode, ProcRow({}))


def row_counts() -> list[int]:
    """Returns the number of rows of each of TABLES."""
    return [len(read_table(table)) for table in TABLES]


def tables_listing(inode: int) -> list[str]:
    """Returns the tables of /proc/net that have a row for a socket."""
    return [table for table in TABLES if inode in read_table(table)]


def inode(fd: int) -> int:
    """Returns the inode of a socket, from the link in /proc/PID/fd. Raises Broke if the descriptor is no socket."""
    link = str(_proc(f"{_caller}/fd/{fd}").readlink())
    if not link.startswith("socket:["):
        raise Broke(f"descriptor {fd} is {link}, not a socket")
    return int(link[8:-1])


def descriptors() -> list[int]:
    """Returns the open descriptors of the process that makes the calls."""
    listed = {int(link.name) for link in _proc(f"{_caller}/fd").iterdir()}
    if _caller != "self":
        return sorted(listed)
    # The listing itself used the lowest free descriptor, which the next open gets again.
    own = os.open("/", os.O_PATH)
    os.close(own)
    return sorted(listed - {own})


def lowest(count: int = 1) -> list[int]:
    """Returns the lowest free descriptors."""
    taken = set(descriptors())
    free: list[int] = []
    candidate = 0
    while len(free) < count:
        if candidate not in taken:
            free.append(candidate)
        candidate += 1
    return free


def socket_counts() -> dict[str, int]:
    """Returns how many sockets this network namespace has: all, and in use by protocol (/proc/net/sockstat)."""
    counts = {}
    for name in ("sockstat", "sockstat6"):
        path = _proc(f"net/{name}")
        for line in path.read_text().splitlines() if path.exists() else ():
            protocol, _, rest = line.partition(": ")
            # Only the first count is of the namespace: `alloc`, `mem` and `orphan` are of the whole machine.
            counts[protocol] = int(rest.split()[1])
    return counts


def read_until(read: Callable[[], _Value], value: _Value) -> _Value:
    """Reads again until `value` is read, for two seconds at most, and returns what was read last."""
    end = time.monotonic() + _PATIENCE
    while (found := read()) != value and time.monotonic() < end:
        time.sleep(0.001)
    return found


def sysctl(name: str) -> list[int]:
    """Returns the numbers of a sysctl like net.core.rmem_default. Not applicable if the kernel does not show it.

    Where only the initial network namespace shows it, its value was read before the sandbox was made.
    """
    path = _proc("sys/" + name.replace(".", "/"))
    if path.exists():
        return [int(number) for number in path.read_text().split()]
    if name not in _INITIAL:
        not_applicable(f"sysctl {name}")
    return _INITIAL[name]


#: Older kernels show these in the initial network namespace only (net/core/sysctl_net_core.c).
_INITIAL = {
    name: [int(path.read_text())]
    for name in ("net.core.rmem_default", "net.core.wmem_default")
    if (path := Path("/proc/sys") / name.replace(".", "/")).exists()
}
