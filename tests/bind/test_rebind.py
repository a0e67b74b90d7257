"""Binding a socket that has been bound, listens, or is connected."""

from errno import ECONNREFUSED, EINVAL

import pytest

from probes.suite import behaviour, need
from probes.suite.kinds import CONNECTING, RAW, RAW6, UDP, UDP6, WITH_PORTS

SOURCE = "bind(2) EINVAL; __inet_bind, __inet6_bind `sk->sk_state != TCP_CLOSE || inet->inet_num`; S4 3.2 step 7"
SOURCE_RAW = "raw(7); raw_bind, rawv6_bind `sk->sk_state != TCP_CLOSE`; S4 3.2 step 2"


def seconds(kind, port):
    """The addresses of a second bind, by name."""
    return {
        "same": kind.address(port),
        "other-port": kind.address(port + 1),
        "port-0": kind.address(0),
        "any": kind.address(port, "any"),
    }


@behaviour("bind.rebind.bound", SOURCE)
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
def test_bound(kind, new_socket, expect):
    """A socket that has a port cannot be bound again: EINVAL, to the same address or another, and it keeps its name."""
    socket = new_socket(*kind.triple)
    need(socket.bind(kind.address(5000)))
    for second, address in seconds(kind, 5000).items():
        expect(-EINVAL, second=second).of(socket.bind(address))
    result, name = socket.sockname()
    expect(kind.address(5000), afterwards="name").of(name, result)


@behaviour("bind.rebind.automatic-port", f"{SOURCE}; ip(7)")
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
def test_automatic_port(kind, new_socket, expect):
    """A socket that was given its port by port 0 cannot be bound again: EINVAL."""
    socket = new_socket(*kind.triple)
    need(socket.bind(kind.address(0)))
    for second, address in seconds(kind, 5000).items():
        expect(-EINVAL, second=second).of(socket.bind(address))


@behaviour("bind.rebind.listening", SOURCE)
@pytest.mark.parametrize("kind", CONNECTING, ids=str)
@pytest.mark.parametrize("first", ["bound", "unbound"])
def test_listening(kind, first, new_socket, expect):
    """A listening socket cannot be bound: EINVAL, whether listen found it bound or gave it a port."""
    socket = new_socket(*kind.triple)
    if first == "bound":
        need(socket.bind(kind.address(5000)))
    need(socket.listen())
    for second, address in seconds(kind, 5000).items():
        expect(-EINVAL, second=second).of(socket.bind(address))


@behaviour("bind.rebind.connected", SOURCE)
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
@pytest.mark.parametrize("end", ["connecting", "accepted"])
def test_connected(kind, end, new_socket, calls, expect):
    """A connected socket cannot be bound: EINVAL, at either end; a datagram socket has no other end."""
    peer = new_socket(*kind.triple)
    need(peer.bind(kind.address(5000)))
    socket = new_socket(*kind.triple)
    if kind in CONNECTING:
        need(peer.listen())
    need(socket.connect(kind.address(5000)))
    if end == "accepted" and kind in CONNECTING:
        socket = type(socket)(calls, need(peer.accept()))
    for second, address in seconds(kind, 5001).items():
        expect(-EINVAL, second=second).of(socket.bind(address))


@behaviour("bind.rebind.after-refused-connect", "connect(2) ECONNREFUSED; tcp_done, inet_put_port; S4 3.2 step 7")
@pytest.mark.parametrize("kind", CONNECTING, ids=str)
def test_after_refused_connect(kind, new_socket, expect):
    """A connect that was refused leaves the socket unbound again: it can be bound."""
    socket = new_socket(*kind.triple)
    expect(-ECONNREFUSED, step="connect").of(socket.connect(kind.address(5000)))
    expect(0, step="bind").of(socket.bind(kind.address(5001)))
    result, name = socket.sockname()
    expect(kind.address(5001), step="name").of(name, result)


@behaviour("bind.rebind.raw", SOURCE_RAW)
@pytest.mark.parametrize("kind", [RAW, RAW6], ids=str)
def test_raw(kind, new_socket, expect):
    """A raw socket that is bound can be bound again, and has the last address."""
    socket = new_socket(*kind.triple)
    expect(0, bind="first").of(socket.bind(kind.address(0)))
    expect(0, bind="same").of(socket.bind(kind.address(0)))
    expect(0, bind="any").of(socket.bind(kind.address(0, "any")))
    result, name = socket.sockname()
    expect(kind.address(kind.protocol, "any"), bind="name").of(name, result)


@behaviour("bind.rebind.raw-connected", SOURCE_RAW)
@pytest.mark.parametrize("kind", [RAW, RAW6], ids=str)
def test_raw_connected(kind, new_socket, expect):
    """A raw socket that is connected cannot be bound: EINVAL."""
    socket = new_socket(*kind.triple)
    need(socket.connect(kind.address(0)))
    expect(-EINVAL, second="same").of(socket.bind(kind.address(0)))
    expect(-EINVAL, second="any").of(socket.bind(kind.address(0, "any")))


@behaviour("bind.rebind.datagram-disconnected", f"{SOURCE}; connect(2) AF_UNSPEC; __udp_disconnect")
@pytest.mark.parametrize("kind", [UDP, UDP6], ids=str)
def test_datagram_disconnected(kind, new_socket, expect):
    """A datagram socket that lost its automatic port when its association was dissolved can be bound again."""
    peer, socket = new_socket(*kind.triple), new_socket(*kind.triple)
    need(peer.bind(kind.address(5000)))
    need(socket.connect(kind.address(5000)))
    need(socket.connect(bytes(16)))
    expect(0).of(socket.bind(kind.address(5001)))
