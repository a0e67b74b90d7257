"""Fixtures of the tests of connect(2)."""

import pytest

from probes.entry.calls import Calls
from tests.transfer.caller_files import Files


@pytest.fixture
def files(calls: Calls) -> Files:
    """Files of the process that makes the calls: see Files."""
    return Files(calls)
