"""Fixtures of the tests of calls that wait."""

import pytest

from probes.entry.calls import Calls
from tests.readiness.waiting import Waiting


@pytest.fixture
def waiting(calls: Calls) -> Waiting:
    """Every call that waits, in all its forms: see Waiting."""
    return Waiting(calls)
