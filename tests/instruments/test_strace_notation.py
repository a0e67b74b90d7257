"""Tests the notation of strace, by what strace 6.1 prints for the same calls."""

import errno
import struct

import pytest

from probes.abi.decode import decode
from probes.abi.fetch import fetch
from probes.abi.operations import BY_NAME
from probes.abi.strace_notation import arguments, auxiliary, outcome
from probes.abi.strace_text import quoted
from tests.instruments.decoding import LOCAL, A, B, C, i32, reader, u32

IN6 = struct.pack("<H", 10) + struct.pack(">HI", 80, 0) + bytes(15) + b"\1" + struct.pack("<I", 2)
HOST = 'sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}'


def written(op, words, before=None, ret=0, after=None):
    """Return a call as it is written."""
    before, operation = before or {}, BY_NAME[op]
    entry = fetch(operation, words, reader(before), None, 32)
    leave = fetch(operation, words, reader({**before, **(after or {})}), ret, 32)
    decoded = decode(operation, words, entry, leave, ret, 32)
    return f"{op}({', '.join(arguments(decoded))}) = {outcome(ret)}{auxiliary(op, decoded, ret)}"


@pytest.mark.parametrize(("call", "text"), [
    (("socket", [2, 0x80002, 17], {}, 3), "socket(AF_INET, SOCK_DGRAM|SOCK_CLOEXEC, IPPROTO_UDP) = 3"),
    (("bind", [3, A, 16], {A: LOCAL}), f"bind(3, {{sa_family=AF_INET, {HOST}, 16) = 0"),
    (("bind", [3, A, 28], {A: IN6}), "bind(3, {sa_family=AF_INET6, sin6_port=htons(80), sin6_flowinfo=htonl(0), "
     'inet_pton(AF_INET6, "::1", &sin6_addr), sin6_scope_id=2}, 28) = 0'),
    (("connect", [3, A, 5], {A: b"\1\0/\xff"}), 'connect(3, {sa_family=AF_UNIX, sun_path="/\\377"}, 5) = 0'),
    (("connect", [3, A, 5], {A: b"\1\0\0ab"}), 'connect(3, {sa_family=AF_UNIX, sun_path=@"ab"}, 5) = 0'),
    (("bind", [3, A, 12], {A: struct.pack("<HHII", 16, 0, 5, 0x11)}),
     "bind(3, {sa_family=AF_NETLINK, nl_pid=5, nl_groups=00000011}, 12) = 0"),
    (("accept", [3, A, B], {B: i32(128)}, 4, {A: LOCAL, B: i32(16)}),
     f"accept(3, {{sa_family=AF_INET, {HOST}, [128 => 16]) = 4"),
    (("accept", [3, 0, 0], {}, -errno.EAGAIN), "accept(3, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable)"),
    (("getsockname", [3, A, B], {B: i32(16)}, 0, {A: LOCAL, B: i32(16)}),
     f"getsockname(3, {{sa_family=AF_INET, {HOST}, [16]) = 0"),
    (("recv", [3, A, 64, 0x40], {}, -512),
     "recv(3, 0x1000, 64, MSG_DONTWAIT) = ? ERESTARTSYS (To be restarted if SA_RESTART is set)"),
    (("recv", [3, A, 64, 0], {}, 3, {A: b"a\n0"}), 'recv(3, "a\\n0", 64, 0) = 3'),
    (("setsockopt", [3, 1, 2, A, 4], {A: i32(1)}), "setsockopt(3, SOL_SOCKET, SO_REUSEADDR, [1], 4) = 0"),
    (("setsockopt", [3, 1, 13, A, 8], {A: i32(1, 5)}),
     "setsockopt(3, SOL_SOCKET, SO_LINGER, {l_onoff=1, l_linger=5}, 8) = 0"),
    (("getsockopt", [3, 6, 1, A, B], {B: i32(4)}, 0, {A: i32(0), B: i32(4)}),
     "getsockopt(3, SOL_TCP, TCP_NODELAY, [0], [4]) = 0"),
    (("socketpair", [1, 1, 0, A], {}, 0, {A: i32(3, 4)}), "socketpair(AF_UNIX, SOCK_STREAM, 0, [3, 4]) = 0"),
    (("shutdown", [3, 1]), "shutdown(3, SHUT_WR) = 0"),
    (("sendmsg", [3, A, 0], {A: u32(0, 0, B, 1, 0, 0, 0), B: u32(C, 2), C: b"hi"}, 2),
     'sendmsg(3, {msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base="hi", iov_len=2}], msg_iovlen=1, msg_controllen=0, '
     "msg_flags=0}, 0) = 2"),
    (("sendmsg", [3, A, 0], {A: u32(0, 0, B, 1, C + 64, 16, 0), B: u32(C, 2), C: b"hi", C + 64: u32(16, 1, 1, 7)}, 2),
     'sendmsg(3, {msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base="hi", iov_len=2}], msg_iovlen=1, msg_control=[{'
     "cmsg_len=16, cmsg_level=SOL_SOCKET, cmsg_type=SCM_RIGHTS, cmsg_data=[7]}], msg_controllen=16, msg_flags=0}, 0) = 2"),
    (("socket", [31, 1, 3], {}, 3), "socket(AF_BLUETOOTH, SOCK_STREAM, BTPROTO_RFCOMM) = 3"),
    (("socket", [17, 2, 0xDD8E], {}, 3), "socket(AF_PACKET, SOCK_DGRAM, htons(0x8edd)) = 3"),
    (("connect", [3, A, 16], {A: struct.pack("<HHII4x", 40, 0, 1234, 2)}),
     "connect(3, {sa_family=AF_VSOCK, svm_cid=VMADDR_CID_HOST, svm_port=0x4d2, svm_flags=0}, 16) = 0"),
    (("connect", [3, A, 14], {A: struct.pack("<HH6sHBx", 31, 1, b"\1\2\3\4\5\6", 4, 1)}),
     "connect(3, {sa_family=AF_BLUETOOTH, l2_psm=htobs(L2CAP_PSM_SDP), l2_bdaddr=01:02:03:04:05:06, "
     "l2_cid=htobs(L2CAP_CID_ATT), l2_bdaddr_type=BDADDR_LE_PUBLIC}, 14) = 0"),
    (("connect", [3, A, 10], {A: struct.pack("<H6sBx", 31, b"\1\2\3\4\5\6", 3)}),
     "connect(3, {sa_family=AF_BLUETOOTH, rc_bdaddr=01:02:03:04:05:06, rc_channel=3}, 10) = 0"),
    (("bind", [3, A, 6], {A: struct.pack("<HHH", 31, 0, 1)}),
     "bind(3, {sa_family=AF_BLUETOOTH, hci_dev=htobs(0), hci_channel=HCI_CHANNEL_USER}, 6) = 0"),
    (("bind", [3, A, 88], {A: struct.pack("<H14sII64s", 38, b"hash", 0, 0, b"sha256")}),
     'bind(3, {sa_family=AF_ALG, salg_type="hash", salg_feat=0, salg_mask=0, salg_name="sha256"}, 88) = 0'),
    (("bind", [3, A, 12], {A: struct.pack("<HHII", 42, 0, 1, 2)}),
     "bind(3, {sa_family=AF_QIPCRTR, sq_node=0x1, sq_port=0x2}, 12) = 0"),
    (("bind", [3, A, 16], {A: struct.pack("<HHIII", 44, 1, 1, 2, 3)}), "bind(3, {sa_family=AF_XDP, "
     "sxdp_flags=XDP_SHARED_UMEM, sxdp_ifindex=1, sxdp_queue_id=2, sxdp_shared_umem_fd=3}, 16) = 0"),
    (("bind", [3, A, 18], {A: struct.pack("<H16s", 9, b"12345")}),
     'bind(3, {sa_family=AF_X25, sx25_addr={x25_addr="12345"}}, 18) = 0'),
    (("setsockopt", [3, 263, 1, A, 16], {A: struct.pack("<iHH8s", 1, 0, 6, b"abcdef")}),
     "setsockopt(3, SOL_PACKET, PACKET_ADD_MEMBERSHIP, {mr_ifindex=1, mr_type=PACKET_MR_MULTICAST, mr_alen=6, "
     "mr_address=61:62:63:64:65:66}, 16) = 0"),
    (("setsockopt", [3, 41, 20, A, 20], {A: bytes(15) + b"\1" + i32(2)}), "setsockopt(3, SOL_IPV6, IPV6_ADD_MEMBERSHIP, "
     '{inet_pton(AF_INET6, "::1", &ipv6mr_multiaddr), ipv6mr_interface=2}, 20) = 0'),
    (("setsockopt", [3, 0, 35, A, 8], {A: bytes([224, 0, 0, 9]) + bytes(4)}), "setsockopt(3, SOL_IP, IP_ADD_MEMBERSHIP, "
     '{imr_multiaddr=inet_addr("224.0.0.9"), imr_interface=inet_addr("0.0.0.0")}, 8) = 0'),
    (("sendmsg", [3, A, 0], {A: u32(0, 0, 0, 0, C, 36, 0), C: u32(36, 1, 37, 5, 6, 0, 0, 0, 0)}, 0),
     "sendmsg(3, {msg_name=NULL, msg_namelen=0, msg_iov=NULL, msg_iovlen=0, msg_control=[{cmsg_len=36, "
     "cmsg_level=SOL_SOCKET, cmsg_type=SO_TIMESTAMPING_OLD, cmsg_data=[{tv_sec=5, tv_nsec=6}, {tv_sec=0, tv_nsec=0}, "
     "{tv_sec=0, tv_nsec=0}]}], msg_controllen=36, msg_flags=0}, 0) = 0"),
    (("recvmsg", [3, A, 0], {A: u32(0, 0, B, 1, 0, 0, 0), B: u32(C, 2)}, 0, {A: u32(0, 0, B, 1, 0, 0, 0)}),
     'recvmsg(3, {msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base="", iov_len=2}], msg_iovlen=1, msg_controllen=0, '
     "msg_flags=0}, 0) = 0"),
    # What was cut has dots: arrays longer than what is copied of them.
    (("poll", [A, 9, 5], {A: struct.pack("<iHH", 3, 1, 0) * 9}, 0), "poll(["
     + "{fd=3, events=POLLIN}, " * 8 + "...], 9, 5) = 0"),
    (("writev", [3, A, 5], {A: u32(B, 1) * 5, B: b"x"}, 5), "writev(3, ["
     + '{iov_base="x", iov_len=1}, ' * 4 + "...], 5) = 5"),
    (("_newselect", [900, A, 0, 0, B], {A: b"\1" + bytes(119), B: i32(1, 2)}, 1, {A: b"\1" + bytes(119)}),
     "_newselect(900, [0 ...], NULL, NULL, {tv_sec=1, tv_usec=2}) = 1 (in [0], left {tv_sec=1, tv_usec=2})"),
    (("poll", [A, 1, 5], {A: struct.pack("<iHH", 3, 1, 0)}, 1, {A: struct.pack("<iHH", 3, 1, 1)}),
     "poll([{fd=3, events=POLLIN}], 1, 5) = 1 ([{fd=3, revents=POLLIN}])"),
])  # fmt: skip
def test_calls(call, text):
    assert written(*call) == text


def test_quotes():
    """Escapes are octal, with three digits before a digit; what was cut has dots behind."""
    assert quoted(b'\0\x001\x7f"\\\t', cut=True) == '"\\0\\0001\\177\\"\\\\\\t"...'
