"""Makes what the tests of socket(2) and socketpair(2) start from: sockets, pairs, and a limit of descriptors."""

import resource
import struct
from dataclasses import dataclass

from probes.entry.calls import Calls, Socket
from probes.entry.gate import Result
from probes.entry.memory import POISON, Memory
from probes.testing import procfs


@dataclass(frozen=True)
class Made:
    """A fresh socket, and the result of the call that made it."""

    socket: Socket
    result: Result

    @property
    def inode(self) -> int:
        """The inode of the socket."""
        return procfs.inode(self.socket.fd)


class SocketPair:
    """Makes pairs by socketpair(2): pair(family, type, protocol=0) returns the result, pair.sv what the call wrote."""

    def __init__(self, calls: Calls, memory: Memory) -> None:
        self._calls, self._sv = calls, memory.guarded(8)

    def __call__(self, family: int, type: int, protocol: int = 0) -> Result:
        self._sv.write(bytes([POISON]) * 8)
        return self._calls.make("socketpair", family, type, protocol, self._sv)

    @property
    def sv(self) -> list[int]:
        """The two words of sv."""
        return list(struct.unpack("<ii", self._sv.read()))


class DescriptorLimit:
    """Sets RLIMIT_NOFILE of the process that makes the calls, and sets it back."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)

    def leave(self, left: int) -> None:
        """Lowers the limit so that `left` more descriptors can be opened, by Python's own calls too."""
        limit = procfs.lowest(left + 1)[left], self._limits[1]
        resource.prlimit(self._pid, resource.RLIMIT_NOFILE, limit)

    def restore(self) -> None:
        """Sets the limit back."""
        resource.prlimit(self._pid, resource.RLIMIT_NOFILE, self._limits)
