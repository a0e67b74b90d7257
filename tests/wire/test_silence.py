"""Calls that send no frame: a marker sent after each shows that none came before it."""

import socket
import struct
from errno import EACCES, EADDRNOTAVAIL, EAFNOSUPPORT, EAGAIN, EDESTADDRREQ, EINVAL, EMSGSIZE, ENETUNREACH, ENOTCONN
from socket import IPPROTO_TCP, SOCK_NONBLOCK, SOL_SOCKET

import pytest

from probes.abi import sockaddr
from probes.testing import behaviour, need
from probes.testing.socket_kinds import CONNECTING, RAW, RAW6, TCP, TCP6, UDP, UDP6, WITH_PORTS
from tests.wire.sending import try_to_send

_ON = struct.pack("<i", 1)


@behaviour("wire.silence.socket", "socket(2); inet_create, inet6_create, tcp_v4_init_sock: none sends")
@pytest.mark.parametrize("kind", [TCP, TCP6, UDP, UDP6, RAW, RAW6], ids=str)
@pytest.mark.routes("direct")
def test_socket_is_silent(kind, new_socket, calls, wire, expect_frames):
    """socket sends no frame."""
    check = expect_frames()
    made = calls.socket(*kind.triple)
    need(made)
    check.of(wire.frames(), made)


@behaviour("wire.silence.options", "setsockopt(2), getsockopt(2); do_ip_setsockopt, do_tcp_setsockopt")
@pytest.mark.parametrize("kind", [TCP, UDP], ids=str)
@pytest.mark.routes("direct")
def test_options_are_silent(kind, new_socket, wire, expect_frames):
    """setsockopt and getsockopt of a socket without a connection send no frame."""
    sock = new_socket(*kind.triple)
    need(sock.bind(kind.address(5000)))
    options = [(SOL_SOCKET, socket.SO_KEEPALIVE), (SOL_SOCKET, socket.SO_BROADCAST), (socket.IPPROTO_IP, 1)]
    options += [(IPPROTO_TCP, socket.TCP_NODELAY)] if kind is TCP else []
    check = expect_frames()
    results = []
    for level, option in options:
        results += [sock.setsockopt(level, option, _ON), sock.getsockopt(level, option).result]
    for result in results:
        need(result)
    check.of(wire.frames(), *results)


@behaviour(
    "wire.silence.datagram-connect", "connect(2): a datagram socket's default destination; __ip4_datagram_connect"
)
@pytest.mark.parametrize("kind", [UDP, UDP6], ids=str)
def test_datagram_connect_is_silent(kind, new_socket, wire, expect_frames):
    """connect of a datagram socket, and of AF_UNSPEC to dissolve that, send no frame."""
    sock = new_socket(*kind.triple)
    check = expect_frames()
    joined, parted = sock.connect(kind.address(6000)), sock.connect(sockaddr.unspec())
    need(joined)
    need(parted)
    check.of(wire.frames(), joined, parted)


@behaviour("wire.silence.bind", "bind(2); __inet_bind: no function on its path sends; S4 3.2")
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
def test_bind_is_silent(kind, new_socket, wire, expect_frames):
    """bind and getsockname send no frame."""
    sock = new_socket(*kind.triple)
    check = expect_frames()
    bound, named = sock.bind(kind.address(5000)), sock.sockname()
    need(bound)
    need(named)
    check.of(wire.frames(), bound, named)


@behaviour("wire.silence.listen", "listen(2); inet_csk_listen_start")
@pytest.mark.parametrize("kind", CONNECTING, ids=str)
def test_listen_is_silent(kind, new_socket, wire, expect_frames):
    """listen sends no frame."""
    sock = new_socket(*kind.triple)
    need(sock.bind(kind.address(5000)))
    check = expect_frames()
    listening = sock.listen()
    need(listening)
    check.of(wire.frames(), listening)


@behaviour("wire.silence.refused-bind", "bind(2) EADDRNOTAVAIL; __inet_bind")
def test_refused_bind_is_silent(new_socket, wire, expect_frames):
    """bind to an address that is not local sends no frame: it probes for no other owner of the address."""
    sock = new_socket(*TCP.triple)
    check = expect_frames()
    refused = sock.bind(sockaddr.inet("192.0.2.1", 5000))
    need(refused, "a foreign address", returns=-EADDRNOTAVAIL)
    check.of(wire.frames(), refused)


@behaviour("wire.silence.names", "getsockname(2), getpeername(2); inet_getname, do_tcp_getsockopt")
def test_names_are_silent(pair, wire, expect_frames):
    """getsockname, getpeername and getsockopt of a connected socket send no frame."""
    near, _ = pair(TCP)
    check = expect_frames()
    found = [near.sockname(), near.peername(), near.getsockopt(IPPROTO_TCP, socket.TCP_MAXSEG)]
    for one in found:
        need(one)
    check.of(wire.frames(), *found)


#: Calls that fail, by name: the kind of socket, the error, and the call.
FAILED = {
    "connect-family": (TCP, EAFNOSUPPORT, lambda sock: sock.connect(sockaddr.inet6("::1", 6000)[:16])),
    "connect-length": (TCP, EINVAL, lambda sock: sock.connect(TCP.address(6000), 8)),
    "connect-no-route": (TCP, ENETUNREACH, lambda sock: sock.connect(sockaddr.inet("198.51.100.1", 6000))),
    "sendto-length": (UDP, EINVAL, lambda sock: try_to_send(sock, b"data", to=UDP.address(6000)[:8])),
    "sendto-too-large": (UDP, EMSGSIZE, lambda sock: try_to_send(sock, bytes(65508), to=UDP.address(6000))),
    "sendto-no-destination": (UDP, EDESTADDRREQ, lambda sock: try_to_send(sock, b"data")),
    "sendto-no-route": (
        UDP,
        ENETUNREACH,
        lambda sock: try_to_send(sock, b"data", to=sockaddr.inet("198.51.100.1", 6000)),
    ),
    "sendto-broadcast": (
        UDP,
        EACCES,
        lambda sock: try_to_send(sock, b"data", to=sockaddr.inet("127.255.255.255", 6000)),
    ),
    "recv-unconnected": (
        TCP,
        ENOTCONN,
        lambda sock: sock.calls.make("recv", sock.fd, sock.calls.memory.alloc(4), 4, 0),
    ),
    "accept-nothing": (TCP, EAGAIN, lambda sock: sock.accept()),
}


@behaviour(
    "wire.silence.failed-calls",
    "connect(2), sendto(2), accept(2) ERRORS; udp_sendmsg, tcp_v4_connect",
)
@pytest.mark.parametrize("call", FAILED)
@pytest.mark.routes("direct")
def test_failed_calls_are_silent(call, new_socket, wire, expect, expect_frames):
    """A call that fails before it reaches the peer sends no frame."""
    kind, error, make = FAILED[call]
    family, type_, protocol = kind.triple
    sock = new_socket(family, type_ | SOCK_NONBLOCK, protocol)
    if call == "accept-nothing":
        need(sock.listen())
    result, silence = expect(-error, step="result"), expect_frames(step="frames")
    failed = make(sock)
    silence.of(wire.frames(), failed)
    result.of(failed)
