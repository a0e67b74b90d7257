"""The i386 ABI as data: layouts, addresses, names. Numbers stand here as literals, bytes come from struct."""

from __future__ import annotations

import ctypes
import json
import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from probes.abi import layouts, names, options, sockaddr
from tools.generate_options import Block, Headers, literal

#: The structure, its name in C, its size on i386, its members and their offsets. Checked with gcc 12.2 -m32 against
#: the headers of Linux 6.1 and glibc 2.36; `test_the_compiler_agrees` does it again where there is such a compiler.
LAYOUTS: list[tuple[type[layouts.I386], str, int, dict[str, int]]] = [
    (layouts.Sockaddr, "struct sockaddr", 16, {"sa_family": 0, "sa_data": 2}),
    (layouts.SockaddrIn, "struct sockaddr_in", 16, {"sin_family": 0, "sin_port": 2, "sin_addr": 4, "sin_zero": 8}),
    (layouts.SockaddrIn6, "struct sockaddr_in6", 28,
     {"sin6_family": 0, "sin6_port": 2, "sin6_flowinfo": 4, "sin6_addr": 8, "sin6_scope_id": 24}),
    (layouts.SockaddrUn, "struct sockaddr_un", 110, {"sun_family": 0, "sun_path": 2}),
    (layouts.SockaddrNl, "struct sockaddr_nl", 12, {"nl_family": 0, "nl_pad": 2, "nl_pid": 4, "nl_groups": 8}),
    (layouts.SockaddrLl, "struct sockaddr_ll", 20,
     {"sll_family": 0, "sll_protocol": 2, "sll_ifindex": 4, "sll_hatype": 8, "sll_pkttype": 10, "sll_halen": 11,
      "sll_addr": 12}),
    (layouts.SockaddrVm, "struct sockaddr_vm", 16,
     {"svm_family": 0, "svm_reserved1": 2, "svm_port": 4, "svm_cid": 8, "svm_flags": 12, "svm_zero": 13}),
    (layouts.SockaddrStorage, "struct __kernel_sockaddr_storage", 128, {"ss_family": 0, "ss_data": 2}),
    (layouts.Iovec, "struct iovec", 8, {"iov_base": 0, "iov_len": 4}),
    (layouts.Msghdr, "struct msghdr", 28,
     {"msg_name": 0, "msg_namelen": 4, "msg_iov": 8, "msg_iovlen": 12, "msg_control": 16, "msg_controllen": 20,
      "msg_flags": 24}),
    (layouts.Mmsghdr, "struct mmsghdr", 32, {"msg_hdr": 0, "msg_len": 28}),
    (layouts.Cmsghdr, "struct cmsghdr", 12, {"cmsg_len": 0, "cmsg_level": 4, "cmsg_type": 8}),
    (layouts.Ucred, "struct ucred", 12, {"pid": 0, "uid": 4, "gid": 8}),
    (layouts.Timeval, "struct __kernel_old_timeval", 8, {"tv_sec": 0, "tv_usec": 4}),
    (layouts.Timespec, "struct __kernel_old_timespec", 8, {"tv_sec": 0, "tv_nsec": 4}),
    (layouts.SockTimeval, "struct __kernel_sock_timeval", 16, {"tv_sec": 0, "tv_usec": 8}),
    (layouts.Linger, "struct linger", 8, {"l_onoff": 0, "l_linger": 4}),
    (layouts.IpMreq, "struct ip_mreq", 8, {"imr_multiaddr": 0, "imr_interface": 4}),
    (layouts.IpMreqn, "struct ip_mreqn", 12, {"imr_multiaddr": 0, "imr_address": 4, "imr_ifindex": 8}),
    (layouts.IpMreqSource, "struct ip_mreq_source", 12,
     {"imr_multiaddr": 0, "imr_interface": 4, "imr_sourceaddr": 8}),
    (layouts.InPktinfo, "struct in_pktinfo", 12, {"ipi_ifindex": 0, "ipi_spec_dst": 4, "ipi_addr": 8}),
    (layouts.Ipv6Mreq, "struct ipv6_mreq", 20, {"ipv6mr_multiaddr": 0, "ipv6mr_ifindex": 16}),
    (layouts.In6Pktinfo, "struct in6_pktinfo", 20, {"ipi6_addr": 0, "ipi6_ifindex": 16}),
    (layouts.GroupReq, "struct group_req", 132, {"gr_interface": 0, "gr_group": 4}),
    (layouts.GroupSourceReq, "struct group_source_req", 260, {"gsr_interface": 0, "gsr_group": 4, "gsr_source": 132}),
    (layouts.PacketMreq, "struct packet_mreq", 16, {"mr_ifindex": 0, "mr_type": 4, "mr_alen": 6, "mr_address": 8}),
    (layouts.SockFprog, "struct sock_fprog", 8, {"len": 0, "filter": 4}),
    (layouts.SockFilter, "struct sock_filter", 8, {"code": 0, "jt": 2, "jf": 3, "k": 4}),
    (layouts.SockExtendedErr, "struct sock_extended_err", 16,
     {"ee_errno": 0, "ee_origin": 4, "ee_type": 5, "ee_code": 6, "ee_pad": 7, "ee_info": 8, "ee_data": 12}),
    (layouts.Pollfd, "struct pollfd", 8, {"fd": 0, "events": 4, "revents": 6}),
    (layouts.FdSet, "__kernel_fd_set", 128, {"fds_bits": 0}),
    (layouts.PselectSigmask, "", 8, {"ss": 0, "ss_len": 4}),
    (layouts.FOwnerEx, "struct f_owner_ex", 8, {"type": 0, "pid": 4}),
    (layouts.Ifmap, "struct ifmap", 16,
     {"mem_start": 0, "mem_end": 4, "base_addr": 8, "irq": 10, "dma": 11, "port": 12}),
    (layouts.Ifreq, "struct ifreq", 32, {"ifr_name": 0, "ifr_ifru": 16}),
    (layouts.Ifconf, "struct ifconf", 8, {"ifc_len": 0, "ifc_buf": 4}),
]  # fmt: skip
IDS = [layout.__name__ for layout, *_ in LAYOUTS]

#: What the C library declares, and what the kernel's headers do; the two do not go together in one file.
LIBC = ("sys/socket.h", "sys/uio.h")
LIBC_NAMES = ("struct iovec", "struct msghdr", "struct mmsghdr", "struct cmsghdr", "struct ucred", "struct linger",
              "struct sockaddr")  # fmt: skip
KERNEL = ("linux/socket.h", "linux/in.h", "linux/in6.h", "linux/un.h", "linux/netlink.h", "linux/if_packet.h",
          "linux/time_types.h", "linux/ipv6.h", "linux/filter.h", "linux/posix_types.h", "linux/poll.h",
          "linux/fcntl.h")  # fmt: skip
MIXED = ("time.h", "sys/socket.h", "linux/vm_sockets.h", "linux/if.h", "linux/errqueue.h")
MIXED_NAMES = ("struct sockaddr_vm", "struct ifreq", "struct ifmap", "struct ifconf", "struct sock_extended_err")
#: Members that C calls otherwise.
C_MEMBERS = {"ss_data": "__data"}


@pytest.mark.parametrize(("layout", "c_name", "size", "offsets"), LAYOUTS, ids=IDS)
def test_layout(layout: type[layouts.I386], c_name: str, size: int, offsets: dict[str, int]) -> None:
    assert ctypes.sizeof(layout) == size
    assert {name: getattr(layout, name).offset for name in offsets} == offsets
    assert {name for name, *_ in layout._fields_} - set(offsets) <= {"pad"}


def test_every_layout_is_in_the_table() -> None:
    assert set(layouts.I386.__subclasses__()) == {layout for layout, *_ in LAYOUTS}


def c_program(headers: tuple[str, ...], wanted: set[str]) -> str:
    lines = ["#define _GNU_SOURCE", *(f"#include <{header}>" for header in headers)]
    for _, c_name, size, offsets in LAYOUTS:
        if c_name in wanted:
            lines.append(f'_Static_assert(sizeof({c_name}) == {size}, "size of {c_name}");')
            for member, offset in offsets.items():
                there = f"__builtin_offsetof({c_name}, {C_MEMBERS.get(member, member)})"
                lines.append(f'_Static_assert({there} == {offset}, "{c_name} {member}");')
    return "\n".join(lines)


def compile_i386(program: str) -> subprocess.CompletedProcess[str]:
    command = ["gcc", "-m32", "-fsyntax-only", "-x", "c", "-"]
    return subprocess.run(command, input=program, capture_output=True, text=True, check=False)


def test_the_compiler_agrees() -> None:
    """The numbers above, said by gcc -m32 where it and its headers are there; where not, they stand as they are."""
    everything = {c_name for _, c_name, *_ in LAYOUTS if c_name}
    kernel = everything - {*LIBC_NAMES, *MIXED_NAMES}
    files = ((LIBC, set(LIBC_NAMES)), (MIXED, set(MIXED_NAMES)), (KERNEL, kernel))
    if not shutil.which("gcc") or any(compile_i386(c_program(headers, set())).returncode for headers, _ in files):
        pytest.skip("no gcc -m32 with i386 headers (gcc-multilib): the literal numbers stand alone")
    for headers, wanted in files:
        assert compile_i386(c_program(headers, wanted)).stderr == ""


def test_layouts_fill_in_the_byte_order_of_the_abi() -> None:
    address = layouts.SockaddrIn(sin_family=2, sin_port=0x1F90)
    address.sin_addr[:] = [127, 0, 0, 1]
    assert bytes(address) == b"\x02\x00\x1f\x90\x7f\x00\x00\x01" + bytes(8)
    assert bytes(layouts.Ifreq(ifr_name=b"lo", ifr_flags=0x41)) == b"lo" + bytes(14) + b"\x41" + bytes(15)


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
    ("raw", "told"),
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
def test_addresses_are_told(raw: bytes, told: dict[str, object]) -> None:
    assert sockaddr.describe(raw) == told


def test_no_bytes_are_too_odd_to_be_told() -> None:
    chance = random.Random(1)
    for _ in range(20_000):
        head = chance.choice([b"", struct.pack("<H", chance.choice([0, 1, 2, 10, 16, 17, 29, 40, 45, 46, 0xFFFF]))])
        raw = head + chance.randbytes(chance.choice([0, 1, 2, 6, 10, 14, 18, 26, 108, 126, 300]))
        json.dumps(sockaddr.describe(raw))


def test_text_of_bytes_is_unambiguous() -> None:
    assert sockaddr.printable(b'a"\\\n\r\t\x00\xff~') == 'a"\\\\\\n\\r\\t\\x00\\xff~'
    assert len({sockaddr.printable(bytes([byte])) for byte in range(256)}) == 256


@pytest.mark.parametrize(
    ("told", "expected"),
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
def test_names(told: object, expected: object) -> None:
    assert told == expected


def test_no_name_stands_for_two_numbers() -> None:
    """`value` may answer with one number only."""
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
