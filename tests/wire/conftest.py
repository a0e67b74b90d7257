"""What the tests of the wire need before they run."""

import importlib.util

import pytest

from probes.abi.frame import ethernet


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol() -> None:
    """Imports what dissects frames before a sandbox is made: each is a process of its own and would import it again."""
    if importlib.util.find_spec("scapy") is not None:
        ethernet()
