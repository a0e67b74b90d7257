"""Tests how messages of xfrm, audit and netfilter are decoded and written, by messages made by hand."""

import struct

import pytest

from probes.abi import netlink_netfilter as netfilter
from probes.abi import netlink_xfrm as xfrm
from probes.abi.decode import decode
from probes.abi.fetch import fetch
from probes.abi.netlink import decode_messages
from probes.abi.netlink_names import TABLES
from probes.abi.operations import BY_NAME
from probes.abi.strace_netlink import messages
from probes.abi.strace_notation import arguments
from tests.instruments.decoding import A, reader
from tests.instruments.test_netlink import attribute, message

XFRM, AUDIT, NETFILTER = 6, 9, 12
HEADER = "nlmsg_seq=1, nlmsg_pid=0}"
NONE = 16 * "\\x00"


def nested(number, *attributes):
    """Pack an attribute that has others."""
    return attribute(0x8000 | number, b"".join(attributes))


def host(*numbers):
    """Pack an xfrm_address_t."""
    return bytes(numbers).ljust(16, b"\0")


def selector(family, destination, source):
    """Pack a struct xfrm_selector."""
    return (
        destination + source + struct.pack(">4H", 80, 0xFFFF, 0, 0) + struct.pack("<HBBB3xiI", family, 32, 24, 6, 2, 0)
    )


SELECTOR = ('{daddr=inet_addr("10.0.0.2"), saddr=inet_addr("10.0.0.0"), dport=htons(80), dport_mask=htons(65535), '
            "sport=htons(0), sport_mask=htons(0), family=AF_INET, prefixlen_d=32, prefixlen_s=24, proto=IPPROTO_TCP, "
            "ifindex=2, user=0}")  # fmt: skip
SELECTOR6 = (SELECTOR.replace('daddr=inet_addr("10.0.0.2")', 'inet_pton(AF_INET6, "::", &daddr)')
             .replace('saddr=inet_addr("10.0.0.0")', 'inet_pton(AF_INET6, "::", &saddr)')
             .replace("AF_INET,", "AF_INET6,"))  # fmt: skip
LIFETIME = ("lft={soft_byte_limit=XFRM_INF, hard_byte_limit=2, soft_packet_limit=3, hard_packet_limit=4, "
            "soft_add_expires_seconds=5, hard_add_expires_seconds=6, soft_use_expires_seconds=7, "
            "hard_use_expires_seconds=8}, curlft={bytes=9, packets=10, add_time=11, use_time=12}")  # fmt: skip
LIFETIMES = struct.pack("<12Q", 2**64 - 1, *range(2, 13))
INFO = (selector(2, host(10, 0, 0, 2), host(10, 0, 0, 0)) + host(10, 9, 9, 2) + struct.pack(">IB3x", 0x123, 50)
        + host(10, 9, 9, 1) + LIFETIMES + struct.pack("<3I2IHBBB", 1, 2, 3, 4, 5, 2, 1, 32, 0x81))  # fmt: skip
INFO_TEXT = (f"{{sel={SELECTOR}, id={{daddr=inet_addr(\"10.9.9.2\"), spi=htonl(0x123), proto=IPPROTO_ESP}}, "
             f'saddr=inet_addr("10.9.9.1"), {LIFETIME}, stats={{replay_window=1, replay=2, integrity_failed=3}}, seq=4, '
             "reqid=5, family=AF_INET, mode=XFRM_MODE_TUNNEL, replay_window=32, "
             "flags=XFRM_STATE_NOECN|XFRM_STATE_ESN}")  # fmt: skip
ALGORITHM = attribute(2, b"cbc(aes)".ljust(64, b"\0") + struct.pack("<I", 16) + b"\1\2")
KEY = '[{nla_len=74, nla_type=XFRMA_ALG_CRYPT}, {alg_name="cbc(aes)", alg_key_len=16, alg_key="\\x01\\x02"}]'
POLICY = selector(2, host(10, 0, 0, 2), host(10, 0, 0, 0)) + LIFETIMES + struct.pack("<IIBBBB", 6, 9, 1, 1, 1, 3)
TEMPLATE = (host(10, 9, 9, 2) + struct.pack(">IB3x", 0, 50) + struct.pack("<H2x", 2) + host(10, 9, 9, 1)
            + struct.pack("<IBBBxIII", 5, 1, 0, 0, 2**32 - 1, 1, 0))  # fmt: skip
TEMPLATE_TEXT = ('{id={daddr=inet_addr("10.9.9.2"), spi=htonl(0), proto=IPPROTO_ESP}, family=AF_INET, '
                 'saddr=inet_addr("10.9.9.1"), reqid=5, mode=XFRM_MODE_TUNNEL, share=XFRM_SHARE_ANY, optional=0, '
                 "aalgos=0xffffffff, ealgos=0x1, calgos=0}")  # fmt: skip
USERSA_ID = bytes.fromhex("fd" + 14 * "00" + "02") + struct.pack(">I", 0x123) + struct.pack("<HBx", 10, 51)
RULE = nested(4, nested(1, attribute(1, b"cmp\0"), nested(2, attribute(1, struct.pack(">I", 1)),
                                                         attribute(2, struct.pack(">I", 1)),
                                                         nested(3, attribute(1, b"\0\x16")))),
              nested(1, attribute(1, b"immediate\0"), nested(2, attribute(1, bytes(4)), nested(2, nested(
                  2, attribute(1, struct.pack(">i", -3)), attribute(2, b"d\0"))))))  # fmt: skip
FEATURE_BITMAP = "|".join(f"AUDIT_FEATURE_BITMAP_{name}" for name in (
    "BACKLOG_LIMIT", "BACKLOG_WAIT_TIME", "EXECUTABLE_PATH", "EXCLUDE_EXTEND", "SESSIONID_FILTER", "LOST_RESET",
    "FILTER_FS",
))  # fmt: skip
NFGENMSG = "{nfgen_family=AF_INET, version=NFNETLINK_V0, res_id=htons(0)}"


def begin(length, name, flags="NLM_F_REQUEST"):
    """Return the text of a header."""
    return f"{{nlmsg_len={length}, nlmsg_type={name}, nlmsg_flags={flags}, {HEADER}"


@pytest.mark.parametrize(("raw", "protocol", "text"), [
    (message(16, 0x205, INFO + bytes(7), ALGORITHM, attribute(13, host(10, 9, 9, 7)), attribute(21, bytes(range(8)))), XFRM,
     f"[{begin(348, 'XFRM_MSG_NEWSA', 'NLM_F_REQUEST|NLM_F_ACK|NLM_F_EXCL')}, {INFO_TEXT}, [{KEY}, "
     '[{nla_len=20, nla_type=XFRMA_SRCADDR}, inet_addr("10.9.9.7")], '
     "[{nla_len=12, nla_type=XFRMA_MARK}, {v=50462976, m=117835012}]]]"),
    # An address of another size than an address has is none.
    (message(17, 5, USERSA_ID, attribute(13, b""), attribute(14, b"abcd")), XFRM,
     f"[{begin(52, 'XFRM_MSG_DELSA', 'NLM_F_REQUEST|NLM_F_ACK')}, "
     '{inet_pton(AF_INET6, "fd00::2", &daddr), spi=htonl(0x123), family=AF_INET6, proto=IPPROTO_AH}, '
     "[{nla_len=4, nla_type=XFRMA_SRCADDR}, [{nla_len=8, nla_type=XFRMA_COADDR}, 1684234849]]]"),
    (message(17, 5, USERSA_ID), XFRM,
     f"[{begin(40, 'XFRM_MSG_DELSA', 'NLM_F_REQUEST|NLM_F_ACK')}, "
     '{inet_pton(AF_INET6, "fd00::2", &daddr), spi=htonl(0x123), family=AF_INET6, proto=IPPROTO_AH}]'),
    # A request for all has attributes at once.
    (message(18, 0x301, attribute(25, b"\x32")), XFRM,
     f"[{begin(24, 'XFRM_MSG_GETSA', 'NLM_F_REQUEST|NLM_F_DUMP')}, [{{nla_len=5, nla_type=XFRMA_PROTO}}, IPPROTO_ESP]]"),
    (message(19, 1, POLICY + bytes(4), attribute(5, TEMPLATE * 2)), XFRM,
     f"[{begin(316, 'XFRM_MSG_NEWPOLICY')}, {{sel={SELECTOR}, {LIFETIME}, priority=6, index=9, dir=XFRM_POLICY_OUT, "
     "action=XFRM_POLICY_BLOCK, flags=XFRM_POLICY_LOCALOK, share=XFRM_SHARE_UNIQUE}, "
     f"[{{nla_len=132, nla_type=XFRMA_TMPL}}, [{TEMPLATE_TEXT}, {TEMPLATE_TEXT}]]]"),
    # An address of no family that is said stays bytes.
    (message(30, 1, bytes(20) + struct.pack("<HBx", 0, 50) + bytes(16) + struct.pack("<II", 3, 1)), XFRM,
     f"[{begin(64, 'XFRM_MSG_NEWAE')}, {{sa_id={{daddr=\"{NONE}\", spi=htonl(0), family=AF_UNSPEC, proto=IPPROTO_ESP}}, "
     f'saddr="{NONE}", flags=XFRM_AE_RTHR|XFRM_AE_RVAL, reqid=1}}]'),
    (message(33, 1, selector(10, bytes(16), bytes(16)), struct.pack("<IB3x", 0, 0),
             attribute(17, host(1) + host(2) + host(3) + host(4) + struct.pack("<BBHIHH", 50, 0, 0, 0, 2, 10))), XFRM,
     f"[{begin(160, 'XFRM_MSG_MIGRATE')}, {{sel={SELECTOR6}, index=0, dir=XFRM_POLICY_IN}}, "
     '[{nla_len=80, nla_type=XFRMA_MIGRATE}, [{old_daddr=inet_addr("1.0.0.0"), old_saddr=inet_addr("2.0.0.0"), '
     'inet_pton(AF_INET6, "300::", &new_daddr), inet_pton(AF_INET6, "400::", &new_saddr), proto=IPPROTO_ESP, '
     "mode=XFRM_MODE_TRANSPORT, reserved=0, reqid=0, old_family=AF_INET, new_family=AF_INET6}]]]"),
    (message(1000, 0, struct.pack("<8I", 4, 1, 1, 77, 0, 64, 0, 0)), AUDIT,
     f"[{begin(48, 'AUDIT_GET', '0')}, {{mask=AUDIT_STATUS_PID, enabled=1, failure=AUDIT_FAIL_PRINTK, pid=77, "
     "rate_limit=0, backlog_limit=64, lost=0, backlog=0}]"),
    # As Linux 6.18 answered.
    (message(1000, 0, bytes.fromhex("0000000000000000010000000000000000000000400000000000000000000000"
                                    "7f000000983a000000000000")), AUDIT,
     f"[{begin(60, 'AUDIT_GET', '0')}, {{mask=0, enabled=0, failure=AUDIT_FAIL_PRINTK, pid=0, rate_limit=0, "
     f"backlog_limit=64, lost=0, backlog=0, feature_bitmap={FEATURE_BITMAP}, backlog_wait_time=15000, "
     "backlog_wait_time_actual=0}]"),
    (message(1019, 0, bytes.fromhex("01000000ffffffff0000000000000000")), AUDIT,
     f"[{begin(32, 'AUDIT_GET_FEATURE', '0')}, {{vers=1, mask=1<<AUDIT_FEATURE_ONLY_UNSET_LOGINUID|"
     "1<<AUDIT_FEATURE_LOGINUID_IMMUTABLE|0xfffffffc, features=0, lock=0}]"),
    (message(1018, 5, struct.pack("<4I", 1, 2, 2, 0)), AUDIT,
     f"[{begin(32, 'AUDIT_SET_FEATURE', 'NLM_F_REQUEST|NLM_F_ACK')}, {{vers=1, "
     "mask=1<<AUDIT_FEATURE_LOGINUID_IMMUTABLE, features=1<<AUDIT_FEATURE_LOGINUID_IMMUTABLE, lock=0}]"),
    (message(1011, 1, struct.pack("<3I", 4, 2, 1) + struct.pack("<I252x", 1 << 31) + struct.pack("<I252x", 210)
             + struct.pack("<I252x", 3) + struct.pack("<I252x", 0x40000000) + struct.pack("<I", 3), b"key"), AUDIT,
     f"[{begin(1059, 'AUDIT_ADD_RULE')}, {{flags=AUDIT_FILTER_EXIT, action=AUDIT_ALWAYS, field_count=1, "
     'mask=[2147483648], fields=[210], values=[3], fieldflags=[1073741824], buflen=3}, "key"]'),
    (message(1107, 5, b"op=login \x01 res=1\0"), AUDIT,
     f"[{begin(33, 'AUDIT_USER_AVC', 'NLM_F_REQUEST|NLM_F_ACK')}, \"op=login \\1 res=1\"]"),
    (message(16, 1, b"\0\0\0\x0a", attribute(1, struct.pack(">I", 3))) + message(17, 1, b"\0\0\0\x0a"), NETFILTER,
     f"[[{begin(28, 'NFNL_MSG_BATCH_BEGIN')}, {{nfgen_family=AF_UNSPEC, version=NFNETLINK_V0, res_id=htons(10)}}, "
     "[{nla_len=8, nla_type=NFNL_BATCH_GENID}, 3]], "
     f"[{begin(20, 'NFNL_MSG_BATCH_END')}, {{nfgen_family=AF_UNSPEC, version=NFNETLINK_V0, res_id=htons(10)}}]]"),
    (message(0xA00, 0x401, b"\1\0\0\0", attribute(1, b"t\0"), attribute(2, struct.pack(">I", 3))), NETFILTER,
     f"[{begin(36, 'NFNL_SUBSYS_NFTABLES<<8|NFT_MSG_NEWTABLE', 'NLM_F_REQUEST|NLM_F_CREATE')}, "
     "{nfgen_family=NFPROTO_INET, version=NFNETLINK_V0, res_id=htons(0)}, [[{nla_len=6, nla_type=NFTA_TABLE_NAME}, \"t\"], "
     "[{nla_len=8, nla_type=NFTA_TABLE_FLAGS}, NFT_TABLE_F_DORMANT|NFT_TABLE_F_OWNER]]]"),
    (message(0xA1A, 0x201, b"\2\0\0\0", attribute(1, b"t\0")), NETFILTER,
     f"[{begin(28, 'NFNL_SUBSYS_NFTABLES<<8|NFT_MSG_DESTROYTABLE', 'NLM_F_REQUEST|NLM_F_BULK')}, {NFGENMSG}, "
     '[{nla_len=6, nla_type=NFTA_TABLE_NAME}, "t"]]'),
    # libnftnl counts the elements of a set.
    (message(0xA0C, 1, b"\2\0\0\0", nested(3, nested(1, attribute(3, b"\0\0\0\1")),
                                           nested(2, nested(1, attribute(1, b"x"))))), NETFILTER,
     f"[{begin(52, 'NFNL_SUBSYS_NFTABLES<<8|NFT_MSG_NEWSETELEM')}, {NFGENMSG}, "
     "[{nla_len=32, nla_type=NLA_F_NESTED|NFTA_SET_ELEM_LIST_ELEMENTS}, "
     "[[{nla_len=12, nla_type=NLA_F_NESTED|NFTA_LIST_ELEM}, "
     "[{nla_len=8, nla_type=NFTA_SET_ELEM_FLAGS}, NFT_SET_ELEM_INTERVAL_END]], "
     "[{nla_len=16, nla_type=NLA_F_NESTED|0x2}, "
     '[{nla_len=12, nla_type=NLA_F_NESTED|NFTA_SET_ELEM_KEY}, [{nla_len=5, nla_type=NFTA_DATA_VALUE}, "\\x78"]]]]]]'),
    (message(0xA03, 1, b"\2\0\0\0", attribute(3, b"c\0"), attribute(5, bytes(4)),
             nested(4, attribute(1, struct.pack(">I", 1)), attribute(2, struct.pack(">i", -5)))), NETFILTER,
     f"[{begin(56, 'NFNL_SUBSYS_NFTABLES<<8|NFT_MSG_NEWCHAIN')}, {NFGENMSG}, "
     '[[{nla_len=6, nla_type=NFTA_CHAIN_NAME}, "c"], [{nla_len=8, nla_type=NFTA_CHAIN_POLICY}, NF_DROP], '
     "[{nla_len=20, nla_type=NLA_F_NESTED|NFTA_CHAIN_HOOK}, [[{nla_len=8, nla_type=NFTA_HOOK_HOOKNUM}, 1], "
     "[{nla_len=8, nla_type=NFTA_HOOK_PRIORITY}, -5]]]]]"),
    (message(0xA06, 1, b"\2\0\0\0", RULE), NETFILTER,
     f"[{begin(124, 'NFNL_SUBSYS_NFTABLES<<8|NFT_MSG_NEWRULE')}, {NFGENMSG}, "
     "[{nla_len=104, nla_type=NLA_F_NESTED|NFTA_RULE_EXPRESSIONS}, [[{nla_len=44, nla_type=NLA_F_NESTED|NFTA_LIST_ELEM}, "
     '[[{nla_len=8, nla_type=NFTA_EXPR_NAME}, "cmp"], [{nla_len=32, nla_type=NLA_F_NESTED|NFTA_EXPR_DATA}, '
     "[[{nla_len=8, nla_type=NFTA_CMP_SREG}, NFT_REG_1], [{nla_len=8, nla_type=NFTA_CMP_OP}, NFT_CMP_NEQ], "
     "[{nla_len=12, nla_type=NLA_F_NESTED|NFTA_CMP_DATA}, [{nla_len=6, nla_type=NFTA_DATA_VALUE}, \"\\x00\\x16\"]]]]]], "
     '[{nla_len=56, nla_type=NLA_F_NESTED|NFTA_LIST_ELEM}, [[{nla_len=14, nla_type=NFTA_EXPR_NAME}, "immediate"], '
     "[{nla_len=36, nla_type=NLA_F_NESTED|NFTA_EXPR_DATA}, [[{nla_len=8, nla_type=NFTA_IMMEDIATE_DREG}, "
     "NFT_REG_VERDICT], [{nla_len=24, nla_type=NLA_F_NESTED|NFTA_IMMEDIATE_DATA}, [{nla_len=20, "
     "nla_type=NLA_F_NESTED|NFTA_DATA_VERDICT}, [[{nla_len=8, nla_type=NFTA_VERDICT_CODE}, NFT_JUMP], "
     '[{nla_len=6, nla_type=NFTA_VERDICT_CHAIN}, "d"]]]]]]]]]]]'),
    # An object is of the kind that stands before it; an expression that is not known has numbers.
    (message(0xA12, 1, b"\2\0\0\0", attribute(3, struct.pack(">I", 2)), nested(4, attribute(1, struct.pack(">Q", 7)))),
     NETFILTER,
     f"[{begin(44, 'NFNL_SUBSYS_NFTABLES<<8|NFT_MSG_NEWOBJ')}, {NFGENMSG}, "
     "[[{nla_len=8, nla_type=NFTA_OBJ_TYPE}, NFT_OBJECT_QUOTA], [{nla_len=16, nla_type=NLA_F_NESTED|NFTA_OBJ_DATA}, "
     "[{nla_len=12, nla_type=NFTA_QUOTA_BYTES}, 7]]]]"),
    (message(0x102, 5, b"\2\0\0\0", nested(1, nested(1, attribute(1, bytes([10, 0, 0, 1]))),
                                           nested(2, attribute(1, b"\6"), attribute(3, b"\0\x16")))), NETFILTER,
     f"[{begin(56, 'NFNL_SUBSYS_CTNETLINK<<8|IPCTNL_MSG_CT_DELETE', 'NLM_F_REQUEST|NLM_F_ACK')}, {NFGENMSG}, "
     "[{nla_len=36, nla_type=NLA_F_NESTED|CTA_TUPLE_ORIG}, [[{nla_len=12, nla_type=NLA_F_NESTED|CTA_TUPLE_IP}, "
     '[{nla_len=8, nla_type=CTA_IP_V4_SRC}, inet_addr("10.0.0.1")]], [{nla_len=20, nla_type=NLA_F_NESTED|CTA_TUPLE_PROTO}, '
     "[[{nla_len=5, nla_type=CTA_PROTO_NUM}, IPPROTO_TCP], [{nla_len=6, nla_type=CTA_PROTO_DST_PORT}, 22]]]]]]"),
    (message(0x900, 1, b"\2\0\0\0", attribute(1, b"h\0"),
             nested(4, nested(2, attribute(1, b"p\0"), attribute(3, b"\0\0\0\x1e")))), NETFILTER,
     f"[{begin(52, 'NFNL_SUBSYS_CTHELPER<<8|NFNL_MSG_CTHELPER_NEW')}, {NFGENMSG}, "
     '[[{nla_len=6, nla_type=NFCTH_NAME}, "h"], [{nla_len=24, nla_type=NLA_F_NESTED|NFCTH_POLICY}, '
     '[{nla_len=20, nla_type=NLA_F_NESTED|NFCTH_POLICY_SET}, [[{nla_len=6, nla_type=NFCTH_POLICY_NAME}, "p"], '
     "[{nla_len=8, nla_type=NFCTH_POLICY_EXPECT_TIMEOUT}, 30]]]]]]"),
    (message(0x301, 1, b"\2\0\0\3", attribute(2, struct.pack(">II", 1, 9))), NETFILTER,
     f"[{begin(32, 'NFNL_SUBSYS_QUEUE<<8|NFQNL_MSG_VERDICT')}, {NFGENMSG.replace('(0)', '(3)')}, "
     "[{nla_len=12, nla_type=NFQA_VERDICT_HDR}, {verdict=NF_ACCEPT, id=9}]]"),
    (message(0x401, 1, b"\2\0\0\4", attribute(2, struct.pack(">IBx", 40, 2))), NETFILTER,
     f"[{begin(32, 'NFNL_SUBSYS_ULOG<<8|NFULNL_MSG_CONFIG')}, {NFGENMSG.replace('(0)', '(4)')}, "
     "[{nla_len=10, nla_type=NFULA_CFG_MODE}, {copy_range=40, copy_mode=NFULNL_COPY_PACKET}]]"),
])  # fmt: skip
def test_messages(raw, protocol, text):
    assert messages(decode_messages(raw, len(raw), protocol)) == text


def test_every_name_is_the_kernel_s():
    """What is said about an attribute is said about one that the headers have; so is the table of those inside it."""
    known = {name for table in TABLES.values() for name in table.values()}
    said = (netfilter.NESTED, netfilter.TEXT, netfilter.HOSTS, netfilter.OPAQUE, netfilter.SIGNED, netfilter.BITS,
            netfilter.NAMED, netfilter.STRUCTURES, xfrm.STRUCTURES, xfrm.ARRAYS, xfrm.TAILED, xfrm.OF_WORD, xfrm.BITS,
            xfrm.NAMED)  # fmt: skip
    assert {name for each in said for name in each} - known == set()
    assert set(netfilter.NESTED.values()) - {"*" + name for name in TABLES} - set(TABLES) == set()
    assert set(xfrm._LAYOUTS) == set(TABLES["XFRM"])


def test_padding_of_i386():
    """Attributes stand where a structure of the program's word size ends."""
    raw = message(16, 1, INFO + bytes(3), ALGORITHM)
    operation, words = BY_NAME["sendto"], [3, A, len(raw), 0, 0, 0]
    before = fetch(operation, words, reader({A: raw}), None, 32, ask=lambda _: XFRM)
    shown = arguments(decode(operation, words, before, {}, len(raw), 32))[1]
    assert shown == f"[{begin(312, 'XFRM_MSG_NEWSA')}, {INFO_TEXT}, {KEY}]"
    assert shown != messages(decode_messages(raw, len(raw), XFRM))
    inside = message(17, 1, USERSA_ID, attribute(6, INFO + bytes(3)), attribute(6, INFO + bytes(7)))
    assert messages(decode_messages(inside, len(inside), XFRM)).count(f"nla_type=XFRMA_SA}}, {INFO_TEXT}]") == 2


def test_a_record_leaves_its_header_out_of_its_length():
    """What the kernel sends to the audit daemon is longer than it says: kernel/audit.c audit_log_end."""
    text = b"audit(1700000000.000:1): a=b"
    raw = struct.pack("<IHHII", len(text), 1300, 0, 1, 0) + text
    assert messages(decode_messages(raw, len(raw), AUDIT)) == f'[{begin(28, "AUDIT_SYSCALL", "0")}, "{text.decode()}"]'
