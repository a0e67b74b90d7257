"""getsockname and getpeername in the states of a socket, and on what is no socket."""

import socket
from errno import ECONNREFUSED, ENOTCONN

import pytest

from probes.testing import behaviour, need
from probes.testing.socket_kinds import CONNECTING, TCP, TCP6, UDP, UDP6, UNIX_DGRAM, UNIX_SEQPACKET, UNIX_STREAM
from probes.testing.states import CLIENT_PORT, SERVER_PORT, possible
from tests.listen.other_files import OtherFiles
from tests.names.name_bytes import name

SOURCE = "getsockname(2), getpeername(2); inet_getname, inet6_getname, unix_getname"
#: Which port a socket has in a state, and which its peer, None if getpeername fails.
STATES = {
    "bound": (SERVER_PORT, None), "listening": (SERVER_PORT, None), "pending": (SERVER_PORT, None),
    "connected-by-name": (CLIENT_PORT, SERVER_PORT),
}  # fmt: skip
#: States that AF_UNIX sockets have by socketpair, without names.
OF_TCP = {
    "half-closed": (CLIENT_PORT, SERVER_PORT), "peer-half-closed": (CLIENT_PORT, SERVER_PORT),
    "shut-down": (CLIENT_PORT, SERVER_PORT), "peer-closed": (CLIENT_PORT, SERVER_PORT), "reset": (CLIENT_PORT, None),
    "time-wait": (CLIENT_PORT, None), "refused": (CLIENT_PORT, SERVER_PORT),
}  # fmt: skip
OF_UNIX = ("half-closed", "peer-half-closed", "shut-down", "peer-closed", "reset")
UNNAMED = b"\1\0"


@behaviour("names.state.every", f"{SOURCE}; getpeername(2) ENOTCONN; tcp_set_state")
@pytest.mark.parametrize("kind", [TCP, TCP6, UDP, UDP6, UNIX_STREAM, UNIX_SEQPACKET, UNIX_DGRAM], ids=str)
def test_every(kind, prepare, calls, expect):
    """A socket keeps its name in every state. It has its peer's while it is connected, also when directions are shut down or
    the peer has closed; after a reset and in TIME_WAIT, and before a connection, getpeername fails with ENOTCONN.
    """
    states = STATES if kind.family == socket.AF_UNIX else STATES | OF_TCP
    for state, (own, peer) in states.items():
        if possible(state, kind):
            end = prepare(state, kind)
            expect(name(kind, own), state=state, read="own").of(calls.name("getsockname", end.fd))
            found = -ENOTCONN if peer is None else name(kind, peer)
            expect(found, state=state, read="peer").of(calls.name("getpeername", end.fd))
            end.close()


@behaviour("names.state.pair", "socketpair(2); unix(7) unnamed; unix_getname `unix_peer_get(sk)`")
def test_pair(prepare, calls, expect):
    """The sockets of a pair have no name, and as the name of their peer the family alone, also when that has closed."""
    for kind in (UNIX_STREAM, UNIX_SEQPACKET, UNIX_DGRAM):
        for state in ("connected", *OF_UNIX):
            if possible(state, kind):
                end = prepare(state, kind)
                expect(UNNAMED, kind=kind, state=state, read="own").of(calls.name("getsockname", end.fd))
                expect(UNNAMED, kind=kind, state=state, read="peer").of(calls.name("getpeername", end.fd))
                end.close()


@behaviour("names.state.peer-closed", "unix(7); unix_getname, unix_release_sock; udp(7)")
def test_peer_closed(prepare, calls, expect):
    """A socket whose peer has closed has the peer's name still: AF_UNIX of every type, and UDP."""
    for kind in (UNIX_STREAM, UNIX_SEQPACKET, UNIX_DGRAM, UDP, UDP6):
        end = prepare("connected-by-name", kind)
        end.close_one(end.peer)
        expect(name(kind, SERVER_PORT), kind=kind).of(calls.name("getpeername", end.fd))
        end.close()


@behaviour("names.state.refused", f"{SOURCE}; connect(2) ECONNREFUSED; tcp_done, inet_reset_saddr")
def test_refused(prepare, calls, expect):
    """A TCP socket whose connect was refused has no peer; its address is the wildcard address, unless it was bound."""
    for kind in CONNECTING:
        for state in ("unbound", "bound"):
            end = prepare(state, kind)
            need(end.calls.connect(end.fd, kind.address(5009)), "connect", returns=-ECONNREFUSED)
            host = "any" if state == "unbound" else "loopback"
            case = {"kind": kind, "state": state}
            own = expect(kind.address(0, host), **case, read="own")
            found = calls.name("getsockname", end.fd)
            own.of(found.without(found.bytes[2:4]).value, found.result)
            expect(-ENOTCONN, **case, read="peer").of(calls.name("getpeername", end.fd))
            end.close()


@behaviour("names.descriptor.usual", "getsockname(2), getpeername(2) EBADF, ENOTSOCK; sockfd_lookup_light")
def test_descriptor(prepare, calls, expect):
    """getsockname and getpeername fail with EBADF on what is no open descriptor or was opened with O_PATH, with ENOTSOCK on
    any other file.
    """
    for case, (fd, error) in OtherFiles(calls).usual(prepare("connected", TCP).fd).items():
        for op in ("getsockname", "getpeername"):
            expect(-error, descriptor=case, call=op).of(calls.name(op, fd))
