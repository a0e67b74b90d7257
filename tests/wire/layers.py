"""The layers of scapy in which the tests of the wire write their expectations, and those of a socket's kind.

They are imported when a test runs: without scapy its test is not applicable.
"""

from __future__ import annotations

from socket import AF_INET
from typing import Any

from probes.abi.frame import ethernet
from probes.testing.socket_kinds import SocketKind

#: The ports of the caller's socket and of the other end, and the window that TCP_WINDOW_CLAMP leaves.
PORT, PEER_PORT, CLAMP = 5000, 6000, 4000


def layer(name: str, **fields: object) -> Any:
    """Returns a layer of scapy of this name."""
    ethernet()
    from scapy.layers import inet, inet6, l2
    from scapy.packet import Raw

    homes = (inet, inet6, l2)
    kind = Raw if name == "Raw" else next(getattr(home, name) for home in homes if hasattr(home, name))
    return kind(**fields)


def data(load: bytes) -> Any:
    """Returns data behind a header."""
    return layer("Raw", load=load)


def tcp(flags: str, **fields: object) -> Any:
    """Returns the header of a segment."""
    return layer("TCP", flags=flags, **fields)


def udp(**fields: object) -> Any:
    """Returns the header of a datagram."""
    return layer("UDP", **fields)


def ip(kind: SocketKind, **fields: object) -> Any:
    """Returns the network header of what a socket sends unless options change it: 64 hops, service 0, whole.

    `ttl` and `tos` are the names of the fields for both versions. What TCP sends may not be fragmented (ip(7)
    IP_PMTUDISC_WANT, the default), nor may a datagram of IPv4 that fits.
    """
    fields = {"ttl": 64, "tos": 0, **fields}
    if kind.family == AF_INET:
        return layer("IP", **{"flags": "DF", "frag": 0, **fields})
    names = {"ttl": "hlim", "tos": "tc"}
    return layer("IPv6", **{names.get(name, name): value for name, value in fields.items()})


def from_near(kind: SocketKind, flags: str, **fields: object) -> Any:
    """Returns a segment that the first socket of the fixture `pair` sends, whose window is that of the clamp."""
    return ip(kind) / tcp(flags, **{"sport": PORT, "dport": PEER_PORT, "window": CLAMP, "urgptr": 0, **fields})
