"""Generates netlink_names.py, the names of messages, attributes and values of netlink, from the headers of a kernel.

    python -m tools.generate_netlink INCLUDE VERSION > probes/abi/netlink_names.py

The arguments are those of generate_options.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tools.generate_options import Block, Headers, literal

_RT, _LINK, _DIAG, _NF = "rtnetlink.h", "if_link.h", "inet_diag.h", "netfilter/nfnetlink.h"
_NFT, _COMPAT, _CT = "netfilter/nf_tables.h", "netfilter/nf_tables_compat.h", "netfilter/nfnetlink_conntrack.h"
_QUEUE, _LOG = "netfilter/nfnetlink_queue.h", "netfilter/nfnetlink_log.h"


def _from(header: str, first: str, last: str, only: str = "") -> Block:
    return Block(f"uapi/linux/{header}", first, last, only)


def _attributes(header: str, prefix: str) -> Block:
    """Select an enumeration of attributes, which the kernel begins with UNSPEC and ends with __…MAX."""
    return _from(header, f"{prefix}_UNSPEC", f"__{prefix}_MAX", f"{prefix}_")


#: Names of message types by protocol, of attributes by the message or attribute that has them, and of values.
TABLES: dict[str, Block] = {
    "NLMSG": _from("netlink.h", "NLMSG_NOOP", "NLMSG_OVERRUN"),
    "RTM": _from(_RT, "RTM_NEWLINK", "RTM_GETTUNNEL", "RTM_(?!F_)"),
    "DIAG": _from("sock_diag.h", "SOCK_DIAG_BY_FAMILY", "SOCK_DESTROY"),
    "XFRM": _from("xfrm.h", "XFRM_MSG_NEWSA", "XFRM_MSG_GETDEFAULT", "XFRM_MSG_"),
    **{prefix: _attributes("xfrm.h", prefix) for prefix in ("XFRMA", "XFRMA_SAD", "XFRMA_SPD")},
    "XFRM_MODE": _from("xfrm.h", "XFRM_MODE_TRANSPORT", "XFRM_MODE_BEET", "XFRM_MODE_"),
    "XFRM_POLICY_TYPE": _from("xfrm.h", "XFRM_POLICY_TYPE_MAIN", "XFRM_POLICY_TYPE_ANY", "XFRM_POLICY_TYPE_(?!MAX)"),
    "XFRM_POLICY": _from("xfrm.h", "XFRM_POLICY_IN", "XFRM_POLICY_FWD", "XFRM_POLICY_"),
    "XFRM_SHARE": _from("xfrm.h", "XFRM_SHARE_ANY", "XFRM_SHARE_UNIQUE", "XFRM_SHARE_"),
    "XFRM_SA_DIR": _from("xfrm.h", "XFRM_SA_DIR_IN", "XFRM_SA_DIR_OUT", "XFRM_SA_DIR_"),
    "XFRM_USERPOLICY": _from("xfrm.h", "XFRM_USERPOLICY_UNSPEC", "XFRM_USERPOLICY_ACCEPT", "XFRM_USERPOLICY_"),
    "AUDIT": _from("audit.h", "AUDIT_GET", "AUDIT_KERNEL", "AUDIT_(?!FIRST_|LAST_)"),
    "AUDIT_ACTION": _from("audit.h", "AUDIT_NEVER", "AUDIT_ALWAYS"),
    "AUDIT_FAIL": _from("audit.h", "AUDIT_FAIL_SILENT", "AUDIT_FAIL_PANIC", "AUDIT_FAIL_"),
    "NFNL_SUBSYS": _from(_NF, "NFNL_SUBSYS_NONE", "NFNL_SUBSYS_HOOK", "NFNL_SUBSYS_"),
    "NFNL_BATCH": _attributes(_NF, "NFNL_BATCH"),
    "IPCTNL_MSG_CT": _from(_CT, "IPCTNL_MSG_CT_NEW", "IPCTNL_MSG_CT_GET_UNCONFIRMED", "IPCTNL_MSG_CT_"),
    "IPCTNL_MSG_EXP": _from(_CT, "IPCTNL_MSG_EXP_NEW", "IPCTNL_MSG_EXP_GET_STATS_CPU", "IPCTNL_MSG_EXP_"),
    "NFQNL_MSG": _from(_QUEUE, "NFQNL_MSG_PACKET", "NFQNL_MSG_VERDICT_BATCH", "NFQNL_MSG_"),
    "NFULNL_MSG": _from(_LOG, "NFULNL_MSG_PACKET", "NFULNL_MSG_CONFIG", "NFULNL_MSG_"),
    "IPSET_CMD": _from("netfilter/ipset/ip_set.h", "IPSET_CMD_NONE", "IPSET_CMD_TYPE", "IPSET_CMD_"),
    "NFNL_MSG_ACCT": _from("netfilter/nfnetlink_acct.h", "NFNL_MSG_ACCT_NEW", "NFNL_MSG_ACCT_OVERQUOTA", "NFNL_MSG_"),
    "IPCTNL_MSG_TIMEOUT": _from("netfilter/nfnetlink_cttimeout.h", "IPCTNL_MSG_TIMEOUT_NEW",
                                "IPCTNL_MSG_TIMEOUT_DEFAULT_GET", "IPCTNL_MSG_TIMEOUT_"),
    "NFNL_MSG_CTHELPER": _from("netfilter/nfnetlink_cthelper.h", "NFNL_MSG_CTHELPER_NEW", "NFNL_MSG_CTHELPER_DEL",
                               "NFNL_MSG_"),
    "NFT_MSG": _from(_NFT, "NFT_MSG_NEWTABLE", "NFT_MSG_GETSETELEM_RESET", "NFT_MSG_"),
    "NFNL_MSG_COMPAT": _from(_COMPAT, "NFNL_MSG_COMPAT_GET", "NFNL_MSG_COMPAT_GET", "NFNL_MSG_"),
    "NFNL_MSG_HOOK": _from("netfilter/nfnetlink_hook.h", "NFNL_MSG_HOOK_GET", "NFNL_MSG_HOOK_GET", "NFNL_MSG_"),
    **{f"NFTA_{kind}": _attributes(_NFT, f"NFTA_{kind}") for kind in (
        "TABLE", "CHAIN", "RULE", "SET", "OBJ", "GEN", "TRACE", "FLOWTABLE", "FLOWTABLE_HOOK", "HOOK", "DEVICE",
        "RULE_COMPAT", "SET_DESC", "SET_FIELD", "SET_ELEM", "DATA", "VERDICT", "EXPR", "IMMEDIATE", "BITWISE",
        "BYTEORDER", "CMP", "RANGE", "LOOKUP", "DYNSET", "PAYLOAD", "INNER", "EXTHDR", "HASH", "META", "RT", "SOCKET",
        "CT", "LIMIT", "CONNLIMIT", "COUNTER", "LAST", "LOG", "QUEUE", "QUOTA", "SECMARK", "REJECT", "NAT", "TPROXY",
        "MASQ", "REDIR", "DUP", "FWD", "OBJREF", "FIB", "CT_HELPER", "CT_TIMEOUT", "CT_EXPECT", "OSF", "SYNPROXY",
        "XFRM", "TUNNEL", "TUNNEL_KEY",
    )},
    **{f"NFTA_{kind}": _attributes(_COMPAT, f"NFTA_{kind}") for kind in ("MATCH", "TARGET", "COMPAT")},
    # Named as what the message or the expression has in its own name.
    "NFTA_SETELEM": _attributes(_NFT, "NFTA_SET_ELEM_LIST"),
    "NFTA_NUMGEN": _attributes(_NFT, "NFTA_NG"),
    "NFTA_FLOW_OFFLOAD": _attributes(_NFT, "NFTA_FLOW"),
    # Lists, by what their elements are made of.
    **{f"*{prefix}": _attributes(_NFT, "NFTA_LIST") for prefix in ("NFTA_EXPR", "NFTA_SET_ELEM", "NFTA_SET_FIELD")},
    "NFT_REG": _from(_NFT, "NFT_REG_VERDICT", "NFT_REG32_15", "NFT_REG"),
    "NFT_CMP": _from(_NFT, "NFT_CMP_EQ", "NFT_CMP_GTE", "NFT_CMP_"),
    "NFT_PAYLOAD": _from(_NFT, "NFT_PAYLOAD_LL_HEADER", "NFT_PAYLOAD_TUN_HEADER", "NFT_PAYLOAD_"),
    "NFT_META": _from(_NFT, "NFT_META_LEN", "NFT_META_BRI_BROUTE", "NFT_META_"),
    "NFT_CT": _from(_NFT, "NFT_CT_STATE", "NFT_CT_ID", "NFT_CT_"),
    "NFT_OBJECT": _from(_NFT, "NFT_OBJECT_UNSPEC", "NFT_OBJECT_SYNPROXY", "NFT_OBJECT_"),
    "NFT_REJECT": _from(_NFT, "NFT_REJECT_ICMP_UNREACH", "NFT_REJECT_ICMPX_UNREACH", "NFT_REJECT_"),
    "NFT_NAT": _from(_NFT, "NFT_NAT_SNAT", "NFT_NAT_DNAT", "NFT_NAT_"),
    **{prefix: _attributes(_CT, prefix) for prefix in (
        "CTA", "CTA_TUPLE", "CTA_IP", "CTA_PROTO", "CTA_PROTOINFO", "CTA_PROTOINFO_TCP", "CTA_PROTOINFO_DCCP",
        "CTA_PROTOINFO_SCTP", "CTA_COUNTERS", "CTA_TIMESTAMP", "CTA_NAT", "CTA_PROTONAT", "CTA_SEQADJ", "CTA_SYNPROXY",
        "CTA_EXPECT", "CTA_EXPECT_NAT", "CTA_HELP", "CTA_SECCTX", "CTA_STATS", "CTA_STATS_GLOBAL", "CTA_STATS_EXP",
        "CTA_FILTER",
    )},
    "CTA_TIMEOUT": _attributes("netfilter/nfnetlink_cttimeout.h", "CTA_TIMEOUT"),
    **{prefix: _attributes("netfilter/nfnetlink_acct.h", prefix) for prefix in ("NFACCT", "NFACCT_FILTER")},
    **{prefix: _attributes("netfilter/nfnetlink_cthelper.h", prefix) for prefix in ("NFCTH", "NFCTH_TUPLE", "NFCTH_POLICY")},
    "NFCTH_POLICY_SET": _from("netfilter/nfnetlink_cthelper.h", "NFCTH_POLICY_SET_UNSPEC", "NFCTH_POLICY_SET4",
                              "NFCTH_POLICY_SET"),
    **{prefix: _attributes("netfilter/nfnetlink_hook.h", prefix) for prefix in ("NFNLA_HOOK", "NFNLA_HOOK_INFO")},
    "TCP_CONNTRACK": _from("netfilter/nf_conntrack_tcp.h", "TCP_CONNTRACK_NONE", "TCP_CONNTRACK_LISTEN"),
    **{prefix: _attributes(_QUEUE, prefix) for prefix in ("NFQA", "NFQA_CFG", "NFQA_VLAN")},
    **{prefix: _attributes(_LOG, prefix) for prefix in ("NFULA", "NFULA_CFG", "NFULA_VLAN")},
    "CTRL_CMD": _from("genetlink.h", "CTRL_CMD_UNSPEC", "CTRL_CMD_GETPOLICY", "CTRL_CMD_"),
    "CTRL_ATTR": _from("genetlink.h", "CTRL_ATTR_UNSPEC", "CTRL_ATTR_OP", "CTRL_ATTR_"),
    "CTRL_ATTR_OP": _from("genetlink.h", "CTRL_ATTR_OP_UNSPEC", "CTRL_ATTR_OP_FLAGS", "CTRL_ATTR_OP_"),
    "CTRL_ATTR_MCAST_GRP": _from("genetlink.h", "CTRL_ATTR_MCAST_GRP_UNSPEC", "CTRL_ATTR_MCAST_GRP_ID",
                                 "CTRL_ATTR_MCAST_GRP_"),
    "NLMSGERR_ATTR": _from("netlink.h", "NLMSGERR_ATTR_UNUSED", "NLMSGERR_ATTR_MISS_NEST", "NLMSGERR_ATTR_"),
    "IFLA": _from(_LINK, "IFLA_UNSPEC", "IFLA_DPLL_PIN", "IFLA_"),
    "IFLA_INFO": _from(_LINK, "IFLA_INFO_UNSPEC", "IFLA_INFO_SLAVE_DATA", "IFLA_INFO_"),
    "IFLA_INET": _from(_LINK, "IFLA_INET_UNSPEC", "IFLA_INET_CONF", "IFLA_INET_"),
    "IFLA_INET6": _from(_LINK, "IFLA_INET6_UNSPEC", "IFLA_INET6_RA_MTU", "IFLA_INET6_"),
    "IFLA_XDP": _from(_LINK, "IFLA_XDP_UNSPEC", "IFLA_XDP_EXPECTED_FD", "IFLA_XDP_"),
    "IFA": _from("if_addr.h", "IFA_UNSPEC", "IFA_PROTO"),
    "RTA": _from(_RT, "RTA_UNSPEC", "RTA_NH_ID", "RTA_"),
    "RTAX": _from(_RT, "RTAX_UNSPEC", "RTAX_FASTOPEN_NO_COOKIE", "RTAX_"),
    "NDA": _from("neighbour.h", "NDA_UNSPEC", "NDA_NDM_FLAGS_MASK"),
    "NDTA": _from("neighbour.h", "NDTA_UNSPEC", "NDTA_PAD"),
    "FRA": _from("fib_rules.h", "FRA_UNSPEC", "FRA_DSCP"),
    "IFAL": _from("if_addrlabel.h", "IFAL_ADDRESS", "IFAL_LABEL"),
    "TCA": _from(_RT, "TCA_UNSPEC", "TCA_EXT_WARN_MSG"),
    "NETCONFA": _from("netconf.h", "NETCONFA_UNSPEC", "NETCONFA_BC_FORWARDING", "NETCONFA_"),
    "NETNSA": _from("net_namespace.h", "NETNSA_NONE", "NETNSA_CURRENT_NSID", "NETNSA_"),
    "NHA": _from("nexthop.h", "NHA_UNSPEC", "NHA_HW_STATS_USED", "NHA_(?!TYPE)"),
    "INET_DIAG_REQ": _from(_DIAG, "INET_DIAG_REQ_NONE", "INET_DIAG_REQ_PROTOCOL", "INET_DIAG_REQ_"),
    "INET_DIAG": _from(_DIAG, "INET_DIAG_NONE", "INET_DIAG_SOCKOPT", "INET_DIAG_"),
    "UNIX_DIAG": _from("unix_diag.h", "UNIX_DIAG_NAME", "UNIX_DIAG_UID", "UNIX_DIAG_"),
    "RTN": _from(_RT, "RTN_UNSPEC", "RTN_XRESOLVE"),
    "RTPROT": _from(_RT, "RTPROT_UNSPEC", "RTPROT_EIGRP"),
    "RT_SCOPE": _from(_RT, "RT_SCOPE_UNIVERSE", "RT_SCOPE_NOWHERE", "RT_SCOPE_"),
    "RT_TABLE": _from(_RT, "RT_TABLE_UNSPEC", "RT_TABLE_LOCAL", "RT_TABLE_"),
    "FR_ACT": _from("fib_rules.h", "FR_ACT_UNSPEC", "FR_ACT_PROHIBIT", "FR_ACT_"),
    "ARPHRD": _from("if_arp.h", "ARPHRD_NETROM", "ARPHRD_NONE"),
}  # fmt: skip
#: Names that the headers of that version lack: of Linux 6.14 to 6.18.
EXTRA: dict[str, dict[int, str]] = {
    "IFLA": {66: "IFLA_MAX_PACING_OFFLOAD_HORIZON", 67: "IFLA_NETNS_IMMUTABLE", 68: "IFLA_HEADROOM",
             69: "IFLA_TAILROOM"},
    "NETCONFA": {9: "NETCONFA_FORCE_FORWARDING"},
    "XFRMA": {36: "XFRMA_IPTFS_DROP_TIME", 37: "XFRMA_IPTFS_REORDER_WINDOW", 38: "XFRMA_IPTFS_DONT_FRAG",
              39: "XFRMA_IPTFS_INIT_DELAY", 40: "XFRMA_IPTFS_MAX_QSIZE", 41: "XFRMA_IPTFS_PKT_SIZE"},
    "XFRM_MODE": {5: "XFRM_MODE_IPTFS"},
    "NFTA_DEVICE": {2: "NFTA_DEVICE_PREFIX"},
}  # fmt: skip


def main(include: str, version: str) -> None:
    """Print netlink_names.py."""
    headers = Headers(Path(include))
    print(f'"""Names of netlink. Source: headers of {version}, read by generate_netlink.py. Do not edit."""\n')
    print("TABLES: dict[str, dict[int, str]] = {")
    for name, block in TABLES.items():
        print(f'    "{name}": {literal(headers.table((block,)) | EXTRA.get(name, {}), 4)},')
    print("}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
