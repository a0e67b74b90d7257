"""Fixtures of the tests of bind(2)."""

import importlib
from contextlib import suppress

import pytest

from tests.bind.network_links import Links, make_pair

#: What the fixtures use: each takes longer to import than all tests of this directory.
_IMPORTS = {"links": ("pyroute2",), "sequences": ("pyroute2", "tests.bind.conflict_search")}


def pytest_collection_finish(session: pytest.Session) -> None:
    """Imports what the tests to run use, before any sandbox: each test is a process of its own and would import it again.

    A fixture finds out itself if something is not installed.
    """
    if session.config.option.collectonly:
        return
    used = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    for name in used.intersection(_IMPORTS):
        for module in _IMPORTS[name]:
            with suppress(ImportError):
                importlib.import_module(module)


@pytest.fixture
def links() -> Links:
    """A pair of links with addresses: see network_links.py. Not applicable without pyroute2."""
    return make_pair()
