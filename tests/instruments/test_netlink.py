"""Tests how messages of netlink are decoded and written, by what strace 6.1 prints for the same bytes."""

import json
import random
import struct

import pytest

from probes.abi.decode import decode
from probes.abi.fetch import fetch
from probes.abi.interfaces import has_index, with_names
from probes.abi.netlink import decode_messages
from probes.abi.operations import BY_NAME
from probes.abi.strace_netlink import messages
from probes.abi.strace_notation import arguments
from tests.instruments.decoding import A, reader

ROUTE, DIAG, NETFILTER, GENERIC = 0, 4, 12, 16
HEADER = "nlmsg_seq=1, nlmsg_pid=0}"


def message(number, flags, *parts, seq=1, pid=0):
    """Pack a message."""
    payload = b"".join(parts)
    return struct.pack("<IHHII", 16 + len(payload), number, flags, seq, pid) + payload


def attribute(number, value):
    """Pack an attribute, with its padding."""
    return struct.pack("<HH", 4 + len(value), number) + value.ljust((len(value) + 3) & ~3, b"\0")


LINK = struct.pack("<BxHiII", 0, 772, 1, 0x10049, 0)
NESTED = attribute(18, attribute(1, b"veth\0"))


@pytest.mark.parametrize(("raw", "protocol", "text"), [
    (message(18, 0x301, LINK[:1]), ROUTE,
     f"[{{nlmsg_len=17, nlmsg_type=RTM_GETLINK, nlmsg_flags=NLM_F_REQUEST|NLM_F_DUMP, {HEADER}, "
     "{ifi_family=AF_UNSPEC, ...}]"),
    (message(16, 0x605, LINK, attribute(3, b"lo\0"), NESTED), ROUTE,
     "[{nlmsg_len=56, nlmsg_type=RTM_NEWLINK, nlmsg_flags=NLM_F_REQUEST|NLM_F_ACK|NLM_F_EXCL|NLM_F_CREATE, "
     f"{HEADER}, {{ifi_family=AF_UNSPEC, ifi_type=ARPHRD_LOOPBACK, ifi_index=1, "
     "ifi_flags=IFF_UP|IFF_LOOPBACK|IFF_RUNNING|IFF_LOWER_UP, ifi_change=0}, "
     '[[{nla_len=7, nla_type=IFLA_IFNAME}, "lo"], '
     '[{nla_len=16, nla_type=IFLA_LINKINFO}, [{nla_len=9, nla_type=IFLA_INFO_KIND}, "veth"]]]]'),
    (message(20, 2, struct.pack("<BBBBI", 2, 8, 0x80, 254, 1), attribute(1, bytes([127, 0, 0, 1]))), ROUTE,
     f"[{{nlmsg_len=32, nlmsg_type=RTM_NEWADDR, nlmsg_flags=NLM_F_MULTI, {HEADER}, {{ifa_family=AF_INET, "
     "ifa_prefixlen=8, ifa_flags=IFA_F_PERMANENT, ifa_scope=RT_SCOPE_HOST, ifa_index=1}, "
     '[{nla_len=8, nla_type=IFA_ADDRESS}, inet_addr("127.0.0.1")]]'),
    (message(25, 1, bytes([10, 0, 0, 0, 254, 3, 253, 1]) + bytes(4), attribute(0x8008, attribute(2, b"\x78\5\0\0"))),
     ROUTE,
     f"[{{nlmsg_len=40, nlmsg_type=RTM_DELROUTE, nlmsg_flags=NLM_F_REQUEST, {HEADER}, {{rtm_family=AF_INET6, "
     "rtm_dst_len=0, rtm_src_len=0, rtm_tos=0, rtm_table=RT_TABLE_MAIN, rtm_protocol=RTPROT_BOOT, "
     "rtm_scope=RT_SCOPE_LINK, rtm_type=RTN_UNICAST, rtm_flags=0}, "
     "[{nla_len=12, nla_type=NLA_F_NESTED|RTA_METRICS}, [{nla_len=8, nla_type=RTAX_MTU}, 1400]]]"),
    (message(3, 2, struct.pack("<i", 0)), ROUTE,
     f"[{{nlmsg_len=20, nlmsg_type=NLMSG_DONE, nlmsg_flags=NLM_F_MULTI, {HEADER}, 0]"),
    (message(2, 0x100, struct.pack("<i", -19), message(17, 5)), ROUTE,
     f"[{{nlmsg_len=36, nlmsg_type=NLMSG_ERROR, nlmsg_flags=NLM_F_CAPPED, {HEADER}, {{error=-ENODEV, "
     f"msg={{nlmsg_len=16, nlmsg_type=RTM_DELLINK, nlmsg_flags=NLM_F_REQUEST|NLM_F_ACK, {HEADER}}}]"),
    (message(2, 0, struct.pack("<i", -19), message(17, 5, LINK), b""), ROUTE,
     f"[{{nlmsg_len=52, nlmsg_type=NLMSG_ERROR, nlmsg_flags=0, {HEADER}, {{error=-ENODEV, "
     f"msg=[{{nlmsg_len=32, nlmsg_type=RTM_DELLINK, nlmsg_flags=NLM_F_REQUEST|NLM_F_ACK, {HEADER}, "
     "{ifi_family=AF_UNSPEC, ifi_type=ARPHRD_LOOPBACK, ifi_index=1, "
     "ifi_flags=IFF_UP|IFF_LOOPBACK|IFF_RUNNING|IFF_LOWER_UP, ifi_change=0}]}]"),
    (message(2, 0x300, struct.pack("<i", -22), message(17, 5), attribute(1, b"no\0")), ROUTE,
     f"[{{nlmsg_len=44, nlmsg_type=NLMSG_ERROR, nlmsg_flags=NLM_F_CAPPED|NLM_F_ACK_TLVS, {HEADER}, {{error=-EINVAL, "
     f"msg={{nlmsg_len=16, nlmsg_type=RTM_DELLINK, nlmsg_flags=NLM_F_REQUEST|NLM_F_ACK, {HEADER}}}, "
     '[{nla_len=7, nla_type=NLMSGERR_ATTR_MSG}, "no"]]'),
    (message(20, 0x301, struct.pack("<BBHIII8x", 1, 0, 0, 1 << 10, 0, 5)), DIAG,
     f"[{{nlmsg_len=40, nlmsg_type=SOCK_DIAG_BY_FAMILY, nlmsg_flags=NLM_F_REQUEST|NLM_F_DUMP, {HEADER}, "
     "{sdiag_family=AF_UNIX, sdiag_protocol=0, udiag_states=1<<TCP_LISTEN, udiag_ino=0, "
     "udiag_show=UDIAG_SHOW_NAME|UDIAG_SHOW_PEER, udiag_cookie=[0, 0]}]"),
    (message(16, 5, b"\3\1\0\0", attribute(2, b"nlctrl\0")), GENERIC,
     f"[{{nlmsg_len=32, nlmsg_type=nlctrl, nlmsg_flags=NLM_F_REQUEST|NLM_F_ACK, {HEADER}, "
     '{cmd=CTRL_CMD_GETFAMILY, version=1}, [{nla_len=11, nla_type=CTRL_ATTR_FAMILY_NAME}, "nlctrl"]]'),
    (message(0xA01, 1, b"\2\0\0\7"), NETFILTER,
     f"[{{nlmsg_len=20, nlmsg_type=NFNL_SUBSYS_NFTABLES<<8|NFT_MSG_GETTABLE, nlmsg_flags=NLM_F_REQUEST, {HEADER}, "
     "{nfgen_family=AF_INET, version=NFNETLINK_V0, res_id=htons(7)}]"),
    # What is cut, or no message, has dots.
    (message(3, 0, bytes(4)) + message(3, 0, bytes(4))[:18], ROUTE,
     f"[[{{nlmsg_len=20, nlmsg_type=NLMSG_DONE, nlmsg_flags=0, {HEADER}, 0], "
     f"{{nlmsg_len=20, nlmsg_type=NLMSG_DONE, nlmsg_flags=0, {HEADER}, ...]"),
    (message(3, 0)[:10], ROUTE, "[...]"),
])  # fmt: skip
def test_messages(raw, protocol, text):
    assert messages(decode_messages(raw, len(raw), protocol)) == text


def test_an_answer_about_a_tcp_socket():
    """The addresses are those of the family, the ports in the order of the host."""
    body = struct.pack("<4B", 2, 10, 0, 0) + struct.pack(">HH", 22, 0) + bytes([127, 0, 0, 1]) + bytes(28) + bytes(32)
    found = messages(decode_messages(message(20, 2, body), 16 + len(body), DIAG))
    assert "idiag_state=TCP_LISTEN" in found
    assert 'idiag_sport=htons(22), idiag_dport=htons(0), idiag_src=inet_addr("127.0.0.1")' in found


def test_any_bytes_are_decoded():
    """Attributes without end, too deep, or in random bytes raise nothing and become JSON."""
    chance = random.Random(19)
    deep = b""
    for _ in range(2000):
        deep = attribute(0x8001, deep[-60000:])
    for protocol in (ROUTE, DIAG, 6, 9, NETFILTER, GENERIC, 77):
        for number in (
            0,
            2,
            3,
            *range(16, 41),
            64,
            80,
            104,
            1000,
            1011,
            1107,
            0x102,
            0x302,
            0x402,
            *range(0xA00, 0xA16),
        ):
            for length in (0, 1, 4, 7, 12, 40, 90, 230, 300):
                raw = message(number, chance.randrange(1 << 16), chance.randbytes(length))
                decoded = decode_messages(raw, len(raw) + 3, protocol, 32)
                assert json.dumps(decoded) and messages(decoded)
        assert messages(decode_messages(message(16, 0, LINK, deep), 16 + len(LINK) + len(deep), protocol))


def sent(raw, ask, limit=65536):
    """Return the arguments of sendto of some bytes, by a descriptor that `ask` answers for."""
    operation, words = BY_NAME["sendto"], [3, A, len(raw), 0, 0, 0]
    before = fetch(operation, words, reader({A: raw[:limit]}), None, 32, ask=ask)
    return decode(operation, words, before, {}, len(raw), 32)


def test_only_a_socket_of_netlink_is_decoded():
    """The descriptor is asked only where the data begins with a length that fits; messages are copied whole."""
    asked = []

    def ask(number):
        asked.append(number)
        return ROUTE if number == 3 else None

    raw = message(16, 0, LINK, attribute(3, b"lo\0"), attribute(20, b"x" * 100))
    assert arguments(sent(raw, ask))[1].endswith(f'IFLA_IFALIAS}}, "{"x" * 100}"...]]]')
    assert asked == [3]
    assert (
        "netlink" not in sent(raw, lambda _: None)["buf"] and sent(raw, lambda _: None)["buf"]["more"] == len(raw) - 64
    )
    assert "netlink" not in sent(b"GET / HTTP/1.1\r\n\r\n", ask)["buf"] and asked == [3]


def test_names_of_interfaces():
    """An index has the name of its interface, where that is known; others and zero stay numbers."""
    decoded = [
        {"family": "AF_INET6", "host": "fe80::1", "port": 1, "flow": 0, "scope": 1},
        {"family": "AF_INET6", "host": "::1", "port": 1, "flow": 0, "scope": 1},
        {"ifindex": 1, "other": 1},
        {"ifi_index": 2},
        {"type": "RTA_OIF", "value": 1},
        {"type": "RTA_PRIORITY", "value": 1},
        {"ifindex": 0},
    ]
    assert [has_index(each) for each in decoded] == [True, False, True, True, True, False, False]
    named = with_names(decoded, {1: "lo"}.get)
    assert [list(each.values())[-1] for each in named[:2]] == ['if_nametoindex("lo")', 1]
    assert named[2:] == [{"ifindex": 'if_nametoindex("lo")', "other": 1}, {"ifi_index": 2},
                         {"type": "RTA_OIF", "value": 'if_nametoindex("lo")'}, *decoded[5:]]  # fmt: skip
