"""A TCP peer whose segments a test makes by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from errno import EINPROGRESS
from select import POLLIN, POLLOUT
from socket import AF_INET, SOCK_NONBLOCK
from typing import Any

from probes.entry.calls import Calls, SetUpRefused, Socket
from probes.sandbox.links import HERE, HERE6, THERE, THERE6
from probes.sandbox.peer import Peer
from probes.testing import need
from probes.testing.prepared import await_events
from probes.testing.socket_kinds import SocketKind
from tests.wire.layers import PEER_PORT, PORT, data, layer, tcp

#: The first sequence number of the peer, and the largest segment that it takes.
_FIRST, MSS = 1_000_000, 1460
_MODULO = 1 << 32
#: Socket options (tcp(7)).
TCP_MAXSEG, TCP_CORK, TCP_WINDOW_CLAMP = 2, 3, 10
#: What a SYN offers behind its MSS and before its window scale.
SYN_OPTIONS = (("SAckOK", b""), ("Timestamp", (0, 0)), ("NOP", None))


@dataclass
class TcpPeer:
    """Is one end of a connection at a peer. `next` is the number of its next byte, `wanted` that of the next it expects.

    `host` is another host, for which the peer answers.
    """

    peer: Peer
    kind: SocketKind
    next: int = _FIRST
    wanted: int = 0
    port: int = PEER_PORT
    host: str = ""

    @property
    def here(self) -> str:
        """The address of the caller's end."""
        return HERE if self.kind.family == AF_INET else HERE6

    @property
    def there(self) -> str:
        """The address of the peer."""
        return self.host or (THERE if self.kind.family == AF_INET else THERE6)

    def network(self) -> Any:
        """Returns the network header of what it sends."""
        if self.kind.family == AF_INET:
            return layer("IP", src=self.there, dst=self.here, ttl=64)
        return layer("IPv6", src=self.there, dst=self.here, hlim=64)

    def send(self, flags: str, load: bytes = b"", *, ahead: int = 0, lost: bool = False, **fields: object) -> None:
        """Sends a segment. `ahead` is how many bytes it lies behind the next one, which it then does not move.

        `lost`: the other end drops it, so that it moves nothing either.
        """
        header = {
            "seq": (self.next + ahead) % _MODULO,
            "ack": self.wanted if "A" in flags else 0,
            "window": 65535,
            **fields,
        }
        self.peer.send(self.network() / tcp(flags, sport=self.port, dport=PORT, **header) / data(load))
        if not ahead and not lost:
            self.next = (self.next + len(load) + ("S" in flags) + ("F" in flags)) % _MODULO

    def receive(self) -> Any:
        """Returns the TCP header of the next segment that came, which the next one sent will acknowledge."""
        segment = self.peer.receive("TCP")["TCP"]
        length = len(bytes(segment.payload))
        flags = str(segment.flags)
        self.wanted = (segment.seq + length + ("S" in flags) + ("F" in flags)) % _MODULO
        return segment


@dataclass
class TcpOpener:
    """Opens connections between a socket of the caller and a peer, whose segments are sent by hand."""

    calls: Calls
    make_peer: Callable[..., Peer]

    def peer(self, kind: SocketKind) -> TcpPeer:
        """Returns a peer without a connection."""
        return TcpPeer(self.make_peer(ipv6=kind.family != AF_INET), kind)

    def socket(self, kind: SocketKind, flags: int = 0) -> Socket:
        """Returns a socket of the caller that is bound to its port."""
        family, type_, protocol = kind.triple
        made = Socket(self.calls, need(self.calls.socket(family, type_ | flags, protocol), "a socket to test with"))
        need(made.bind(kind.address(PORT, "any")))
        return made

    def there(self, kind: SocketKind) -> bytes:
        """Returns the address of the peer."""
        return kind.address(PEER_PORT, THERE if kind.family == AF_INET else THERE6)

    def connecting(self, kind: SocketKind, host: str = "") -> tuple[Socket, TcpPeer]:
        """Returns a socket that does not block, in connect: its SYN has come to the peer, or for `host` to it."""
        end = self.peer(kind)
        end.host = host
        made = self.socket(kind, SOCK_NONBLOCK)
        connecting = made.connect(kind.address(PEER_PORT, end.there))
        need(connecting, "connect", returns=-EINPROGRESS)
        try:
            end.receive()
        except TimeoutError as error:
            raise SetUpRefused(connecting, "connect, whose SYN did not come,") from error
        return made, end

    def connected(self, kind: SocketKind, host: str = "") -> tuple[Socket, TcpPeer]:
        """Returns a connected socket, which blocks, and its peer."""
        made, end = self.connecting(kind, host)
        end.send("SA", options=[("MSS", MSS)])
        end.receive()
        self.wait(made, POLLOUT)
        need(self.calls.syscall("fcntl64", made.fd, 4, 0), "F_SETFL")
        return made, end

    def wait(self, made: Socket, events: int = POLLIN) -> None:
        """Waits until poll(2) reports one of these events of a socket."""
        await_events(self.calls, made.fd, events)
