"""Finds the indexes of interfaces in decoded arguments, and puts their names there: `if_nametoindex("lo")`.

Source: netdevice(7), packet(7), ip(7), ipv6(7), rtnetlink(7); nfnetlink_queue.h, nfnetlink_log.h, nf_tables.h.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from probes.abi.record import Decoded

#: Members of structures that are the index of an interface.
_MEMBERS = frozenset((
    "ifindex", "interface", "ifi_index", "ifa_index", "ndm_ifindex", "tcm_ifindex", "ifal_index", "idiag_if",
))  # fmt: skip
#: Attributes of netlink whose value is one.
_ATTRIBUTES = frozenset((
    "IFLA_LINK", "IFLA_MASTER", "IFLA_NEW_IFINDEX", "RTA_OIF", "RTA_IIF", "NDA_IFINDEX", "NDA_MASTER", "NHA_OIF",
    "NETCONFA_IFINDEX", "NFTA_TRACE_IIF", "NFTA_TRACE_OIF",
    *(f"{prefix}_IFINDEX_{name}" for prefix in ("NFQA", "NFULA") for name in (
        "INDEV", "OUTDEV", "PHYSINDEV", "PHYSOUTDEV",
    )),
))  # fmt: skip


def has_index(decoded: Decoded) -> bool:
    """Return True if decoded arguments have the index of an interface."""
    if isinstance(decoded, Mapping):
        return any(_is_index(decoded, name) or has_index(value) for name, value in decoded.items())
    return isinstance(decoded, list) and any(map(has_index, decoded))


def with_names(decoded: Decoded, name_of: Callable[[int], str | None]) -> Decoded:
    """Return decoded arguments with the names of interfaces in place of their indexes, where `name_of` knows one."""
    if isinstance(decoded, Mapping):
        return {
            name: _named(value, name_of) if _is_index(decoded, name) else with_names(value, name_of)
            for name, value in decoded.items()
        }
    return [with_names(each, name_of) for each in decoded] if isinstance(decoded, list) else decoded


def _is_index(decoded: Mapping[str, Decoded], name: str) -> bool:
    if not isinstance(decoded[name], int) or not decoded[name]:
        return False
    if name == "scope":
        # Of a link-local address (ipv6(7)): any other has no interface.
        return str(decoded.get("host")).startswith(("fe8", "fe9", "fea", "feb", "ff02:"))
    return name in _MEMBERS or (name == "value" and decoded.get("type") in _ATTRIBUTES)


def _named(index: int, name_of: Callable[[int], str | None]) -> Decoded:
    name = name_of(index)
    return index if name is None else f'if_nametoindex("{name}")'
