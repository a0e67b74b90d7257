"""Generates netlink_names.py, the names of messages, attributes and values of netlink, from the headers of a kernel.

    python -m tools.generate_netlink INCLUDE VERSION > probes/abi/netlink_names.py

The arguments are those of generate_options.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tools.generate_options import Block, Headers, literal

_RT, _LINK, _DIAG, _NF = "rtnetlink.h", "if_link.h", "inet_diag.h", "netfilter/nfnetlink.h"


def _from(header: str, first: str, last: str, only: str = "") -> Block:
    return Block(f"uapi/linux/{header}", first, last, only)


#: Names of message types by protocol, of attributes by the message or attribute that has them, and of values.
TABLES: dict[str, Block] = {
    "NLMSG": _from("netlink.h", "NLMSG_NOOP", "NLMSG_OVERRUN"),
    "RTM": _from(_RT, "RTM_NEWLINK", "RTM_GETTUNNEL", "RTM_(?!F_)"),
    "DIAG": _from("sock_diag.h", "SOCK_DIAG_BY_FAMILY", "SOCK_DESTROY"),
    "XFRM": _from("xfrm.h", "XFRM_MSG_NEWSA", "XFRM_MSG_GETDEFAULT", "XFRM_MSG_"),
    "NFNL_SUBSYS": _from(_NF, "NFNL_SUBSYS_NONE", "NFNL_SUBSYS_HOOK", "NFNL_SUBSYS_"),
    "NFT_MSG": _from("netfilter/nf_tables.h", "NFT_MSG_NEWTABLE", "NFT_MSG_GETSETELEM_RESET", "NFT_MSG_"),
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
#: Names that the headers of that version lack: of Linux 6.14 to 6.17.
EXTRA: dict[str, dict[int, str]] = {
    "IFLA": {66: "IFLA_MAX_PACING_OFFLOAD_HORIZON", 67: "IFLA_NETNS_IMMUTABLE", 68: "IFLA_HEADROOM",
             69: "IFLA_TAILROOM"},
    "NETCONFA": {9: "NETCONFA_FORCE_FORWARDING"},
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
