"""Makes links and addresses inside a sandbox, with pyroute2."""

from dataclasses import dataclass
from typing import Any

from probes.testing import not_applicable

#: IFA_F_NODAD, no duplicate address detection: the address can be used at once (include/uapi/linux/if_addr.h).
_NODAD = 0x02
#: Addresses of the first link of a pair, from the ranges for documentation (RFC 5737, RFC 3849).
LOCAL, BROADCAST, NETWORK = "192.0.2.1", "192.0.2.255", "192.0.2.0"
LOCAL6, LINK_LOCAL = "2001:db8::1", "fe80::1"
#: This one stays tentative: the link has no carrier, so duplicate address detection does not begin.
TENTATIVE = "2001:db8::7e"
#: Addresses that no link of the sandbox has: in the network of the first link, and in another network.
NEIGHBOUR, FOREIGN = "192.0.2.2", "198.51.100.1"
NEIGHBOUR6, FOREIGN6 = "2001:db8::2", "2001:db8:ffff::1"
LOOPBACK = 1


@dataclass(frozen=True)
class Links:
    """A pair of links by their indexes: `near` is up and has the addresses, `far` is down and has none."""

    near: int
    far: int

    def raise_far(self) -> None:
        """Sets the second link up: what is sent on it arrives at the first."""
        with netlink_route() as ip:
            ip.link("set", index=self.far, state="up")

    def remove(self) -> None:
        """Deletes both links."""
        with netlink_route() as ip:
            ip.link("del", index=self.near)


def netlink_route() -> Any:
    """Returns an IPRoute, which configures links and addresses. Not applicable without pyroute2, which is untyped."""
    try:
        from pyroute2 import IPRoute
    except ImportError:
        not_applicable("pyroute2")
    return IPRoute()


def make_pair(near: str = "near0", far: str = "far0") -> Links:
    """Makes a pair of links with the addresses above."""
    with netlink_route() as ip:
        ip.link("add", ifname=near, kind="veth", peer=far)
        links = Links(*(ip.link_lookup(ifname=name)[0] for name in (near, far)))
        ip.link("set", index=links.near, state="up")
        ip.addr("add", index=links.near, address=LOCAL, prefixlen=24, broadcast=BROADCAST)
        for address in (LOCAL6, LINK_LOCAL):
            ip.addr("add", index=links.near, address=address, prefixlen=64, flags=_NODAD)
        ip.addr("add", index=links.near, address=TENTATIVE, prefixlen=64)
    return links
