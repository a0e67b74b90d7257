"""Decodes socket addresses of families that few programs use: Bluetooth, the crypto interface, AF_XDP and others.

Source: include/net/bluetooth/hci.h, l2cap.h, rfcomm.h, sco.h; include/uapi/linux/if_alg.h, if_xdp.h, qrtr.h, x25.h, can.h.
"""

from __future__ import annotations

import struct

from probes.abi.record import Decoded

_BLUETOOTH = {6: "hci", 8: "sco", 10: "rc", 14: "l2"}


def bluetooth(raw: bytes) -> dict[str, Decoded] | None:
    """Decode an address of AF_BLUETOOTH, whose protocol is known by its length; None if it has none of them."""
    kind = _BLUETOOTH.get(len(raw))
    if kind == "hci":
        device, channel = struct.unpack("<2xHH", raw)
        return {"protocol": kind, "dev": device, "channel": channel}
    if kind == "sco":
        return {"protocol": kind, "bdaddr": raw[2:].hex(":")}
    if kind == "rc":
        address, channel, pad = struct.unpack("<2x6sBB", raw)
        return {"protocol": kind, "bdaddr": address.hex(":"), "channel": channel} | ({"pad": pad} if pad else {})
    if kind == "l2":
        psm, address, cid, type_, pad = struct.unpack("<2xH6sHBB", raw)
        decoded: dict[str, Decoded] = {"protocol": kind, "psm": psm, "bdaddr": address.hex(":"), "cid": cid}
        return decoded | {"bdaddr_type": type_} | ({"pad": pad} if pad else {})
    return None


def alg(raw: bytes) -> dict[str, Decoded]:
    """Decode struct sockaddr_alg."""
    type_, feat, mask, name = struct.unpack("<2x14sII64s", raw)
    return {"kind": _text(type_), "feat": feat, "mask": mask, "name": _text(name)}


def _text(raw: bytes) -> str:
    from probes.abi.sockaddr import printable

    return printable(raw.split(b"\0")[0])


def qipcrtr(raw: bytes) -> dict[str, Decoded]:
    """Decode struct sockaddr_qrtr."""
    node, port = struct.unpack("<4xII", raw)
    return {"node": node, "port": port}


def xdp(raw: bytes) -> dict[str, Decoded]:
    """Decode struct sockaddr_xdp."""
    flags, index, queue, shared = struct.unpack("<2xHIII", raw)
    return {"flags": flags, "ifindex": index, "queue_id": queue, "shared_umem_fd": shared}


def x25(raw: bytes) -> dict[str, Decoded]:
    """Decode struct sockaddr_x25."""
    return {"address": _text(raw[2:])}


def can(raw: bytes) -> dict[str, Decoded]:
    """Decode struct sockaddr_can, with the identifiers of its transport protocols."""
    index, received, sent = struct.unpack("<4xiII", raw[:16])
    return {"ifindex": index, "rx_id": received, "tx_id": sent}
