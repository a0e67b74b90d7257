"""Fixtures that the tests of the multiplexer share."""

import socket
from collections.abc import Callable
from contextlib import suppress

import pytest

from probes.entry.calls import Socket
from probes.entry.gate import Gate
from probes.entry.memory import Memory
from probes.testing import procfs
from probes.testing.caller import Caller
from probes.testing.expect import Expect
from tests.multiplexer.dispatch_table import MOST_BACKLOG, Dispatch
from tests.multiplexer.sample_words import Sample, samples_around


@pytest.fixture
def samples(new_socket: Callable[..., Socket], memory: Memory) -> dict[int, Sample]:
    """Argument words of each operation, by its number, with the result that they get."""
    return samples_around(int(new_socket(socket.AF_INET, socket.SOCK_DGRAM)), memory)


@pytest.fixture
def dispatch(the_gate: Gate, memory: Memory, expect: Expect, caller: Caller) -> Dispatch:
    """Makes the calls of a table over both routes, each in a fresh state, and judges them."""
    # The one port that the kernel can choose: then it chooses the same on both routes.
    procfs.set_sysctl("net.ipv4.ip_local_port_range", "40000 40000")
    # Older kernels hide it from the namespaces of a user namespace, where it is what it was at first: that number.
    with suppress(FileNotFoundError):
        procfs.set_sysctl("net.core.somaxconn", MOST_BACKLOG)
    return Dispatch(the_gate, memory, expect, caller)
