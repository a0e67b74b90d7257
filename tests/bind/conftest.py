"""What the tests of bind() share."""

import pytest

from tests.bind.bind_links import pair


@pytest.fixture
def links():
    """A pair of links with addresses: see bind_links.py. Not applicable without pyroute2."""
    return pair()
