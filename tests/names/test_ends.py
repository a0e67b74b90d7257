"""The names that both ends of a connection, or of a datagram socket's association, have for each other."""

from errno import ENOTCONN

from probes.testing import behaviour, need
from probes.testing.socket_kinds import TCP, TCP6, UDP, UDP6, UNIX_DGRAM, UNIX_STREAM
from probes.testing.states import CLIENT_PORT, SERVER_PORT
from tests.names.name_bytes import name


@behaviour("names.peer.both-ends", "getpeername(2) NOTES; getsockname(2); inet_getname, inet6_getname, unix_getname")
def test_both_ends(calls, prepare, expect):
    """Each end of a connection has the other's name as that of its peer, and its own."""
    for kind in (TCP, TCP6, UNIX_STREAM):
        end = prepare("connected-by-name", kind)
        server, client = name(kind, SERVER_PORT), name(kind, CLIENT_PORT)
        for who, fd, own, peer in (("client", end.fd, client, server), ("server", end.peer, server, client)):
            expect(own, kind=kind, end=who, name="own").of(calls.name("getsockname", fd))
            expect(peer, kind=kind, end=who, name="peer").of(calls.name("getpeername", fd))


@behaviour(
    "names.peer.datagram", "getpeername(2) NOTES, ENOTCONN; connect(2); __ip4_datagram_connect, unix_dgram_connect"
)
def test_datagram(calls, prepare, expect):
    """connect on a datagram socket sets its peer's name, which getpeername returns; on that peer it fails with ENOTCONN."""
    for kind in (UDP, UDP6, UNIX_DGRAM):
        end = prepare("beside-server", kind)
        need(calls.connect(end.fd, name(kind, SERVER_PORT)))
        expect(name(kind, SERVER_PORT), kind=kind, end="connected").of(calls.name("getpeername", end.fd))
        expect(-ENOTCONN, kind=kind, end="peer").of(calls.name("getpeername", end.peer))
