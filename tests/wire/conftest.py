"""What the tests of the wire need before they run."""

import importlib.util
from collections.abc import Callable
from socket import IPPROTO_TCP

import pytest

from probes.entry.calls import Calls, Socket
from probes.sandbox.links import FAR
from probes.sandbox.peer import NoLinks, Peer
from probes.sandbox.wire import Wire
from probes.testing import need, not_applicable
from probes.testing.preload import preload
from probes.testing.socket_kinds import UDP, SocketKind
from tests.wire.layers import CLAMP, PEER_PORT, PORT
from tests.wire.tcp_peer import TCP_WINDOW_CLAMP, TcpOpener

#: What the fixtures use: each takes longer to import than a test.
_IMPORTS = {"wire": ("probes.abi.frame",), "make_peer": ("pyroute2", "probes.sandbox.links")}


def pytest_collection_finish(session: pytest.Session) -> None:
    """Imports what dissects frames and makes links, before any sandbox."""
    preload(session, _IMPORTS)


@pytest.fixture
def make_peer(wire: Wire) -> Callable[..., Peer]:
    """Makes a machine at the other end of a pair of links, whose frames are recorded: see Peer. One for a test."""

    def make(ipv6: bool = False, neighbours: bool = True) -> Peer:
        if importlib.util.find_spec("pyroute2") is None:
            not_applicable("Python module pyroute2")
        try:
            peer = Peer(ipv6, neighbours)
        except NoLinks as error:
            not_applicable(str(error))
        wire.watch(peer.socket, FAR)
        return peer

    return make


@pytest.fixture
def peer(make_peer: Callable[..., Peer]) -> Peer:
    """A peer with IPv4."""
    return make_peer()


@pytest.fixture
def tcp_opener(calls: Calls, make_peer: Callable[..., Peer]) -> TcpOpener:
    """Opens TCP connections between the caller and a peer: see TcpOpener."""
    return TcpOpener(calls, make_peer)


@pytest.fixture
def pair(new_socket: Callable[..., Socket], wire: Wire) -> Callable[[SocketKind], tuple[Socket, Socket]]:
    """Connects two sockets over the loopback link, whose window TCP_WINDOW_CLAMP bounds, and forgets the frames of that."""

    def connected(kind: SocketKind) -> tuple[Socket, Socket]:
        listener, near = new_socket(*kind.triple), new_socket(*kind.triple)
        for one in (listener, near):
            # The window is then the same whatever memory this machine gives to sockets.
            need(one.setsockopt(IPPROTO_TCP, TCP_WINDOW_CLAMP, CLAMP))
        need(listener.bind(kind.address(PEER_PORT)))
        need(listener.listen())
        need(near.bind(kind.address(PORT)))
        need(near.connect(kind.address(PEER_PORT)))
        far = Socket(listener.calls, need(listener.accept()))
        wire.frames()
        return near, far

    return connected


@pytest.fixture
def sock(new_socket: Callable[..., Socket]) -> Socket:
    """A UDP socket, bound to PORT of every address."""
    made = new_socket(*UDP.triple)
    need(made.bind(UDP.address(PORT, "any")))
    return made
