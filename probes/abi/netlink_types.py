"""Defines what messages of netlink consist of: their structures, the tables of their attributes, the types of those.

Source: as netlink.py. Members have the names of the C structures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from probes.abi import names
from probes.abi import netlink_audit as audit
from probes.abi import netlink_netfilter as netfilter
from probes.abi import netlink_xfrm as xfrm
from probes.abi.layouts import INT, U8, U16, U32, U64, Layout, Type, ipv4, ipv6
from probes.abi.netlink_layouts import ADDRESS, FAMILY, IP_PROTOCOL, PORT, Message, bits, named
from probes.abi.netlink_names import TABLES
from probes.abi.record import Decoded
from probes.abi.sockaddr import printable

ROUTE, SOCK_DIAG, XFRM, AUDIT, NETFILTER, GENERIC = 0, 4, 6, 9, 12, 16
_GENL_CTRL: Final = 16
CAPPED, ACK_TLVS = 0x100, 0x200
HEADER = Layout(len=U32, type=U16, flags=U16, seq=U32, pid=U32)
ATTRIBUTE = Layout(len=U16, type=U16).struct
_FLAGS = {1: "NLM_F_REQUEST", 2: "NLM_F_MULTI", 4: "NLM_F_ACK", 8: "NLM_F_ECHO", 0x10: "NLM_F_DUMP_INTR",
          0x20: "NLM_F_DUMP_FILTERED"}  # fmt: skip
_GET = {0x300: "NLM_F_DUMP", 0x100: "NLM_F_ROOT", 0x200: "NLM_F_MATCH", 0x400: "NLM_F_ATOMIC"}
_NEW = {0x100: "NLM_F_REPLACE", 0x200: "NLM_F_EXCL", 0x400: "NLM_F_CREATE", 0x800: "NLM_F_APPEND"}
_DELETE = {0x100: "NLM_F_NONREC", 0x200: "NLM_F_BULK"}
_ACK = {CAPPED: "NLM_F_CAPPED", ACK_TLVS: "NLM_F_ACK_TLVS"}
_IFF = {1 << bit: f"IFF_{name}" for bit, name in enumerate((
    "UP", "BROADCAST", "DEBUG", "LOOPBACK", "POINTOPOINT", "NOTRAILERS", "RUNNING", "NOARP", "PROMISC", "ALLMULTI",
    "MASTER", "SLAVE", "MULTICAST", "PORTSEL", "AUTOMEDIA", "DYNAMIC", "LOWER_UP", "DORMANT", "ECHO",
))}  # fmt: skip
_IFA_F = {1 << bit: f"IFA_F_{name}" for bit, name in enumerate((
    "SECONDARY", "NODAD", "OPTIMISTIC", "DADFAILED", "HOMEADDRESS", "DEPRECATED", "TENTATIVE", "PERMANENT",
    "MANAGETEMPADDR", "NOPREFIXROUTE", "MCAUTOJOIN", "STABLE_PRIVACY",
))}  # fmt: skip
_NUD = {1 << bit: f"NUD_{name}" for bit, name in enumerate((
    "INCOMPLETE", "REACHABLE", "STALE", "DELAY", "PROBE", "FAILED", "NOARP", "PERMANENT",
))}  # fmt: skip
_NTF = {1 << bit: f"NTF_{name}" for bit, name in enumerate((
    "USE", "SELF", "MASTER", "PROXY", "EXT_LEARNED", "OFFLOADED", "STICKY", "ROUTER",
))}  # fmt: skip
_RTM_F = {0x100: "RTM_F_NOTIFY", 0x200: "RTM_F_CLONED", 0x400: "RTM_F_EQUALIZE", 0x800: "RTM_F_PREFIX",
          0x1000: "RTM_F_LOOKUP_TABLE", 0x2000: "RTM_F_FIB_MATCH", 0x4000: "RTM_F_OFFLOAD",
          0x8000: "RTM_F_TRAP"}  # fmt: skip
_RTNH_F = {1: "RTNH_F_DEAD", 2: "RTNH_F_PERVASIVE", 4: "RTNH_F_ONLINK", 8: "RTNH_F_OFFLOAD", 16: "RTNH_F_LINKDOWN",
           32: "RTNH_F_UNRESOLVED", 64: "RTNH_F_TRAP"}  # fmt: skip
_EXT_MASK = {1: "RTEXT_FILTER_VF", 2: "RTEXT_FILTER_BRVLAN", 4: "RTEXT_FILTER_BRVLAN_COMPRESSED",
             8: "RTEXT_FILTER_SKIP_STATS", 16: "RTEXT_FILTER_MRP", 32: "RTEXT_FILTER_CFM_CONFIG",
             64: "RTEXT_FILTER_CFM_STATUS", 128: "RTEXT_FILTER_MST"}  # fmt: skip
_TCP_STATES = ("TCP_ESTABLISHED", "TCP_SYN_SENT", "TCP_SYN_RECV", "TCP_FIN_WAIT1", "TCP_FIN_WAIT2", "TCP_TIME_WAIT",
               "TCP_CLOSE", "TCP_CLOSE_WAIT", "TCP_LAST_ACK", "TCP_LISTEN", "TCP_CLOSING",
               "TCP_NEW_SYN_RECV")  # fmt: skip
_STATES = {1 << number: f"1<<{name}" for number, name in enumerate(_TCP_STATES, 1)}

_SHOW = {1 << bit: f"UDIAG_SHOW_{name}" for bit, name in enumerate((
    "NAME", "VFS", "PEER", "ICONS", "RQLEN", "MEMINFO", "UID",
))}  # fmt: skip
_STATISTICS = (
    "rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "rx_errors", "tx_errors", "rx_dropped", "tx_dropped",
    "multicast", "collisions", "rx_length_errors", "rx_over_errors", "rx_crc_errors", "rx_frame_errors",
    "rx_fifo_errors", "rx_missed_errors", "tx_aborted_errors", "tx_carrier_errors", "tx_fifo_errors",
    "tx_heartbeat_errors", "tx_window_errors", "rx_compressed", "tx_compressed", "rx_nohandler",
)  # fmt: skip


_FAMILY_PAD1, _FAMILY_PAD3 = Type("Bx", FAMILY.show), Type("B3x", FAMILY.show)
_SCOPE, _PROTO, _TABLE = named("B", "RT_SCOPE"), named("B", "RTPROT"), named("B", "RT_TABLE")
_COOKIE = Type("8s", lambda raw: [int.from_bytes(raw[:4], "little"), int.from_bytes(raw[4:], "little")])
_STATE = Type("B", lambda number: _TCP_STATES[number - 1] if 0 < number <= len(_TCP_STATES) else number)

_IFINFOMSG = Layout(ifi_family=_FAMILY_PAD1, ifi_type=named("H", "ARPHRD"), ifi_index=INT,
                    ifi_flags=bits("I", _IFF), ifi_change=bits("I", _IFF))  # fmt: skip
_IFADDRMSG = Layout(ifa_family=FAMILY, ifa_prefixlen=U8, ifa_flags=bits("B", _IFA_F), ifa_scope=_SCOPE, ifa_index=U32)
_RTMSG = Layout(rtm_family=FAMILY, rtm_dst_len=U8, rtm_src_len=U8, rtm_tos=U8, rtm_table=_TABLE, rtm_protocol=_PROTO,
                rtm_scope=_SCOPE, rtm_type=named("B", "RTN"), rtm_flags=bits("I", _RTM_F | _RTNH_F))  # fmt: skip
_NDMSG = Layout(ndm_family=_FAMILY_PAD3, ndm_ifindex=INT, ndm_state=bits("H", _NUD), ndm_flags=bits("B", _NTF),
                ndm_type=named("B", "RTN"))  # fmt: skip
_RULE = Layout(family=FAMILY, dst_len=U8, src_len=U8, tos=U8, table=Type("B2x", _TABLE.show),
               action=named("B", "FR_ACT"), flags=U32)  # fmt: skip
_TCMSG = Layout(tcm_family=_FAMILY_PAD3, tcm_ifindex=INT, tcm_handle=U32, tcm_parent=U32, tcm_info=U32)
_ADDRLABEL = Layout(ifal_family=_FAMILY_PAD1, ifal_prefixlen=U8, ifal_flags=U8, ifal_index=U32, ifal_seq=U32)
_NHMSG = Layout(nh_family=FAMILY, nh_scope=_SCOPE, nh_protocol=Type("Bx", _PROTO.show), nh_flags=bits("I", _RTNH_F))
_RTGENMSG = Layout(rtgen_family=FAMILY)
_SOCKID = {"idiag_sport": PORT, "idiag_dport": PORT, "idiag_src": ADDRESS, "idiag_dst": ADDRESS,
           "idiag_if": U32, "idiag_cookie": _COOKIE}  # fmt: skip
_INET_REQUEST = Layout(sdiag_family=FAMILY, sdiag_protocol=IP_PROTOCOL, idiag_ext=Type("Bx"),
                       idiag_states=bits("I", _STATES), **_SOCKID)  # fmt: skip
_INET_ANSWER = Layout(idiag_family=FAMILY, idiag_state=_STATE, idiag_timer=U8, idiag_retrans=U8, **_SOCKID,
                      idiag_expires=U32, idiag_rqueue=U32, idiag_wqueue=U32, idiag_uid=U32,
                      idiag_inode=U32)  # fmt: skip
_UNIX_REQUEST = Layout(sdiag_family=FAMILY, sdiag_protocol=Type("B2x"), udiag_states=bits("I", _STATES),
                       udiag_ino=U32, udiag_show=bits("I", _SHOW), udiag_cookie=_COOKIE)  # fmt: skip
_UNIX_ANSWER = Layout(udiag_family=FAMILY, udiag_type=Type("B", lambda number: names.named(names.TYPES, number)),
                      udiag_state=Type("Bx", _STATE.show), udiag_ino=U32, udiag_cookie=_COOKIE)  # fmt: skip
_GENL = Layout(cmd=U8, version=Type("B2x"))
_GENL_CONTROL = Layout(cmd=named("B", "CTRL_CMD"), version=Type("B2x"))

#: By the number of the first of the four types that a kind of object has: new, delete, get, set.
_ROUTES = {
    16: Message(_IFINFOMSG, "IFLA"), 20: Message(_IFADDRMSG, "IFA"), 24: Message(_RTMSG, "RTA"),
    28: Message(_NDMSG, "NDA"), 32: Message(_RULE, "FRA"), 36: Message(_TCMSG, "TCA"), 40: Message(_TCMSG, "TCA"),
    44: Message(_TCMSG, "TCA"), 56: Message(_IFADDRMSG, "IFA"), 60: Message(_IFADDRMSG, "IFA"),
    64: Message(Layout(ndtm_family=_FAMILY_PAD3), "NDTA"), 72: Message(_ADDRLABEL, "IFAL"),
    80: Message(Layout(ncm_family=FAMILY), "NETCONFA"), 88: Message(_RTGENMSG, "NETNSA"),
    100: Message(_TCMSG, "TCA"), 104: Message(_NHMSG, "NHA"), 108: Message(_IFINFOMSG, "IFLA"),
}  # fmt: skip


def message_of(protocol: int, number: int, flags: int, payload: bytes, word: int) -> Message | None:
    """Return what a message of this type consists of, from a program of this word size; None if it is not known here."""
    if protocol == ROUTE:
        return _ROUTES.get(number & ~3)
    if protocol == SOCK_DIAG and number == 20:
        # A request has flags of states behind four bytes; both forms begin with the family.
        if payload[0] == names.AF_UNIX:
            return Message(_UNIX_REQUEST if len(payload) == _UNIX_REQUEST.size else _UNIX_ANSWER, "UNIX_DIAG")
        if payload[0] in (names.AF_INET, names.AF_INET6):
            is_answer = len(payload) >= _INET_ANSWER.size
            layout, attributes = (_INET_ANSWER, "INET_DIAG") if is_answer else (_INET_REQUEST, "INET_DIAG_REQ")
            return Message(layout, attributes, hosts=True)
    if protocol == GENERIC:
        return Message(_GENL_CONTROL, "CTRL_ATTR") if number == _GENL_CTRL else Message(_GENL)
    if protocol == XFRM:
        return xfrm.message_of(number, flags, word)
    if protocol == AUDIT:
        return audit.message_of(number)
    return netfilter.message_of(number) if protocol == NETFILTER else None


def type_name(protocol: int, number: int) -> str | int:
    """Name the type of a message of a protocol."""
    if number < 16:
        return TABLES["NLMSG"].get(number, number)
    if protocol == NETFILTER:
        return netfilter.type_name(number)
    if protocol == GENERIC and number == _GENL_CTRL:
        return "nlctrl"
    table = {ROUTE: "RTM", SOCK_DIAG: "DIAG", XFRM: "XFRM", AUDIT: "AUDIT"}.get(protocol, "")
    return TABLES.get(table, {}).get(number, number)


def flags_of(name: str | int, number: int, value: int) -> str | int:
    """Name the flags of a message, whose upper byte means something else for each kind of type."""
    verb = str(name).rpartition("_")[2] if number >= 16 else ""
    if number < 16:
        own = _ACK
    elif verb.startswith("NEW"):
        own = _NEW
    elif verb.startswith(("DEL", "DESTROY")):
        own = _DELETE
    else:
        own = _GET
    return names.flags(_FLAGS | own, value)


# Attributes

_NESTED: Final[dict[str, str]] = netfilter.NESTED | {
    "IFLA_LINKINFO": "IFLA_INFO", "IFLA_XDP": "IFLA_XDP", "IFLA_AF_SPEC": "AF", "IFLA_PROP_LIST": "IFLA",
    "AF_INET": "IFLA_INET", "AF_INET6": "IFLA_INET6", "RTA_METRICS": "RTAX", "CTRL_ATTR_OPS": "*CTRL_ATTR_OP",
    "CTRL_ATTR_MCAST_GROUPS": "*CTRL_ATTR_MCAST_GRP",
}  # fmt: skip
_TEXT = netfilter.TEXT | frozenset((
    "IFLA_IFNAME", "IFLA_QDISC", "IFLA_IFALIAS", "IFLA_INFO_KIND", "IFLA_INFO_SLAVE_KIND", "IFLA_PHYS_PORT_NAME",
    "IFLA_PARENT_DEV_NAME", "IFLA_PARENT_DEV_BUS_NAME", "IFLA_ALT_IFNAME", "IFA_LABEL", "FRA_IIFNAME", "FRA_OIFNAME",
    "TCA_KIND", "CTRL_ATTR_FAMILY_NAME", "CTRL_ATTR_MCAST_GRP_NAME", "NLMSGERR_ATTR_MSG", "RTAX_CC_ALGO",
    "INET_DIAG_CONG", "NDTA_NAME", "UNIX_DIAG_NAME",
))  # fmt: skip
_HOSTS = netfilter.HOSTS | frozenset((
    "IFA_ADDRESS", "IFA_LOCAL", "IFA_BROADCAST", "IFA_ANYCAST", "IFA_MULTICAST", "RTA_DST", "RTA_SRC", "RTA_GATEWAY",
    "RTA_PREFSRC", "NDA_DST", "FRA_DST", "FRA_SRC", "NHA_GATEWAY", "IFAL_ADDRESS",
))  # fmt: skip
_HARDWARE = frozenset(("IFLA_ADDRESS", "IFLA_BROADCAST", "IFLA_PERM_ADDRESS", "NDA_LLADDR"))
_BITS: Final[dict[str, Mapping[int, str]]] = (
    {"IFA_FLAGS": _IFA_F, "IFLA_EXT_MASK": _EXT_MASK} | netfilter.BITS | xfrm.BITS
)
_NAMED: Final[dict[str, Mapping[int, str]]] = {
    "RTA_TABLE": TABLES["RT_TABLE"], "FRA_TABLE": TABLES["RT_TABLE"], **netfilter.NAMED, **xfrm.NAMED,
}  # fmt: skip
#: Attributes of one, two, four or eight bytes that are no numbers.
_OPAQUE = netfilter.OPAQUE | frozenset((
    "IFLA_INFO_DATA", "IFLA_INET6_TOKEN", "UNIX_DIAG_VFS", "UNIX_DIAG_RQLEN", "RTA_MULTIPATH", "RTA_ENCAP",
    "FRA_UID_RANGE", "FRA_SPORT_RANGE", "FRA_DPORT_RANGE",
))  # fmt: skip
_STRUCTURES: Final[dict[str, Layout]] = netfilter.STRUCTURES | xfrm.STRUCTURES | {
    "IFLA_STATS": Layout(**dict.fromkeys(_STATISTICS, U32)),
    "IFLA_STATS64": Layout(**dict.fromkeys((*_STATISTICS, "rx_otherhost_dropped"), U64)),
    "IFA_CACHEINFO": Layout(ifa_prefered=U32, ifa_valid=U32, cstamp=U32, tstamp=U32),
    "NDA_CACHEINFO": Layout(ndm_confirmed=U32, ndm_used=U32, ndm_updated=U32, ndm_refcnt=U32),
    "RTA_CACHEINFO": Layout(rta_clntref=U32, rta_lastuse=U32, rta_expires=INT, rta_error=U32, rta_used=U32,
                            rta_id=U32, rta_ts=U32, rta_tsage=U32),
}  # fmt: skip


def attribute_name(table: str, number: int) -> str | int:
    """Name the type of an attribute."""
    if table == "AF":
        return names.family(number)
    return TABLES.get(table, {}).get(number, number)


def nested_table(table: str, name: str | int) -> str | None:
    """Return the table of the attributes inside of an attribute, None if it has none."""
    if table.startswith("*"):  # an array: the type is an index
        return table[1:]
    if name in ("AF_INET", "AF_INET6") and table != "AF":
        return None
    return _NESTED.get(str(name))


def attribute_value(name: str | int, raw: bytes) -> Decoded:
    """Decode the value of an attribute by its name: text, an address, a number, a structure, else {"hex": …}."""
    if name in _TEXT:
        return {"text": printable(raw.removesuffix(b"\0"))} | ({} if raw.endswith(b"\0") else {"terminated": False})
    if name in _HOSTS and len(raw) in (4, 16):
        return {"host": ipv4(raw) if len(raw) == 4 else ipv6(raw)}
    if name in _HARDWARE and len(raw) <= 32:
        return raw.hex(":")
    structure = _structure(str(name), raw)
    if structure is not None:
        return structure
    if isinstance(name, str) and name not in _OPAQUE and len(raw) in (1, 2, 4, 8):
        big = name.startswith(netfilter.BIG_ENDIAN)
        number = int.from_bytes(raw, "big" if big else "little", signed=name in netfilter.SIGNED)
        if name in _BITS:
            return names.flags(_BITS[name], number)
        return _NAMED[name].get(number, number) if name in _NAMED else number
    return {"hex": raw.hex()}


def _structure(name: str, raw: bytes) -> Decoded:
    """Decode the value of an attribute that is a structure, or several, or one with bytes behind it; else None."""
    for layout in (_STRUCTURES[name],) if name in _STRUCTURES else xfrm.OF_WORD.get(name, {}).values():
        if len(raw) == layout.size:
            return layout.decode(raw)
    if name in xfrm.ARRAYS and len(raw) % xfrm.ARRAYS[name].size == 0:
        size = xfrm.ARRAYS[name].size
        return [xfrm.ARRAYS[name].decode(raw[at : at + size]) for at in range(0, len(raw), size)]
    if name in xfrm.TAILED and len(raw) >= xfrm.TAILED[name][0].size:
        layout, tail = xfrm.TAILED[name]
        return layout.decode(raw[: layout.size]) | {tail: {"hex": raw[layout.size :].hex()}}
    return None
