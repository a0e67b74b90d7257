"""A fresh TCP or UDP socket, as tcp_init_sock and udp_init_sock make it."""

import struct

import pytest

from probes.entry.calls import Output
from probes.testing import behaviour, procfs
from probes.testing.socket_kinds import TCP, TCP6, UDP, UDP6
from tests.socket.socket_options import TCP_SET, TCP_SYSCTLS, TCP_ZERO, UDP_ZERO, read_bytes, read_int

SOURCE = "S4 2.3 step 17 tcp_v4_init_sock; tcp_init_sock"
#: include/net/tcp_states.h.
TCP_CLOSE = 7
#: struct tcp_info (include/uapi/linux/tcp.h) up to total_retrans: eight bytes, then words.
TCP_INFO_SIZE = 104
#: Words of struct tcp_info by offset, and their values before anything was sent: TCP_TIMEOUT_INIT is one second,
#: TCP_MSS_DEFAULT 536, TCP_INIT_CWND 10, TCP_INFINITE_SSTHRESH 0x7fffffff.
WORDS = {
    "rto": (8, 1_000_000), "snd_mss": (16, 536), "unacked": (24, 0), "sacked": (28, 0), "lost": (32, 0),
    "retrans": (36, 0), "pmtu": (60, 0), "rtt": (68, 0), "rttvar": (72, 250_000), "snd_ssthresh": (76, 0x7FFFFFFF),
    "snd_cwnd": (80, 10), "total_retrans": (100, 0),
}  # fmt: skip

tcp = pytest.mark.parametrize("kind", [TCP, TCP6], ids=str)


def word(info: Output, offset: int) -> object:
    """Returns a word of struct tcp_info, the error if the call was refused, None if the output ends before it."""
    if info.result < 0:
        return int(info.result)
    return struct.unpack_from("<I", info.bytes, offset)[0] if len(info.bytes) >= offset + 4 else None


@behaviour(
    "socket.fresh.tcp-state",
    f"{SOURCE}; tcp(7) TCP_INFO; include/net/tcp_states.h TCP_CLOSE",
    tag="implementation",
)
@tcp
def test_tcp_state(kind, make, expect):
    """TCP_INFO of a fresh TCP socket: state TCP_CLOSE, nothing sent, the initial timeout, window and threshold.

    The initial timeout is one second, the congestion window 10 segments, the segment size 536 bytes.
    """
    socket = make(kind).socket
    length, state = expect(TCP_INFO_SIZE, field="length"), expect(TCP_CLOSE, field="state")
    others = expect(bytes(5), field="ca_state,retransmits,probes,backoff,options")
    words = {name: expect(value, field=name) for name, (_, value) in WORDS.items()}
    info = read_bytes(socket, "TCP_INFO", TCP_INFO_SIZE)
    length.of(len(info.bytes), info)
    state.of(info[:1].as_unsigned())
    others.of(info[1:6])
    for name, check in words.items():
        check.of(word(info, WORDS[name][0]), info)


@behaviour("socket.fresh.tcp-options", f"{SOURCE}; tcp(7) Socket options")
@tcp
def test_tcp_options(kind, make, expect):
    """The options of IPPROTO_TCP in a fresh socket are 0; TCP_MAXSEG is 536 and TCP_QUICKACK 1.

    TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_SYNCNT and TCP_LINGER2 are the sysctls of net.ipv4.
    """
    socket = make(kind).socket
    for name in TCP_ZERO:
        expect([0, 0], option=name).of(read_int(socket, name))
    for name, value in TCP_SET.items():
        expect([0, value], option=name).of(read_int(socket, name))
    for name, sysctl in TCP_SYSCTLS.items():
        expect([0, procfs.sysctl(f"net.ipv4.{sysctl}")[0]], option=name).of(read_int(socket, name))


@behaviour("socket.fresh.tcp-sysctls", f"{SOURCE}; tcp(7) /proc interfaces")
@tcp
def test_tcp_sysctls(kind, make, expect):
    """The sysctls that are defaults of TCP options also apply to sockets made before they are set.

    They apply as long as the option itself is not set.
    """
    before = make(kind).socket
    for offset, name in enumerate(TCP_SYSCTLS.values()):
        procfs.set_sysctl(f"net.ipv4.{name}", 20 + offset)
    for made, socket in (("before", before), ("after", make(kind).socket)):
        for offset, name in enumerate(TCP_SYSCTLS):
            expect([0, 20 + offset], option=name, made=made).of(read_int(socket, name))


@behaviour("socket.fresh.tcp-congestion", f"{SOURCE} tcp_assign_congestion_control; tcp(7) tcp_congestion_control")
@tcp
def test_tcp_congestion(kind, make, expect):
    """TCP_CONGESTION of a fresh socket is the value of net.ipv4.tcp_congestion_control when the socket was made."""
    default = procfs.sysctl_text("net.ipv4.tcp_congestion_control")
    before = make(kind).socket
    # Reno is in every kernel, and allowed to every user (tcp(7) tcp_allowed_congestion_control).
    procfs.set_sysctl("net.ipv4.tcp_congestion_control", "reno")
    for made, socket, name in (("before", before, default), ("after", make(kind).socket, "reno")):
        expect(name.encode().ljust(16, b"\0"), made=made).of(read_bytes(socket, "TCP_CONGESTION", 16))


@behaviour(
    "socket.fresh.tcp-buffers",
    f"{SOURCE}; tcp(7) tcp_rmem, tcp_wmem; socket(7) SO_RCVBUF, SO_SNDBUF",
    tag="implementation",
)
@tcp
def test_tcp_buffers(kind, make, expect):
    """SO_RCVBUF and SO_SNDBUF of a fresh TCP socket are the second values of net.ipv4.tcp_rmem and tcp_wmem.

    They are not net.core.rmem_default and wmem_default.
    """
    socket = make(kind).socket
    rmem, wmem = procfs.sysctl("net.ipv4.tcp_rmem")[1], procfs.sysctl("net.ipv4.tcp_wmem")[1]
    expect([0, rmem], option="SO_RCVBUF", sysctl="as-it-was").of(read_int(socket, "SO_RCVBUF"))
    expect([0, wmem], option="SO_SNDBUF", sysctl="as-it-was").of(read_int(socket, "SO_SNDBUF"))
    procfs.set_sysctl("net.ipv4.tcp_rmem", "4096 54321 1000000")
    procfs.set_sysctl("net.ipv4.tcp_wmem", "4096 43210 1000000")
    socket = make(kind).socket
    expect([0, 54321], option="SO_RCVBUF", sysctl="written").of(read_int(socket, "SO_RCVBUF"))
    expect([0, 43210], option="SO_SNDBUF", sysctl="written").of(read_int(socket, "SO_SNDBUF"))


@behaviour("socket.fresh.udp-options", "udp(7) Socket options; udp_init_sock; udp_lib_getsockopt")
@pytest.mark.parametrize("kind", [UDP, UDP6], ids=str)
def test_udp_options(kind, make, expect):
    """The options of IPPROTO_UDP in a fresh socket are 0."""
    socket = make(kind).socket
    for name in UDP_ZERO:
        expect([0, 0], option=name).of(read_int(socket, name))
