"""connect on datagram sockets: the peer that it sets, where datagrams go then, and from where they are received."""

import socket
from errno import ECONNREFUSED, ECONNRESET, ENOENT, ENOTCONN, EPERM, EPROTOTYPE

from probes.testing import behaviour, need
from probes.testing.socket_kinds import UDP, UDP6, UNIX_DGRAM, UNIX_STREAM
from tests.connect.datagrams import DATAGRAMS, queued, send, third, until

SOURCE = "connect(2) SOCK_DGRAM; udp(7), unix(7); __ip4_datagram_connect, __ip6_datagram_connect, unix_dgram_connect"
SOL, ERROR = socket.SOL_SOCKET, socket.SO_ERROR


@behaviour("connect.datagram.peer", f"{SOURCE} `the only address from which datagrams are received`")
def test_peer(prepare, calls, expect):
    """connect on a datagram socket sets where datagrams without a destination go, and the only address from which they are
    received: one from another address is refused (AF_UNIX) or lost.
    """
    for kind in DATAGRAMS:
        end = prepare("bound", kind)
        peer, address = third(end)
        stranger, _ = third(end, 5003)
        connected = expect(0, kind=kind, call="connect")
        goes, comes = expect([b"one"], kind=kind, datagrams="sent"), expect([b"two"], kind=kind, datagrams="received")
        refused = expect(-EPERM if kind is UNIX_DGRAM else len(b"strange"), kind=kind, stranger="sendto")
        result = calls.connect(end.fd, address)
        connected.of(result)
        need_sent(send(end, end.fd, b"one"))
        need_sent(send(end, end.fd, b"last"))
        goes.of(until(end, peer, b"last"), result)
        refused.of(int(send(end, stranger, b"strange", end.server)), result)
        need_sent(send(end, peer, b"two", end.server))
        need_sent(send(end, peer, b"last", end.server))
        comes.of(until(end, end.fd, b"last"), result)
        end.close()


def need_sent(result):
    """Insists that a datagram was sent."""
    need(result, "sendto")


@behaviour("connect.datagram.changed", f"{SOURCE} `multiple times to change their association`")
def test_changed(prepare, calls, expect):
    """connect on a connected datagram socket changes its peer: datagrams go to the new one, and come from it only."""
    for kind in DATAGRAMS:
        end = prepare("bound", kind)
        (first, address), (second, other) = third(end), third(end, 5003)
        need(end.calls.connect(end.fd, address), "connect")
        connected, peer = expect(0, kind=kind, call="connect"), expect(other, kind=kind, call="getpeername")
        goes, comes = expect([b"one"], kind=kind, datagrams="sent"), expect([b"two"], kind=kind, datagrams="received")
        result = calls.connect(end.fd, other)
        connected.of(result)
        peer.of(calls.name("getpeername", end.fd))
        need_sent(send(end, end.fd, b"one"))
        need_sent(send(end, end.fd, b"last"))
        goes.of(until(end, second, b"last"), result)
        send(end, first, b"former", end.server)
        need_sent(send(end, second, b"two", end.server))
        need_sent(send(end, second, b"last", end.server))
        comes.of(until(end, end.fd, b"last"), result)
        end.close()


@behaviour("connect.datagram.queued", f"{SOURCE}; unix_dgram_disconnected `skb_queue_purge`")
def test_queued(prepare, calls, expect):
    """What is queued when a datagram socket is connected stays queued. If an AF_UNIX socket changes its peer, what is queued
    is lost, and its former peer, if that is connected to it, has ECONNRESET pending; over UDP it stays.
    """
    for kind in DATAGRAMS:
        unix = kind is UNIX_DGRAM
        end = prepare("bound", kind)
        (former, address), (_, other) = third(end), third(end, 5003)
        need_sent(send(end, former, b"early", end.server))
        end.wait(end.fd)
        first = expect([b"early"], kind=kind, connect="first")
        result = calls.connect(end.fd, address)
        need(result)
        first.of(queued(end, end.fd), result)
        need(end.calls.connect(former, end.server), "connect")
        need_sent(send(end, former, b"late"))
        end.wait(end.fd)
        changed = expect([[] if unix else [b"late"], ECONNRESET if unix else 0], kind=kind, connect="other")
        result = calls.connect(end.fd, other)
        need(result)
        error = end.calls.getsockopt(former, SOL, ERROR).as_int()
        changed.of([queued(end, end.fd), error.value], result)
        end.close()


@behaviour(
    "connect.datagram.refused-keeps", "connect(2); unix(7) ECONNREFUSED, EPROTOTYPE, ENOENT, EPERM; unix_may_send"
)
def test_refused_keeps(prepare, calls, expect):
    """connect of an AF_UNIX datagram socket is refused as sending is: ENOENT if the path does not exist, ECONNREFUSED if no
    socket has the name, EPROTOTYPE if a stream has the path, EPERM if the socket there is connected to another one. The peer
    that it had stays.
    """
    stream = prepare("unbound", UNIX_STREAM)
    need(stream.calls.bind(stream.fd, b"\1\0stream\0"), "bind")
    end = prepare("connected-by-name", UNIX_DGRAM)
    (taken, busy), (_, other) = third(end), third(end, 5003)
    need(end.calls.connect(taken, other), "connect")
    targets = {
        "no-path": (b"\1\0none\0", ENOENT), "no-abstract": (b"\1\0\0none", ECONNREFUSED),
        "stream": (b"\1\0stream\0", EPROTOTYPE), "connected": (busy, EPERM),
    }  # fmt: skip
    for case, (address, error) in targets.items():
        expect(-error, to=case).of(calls.connect(end.fd, address))
        expect(end.server, to=case, read="peer").of(calls.name("getpeername", end.fd))


@behaviour("connect.datagram.port-zero", f"{SOURCE}; inet_getname `!inet->inet_dport`", tag="implementation")
def test_port_zero(prepare, calls, expect):
    """connect over UDP to port 0 succeeds, but gives the socket no peer: getpeername fails with ENOTCONN."""
    for kind in (UDP, UDP6):
        end = prepare("unbound", kind)
        expect(0, kind=kind, call="connect").of(calls.connect(end.fd, kind.address(0)))
        expect(-ENOTCONN, kind=kind, call="getpeername").of(calls.name("getpeername", end.fd))
        end.close()


@behaviour("connect.datagram.silent", "connect(2); udp(7); ip4_datagram_connect sends nothing")
def test_no_socket(prepare, calls, expect):
    """connect over UDP to a port without a socket returns 0, and no error is pending."""
    for kind in (UDP, UDP6):
        end = prepare("unbound", kind)
        expect(0, kind=kind, call="connect").of(calls.connect(end.fd, kind.address(5009)))
        expect(0, kind=kind, read="SO_ERROR").of(calls.getsockopt(end.fd, SOL, ERROR).as_int())
        end.close()
