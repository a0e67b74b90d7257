"""A fresh socket of AF_INET or AF_INET6, as inet_create and inet6_create leave it: names, options, state."""

import struct
from errno import EAGAIN, EDESTADDRREQ, EINVAL, ENOTCONN, EOPNOTSUPP, EPIPE
from socket import AF_INET, AF_INET6, MSG_DONTWAIT, MSG_NOSIGNAL, SOCK_RAW

import pytest

from probes.sandbox import namespaces
from probes.testing import behaviour, need
from probes.testing import procfs as witness
from probes.testing.socket_kinds import RAW, RAW6, TCP, TCP6, UDP, UDP6
from tests.socket.socket_model import DGRAM, STREAM
from tests.socket.socket_options import FORMS, IP_SET, IP_ZERO, IPV6_SET, IPV6_ZERO, ONE, ZERO

SOURCE = "S4 2.3 steps 9 to 17; inet_create, inet6_create, sock_init_data"
SOURCE_BUFFERS = f"{SOURCE}; socket(7) SO_RCVBUF, SO_SNDBUF, rmem_default, wmem_default"
INET = (TCP, UDP, RAW)
INET6 = (TCP6, UDP6, RAW6)
#: The protocol that a kind has, whether it was named or is the default.
PROTOCOL = {TCP: 6, TCP6: 6, UDP: 17, UDP6: 17, RAW: 253, RAW6: 253}

every = pytest.mark.parametrize("kind", [*INET, *INET6], ids=str)
inet6 = pytest.mark.parametrize("kind", INET6, ids=str)


@behaviour("socket.fresh.no-names", f"{SOURCE}; getsockname(2), getpeername(2) ENOTCONN; tcp(7), udp(7), raw(7)")
@every
def test_no_names(kind, make, expect):
    """A fresh socket has the any-address and no port, a raw socket its protocol as port, and no peer: ENOTCONN."""
    socket = make(kind).socket
    result, name = socket.sockname()
    expect(kind.address(kind.protocol if kind.type == SOCK_RAW else 0, "any"), call="getsockname").of(name, result)
    result, _ = socket.peername()
    expect(-ENOTCONN, call="getpeername").of(result)


@behaviour("socket.fresh.raw-port", f"{SOURCE} step 11 and 16 `inet->num = protocol`; raw(7)")
@pytest.mark.parametrize("kind", [RAW, RAW6], ids=str)
def test_raw_port(kind, make, new_socket, expect):
    """The local port of a fresh raw socket is its protocol, whichever that is."""
    make(kind)
    for protocol in (1, 6, 17, 58, 255):
        result, name = new_socket(kind.family, kind.type, protocol).sockname()
        expect(kind.address(protocol, "any"), protocol=protocol).of(name, result)


@behaviour(
    "socket.fresh.identity", f"{SOURCE} step 14; socket(7) SO_DOMAIN, SO_TYPE, SO_PROTOCOL, SO_ERROR, SO_ACCEPTCONN"
)
@every
def test_identity(kind, make, option, expect):
    """A fresh socket tells the family and the type that it was made with and its protocol, has no error, and does not
    listen.
    """
    socket = make(kind).socket
    identity = {"SO_DOMAIN": kind.family, "SO_TYPE": kind.type, "SO_PROTOCOL": PROTOCOL[kind]}
    for name, told in {**identity, "SO_ERROR": 0, "SO_ACCEPTCONN": 0}.items():
        option(expect, socket, name, told)


@behaviour("socket.fresh.reuse", f"{SOURCE} step 9; inetsw INET_PROTOSW_REUSE; socket(7) SO_REUSEADDR")
@every
def test_reuse(kind, make, option, expect):
    """SO_REUSEADDR is off in a fresh TCP or UDP socket, and on in a raw one, which shares its protocol with others."""
    option(expect, make(kind).socket, "SO_REUSEADDR", int(kind.type == SOCK_RAW))


@behaviour("socket.fresh.socket-options", f"{SOURCE} steps 9 and 13; socket(7) Socket options")
@every
def test_socket_options(kind, make, option, expect):
    """The options of the socket level are off in a fresh socket; low-water marks are 1, times and lingering 0, there is
    no device, no filter, no peer's credentials, no limit of the rate.
    """
    socket = make(kind).socket
    for name in ZERO:
        option(expect, socket, name, 0)
    for name in ONE:
        option(expect, socket, name, 1)
    for name, told in FORMS.items():
        option(expect, socket, name, told)


@behaviour("socket.fresh.ip-options", f"{SOURCE} steps 12 and 15; ip(7) Socket options")
@pytest.mark.parametrize("kind", [*INET, TCP6, UDP6], ids=str)
def test_ip_options(kind, make, option, expect):
    """The options of IP in a fresh socket: multicast TTL, loop and all are 1, path MTU discovery is IP_PMTUDISC_WANT,
    the TTL is net.ipv4.ip_default_ttl, everything else is off. Sockets of AF_INET6 have them too, but for raw ones, and
    there IP_MULTICAST_ALL is off.

    ip(7) says that IP_MULTICAST_ALL is 1 by default; inet6_create, unlike inet_create, does not set it.
    """
    socket = make(kind).socket
    for name in IP_ZERO:
        option(expect, socket, name, 0)
    for name, told in {**IP_SET, "IP_TTL": witness.sysctl("net.ipv4.ip_default_ttl")[0]}.items():
        option(expect, socket, name, told)
    option(expect, socket, "IP_MULTICAST_ALL", int(kind.family == AF_INET))
    option(expect, socket, "IP_OPTIONS", b"")
    option(expect, socket, "IP_MTU", -ENOTCONN)


@behaviour("socket.fresh.ipv6-options", f"{SOURCE}; inet6_create; ipv6(7) Socket options")
@inet6
def test_ipv6_options(kind, make, option, expect):
    """The options of IPv6 in a fresh socket: multicast hops, loop and all are 1, path MTU discovery is
    IPV6_PMTUDISC_WANT, it takes IPv4 as well, the hop limit is the sysctl's, everything else is off.
    """
    socket = make(kind).socket
    for name in IPV6_ZERO:
        option(expect, socket, name, 0)
    for name, told in {**IPV6_SET, "IPV6_UNICAST_HOPS": witness.sysctl("net.ipv6.conf.all.hop_limit")[0]}.items():
        option(expect, socket, name, told)
    option(expect, socket, "IPV6_MTU", -ENOTCONN)


@behaviour("socket.fresh.header-included", f"{SOURCE} step 11 `inet->hdrincl`; raw(7) IPPROTO_RAW; ip(7) IP_HDRINCL")
def test_header_included(make, new_socket, option, expect):
    """IP_HDRINCL is on in a fresh raw socket of IPPROTO_RAW, and off in one of every other protocol."""
    make(RAW)
    for protocol in range(1, 256):
        socket = new_socket(RAW.family, RAW.type, protocol)
        option(expect, socket, "IP_HDRINCL", int(protocol == 255), protocol=protocol)


@behaviour(
    "socket.fresh.icmp-filter", "raw(7) ICMP_FILTER `filter no ICMP messages`; raw_sk_init, rawv6_init_sk; ipv6(7)"
)
def test_icmp_filter(make, new_socket, expect):
    """A fresh raw socket of ICMP or ICMPv6 filters nothing; one of another protocol has no filter of ICMP."""
    for kind, icmp, level, size in ((RAW, 1, 255, 4), (RAW6, 58, 58, 32)):
        make(kind)
        result, told = new_socket(kind.family, kind.type, icmp).getsockopt(level, 1, size)
        expect(bytes(size), kind=kind, protocol=icmp).of(told, result)
        result, _ = new_socket(*kind.triple).getsockopt(level, 1, size)
        expect(-EOPNOTSUPP, kind=kind, protocol=kind.protocol).of(result)


@behaviour("socket.fresh.checksum", "ipv6(7); RFC 3542 3.1; rawv6_init_sk; do_rawv6_getsockopt IPV6_CHECKSUM")
def test_checksum(make, new_socket, option, expect):
    """A fresh raw socket of AF_INET6 computes no checksum, but for ICMPv6, whose checksum is at offset 2."""
    make(RAW6)
    for protocol, offset in ((253, -1), (17, -1), (58, 2)):
        socket = new_socket(RAW6.family, RAW6.type, protocol)
        option(expect, socket, "IPV6_CHECKSUM", struct.pack("<i", offset), protocol=protocol)


@behaviour(
    "socket.fresh.sysctls", f"{SOURCE} step 12; ip(7) IP_MTU_DISCOVER, ip_no_pmtu_disc, ip_default_ttl; ip-sysctl.rst"
)
@every
def test_sysctls(kind, make, option, expect):
    """net.ipv4.ip_no_pmtu_disc gives IP_PMTUDISC_DONT to sockets made after it is set and not to others; the default
    TTL, hop limit and bindv6only are what the sysctls say.
    """
    before = make(kind).socket
    namespaces.set_sysctl("net.ipv4.ip_no_pmtu_disc", 1)
    namespaces.set_sysctl("net.ipv4.ip_default_ttl", 77)
    if kind.family == AF_INET6:
        namespaces.set_sysctl("net.ipv6.bindv6only", 1)
        namespaces.set_sysctl("net.ipv6.conf.all.hop_limit", 33)
    after = make(kind).socket
    if kind is not RAW6:
        option(expect, before, "IP_MTU_DISCOVER", 1, made="before")
        option(expect, after, "IP_MTU_DISCOVER", 0, made="after")
        option(expect, after, "IP_TTL", 77, made="after")
    if kind.family == AF_INET6:
        option(expect, before, "IPV6_V6ONLY", 0, made="before")
        option(expect, after, "IPV6_V6ONLY", 1, made="after")
        option(expect, after, "IPV6_UNICAST_HOPS", 33, made="after")
        option(expect, after, "IPV6_MTU_DISCOVER", 1, made="after")


@behaviour("socket.fresh.buffers", SOURCE_BUFFERS)
@pytest.mark.parametrize("kind", [UDP, RAW, UDP6, RAW6], ids=str)
def test_buffers(kind, make, option, expect):
    """The buffers of a fresh UDP or raw socket have the sizes that net.core.rmem_default and wmem_default say."""
    socket = make(kind).socket
    option(expect, socket, "SO_RCVBUF", witness.sysctl("net.core.rmem_default")[0])
    option(expect, socket, "SO_SNDBUF", witness.sysctl("net.core.wmem_default")[0])


@behaviour("socket.fresh.unconnected", f"{SOURCE} step 1 SS_UNCONNECTED; send(2), recv(2), shutdown(2), accept(2)")
@every
def test_unconnected(kind, make, calls, memory, expect):
    """A fresh socket is not connected and does not listen: what needs that fails; connecting it is still possible."""
    socket = make(kind).socket
    data = memory.guarded(b"nobody")
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
