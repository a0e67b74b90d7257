"""Names of mapped addresses, and of raw, netlink, packet and vsock sockets."""

import socket
import struct
from errno import EINVAL, ENOTCONN, EOPNOTSUPP

from probes.testing import behaviour, need, not_applicable, procfs
from probes.testing.socket_kinds import NETLINK, PACKET, PACKET_DGRAM, RAW, RAW6, TCP, TCP6, UDP, UDP6
from probes.testing.socket_model import FAMILIES
from probes.testing.states import CLIENT_PORT, SERVER_PORT

MAPPED = "::ffff:127.0.0.1"
#: include/uapi/linux/vm_sockets.h.
ANY = 0xFFFFFFFF


@behaviour("names.mapped.accepted", "ipv6(7) `IPv4 connections can be handled with the v6 API`; tcp_v6_syn_recv_sock")
def test_accepted(prepare, calls, memory, expect):
    """A connection over IPv4 that an IPv6 socket accepts has v4-mapped addresses: that of accept, its own and its peer's."""
    end, client = prepare("unbound", TCP6), prepare.another(0)("unbound", TCP)
    need(end.calls.bind(end.fd, TCP6.address(SERVER_PORT, "any")), "bind")
    need(end.calls.listen(end.fd, 1), "listen")
    need(client.calls.bind(client.fd, TCP.address(CLIENT_PORT)), "bind")
    client.connect(client.fd, TCP.address(SERVER_PORT))
    own, peer = TCP6.address(SERVER_PORT, MAPPED), TCP6.address(CLIENT_PORT, MAPPED)
    room, length = memory.alloc(64), memory.words(64)
    check = expect([peer, len(peer)], call="accept")
    result = calls.accept(end.fd, room, length)
    check.of([room.written(len(peer)), *length.words()] if result >= 0 else int(result), result)
    accepted = end.keep(result, "accept")
    expect(own, call="getsockname").of(calls.name("getsockname", accepted))
    expect(peer, call="getpeername").of(calls.name("getpeername", accepted))
    expect(TCP.address(SERVER_PORT), call="getpeername", end="client").of(calls.name("getpeername", client.fd))


@behaviour("names.mapped.connected", "ipv6(7) v4-mapped; tcp_v6_connect, __ip6_datagram_connect `ipv4_connected`")
def test_connected(prepare, calls, expect):
    """An IPv6 socket that connects to a v4-mapped address, over UDP also to one of AF_INET, has v4-mapped names."""
    for kind, over4 in ((TCP6, TCP), (UDP6, UDP)):
        forms = {"mapped": kind.address(SERVER_PORT, MAPPED)} | (
            {"inet": UDP.address(SERVER_PORT)} if kind is UDP6 else {}
        )
        for form, address in forms.items():
            server, end = prepare("bound", over4), prepare.another(0)("unbound", kind)
            if kind is TCP6:
                need(server.calls.listen(server.fd, 1), "listen")
            need(end.calls.bind(end.fd, kind.address(CLIENT_PORT, "any")), "bind")
            case = {"kind": kind, "address": form}
            expect(0, **case, call="connect").of(calls.connect(end.fd, address))
            expect(kind.address(SERVER_PORT, MAPPED), **case, call="getpeername").of(calls.name("getpeername", end.fd))
            expect(kind.address(CLIENT_PORT, MAPPED), **case, call="getsockname").of(calls.name("getsockname", end.fd))
            end.close()
            server.close()


@behaviour("names.scope.link", "ipv6(7) sin6_scope_id; inet6_getname `ipv6_iface_scope_id`")
def test_scope(prepare, calls, expect):
    """The names of an IPv6 socket have a scope for link-local addresses only: the loopback address has 0, whatever scope was
    given.
    """
    for kind in (TCP6, UDP6):
        end = prepare("beside-server", kind)
        scoped = end.server[:-4] + struct.pack("<I", 1)
        expect(0, kind=kind, call="connect").of(calls.connect(end.fd, scoped))
        expect(end.server, kind=kind, call="getpeername").of(calls.name("getpeername", end.fd))
        end.close()


@behaviour(
    "names.raw.connected",
    "raw(7); connect(2); ip4_datagram_connect; inet_getname `!inet->inet_dport`",
    tag="implementation",
)
def test_raw(prepare, calls, expect):
    """A raw socket has as its port its protocol. It has a peer's name only if it was connected to an address with a port."""
    for kind in (RAW, RAW6):
        end = prepare("unbound", kind)
        for port in (7, 8, 0):
            expect(0, kind=kind, port=port, call="connect").of(calls.connect(end.fd, kind.address(port)))
            peer = kind.address(port) if port else -ENOTCONN
            expect(kind.address(kind.protocol), kind=kind, port=port, read="own").of(calls.name("getsockname", end.fd))
            expect(peer, kind=kind, port=port, read="peer").of(calls.name("getpeername", end.fd))
        end.close()


def netlink(port, groups=0):
    """Packs a struct sockaddr_nl."""
    return struct.pack("<HHII", socket.AF_NETLINK, 0, port, groups)


@behaviour("names.netlink.every", "netlink(7); netlink_getname, netlink_connect")
def test_netlink(prepare, calls, expect):
    """A netlink socket's name has its port and groups, its peer's name those that it was connected to, or the kernel's
    port 0.
    """
    end = prepare("unbound", NETLINK)
    steps = {
        "unbound": (None, netlink(0), netlink(0)), "bound": (("bind", netlink(77, 3)), netlink(77, 3), netlink(0)),
        "connected": (("connect", netlink(78)), netlink(77, 3), netlink(78)),
        "unspec": (("connect", bytes(12)), netlink(77, 3), netlink(0)),
    }  # fmt: skip
    for state, (step, own, peer) in steps.items():
        if step is not None:
            op, address = step
            expect(0, state=state, call=op).of(getattr(calls, op)(end.fd, address))
        expect(own, state=state, read="own").of(calls.name("getsockname", end.fd))
        expect(peer, state=state, read="peer").of(calls.name("getpeername", end.fd))


@behaviour("names.packet.every", "packet(7) struct sockaddr_ll; packet_getname")
def test_packet(prepare, calls, expect):
    """A packet socket's name has its protocol and link, with the type and address of the link if it has one; it never has a
    peer: EOPNOTSUPP.
    """
    bare = struct.pack("<HHiHBB", socket.AF_PACKET, 0, 0, 0, 0, 0)
    # ARPHRD_LOOPBACK, and six bytes of zeros.
    bound = struct.pack("<H", socket.AF_PACKET) + struct.pack(">H", 0x88B5) + struct.pack("<iHBB6x", 1, 772, 0, 6)
    for kind in (PACKET, PACKET_DGRAM):
        for state, own in {"unbound": bare, "bound": bound}.items():
            end = prepare(state, kind)
            expect(own, kind=kind, state=state, read="own").of(calls.name("getsockname", end.fd))
            expect(-EOPNOTSUPP, kind=kind, state=state, read="peer").of(calls.name("getpeername", end.fd))
            end.close()


def vsock(port, cid=ANY):
    """Packs a struct sockaddr_vm."""
    return struct.pack("<HHII4x", socket.AF_VSOCK, 0, port, cid)


def need_vsock():
    """Ends the test as not applicable where the kernel has no AF_VSOCK."""
    if not FAMILIES[socket.AF_VSOCK].present(socket.AF_VSOCK):
        not_applicable("AF_VSOCK")


@behaviour("names.vsock.stream", "vsock(7); vsock_getname, __vsock_bind_connectible; VMADDR_PORT_ANY, VMADDR_CID_ANY")
def test_vsock(calls, expect):
    """A vsock stream socket has the wildcard port and address at first; bind to VMADDR_PORT_ANY gives it a port over 1023.
    It has no peer: ENOTCONN.
    """
    need_vsock()
    fd = need(calls.socket(socket.AF_VSOCK, socket.SOCK_STREAM, 0), "socket")
    expect(vsock(ANY), state="unbound", read="own").of(calls.name("getsockname", fd))
    expect(-ENOTCONN, state="unbound", read="peer").of(calls.name("getpeername", fd))
    expect(0, call="bind").of(calls.bind(fd, vsock(ANY)))
    check = expect([True, vsock(0)], state="bound", read="own")
    found = calls.name("getsockname", fd)
    port = found.bytes[4:8]
    check.of([1023 < int.from_bytes(port, "little") < ANY, found.without(port).value], found.result)
    expect(-ENOTCONN, state="bound", read="peer").of(calls.name("getpeername", fd))


@behaviour(
    "names.vsock.refused", "vsock(7) EINVAL; vsock_addr_cast, vsock_bind, vsock_connect, vsock_listen, vsock_accept"
)
def test_vsock_refused(calls, expect):
    """On a vsock stream socket an address that is shorter than 16 bytes or of another family is refused by bind and connect
    with EINVAL, as are listen without an address, a second bind, and accept on what does not listen.
    """
    need_vsock()
    fd = need(calls.socket(socket.AF_VSOCK, socket.SOCK_STREAM, 0), "socket")
    bad = {"short": vsock(ANY)[:15], "family": struct.pack("<H", socket.AF_INET) + vsock(ANY)[2:]}
    for case, address in bad.items():
        for op in ("bind", "connect"):
            expect(-EINVAL, call=op, address=case).of(getattr(calls, op)(fd, address))
    expect(-EINVAL, call="listen", state="unbound").of(calls.listen(fd, 1))
    before = procfs.descriptors()
    none = expect([], call="accept", state="unbound", left="descriptors")
    check = expect(-EINVAL, call="accept", state="unbound")
    refused = calls.accept(fd)
    check.of(refused)
    none.of([left for left in procfs.descriptors() if left not in before], refused)
    need(calls.bind(fd, vsock(ANY)), "bind")
    expect(-EINVAL, call="bind", state="bound").of(calls.bind(fd, vsock(ANY)))
    expect(0, call="listen", state="bound").of(calls.listen(fd, 1))
    accepts = expect(1, call="listen", state="bound", read="SO_ACCEPTCONN")
    accepts.of(calls.getsockopt(fd, socket.SOL_SOCKET, socket.SO_ACCEPTCONN).as_int())
