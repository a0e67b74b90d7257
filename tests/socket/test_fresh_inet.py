"""A fresh socket of AF_INET or AF_INET6, as inet_create and inet6_create make it: names, options, state."""

import struct
from errno import EAGAIN, EDESTADDRREQ, EINVAL, ENOTCONN, EOPNOTSUPP, EPIPE
from socket import AF_INET, AF_INET6, MSG_DONTWAIT, MSG_NOSIGNAL, SOCK_RAW

import pytest

from probes.testing import behaviour, need, procfs
from probes.testing.socket_kinds import RAW, RAW6, TCP, TCP6, UDP, UDP6
from probes.testing.socket_model import DGRAM, STREAM
from tests.socket.socket_options import (
    IP_SET,
    IP_ZERO,
    IPV6_SET,
    IPV6_ZERO,
    SO_BYTES,
    SO_ONE,
    SO_ZERO,
    read_bytes,
    read_int,
)

SOURCE = "S4 2.3 steps 9 to 17; inet_create, inet6_create, sock_init_data"
SOURCE_BUFFERS = f"{SOURCE}; socket(7) SO_RCVBUF, SO_SNDBUF, rmem_default, wmem_default"
INET = (TCP, UDP, RAW)
INET6 = (TCP6, UDP6, RAW6)
#: The protocol of each kind, given or by default.
PROTOCOL = {TCP: 6, TCP6: 6, UDP: 17, UDP6: 17, RAW: 253, RAW6: 253}

every_inet = pytest.mark.parametrize("kind", [*INET, *INET6], ids=str)
inet6 = pytest.mark.parametrize("kind", INET6, ids=str)


@behaviour("socket.fresh.no-names", f"{SOURCE}; getsockname(2), getpeername(2) ENOTCONN; tcp(7), udp(7), raw(7)")
@every_inet
def test_no_names(kind, make, expect):
    """The name of a fresh socket is the wildcard address with port 0, of a raw socket with its protocol as port.

    It has no peer: getpeername fails with ENOTCONN.
    """
    socket = make(kind).socket
    port = kind.protocol if kind.type == SOCK_RAW else 0
    expect(kind.address(port, "any"), call="getsockname").of(socket.sockname())
    expect(-ENOTCONN, call="getpeername").of(socket.peername())


@behaviour("socket.fresh.raw-port", f"{SOURCE} step 11 and 16 `inet->num = protocol`; raw(7)")
@pytest.mark.parametrize("kind", [RAW, RAW6], ids=str)
def test_raw_port(kind, make, new_socket, expect):
    """The port in the name of a fresh raw socket is its protocol."""
    make(kind)
    for protocol in (1, 6, 17, 58, 255):
        socket = new_socket(kind.family, kind.type, protocol)
        expect(kind.address(protocol, "any"), protocol=protocol).of(socket.sockname())


@behaviour(
    "socket.fresh.identity", f"{SOURCE} step 14; socket(7) SO_DOMAIN, SO_TYPE, SO_PROTOCOL, SO_ERROR, SO_ACCEPTCONN"
)
@every_inet
def test_identity(kind, make, expect):
    """SO_DOMAIN, SO_TYPE and SO_PROTOCOL of a fresh socket are its family, type and protocol.

    SO_ERROR and SO_ACCEPTCONN are 0.
    """
    socket = make(kind).socket
    identity = {"SO_DOMAIN": kind.family, "SO_TYPE": kind.type, "SO_PROTOCOL": PROTOCOL[kind]}
    for name, value in {**identity, "SO_ERROR": 0, "SO_ACCEPTCONN": 0}.items():
        expect([0, value], option=name).of(read_int(socket, name))


@behaviour("socket.fresh.reuse", f"{SOURCE} step 9; inetsw INET_PROTOSW_REUSE; socket(7) SO_REUSEADDR")
@every_inet
def test_reuse(kind, make, expect):
    """SO_REUSEADDR is 0 in a fresh TCP or UDP socket and 1 in a raw one, whose protocol other raw sockets may share."""
    expect([0, int(kind.type == SOCK_RAW)], option="SO_REUSEADDR").of(read_int(make(kind).socket, "SO_REUSEADDR"))


@behaviour("socket.fresh.socket-options", f"{SOURCE} steps 9 and 13; socket(7) Socket options")
@every_inet
def test_socket_options(kind, make, expect):
    """The options of level SOL_SOCKET in a fresh socket are 0 or empty; SO_RCVLOWAT and SO_SNDLOWAT are 1.

    SO_PEERCRED has pid 0 and ids -1, SO_INCOMING_CPU is -1, SO_MAX_PACING_RATE has no limit.
    """
    socket = make(kind).socket
    for name in SO_ZERO:
        expect([0, 0], option=name).of(read_int(socket, name))
    for name in SO_ONE:
        expect([0, 1], option=name).of(read_int(socket, name))
    for name, data in SO_BYTES.items():
        expect(data, option=name).of(read_bytes(socket, name, len(data) or 4))


@behaviour("socket.fresh.ip-options", f"{SOURCE} steps 12 and 15; ip(7) Socket options")
@pytest.mark.parametrize("kind", [*INET, TCP6, UDP6], ids=str)
def test_ip_options(kind, make, expect):
    """The options of IPPROTO_IP in a fresh socket are 0, except for those that follow.

    IP_MULTICAST_TTL, IP_MULTICAST_LOOP and IP_MULTICAST_ALL are 1, IP_MTU_DISCOVER is IP_PMTUDISC_WANT, IP_TTL is
    net.ipv4.ip_default_ttl; IP_MTU fails with ENOTCONN. TCP and UDP sockets of AF_INET6 have these options too, with
    IP_MULTICAST_ALL 0: ip(7) says that it is 1 by default, but inet6_create, unlike inet_create, does not set it.
    """
    socket = make(kind).socket
    for name in IP_ZERO:
        expect([0, 0], option=name).of(read_int(socket, name))
    for name, value in {**IP_SET, "IP_TTL": procfs.sysctl("net.ipv4.ip_default_ttl")[0]}.items():
        expect([0, value], option=name).of(read_int(socket, name))
    expect([0, int(kind.family == AF_INET)], option="IP_MULTICAST_ALL").of(read_int(socket, "IP_MULTICAST_ALL"))
    expect(b"", option="IP_OPTIONS").of(read_bytes(socket, "IP_OPTIONS", 4))
    expect(-ENOTCONN, option="IP_MTU").of(read_int(socket, "IP_MTU"))


@behaviour("socket.fresh.ipv6-options", f"{SOURCE}; inet6_create; ipv6(7) Socket options")
@inet6
def test_ipv6_options(kind, make, expect):
    """The options of IPPROTO_IPV6 in a fresh socket are 0, IPV6_V6ONLY too, except for those that follow.

    IPV6_MULTICAST_HOPS, IPV6_MULTICAST_LOOP and IPV6_MULTICAST_ALL are 1, IPV6_MTU_DISCOVER is IPV6_PMTUDISC_WANT,
    IPV6_UNICAST_HOPS is net.ipv6.conf.all.hop_limit; IPV6_MTU fails with ENOTCONN.
    """
    socket = make(kind).socket
    for name in IPV6_ZERO:
        expect([0, 0], option=name).of(read_int(socket, name))
    for name, value in {**IPV6_SET, "IPV6_UNICAST_HOPS": procfs.sysctl("net.ipv6.conf.all.hop_limit")[0]}.items():
        expect([0, value], option=name).of(read_int(socket, name))
    expect(-ENOTCONN, option="IPV6_MTU").of(read_int(socket, "IPV6_MTU"))


@behaviour("socket.fresh.header-included", f"{SOURCE} step 11 `inet->hdrincl`; raw(7) IPPROTO_RAW; ip(7) IP_HDRINCL")
def test_header_included(make, new_socket, expect):
    """IP_HDRINCL is 1 in a fresh raw socket of IPPROTO_RAW and 0 in one of any other protocol."""
    make(RAW)
    for case, protocols in {"1..254": range(1, 255), "255": range(255, 256)}.items():
        check = expect([[0, int(case == "255")]] * len(protocols), option="IP_HDRINCL", protocols=case)
        sockets = [new_socket(RAW.family, RAW.type, protocol) for protocol in protocols]
        found = [read_int(socket, "IP_HDRINCL") for socket in sockets]
        check.of([one.actual for one in found], *found)


@behaviour(
    "socket.fresh.icmp-filter", "raw(7) ICMP_FILTER `filter no ICMP messages`; raw_sk_init, rawv6_init_sk; ipv6(7)"
)
def test_icmp_filter(make, new_socket, expect):
    """ICMP_FILTER and ICMPV6_FILTER are zero in a fresh raw socket of ICMP or ICMPv6: no message is filtered.

    In a raw socket of another protocol getsockopt of the filter fails with EOPNOTSUPP.
    """
    for kind, icmp, level, size in ((RAW, 1, 255, 4), (RAW6, 58, 58, 32)):
        make(kind)
        socket, other = new_socket(kind.family, kind.type, icmp), new_socket(*kind.triple)
        expect(bytes(size), kind=kind, protocol=icmp).of(socket.getsockopt(level, 1, size))
        expect(-EOPNOTSUPP, kind=kind, protocol=kind.protocol).of(other.getsockopt(level, 1, size))


@behaviour("socket.fresh.checksum", "ipv6(7); RFC 3542 3.1; rawv6_init_sk; do_rawv6_getsockopt IPV6_CHECKSUM")
def test_checksum(make, new_socket, expect):
    """IPV6_CHECKSUM is -1 (no checksum) in a fresh raw socket of AF_INET6, and offset 2 in one of ICMPv6."""
    make(RAW6)
    for protocol, offset in ((253, -1), (17, -1), (58, 2)):
        socket = new_socket(RAW6.family, RAW6.type, protocol)
        data = struct.pack("<i", offset)
        expect(data, option="IPV6_CHECKSUM", protocol=protocol).of(read_bytes(socket, "IPV6_CHECKSUM", 4))


@behaviour(
    "socket.fresh.sysctls", f"{SOURCE} step 12; ip(7) IP_MTU_DISCOVER, ip_no_pmtu_disc, ip_default_ttl; ip-sysctl.rst"
)
@every_inet
def test_sysctls(kind, make, expect):
    """net.ipv4.ip_no_pmtu_disc gives IP_PMTUDISC_DONT to sockets made after it is set, and to no earlier one.

    IP_TTL, IPV6_UNICAST_HOPS and IPV6_V6ONLY of later sockets are ip_default_ttl, hop_limit and bindv6only.
    """
    # (Without a network namespace of its own, an earlier test may have set these.)
    procfs.set_sysctl("net.ipv4.ip_no_pmtu_disc", 0)
    if kind.family == AF_INET6:
        procfs.set_sysctl("net.ipv6.bindv6only", 0)
    before = make(kind).socket
    procfs.set_sysctl("net.ipv4.ip_no_pmtu_disc", 1)
    procfs.set_sysctl("net.ipv4.ip_default_ttl", 77)
    if kind.family == AF_INET6:
        procfs.set_sysctl("net.ipv6.bindv6only", 1)
        procfs.set_sysctl("net.ipv6.conf.all.hop_limit", 33)
    after = make(kind).socket
    if kind is not RAW6:
        expect([0, 1], option="IP_MTU_DISCOVER", made="before").of(read_int(before, "IP_MTU_DISCOVER"))
        expect([0, 0], option="IP_MTU_DISCOVER", made="after").of(read_int(after, "IP_MTU_DISCOVER"))
        expect([0, 77], option="IP_TTL", made="after").of(read_int(after, "IP_TTL"))
    if kind.family == AF_INET6:
        expect([0, 0], option="IPV6_V6ONLY", made="before").of(read_int(before, "IPV6_V6ONLY"))
        expect([0, 1], option="IPV6_V6ONLY", made="after").of(read_int(after, "IPV6_V6ONLY"))
        expect([0, 33], option="IPV6_UNICAST_HOPS", made="after").of(read_int(after, "IPV6_UNICAST_HOPS"))
        expect([0, 1], option="IPV6_MTU_DISCOVER", made="after").of(read_int(after, "IPV6_MTU_DISCOVER"))


@behaviour("socket.fresh.buffers", SOURCE_BUFFERS, tag="implementation")
@pytest.mark.parametrize("kind", [UDP, RAW, UDP6, RAW6], ids=str)
def test_buffers(kind, make, expect):
    """SO_RCVBUF and SO_SNDBUF of a fresh UDP or raw socket are net.core.rmem_default and net.core.wmem_default."""
    socket = make(kind).socket
    expect([0, procfs.sysctl("net.core.rmem_default")[0]], option="SO_RCVBUF").of(read_int(socket, "SO_RCVBUF"))
    expect([0, procfs.sysctl("net.core.wmem_default")[0]], option="SO_SNDBUF").of(read_int(socket, "SO_SNDBUF"))


@behaviour("socket.fresh.unconnected", f"{SOURCE} step 1 SS_UNCONNECTED; send(2), recv(2), shutdown(2), accept(2)")
@every_inet
def test_unconnected(kind, make, calls, memory, expect):
    """send, recv, shutdown and accept fail on a fresh socket, which neither is connected nor listens; connect succeeds."""
    socket = make(kind).socket
    data = memory.guarded(b"unsent")
    send = -EPIPE if kind.type == STREAM else -EDESTADDRREQ
    expect(send, call="send").of(calls.make("send", socket.fd, data, data.size, MSG_NOSIGNAL))
    receive = -ENOTCONN if kind.type == STREAM else -EAGAIN
    expect(receive, call="recv").of(calls.make("recv", socket.fd, data, data.size, MSG_DONTWAIT))
    for how in range(3):
        expect(-ENOTCONN, call="shutdown", how=how).of(calls.make("shutdown", socket.fd, how))
    expect(-EINVAL if kind.type == STREAM else -EOPNOTSUPP, call="accept").of(socket.accept())
    peer = make(kind).socket
    need(peer.bind(kind.address(5000 if kind.type in (STREAM, DGRAM) else 0)))
    if kind.type == STREAM:
        need(peer.listen())
    expect(0, call="connect").of(socket.connect(kind.address(5000)))
