"""Lists hosts of every type, with the result of bind to each, given the links of network_links.py."""

from errno import EADDRNOTAVAIL
from ipaddress import IPv4Address, IPv6Address

from probes.testing import VersionDifference
from probes.testing.socket_kinds import RAW, RAW6, SocketKind
from tests.bind.network_links import (
    BROADCAST,
    FOREIGN,
    FOREIGN6,
    LOCAL,
    LOCAL6,
    NEIGHBOUR,
    NEIGHBOUR6,
    NETWORK,
    TENTATIVE,
)

#: An interface index that is not in use.
NO_LINK = 0x3FFFFFFF
REFUSED = -EADDRNOTAVAIL
#: IPv4 hosts by type, with the result of bind.
HOSTS: dict[str, tuple[str, int | VersionDifference]] = {
    "any": ("0.0.0.0", 0),
    "loopback": ("127.0.0.1", 0),
    "loopback-net": ("127.1.2.3", 0),
    "loopback-broadcast": ("127.255.255.255", 0),
    "local": (LOCAL, 0),
    "subnet-broadcast": (BROADCAST, 0),
    "limited-broadcast": ("255.255.255.255", 0),
    "multicast-hosts": ("224.0.0.1", 0),
    "multicast": ("239.1.2.3", 0),
    "neighbour": (NEIGHBOUR, REFUSED),
    "elsewhere": (FOREIGN, REFUSED),
    "this-net": ("0.0.0.1", REFUSED),
    "class-e": ("240.0.0.1", REFUSED),
    "class-e-end": ("255.255.255.254", REFUSED),
    "lowest": (
        NETWORK,
        VersionDifference("5.14", 0, REFUSED, "58fee5fc83658: the lowest address of a network is no broadcast"),
    ),
}
#: IPv6 hosts that need no sin6_scope_id.
HOSTS6 = {
    "any": ("::", 0),
    "loopback": ("::1", 0),
    "local": (LOCAL6, 0),
    "neighbour": (NEIGHBOUR6, REFUSED),
    "elsewhere": (FOREIGN6, REFUSED),
    "tentative": (TENTATIVE, REFUSED),
    "site-local": ("fec0::1", REFUSED),
    "compatible": (f"::{LOCAL}", REFUSED),
}


def host4(text: str) -> int:
    """Returns an IPv4 host as a number."""
    return int(IPv4Address(text))


def host6(text: str) -> bytes:
    """Returns the 16 bytes of an IPv6 host."""
    return IPv6Address(text).packed


def mapped(text: str) -> bytes:
    """Returns the 16 bytes of the v4-mapped IPv6 address of an IPv4 host."""
    return bytes(10) + b"\xff\xff" + IPv4Address(text).packed


def port_of(kind: SocketKind) -> int:
    """Returns the port that the tests bind a socket kind to: 0 for raw sockets, which have none."""
    return 0 if kind in (RAW, RAW6) else 5000


def name_of(kind: SocketKind, address: bytes) -> bytes:
    """Returns what getsockname gives after bind to an address: a raw socket has its protocol in place of the port."""
    return address[:2] + kind.protocol.to_bytes(2, "big") + address[4:] if kind in (RAW, RAW6) else address
