"""Packs socket addresses, and decodes the bytes of any, well-formed or not.

Source: ip(7), ipv6(7), unix(7), netlink(7), packet(7), vsock(7); include/uapi/linux/in.h, in6.h, un.h, netlink.h,
if_packet.h, vm_sockets.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

from probes.abi import names, other_addresses
from probes.abi.record import Decoded

FAMILY = 2  # bytes of sa_family_t


def inet(host: str, port: int) -> bytes:
    """Pack a struct sockaddr_in, 16 bytes."""
    return struct.pack("<H", names.AF_INET) + struct.pack(">H4s8x", port, socket.inet_pton(socket.AF_INET, host))


def inet6(host: str, port: int, scope: int = 0, flow: int = 0) -> bytes:
    """Pack a struct sockaddr_in6, 28 bytes. `flow` goes in network byte order, `scope` in the host's (ipv6(7))."""
    head = struct.pack("<H", names.AF_INET6) + struct.pack(">HI", port, flow)
    return head + socket.inet_pton(socket.AF_INET6, host) + struct.pack("<I", scope)


def unix(path: str | bytes, terminated: bool = True) -> bytes:
    """Pack a struct sockaddr_un as long as its name needs, also one longer than the kernel accepts.

    A name that begins with NUL is abstract: it is exactly its bytes and gets no NUL behind it. "" packs the family
    alone, which bind takes as autobind. `terminated` is whether a path gets its NUL.
    """
    raw = path.encode() if isinstance(path, str) else path
    nul = b"\0" if terminated and raw and not raw.startswith(b"\0") else b""
    return struct.pack("<H", names.AF_UNIX) + raw + nul


def netlink(pid: int = 0, groups: int = 0) -> bytes:
    """Pack a struct sockaddr_nl, 12 bytes."""
    return struct.pack("<HHII", names.AF_NETLINK, 0, pid, groups)


def packet(protocol: int, ifindex: int) -> bytes:
    """Pack a struct sockaddr_ll, 20 bytes; `protocol` is an ETH_P_ number in host byte order."""
    return struct.pack("<H", names.AF_PACKET) + struct.pack(">H", protocol) + struct.pack("<iHBB8x", ifindex, 0, 0, 0)


def unspec() -> bytes:
    """Pack a struct sockaddr of AF_UNSPEC, 16 bytes: connect(2) dissolves an association with it."""
    return bytes(16)


def printable(raw: bytes) -> str:
    """Escape everything but printable ASCII, so that no two byte strings look alike."""
    return "".join(_PRINTABLE[byte] for byte in raw)


_ESCAPES = {0x5C: "\\\\", 0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t"}
_PRINTABLE = [_ESCAPES.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}") for byte in range(256)]


def describe(raw: bytes) -> dict[str, Decoded]:
    """Decode an address: `family`, then that family's fields.

    `leftover` counts the bytes beyond the structure, `missing` those that lack; `raw` has the bytes where they are too
    few for the fields. Never raises. Nothing is lost but padding that is zero.
    """
    if len(raw) < FAMILY:
        return {"raw": raw.hex(), "missing": FAMILY - len(raw)}
    number = int.from_bytes(raw[:FAMILY], "little")
    described: dict[str, Decoded] = {"family": names.family(number)}
    if number == names.AF_UNIX:
        return described | _unix(raw[FAMILY:])
    if number == names.AF_BLUETOOTH and (fields_of := other_addresses.bluetooth(raw)) is not None:
        return described | fields_of
    if number not in _FIELDS:
        return described | ({"data": raw[FAMILY:].hex()} if raw[FAMILY:].strip(b"\0") else {})
    enough, size, fields = _FIELDS[number]
    if len(raw) < enough:
        return described | {"raw": raw.hex(), "missing": size - len(raw)}
    described |= fields(raw[:size].ljust(size, b"\0"))
    if len(raw) != size:
        described["leftover" if len(raw) > size else "missing"] = abs(len(raw) - size)
    return described


def _unix(name: bytes) -> dict[str, Decoded]:
    """Decode sun_path (unix(7), "Three types of address are distinguished")."""
    if not name:
        return {"unnamed": True}
    if name[0] == 0:
        return {"abstract": printable(name[1:])}
    path, nul, rest = name.partition(b"\0")
    decoded: dict[str, Decoded] = {"path": printable(path)} | ({} if nul else {"terminated": False})
    return decoded | ({"leftover": len(rest)} if rest else {})


def _inet(raw: bytes) -> dict[str, Decoded]:
    port, host, zero = struct.unpack(">2xH4s8s", raw[:16])
    return {"host": socket.inet_ntop(socket.AF_INET, host), "port": port} | ({"zero": zero.hex()} if any(zero) else {})


def _inet6(raw: bytes) -> dict[str, Decoded]:
    port, flow, host = struct.unpack(">2xHI16s", raw[:24])
    (scope,) = struct.unpack("<I", raw[24:28])
    return {"host": socket.inet_ntop(socket.AF_INET6, host), "port": port, "flow": flow, "scope": scope}


def _netlink(raw: bytes) -> dict[str, Decoded]:
    pad, pid, groups = struct.unpack("<2xHII", raw[:12])
    return {"pid": pid, "groups": groups} | ({"pad": pad} if pad else {})


def _packet(raw: bytes) -> dict[str, Decoded]:
    protocol, ifindex, hatype, pkttype, halen, address = struct.unpack("<2xHiHBB8s", raw[:20])
    decoded = {"protocol": names.ethertype(protocol), "ifindex": ifindex, "hatype": hatype, "pkttype": pkttype}
    return decoded | {"halen": halen, "addr": address[:halen].hex()}


def _vsock(raw: bytes) -> dict[str, Decoded]:
    port, cid, flags, zero = struct.unpack("<4xIIB3s", raw[:16])
    return {"cid": cid, "port": port, "flags": flags} | ({"zero": zero.hex()} if any(zero) else {})


#: Of each family: the bytes that its fields need, the size of the structure, the decoder of the fields. The padding
#: may lack, so may the scope (SIN6_LEN_RFC2133) and the hardware address (packet(7)).
_FIELDS: dict[int, tuple[int, int, Callable[[bytes], dict[str, Decoded]]]] = {
    names.AF_INET: (8, 16, _inet),
    names.AF_INET6: (24, 28, _inet6),
    names.AF_NETLINK: (12, 12, _netlink),
    names.AF_PACKET: (12, 20, _packet),
    names.AF_VSOCK: (12, 16, _vsock),
    names.AF_X25: (18, 18, other_addresses.x25),
    names.AF_CAN: (8, 16, other_addresses.can),
    names.AF_ALG: (88, 88, other_addresses.alg),
    names.AF_QIPCRTR: (12, 12, other_addresses.qipcrtr),
    names.AF_XDP: (16, 16, other_addresses.xdp),
}
