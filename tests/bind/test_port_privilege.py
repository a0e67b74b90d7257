"""Privileged ports of other protocols, where the line can lie, and whose capabilities count."""

import ctypes
import os
from errno import EACCES, EINVAL
from socket import AF_INET, AF_INET6, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM

import pytest

from probes.sandbox import namespaces
from probes.testing import Broke, behaviour, need, not_applicable
from probes.testing import procfs as witness
from probes.testing.socket_kinds import RAW, RAW6, WITH_PORTS, SocketKind
from tests.bind.bind_ports import ports

SOURCE = "bind(2) EACCES; ip(7) ip_unprivileged_port_start; inet_port_requires_bind_service; S4 3.2 step 6"
SOURCE_NAMESPACE = (
    "ip(7) `in the user namespace governing its network namespace`; ns_capable(net->user_ns); user_namespaces(7)"
)
SOURCE_SYSCTL = "Documentation/networking/ip-sysctl.rst ip_unprivileged_port_start; ipv4_privileged_ports"
LINE = 1024
NEWUSER, NEWNET = 0x10000000, 0x40000000
START, RANGE = "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_port_range"
#: Protocols with ports that a kernel may have beside TCP and UDP, by their names in /proc/net/protocols.
OTHERS = {
    "UDP-Lite": SocketKind("udplite", AF_INET, SOCK_DGRAM, 136),
    "UDPLITEv6": SocketKind("udplite6", AF_INET6, SOCK_DGRAM, 136),
    "MPTCP": SocketKind("mptcp", AF_INET, SOCK_STREAM, 262),
    "MPTCPv6": SocketKind("mptcp6", AF_INET6, SOCK_STREAM, 262),
    "SCTP": SocketKind("sctp", AF_INET, SOCK_SEQPACKET, 132),
    "SCTPv6": SocketKind("sctp6", AF_INET6, SOCK_SEQPACKET, 132),
    # SOCK_DCCP
    "DCCP": SocketKind("dccp", AF_INET, 6, 33),
    "DCCPv6": SocketKind("dccp6", AF_INET6, 6, 33),
}
#: A datagram socket of ICMP: what it has for a port is the identifier of its echo requests.
PING = {"PING": SocketKind("ping", AF_INET, SOCK_DGRAM, 1), "PINGv6": SocketKind("ping6", AF_INET6, SOCK_DGRAM, 58)}


def there(protocol):
    """Not applicable unless the kernel has a protocol."""
    if protocol not in witness.protocols():
        not_applicable(f"the protocol {protocol}")


@behaviour("bind.port.other-protocols", f"{SOURCE}; udplite(7), sctp(7); __inet_bind, mptcp_bind, sctp_do_bind")
@pytest.mark.parametrize("protocol", OTHERS)
def test_other_protocols(protocol, calls, expect):
    """Every protocol with ports has the same privileged ones: EACCES below ip_unprivileged_port_start without
    CAP_NET_BIND_SERVICE, nothing of the kind from there on or with it.
    """
    there(protocol)
    kind = OTHERS[protocol]
    expect(0, ports=f"1..{LINE - 1}", who="capability").of(ports(calls, kind).run(range(1, LINE)))
    namespaces.keep_capabilities(())
    expect(-EACCES, ports=f"1..{LINE - 1}", who="nobody").of(ports(calls, kind).run(range(1, LINE)))
    expect(0, ports=f"{LINE}..{2 * LINE}", who="nobody").of(ports(calls, kind).run(range(LINE, 2 * LINE + 1)))


@behaviour(
    "bind.port.raw-has-none", "ip(7) `the raw IPv4 protocol as such has no concept of a port`; raw_bind, rawv6_bind"
)
def test_raw_has_none(new_socket, expect):
    """The port in the address of a raw socket is not looked at: whoever has such a socket binds with any, and the name
    has the protocol there.
    """
    sockets = {kind: new_socket(*kind.triple) for kind in (RAW, RAW6)}
    namespaces.keep_capabilities(())
    for kind, socket in sockets.items():
        for port in (1, 80, LINE - 1, LINE, 65535):
            expect(0, kind=kind, port=port).of(socket.bind(kind.address(port)))
            result, name = socket.sockname()
            expect(kind.address(kind.protocol), kind=kind, port=port, then="name").of(name, result)


@behaviour("bind.port.ping-identifier", "icmp(7) ping_group_range; ping_bind, ping_get_port; ip(7) privileged ports")
@pytest.mark.parametrize("protocol", PING)
def test_ping_identifier(protocol, calls, new_socket, expect):
    """The port of a datagram socket of ICMP is the identifier of its echo requests, and none of these is privileged."""
    there(protocol)
    namespaces.set_sysctl("net.ipv4.ping_group_range", "0 0")
    namespaces.keep_capabilities(())
    kind = PING[protocol]
    expect(0, ports=f"1..{LINE}").of(ports(calls, kind).run(range(1, LINE + 1)))
    socket = new_socket(*kind.triple)
    need(socket.bind(kind.address(80)))
    result, name = socket.sockname()
    expect(kind.address(80), then="name").of(name, result)


def refusal(name, text):
    """The errno of writing a sysctl, 0 if it is written."""
    try:
        namespaces.set_sysctl(name, text)
    except OSError as error:
        return error.errno
    return 0


@behaviour("bind.port.line-range", f"{SOURCE}; {SOURCE_SYSCTL}")
def test_line_range(new_socket, expect):
    """ip_unprivileged_port_start is a port that is not above the first automatic one: other values are refused with
    EINVAL and leave the line where it is.
    """
    refusals = {text: refusal(START, text) for text in ("-1", "65536", "2147483647", "32769", "port")}
    namespaces.keep_capabilities(())
    for kind in WITH_PORTS:
        below = new_socket(*kind.triple).bind(kind.address(LINE - 1))
        at = new_socket(*kind.triple).bind(kind.address(LINE))
        for text, told in refusals.items():
            expect([EINVAL, -EACCES, 0], kind=kind, start=text).of([told, below, at], below, at)


@behaviour("bind.port.line-highest", f"{SOURCE}; {SOURCE_SYSCTL}; ip(7) ip_local_port_range")
def test_line_highest(calls, new_socket, expect):
    """If the automatic ports begin at 65535 the line can lie there: every other port is privileged."""
    namespaces.set_sysctl(RANGE, "65535 65535")
    namespaces.set_sysctl(START, 65535)
    namespaces.keep_capabilities(())
    for kind in WITH_PORTS:
        for port, answer in ((1, -EACCES), (LINE, -EACCES), (65534, -EACCES), (65535, 0)):
            expect(answer, kind=kind, port=port).of(new_socket(*kind.triple).bind(kind.address(port)))


@behaviour("bind.port.line-of-namespace", f"{SOURCE}; {SOURCE_SYSCTL}; network_namespaces(7)")
def test_line_of_namespace(new_socket, expect):
    """Each network namespace has a line of its own, at 1024 to begin with; a socket keeps to that of its own one."""
    namespaces.set_sysctl(START, 0)
    olds = {kind: new_socket(*kind.triple) for kind in WITH_PORTS}
    namespaces.unshare(NEWNET)
    news = {kind: new_socket(*kind.triple) for kind in WITH_PORTS}
    namespaces.keep_capabilities(())
    for kind in WITH_PORTS:
        expect(0, kind=kind, namespace="moved").of(olds[kind].bind(kind.address(80)))
        expect(-EACCES, kind=kind, namespace="fresh").of(news[kind].bind(kind.address(80, "any")))


@behaviour("bind.port.child-user-namespace", SOURCE_NAMESPACE)
def test_child_user_namespace(new_socket, expect):
    """Capabilities in a child user namespace do not count in a network namespace of its parent: EACCES, for sockets
    made before and after. They count in a network namespace that was made there, but not for a socket from before.
    """
    before = {kind: new_socket(*kind.triple) for kind in WITH_PORTS}
    namespaces.unshare(NEWUSER)
    for kind in WITH_PORTS:
        expect(-EACCES, kind=kind, network="parent", socket="before").of(before[kind].bind(kind.address(80)))
        expect(-EACCES, kind=kind, network="parent", socket="after").of(new_socket(*kind.triple).bind(kind.address(80)))
        expect(0, kind=kind, network="parent", port=LINE).of(new_socket(*kind.triple).bind(kind.address(LINE)))
    namespaces.unshare(NEWNET)
    for kind in WITH_PORTS:
        expect(-EACCES, kind=kind, network="child", socket="before").of(before[kind].bind(kind.address(80)))
        fresh = new_socket(*kind.triple)
        expect(0, kind=kind, network="child", socket="after").of(fresh.bind(kind.address(80, "any")))
        need(fresh.close())


def enter_network_of_child():
    """Changes into the network namespace of a child that has made itself a user namespace too. Raises Broke."""
    ready, done = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            namespaces.unshare(NEWUSER | NEWNET)
            os.write(ready[1], b"r")
            os.read(done[0], 1)
        finally:
            os._exit(0)
    os.close(ready[1])
    if os.read(ready[0], 1) != b"r":
        raise Broke("a child could not make its namespaces")
    network = os.open(f"/proc/{child}/ns/net", os.O_RDONLY)
    # os.setns is there from Python 3.12 on.
    entered = ctypes.CDLL(None, use_errno=True).setns(network, NEWNET)
    os.write(done[1], b"d")
    os.waitpid(child, 0)
    if entered != 0:
        raise Broke(f"setns: {os.strerror(ctypes.get_errno())}")


@behaviour("bind.port.parent-user-namespace", f"{SOURCE_NAMESPACE} `effective user ID matches the owner`; cap_capable")
@pytest.mark.parametrize("who", ["capability", "owner", pytest.param("other-user", marks=pytest.mark.sandbox(ids=2))])
def test_parent_user_namespace(who, new_socket, expect):
    """In a network namespace of a child user namespace the capability counts that a process has in the parent, and the
    user who made the child needs none; another user without it is refused, EACCES.
    """
    enter_network_of_child()
    if who == "other-user":
        namespaces.become(namespaces.OTHER_IDS[0])
    else:
        namespaces.keep_capabilities(["CAP_NET_BIND_SERVICE"] if who == "capability" else [])
    for kind in WITH_PORTS:
        answer = -EACCES if who == "other-user" else 0
        socket = new_socket(*kind.triple)
        expect(answer, kind=kind).of(socket.bind(kind.address(80, "any")))
        need(socket.close())
