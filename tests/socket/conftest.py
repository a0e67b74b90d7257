"""What the tests of socket() and socketpair() share."""

import struct
from dataclasses import dataclass

import pytest

from probes.calls import Socket
from probes.gate import Result
from probes.suite import need, not_applicable, witness
from probes.suite.kinds import NETLINK, PACKET, PACKET_DGRAM, RAW, RAW6, TCP, TCP6, UDP, UDP6, UNIX

#: The protocol of each kind as /proc/net/protocols names it.
PROTOCOL = {
    TCP: "TCP", TCP6: "TCPv6", UDP: "UDP", UDP6: "UDPv6", RAW: "RAW", RAW6: "RAWv6", NETLINK: "NETLINK",
    PACKET: "PACKET", PACKET_DGRAM: "PACKET", **dict.fromkeys(UNIX, "UNIX"),
}  # fmt: skip


@dataclass(frozen=True)
class Made:
    """A fresh socket, with the result of the call that made it."""

    socket: Socket
    result: Result

    @property
    def inode(self):
        """The inode of the socket."""
        return witness.inode(self.socket.fd)


@pytest.fixture
def make(calls):
    """Makes fresh sockets: make(kind). Not applicable if the kernel does not have the kind's protocol."""

    def made(kind):
        if PROTOCOL[kind] not in witness.protocols():
            not_applicable(f"the protocol {PROTOCOL[kind]}")
        result = calls.socket(*kind.triple)
        return Made(Socket(calls, need(result, f"a {kind} socket")), result)

    return made


@pytest.fixture
def pair(calls, memory):
    """Makes pairs: pair(family, type, protocol=0) returns the result and the two words of sv."""

    def made(family, type, protocol=0):
        sv = memory.guarded(8)
        result = calls.make("socketpair", family, type, protocol, sv)
        return result, list(struct.unpack("<ii", sv.read()))

    return made


@pytest.fixture
def fcntl(calls):
    """fcntl64(2): fcntl(fd, command, argument=0)."""
    return lambda fd, command, argument=0: calls.plain("fcntl64", fd, command, argument)
