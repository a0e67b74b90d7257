"""Tests the messages of xfrm, audit and netfilter that real sockets carry in a network namespace."""

import errno
import socket
import struct

import pytest

from tests.instruments.capture_programs import capture, python
from tests.instruments.test_netlink import attribute
from tests.instruments.test_netlink_bodies import (
    AUDIT,
    HEADER,
    NETFILTER,
    SELECTOR,
    TEMPLATE,
    TEMPLATE_TEXT,
    XFRM,
    host,
    nested,
    selector,
)

pytestmark = pytest.mark.sandbox(trace="none")
#: For tcp: jump to chain d.
RULE_OF_KERNEL = nested(
    4,
    nested(1, attribute(1, b"meta\0"), nested(2, attribute(1, struct.pack(">I", 1)), attribute(2, struct.pack(">I", 16)))),
    nested(1, attribute(1, b"cmp\0"), nested(2, attribute(1, struct.pack(">I", 1)), attribute(2, bytes(4)),
                                             nested(3, attribute(1, b"\6")))),
    nested(1, attribute(1, b"immediate\0"), nested(2, attribute(1, bytes(4)), nested(2, nested(
        2, attribute(1, struct.pack(">i", -3)), attribute(2, b"d\0"))))))  # fmt: skip
#: Makes requests of a protocol, each a type, flags and a payload, and reads the answers to each of them.
ASK = """
import socket, struct
def attribute(number, *value):
    value = b"".join(value)
    return struct.pack("<HH", 4 + len(value), number) + value.ljust((len(value) + 3) & ~3, b"\\0")
def message(number, flags, *parts):
    payload = b"".join(parts)
    return struct.pack("<IHHII", 16 + len(payload), number, flags, 1, 0) + payload
def ask(*requests):
    link.send(b"".join(requests))
    link.settimeout(10)
    try:
        for _ in range(3):
            data = link.recv(65536)
            link.settimeout(0.2)
            if struct.unpack_from("<H", data, 4)[0] == 3:
                break
    except TimeoutError:
        pass
"""


def asked(protocol, source, *prefix):
    """Return the lines that a capture writes of the messages of a program in a network namespace of its own."""
    try:
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol).close()
    except OSError as error:
        assert error.errno == errno.EPROTONOSUPPORT
        pytest.skip(f"this kernel has no netlink protocol {protocol}")
    source = f"{ASK}link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, {protocol})\n{source}"
    program = python(source)
    done = capture("-e", "sendto,recvfrom", "--brief", "--", *prefix, *program[1:], format="text")
    assert done.status == 0, done.err
    return done.path.read_text()


def test_xfrm_in_a_namespace():
    """The kernel answers about a state and a policy with what was asked for."""
    source = f"""
info = {(selector(2, host(10, 0, 0, 2), host(10, 0, 0, 0))[:-8] + bytes(8)).hex()!r}
info = bytes.fromhex(info) + bytes([10, 9, 9, 2] + 12 * [0]) + struct.pack(">IB3x", 0, 51) + bytes([10, 9, 9, 1] + 12 * [0])
info += bytes(96) + struct.pack("<3I2IHBBB7x", 0, 0, 0, 0, 5, 2, 1, 0, 0)
ask(message(0x16, 1, info, struct.pack("<II", 291, 291)))
policy = bytes.fromhex({(selector(2, host(10, 0, 0, 2), host(10, 0, 0, 0))[:-8] + bytes(8)).hex()!r})
policy += struct.pack("<4Q", *4 * [2**64 - 1]) + bytes(64) + struct.pack("<IIBBBB4x", 6, 0, 1, 0, 0, 0)
template = attribute(5, bytes.fromhex({TEMPLATE.hex()!r}))
ask(message(0x13, 0x605, policy, template))
ask(message(0x15, 0x301))
"""
    text = asked(XFRM, source, "unshare", "-rn")
    answers = [line for line in text.splitlines() if "recvfrom(" in line]
    assert answers, text
    assert 'id={daddr=inet_addr("10.9.9.2"), spi=htonl(0x123), proto=IPPROTO_AH}' in answers[0], text
    assert (
        'saddr=inet_addr("10.9.9.1")' in answers[0] and "reqid=5, family=AF_INET, mode=XFRM_MODE_TUNNEL" in answers[0]
    )
    found = next(line for line in answers if "XFRM_MSG_NEWPOLICY, nlmsg_flags=NLM_F_MULTI" in line)
    assert SELECTOR.replace("ifindex=2", "ifindex=0") in found and "priority=6, index=" in found
    assert "dir=XFRM_POLICY_OUT, action=XFRM_POLICY_ALLOW, flags=0, share=XFRM_SHARE_ANY}" in found
    assert f"nla_type=XFRMA_TMPL}}, [{TEMPLATE_TEXT}]]" in found
    assert "soft_byte_limit=XFRM_INF" in found and "add_time=1" in found


KINDS = ("TABLE", "CHAIN", "RULE")


def test_nf_tables_in_a_namespace():
    """The kernel lists the table, the chain and the rule that a batch made."""
    source = f"""
head, batch = bytes([2, 0, 0, 0]), bytes([0, 0, 0, 10])
table, chain = attribute(1, b"t\\0"), attribute(3, b"c\\0")
hook = attribute(0x8004, attribute(1, struct.pack(">I", 1)), attribute(2, struct.pack(">i", -5)))
ask(message(16, 1, batch), message(0xA00, 0x401, head, table),
    message(0xA03, 0x401, head, table, chain, hook, attribute(5, struct.pack(">I", 1)), attribute(7, b"filter\\0")),
    message(0xA03, 0x401, head, table, attribute(3, b"d\\0")),
    message(0xA06, 0xC05, head, table, attribute(2, b"c\\0"), bytes.fromhex({RULE_OF_KERNEL.hex()!r})),
    message(17, 1, batch))
for number in (0xA01, 0xA04, 0xA07):
    ask(message(number, 0x301, head))
"""
    text = asked(NETFILTER, source, "unshare", "-rn")
    if "error=-EOPNOTSUPP" in text or "error=-EINVAL" in text:
        pytest.skip("this kernel has no nf_tables")
    answers = [line for line in text.splitlines() if "recvfrom(" in line and "NLM_F_MULTI" in line]
    assert len(answers) >= 3, text
    table, chain, rule = (next(line for line in answers if f"NFT_MSG_NEW{kind}" in line) for kind in KINDS)
    assert '[{nla_len=6, nla_type=NFTA_TABLE_NAME}, "t"]' in table and "NFTA_TABLE_HANDLE}, 1]" in table
    assert "NFTA_HOOK_PRIORITY}, -5]" in chain and "NFTA_CHAIN_POLICY}, NF_ACCEPT]" in chain
    assert '[{nla_len=11, nla_type=NFTA_CHAIN_TYPE}, "filter"]' in chain
    for part in ("NFTA_META_KEY}, NFT_META_L4PROTO]", "NFTA_CMP_OP}, NFT_CMP_EQ]", 'NFTA_DATA_VALUE}, "\\x06"]',
                 "NFTA_VERDICT_CODE}, NFT_JUMP]", 'NFTA_VERDICT_CHAIN}, "d"]'):  # fmt: skip
        assert part in rule, rule


def test_audit():
    """In a container the kernel refuses (audit_netlink_ok); else, to CAP_AUDIT_CONTROL, it answers with its status."""
    text = asked(AUDIT, "ask(message(1000, 5))\nask(message(1019, 5))")
    for name in ("AUDIT_GET", "AUDIT_GET_FEATURE"):
        request = f"{{nlmsg_len=16, nlmsg_type={name}, nlmsg_flags=NLM_F_REQUEST|NLM_F_ACK, {HEADER}"
        assert f"msg={request}" in text, text
    if "error=-" not in text:
        assert "{mask=0, enabled=" in text and "feature_bitmap=AUDIT_FEATURE_BITMAP_" in text
        assert "{vers=1, mask=1<<AUDIT_FEATURE_ONLY_UNSET_LOGINUID|1<<AUDIT_FEATURE_LOGINUID_IMMUTABLE|0xf" in text
