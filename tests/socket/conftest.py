"""Fixtures of the tests of socket(2) and socketpair(2)."""

from collections.abc import Callable, Iterator

import pytest

from probes.entry.calls import Calls, Socket
from probes.entry.gate import Result
from probes.entry.memory import Memory
from probes.testing import need, not_applicable, procfs
from probes.testing.limits import DescriptorLimit
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
from tests.socket.makers import Made, SocketPair

#: The protocol of each kind as /proc/net/protocols names it.
PROTOCOL = {
    TCP: "TCP", TCP6: "TCPv6", UDP: "UDP", UDP6: "UDPv6", RAW: "RAW", RAW6: "RAWv6", NETLINK: "NETLINK",
    PACKET: "PACKET", PACKET_DGRAM: "PACKET", **dict.fromkeys(UNIX, "UNIX"),
}  # fmt: skip


@pytest.fixture
def make(calls: Calls) -> Callable[[SocketKind], Made]:
    """Makes fresh sockets: make(kind). Not applicable if the kernel lacks the protocol and would not load it."""

    def made(kind: SocketKind) -> Made:
        if PROTOCOL[kind] not in procfs.protocols() and not procfs.loadable(f"net-pf-{int(kind.family)}"):
            not_applicable(f"the protocol {PROTOCOL[kind]}")
        result = calls.socket(*kind.triple)
        return Made(Socket(calls, need(result, f"a {kind} socket")), result)

    return made


@pytest.fixture
def pair(calls: Calls, memory: Memory) -> SocketPair:
    """Makes pairs: see SocketPair."""
    return SocketPair(calls, memory)


@pytest.fixture
def fcntl(calls: Calls) -> Callable[..., Result]:
    """fcntl64(2): fcntl(fd, command, argument=0)."""
    return lambda fd, command, argument=0: calls.syscall("fcntl64", fd, command, argument)


@pytest.fixture
def descriptor_limit(calls: Calls) -> Iterator[DescriptorLimit]:
    """The limit of the caller's descriptors, set back when the test ends."""
    limit = DescriptorLimit(calls)
    yield limit
    limit.restore()
