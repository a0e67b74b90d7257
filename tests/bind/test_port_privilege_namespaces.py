"""Privileged ports: other protocols, values of ip_unprivileged_port_start, and the user namespace that is asked."""

import os
from errno import EACCES, EINVAL
from socket import AF_INET, AF_INET6, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM

import pytest

from probes.sandbox import namespaces
from probes.testing import behaviour, need, not_applicable, procfs
from probes.testing.caller import Caller, refusable
from probes.testing.socket_kinds import RAW, RAW6, WITH_PORTS, SocketKind
from probes.testing.sweeps import DEFAULT_START, START, port_sweep
from tests.bind.bind_ports import RANGE

SOURCE = "bind(2) EACCES; ip(7) ip_unprivileged_port_start; inet_port_requires_bind_service; S4 3.2 step 6"
SOURCE_NAMESPACE = (
    "ip(7) `in the user namespace governing its network namespace`; ns_capable(net->user_ns); user_namespaces(7)"
)
SOURCE_SYSCTL = "Documentation/networking/ip-sysctl.rst ip_unprivileged_port_start; ipv4_privileged_ports"
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
#: Protocols with ports that a kernel may have besides TCP and UDP, by their names in /proc/net/protocols.
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
#: ICMP datagram sockets: the port of their address is the identifier of their echo requests.
PING = {"PING": SocketKind("ping", AF_INET, SOCK_DGRAM, 1), "PINGv6": SocketKind("ping6", AF_INET6, SOCK_DGRAM, 58)}


def require(protocol: str) -> None:
    """Ends the test as not applicable unless the kernel has a protocol."""
    if protocol not in procfs.protocols():
        not_applicable(f"the protocol {protocol}")


@behaviour("bind.port.other-protocols", f"{SOURCE}; udplite(7), sctp(7); __inet_bind, mptcp_bind, sctp_do_bind")
@pytest.mark.parametrize("protocol", OTHERS)
def test_other_protocols(protocol, calls, expect, caller):
    """UDP-Lite, MPTCP, SCTP and DCCP have the privileged ports of TCP and UDP: without CAP_NET_BIND_SERVICE, bind
    fails with EACCES below ip_unprivileged_port_start and succeeds from there on; with it bind succeeds.
    """
    require(protocol)
    kind = OTHERS[protocol]
    expect(0, ports=f"1..{DEFAULT_START - 1}", who="capability").of(
        port_sweep(calls, kind).run(range(1, DEFAULT_START))
    )
    caller.keep_capabilities(())
    expect(-EACCES, ports=f"1..{DEFAULT_START - 1}", who="nobody").of(
        port_sweep(calls, kind).run(range(1, DEFAULT_START))
    )
    unprivileged = range(DEFAULT_START, 2 * DEFAULT_START + 1)
    expect(0, ports=f"{DEFAULT_START}..{2 * DEFAULT_START}", who="nobody").of(port_sweep(calls, kind).run(unprivileged))


@behaviour(
    "bind.port.raw-has-none", "ip(7) `the raw IPv4 protocol as such has no concept of a port`; raw_bind, rawv6_bind"
)
def test_raw_has_none(new_socket, expect, caller):
    """bind of a raw socket ignores the port: any port needs no capability, and getsockname returns the protocol in its
    place.
    """
    sockets = {kind: new_socket(*kind.triple) for kind in (RAW, RAW6)}
    caller.keep_capabilities(())
    for kind, socket in sockets.items():
        for port in (1, 80, DEFAULT_START - 1, DEFAULT_START, 65535):
            expect(0, kind=kind, port=port).of(socket.bind(kind.address(port)))
            expect(kind.address(kind.protocol), kind=kind, port=port, then="name").of(socket.sockname())


@behaviour("bind.port.ping-identifier", "icmp(7) ping_group_range; ping_bind, ping_get_port; ip(7) privileged ports")
@pytest.mark.parametrize("protocol", PING)
def test_ping_identifier(protocol, calls, new_socket, expect, caller):
    """The port of an ICMP datagram socket is the identifier of its echo requests, and binding any needs no
    capability.
    """
    require(protocol)
    procfs.set_sysctl("net.ipv4.ping_group_range", "0 0")
    caller.keep_capabilities(())
    kind = PING[protocol]
    expect(0, ports=f"1..{DEFAULT_START}").of(port_sweep(calls, kind).run(range(1, DEFAULT_START + 1)))
    socket = new_socket(*kind.triple)
    need(socket.bind(kind.address(80)))
    expect(kind.address(80), then="name").of(socket.sockname())


def write_error(name: str, text: str) -> int:
    """Writes a sysctl and returns the errno, 0 if it was written."""
    try:
        procfs.set_sysctl(name, text)
    except OSError as error:
        return error.errno or 0
    return 0


@behaviour("bind.port.line-range", f"{SOURCE}; {SOURCE_SYSCTL}")
def test_start_range(new_socket, expect, caller):
    """Writing ip_unprivileged_port_start fails with EINVAL and changes nothing for a value that is no port, or above
    the first port of ip_local_port_range.
    """
    values = ("-1", "65536", "2147483647", "32769", "port")
    checks = {
        (kind, text): expect([EINVAL, -EACCES, 0], kind=kind, start=text) for kind in WITH_PORTS for text in values
    }
    errors = {text: write_error(START, text) for text in values}
    caller.keep_capabilities(())
    for kind in WITH_PORTS:
        below = new_socket(*kind.triple).bind(kind.address(DEFAULT_START - 1))
        at = new_socket(*kind.triple).bind(kind.address(DEFAULT_START))
        for text, error in errors.items():
            checks[kind, text].of([error, below, at], below, at)


@behaviour("bind.port.line-highest", f"{SOURCE}; {SOURCE_SYSCTL}; ip(7) ip_local_port_range")
def test_start_highest(calls, new_socket, expect, caller):
    """If ip_local_port_range begins at 65535, ip_unprivileged_port_start can be 65535: every lower port is then
    privileged.
    """
    procfs.set_sysctl(RANGE, "65535 65535")
    procfs.set_sysctl(START, 65535)
    caller.keep_capabilities(())
    for kind in WITH_PORTS:
        for port, answer in ((1, -EACCES), (DEFAULT_START, -EACCES), (65534, -EACCES), (65535, 0)):
            expect(answer, kind=kind, port=port).of(new_socket(*kind.triple).bind(kind.address(port)))


@behaviour("bind.port.line-of-namespace", f"{SOURCE}; {SOURCE_SYSCTL}; network_namespaces(7)")
def test_start_of_namespace(new_socket, expect, caller):
    """Each network namespace has its own ip_unprivileged_port_start, 1024 by default; the value of the socket's
    namespace counts.
    """
    procfs.set_sysctl(START, 0)
    olds = {kind: new_socket(*kind.triple) for kind in WITH_PORTS}
    caller.unshare(CLONE_NEWNET)
    news = {kind: new_socket(*kind.triple) for kind in WITH_PORTS}
    caller.keep_capabilities(())
    for kind in WITH_PORTS:
        expect(0, kind=kind, namespace="moved").of(olds[kind].bind(kind.address(80)))
        expect(-EACCES, kind=kind, namespace="fresh").of(news[kind].bind(kind.address(80, "any")))


@behaviour("bind.port.child-user-namespace", SOURCE_NAMESPACE)
def test_child_user_namespace(new_socket, expect, caller):
    """A capability in a child user namespace does not count in a network namespace of the parent (EACCES), whether the
    socket is older than the child or not. It counts in a network namespace of the child, but not for an older socket.
    """
    before = {kind: new_socket(*kind.triple) for kind in WITH_PORTS}
    caller.unshare(CLONE_NEWUSER)
    for kind in WITH_PORTS:
        expect(-EACCES, kind=kind, network="parent", socket="before").of(before[kind].bind(kind.address(80)))
        expect(-EACCES, kind=kind, network="parent", socket="after").of(new_socket(*kind.triple).bind(kind.address(80)))
        unprivileged = kind.address(DEFAULT_START)
        expect(0, kind=kind, network="parent", port=DEFAULT_START).of(new_socket(*kind.triple).bind(unprivileged))
    caller.unshare(CLONE_NEWNET)
    for kind in WITH_PORTS:
        expect(-EACCES, kind=kind, network="child", socket="before").of(before[kind].bind(kind.address(80)))
        fresh = new_socket(*kind.triple)
        expect(0, kind=kind, network="child", socket="after").of(fresh.bind(kind.address(80, "any")))
        need(fresh.close())


def enter_network_of_child(caller: Caller) -> None:
    """Moves the caller to the network namespace of a child process that has unshared its user and network namespaces.

    Raises OSError if the child cannot unshare them.
    """
    ready, done = os.pipe(), os.pipe()
    flags = CLONE_NEWUSER | CLONE_NEWNET
    child = os.fork()
    if child == 0:
        try:
            namespaces.unshare(flags)
            os.write(ready[1], b"\0")
            os.read(done[0], 1)
        except OSError as error:
            os.write(ready[1], bytes([error.errno or EINVAL]))
        finally:
            os._exit(0)
    os.close(ready[1])
    with refusable(flags):
        if error := int.from_bytes(os.read(ready[0], 1)):
            raise OSError(error, f"unshare by a child: {os.strerror(error)}")
    caller.enter(child, CLONE_NEWNET)
    os.write(done[1], b"d")
    os.waitpid(child, 0)


@behaviour("bind.port.parent-user-namespace", f"{SOURCE_NAMESPACE} `effective user ID matches the owner`; cap_capable")
@pytest.mark.parametrize("who", ["capability", "owner", pytest.param("other-user", marks=pytest.mark.sandbox(ids=2))])
def test_parent_user_namespace(who, new_socket, expect, caller):
    """In a network namespace of a child user namespace, a process of the parent may bind privileged ports if it has
    CAP_NET_BIND_SERVICE in the parent, or if its user created the child; otherwise bind fails with EACCES.
    """
    enter_network_of_child(caller)
    if who == "other-user":
        caller.become(namespaces.OTHER_IDS[0])
    else:
        caller.keep_capabilities(["CAP_NET_BIND_SERVICE"] if who == "capability" else [])
    for kind in WITH_PORTS:
        answer = -EACCES if who == "other-user" else 0
        socket = new_socket(*kind.triple)
        expect(answer, kind=kind).of(socket.bind(kind.address(80, "any")))
        need(socket.close())
