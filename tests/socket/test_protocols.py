"""The protocol word: the default, what each type of each family takes, what it refuses and how."""

from errno import EACCES, EINVAL, ENOPROTOOPT, EPROTONOSUPPORT, ESOCKTNOSUPPORT
from socket import AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, AF_VSOCK

import pytest

from probes.abi.names import value
from probes.entry.sweep import Sweep
from probes.sandbox import namespaces
from probes.testing import behaviour, not_applicable
from probes.testing import procfs as witness
from tests.socket.socket_model import (
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
    told,
)

SOURCE = "socket(2) EPROTONOSUPPORT; ip(7) `socket(AF_INET, socket_type, protocol)`; S4 2.3 steps 2 to 5"
SOURCE_INET = f"{SOURCE}; inet_create, inet6_create"
SOURCE_RANGE = "socket(2) EINVAL Unknown protocol; inet_create, inet6_create `protocol < 0 || protocol >= IPPROTO_MAX`"
SOURCE_PING = "socket(2) EACCES; ping_init_sock; Documentation/networking/ip-sysctl.rst ping_group_range"
#: The protocol of inet with a type and no protocol. SOCK_RAW has none.
DEFAULT = {STREAM: 6, DGRAM: 17}
#: Protocols of AF_NETLINK with a kernel socket, and by that registered, as they are before any sandbox.
NETLINK_KERNEL = frozenset(int(row[1]) for row in witness.rows("netlink").values() if row[2] == "0")
NETLINK_USERSOCK, NETLINK_MAX = 2, 32

inet = pytest.mark.parametrize("family", [AF_INET, AF_INET6], ids=lambda family: family.name)


def sweep_of(calls, family, type):
    """A sweep over protocols; each socket is closed again."""
    sweep = Sweep(calls)
    fd = sweep.call("socket", family, type, sweep.value, judged=True)
    sweep.plain("close", fd)
    return sweep


def there(family):
    """Not applicable unless the kernel has a family."""
    if not FAMILIES[family].registered:
        not_applicable(f"the family {FAMILIES[family].name}")


def number(socket, name):
    """(result, value) of an int option of the socket level."""
    result, data = socket.getsockopt(1, value(name))
    return result, int.from_bytes(data, "little")


@behaviour("socket.protocol.inet", SOURCE_INET)
@inet
@pytest.mark.parametrize("type", range(TYPE_MAX - 1))
def test_inet(family, type, calls, expect):
    """Of the protocols 0 to 300 a type of AF_INET or AF_INET6 takes those that it has, and 0 where it has a default;
    the others fail with EPROTONOSUPPORT, with ESOCKTNOSUPPORT if the type has no protocol at all, with EINVAL beyond
    IPPROTO_MAX.

    A protocol is missing if the kernel's list does not name it and no module would bring it. Where the kernel loads
    modules each refusal starts modprobe twice: only the ends of such a range are tried there. SOCK_PACKET, the last
    type, is not one of AF_INET: see test_sock_packet.py.
    """
    there(family)
    (free,) = witness.lowest()
    for first, last, answer in inet_answers(family, type):
        if answer in (-EPROTONOSUPPORT, -ESOCKTNOSUPPORT) and witness.modprobe():
            for protocol in sorted({first, last}):
                expect(answer, protocol=protocol).of(calls.socket(family, type, protocol))
            continue
        expect(told(answer, free), protocols=f"{first}..{last}").of(
            sweep_of(calls, family, type).run(range(first, last + 1))
        )


@behaviour("socket.protocol.inet-out-of-range", SOURCE_RANGE)
@inet
def test_inet_out_of_range(family, calls, expect):
    """A protocol that is negative, or not below IPPROTO_MAX, fails with EINVAL, whatever the type."""
    there(family)
    for type in (0, STREAM, DGRAM, RAW, RDM, SEQPACKET):
        for protocol in (-1, -(2**31), -17, PROTOCOL_MAX, 512, 0x10006, 0x7FFFFFFF):
            expect(-EINVAL, type=type, protocol=protocol).of(calls.socket(family, type, protocol))
        expect(-EINVAL, type=type, protocols="-1000..-1").of(sweep_of(calls, family, type).run(range(-1000, 0)))


@behaviour("socket.protocol.inet-default", f"{SOURCE}; inet_create `IPPROTO_IP == protocol`; socket(7) SO_PROTOCOL")
@inet
@pytest.mark.parametrize("type", DEFAULT, ids=lambda type: type.name)
def test_inet_default(family, type, calls, new_socket, expect):
    """Protocol 0 is TCP for a stream and UDP for datagrams, which SO_PROTOCOL tells; one that is given stays."""
    there(family)
    for protocol in (0, DEFAULT[type]):
        result, told = number(new_socket(family, type, protocol), "SO_PROTOCOL")
        expect(DEFAULT[type], asked=protocol).of(told, result)
    for other in INETSW[family][type]:
        if inet_has(family, type, other) and other.name in ("UDPLITE", "MPTCP"):
            result, told = number(new_socket(family, type, other.number), "SO_PROTOCOL")
            expect(other.number, asked=other.name).of(told, result)


@behaviour(
    "socket.protocol.raw", "raw(7); ip(7); inet_create `SOCK_RAW == sock->type`; inetsw SOCK_RAW IPPROTO_IP wild card"
)
@inet
def test_raw(family, new_socket, expect):
    """A raw socket may have any protocol from 1 on, which SO_PROTOCOL tells; there is no default."""
    there(family)
    for protocol in (1, 6, 17, 58, 89, 132, 253, 254, 255):
        result, told = number(new_socket(family, RAW, protocol), "SO_PROTOCOL")
        expect(protocol, protocol=protocol).of(told, result)


@behaviour("socket.protocol.ping", SOURCE_PING)
@inet
def test_ping(family, calls, expect):
    """A datagram socket of ICMP, AF_INET6 too, is for groups within net.ipv4.ping_group_range, of which a fresh network
    namespace has none: EACCES for others, whatever their capabilities.
    """
    there(family)
    ping = next(protocol for protocol in INETSW[family][DGRAM] if protocol.name == "ICMP")
    if not inet_has(family, DGRAM, ping):
        not_applicable(f"the protocol {ping.witness}")
    expect(-EACCES, range="default").of(calls.socket(family, DGRAM, ping.number))
    namespaces.set_sysctl("net.ipv4.ping_group_range", "0 0")
    (free,) = witness.lowest()
    expect(free, range="group-0").of(calls.socket(family, DGRAM, ping.number))


@behaviour("socket.protocol.mptcp-disabled", "Documentation/networking/mptcp-sysctl.rst enabled; mptcp_init_sock")
@inet
def test_mptcp_disabled(family, calls, expect):
    """Where net.mptcp.enabled is 0 a socket of IPPROTO_MPTCP fails with ENOPROTOOPT, where it is 1 it is made."""
    there(family)
    mptcp = next(protocol for protocol in INETSW[family][STREAM] if protocol.name == "MPTCP")
    if mptcp.witness not in witness.protocols():
        not_applicable(f"the protocol {mptcp.witness}")
    for enabled in (0, 1):
        namespaces.set_sysctl("net.mptcp.enabled", enabled)
        (free,) = witness.lowest()
        announced = expect(free if enabled else -ENOPROTOOPT, enabled=enabled)
        announced.of(calls.socket(family, STREAM, mptcp.number))


@behaviour("socket.protocol.unix", "unix(7); socket(2) EPROTONOSUPPORT; unix_create `protocol && protocol != PF_UNIX`")
@pytest.mark.parametrize("type", [STREAM, DGRAM, SEQPACKET], ids=lambda type: type.name)
def test_unix(type, calls, expect):
    """AF_UNIX has the protocols 0 and 1, which is PF_UNIX; the others fail with EPROTONOSUPPORT."""
    (free,) = witness.lowest()
    for first, last, answer in ((-1000, -1, -EPROTONOSUPPORT), (0, 1, OK), (2, 1000, -EPROTONOSUPPORT)):
        expect(told(answer, free), protocols=f"{first}..{last}").of(
            sweep_of(calls, AF_UNIX, type).run(range(first, last + 1))
        )


@behaviour("socket.protocol.unix-not-told", "unix_create1, which keeps no protocol; socket(7) SO_PROTOCOL")
def test_unix_not_told(new_socket, expect):
    """Both protocols of AF_UNIX are the same: SO_PROTOCOL is 0 for either."""
    for protocol in (0, 1):
        result, told = number(new_socket(AF_UNIX, STREAM, protocol), "SO_PROTOCOL")
        expect(0, asked=protocol).of(told, result)


@behaviour("socket.protocol.unix-raw", "unix_create SOCK_RAW; socket(7) SO_TYPE")
def test_unix_raw(new_socket, expect):
    """A SOCK_RAW of AF_UNIX is a datagram socket: SO_TYPE is SOCK_DGRAM."""
    result, told = number(new_socket(AF_UNIX, RAW), "SO_TYPE")
    expect(DGRAM).of(told, result)


@behaviour("socket.protocol.netlink", "netlink(7) netlink_family; socket(2) EPROTONOSUPPORT; netlink_create")
@pytest.mark.parametrize("type", [RAW, DGRAM], ids=lambda type: type.name)
def test_netlink(type, calls, new_socket, expect):
    """Each protocol of AF_NETLINK with a kernel socket in /proc/net/netlink makes sockets, so does NETLINK_USERSOCK,
    and SO_PROTOCOL tells it; beyond the 32 that there may be, and below 0, EPROTONOSUPPORT.
    """
    there(AF_NETLINK)
    for protocol in sorted(NETLINK_KERNEL | {NETLINK_USERSOCK}):
        result, told = number(new_socket(AF_NETLINK, type, protocol), "SO_PROTOCOL")
        expect(protocol, protocol=protocol).of(told, result)
    for first, last in ((NETLINK_MAX, 300), (-300, -1)):
        expect(-EPROTONOSUPPORT, protocols=f"{first}..{last}").of(
            sweep_of(calls, AF_NETLINK, type).run(range(first, last + 1))
        )


@behaviour("socket.protocol.netlink-absent", "netlink(7); netlink_create `nl_table[protocol].registered`")
def test_netlink_absent(calls, expect):
    """A protocol number of AF_NETLINK that nobody has taken fails with EPROTONOSUPPORT."""
    there(AF_NETLINK)
    # include/uapi/linux/netlink.h: 1 was NETLINK_SKIP, 17 is reserved for NETLINK_DM, from 23 on nothing is given.
    for protocol in (1, 17, *range(23, NETLINK_MAX)):
        expect(-EPROTONOSUPPORT, protocol=protocol).of(calls.socket(AF_NETLINK, RAW, protocol))


@behaviour("socket.protocol.vsock", "vsock(7); vsock_create `protocol && protocol != PF_VSOCK`")
def test_vsock(calls, expect):
    """AF_VSOCK has the protocols 0 and 40, which is PF_VSOCK; the others fail with EPROTONOSUPPORT."""
    there(AF_VSOCK)
    (free,) = witness.lowest()
    refused = -EPROTONOSUPPORT
    for first, last, answer in ((-300, -1, refused), (0, 0, OK), (1, 39, refused), (40, 40, OK), (41, 300, refused)):
        expect(told(answer, free), protocols=f"{first}..{last}").of(
            sweep_of(calls, AF_VSOCK, STREAM).run(range(first, last + 1))
        )


@behaviour("socket.protocol.xdp", "socket(2) EPROTONOSUPPORT; xsk_create; Documentation/networking/af_xdp.rst")
def test_xdp(calls, expect):
    """AF_XDP has protocol 0 alone; the others fail with EPROTONOSUPPORT."""
    there(AF_XDP)
    for first, last in ((-300, -1), (1, 300)):
        expect(-EPROTONOSUPPORT, protocols=f"{first}..{last}").of(
            sweep_of(calls, AF_XDP, RAW).run(range(first, last + 1))
        )


@behaviour("socket.protocol.of-another-type", SOURCE_INET)
@inet
def test_of_another_type(family, calls, expect):
    """A protocol of another type of the family, or of the other family, is refused like one that nobody has."""
    there(family)
    cases = ((STREAM, 17), (STREAM, 255), (DGRAM, 6), (DGRAM, 1 if family == AF_INET6 else 58), (DGRAM, 255))
    for type, protocol in cases:
        expect(-EPROTONOSUPPORT, type=type, protocol=protocol).of(calls.socket(family, type, protocol))
    for protocol in (1, 6, 17, 58, 255):
        expect(-ESOCKTNOSUPPORT, type=RDM, protocol=protocol).of(calls.socket(family, RDM, protocol))
