"""What the tests of socket() and socketpair() share."""

import resource
import struct
from dataclasses import dataclass

import pytest

from probes.abi.names import value as number
from probes.entry.calls import Socket
from probes.entry.gate import Result
from probes.entry.memory import POISON
from probes.testing import need, not_applicable
from probes.testing import procfs as witness
from probes.testing.socket_kinds import NETLINK, PACKET, PACKET_DGRAM, RAW, RAW6, TCP, TCP6, UDP, UDP6, UNIX

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
    """Makes fresh sockets: make(kind). Not applicable if the kernel has not the protocol and would not load it."""

    def made(kind):
        if PROTOCOL[kind] not in witness.protocols() and not witness.loadable(f"net-pf-{int(kind.family)}"):
            not_applicable(f"the protocol {PROTOCOL[kind]}")
        result = calls.socket(*kind.triple)
        return Made(Socket(calls, need(result, f"a {kind} socket")), result)

    return made


#: The level of an option by the beginning of its name.
LEVEL = {"SO": 1, "IP": 0, "IPV6": 41, "TCP": 6, "UDP": 17, "NETLINK": 270, "PACKET": 263}


@pytest.fixture
def option():
    """Judges an option that is read: option(expect, socket, name, value, **case).

    The value is what the option must hold, as an int of 4 bytes or as bytes, or an error.
    """

    def judged(expect, socket, name, value, **case):
        announced = expect(
            value if isinstance(value, bytes) else [0, value] if value >= 0 else value, option=name, **case
        )
        room = max(len(value), 4) if isinstance(value, bytes) else 4
        result, told = socket.getsockopt(LEVEL[name.partition("_")[0]], number(name), room)
        if not isinstance(value, bytes) and value < 0:
            announced.of(result)
        elif isinstance(value, bytes):
            announced.of(told if result == 0 else int(result), result)
        else:
            announced.of([result, int.from_bytes(told, "little")], result)

    return judged


class Pairs:
    """socketpair(2): pair(family, type, protocol=0) returns the result, and pair.sv has the two words after it."""

    def __init__(self, calls, memory):
        self._calls, self._sv = calls, memory.guarded(8)

    def __call__(self, family, type, protocol=0):
        self._sv.write(bytes([POISON]) * 8)
        return self._calls.make("socketpair", family, type, protocol, self._sv)

    @property
    def sv(self):
        """What is in sv."""
        return list(struct.unpack("<ii", self._sv.read()))


@pytest.fixture
def pair(calls, memory):
    """Makes pairs: see Pairs."""
    return Pairs(calls, memory)


@pytest.fixture
def fcntl(calls):
    """fcntl64(2): fcntl(fd, command, argument=0)."""
    return lambda fd, command, argument=0: calls.plain("fcntl64", fd, command, argument)


class Descriptors:
    """The limit of this process's descriptors."""

    def __init__(self):
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    def leave(self, left=0):
        """Sets RLIMIT_NOFILE so that only `left` descriptors can be had: Python's own calls get no more either."""
        resource.setrlimit(resource.RLIMIT_NOFILE, (witness.lowest(left + 1)[left], self._limits[1]))

    def free(self):
        """Sets the limit back."""
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)


@pytest.fixture
def descriptors():
    """The limit of this process's descriptors, set back at the test's end."""
    limit = Descriptors()
    yield limit
    limit.free()
