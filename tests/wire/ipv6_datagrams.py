"""Sockets and datagrams over IPv6 that tests of several modules use."""

from typing import Any

from probes.sandbox.links import HERE6, THERE6
from probes.testing import need
from probes.testing.socket_kinds import UDP6
from tests.wire.layers import PORT, data, layer, udp

#: A header of options as setsockopt takes it (RFC 3542): next header, length in 8 bytes behind the first 8, PadN of 4.
OPTIONS = bytes([0, 0, 1, 4, 0, 0, 0, 0])


def bound6(new_socket):
    """Returns a UDP socket over IPv6 at PORT."""
    made = new_socket(*UDP6.triple)
    need(made.bind(UDP6.address(PORT, "any")))
    return made


def with_options(name: str, number: int) -> Any:
    """Returns a datagram to the peer behind a header with OPTIONS: `name` is scapy's, `number` that of RFC 8200."""
    options = layer(name, nh=17, len=0, options=[OPTIONS[2:]])
    return layer("IPv6", nh=number, plen=20, hlim=64, src=HERE6, dst=THERE6) / options / udp() / data(b"data")
