"""CAP_NET_RAW: which sockets need it, in which user namespace, and that a refusal leaks nothing."""

from errno import EPERM
from socket import AF_INET, AF_INET6, AF_PACKET

import pytest

from probes.abi import sockaddr
from probes.entry.calls import Calls
from probes.entry.gate import Result
from probes.entry.sweep import Sweep
from probes.testing import behaviour, need, not_applicable, procfs
from probes.testing.socket_kinds import NETLINK, TCP, TCP6, UDP, UDP6, UNIX
from probes.testing.socket_model import AF_XDP, DGRAM, FAMILIES, PACKET, PROTOCOL_MAX, RAW, TIMES

SOURCE = (
    "raw(7), packet(7), capabilities(7) CAP_NET_RAW; inet_create `ns_capable(net->user_ns, CAP_NET_RAW)`; S4 2.3 step 6"
)
SOURCE_NAMESPACE = f"{SOURCE}; user_namespaces(7) Effect of capabilities within a user namespace; network_namespaces(7)"
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
#: Calls that need CAP_NET_RAW.
CALLS = {
    "raw": (AF_INET, RAW, 253), "raw-icmp": (AF_INET, RAW, 1), "raw-iphdr": (AF_INET, RAW, 255),
    "raw6": (AF_INET6, RAW, 253), "raw6-icmp": (AF_INET6, RAW, 58), "raw6-iphdr": (AF_INET6, RAW, 255),
    "packet": (AF_PACKET, RAW, 0), "packet-dgram": (AF_PACKET, DGRAM, 0), "packet-all": (AF_PACKET, RAW, 0x0300),
    "sock-packet": (AF_INET, PACKET, 0), "xdp": (AF_XDP, RAW, 0),
}  # fmt: skip


@pytest.fixture
def needing() -> dict[str, tuple[int, int, int]]:
    """The arguments of the calls that need CAP_NET_RAW, of the families that the kernel has."""
    found = {}
    for name, triple in CALLS.items():
        family = AF_PACKET if triple[1] == PACKET else triple[0]
        if FAMILIES[family].registered:
            found[name] = triple
    return found or not_applicable("raw and packet sockets")


def raw_sweep(calls: Calls, family: int) -> Sweep:
    """Returns a sweep of raw sockets over protocols; each socket is closed again."""
    sweep = Sweep(calls)
    fd = sweep.call("socket", family, RAW, sweep.value, judged=True)
    sweep.syscall("close", fd)
    return sweep


def close_made(calls: Calls, made: Result) -> None:
    """Closes a socket, if one was made: the next call gets the same descriptor."""
    if made >= 0:
        need(calls.close(made))


@behaviour("socket.privilege.refused", f"{SOURCE}; socket(2); packet_create, xsk_create")
def test_refused(needing, nobody, calls, expect):
    """socket fails with EPERM without CAP_NET_RAW for every raw, packet and XDP socket."""
    for name, triple in needing.items():
        expect(-EPERM, socket=name).of(calls.socket(*triple))


@behaviour("socket.privilege.every-protocol", SOURCE)
@pytest.mark.parametrize("family", [AF_INET, AF_INET6], ids=lambda family: family.name)
def test_every_protocol(family, unprivileged, calls, expect):
    """A raw socket of any protocol needs CAP_NET_RAW: socket fails with EPERM for each."""
    if not FAMILIES[family].registered:
        not_applicable(f"the family {FAMILIES[family].name}")
    expect(-EPERM, protocols=f"1..{PROTOCOL_MAX - 1}").of(raw_sweep(calls, family).run(range(1, PROTOCOL_MAX)))


@behaviour("socket.privilege.capability", SOURCE)
def test_capability(needing, calls, expect, caller):
    """CAP_NET_RAW alone suffices for every raw, packet and XDP socket."""
    caller.keep_capabilities(["CAP_NET_RAW"])
    (free,) = procfs.lowest()
    for name, triple in needing.items():
        check = expect(free, socket=name)
        made = calls.socket(*triple)
        check.of(made)
        close_made(calls, made)


@behaviour("socket.privilege.no-other-capability", SOURCE)
def test_no_other_capability(needing, calls, expect, caller):
    """socket fails with EPERM with every capability except CAP_NET_RAW."""
    caller.drop_capability("CAP_NET_RAW")
    for name, triple in needing.items():
        expect(-EPERM, socket=name).of(calls.socket(*triple))


@behaviour(
    "socket.privilege.not-needed",
    "socket(2); tcp(7), udp(7), unix(7), netlink(7); inet_create `SOCK_RAW == sock->type`",
)
@pytest.mark.parametrize("kind", [TCP, TCP6, UDP, UDP6, NETLINK, *UNIX], ids=str)
def test_not_needed(kind, make, nobody, calls, expect):
    """TCP, UDP, AF_UNIX and netlink sockets need no capability, also netlink sockets of type SOCK_RAW."""
    make(kind)
    expect(*procfs.lowest()).of(calls.socket(*kind.triple))


@behaviour("socket.privilege.child-user-namespace", SOURCE_NAMESPACE)
def test_child_user_namespace(needing, calls, expect, caller):
    """CAP_NET_RAW in a child user namespace does not apply to a network namespace of its parent: socket fails with EPERM."""
    (free,) = procfs.lowest()
    for name, triple in needing.items():
        check = expect(free, socket=name, namespace="parent")
        made = calls.socket(*triple)
        check.of(made)
        close_made(calls, made)
    caller.unshare(CLONE_NEWUSER)
    for name, triple in needing.items():
        expect(-EPERM, socket=name, namespace="child").of(calls.socket(*triple))


@behaviour("socket.privilege.own-network-namespace", SOURCE_NAMESPACE)
def test_own_network_namespace(needing, calls, expect, caller):
    """CAP_NET_RAW in a user namespace applies to a network namespace that was made in it."""
    caller.unshare(CLONE_NEWUSER)
    for name, triple in needing.items():
        expect(-EPERM, socket=name, namespace="of-the-parent").of(calls.socket(*triple))
    caller.unshare(CLONE_NEWNET)
    (free,) = procfs.lowest()
    for name, triple in needing.items():
        check = expect(free, socket=name, namespace="own")
        made = calls.socket(*triple)
        check.of(made)
        close_made(calls, made)


@behaviour("socket.privilege.made-before", f"{SOURCE}; the check is made when the socket is, not when it is used")
def test_made_before(calls, new_socket, expect, caller):
    """bind and sendto of a raw socket succeed after the process dropped CAP_NET_RAW, with which it was made."""
    socket = new_socket(AF_INET, RAW, 253)
    caller.keep_capabilities(())
    address = sockaddr.inet("127.0.0.1", 0)
    expect(0, step="bind").of(socket.bind(address))
    data = calls.memory.guarded(b"unprivileged")
    words = (data, data.size, 0, calls.pointer(address), len(address))
    expect(data.size, step="sendto").of(calls.make("sendto", socket.fd, *words))
    expect(-EPERM, step="another").of(calls.socket(AF_INET, RAW, 253))


@behaviour("socket.privilege.nothing-leaks", f"{SOURCE}; sock_release on every error path of __sock_create")
def test_nothing_leaks(needing, unprivileged, calls, expect):
    """socket that fails with EPERM, many times, leaves no descriptor, no socket and no row in /proc/net."""
    counted, listed, opened = procfs.socket_counts(), procfs.row_counts(), procfs.descriptors()
    for name, triple in needing.items():
        result = expect(-EPERM, socket=name)
        counts, rows = expect(counted, socket=name, judged="counts"), expect(listed, socket=name, judged="rows")
        same_descriptors = expect(True, socket=name, judged="descriptors")
        sweep = Sweep(calls)
        sweep.call("socket", *triple, judged=True)
        swept = sweep.run(range(TIMES))
        result.of(swept)
        last = swept.again(0)
        counts.of(procfs.read_until(procfs.socket_counts, counted), last)
        rows.of(procfs.row_counts(), last)
        same_descriptors.of(opened == procfs.descriptors(), last)
