"""Defines the messages of NETLINK_NETFILTER, by subsystem: nf_tables, ctnetlink and others; numbers are big-endian.

Source: include/uapi/linux/netfilter/nfnetlink*.h, nf_tables.h, nf_tables_compat.h, nf_conntrack_common.h; libnftnl.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from probes.abi import names, options
from probes.abi.layouts import U8, Layout, Type
from probes.abi.netlink_layouts import PORT, Message, big_endian, numbered
from probes.abi.netlink_names import TABLES
from probes.abi.record import Decoded

#: include/uapi/linux/netfilter.h: families of its own, whose numbers other families have in socket(2).
_NFPROTO: Final = {1: "NFPROTO_INET", 3: "NFPROTO_ARP", 5: "NFPROTO_NETDEV", 7: "NFPROTO_BRIDGE"}
_FAMILY = Type("B", lambda number: _NFPROTO.get(number) or names.family(number))
_VERSION = Type("B", lambda number: number or "NFNETLINK_V0")
NFGENMSG = Layout(nfgen_family=_FAMILY, version=_VERSION, res_id=PORT)
_NFTABLES: Final = 10
#: By subsystem: the table of its messages, and that of their attributes.
_SUBSYSTEMS: Final = {
    0: ("NFNL_MSG", "NFNL_BATCH"), 1: ("IPCTNL_MSG_CT", "CTA"), 2: ("IPCTNL_MSG_EXP", "CTA_EXPECT"),
    3: ("NFQNL_MSG", "NFQA"), 4: ("NFULNL_MSG", "NFULA"), 6: ("IPSET_CMD", ""), 7: ("NFNL_MSG_ACCT", "NFACCT"),
    8: ("IPCTNL_MSG_TIMEOUT", "CTA_TIMEOUT"), 9: ("NFNL_MSG_CTHELPER", "NFCTH"), _NFTABLES: ("NFT_MSG", ""),
    11: ("NFNL_MSG_COMPAT", "NFTA_COMPAT"), 12: ("NFNL_MSG_HOOK", "NFNLA_HOOK"),
}  # fmt: skip
_BATCH: Final = {16: "NFNL_MSG_BATCH_BEGIN", 17: "NFNL_MSG_BATCH_END"}
#: Messages that have other attributes than those of their subsystem.
_OTHERS: Final = {
    "NFQNL_MSG_CONFIG": "NFQA_CFG", "NFULNL_MSG_CONFIG": "NFULA_CFG", "IPCTNL_MSG_CT_GET_STATS_CPU": "CTA_STATS",
    "IPCTNL_MSG_CT_GET_STATS": "CTA_STATS_GLOBAL", "IPCTNL_MSG_EXP_GET_STATS_CPU": "CTA_STATS_EXP",
}  # fmt: skip


def type_name(number: int) -> str | int:
    """Name the type of a message: `NFNL_SUBSYS_NFTABLES<<8|NFT_MSG_NEWRULE`, `NFNL_MSG_BATCH_BEGIN`."""
    subsystem, low = TABLES["NFNL_SUBSYS"].get(number >> 8), number & 0xFF
    if subsystem is None or number in _BATCH:
        return _BATCH.get(number, number)
    return f"{subsystem}<<8|{_message_name(number) or low}"


def _message_name(number: int) -> str | None:
    table, _ = _SUBSYSTEMS.get(number >> 8, ("", ""))
    return TABLES.get(table, {}).get(number & 0xFF)


def message_of(number: int) -> Message:
    """Return what a message of this type consists of."""
    name = _message_name(number) or ""
    _, attributes = _SUBSYSTEMS.get(number >> 8, ("", ""))
    if number >> 8 == _NFTABLES:
        attributes = re.sub(r"NFT_MSG_(?:NEW|GET|DEL|DESTROY)?(\w+?)(?:_RESET)?$", r"NFTA_\1", name)
    return Message(NFGENMSG, _OTHERS.get(name, attributes))


#: Numbers of attributes with these names are in network byte order.
BIG_ENDIAN: Final = ("NFTA_", "CTA_", "NFQA_", "NFULA_", "NFNL_", "NFACCT_", "NFCTH_", "NFNLA_")
NESTED: Final[dict[str, str]] = {
    "NFTA_CHAIN_HOOK": "NFTA_HOOK", "NFTA_CHAIN_COUNTERS": "NFTA_COUNTER", "NFTA_HOOK_DEVS": "NFTA_DEVICE",
    "NFTA_RULE_EXPRESSIONS": "*NFTA_EXPR", "NFTA_RULE_COMPAT": "NFTA_RULE_COMPAT", "NFTA_SET_DESC": "NFTA_SET_DESC",
    "NFTA_SET_DESC_CONCAT": "*NFTA_SET_FIELD", "NFTA_SET_EXPR": "NFTA_EXPR", "NFTA_SET_EXPRESSIONS": "*NFTA_EXPR",
    "NFTA_SET_ELEM_LIST_ELEMENTS": "*NFTA_SET_ELEM", "NFTA_SET_ELEM_KEY": "NFTA_DATA",
    "NFTA_SET_ELEM_KEY_END": "NFTA_DATA", "NFTA_SET_ELEM_DATA": "NFTA_DATA", "NFTA_SET_ELEM_EXPR": "NFTA_EXPR",
    "NFTA_SET_ELEM_EXPRESSIONS": "*NFTA_EXPR", "NFTA_DATA_VERDICT": "NFTA_VERDICT",
    "NFTA_TRACE_VERDICT": "NFTA_VERDICT", "NFTA_FLOWTABLE_HOOK": "NFTA_FLOWTABLE_HOOK",
    "NFTA_FLOWTABLE_HOOK_DEVS": "NFTA_DEVICE", "NFTA_IMMEDIATE_DATA": "NFTA_DATA", "NFTA_CMP_DATA": "NFTA_DATA",
    "NFTA_BITWISE_MASK": "NFTA_DATA", "NFTA_BITWISE_XOR": "NFTA_DATA", "NFTA_BITWISE_DATA": "NFTA_DATA",
    "NFTA_RANGE_FROM_DATA": "NFTA_DATA", "NFTA_RANGE_TO_DATA": "NFTA_DATA", "NFTA_DYNSET_EXPR": "NFTA_EXPR",
    "NFTA_DYNSET_EXPRESSIONS": "*NFTA_EXPR", "NFTA_INNER_EXPR": "NFTA_EXPR",
    "CTA_TUPLE_ORIG": "CTA_TUPLE", "CTA_TUPLE_REPLY": "CTA_TUPLE", "CTA_TUPLE_MASTER": "CTA_TUPLE",
    "CTA_TUPLE_IP": "CTA_IP", "CTA_TUPLE_PROTO": "CTA_PROTO", "CTA_PROTOINFO": "CTA_PROTOINFO",
    "CTA_PROTOINFO_TCP": "CTA_PROTOINFO_TCP", "CTA_PROTOINFO_DCCP": "CTA_PROTOINFO_DCCP",
    "CTA_PROTOINFO_SCTP": "CTA_PROTOINFO_SCTP", "CTA_HELP": "CTA_HELP", "CTA_NAT_SRC": "CTA_NAT",
    "CTA_NAT_DST": "CTA_NAT", "CTA_NAT_PROTO": "CTA_PROTONAT", "CTA_COUNTERS_ORIG": "CTA_COUNTERS",
    "CTA_COUNTERS_REPLY": "CTA_COUNTERS", "CTA_SEQ_ADJ_ORIG": "CTA_SEQADJ", "CTA_SEQ_ADJ_REPLY": "CTA_SEQADJ",
    "CTA_SECCTX": "CTA_SECCTX", "CTA_TIMESTAMP": "CTA_TIMESTAMP", "CTA_SYNPROXY": "CTA_SYNPROXY",
    "CTA_FILTER": "CTA_FILTER", "CTA_EXPECT_MASTER": "CTA_TUPLE", "CTA_EXPECT_TUPLE": "CTA_TUPLE",
    "CTA_EXPECT_MASK": "CTA_TUPLE", "CTA_EXPECT_NAT": "CTA_EXPECT_NAT", "CTA_EXPECT_NAT_TUPLE": "CTA_TUPLE",
    "NFQA_CT": "CTA", "NFQA_EXP": "CTA_EXPECT", "NFQA_VLAN": "NFQA_VLAN", "NFULA_CT": "CTA",
    "NFULA_VLAN": "NFULA_VLAN", "NFACCT_FILTER": "NFACCT_FILTER", "NFCTH_TUPLE": "NFCTH_TUPLE",
    "NFCTH_POLICY": "NFCTH_POLICY_SET", "NFCTH_POLICY_SET": "NFCTH_POLICY", "NFCTH_POLICY_SET2": "NFCTH_POLICY",
    "NFCTH_POLICY_SET3": "NFCTH_POLICY", "NFCTH_POLICY_SET4": "NFCTH_POLICY",
    "NFNLA_HOOK_CHAIN_INFO": "NFNLA_HOOK_INFO",
}  # fmt: skip
#: Attributes whose own are those of what another attribute before them names.
_KINDS: Final = {"NFTA_EXPR_DATA": "NFTA_EXPR_NAME", "NFTA_OBJ_DATA": "NFTA_OBJ_TYPE"}
TEXT: Final = frozenset((
    "NFTA_TABLE_NAME", "NFTA_CHAIN_TABLE", "NFTA_CHAIN_NAME", "NFTA_CHAIN_TYPE", "NFTA_RULE_TABLE", "NFTA_RULE_CHAIN",
    "NFTA_HOOK_DEV", "NFTA_DEVICE_NAME", "NFTA_DEVICE_PREFIX", "NFTA_SET_TABLE", "NFTA_SET_NAME",
    "NFTA_SET_ELEM_LIST_TABLE", "NFTA_SET_ELEM_LIST_SET", "NFTA_SET_ELEM_OBJREF", "NFTA_EXPR_NAME",
    "NFTA_VERDICT_CHAIN", "NFTA_LOOKUP_SET", "NFTA_DYNSET_SET_NAME", "NFTA_OBJ_TABLE", "NFTA_OBJ_NAME",
    "NFTA_OBJREF_IMM_NAME", "NFTA_OBJREF_SET_NAME", "NFTA_FLOWTABLE_TABLE", "NFTA_FLOWTABLE_NAME",
    "NFTA_FLOW_TABLE_NAME", "NFTA_GEN_PROC_NAME", "NFTA_LOG_PREFIX", "NFTA_MATCH_NAME", "NFTA_TARGET_NAME",
    "NFTA_COMPAT_NAME", "NFTA_CT_HELPER_NAME", "NFTA_TRACE_TABLE", "NFTA_TRACE_CHAIN", "NFTA_SECMARK_CTX",
    "CTA_HELP_NAME", "CTA_SECCTX_NAME", "CTA_EXPECT_HELP_NAME", "CTA_EXPECT_FN", "NFQA_SECCTX", "NFULA_PREFIX",
    "CTA_TIMEOUT_NAME", "NFACCT_NAME", "NFCTH_NAME", "NFCTH_POLICY_NAME", "NFNLA_HOOK_DEV", "NFNLA_HOOK_FUNCTION_NAME",
    "NFNLA_HOOK_MODULE_NAME",
))  # fmt: skip
HOSTS: Final = frozenset((
    "CTA_IP_V4_SRC", "CTA_IP_V4_DST", "CTA_IP_V6_SRC", "CTA_IP_V6_DST", "CTA_NAT_V4_MINIP", "CTA_NAT_V4_MAXIP",
    "CTA_NAT_V6_MINIP", "CTA_NAT_V6_MAXIP",
))  # fmt: skip
OPAQUE: Final = frozenset((
    "NFTA_DATA_VALUE", "NFTA_TABLE_USERDATA", "NFTA_CHAIN_USERDATA", "NFTA_RULE_USERDATA", "NFTA_SET_USERDATA",
    "NFTA_SET_ELEM_USERDATA", "NFTA_OBJ_USERDATA", "NFTA_MATCH_INFO", "NFTA_TARGET_INFO", "NFTA_TRACE_LL_HEADER",
    "NFTA_TRACE_NETWORK_HEADER", "NFTA_TRACE_TRANSPORT_HEADER", "NFTA_CT_TIMEOUT_DATA", "CTA_LABELS",
    "CTA_LABELS_MASK", "CTA_HELP_INFO", "NFQA_PAYLOAD", "NFQA_L2HDR", "NFULA_PAYLOAD", "NFULA_HWHEADER", "NFULA_L2HDR",
))  # fmt: skip
SIGNED: Final = frozenset(("NFTA_HOOK_PRIORITY", "NFTA_FLOWTABLE_HOOK_PRIORITY", "NFNLA_HOOK_PRIORITY"))

_TABLE_FLAGS = numbered("NFT_TABLE_F_", "DORMANT", "OWNER", "PERSIST")
_IPS = numbered(
    "IPS_", "EXPECTED", "SEEN_REPLY", "ASSURED", "CONFIRMED", "SRC_NAT", "DST_NAT", "SEQ_ADJUST", "SRC_NAT_DONE",
    "DST_NAT_DONE", "DYING", "FIXED_TIMEOUT", "TEMPLATE", "UNTRACKED", "HELPER", "OFFLOAD", "HW_OFFLOAD",
)  # fmt: skip
_QUEUE_FLAGS = numbered("NFQA_CFG_F_", "FAIL_OPEN", "CONNTRACK", "GSO", "UID_GID", "SECCTX")
BITS: Final[dict[str, Mapping[int, str]]] = {
    "NFTA_TABLE_FLAGS": _TABLE_FLAGS,
    "NFTA_CHAIN_FLAGS": numbered("NFT_CHAIN_", "BASE", "HW_OFFLOAD", "BINDING"),
    "NFTA_SET_FLAGS": numbered(
        "NFT_SET_", "ANONYMOUS", "CONSTANT", "INTERVAL", "MAP", "TIMEOUT", "EVAL", "OBJECT", "CONCAT", "EXPR"
    ),
    "NFTA_SET_ELEM_FLAGS": numbered("NFT_SET_ELEM_", "INTERVAL_END", "CATCHALL"),
    "CTA_STATUS": _IPS,
    "CTA_STATUS_MASK": _IPS,
    "NFQA_CFG_FLAGS": _QUEUE_FLAGS,
    "NFQA_CFG_MASK": _QUEUE_FLAGS,
    "NFQA_SKB_INFO": numbered("NFQA_SKB_", "CSUMNOTREADY", "GSO", "CSUM_NOTVERIFIED"),
    "NFULA_CFG_FLAGS": numbered("NFULNL_CFG_F_", "SEQ", "SEQ_GLOBAL", "CONNTRACK"),
}
_NF: Final = dict(enumerate(("NF_DROP", "NF_ACCEPT", "NF_STOLEN", "NF_QUEUE", "NF_REPEAT", "NF_STOP")))
_VERDICTS: Final = _NF | {
    2**32 - number: f"NFT_{name}" for number, name in enumerate(("CONTINUE", "BREAK", "JUMP", "GOTO", "RETURN"), 1)
}
NAMED: Final[Mapping[str, Mapping[int, str]]] = {
    "NFTA_CHAIN_POLICY": _VERDICTS, "NFTA_VERDICT_CODE": _VERDICTS, "NFTA_TRACE_POLICY": _VERDICTS,
    "NFTA_SET_DATA_TYPE": {0xFFFFFF00: "NFT_DATA_VERDICT"}, "NFTA_CMP_OP": TABLES["NFT_CMP"],
    "NFTA_PAYLOAD_BASE": TABLES["NFT_PAYLOAD"], "NFTA_META_KEY": TABLES["NFT_META"], "NFTA_CT_KEY": TABLES["NFT_CT"],
    "NFTA_OBJ_TYPE": TABLES["NFT_OBJECT"], "NFTA_OBJREF_IMM_TYPE": TABLES["NFT_OBJECT"],
    "NFTA_REJECT_TYPE": TABLES["NFT_REJECT"], "NFTA_NAT_TYPE": TABLES["NFT_NAT"], "CTA_PROTO_NUM": options.PROTOCOLS,
    "CTA_PROTOINFO_TCP_STATE": TABLES["TCP_CONNTRACK"],
} | {
    name: TABLES["NFT_REG"]
    for table, attributes in TABLES.items() if table.startswith("NFTA_")
    for name in attributes.values() if re.search(r"_[SD]?REG(_|$)", name)
}  # fmt: skip


def _listed(code: str, prefix: str, *rest: str) -> Type:
    return Type(code, lambda number: f"{prefix}{rest[number]}" if number < len(rest) else number)


_COPY, _COMMANDS = ("NONE", "META", "PACKET"), ("NONE", "BIND", "UNBIND", "PF_BIND", "PF_UNBIND")
_HARDWARE = Layout(hw_addrlen=big_endian(2, 2), hw_addr=Type("8s", lambda raw: raw.hex(":")))
_ETHERTYPE = Type("2s", lambda raw: names.named(options.ETHERTYPES, int.from_bytes(raw, "big")))
_TIMESTAMP = Layout(sec=big_endian(8), usec=big_endian(8))
_TCP_FLAGS = Layout(flags=U8, mask=U8)
STRUCTURES: Final[dict[str, Layout]] = {
    "NFQA_PACKET_HDR": Layout(packet_id=big_endian(4), hw_protocol=_ETHERTYPE, hook=U8), "NFQA_HWADDR": _HARDWARE,
    "NFQA_TIMESTAMP": _TIMESTAMP,
    "NFQA_VERDICT_HDR": Layout(verdict=Type("4s", lambda raw: names.named(_NF, int.from_bytes(raw, "big"))),
                               id=big_endian(4)),
    "NFQA_CFG_CMD": Layout(command=_listed("Bx", "NFQNL_CFG_CMD_", *_COMMANDS),
                           pf=Type("2s", lambda raw: names.family(int.from_bytes(raw, "big")))),
    "NFQA_CFG_PARAMS": Layout(copy_range=big_endian(4), copy_mode=_listed("B", "NFQNL_COPY_", *_COPY)),
    "NFULA_PACKET_HDR": Layout(hw_protocol=_ETHERTYPE, hook=Type("Bx")), "NFULA_HWADDR": _HARDWARE,
    "NFULA_TIMESTAMP": _TIMESTAMP, "NFULA_CFG_CMD": Layout(command=_listed("B", "NFULNL_CFG_CMD_", *_COMMANDS)),
    "NFULA_CFG_MODE": Layout(copy_range=big_endian(4), copy_mode=_listed("Bx", "NFULNL_COPY_", *_COPY)),
    "CTA_PROTOINFO_TCP_FLAGS_ORIGINAL": _TCP_FLAGS, "CTA_PROTOINFO_TCP_FLAGS_REPLY": _TCP_FLAGS,
}  # fmt: skip


def table_of_kind(name: str | int, before: Sequence[Mapping[str, Decoded]]) -> str | None:
    """Return the table of the attributes inside one that an attribute before it says the kind of: `cmp`, a counter."""
    says = _KINDS.get(str(name))
    for each in before if says else ():
        if each.get("type") == says and (value := each.get("value")) is not None:
            kind = value["text"] if isinstance(value, Mapping) else str(value).removeprefix("NFT_OBJECT_")
            return f"NFTA_{kind.upper()}"
    return None
