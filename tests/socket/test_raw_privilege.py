"""CAP_NET_RAW: which sockets need it, of which user namespace, and what a refusal leaves."""

from errno import EPERM
from socket import AF_INET, AF_INET6, AF_PACKET

import pytest

from probes.entry.sweep import Sweep
from probes.sandbox import namespaces
from probes.testing import behaviour, need, not_applicable
from probes.testing import procfs as witness
from probes.testing.socket_kinds import NETLINK, TCP, TCP6, UDP, UDP6, UNIX
from tests.socket.socket_model import AF_XDP, DGRAM, FAMILIES, PACKET, PROTOCOL_MAX, RAW, TIMES

SOURCE = (
    "raw(7), packet(7), capabilities(7) CAP_NET_RAW; inet_create `ns_capable(net->user_ns, CAP_NET_RAW)`; S4 2.3 step 6"
)
SOURCE_NAMESPACE = f"{SOURCE}; user_namespaces(7) Effect of capabilities within a user namespace; network_namespaces(7)"
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
#: What needs the capability, by the words of socket().
CALLS = {
    "raw": (AF_INET, RAW, 253), "raw-icmp": (AF_INET, RAW, 1), "raw-iphdr": (AF_INET, RAW, 255),
    "raw6": (AF_INET6, RAW, 253), "raw6-icmp": (AF_INET6, RAW, 58), "raw6-iphdr": (AF_INET6, RAW, 255),
    "packet": (AF_PACKET, RAW, 0), "packet-dgram": (AF_PACKET, DGRAM, 0), "packet-all": (AF_PACKET, RAW, 0x0300),
    "sock-packet": (AF_INET, PACKET, 0), "xdp": (AF_XDP, RAW, 0),
}  # fmt: skip


@pytest.fixture
def needing():
    """The calls that need CAP_NET_RAW, of the families that the kernel has."""
    found = {}
    for name, words in CALLS.items():
        family = AF_PACKET if words[1] == PACKET else words[0]
        if FAMILIES[family].registered:
            found[name] = words
    return found or not_applicable("raw and packet sockets")


def protocols(calls, family):
    """A sweep of raw sockets over protocols; each is closed again."""
    sweep = Sweep(calls)
    fd = sweep.call("socket", family, RAW, sweep.value, judged=True)
    sweep.plain("close", fd)
    return sweep


def made(calls, expect, triple, **case):
    """Judges one call that makes a socket, and closes it: the lowest free descriptor."""
    (free,) = witness.lowest()
    announced = expect(free, **case)
    result = calls.socket(*triple)
    announced.of(result)
    if result >= 0:
        need(calls.close(result))


@behaviour("socket.privilege.refused", f"{SOURCE}; socket(2); packet_create, xsk_create")
def test_refused(needing, nobody, calls, expect):
    """Without CAP_NET_RAW no raw and no packet socket can be made: EPERM."""
    for name, triple in needing.items():
        expect(-EPERM, socket=name).of(calls.socket(*triple))


@behaviour("socket.privilege.every-protocol", SOURCE)
@pytest.mark.parametrize("family", [AF_INET, AF_INET6], ids=lambda family: family.name)
def test_every_protocol(family, unprivileged, calls, expect):
    """There is no protocol for which a raw socket needs no CAP_NET_RAW: EPERM for each."""
    if not FAMILIES[family].registered:
        not_applicable(f"the family {FAMILIES[family].name}")
    expect(-EPERM, protocols=f"1..{PROTOCOL_MAX - 1}").of(protocols(calls, family).run(range(1, PROTOCOL_MAX)))


@behaviour("socket.privilege.capability", SOURCE)
def test_capability(needing, calls, expect):
    """CAP_NET_RAW is enough, with no other capability."""
    namespaces.keep_capabilities(["CAP_NET_RAW"])
    for name, triple in needing.items():
        made(calls, expect, triple, socket=name)


@behaviour("socket.privilege.no-other-capability", SOURCE)
def test_no_other_capability(needing, calls, expect):
    """CAP_NET_ADMIN, CAP_SYS_ADMIN and others do not stand in for CAP_NET_RAW: EPERM."""
    namespaces.drop_capability("CAP_NET_RAW")
    for name, triple in needing.items():
        expect(-EPERM, socket=name).of(calls.socket(*triple))


@behaviour(
    "socket.privilege.not-needed",
    "socket(2); tcp(7), udp(7), unix(7), netlink(7); inet_create `SOCK_RAW == sock->type`",
)
@pytest.mark.parametrize("kind", [TCP, TCP6, UDP, UDP6, NETLINK, *UNIX], ids=str)
def test_not_needed(kind, make, nobody, calls, expect):
    """Stream, datagram, local and netlink sockets, those of type SOCK_RAW too, need no capability."""
    make(kind)
    made(calls, expect, kind.triple)


@behaviour("socket.privilege.child-user-namespace", SOURCE_NAMESPACE)
def test_child_user_namespace(needing, calls, expect):
    """Capabilities of a child user namespace do not count in the network namespace of its parent: EPERM."""
    for name, triple in needing.items():
        made(calls, expect, triple, socket=name, namespace="parent")
    namespaces.unshare(CLONE_NEWUSER)
    for name, triple in needing.items():
        expect(-EPERM, socket=name, namespace="child").of(calls.socket(*triple))


@behaviour("socket.privilege.own-network-namespace", SOURCE_NAMESPACE)
def test_own_network_namespace(needing, calls, expect):
    """Capabilities of a user namespace count in the network namespace that was made in it."""
    namespaces.unshare(CLONE_NEWUSER)
    for name, triple in needing.items():
        expect(-EPERM, socket=name, namespace="of-the-parent").of(calls.socket(*triple))
    namespaces.unshare(CLONE_NEWNET)
    for name, triple in needing.items():
        made(calls, expect, triple, socket=name, namespace="own")


@behaviour("socket.privilege.made-before", f"{SOURCE}; the check is made when the socket is, not when it is used")
def test_made_before(calls, new_socket, expect):
    """A raw socket that was made with CAP_NET_RAW goes on without it: it can be bound, and sends."""
    socket = new_socket(AF_INET, RAW, 253)
    namespaces.keep_capabilities(())
    address = b"\x02\x00\x00\x00\x7f\x00\x00\x01" + bytes(8)
    expect(0, step="bind").of(socket.bind(address))
    data = calls.memory.guarded(b"unprivileged")
    words = (data, data.size, 0, calls.pointer(address), len(address))
    expect(data.size, step="sendto").of(calls.make("sendto", socket.fd, *words))
    expect(-EPERM, step="another").of(calls.socket(AF_INET, RAW, 253))


@behaviour("socket.privilege.nothing-leaks", f"{SOURCE}; sock_release on every error path of __sock_create")
def test_nothing_leaks(needing, unprivileged, calls, expect):
    """Refusals, many times over, leave no descriptor, no socket and no row in a table."""
    before, opened = witness.counted(), witness.descriptors()
    tables = [len(witness.rows(table)) for table in witness.TABLES]
    for name, triple in needing.items():
        sweep = Sweep(calls)
        sweep.call("socket", *triple, judged=True)
        swept = sweep.run(range(TIMES))
        expect(-EPERM, socket=name).of(swept)
        last = swept.again(0)
        expect(before, socket=name, told="counts").of(witness.in_time(witness.counted, before), last)
        expect(tables, socket=name, told="rows").of([len(witness.rows(table)) for table in witness.TABLES], last)
        expect(True, socket=name, told="descriptors").of(opened == witness.descriptors(), last)
