"""Writes socket addresses in the notation of strace: `{sa_family=AF_INET, sin_port=htons(80), sin_addr=…}`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from probes.abi import names
from probes.abi.record import Decoded, signed
from probes.abi.strace_text import bytes_of, quoted


def address(decoded: Decoded) -> str:
    """Write a socket address that `sockaddr.describe` decoded, or the pointer to one."""
    if not isinstance(decoded, Mapping):
        return str(decoded)
    if "family" not in decoded:
        return quoted(bytes.fromhex(decoded["raw"]))
    family = decoded["family"]
    members, known = _FAMILIES.get(family, _no_members)(decoded)
    if "raw" in decoded:
        members = [f"sa_data={quoted(bytes.fromhex(decoded['raw'])[2:])}"]
    members += [f"{name}={value}" for name, value in decoded.items() if name in _ODD and name not in known]
    return "{" + ", ".join([f"sa_family={family if type(family) is str else hex(family)}", *members]) + "}"


#: Parts of an address that is shorter than its structure. (strace does not show padding.)
_ODD = ("missing",)

_Members = tuple[list[str], tuple[str, ...]]


def _no_members(decoded: Mapping[str, Decoded]) -> _Members:
    data = decoded.get("data")
    return [f"sa_data={quoted(bytes.fromhex(data))}"] if data else [], ()


def _inet(decoded: Mapping[str, Decoded]) -> _Members:
    if "port" not in decoded:
        return [], ("missing",)
    return [f"sin_port=htons({decoded['port']})", f'sin_addr=inet_addr("{decoded["host"]}")'], ()


def _inet6(decoded: Mapping[str, Decoded]) -> _Members:
    if "port" not in decoded:
        return [], ("missing",)
    return [
        f"sin6_port=htons({decoded['port']})",
        f"sin6_flowinfo=htonl({decoded['flow']})",
        f'inet_pton(AF_INET6, "{decoded["host"]}", &sin6_addr)',
        f"sin6_scope_id={decoded['scope']}",
    ], ()


def _unix(decoded: Mapping[str, Decoded]) -> _Members:
    if "path" in decoded:
        return [f"sun_path={quoted(bytes_of(decoded['path']))}"], ()
    return ([f"sun_path=@{quoted(bytes_of(decoded['abstract']))}"] if "abstract" in decoded else []), ()


def _netlink(decoded: Mapping[str, Decoded]) -> _Members:
    if "groups" not in decoded:
        return [], ("missing",)
    return [f"nl_pid={signed(decoded['pid'])}", f"nl_groups={decoded['groups']:08x}"], ()


_PACKET_TYPES = {0: "PACKET_HOST", 1: "PACKET_BROADCAST", 2: "PACKET_MULTICAST", 3: "PACKET_OTHERHOST",
                 4: "PACKET_OUTGOING"}  # fmt: skip
_CIDS = {0xFFFFFFFF: "VMADDR_CID_ANY", 0: "VMADDR_CID_HYPERVISOR", 1: "VMADDR_CID_LOCAL", 2: "VMADDR_CID_HOST"}


def _packet(decoded: Mapping[str, Decoded]) -> _Members:
    if "ifindex" not in decoded:
        return [], ("missing",)
    kind = decoded["pkttype"]
    protocol = decoded["protocol"]
    protocol = protocol if isinstance(protocol, str) else f"htons({swapped(protocol)})"
    return [
        f"sll_protocol={protocol}", f"sll_ifindex={decoded['ifindex']}", f"sll_hatype={hardware(decoded['hatype'])}",
        f"sll_pkttype={_PACKET_TYPES.get(kind, kind)}", f"sll_halen={decoded['halen']}",
        *([f"sll_addr={quoted(bytes.fromhex(decoded['addr']))}"] if decoded["addr"] else []),
    ], ()  # fmt: skip


def _vsock(decoded: Mapping[str, Decoded]) -> _Members:
    if "cid" not in decoded:
        return [], ("missing",)
    port = "VMADDR_PORT_ANY" if decoded["port"] == 0xFFFFFFFF else hex_or_0(decoded["port"])
    cid, flags = _CIDS.get(decoded["cid"], decoded["cid"]), names.flags({1: "VMADDR_FLAG_TO_HOST"}, decoded["flags"])
    return [f"svm_cid={cid}", f"svm_port={port}", f"svm_flags={flags}"], ()


def _bluetooth(decoded: Mapping[str, Decoded]) -> _Members:
    if "protocol" not in decoded:
        return _no_members(decoded)
    prefix = decoded["protocol"]
    return [f"{prefix}_{name}={_bluetooth_member(prefix, name, value)}" for name, value in decoded.items()
            if name not in ("family", "protocol", "pad")], ()  # fmt: skip


#: include/net/bluetooth/hci.h, l2cap.h, bluetooth.h.
_CHANNELS = ("HCI_CHANNEL_RAW", "HCI_CHANNEL_USER", "HCI_CHANNEL_MONITOR", "HCI_CHANNEL_CONTROL", "HCI_CHANNEL_LOGGING")
_CONNECTIONS = {1: "L2CAP_CID_SIGNALING", 2: "L2CAP_CID_CONN_LESS", 3: "L2CAP_CID_A2MP", 4: "L2CAP_CID_ATT",
                5: "L2CAP_CID_LE_SIGNALING", 6: "L2CAP_CID_SMP", 7: "L2CAP_CID_SMP_BREDR"}  # fmt: skip
_SERVICES = {1: "L2CAP_PSM_SDP", 3: "L2CAP_PSM_RFCOMM", 0x1F: "L2CAP_PSM_3DSP", 0x27: "L2CAP_PSM_IPSP"}
_ADDRESS_TYPES = ("BDADDR_BREDR", "BDADDR_LE_PUBLIC", "BDADDR_LE_RANDOM")


def _bluetooth_member(prefix: str, name: str, value: Decoded) -> str:
    if name == "bdaddr_type":
        return _ADDRESS_TYPES[value] if value < len(_ADDRESS_TYPES) else str(value)
    if prefix == "hci" and name == "channel":
        return _CHANNELS[value] if value < len(_CHANNELS) else str(value)
    if name in ("dev", "psm", "cid"):
        known = {"psm": _SERVICES, "cid": _CONNECTIONS}.get(name, {})
        return f"htobs({known.get(value) or (value if name == 'dev' else hex_or_0(value))})"
    return str(value)


def _alg(decoded: Mapping[str, Decoded]) -> _Members:
    if "kind" not in decoded:
        return [], ("missing",)
    kind, name = (quoted(bytes_of(decoded[each])) for each in ("kind", "name"))
    feat, mask = (hex_or_0(decoded[each]) for each in ("feat", "mask"))
    return [f"salg_type={kind}", f"salg_feat={feat}", f"salg_mask={mask}", f"salg_name={name}"], ()


def _qipcrtr(decoded: Mapping[str, Decoded]) -> _Members:
    if "node" not in decoded:
        return [], ("missing",)
    return [f"sq_node={hex_or_0(decoded['node'])}", f"sq_port={hex_or_0(decoded['port'])}"], ()


_XDP_FLAGS = {1: "XDP_SHARED_UMEM", 2: "XDP_COPY", 4: "XDP_ZEROCOPY", 8: "XDP_USE_NEED_WAKEUP", 16: "XDP_USE_SG"}


def _xdp(decoded: Mapping[str, Decoded]) -> _Members:
    if "queue_id" not in decoded:
        return [], ("missing",)
    return [f"sxdp_flags={names.flags(_XDP_FLAGS, decoded['flags'])}",
            *(f"sxdp_{name}={decoded[name]}" for name in ("ifindex", "queue_id", "shared_umem_fd"))], ()  # fmt: skip


def _x25(decoded: Mapping[str, Decoded]) -> _Members:
    if "address" not in decoded:
        return [], ("missing",)
    return [f"sx25_addr={{x25_addr={quoted(bytes_of(decoded['address']))}}}"], ()


def _can(decoded: Mapping[str, Decoded]) -> _Members:
    if "rx_id" not in decoded:
        return [], ("missing",)
    ids = ", ".join(f"{name}={hex_or_0(decoded[name])}" for name in ("rx_id", "tx_id"))
    return [f"can_ifindex={decoded['ifindex']}", f"can_addr={{tp={{{ids}}}}}"], ()


def hex_or_0(number: int) -> str:
    """Write a number in hexadecimal, 0 without a prefix."""
    return hex(number) if number else "0"


def swapped(number: int) -> str:
    """Write a 16-bit number in network byte order as the host's."""
    return hex_or_0((number & 0xFF) << 8 | number >> 8 & 0xFF)


def hardware(number: int) -> str | int:
    """Name the type of a link (ARPHRD_)."""
    from probes.abi.netlink_names import TABLES

    return TABLES["ARPHRD"].get(number, number)


_FAMILIES: dict[Decoded, Callable[[Mapping[str, Decoded]], _Members]] = {
    "AF_INET": _inet, "AF_INET6": _inet6, "AF_UNIX": _unix, "AF_NETLINK": _netlink, "AF_PACKET": _packet,
    "AF_VSOCK": _vsock, "AF_BLUETOOTH": _bluetooth, "AF_ALG": _alg, "AF_QIPCRTR": _qipcrtr, "AF_XDP": _xdp,
    "AF_X25": _x25, "AF_CAN": _can,
}  # fmt: skip
