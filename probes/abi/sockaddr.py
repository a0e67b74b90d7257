"""Socket addresses: bytes from values, and bytes told as values, whatever bytes they are.

Source: ip(7), ipv6(7), unix(7), netlink(7), packet(7), vsock(7) and the uapi headers that layouts.py names.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

from probes.abi import names

FAMILY = 2  # bytes of sa_family_t


def inet(host: str, port: int) -> bytes:
    """struct sockaddr_in, 16 bytes."""
    return struct.pack("<H", names.AF_INET) + struct.pack(">H4s8x", port, socket.inet_pton(socket.AF_INET, host))


def inet6(host: str, port: int, scope: int = 0, flow: int = 0) -> bytes:
    """struct sockaddr_in6, 28 bytes. `flow` goes in network byte order, `scope` in the host's (ipv6(7))."""
    head = struct.pack("<H", names.AF_INET6) + struct.pack(">HI", port, flow)
    return head + socket.inet_pton(socket.AF_INET6, host) + struct.pack("<I", scope)


def unix(path: str | bytes, terminated: bool = True) -> bytes:
    """struct sockaddr_un, as long as the name needs; of any length, too long ones included.

    A name that begins with NUL is abstract: it is exactly its bytes and gets no NUL. "" is the family alone, which
    bind takes as autobind. `terminated` says whether a path gets its NUL.
    """
    raw = path.encode() if isinstance(path, str) else path
    nul = b"\0" if terminated and raw and not raw.startswith(b"\0") else b""
    return struct.pack("<H", names.AF_UNIX) + raw + nul


def netlink(pid: int = 0, groups: int = 0) -> bytes:
    """struct sockaddr_nl, 12 bytes."""
    return struct.pack("<HHII", names.AF_NETLINK, 0, pid, groups)


def packet(protocol: int, ifindex: int) -> bytes:
    """struct sockaddr_ll, 20 bytes; `protocol` is an ETH_P_ number as people write it, stored in network order."""
    return struct.pack("<H", names.AF_PACKET) + struct.pack(">H", protocol) + struct.pack("<iHBB8x", ifindex, 0, 0, 0)


def unspec() -> bytes:
    """struct sockaddr of AF_UNSPEC, 16 bytes: connect(2) dissolves an association with it."""
    return bytes(16)


def printable(raw: bytes) -> str:
    """ASCII as it is, everything else escaped, so that no two byte strings look alike."""
    return "".join(_PRINTABLE[byte] for byte in raw)


_ESCAPES = {0x5C: "\\\\", 0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t"}
_PRINTABLE = [_ESCAPES.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}") for byte in range(256)]


def describe(raw: bytes) -> dict[str, Any]:
    """What the bytes of an address say: `family`, then that family's fields.

    Bytes beyond the structure are counted in `leftover`, those that lack in `missing`; where too few are there to
    tell the fields, `raw` shows them. Nothing raises and nothing is lost but padding that is zero.
    """
    if len(raw) < FAMILY:
        return {"raw": raw.hex(), "missing": FAMILY - len(raw)}
    number = int.from_bytes(raw[:FAMILY], "little")
    described = {"family": names.family(number)}
    if number == names.AF_UNIX:
        return described | _unix(raw[FAMILY:])
    if number not in _FIELDS:
        return described | ({"data": raw[FAMILY:].hex()} if raw[FAMILY:].strip(b"\0") else {})
    enough, size, fields = _FIELDS[number]
    if len(raw) < enough:
        return described | {"raw": raw.hex(), "missing": size - len(raw)}
    described |= fields(raw.ljust(size, b"\0"))
    if len(raw) != size:
        described["leftover" if len(raw) > size else "missing"] = abs(len(raw) - size)
    return described


def _unix(name: bytes) -> dict[str, Any]:
    """unix(7), "Three types of address are distinguished"."""
    if not name:
        return {"unnamed": True}
    if name[0] == 0:
        return {"abstract": printable(name[1:])}
    path, nul, rest = name.partition(b"\0")
    told = {"path": printable(path)} | ({} if nul else {"terminated": False})
    return told | ({"leftover": len(rest)} if rest else {})


def _inet(raw: bytes) -> dict[str, Any]:
    port, host, zero = struct.unpack(">2xH4s8s", raw[:16])
    return {"host": socket.inet_ntop(socket.AF_INET, host), "port": port} | ({"zero": zero.hex()} if any(zero) else {})


def _inet6(raw: bytes) -> dict[str, Any]:
    port, flow, host = struct.unpack(">2xHI16s", raw[:24])
    (scope,) = struct.unpack("<I", raw[24:28])
    return {"host": socket.inet_ntop(socket.AF_INET6, host), "port": port, "flow": flow, "scope": scope}


def _netlink(raw: bytes) -> dict[str, Any]:
    pad, pid, groups = struct.unpack("<2xHII", raw[:12])
    return {"pid": pid, "groups": groups} | ({"pad": pad} if pad else {})


def _packet(raw: bytes) -> dict[str, Any]:
    protocol, ifindex, hatype, pkttype, halen, address = struct.unpack("<2xHiHBB8s", raw[:20])
    told = {"protocol": names.ethertype(protocol), "ifindex": ifindex, "hatype": hatype, "pkttype": pkttype}
    return told | {"halen": halen, "addr": address[:halen].hex()}


def _vsock(raw: bytes) -> dict[str, Any]:
    port, cid, flags, zero = struct.unpack("<4xIIB3s", raw[:16])
    return {"cid": cid, "port": port, "flags": flags} | ({"zero": zero.hex()} if any(zero) else {})


#: Of each family: how many bytes tell its fields, how many the structure has, the fields. Enough is what is left
#: without the padding; without the scope (SIN6_LEN_RFC2133); without the hardware address (packet(7)).
_FIELDS: dict[int, tuple[int, int, Callable[[bytes], dict[str, Any]]]] = {
    names.AF_INET: (8, 16, _inet),
    names.AF_INET6: (24, 28, _inet6),
    names.AF_NETLINK: (12, 12, _netlink),
    names.AF_PACKET: (12, 20, _packet),
    names.AF_VSOCK: (12, 16, _vsock),
}
