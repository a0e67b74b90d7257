"""Fixtures of the tests of socket(2) and socketpair(2)."""

import resource
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from probes.entry.calls import Calls, Socket
from probes.entry.gate import Result
from probes.entry.memory import POISON, Memory
from probes.testing import need, not_applicable, procfs
from probes.testing.socket_kinds import (
    NETLINK,
    PACKET,
    PACKET_DGRAM,
    RAW,
    RAW6,
    TCP,
    TCP6,
    UDP,
    UDP6,
    UNIX,
    SocketKind,
)

#: The protocol of each kind as /proc/net/protocols names it.
PROTOCOL = {
    TCP: "TCP", TCP6: "TCPv6", UDP: "UDP", UDP6: "UDPv6", RAW: "RAW", RAW6: "RAWv6", NETLINK: "NETLINK",
    PACKET: "PACKET", PACKET_DGRAM: "PACKET", **dict.fromkeys(UNIX, "UNIX"),
}  # fmt: skip


@dataclass(frozen=True)
class Made:
    """A fresh socket, and the result of the call that made it."""

    socket: Socket
    result: Result

    @property
    def inode(self) -> int:
        """The inode of the socket."""
        return procfs.inode(self.socket.fd)


@pytest.fixture
def make(calls: Calls) -> Callable[[SocketKind], Made]:
    """Makes fresh sockets: make(kind). Not applicable if the kernel lacks the protocol and would not load it."""

    def made(kind: SocketKind) -> Made:
        if PROTOCOL[kind] not in procfs.protocols() and not procfs.loadable(f"net-pf-{int(kind.family)}"):
            not_applicable(f"the protocol {PROTOCOL[kind]}")
        result = calls.socket(*kind.triple)
        return Made(Socket(calls, need(result, f"a {kind} socket")), result)

    return made


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


@pytest.fixture
def pair(calls: Calls, memory: Memory) -> SocketPair:
    """Makes pairs: see SocketPair."""
    return SocketPair(calls, memory)


@pytest.fixture
def fcntl(calls: Calls) -> Callable[..., Result]:
    """fcntl64(2): fcntl(fd, command, argument=0)."""
    return lambda fd, command, argument=0: calls.plain("fcntl64", fd, command, argument)


class DescriptorLimit:
    """Sets RLIMIT_NOFILE of this process, and sets it back."""

    def __init__(self) -> None:
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    def leave(self, left: int) -> None:
        """Lowers the limit so that `left` more descriptors can be opened, by Python's own calls too."""
        resource.setrlimit(resource.RLIMIT_NOFILE, (procfs.lowest(left + 1)[left], self._limits[1]))

    def restore(self) -> None:
        """Sets the limit back."""
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)


@pytest.fixture
def descriptor_limit() -> Iterator[DescriptorLimit]:
    """The limit of this process's descriptors, set back when the test ends."""
    limit = DescriptorLimit()
    yield limit
    limit.restore()
