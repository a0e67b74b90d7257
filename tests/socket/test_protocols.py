"""The protocol argument of socket(2): the default, the protocols of each family and type, and the error for others."""

from errno import EACCES, EINVAL, ENOPROTOOPT, EPROTONOSUPPORT, ESOCKTNOSUPPORT
from socket import AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, AF_VSOCK

import pytest

from probes.testing import behaviour, not_applicable, procfs
from probes.testing.socket_model import (
    AF_XDP,
    DGRAM,
    FAMILIES,
    INETSW,
    OK,
    PROTOCOL_MAX,
    RAW,
    RDM,
    SEQPACKET,
    STREAM,
    TYPE_MAX,
    inet_answers,
    inet_has,
    with_descriptor,
)
from probes.testing.sweeps import protocol_sweep
from tests.socket.socket_options import read_bytes

SOURCE = "socket(2) EPROTONOSUPPORT; ip(7) `socket(AF_INET, socket_type, protocol)`; S4 2.3 steps 2 to 5"
SOURCE_INET = f"{SOURCE}; inet_create, inet6_create"
SOURCE_RANGE = "socket(2) EINVAL Unknown protocol; inet_create, inet6_create `protocol < 0 || protocol >= IPPROTO_MAX`"
SOURCE_PING = "socket(2) EACCES; ping_init_sock; Documentation/networking/ip-sysctl.rst ping_group_range"
#: The protocol of AF_INET and AF_INET6 that 0 stands for. SOCK_RAW has none.
DEFAULT = {STREAM: 6, DGRAM: 17}
NETLINK_USERSOCK, NETLINK_MAX = 2, 32
#: NETLINK_W1, NETLINK_FIREWALL, NETLINK_NFLOG, NETLINK_IP6_FW, NETLINK_DNRTMSG (include/uapi/linux/netlink.h).
GONE = (1, 3, 5, 13, 14)

inet = pytest.mark.parametrize("family", [AF_INET, AF_INET6], ids=lambda family: family.name)


def need_family(family: int) -> None:
    """Ends the test as not applicable unless the kernel has a family."""
    if not FAMILIES[family].registered:
        not_applicable(f"the family {FAMILIES[family].name}")


@behaviour("socket.protocol.inet", SOURCE_INET)
@inet
@pytest.mark.parametrize("type", range(TYPE_MAX - 1))
def test_inet(family, type, calls, expect):
    """socket of AF_INET or AF_INET6 accepts the protocols of the type, and 0 if the type has a default protocol.

    Others fail with EPROTONOSUPPORT, with ESOCKTNOSUPPORT if the type has no protocol at all, and with EINVAL from
    IPPROTO_MAX on. The kernel has a protocol if /proc/net/protocols lists it or a module of it can be loaded. Where the
    kernel loads modules each refusal starts modprobe twice, so only the ends of a refused range are tried. For
    SOCK_PACKET, the last type, see test_sock_packet.py.
    """
    need_family(family)
    (free,) = procfs.lowest()
    for first, last, answer in inet_answers(family, type):
        if answer in (-EPROTONOSUPPORT, -ESOCKTNOSUPPORT) and procfs.modprobe():
            for protocol in sorted({first, last}):
                expect(answer, protocol=protocol).of(calls.socket(family, type, protocol))
            continue
        expect(with_descriptor(answer, free), protocols=f"{first}..{last}").of(
            protocol_sweep(calls, family, type).run(range(first, last + 1))
        )


@behaviour("socket.protocol.inet-out-of-range", SOURCE_RANGE)
@inet
def test_inet_out_of_range(family, calls, ranges, expect):
    """socket of AF_INET or AF_INET6 fails with EINVAL for a protocol below 0 or from IPPROTO_MAX on, whatever the type."""
    need_family(family)
    for type in (0, STREAM, DGRAM, RAW, RDM, SEQPACKET):
        # inet_create compares the protocol with 0 and IPPROTO_MAX before it looks for the type.
        protocols = ranges.sample((-(2**31), -1), (PROTOCOL_MAX, 2**31 - 1))
        expect(-EINVAL, type=type, protocols="sample").of(protocol_sweep(calls, family, type).run(protocols))


@behaviour("socket.protocol.inet-default", f"{SOURCE}; inet_create `IPPROTO_IP == protocol`; socket(7) SO_PROTOCOL")
@inet
@pytest.mark.parametrize("type", DEFAULT, ids=lambda type: type.name)
def test_inet_default(family, type, calls, new_socket, expect):
    """SO_PROTOCOL is IPPROTO_TCP for SOCK_STREAM and IPPROTO_UDP for SOCK_DGRAM with protocol 0, else the protocol given."""
    need_family(family)
    for protocol in (0, DEFAULT[type]):
        socket = new_socket(family, type, protocol)
        expect(DEFAULT[type], asked=protocol).of(read_bytes(socket, "SO_PROTOCOL", 4).as_unsigned())
    for other in INETSW[family][type]:
        if inet_has(family, type, other) and other.name in ("UDPLITE", "MPTCP"):
            socket = new_socket(family, type, other.number)
            expect(other.number, asked=other.name).of(read_bytes(socket, "SO_PROTOCOL", 4).as_unsigned())


@behaviour(
    "socket.protocol.raw", "raw(7); ip(7); inet_create `SOCK_RAW == sock->type`; inetsw SOCK_RAW IPPROTO_IP wild card"
)
@inet
def test_raw(family, new_socket, expect):
    """socket of SOCK_RAW accepts any protocol from 1 to 255, which SO_PROTOCOL returns."""
    need_family(family)
    for protocol in (1, 6, 17, 58, 89, 132, 253, 254, 255):
        socket = new_socket(family, RAW, protocol)
        expect(protocol, protocol=protocol).of(read_bytes(socket, "SO_PROTOCOL", 4).as_unsigned())


@behaviour("socket.protocol.ping", SOURCE_PING)
@inet
def test_ping(family, calls, expect):
    """SOCK_DGRAM of ICMP or ICMPv6 fails with EACCES unless net.ipv4.ping_group_range has a group of the process.

    A fresh network namespace has an empty range. Capabilities do not matter.
    """
    need_family(family)
    ping = next(protocol for protocol in INETSW[family][DGRAM] if protocol.name == "ICMP")
    if not inet_has(family, DGRAM, ping):
        not_applicable(f"the protocol {ping.registered_as}")
    expect(-EACCES, range="default").of(calls.socket(family, DGRAM, ping.number))
    procfs.set_sysctl("net.ipv4.ping_group_range", "0 0")
    (free,) = procfs.lowest()
    expect(free, range="group-0").of(calls.socket(family, DGRAM, ping.number))


@behaviour("socket.protocol.mptcp-disabled", "Documentation/networking/mptcp-sysctl.rst enabled; mptcp_init_sock")
@inet
def test_mptcp_disabled(family, calls, expect):
    """socket of IPPROTO_MPTCP fails with ENOPROTOOPT if net.mptcp.enabled is 0, and succeeds if it is 1."""
    need_family(family)
    mptcp = next(protocol for protocol in INETSW[family][STREAM] if protocol.name == "MPTCP")
    if mptcp.registered_as not in procfs.protocols():
        not_applicable(f"the protocol {mptcp.registered_as}")
    for enabled in (0, 1):
        procfs.set_sysctl("net.mptcp.enabled", enabled)
        (free,) = procfs.lowest()
        expect(free if enabled else -ENOPROTOOPT, enabled=enabled).of(calls.socket(family, STREAM, mptcp.number))


@behaviour("socket.protocol.unix", "unix(7); socket(2) EPROTONOSUPPORT; unix_create `protocol && protocol != PF_UNIX`")
@pytest.mark.parametrize("type", [STREAM, DGRAM, SEQPACKET], ids=lambda type: type.name)
def test_unix(type, calls, expect):
    """socket of AF_UNIX accepts the protocols 0 and 1 (PF_UNIX); others fail with EPROTONOSUPPORT."""
    (free,) = procfs.lowest()
    for first, last, answer in ((-1000, -1, -EPROTONOSUPPORT), (0, 1, OK), (2, 1000, -EPROTONOSUPPORT)):
        expect(with_descriptor(answer, free), protocols=f"{first}..{last}").of(
            protocol_sweep(calls, AF_UNIX, type).run(range(first, last + 1))
        )


@behaviour("socket.protocol.unix-not-told", "unix_create1, which keeps no protocol; socket(7) SO_PROTOCOL")
def test_unix_protocol_not_kept(new_socket, expect):
    """SO_PROTOCOL of an AF_UNIX socket is 0 for either protocol, 0 and 1."""
    for protocol in (0, 1):
        socket = new_socket(AF_UNIX, STREAM, protocol)
        expect(0, asked=protocol).of(read_bytes(socket, "SO_PROTOCOL", 4).as_unsigned())


@behaviour("socket.protocol.unix-raw", "unix_create SOCK_RAW; socket(7) SO_TYPE")
def test_unix_raw(new_socket, expect):
    """SO_TYPE of a SOCK_RAW socket of AF_UNIX is SOCK_DGRAM."""
    expect(DGRAM).of(read_bytes(new_socket(AF_UNIX, RAW), "SO_TYPE", 4).as_unsigned())


@behaviour("socket.protocol.netlink", "netlink(7) netlink_family; socket(2) EPROTONOSUPPORT; netlink_create")
@pytest.mark.parametrize("type", [RAW, DGRAM], ids=lambda type: type.name)
def test_netlink(type, calls, new_socket, expect):
    """socket of AF_NETLINK accepts NETLINK_USERSOCK and the protocols that have a kernel socket in /proc/net/netlink.

    SO_PROTOCOL is the protocol. Below 0 and from 32 on socket fails with EPROTONOSUPPORT.
    """
    need_family(AF_NETLINK)
    for protocol in range(NETLINK_MAX):
        if protocol != NETLINK_USERSOCK and not procfs.has_netlink(protocol):
            continue
        socket = new_socket(AF_NETLINK, type, protocol)
        expect(protocol, protocol=protocol).of(read_bytes(socket, "SO_PROTOCOL", 4).as_unsigned())
    for first, last in ((NETLINK_MAX, 300), (-300, -1)):
        expect(-EPROTONOSUPPORT, protocols=f"{first}..{last}").of(
            protocol_sweep(calls, AF_NETLINK, type).run(range(first, last + 1))
        )


@behaviour("socket.protocol.netlink-absent", "netlink(7); netlink_create `nl_table[protocol].registered`")
def test_netlink_absent(calls, expect):
    """socket of AF_NETLINK fails with EPROTONOSUPPORT for a protocol that is gone from the kernel, NETLINK_W1,
    NETLINK_FIREWALL, NETLINK_NFLOG, NETLINK_IP6_FW and NETLINK_DNRTMSG, and for one that is not assigned.
    """
    need_family(AF_NETLINK)
    for protocol in GONE:
        # Kernels before Linux 6.1 may have DECnet, which NETLINK_DNRTMSG is about, as a module.
        if not procfs.has_netlink(protocol) and not procfs.loadable(f"net-pf-{AF_NETLINK:d}-proto-{protocol}"):
            expect(-EPROTONOSUPPORT, protocol=protocol).of(calls.socket(AF_NETLINK, RAW, protocol))
    # include/uapi/linux/netlink.h: 17 is reserved for NETLINK_DM, 23 and later are unassigned.
    for protocol in (17, *range(23, NETLINK_MAX)):
        expect(-EPROTONOSUPPORT, protocol=protocol).of(calls.socket(AF_NETLINK, RAW, protocol))


@behaviour("socket.protocol.vsock", "vsock(7); vsock_create `protocol && protocol != PF_VSOCK`")
def test_vsock(calls, expect):
    """socket of AF_VSOCK accepts the protocols 0 and 40 (PF_VSOCK); others fail with EPROTONOSUPPORT."""
    need_family(AF_VSOCK)
    (free,) = procfs.lowest()
    refused = -EPROTONOSUPPORT
    for first, last, answer in ((-300, -1, refused), (0, 0, OK), (1, 39, refused), (40, 40, OK), (41, 300, refused)):
        expect(with_descriptor(answer, free), protocols=f"{first}..{last}").of(
            protocol_sweep(calls, AF_VSOCK, STREAM).run(range(first, last + 1))
        )


@behaviour("socket.protocol.xdp", "socket(2) EPROTONOSUPPORT; xsk_create; Documentation/networking/af_xdp.rst")
def test_xdp(calls, expect):
    """socket of AF_XDP fails with EPROTONOSUPPORT for every protocol except 0."""
    need_family(AF_XDP)
    for first, last in ((-300, -1), (1, 300)):
        expect(-EPROTONOSUPPORT, protocols=f"{first}..{last}").of(
            protocol_sweep(calls, AF_XDP, RAW).run(range(first, last + 1))
        )


@behaviour("socket.protocol.of-another-type", SOURCE_INET)
@inet
def test_of_another_type(family, calls, expect):
    """socket fails with EPROTONOSUPPORT for a protocol of another type or family, with ESOCKTNOSUPPORT for SOCK_RDM."""
    need_family(family)
    cases = ((STREAM, 17), (STREAM, 255), (DGRAM, 6), (DGRAM, 1 if family == AF_INET6 else 58), (DGRAM, 255))
    for type, protocol in cases:
        expect(-EPROTONOSUPPORT, type=type, protocol=protocol).of(calls.socket(family, type, protocol))
    for protocol in (1, 6, 17, 58, 255):
        expect(-ESOCKTNOSUPPORT, type=RDM, protocol=protocol).of(calls.socket(family, RDM, protocol))
