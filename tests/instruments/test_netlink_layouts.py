"""Tests structures and bits of xfrm, audit and netfilter against literal numbers and the C compiler."""

import shutil
import subprocess

import pytest

from probes.abi import netlink_audit, netlink_netfilter, netlink_xfrm
from probes.abi.layouts import Layout

HEADERS = ("linux/in.h", "linux/xfrm.h", "linux/audit.h", "linux/netfilter/nfnetlink.h", "linux/netfilter/nfnetlink_queue.h",
           "linux/netfilter/nfnetlink_log.h", "linux/netfilter/nf_conntrack_tcp.h", "linux/netfilter/nf_tables.h",
           "linux/netfilter/nf_conntrack_common.h", "linux/netfilter.h")  # fmt: skip
#: The size of each structure of xfrm.h on i386 and x86-64, where they differ in both.
XFRM = {
    "SELECTOR": 56, "ID": 24, "LIFETIME_CFG": 64, "LIFETIME_CUR": 32, "STATS": 12, "USERSA_INFO": (220, 224),
    "USERSA_ID": 24, "USERPOLICY_INFO": (164, 168), "USERPOLICY_ID": 64, "USERSPI_INFO": (228, 232),
    "USER_ACQUIRE": (276, 280), "USER_EXPIRE": (224, 232), "USER_POLEXPIRE": (168, 176), "USERSA_FLUSH": 1,
    "AEVENT_ID": 48, "USER_REPORT": 60, "USER_MAPPING": 64, "USERPOLICY_DEFAULT": 3, "USER_TMPL": 64, "ENCAP_TMPL": 24,
    "REPLAY_STATE": 12, "REPLAY_STATE_ESN": 24, "ALGO": 68, "ALGO_AUTH": 72, "ALGO_AEAD": 72, "USER_SEC_CTX": 8,
    "USERPOLICY_TYPE": 6, "MARK": 8, "ADDRESS_FILTER": 36, "USER_OFFLOAD": 8, "USER_KMADDRESS": 40, "USER_MIGRATE": 76,
    "SADHINFO": 8, "SPDINFO": 24, "SPDHINFO": 8, "SPDHTHRESH": 2,
}  # fmt: skip
XFRMU = ("SADHINFO", "SPDINFO", "SPDHINFO", "SPDHTHRESH")
AUDIT = {"STATUS": 44, "FEATURES": 16, "TTY_STATUS": 8, "RULE_DATA": 1040}
NETFILTER = {
    "NFQA_PACKET_HDR": ("nfqnl_msg_packet_hdr", 7), "NFQA_HWADDR": ("nfqnl_msg_packet_hw", 12),
    "NFQA_TIMESTAMP": ("nfqnl_msg_packet_timestamp", 16), "NFQA_VERDICT_HDR": ("nfqnl_msg_verdict_hdr", 8),
    "NFQA_CFG_CMD": ("nfqnl_msg_config_cmd", 4), "NFQA_CFG_PARAMS": ("nfqnl_msg_config_params", 5),
    "NFULA_PACKET_HDR": ("nfulnl_msg_packet_hdr", 4), "NFULA_HWADDR": ("nfulnl_msg_packet_hw", 12),
    "NFULA_TIMESTAMP": ("nfulnl_msg_packet_timestamp", 16), "NFULA_CFG_CMD": ("nfulnl_msg_config_cmd", 1),
    "NFULA_CFG_MODE": ("nfulnl_msg_config_mode", 6), "CTA_PROTOINFO_TCP_FLAGS_ORIGINAL": ("nf_ct_tcp_flags", 2),
    "CTA_PROTOINFO_TCP_FLAGS_REPLY": ("nf_ct_tcp_flags", 2),
}  # fmt: skip
#: Constants that are younger than the headers of Debian 12.
YOUNGER = ("NFT_TABLE_F_PERSIST", "XFRM_POLICY_CPU_ACQUIRE")


def of_word(found, word):
    """Return the layout for a word size of what has one or is one."""
    return found[word] if isinstance(found, dict) else found


def public(module):
    """Return the names of the structures that a module defines for others."""
    kinds = {name: value for name, value in vars(module).items() if name.isupper() and not name.startswith("_")}
    return {
        name for name, value in kinds.items() if isinstance(value, Layout) or (isinstance(value, dict) and 32 in value)
    }


def structures(word):
    """Yield each structure: its layout, its name in C, its size."""
    for name, sizes in XFRM.items():
        size = sizes if isinstance(sizes, int) else sizes[word == 64]
        prefix = "xfrmu" if name in XFRMU else "xfrm"
        yield of_word(getattr(netlink_xfrm, name), word), f"struct {prefix}_{name.lower()}", size
    for name, size in AUDIT.items():
        yield getattr(netlink_audit, name), f"struct audit_{name.lower()}", size
    for name, (c_name, size) in NETFILTER.items():
        yield netlink_netfilter.STRUCTURES[name], f"struct {c_name}", size
    yield netlink_netfilter.NFGENMSG, "struct nfgenmsg", 4


def test_every_structure_is_here():
    assert public(netlink_xfrm) == {*XFRM}
    assert public(netlink_audit) == {*AUDIT}
    assert {*netlink_netfilter.STRUCTURES} == {*NETFILTER}


def constants():
    """Yield the names and values of bits and verdicts."""
    xfrm = (getattr(netlink_xfrm, f"_{name}") for name in ("STATE", "POLICY", "EVENT", "OFFLOAD", "EXTRA"))
    audit = (getattr(netlink_audit, f"_{name}") for name in ("MASK", "BITMAP"))
    for table in (*xfrm, *audit, *netlink_netfilter.BITS.values(), netlink_netfilter.NAMED["NFTA_VERDICT_CODE"]):
        yield from ((name, value) for value, name in table.items() if name not in YOUNGER)
    yield from ((f"AUDIT_FILTER_{name}", number) for number, name in enumerate(netlink_audit._FILTERS))


@pytest.mark.parametrize("word", [32, 64])
def test_sizes(word):
    assert {c_name: layout.size for layout, c_name, _ in structures(word)} == {
        c_name: size for _, c_name, size in structures(word)
    }


@pytest.mark.parametrize("word", [32, 64])
def test_the_compiler_agrees(word):
    """Compile sizes, offsets and constants with gcc, where it and the headers of that word size are there."""

    def compiled(*lines):
        program = "\n".join(["#include <stddef.h>", *(f"#include <{header}>" for header in HEADERS), *lines])
        command = ["gcc", f"-m{word}", "-fsyntax-only", "-x", "c", "-"]
        return subprocess.run(command, input=program, capture_output=True, text=True, check=False)

    if not shutil.which("gcc") or compiled().returncode:
        pytest.skip(f"no gcc -m{word} with the headers of netlink: the literal numbers stand alone")
    lines = []
    for layout, c_name, size in structures(word):
        lines.append(f'_Static_assert(sizeof({c_name}) == {size}, "size of {c_name}");')
        for member, offset in zip(layout.members, layout.offsets, strict=True):
            lines.append(f'_Static_assert(offsetof({c_name}, {member}) == {offset}, "{c_name} {member}");')
    for name, value in constants():
        lines.append(f'_Static_assert((unsigned int){name} == {value}u, "{name}");')
    assert compiled(*lines).stderr == ""
