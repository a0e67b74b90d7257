"""Fixtures of the tests of bind(2)."""

import pytest

from tests.bind.network_links import Links, make_pair


@pytest.fixture
def links() -> Links:
    """A pair of links with addresses: see network_links.py. Not applicable without pyroute2."""
    return make_pair()
