"""A fresh TCP or UDP socket, as tcp_init_sock and udp_init_sock leave it."""

import struct
from pathlib import Path

import pytest

from probes.sandbox import namespaces
from probes.testing import behaviour
from probes.testing import procfs as witness
from probes.testing.socket_kinds import TCP, TCP6, UDP, UDP6
from tests.socket.socket_options import TCP_SET, TCP_SYSCTLS, TCP_ZERO, UDP_ZERO

SOURCE = "S4 2.3 step 17 tcp_v4_init_sock; tcp_init_sock"
#: include/net/tcp_states.h.
TCP_CLOSE = 7
TCP_INFO, TCP_CONGESTION = 11, 13
#: The beginning of struct tcp_info (include/uapi/linux/tcp.h): eight bytes, then words. What they hold before anything
#: was sent: TCP_TIMEOUT_INIT is a second, TCP_MSS_DEFAULT 536, TCP_INIT_CWND 10, TCP_INFINITE_SSTHRESH 0x7fffffff.
WORDS = {
    "rto": (8, 1_000_000), "snd_mss": (16, 536), "unacked": (24, 0), "sacked": (28, 0), "lost": (32, 0),
    "retrans": (36, 0), "pmtu": (60, 0), "rtt": (68, 0), "rttvar": (72, 250_000), "snd_ssthresh": (76, 0x7FFFFFFF),
    "snd_cwnd": (80, 10), "total_retrans": (100, 0),
}  # fmt: skip

tcp = pytest.mark.parametrize("kind", [TCP, TCP6], ids=str)


@behaviour("socket.fresh.tcp-state", f"{SOURCE}; tcp(7) TCP_INFO; include/net/tcp_states.h TCP_CLOSE")
@tcp
def test_tcp_state(kind, make, expect):
    """A fresh TCP socket is in state TCP_CLOSE, has sent nothing, and has the initial timeout, window and threshold."""
    result, info = make(kind).socket.getsockopt(6, TCP_INFO, 104)
    expect(104, field="length").of(len(info), result)
    expect(TCP_CLOSE, field="state").of(info[0] if info else None, result)
    expect(bytes(5), field="ca_state,retransmits,probes,backoff,options").of(info[1:6], result)
    for name, (offset, told) in WORDS.items():
        expect(told, field=name).of(struct.unpack_from("<I", info, offset)[0] if info else None, result)


@behaviour("socket.fresh.tcp-options", f"{SOURCE}; tcp(7) Socket options")
@tcp
def test_tcp_options(kind, make, option, expect):
    """The options of TCP in a fresh socket are off; the segment size is 536; what has a sysctl is what that says."""
    socket = make(kind).socket
    for name in TCP_ZERO:
        option(expect, socket, name, 0)
    for name, told in TCP_SET.items():
        option(expect, socket, name, told)
    for name, sysctl in TCP_SYSCTLS.items():
        option(expect, socket, name, witness.sysctl(f"net.ipv4.{sysctl}")[0])


@behaviour("socket.fresh.tcp-sysctls", f"{SOURCE}; tcp(7) /proc interfaces")
@tcp
def test_tcp_sysctls(kind, make, option, expect):
    """The sysctls of TCP that stand behind options count for a socket as long as it has no value of its own, also for
    one that was there before they were written.
    """
    before = make(kind).socket
    for offset, name in enumerate(TCP_SYSCTLS.values()):
        namespaces.set_sysctl(f"net.ipv4.{name}", 20 + offset)
    for made, socket in (("before", before), ("after", make(kind).socket)):
        for offset, name in enumerate(TCP_SYSCTLS):
            option(expect, socket, name, 20 + offset, made=made)


@behaviour("socket.fresh.tcp-congestion", f"{SOURCE} tcp_assign_congestion_control; tcp(7) tcp_congestion_control")
@tcp
def test_tcp_congestion(kind, make, expect):
    """The congestion control of a TCP socket is the one that net.ipv4.tcp_congestion_control named when it was made."""
    path = Path("/proc/sys/net/ipv4/tcp_congestion_control")
    default = path.read_text().strip()
    before = make(kind).socket
    # Reno is in every kernel, and open to everybody (tcp(7) tcp_allowed_congestion_control).
    namespaces.set_sysctl("net.ipv4.tcp_congestion_control", "reno")
    for made, socket, name in (("before", before, default), ("after", make(kind).socket, "reno")):
        result, told = socket.getsockopt(6, TCP_CONGESTION, 16)
        expect(name.encode().ljust(16, b"\0"), made=made).of(told, result)


@behaviour("socket.fresh.tcp-buffers", f"{SOURCE}; tcp(7) tcp_rmem, tcp_wmem; socket(7) SO_RCVBUF, SO_SNDBUF")
@tcp
def test_tcp_buffers(kind, make, option, expect):
    """The buffers of a fresh TCP socket have the middle sizes of net.ipv4.tcp_rmem and tcp_wmem, and not
    net.core.rmem_default and wmem_default.
    """
    socket = make(kind).socket
    option(expect, socket, "SO_RCVBUF", witness.sysctl("net.ipv4.tcp_rmem")[1], sysctl="as-it-was")
    option(expect, socket, "SO_SNDBUF", witness.sysctl("net.ipv4.tcp_wmem")[1], sysctl="as-it-was")
    namespaces.set_sysctl("net.ipv4.tcp_rmem", "4096 54321 1000000")
    namespaces.set_sysctl("net.ipv4.tcp_wmem", "4096 43210 1000000")
    socket = make(kind).socket
    option(expect, socket, "SO_RCVBUF", 54321, sysctl="written")
    option(expect, socket, "SO_SNDBUF", 43210, sysctl="written")


@behaviour("socket.fresh.udp-options", "udp(7) Socket options; udp_init_sock; udp_lib_getsockopt")
@pytest.mark.parametrize("kind", [UDP, UDP6], ids=str)
def test_udp_options(kind, make, option, expect):
    """The options of UDP in a fresh socket are off."""
    socket = make(kind).socket
    for name in UDP_ZERO:
        option(expect, socket, name, 0)
