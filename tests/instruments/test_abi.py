"""Check the i386 ABI as data: layouts, addresses, names. Numbers stand here as literals, bytes come from struct."""

from __future__ import annotations

import json
import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from probes.abi import layouts, names, options, sockaddr
from probes.abi.layouts import Layout
from tools.generate_options import Block, Headers, literal

#: The layout, its name in C, its size on i386, its members and their offsets. Checked with gcc 12.2 -m32 against the
#: headers of Linux 6.1 and glibc 2.36; `test_the_compiler_agrees` does it again where there is such a compiler.
LAYOUTS: list[tuple[Layout, str, int, dict[str, int]]] = [
    (layouts.IOVEC[32], "struct iovec", 8, {"iov_base": 0, "iov_len": 4}),
    (layouts.MSGHDR[32], "struct msghdr", 28,
     {"msg_name": 0, "msg_namelen": 4, "msg_iov": 8, "msg_iovlen": 12, "msg_control": 16, "msg_controllen": 20,
      "msg_flags": 24}),
    (layouts.MMSGHDR[32], "struct mmsghdr", 32, {"msg_hdr": 0, "msg_len": 28}),
    (layouts.CMSGHDR[32], "struct cmsghdr", 12, {"cmsg_len": 0, "cmsg_level": 4, "cmsg_type": 8}),
    (layouts.UCRED, "struct ucred", 12, {"pid": 0, "uid": 4, "gid": 8}),
    (layouts.SOCK_EXTENDED_ERR, "struct sock_extended_err", 16,
     {"ee_errno": 0, "ee_origin": 4, "ee_type": 5, "ee_code": 6, "ee_pad": 7, "ee_info": 8, "ee_data": 12}),
    (layouts.IN_PKTINFO, "struct in_pktinfo", 12, {"ipi_ifindex": 0, "ipi_spec_dst": 4, "ipi_addr": 8}),
    (layouts.IN6_PKTINFO, "struct in6_pktinfo", 20, {"ipi6_addr": 0, "ipi6_ifindex": 16}),
    (layouts.TIMEVAL[32], "struct __kernel_old_timeval", 8, {"tv_sec": 0, "tv_usec": 4}),
    (layouts.TIMESPEC[32], "struct __kernel_old_timespec", 8, {"tv_sec": 0, "tv_nsec": 4}),
    (layouts.TIMEVAL_NEW[32], "struct __kernel_sock_timeval", 16, {"tv_sec": 0, "tv_usec": 8}),
    (layouts.TIMESPEC_NEW[32], "struct __kernel_timespec", 16, {"tv_sec": 0, "tv_nsec": 8}),
    (layouts.SCM_TIMESTAMPING[32], "struct scm_timestamping", 24,
     {"ts[0].tv_sec": 0, "ts[0].tv_nsec": 4, "ts[1].tv_sec": 8, "ts[1].tv_nsec": 12, "ts[2].tv_sec": 16,
      "ts[2].tv_nsec": 20}),
    (layouts.SCM_TIMESTAMPING64[32], "struct scm_timestamping64", 48,
     {"ts[0].tv_sec": 0, "ts[0].tv_nsec": 8, "ts[1].tv_sec": 16, "ts[1].tv_nsec": 24, "ts[2].tv_sec": 32,
      "ts[2].tv_nsec": 40}),
    (layouts.LINGER, "struct linger", 8, {"l_onoff": 0, "l_linger": 4}),
    (layouts.IP_ADDRESS, "struct in_addr", 4, {"s_addr": 0}),
    (layouts.IP_MREQ, "struct ip_mreq", 8, {"imr_multiaddr": 0, "imr_interface": 4}),
    (layouts.IP_MREQN, "struct ip_mreqn", 12, {"imr_multiaddr": 0, "imr_address": 4, "imr_ifindex": 8}),
    (layouts.IP_MREQ_SOURCE, "struct ip_mreq_source", 12,
     {"imr_multiaddr": 0, "imr_interface": 4, "imr_sourceaddr": 8}),
    (layouts.IPV6_MREQ, "struct ipv6_mreq", 20, {"ipv6mr_multiaddr": 0, "ipv6mr_ifindex": 16}),
    (layouts.GROUP_REQ[32], "struct group_req", 132, {"gr_interface": 0, "gr_group": 4}),
    (layouts.GROUP_SOURCE_REQ[32], "struct group_source_req", 260,
     {"gsr_interface": 0, "gsr_group": 4, "gsr_source": 132}),
    (layouts.IP_MSFILTER[32], "struct ip_msfilter", 16,
     {"imsf_multiaddr": 0, "imsf_interface": 4, "imsf_fmode": 8, "imsf_numsrc": 12}),
    (layouts.GROUP_FILTER[32], "struct group_filter", 140,
     {"gf_interface": 0, "gf_group": 4, "gf_fmode": 132, "gf_numsrc": 136}),
    (layouts.PACKET_MREQ, "struct packet_mreq", 16, {"mr_ifindex": 0, "mr_type": 4, "mr_alen": 6, "mr_address": 8}),
    (layouts.TPACKET_AUXDATA, "struct tpacket_auxdata", 20,
     {"tp_status": 0, "tp_len": 4, "tp_snaplen": 8, "tp_mac": 12, "tp_net": 14, "tp_vlan_tci": 16, "tp_vlan_tpid": 18}),
    (layouts.TPACKET_STATS, "struct tpacket_stats", 8, {"tp_packets": 0, "tp_drops": 4}),
    (layouts.TPACKET_STATS_V3, "struct tpacket_stats_v3", 12, {"tp_packets": 0, "tp_drops": 4, "tp_freeze_q_cnt": 8}),
    (layouts.SOCK_FPROG[32], "struct sock_fprog", 8, {"len": 0, "filter": 4}),
    (layouts.EPOLL_EVENT, "struct epoll_event", 12, {"events": 0, "data": 4}),
    (layouts.POLLFD, "struct pollfd", 8, {"fd": 0, "events": 4, "revents": 6}),
    (layouts.F_OWNER_EX, "struct f_owner_ex", 8, {"type": 0, "pid": 4}),
    (layouts.IFREQ[32], "struct ifreq", 32, {"ifr_name": 0, "ifr_ifru": 16}),
    (layouts.IFCONF[32], "struct ifconf", 8, {"ifc_len": 0, "ifc_ifcu": 4}),
]  # fmt: skip
IDS = [c_name.removeprefix("struct ") for _, c_name, *_ in LAYOUTS]

#: Structures that end in an array: the layout is what stands before it.
ARRAYS = {"struct ip_msfilter": "imsf_slist", "struct group_filter": "gf_slist"}
#: What the C library declares, and what the kernel's headers do; the two do not go together in one file.
LIBC = ("sys/socket.h", "sys/uio.h")
LIBC_NAMES = ("struct iovec", "struct msghdr", "struct mmsghdr", "struct cmsghdr", "struct ucred", "struct linger")
KERNEL = ("linux/socket.h", "linux/in.h", "linux/in6.h", "linux/if_packet.h", "linux/time_types.h", "linux/ipv6.h",
          "linux/filter.h", "linux/poll.h", "linux/eventpoll.h", "linux/fcntl.h", "linux/tcp.h")  # fmt: skip
MIXED = ("time.h", "sys/socket.h", "linux/if.h", "linux/errqueue.h")
MIXED_NAMES = ("struct ifreq", "struct ifconf", "struct sock_extended_err", "struct scm_timestamping",
               "struct scm_timestamping64")  # fmt: skip


@pytest.mark.parametrize(("layout", "c_name", "size", "offsets"), LAYOUTS, ids=IDS)
def test_layout(layout: Layout, c_name: str, size: int, offsets: dict[str, int]) -> None:
    assert layout.size == size
    assert layout.offsets == list(offsets.values())


def test_every_layout_is_in_the_table() -> None:
    """TCP_INFO has no row: its size differs by kernel version, and its bit-fields have no offset in C."""
    public = [value for name, value in vars(layouts).items() if name.isupper()]
    defined = [value[32] if isinstance(value, dict) else value for value in public]
    here = {id(layout) for layout in defined if isinstance(layout, Layout)}
    assert here == {id(layout) for layout, *_ in LAYOUTS} | {id(layouts.TCP_INFO)}


#: Members of struct tcp_info with their offsets, the last one of each kernel version among them.
TCP_INFO = {"rto": 8, "total_retrans": 100, "pacing_rate": 104, "segs_out": 136, "delivery_rate": 160, "delivered": 192,
            "bytes_sent": 200, "dsack_dups": 216, "snd_wnd": 228}  # fmt: skip


def test_tcp_info_layout() -> None:
    at = dict(zip(layouts.TCP_INFO.members, layouts.TCP_INFO.offsets, strict=True))
    assert {name: at[name] for name in TCP_INFO} == TCP_INFO
    assert (at["rcv_wnd"], layouts.TCP_INFO.size) == (232, 248)


def c_program(headers: tuple[str, ...], wanted: set[str]) -> str:
    lines = ["#define _GNU_SOURCE", *(f"#include <{header}>" for header in headers)]
    for _, c_name, size, offsets in LAYOUTS:
        if c_name in wanted:
            array = ARRAYS.get(c_name)
            whole = f"__builtin_offsetof({c_name}, {array})" if array else f"sizeof({c_name})"
            lines.append(f'_Static_assert({whole} == {size}, "size of {c_name}");')
            for member, offset in offsets.items():
                lines.append(
                    f'_Static_assert(__builtin_offsetof({c_name}, {member}) == {offset}, "{c_name} {member}");'
                )
    if "linux/tcp.h" in headers and wanted:
        for member, offset in TCP_INFO.items():
            lines.append(f'_Static_assert(__builtin_offsetof(struct tcp_info, tcpi_{member}) == {offset}, "{member}");')
    return "\n".join(lines)


def compile_i386(program: str) -> subprocess.CompletedProcess[str]:
    command = ["gcc", "-m32", "-fsyntax-only", "-x", "c", "-"]
    return subprocess.run(command, input=program, capture_output=True, text=True, check=False)


def test_the_compiler_agrees() -> None:
    """Compile the numbers above with gcc -m32, where it and its headers are there."""
    everything = {c_name for _, c_name, *_ in LAYOUTS}
    kernel = everything - {*LIBC_NAMES, *MIXED_NAMES}
    files = ((LIBC, set(LIBC_NAMES)), (MIXED, set(MIXED_NAMES)), (KERNEL, kernel))
    if not shutil.which("gcc") or any(compile_i386(c_program(headers, set())).returncode for headers, _ in files):
        pytest.skip("no gcc -m32 with i386 headers (gcc-multilib): the literal numbers stand alone")
    for headers, wanted in files:
        assert compile_i386(c_program(headers, wanted)).stderr == ""


@pytest.mark.parametrize(
    ("built", "expected"),
    [
        (sockaddr.inet("127.0.0.1", 8080), struct.pack("<H", 2) + struct.pack(">H", 8080) + b"\x7f\0\0\1" + bytes(8)),
        (sockaddr.inet("255.1.2.3", 65535), b"\x02\x00\xff\xff\xff\x01\x02\x03" + bytes(8)),
        (sockaddr.inet6("::1", 53), b"\x0a\x00\x00\x35" + bytes(4) + bytes(15) + b"\x01" + bytes(4)),
        (sockaddr.inet6("fe80::2", 1, scope=3, flow=0x000ABCDE),
         b"\x0a\x00\x00\x01\x00\x0a\xbc\xde\xfe\x80" + bytes(13) + b"\x02\x03\0\0\0"),
        (sockaddr.unix("/tmp/x"), b"\x01\x00/tmp/x\x00"),
        (sockaddr.unix("/tmp/x", terminated=False), b"\x01\x00/tmp/x"),
        (sockaddr.unix(b"\xff\xfe"), b"\x01\x00\xff\xfe\x00"),
        (sockaddr.unix("\0name"), b"\x01\x00\x00name"),
        (sockaddr.unix(b"\0"), b"\x01\x00\x00"),
        (sockaddr.unix(""), b"\x01\x00"),
        (sockaddr.unix("p" * 200), b"\x01\x00" + b"p" * 200 + b"\x00"),
        (sockaddr.netlink(), b"\x10\x00" + bytes(10)),
        (sockaddr.netlink(pid=0x01020304, groups=0x80000001), b"\x10\0\0\0\x04\x03\x02\x01\x01\0\0\x80"),
        (sockaddr.packet(0x0800, 2), b"\x11\x00\x08\x00\x02\0\0\0" + bytes(12)),
        (sockaddr.unspec(), bytes(16)),
    ],
)  # fmt: skip
def test_addresses_are_built(built: bytes, expected: bytes) -> None:
    assert built == expected


IN = b"\x02\x00\x00\x50\x7f\x00\x00\x01"
IN6 = b"\x0a\x00\x00\x35" + b"\x00\x00\x00\x07" + bytes(15) + b"\x01"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", {"raw": "", "missing": 2}),
        (b"\x02", {"raw": "02", "missing": 1}),
        (b"\x02\x00", {"family": "AF_INET", "raw": "0200", "missing": 14}),
        (IN[:7], {"family": "AF_INET", "raw": "020000507f0000", "missing": 9}),
        (IN, {"family": "AF_INET", "host": "127.0.0.1", "port": 80, "missing": 8}),
        (IN + bytes(8), {"family": "AF_INET", "host": "127.0.0.1", "port": 80}),
        (IN + b"\x00" * 7 + b"\x09", {"family": "AF_INET", "host": "127.0.0.1", "port": 80, "zero": "0" * 14 + "09"}),
        (IN + bytes(11), {"family": "AF_INET", "host": "127.0.0.1", "port": 80, "leftover": 3}),
        (IN6, {"family": "AF_INET6", "host": "::1", "port": 53, "flow": 7, "scope": 0, "missing": 4}),
        (IN6 + b"\x05\0\0\0", {"family": "AF_INET6", "host": "::1", "port": 53, "flow": 7, "scope": 5}),
        (b"\x01\x00", {"family": "AF_UNIX", "unnamed": True}),
        (b"\x01\x00/a\x00", {"family": "AF_UNIX", "path": "/a"}),
        (b"\x01\x00/a", {"family": "AF_UNIX", "path": "/a", "terminated": False}),
        (b"\x01\x00/a\x00bc", {"family": "AF_UNIX", "path": "/a", "leftover": 2}),
        (b"\x01\x00\x00n\x00\xff", {"family": "AF_UNIX", "abstract": "n\\x00\\xff"}),
        (b"\x10\0\0\0\x04\0\0\0\x01\0\0\0", {"family": "AF_NETLINK", "pid": 4, "groups": 1}),
        (b"\x10\0\x07\0" + bytes(9), {"family": "AF_NETLINK", "pid": 0, "groups": 0, "pad": 7, "leftover": 1}),
        (b"\x11\0\x08\x06\x02\0\0\0\x01\0\x04\x06\xaa\xbb\xcc\xdd\xee\xff\0\0",
         {"family": "AF_PACKET", "protocol": "htons(ETH_P_ARP)", "ifindex": 2, "hatype": 1, "pkttype": 4, "halen": 6,
          "addr": "aabbccddeeff"}),
        (b"\x11\0\x08\x06\x02\0\0\0\x01\0\x04\x00",
         {"family": "AF_PACKET", "protocol": "htons(ETH_P_ARP)", "ifindex": 2, "hatype": 1, "pkttype": 4, "halen": 0,
          "addr": "", "missing": 8}),
        (b"\x28\0\0\0\x09\0\0\0\x01\0\0\0", {"family": "AF_VSOCK", "cid": 1, "port": 9, "flags": 0, "missing": 4}),
        (b"\x28\0\0\0\x09\0\0\0\x01\0\0\0\0\0\0\0", {"family": "AF_VSOCK", "cid": 1, "port": 9, "flags": 0}),
        (bytes(16), {"family": "AF_UNSPEC"}),
        (b"\0\0\x01", {"family": "AF_UNSPEC", "data": "01"}),
        (b"\x63\x00\x01\x02", {"family": 99, "data": "0102"}),
    ],
)  # fmt: skip
def test_addresses_are_decoded(raw: bytes, expected: dict[str, object]) -> None:
    assert sockaddr.describe(raw) == expected


def test_any_bytes_are_decoded() -> None:
    chance = random.Random(1)
    for _ in range(20_000):
        head = chance.choice([b"", struct.pack("<H", chance.choice([0, 1, 2, 10, 16, 17, 29, 40, 45, 46, 0xFFFF]))])
        raw = head + chance.randbytes(chance.choice([0, 1, 2, 6, 10, 14, 18, 26, 108, 126, 300]))
        json.dumps(sockaddr.describe(raw))


def test_text_of_bytes_is_unambiguous() -> None:
    assert sockaddr.printable(b'a"\\\n\r\t\x00\xff~') == 'a"\\\\\\n\\r\\t\\x00\\xff~'
    assert len({sockaddr.printable(bytes([byte])) for byte in range(256)}) == 256


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (names.family(10), "AF_INET6"),
        (names.family(46), 46),
        (names.family(0xFFFFFFFF), -1),
        (names.socktype(1), "SOCK_STREAM"),
        (names.socktype(0x80000 | 0x800 | 2), "SOCK_DGRAM|SOCK_CLOEXEC|SOCK_NONBLOCK"),
        (names.socktype(0x100 | 1), "SOCK_STREAM|0x100"),
        (names.socktype(0), 0),
        (names.socktype(15), 15),
        (names.socktype(0x80000), "0|SOCK_CLOEXEC"),
        (names.protocol(2, 6), "IPPROTO_TCP"),
        (names.protocol(10, 262), "IPPROTO_MPTCP"),
        (names.protocol(2, 200), 200),
        (names.protocol(16, 0), "NETLINK_ROUTE"),
        (names.protocol(16, 9), "NETLINK_AUDIT"),
        (names.protocol(17, 0x0300), "htons(ETH_P_ALL)"),
        (names.protocol(17, 3), 3),
        (names.protocol(29, 1), "CAN_RAW"),
        (names.protocol(29, 0), 0),
        (names.protocol(1, 0xFFFFFFFF), -1),
        (names.message_flags(0), 0),
        (names.message_flags(0x2), "MSG_PEEK"),
        (names.message_flags(0x4042), "MSG_PEEK|MSG_DONTWAIT|MSG_NOSIGNAL"),
        (names.message_flags(0xC0000000), "MSG_CMSG_CLOEXEC|MSG_CMSG_COMPAT"),
        (names.message_flags(0x00820002), "MSG_PEEK|0x820000"),
        (names.level(0), "IPPROTO_IP"),
        (names.level(1), "SOL_SOCKET"),
        (names.level(41), "IPPROTO_IPV6"),
        (names.level(263), "SOL_PACKET"),
        (names.level(270), "SOL_NETLINK"),
        (names.level(0xFFFFFFFF), -1),
        (names.option(1, 2), "SO_REUSEADDR"),
        (names.option(1, 20), "SO_RCVTIMEO_OLD"),
        (names.option(1, 66), "SO_RCVTIMEO_NEW"),
        (names.option(0, 2), "IP_TTL"),
        (names.option(0, 42), "MCAST_JOIN_GROUP"),
        (names.option(6, 1), "TCP_NODELAY"),
        (names.option(41, 26), "IPV6_V6ONLY"),
        (names.option(263, 18), "PACKET_FANOUT"),
        (names.option(270, 1), "NETLINK_ADD_MEMBERSHIP"),
        (names.option(1, 9999), 9999),
        (names.control(1, 1), "SCM_RIGHTS"),
        (names.control(1, 29), "SO_TIMESTAMP_OLD"),
        (names.control(0, 8), "IP_PKTINFO"),
        (names.file_flags(0o4002), "O_RDWR|O_NONBLOCK"),
        (names.file_flags(0), "O_RDONLY"),
        (names.value("SO_PEEK_OFF"), 42),
        (names.value("MSG_DONTWAIT"), 0x40),
        (names.value("SOCK_SEQPACKET"), 5),
        (names.value("SCM_CREDENTIALS"), 2),
    ],
)
def test_names(name: object, expected: object) -> None:
    assert name == expected


def test_no_name_stands_for_two_numbers() -> None:
    """`names.value` finds one number for a name."""
    per_level = (*options.OPTIONS.values(), *options.CONTROL.values())
    flat = [table for name, table in vars(options).items() if name.isupper() and name not in ("OPTIONS", "CONTROL")]
    numbers: dict[str, set[int]] = {}
    for table in (*flat, *per_level):
        for number, name in table.items():
            numbers.setdefault(name, set()).add(number)
    assert len(flat) == 9
    assert {name: found for name, found in numbers.items() if len(found) > 1} == {}


HEADER = """
/* #define NOT_THIS 9 */
#define X_ONE 1 /* a comment
                   of two lines */
#define X_ALIAS X_ONE
#  define X_HEX 0x10U
#define X_SUM (X_HEX + 2)
#define X_NOT_A_NUMBER (sizeof(int))
#define X_MACRO(a) 3
enum x {
    X_FIRST,
    X_SECOND = 7,
#define X_SECOND X_SECOND
    X_THIRD
};
"""


def test_the_generator_reads_headers(tmp_path: Path) -> None:
    (tmp_path / "x.h").write_text(HEADER)
    headers = Headers(tmp_path)
    assert headers.table((Block("x.h", "X_ONE", "X_THIRD"),)) == {
        0: "X_FIRST", 1: "X_ONE", 7: "X_SECOND", 8: "X_THIRD", 16: "X_HEX", 18: "X_SUM"}  # fmt: skip
    assert headers.table((Block("x.h", "X_HEX", "X_SUM", "X_S"),)) == {18: "X_SUM"}
    assert literal({16: "X_HEX"}, 0, True) == '{\n    0x10: "X_HEX",\n}'
