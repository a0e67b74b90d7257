"""Look at descriptors of a traced process: which are sockets, with which protocol and addresses.

A descriptor is copied by pidfd_getfd(2) for a moment, and asked by getsockopt(2), getsockname(2) and getpeername(2). Where
that is refused, /proc/PID/fd says which are sockets.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import stat
from collections import OrderedDict
from pathlib import Path

#: The same number on i386 and x86-64.
_PIDFD_GETFD = 438
_libc = ctypes.CDLL(None, use_errno=True)
_TYPES = {socket.SOCK_STREAM: "STREAM", socket.SOCK_DGRAM: "DGRAM", socket.SOCK_SEQPACKET: "SEQPACKET"}
_PROTOCOLS = {socket.IPPROTO_TCP: "TCP", socket.IPPROTO_UDP: "UDP", socket.IPPROTO_ICMP: "ICMP",
              socket.IPPROTO_ICMPV6: "ICMPv6", socket.IPPROTO_SCTP: "SCTP", 136: "UDPLITE", 255: "RAW"}  # fmt: skip
_NETLINK = {0: "ROUTE", 3: "UNUSED", 4: "SOCK_DIAG", 6: "XFRM", 9: "AUDIT", 12: "NETFILTER", 15: "KOBJECT_UEVENT",
            16: "GENERIC"}  # fmt: skip
#: Stream sockets whose last description is kept, for when their peer is gone.
_KEPT = 4096
#: Descriptors are smaller: an int.
_MOST = 1 << 31
#: Processes whose pidfd is kept open: a program may have more than RLIMIT_NOFILE allows.
_PROCESSES = 64


class Descriptors:
    """Describes descriptors as `strace -yy` does: `TCP:[127.0.0.1:80->127.0.0.1:4567]`; `plain`: as `-y`, `socket:[7]`."""

    def __init__(self, plain: bool = False) -> None:
        """Take which form is wanted."""
        self._plain = plain
        self._pidfds: dict[int, int] = {}
        #: The last description of a stream socket with a peer, by inode.
        self._with_peer: OrderedDict[int, str] = OrderedDict()

    def describe(self, pid: int, number: int) -> str:
        """Return what a descriptor is, "" if it is no socket or not open."""
        if number < 0:
            return ""
        copy = self._copy(pid, number)
        if copy is None:
            return _link(pid, number)
        try:
            status = os.fstat(copy)
            if not stat.S_ISSOCK(status.st_mode):
                return ""
            return f"socket:[{status.st_ino}]" if self._plain else self._described(copy, status.st_ino)
        except OSError:
            return ""
        finally:
            os.close(copy)

    def netlink(self, pid: int, number: int) -> int | None:
        """Return the protocol of a descriptor that is a socket of AF_NETLINK, None for any other."""
        copy = self._copy(pid, number) if 0 <= number < _MOST else None
        if copy is None:
            return None
        try:
            with socket.socket(fileno=copy) as asked:
                return asked.proto if asked.family == socket.AF_NETLINK else None
        except OSError:
            os.close(copy)
            return None

    def forget(self, pid: int) -> None:
        """Forget a process that has ended: another may get its number."""
        if (pidfd := self._pidfds.pop(pid, None)) is not None:
            os.close(pidfd)

    def _copy(self, pid: int, number: int) -> int | None:
        """Return a copy of a descriptor, None if there is none or it is refused."""
        try:
            pidfd = self._pidfds.get(pid)
            if pidfd is None:
                if len(self._pidfds) >= _PROCESSES:
                    self.forget(next(iter(self._pidfds)))
                pidfd = self._pidfds[pid] = os.pidfd_open(pid)
        except OSError:
            return None
        copy = int(_libc.syscall(_PIDFD_GETFD, pidfd, number, 0))
        if copy < 0 and ctypes.get_errno() == errno.ESRCH:
            self.forget(pid)  # another process has the number of one that ended
        return copy if copy >= 0 else None

    def _described(self, copy: int, inode: int) -> str:
        try:
            asked = socket.socket(fileno=copy)
        except OSError:
            return f"socket:[{inode}]"  # Its protocol has no getsockname(2), as AF_ALG.
        try:
            name, rest = _names(asked, inode)
            peer = _peer(asked)
            connected = asked.type == socket.SOCK_STREAM
        finally:
            asked.detach()
        if peer and not connected:
            # connect may give it another peer, or none.
            return f"{name}:[{rest}->{peer}]"
        if peer:
            self._with_peer[inode] = f"{name}:[{rest}->{peer}]"
            if len(self._with_peer) > _KEPT:
                self._with_peer.popitem(last=False)
        return self._with_peer.get(inode) or f"{name}:[{rest}]"


def _names(asked: socket.socket, inode: int) -> tuple[str, str]:
    """Return the name of a socket's protocol, and its own address, or its inode if it has none."""
    family, protocol = asked.family, asked.proto
    try:
        local = asked.getsockname()
    except OSError:
        local = ""
    if family in (socket.AF_INET, socket.AF_INET6):
        suffix = "v6" if family == socket.AF_INET6 and protocol not in (socket.IPPROTO_ICMPV6,) else ""
        named = _PROTOCOLS.get(protocol) or f"{_PROTOCOLS[255]}:{protocol}"
        return f"{named}{suffix}", _inet(local) if local and local[1] else str(inode)
    if family == socket.AF_UNIX:
        return f"UNIX-{_TYPES.get(asked.type, 'RAW')}", f"{inode}{_path(local)}"
    if family == socket.AF_NETLINK:
        return "NETLINK", f"{_NETLINK.get(protocol, protocol)}:{local[0] if local else inode}"
    name = family.name.removeprefix("AF_") if isinstance(family, socket.AddressFamily) else str(family)
    return name, str(inode)


def _peer(asked: socket.socket) -> str:
    if asked.family not in (socket.AF_INET, socket.AF_INET6):
        return ""
    try:
        return _inet(asked.getpeername())
    except OSError:
        return ""


def _inet(address: tuple[str, int]) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _path(name: str | bytes) -> str:
    if isinstance(name, bytes):
        return f',@"{name[1:].decode("latin-1")}"'
    return f',"{name}"' if name else ""


def _link(pid: int, number: int) -> str:
    try:
        target = str(Path(f"/proc/{pid}/fd/{number}").readlink())
    except OSError:
        return ""
    return target if target.startswith("socket:") else ""
