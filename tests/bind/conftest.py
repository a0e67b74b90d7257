"""Fixtures of the tests of bind(2)."""

import pytest

from probes.testing.preload import preload
from tests.bind.network_links import Links, make_pair

#: What the fixtures use: each takes longer to import than all tests of this directory.
_IMPORTS = {"links": ("pyroute2",), "sequences": ("pyroute2", "probes.testing.search")}


def pytest_collection_finish(session: pytest.Session) -> None:
    """Imports what the tests to run use, before any sandbox."""
    preload(session, _IMPORTS)


@pytest.fixture
def links(beside: None) -> Links:
    """A pair of links with addresses: see network_links.py. Not applicable without pyroute2."""
    return make_pair()
