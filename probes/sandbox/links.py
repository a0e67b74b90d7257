"""Pack the requests that make a peer's links, once in a process, and send them (rtnetlink(7)).

pyroute2 packs them; with a connection of its own it would take longer than all that the kernel does for a peer.
"""

from __future__ import annotations

import functools
import os
import socket
import struct
from typing import Any

#: Names of the two links, their hardware addresses, and the index of the near one.
NEAR, FAR = "near0", "far0"
NEAR_MAC, FAR_MAC, NEAR_INDEX = "02:00:00:00:00:01", "02:00:00:00:00:02", 100
#: Addresses of the two ends, from the ranges for documentation (RFC 5737, RFC 3849).
HERE, THERE, HERE6, THERE6 = "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"
BROADCAST = "192.0.2.255"
#: A host behind the peer.
BEYOND = "198.51.100.1"
#: Milliseconds before TCP sends a segment again, instead of 200: more than a test lasts (ip-route(8) rto_min). TCP heeds it
#: where it is locked (tcp_rto_min; 1 << RTAX_RTO_MIN of include/uapi/linux/rtnetlink.h).
_RTO_MIN, _LOCKED = 20_000, 1 << 13
_NO_DUPLICATE_DETECTION = 0x02
#: Stands for the descriptor of the far link's namespace, which each test has its own of.
_DESCRIPTOR = 0x5AFEC0DE
_HEADER, _NLMSG_ERROR, _ROOM = struct.Struct("=IHHII"), 2, 65536


def warm_up() -> None:
    """Pack all requests."""
    _links()
    for ipv6 in (False, True):
        for neighbours in (False, True):
            addresses(ipv6, neighbours)


def _batch() -> Any:
    from pyroute2 import IPBatch

    return IPBatch()


def links(namespace: int) -> bytes:
    """Return the request for the pair, whose far link is made in the network namespace of a descriptor."""
    return _links().replace(struct.pack("=I", _DESCRIPTOR), struct.pack("=I", namespace))


@functools.cache
def _links() -> bytes:
    peer = {"ifname": FAR, "address": FAR_MAC, "net_ns_fd": _DESCRIPTOR}
    with _batch() as batch:
        batch.link("add", index=NEAR_INDEX, ifname=NEAR, kind="veth", address=NEAR_MAC, peer=peer)
        return bytes(batch.batch)


@functools.cache
def addresses(ipv6: bool, neighbours: bool) -> bytes:
    """Return the requests for the addresses and routes of the near link, and with `neighbours` for the peer's MAC."""
    # TCP then sends nothing again while a test lasts, and corks and probes wait as long.
    slow = {"oif": NEAR_INDEX, "metrics": {"lock": _LOCKED, "rto_min": _RTO_MIN}}
    with _batch() as batch:
        batch.addr("add", index=NEAR_INDEX, address=HERE, prefixlen=24, broadcast=BROADCAST)
        batch.route("add", dst=f"{THERE}/32", **slow)
        batch.route("add", dst="0.0.0.0/0", gateway=THERE)
        if ipv6:
            batch.addr("add", index=NEAR_INDEX, address=HERE6, prefixlen=64, flags=_NO_DUPLICATE_DETECTION)
            batch.route("add", family=socket.AF_INET6, dst=f"{THERE6}/128", **slow)
        for there in ((THERE, THERE6) if ipv6 else (THERE,)) if neighbours else ():
            batch.neigh("add", dst=there, lladdr=FAR_MAC, ifindex=NEAR_INDEX, state="permanent")
        return bytes(batch.batch)


def send(requests: bytes) -> None:
    """Send requests to the kernel, which has answered each when this returns. Raises OSError: the first that it refused."""
    waiting = sum(1 for _ in _messages(requests))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(10)
        kernel.send(requests)
        while waiting:
            for kind, body in _messages(kernel.recv(_ROOM)):
                if kind != _NLMSG_ERROR:
                    continue
                waiting -= 1
                if number := -struct.unpack_from("=i", body)[0]:
                    raise OSError(number, f"rtnetlink: {os.strerror(number)}")


def _messages(text: bytes) -> list[tuple[int, bytes]]:
    """Return type and body of each message (netlink(7))."""
    found, at = [], 0
    while at + _HEADER.size <= len(text):
        length, kind, *_ = _HEADER.unpack_from(text, at)
        found.append((kind, text[at + _HEADER.size : at + length]))
        at += length + 3 & ~3
    return found
