"""Reads /proc: the tables and counters of sockets, the caller's descriptors, sysctls, and modules.

It is that of the machine where the calls are made: read by ordinary calls of Python where that is this machine, otherwise by
calls of the agent (probes/entry/files.py). They are never calls through the gate: what they show is independent of the
judged call.
"""

from __future__ import annotations

import errno
import functools
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

from probes.entry.files import Files, LocalFiles
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
#: Seconds to wait for the kernel to free closed sockets, which it may do after an RCU grace period.
_PATIENCE = 2.0
_LOCAL = LocalFiles()
#: How files are read, None where none shows the sockets of the test, and whose descriptors `descriptors` lists.
_files: Files | None = _LOCAL
_process: Callable[[], int] = os.getpid


def of_caller(files: Files | None, process: Callable[[], int]) -> None:
    """Makes this module read the /proc of the process that makes the calls of this test; None: there is none to read.

    `process` returns its id on this machine, or ends the test as not applicable.
    """
    global _files, _process
    _files, _process = files, process


def _caller() -> str:
    """Returns the name in /proc of the process whose descriptors are read."""
    return "self" if _files is not _LOCAL or (pid := _process()) == os.getpid() else str(pid)


def local() -> Files:
    """Returns the files of this machine."""
    return _LOCAL


def _shown(path: str) -> Files:
    """Returns how a file is read. Not applicable where no /proc shows what the test's calls do."""
    if _files is None:
        not_applicable(f"/proc/{path} of the implementation")
    return _files


def _text(path: str) -> str:
    """Returns what a file below /proc holds. Raises FileNotFoundError."""
    return _shown(path).read(f"/proc/{path}").decode(errors="surrogateescape")


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


class Protocols(frozenset[str]):
    """Holds protocols. `asked`, if it is set, gets those of which a test asks if they are there, with the answer."""

    asked: ClassVar[dict[str, bool] | None] = None

    def __contains__(self, name: object) -> bool:
        """Returns True if a protocol is there."""
        there = super().__contains__(name)
        if self.asked is not None:
            self.asked[str(name)] = there
        return there

    def __and__(self, names: AbstractSet[object]) -> frozenset[str]:
        """Returns those of some protocols that are there."""
        return frozenset(name for name in names if isinstance(name, str) and name in self)


def protocols() -> Protocols:
    """Returns the protocols that the kernel has registered, as /proc/net/protocols names them: "TCP", "UDPv6"."""
    try:
        lines = _text("net/protocols").splitlines()[1:]
    except FileNotFoundError:
        not_applicable("/proc/net/protocols, which lists the kernel's protocols")
    return Protocols(line.split()[0] for line in lines)


def filesystems() -> frozenset[str]:
    """Returns the file systems that the kernel has registered."""
    return frozenset(line.split()[-1] for line in _text("filesystems").splitlines())


def modprobe() -> str:
    """Returns the program that the kernel runs to load a missing module, "" if it loads none (kernel.modprobe)."""
    try:
        disabled = _text("sys/kernel/modules_disabled").strip() != "0"
        return "" if disabled else _text("sys/kernel/modprobe").strip()
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
    if _files is not _LOCAL and not _is_there(program):
        return False
    modules = Path(f"/lib/modules/{os.uname().release}/modules.dep")
    if _files is not _LOCAL or not modules.exists() or not os.access(program, os.X_OK):
        not_applicable(f"the modules of this kernel, to see if it would load {alias}")
    resolved = subprocess.run([program, "--resolve-alias", alias], capture_output=True, text=True, check=False)
    return bool(set(resolved.stdout.split()) - {"off"})


def _is_there(path: str) -> bool:
    directory, _, name = path.rpartition("/")
    try:
        return name in _shown("").names(directory or "/")
    except FileNotFoundError:
        return False


def read_table(table: str) -> dict[int, ProcRow]:
    """Returns the rows of /proc/net/TABLE by inode; none if the kernel has no such table."""
    try:
        return _rows(table, _text(f"net/{table}"))
    except FileNotFoundError:
        return {}


def _rows(table: str, text: str) -> dict[int, ProcRow]:
    rows = [ProcRow(dict(zip(_COLUMNS[table], line.split(), strict=False))) for line in text.splitlines()[1:]]
    return {int(row["inode"]): row for row in rows}


#: Gets each protocol of AF_NETLINK that a test finds, if it is set.
netlink_found: Callable[[int], None] | None = None


def has_netlink(protocol: int) -> bool:
    """Returns True if a protocol of AF_NETLINK has a kernel socket (port 0) in the initial network namespace."""
    text = _shown("").initial.get("/proc/net/netlink", b"").decode()
    rows = _rows("netlink", text).values()
    there = any(row["port"] == "0" and int(row["protocol"]) == protocol for row in rows)
    if there and netlink_found is not None:
        netlink_found(protocol)
    return there


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
    path = f"{_caller()}/fd/{fd}"
    link = _shown(path).link(f"/proc/{path}")
    if not link.startswith("socket:["):
        raise Broke(f"descriptor {fd} is {link}, not a socket")
    return int(link[8:-1])


def open_sockets() -> dict[int, list[tuple[int, int]]]:
    """Returns the process and the descriptor of each open socket by inode, of the processes that /proc shows."""
    found: dict[int, list[tuple[int, int]]] = {}
    for directory in Path("/proc").glob("[0-9]*/fd"):
        # A process may end meanwhile, or be another user's.
        with suppress(OSError):
            for link in directory.iterdir():
                if (target := str(link.readlink())).startswith("socket:["):
                    found.setdefault(int(target[8:-1]), []).append((int(directory.parent.name), int(link.name)))
    return found


def descriptors(pid: int | None = None) -> list[int]:
    """Returns the open descriptors of the process that makes the calls, or of another one of its machine."""
    path = f"{_caller() if pid is None else pid}/fd"
    try:
        return sorted(map(int, _shown(path).names(f"/proc/{path}")))
    except FileNotFoundError:
        not_applicable(f"/proc/{path}: the process, by the id that the caller has of it")


def process_state(pid: int) -> str:
    """Returns the letter of the state of a process, by the id that the caller has of it (proc(5), /proc/PID/stat)."""
    return _text(f"{pid}/stat").rpartition(")")[2].split()[0]


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
        try:
            lines = _text(f"net/{name}").splitlines()
        except FileNotFoundError:
            continue
        for line in lines:
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
    try:
        return [int(number) for number in _text("sys/" + name.replace(".", "/")).split()]
    except FileNotFoundError:
        found = _shown("").initial.get("/proc/sys/" + name.replace(".", "/"))
        if found is None:
            not_applicable(f"sysctl {name}")
        return [int(found)]


def link_groups() -> list[str]:
    """Returns the multicast addresses of hardware that links receive, in hexadecimal (/proc/net/dev_mcast)."""
    return [line.split()[-1] for line in _text("net/dev_mcast").splitlines()]


def labels_sockets() -> bool:
    """Returns True if a security module of the caller's kernel labels sockets: SELinux or Smack, by their file systems."""
    return bool({"selinuxfs", "smackfs"}.intersection(_text("filesystems").split()))


def sysctl_text(name: str) -> str:
    """Returns what a sysctl like net.ipv4.tcp_congestion_control holds. Raises FileNotFoundError."""
    return _text("sys/" + name.replace(".", "/")).strip()


def names_here() -> list[str]:
    """Returns the names in the current directory of the process that makes the calls."""
    return _shown("self/cwd").names(".")


def set_sysctl(name: str, value: object) -> None:
    """Writes a sysctl of the caller's namespaces, e.g. net.ipv4.ip_unprivileged_port_start.

    Not applicable where /proc/sys is mounted read-only, as containers have it. Raises OSError.
    """
    path = "sys/" + name.replace(".", "/")
    try:
        _shown(path).write(f"/proc/{path}", f"{value}\n".encode())
    except OSError as error:
        if error.errno == errno.EROFS:
            not_applicable("/proc/sys that can be written")
        raise
