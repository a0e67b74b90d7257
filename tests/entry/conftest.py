"""What the tests of the entry ask for by name."""

from contextlib import ExitStack

import pytest


@pytest.fixture
def keep():
    """keep(*sockets): Python's own sockets, closed when the test is over. One comes back as it is, several as a tuple."""
    with ExitStack() as stack:

        def kept(*sockets):
            for each in sockets:
                stack.enter_context(each)
            return sockets if len(sockets) > 1 else sockets[0]

        yield kept
