"""Hosts by what they are, and what binding to them answers, with the links of bind_links.py."""

from errno import EADDRNOTAVAIL
from ipaddress import IPv4Address, IPv6Address

from probes.testing import VersionDifference
from probes.testing.socket_kinds import RAW, RAW6
from tests.bind.bind_links import (
    BROADCAST,
    ELSEWHERE,
    ELSEWHERE6,
    LOCAL,
    LOCAL6,
    NEIGHBOUR,
    NEIGHBOUR6,
    NETWORK,
    TENTATIVE,
)

#: An index that no link has.
NO_LINK = 0x3FFFFFFF
REFUSED = -EADDRNOTAVAIL
#: Hosts of IPv4 by what they are, and what binding to them answers.
HOSTS = {
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
    "elsewhere": (ELSEWHERE, REFUSED),
    "this-net": ("0.0.0.1", REFUSED),
    "class-e": ("240.0.0.1", REFUSED),
    "class-e-end": ("255.255.255.254", REFUSED),
    "lowest": (
        NETWORK,
        VersionDifference("5.14", 0, REFUSED, "58fee5fc83658: the lowest address of a network is no broadcast"),
    ),
}
#: Hosts of IPv6 that need no scope.
HOSTS6 = {
    "any": ("::", 0),
    "loopback": ("::1", 0),
    "local": (LOCAL6, 0),
    "neighbour": (NEIGHBOUR6, REFUSED),
    "elsewhere": (ELSEWHERE6, REFUSED),
    "tentative": (TENTATIVE, REFUSED),
    "site-local": ("fec0::1", REFUSED),
    "compatible": (f"::{LOCAL}", REFUSED),
}


def host4(text):
    """An IPv4 host as a number."""
    return int(IPv4Address(text))


def host6(text):
    """An IPv6 host as bytes."""
    return IPv6Address(text).packed


def mapped(text):
    """An IPv4 host as one of IPv6."""
    return bytes(10) + b"\xff\xff" + IPv4Address(text).packed


def port_of(kind):
    """A port to bind to; raw sockets have none."""
    return 0 if kind in (RAW, RAW6) else 5000


def name_of(kind, address):
    """The name of a socket that was bound to an address: the port of a raw socket is its protocol."""
    return address[:2] + kind.protocol.to_bytes(2, "big") + address[4:] if kind in (RAW, RAW6) else address
