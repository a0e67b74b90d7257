"""Wrong frames: what the loopback link loses, doubles or changes of TCP and UDP, over IPv4 and IPv6."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from probes.sandbox.link_fault import DOUBLE, DROP, Byte, Change, LinkFault
from probes.trace.injection import Match
from tools.mutants.mutant import Mutant

_TCP, _UDP = 6, 17
_FIN, _SYN, _RST, _PSH, _ACK = 1, 2, 4, 8, 16
#: Bytes of a frame before the network header.
_ETHERNET = 14


class _Network(NamedTuple):
    """Says where a network header has its fields, from its own begin on."""

    name: str
    version: int
    size: int
    protocol: int
    hops: int
    service: Change

    @property
    def transport(self) -> int:
        """Return where the transport header begins in a frame."""
        return _ETHERNET + self.size

    def carries(self, protocol: int) -> list[Byte]:
        """Return what frames of a protocol have in this header."""
        return [Byte(_ETHERNET, self.version << 4, 0xF0), Byte(_ETHERNET + self.protocol, protocol)]


_NETWORKS = (
    _Network("IPv4", 4, 20, 9, 8, Change(_ETHERNET + 1, 0x04, ipv4=True)),
    _Network("IPv6", 6, 40, 6, 7, Change(_ETHERNET + 1, 0x40)),
)


def mutants() -> Iterator[Mutant]:
    """Yield the mutants of frames."""
    for network in _NETWORKS:
        yield from _of_tcp(network)
        yield from _of_udp(network)


def _of_tcp(network: _Network) -> Iterator[Mutant]:
    flags = network.transport + 13
    for name, value, mask in (
        ("SYN", _SYN, _SYN | _ACK), ("SYN-ACK", _SYN | _ACK, _SYN | _ACK), ("RST", _RST, _RST), ("FIN", _FIN, _FIN),
        ("data with PSH", _PSH, _PSH),
    ):  # fmt: skip
        matching = [*network.carries(_TCP), Byte(flags, value, mask)]
        yield from _of_frames(f"{network.name} TCP {name}", matching, network)
        yield _mutant(f"{network.name} TCP {name}", "window", matching, Change(network.transport + 15, 1))
        yield _mutant(f"{network.name} TCP {name}", "PSH", matching, Change(flags, _PSH))


def _of_udp(network: _Network) -> Iterator[Mutant]:
    # The ports of tests, 5000 and 6000.
    matching = [*network.carries(_UDP), Byte(network.transport + 2, 0x10, 0x10)]
    yield from _of_frames(f"{network.name} UDP", matching, network)
    yield _mutant(f"{network.name} UDP", "length", matching, Change(network.transport + 5, 1))
    yield _mutant(f"{network.name} UDP", "data", matching, Change(network.transport + 8, 1))


def _of_frames(what: str, matching: list[Byte], network: _Network) -> Iterator[Mutant]:
    """Yield what can be wrong with any frame."""
    yield _mutant(what, "lost", matching, DROP)
    yield _mutant(what, "doubled", matching, DOUBLE)
    ipv4 = network.version == 4
    yield _mutant(what, "hops", matching, Change(_ETHERNET + network.hops, 1, ipv4=ipv4))
    yield _mutant(what, "service", matching, network.service)
    yield _mutant(what, "source port", matching, Change(network.transport + 1, 1))
    if ipv4:
        yield _mutant(what, "do not fragment", matching, Change(_ETHERNET + 6, 0x40, ipv4=True))


def _mutant(what: str, field: str, matching: list[Byte], action: str | Change) -> Mutant:
    return Mutant(
        "B", f"B {what}: {field}", what, f"frame {field}", None, Match(), behaviours=("wire.*",), folder="wire",
        fault=lambda: LinkFault(matching, action),
    )  # fmt: skip
