"""Defines what the structures of netlink are made of: types of members, and messages.

Source: as netlink.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from probes.abi import names
from probes.abi.layouts import Layout, Type, ipv4, ipv6
from probes.abi.netlink_names import TABLES
from probes.abi.record import Decoded

#: The table of attributes of messages that have text instead.
TEXT: Final = "text"


@dataclass(frozen=True)
class Message:
    """Describes the messages of some types: the structure that follows the header, and the table of the attributes.

    `hosts`: members are addresses of a family that another member says. `growing`: later kernels added members at the
    end, so that a shorter structure is whole.
    """

    layout: Layout
    attributes: str = ""
    hosts: bool = False
    growing: bool = False


def named(code: str, table: str) -> Type:
    """Make the type of a number that a table names."""
    return Type(code, lambda number: TABLES[table].get(number, number))


def bits(code: str, table: Mapping[int, str]) -> Type:
    """Make the type of a number whose bits a table names."""
    return Type(code, lambda number: names.flags(table, number))


def numbered(prefix: str, *rest: str) -> dict[int, str]:
    """Name the bits of a number from the lowest on."""
    return {1 << bit: f"{prefix}{name}" for bit, name in enumerate(rest)}


def within(layout: Layout) -> Type:
    """Make the type of a member that is a structure."""
    return Type(f"{layout.size}s", layout.decode)


def big_endian(size: int, padding: int = 0) -> Type:
    """Make the type of a number in network byte order."""
    return Type(f"{size}s{padding}x" if padding else f"{size}s", lambda raw: int.from_bytes(raw, "big"))


FAMILY = Type("B", lambda number: names.family(number))
FAMILY16 = Type("H", FAMILY.show)
IP_PROTOCOL = Type("B", lambda number: names.protocol(names.AF_INET, number))
PORT = big_endian(2)
_ADDRESS: Final = 16
#: An address of a family that another member says: see with_hosts.
ADDRESS = Type(f"{_ADDRESS}s", bytes.hex)
#: The names of such members, and of attributes that are one.
HOSTS = frozenset((
    "idiag_src", "idiag_dst", "daddr", "saddr", "old_daddr", "old_saddr", "new_daddr", "new_saddr", "local", "remote",
    "encap_oa",
))  # fmt: skip
_HOST_ATTRIBUTES = frozenset(("XFRMA_SRCADDR", "XFRMA_COADDR"))


def with_hosts(decoded: Decoded, family: Decoded = None) -> Decoded:
    """Return a decoded structure with its addresses written as those of the family that the nearest member says.

    An address whose family is not said stays hexadecimal.
    """
    if isinstance(decoded, list):
        return [with_hosts(each, family) for each in decoded]
    if not isinstance(decoded, Mapping):
        return decoded
    family = _family(decoded) or family
    if decoded.get("type") in _HOST_ATTRIBUTES and family:
        value = decoded.get("value")
        if isinstance(value, Mapping) and len(value["hex"]) == 2 * _ADDRESS:
            return {**decoded, "value": {"host": _host(value["hex"], family)}}
    return {
        name: _host(value, decoded.get(f"{name[:3]}_family", family)) if name in HOSTS else with_hosts(value, family)
        for name, value in decoded.items()
    }


def _family(decoded: Mapping[str, Decoded]) -> Decoded:
    for name, value in decoded.items():
        if name.endswith("family") and value in ("AF_INET", "AF_INET6"):
            return value
    inner = (_family(value) for value in decoded.values() if isinstance(value, Mapping))
    return next((family for family in inner if family), None)


def _host(raw: str, family: Decoded) -> str:
    if family == "AF_INET":
        return ipv4(bytes.fromhex(raw[:8]))
    return ipv6(bytes.fromhex(raw)) if family == "AF_INET6" else raw
