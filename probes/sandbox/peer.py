"""Make a machine at the other end of a pair of links, whose packets a test sends and receives by hand (veth(4)).

The other link is in a network namespace of its own and has no address: its kernel takes none of what arrives there, so it
sends no RST, no ICMP error and no answer of ARP or neighbour discovery. That the near link knows the peer's hardware
address is set, too. IPv6 is off where a test does not ask for it, so that no link-local traffic is among its frames.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import socket
import struct
import time
from pathlib import Path
from typing import Any

from probes.abi.frame import ethernet
from probes.sandbox import links, namespaces
from probes.sandbox.links import FAR, FAR_MAC, NEAR, NEAR_INDEX, NEAR_MAC
from probes.sandbox.wire import DEADLINE, MARKER

#: include/uapi/linux/sockios.h, include/uapi/linux/ethtool.h.
_SIOCETHTOOL, _ETHTOOL_STXCSUM = 0x8946, 0x17
_ETH_P_ALL = 0x0003
_IFREQ, _ETHTOOL_VALUE = struct.Struct("16sP"), struct.Struct("II")
_PACKET_OUTGOING = 4
_ROOM = 65536


class NoLinks(Exception):
    """Is raised where no pair of links can be made: why."""


class Peer:
    """Holds the pair of links, and sends and receives at its far end."""

    #: The index of the near link.
    near = NEAR_INDEX

    def __init__(self, ipv6: bool = False, neighbours: bool = True) -> None:
        """Make the links, and set sysctls of this process's network namespace, which has to be the test's own.

        `neighbours`: the near link knows the peer's hardware address. Raises NoLinks, OSError.
        """
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self.namespace = -1
        try:
            if not ipv6:
                _no_ipv6()
            namespaces.new_network()
            self.namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            _no_ipv6()
            namespaces.enter_network(own)
            self._make_links()
            namespaces.enter_network(self.namespace)
            # First this one: the near link then has a carrier as soon as it is up, and need not be waited for.
            namespaces.bring_up(FAR)
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
            self.socket.bind((FAR, 0))
            namespaces.enter_network(own)
            self._configure(ipv6, neighbours)
        finally:
            namespaces.enter_network(own)
            os.close(own)
        self._await_carrier()
        # A tail loss probe would send a segment again after a few milliseconds (tcp(7), tcp_early_retrans).
        _sysctl("ipv4/tcp_early_retrans", 0)

    def _make_links(self) -> None:
        try:
            links.send(links.links(self.namespace))
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            raise NoLinks("pairs of links (veth)") from error

    def _configure(self, ipv6: bool, neighbours: bool) -> None:
        _checksums_by_software(NEAR)
        if ipv6:
            _sysctl(f"ipv6/conf/{NEAR}/addr_gen_mode", 1)
            _sysctl(f"ipv6/conf/{NEAR}/router_solicitations", 0)
        namespaces.bring_up(NEAR)
        links.send(links.addresses(ipv6, neighbours))

    def _await_carrier(self) -> None:
        """Send markers from the far link until one arrives: the kernel drops all until it has seen the carrier there."""
        end = time.monotonic() + DEADLINE
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)) as near:
            near.bind((NEAR, 0))
            while time.monotonic() < end:
                self.socket.send(MARKER)
                while select.select([near], [], [], 0.001)[0]:
                    if near.recv(_ROOM) == MARKER:
                        return
        raise TimeoutError(f"{FAR} has no carrier")

    def send(self, *packets: Any) -> None:
        """Send packets of scapy, from their IP or ARP layer on, to the near end. `Wire.frames` shows that it took them."""
        for packet in packets:
            self.socket.send(bytes(ethernet()(src=FAR_MAC, dst=NEAR_MAC) / packet))

    def receive(self, layer: str, deadline: float = DEADLINE) -> Any:
        """Return the next frame with a layer of this name that came from the near end. Raises TimeoutError."""
        end = time.monotonic() + deadline
        while select.select([self.socket], [], [], max(0, end - time.monotonic()))[0]:
            raw, (_, _, packet_type, *_) = self.socket.recvfrom(_ROOM)
            packet = ethernet()(raw)
            if packet_type != _PACKET_OUTGOING and packet.haslayer(layer):
                return packet
        raise TimeoutError(f"no frame with {layer} came to the peer")


def _sysctl(name: str, value: object) -> None:
    Path("/proc/sys/net", name).write_text(str(value))


def _no_ipv6() -> None:
    """Turn IPv6 off in this network namespace, where the kernel has it."""
    if Path("/proc/sys/net/ipv6").exists():
        for name in ("default", "all"):
            _sysctl(f"ipv6/conf/{name}/disable_ipv6", 1)


def _checksums_by_software(link: str) -> None:
    """Let the kernel compute checksums, and split what it sends into segments, before a frame reaches a link (ethtool)."""
    value = ctypes.create_string_buffer(_ETHTOOL_VALUE.pack(_ETHTOOL_STXCSUM, 0))
    request = _IFREQ.pack(link.encode(), ctypes.addressof(value)).ljust(40, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCETHTOOL, request)
