"""Files and links of the process that makes the calls, made by its own calls, which no behaviour is about."""

from __future__ import annotations

import socket
import struct

from probes.entry.calls import Calls
from probes.testing import Broke, need
from probes.testing.socket_kinds import NETLINK
from probes.testing.states import Prepare

#: arch/x86/entry/syscalls/syscall_32.tbl.
_WRITE, _OPEN, _UNLINK, _CHMOD, _LSEEK, _MKDIR, _SYMLINK, _CHOWN32 = 4, 5, 10, 15, 19, 39, 83, 212
#: include/uapi/asm-generic/fcntl.h, include/uapi/linux/fs.h.
O_RDONLY, O_WRONLY, O_CREAT, O_APPEND = 0, 1, 0o100, 0o2000
_SEEK_SET, _SEEK_CUR = 0, 1
#: NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE, and NLM_F_EXCL or NLM_F_REPLACE.
CREATE, REPLACE = 0x605, 0x505


class Files:
    """Makes and opens files in the caller's current directory, by untraced calls. Each raises SetUpRefused."""

    def __init__(self, calls: Calls) -> None:
        """Takes the calls of the test."""
        self._calls, self._gate = calls, calls.gate.quieted()

    def _path(self, path: str) -> int:
        return self._calls.pointer(path.encode() + b"\0")

    def open(self, path: str, flags: int = O_RDONLY) -> int:
        """Opens a file, and returns its descriptor."""
        return need(self._gate.enter(_OPEN, self._path(path), flags, 0o600), "open")

    def create(self, path: str, data: bytes = b"") -> None:
        """Makes a file with this content."""
        block = self._calls.memory.put(data or b"\0")
        fd = self.open(path, O_WRONLY | O_CREAT)
        need(self._gate.enter(_WRITE, fd, block.address, len(data)), "write", returns=len(data))
        need(self._calls.close(fd), "close")

    def mkdir(self, path: str) -> None:
        """Makes a directory."""
        need(self._gate.enter(_MKDIR, self._path(path), 0o700), "mkdir")

    def chmod(self, path: str, mode: int) -> None:
        """Changes the mode of a file."""
        need(self._gate.enter(_CHMOD, self._path(path), mode), "chmod")

    def chown(self, path: str, uid: int, gid: int) -> None:
        """Changes the owner and the group of a file."""
        need(self._gate.enter(_CHOWN32, self._path(path), uid, gid), "chown32")

    def symlink(self, target: str, path: str) -> None:
        """Makes a symbolic link."""
        words = [self._calls.memory.put(text.encode() + b"\0").address for text in (target, path)]
        need(self._gate.enter(_SYMLINK, *words), "symlink")

    def unlink(self, path: str) -> None:
        """Removes a file."""
        need(self._gate.enter(_UNLINK, self._path(path)), "unlink")

    def offset(self, fd: int) -> int:
        """Returns the offset of an open file."""
        return int(self._gate.enter(_LSEEK, fd, 0, _SEEK_CUR))

    def seek(self, fd: int, offset: int) -> None:
        """Sets the offset of an open file."""
        need(self._gate.enter(_LSEEK, fd, offset, _SEEK_SET), "lseek")


def request(prepare: Prepare, kind: int, body: bytes, flags: int = CREATE) -> int:
    """Makes a request of rtnetlink(7), by default one that creates something, and returns 0 or the error of its answer."""
    end = prepare("unbound", NETLINK)
    end.send(end.fd, struct.pack("<IHHII", 16 + len(body), kind, flags, 1, 0) + body)
    end.wait(end.fd)
    room = end.calls.memory.alloc(256)
    need(end.calls.make("recv", end.fd, room, room.size, 0), "recv")
    (error,) = struct.unpack_from("<i", room.read(), 16)
    end.close()
    return int(error)


def route_through_gateway(prepare: Prepare) -> None:
    """Makes a route to 192.0.2.0/24 through the gateway 10.0.0.2 of a directly connected network, on the loopback link."""
    # RTM_NEWADDR of 10.0.0.1/24: struct ifaddrmsg, IFA_LOCAL.
    address = struct.pack("<BBBBi", socket.AF_INET, 24, 0, 0, 1) + _attribute(2, "10.0.0.1")
    # RTM_NEWROUTE: struct rtmsg of the main table, RTPROT_STATIC, RTN_UNICAST; RTA_DST, RTA_GATEWAY.
    head = struct.pack("<BBBBBBBBI", socket.AF_INET, 24, 0, 0, 254, 4, 0, 1, 0)
    for kind, body in ((20, address), (24, head + _attribute(1, "192.0.2.0") + _attribute(5, "10.0.0.2"))):
        error = request(prepare, kind, body)
        if error:
            raise Broke(f"netlink message {kind}: error {error}")


def _attribute(number: int, host: str) -> bytes:
    """Packs a struct rtattr with an IPv4 address."""
    return struct.pack("<HH", 8, number) + socket.inet_aton(host)
