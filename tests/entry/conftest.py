"""What the tests of the entry ask for by name."""

from contextlib import ExitStack

import pytest

from tests.entry.entry_calls import by_route


@pytest.fixture
def keep():
    """keep(*sockets): Python's own sockets, closed when the test is over. One comes back as it is, more as a tuple."""
    with ExitStack() as stack:

        def kept(*sockets):
            for each in sockets:
                stack.enter_context(each)
            return sockets if len(sockets) > 1 else sockets[0]

        yield kept


@pytest.fixture
def enter(the_gate, entry, memory):
    """enter(name, *words): the call over this test's route."""
    return lambda name, *words: the_gate.enter(*by_route(entry.route, name, words, memory))
