"""Fixtures of the tests of close(2)."""

import socket
from collections.abc import Callable

import pytest

from probes.entry.calls import Calls, Socket
from probes.testing import need
from probes.testing.children import Children
from probes.testing.preload import preload
from probes.testing.socket_kinds import SocketKind
from tests.teardown.keepers import Keepers


def pytest_collection_finish(session: pytest.Session) -> None:
    """Imports what the tests to run use, before any sandbox."""
    preload(session, {"sequences": ("probes.testing.search",)})


@pytest.fixture
def connected(new_socket: Callable[..., Socket], calls: Calls) -> Callable[[SocketKind], tuple[int, int]]:
    """Makes two connected sockets: connected(kind) returns their descriptors. AF_UNIX by socketpair, TCP by accept."""

    def make(kind: SocketKind) -> tuple[int, int]:
        if kind.family == socket.AF_UNIX:
            ends = calls.memory.alloc(8)
            need(calls.make("socketpair", *kind.triple, ends))
            left, right = ends.words()
            return left, right
        server, client = new_socket(*kind.triple), new_socket(*kind.triple)
        need(server.bind(kind.address(5000)))
        need(server.listen())
        need(client.connect(kind.address(5000)))
        accepted = need(server.accept())
        need(server.close())
        return client.fd, accepted

    return make


@pytest.fixture
def keepers(calls: Calls, children: Children) -> Keepers:
    """Keeps sockets open beyond their descriptors."""
    return Keepers(Calls(calls.gate.quieted(), calls.route, calls.memory), children)
