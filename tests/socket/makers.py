"""Makes what the tests of socket(2) and socketpair(2) start from: sockets and pairs."""

import struct
from dataclasses import dataclass

from probes.entry.calls import Calls, SetUpRefused, Socket
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
        """The inode of the socket. Raises SetUpRefused if the descriptor that was returned is not open."""
        if self.socket.fd not in procfs.descriptors():
            raise SetUpRefused(self.result, "socket, which returns an open descriptor,")
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
