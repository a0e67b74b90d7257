"""Fixtures of the tests of sending and receiving."""

import signal
import struct
from collections.abc import Callable, Iterator

import pytest

from probes.entry.calls import Calls, Socket
from probes.testing import need
from probes.testing.caller import Caller
from probes.testing.fixtures import Entry
from probes.testing.socket_kinds import UDP
from tests.transfer.caller_files import Files
from tests.transfer.control_messages import Descriptors, Messages
from tests.transfer.exchange import Exchange
from tests.transfer.signals import BlockedSignals

#: include/uapi/linux/sockios.h.
_SIOCGIFMTU, _SIOCSIFMTU = 0x8921, 0x8922


@pytest.fixture
def exchange(calls: Calls, entry: Entry) -> Exchange:
    """Every operation that sends or receives, over this test's route: see Exchange."""
    return Exchange(calls, entry.route)


@pytest.fixture
def files(calls: Calls) -> Files:
    """Files of the process that makes the calls: see Files."""
    return Files(calls)


@pytest.fixture
def sigpipe(calls: Calls) -> BlockedSignals:
    """SIGPIPE, blocked in the caller: `sigpipe.taken()` returns its number if a call has sent it."""
    return BlockedSignals(calls, [signal.SIGPIPE])


@pytest.fixture
def messages(calls: Calls) -> Messages:
    """Sends and receives messages with control data: see control_messages.py."""
    return Messages(calls)


@pytest.fixture
def descriptors(calls: Calls) -> Descriptors:
    """Finds the lowest free descriptors, and closes descriptors."""
    return Descriptors(calls)


@pytest.fixture
def loopback_mtu(calls: Calls, caller: Caller, new_socket: Callable[..., Socket]) -> Iterator[Callable[[int], int]]:
    """Sets the MTU of the loopback link: loopback_mtu(number). It is set back when the test ends."""
    caller.keep_capabilities(("CAP_NET_ADMIN", "CAP_NET_RAW"))
    sock = new_socket(*UDP.triple)

    def request(number: int, value: int) -> int:
        block = calls.memory.put(b"lo".ljust(16, b"\0") + struct.pack("<i", value).ljust(16, b"\0"))
        need(calls.syscall("ioctl", sock, number, block), "an ioctl for the MTU")
        return int.from_bytes(block.read()[16:20], "little")

    before = request(_SIOCGIFMTU, 0)
    yield lambda mtu: request(_SIOCSIFMTU, mtu)
    request(_SIOCSIFMTU, before)
