"""Fixtures of the tests of listening sockets."""

import pytest

from probes.entry.calls import Calls
from probes.testing.limits import DescriptorLimit
from tests.listen.clients import Clients


@pytest.fixture
def clients(calls: Calls) -> Clients:
    """Connects clients to listening sockets: see Clients."""
    return Clients(calls)


@pytest.fixture
def limit(calls: Calls) -> DescriptorLimit:
    """Sets the soft RLIMIT_NOFILE of the caller: limit(number)."""
    return DescriptorLimit(calls)
