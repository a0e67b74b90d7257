"""What bind leaves: the name, no peer, what the socket receives, and what a dissolved association keeps."""

import socket as python
import struct
from collections.abc import Callable
from errno import EADDRINUSE, EAGAIN, EINVAL, ENOTCONN, EOPNOTSUPP

import pytest

from probes.abi.sockaddr import inet
from probes.entry.calls import Socket
from probes.testing import behaviour, need
from probes.testing.checksum import checksum
from probes.testing.prepared import await_events
from probes.testing.socket_kinds import CONNECTING, PACKET, RAW, RAW6, UDP, UNIX, WITH_PORTS, SocketKind
from tests.bind.bind_forms import ETH_P_ALL, packet, unix
from tests.bind.network_links import LOCAL, NEIGHBOUR

SOURCE = "bind(2); getsockname(2); S4 3.2 steps 8 and 11"
SOURCE_LOCKS = (
    "connect(2) AF_UNSPEC; SOCK_BINDADDR_LOCK, SOCK_BINDPORT_LOCK in __inet_bind, __inet6_bind; S4 3.2 step 10"
)
SOURCE_LOST = f"{SOURCE_LOCKS}; __udp_disconnect, tcp_disconnect, tcp_set_state inet_put_port"
#: struct linger with which close resets a connection.
NO_LINGER = struct.pack("<ii", 1, 0)
#: include/uapi/linux/if_ether.h, in.h.
ETH_P_IP, IP_PKTINFO = 0x0800, 8
#: struct sockaddr of AF_UNSPEC: connect to it dissolves an association.
UNSPEC = bytes(16)


@behaviour("bind.afterwards.name", SOURCE)
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
def test_name(kind, new_socket, expect):
    """getsockname returns the address and port that were bound; padding (sin_zero) that bind was given comes back as
    zeros, and bytes past the structure do not come back.
    """
    for host in ("any", "loopback"):
        for port in (1, 5000, 65535):
            sock, address = new_socket(*kind.triple), kind.address(port, host)
            padded = address[:8] + b"\xa5" * 8 if kind.family == python.AF_INET else address
            need(sock.bind(padded + b"\xa5" * (128 - len(padded))))
            expect(address, host=host, port=port).of(sock.sockname())
            need(sock.close())


@behaviour(
    "bind.afterwards.no-peer", "getpeername(2) ENOTCONN; inet_getname, inet6_getname, unix_getname, packet_getname"
)
def test_no_peer(new_socket, expect):
    """getpeername fails with ENOTCONN on a socket that is only bound, and with EOPNOTSUPP on a packet socket."""
    for kind in (*WITH_PORTS, RAW, RAW6):
        sock = new_socket(*kind.triple)
        need(sock.bind(kind.address(5000 if kind in WITH_PORTS else 0)))
        expect(-ENOTCONN, kind=kind).of(sock.peername())
        need(sock.close())
    for kind in UNIX:
        sock = new_socket(*kind.triple)
        need(sock.bind(unix(b"\0name")))
        expect(-ENOTCONN, kind=kind).of(sock.peername())
    sock = new_socket(*PACKET.triple)
    need(sock.bind(packet(ETH_P_ALL, 0)))
    expect(-EOPNOTSUPP, kind=PACKET).of(sock.peername())


#: The host and port of the first bind, then the host that is kept when the association is dissolved, and if the port is.
LOCKS: dict[str, tuple[tuple[str, int] | None, tuple[str, bool]]] = {
    "nothing": (None, ("any", False)), "any-automatic": (("any", 0), ("any", False)),
    "address-automatic": (("loopback", 0), ("loopback", False)), "any-port": (("any", 5001), ("any", True)),
    "address-port": (("loopback", 5001), ("loopback", True)),
}  # fmt: skip


def connected(new_socket: Callable[..., Socket], kind: SocketKind, first: tuple[str, int] | None) -> Socket:
    """Returns a socket that was bound to the host and port `first`, unless None, and connected to a peer."""
    server, sock = new_socket(*kind.triple), new_socket(*kind.triple)
    need(server.bind(kind.address(5000)))
    if kind in CONNECTING:
        need(server.listen())
        # No TIME_WAIT: the connection is reset.
        need(sock.setsockopt(python.SOL_SOCKET, python.SO_LINGER, NO_LINGER))
    if first:
        need(sock.bind(kind.address(first[1], first[0])))
    need(sock.connect(kind.address(5000)))
    need(server.close())
    return sock


@behaviour("bind.afterwards.locks", SOURCE_LOCKS)
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
def test_locks(kind, new_socket, expect):
    """Dissolving an association keeps what bind was given: an address that is not the wildcard, a port that is not 0.
    With such a port the socket is still bound (EINVAL) and the port in use (EADDRINUSE).
    """
    for case, (first, (host, locked)) in LOCKS.items():
        sock = connected(new_socket, kind, first)
        expect(0, first=case, then="disconnect").of(sock.connect(UNSPEC))
        at = kind.address(5001 if locked else 0, host)
        # Without the port: getsockname of a TCP socket keeps the port that it has lost (see test_port_after_loss).
        address = expect(at[:2] + at[4:], first=case, then="address")
        name = sock.sockname()
        address.of(name.bytes[:2] + name.bytes[4:], name)
        if locked:
            expect(at, first=case, then="name").of(sock.sockname())
            expect(-EADDRINUSE, first=case, then="other").of(new_socket(*kind.triple).bind(kind.address(5001)))
            expect(-EINVAL, first=case, then="bind").of(sock.bind(kind.address(5002)))
        expect(-ENOTCONN, first=case, then="peer").of(sock.peername())
        need(sock.close())


@behaviour("bind.afterwards.automatic-port-lost", SOURCE_LOST)
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
def test_automatic_port_lost(kind, new_socket, expect):
    """Dissolving an association releases an ephemeral port: another socket can bind it, and this one can be bound
    again.
    """
    for case, (first, (_, locked)) in LOCKS.items():
        if locked:
            continue
        sock, other = connected(new_socket, kind, first), new_socket(*kind.triple)
        name = sock.sockname()
        need(sock.connect(UNSPEC))
        expect(0, first=case, socket="other").of(other.bind(name.bytes))
        expect(0, first=case, socket="same").of(sock.bind(kind.address(5001)))
        expect(kind.address(5001), first=case, socket="same", then="name").of(sock.sockname())
        need(sock.close())
        need(other.close())


@behaviour(
    "bind.afterwards.lost-port-told",
    f"{SOURCE_LOST}; __inet_put_port leaves inet_sport; inet_getname",
    tag="implementation",
)
def test_port_after_loss(new_socket, expect):
    """After an association is dissolved, getsockname of a datagram socket that had an ephemeral port returns port 0;
    of a TCP socket it returns the port, although that is free.
    """
    for kind in WITH_PORTS:
        sock = connected(new_socket, kind, ("loopback", 0))
        before = sock.sockname()
        need(sock.connect(UNSPEC))
        same = expect(kind in CONNECTING, kind=kind)
        zero = expect(kind not in CONNECTING, kind=kind, then="zero")
        now = sock.sockname()
        same.of(now.bytes[2:4] == before.bytes[2:4], now)
        zero.of(now.bytes[2:4] == b"\0\0", now)


@behaviour(
    "bind.afterwards.receives",
    "ip(7) INADDR_ANY `bound to all local interfaces`; raw(7) `bound to a specific local address`",
)
def test_receives(calls, memory, new_socket, expect):
    """A datagram or raw socket receives what is sent to the address that it is bound to and nothing else; bound to the
    wildcard address it receives what is sent to every address of the host.
    """
    for kind in (UDP, RAW):
        port = 5000 if kind is UDP else 0
        for host, arriving in (("127.0.0.2", [b"2"]), ("any", [b"1", b"2", b"3"])):
            sock = new_socket(*kind.triple)
            need(sock.bind(kind.address(port, host)))
            sender = new_socket(*kind.triple)
            # The last one is a marker: it comes behind all that was sent before.
            for data, number in ((b"1", 1), (b"2", 2), (b"3", 3), (b"m", 2)):
                data, address = memory.put(data), memory.put(kind.address(port, f"127.0.0.{number}"))
                need(calls.make("sendto", sender, data, 1, 0, address, 16), returns=1)
            need(sender.close())
            buffer = memory.alloc(64)
            for index, data in enumerate(arriving):
                header = 0 if kind is UDP else 20
                check = expect([header + 1, data], kind=kind, host=host, message=index)
                result = calls.make("recv", sock, buffer, 64, 0)
                check.of([int(result), buffer.read()[header : header + 1]], result)
            need(calls.make("recv", sock, buffer, 64, 0), "recv of the marker", returns=header + 1)
            last = expect(-EAGAIN, kind=kind, host=host, message="last")
            last.of(calls.make("recv", sock, buffer, 64, python.MSG_DONTWAIT))
            need(sock.close())


@behaviour(
    "bind.afterwards.every-interface", "ip(7) INADDR_ANY `bound to all local interfaces`, IP_PKTINFO; __udp4_lib_lookup"
)
def test_every_interface(links, caller, calls, memory, new_socket, expect):
    """A datagram socket that is bound to the wildcard address receives what comes in over any link, and IP_PKTINFO has the
    index of that link and the address that the datagram was sent to.
    """
    caller.keep_capabilities(("CAP_NET_RAW", "CAP_NET_ADMIN"))
    links.raise_far()
    receiver, sender = new_socket(*UDP.triple), new_socket(python.AF_PACKET, python.SOCK_DGRAM, 0)
    need(receiver.bind(UDP.address(5000, "any")))
    need(receiver.setsockopt(python.IPPROTO_IP, IP_PKTINFO, 1))
    room, part = memory.alloc(64), memory.alloc(16)
    vector, name = memory.words(part, part.size), memory.alloc(16)
    header = memory.words(name, name.size, vector, 1, room, room.size, 0)
    source = inet(NEIGHBOUR, 4000)
    head, addresses = struct.pack("<Iii", 24, python.IPPROTO_IP, IP_PKTINFO), 2 * python.inet_aton(LOCAL)
    check = expect([5, b"wired", source, head, "near", addresses])
    packet, to = calls.pointer(wired(source, inet(LOCAL, 5000))), memory.put(broadcast(links.far))
    need(calls.make("sendto", sender, packet, 20 + 8 + 5, 0, to, to.size), "sendto", returns=20 + 8 + 5)
    result = calls.make("recvmsg", receiver, header, 0)
    control = room.read()[: header.words()[5]]
    link = {links.near: "near", links.far: "far"}.get(int.from_bytes(control[12:16], "little"), "other")
    check.of([result, part.read()[:5], name.read(), control[:12], link, control[16:]], result)


@behaviour("bind.device.receives", "socket(7) SO_BINDTODEVICE `only packets received from that particular interface`")
def test_device_receives(links, calls, memory, new_socket, expect):
    """With SO_BINDTODEVICE a socket receives what comes in over that link, and nothing from another one."""
    sender, room = new_socket(*UDP.triple), memory.alloc(16)
    there = {name: new_socket(*UDP.triple) for name in ("lo", "near0")}
    for name, sock in there.items():
        need(sock.setsockopt(python.SOL_SOCKET, python.SO_REUSEADDR, 1), "SO_REUSEADDR")
        need(sock.setsockopt(python.SOL_SOCKET, python.SO_BINDTODEVICE, name.encode()), "SO_BINDTODEVICE")
        need(sock.bind(UDP.address(5000, "any")), "bind")
    # A datagram to an address of this host counts as one that came in over the link that has the address.
    for host, device, other in (("127.0.0.1", "lo", "near0"), (LOCAL, "near0", "lo")):
        check, nothing = (
            expect([4, b"data"], sent_to=device, device=device),
            expect(-EAGAIN, sent_to=device, device=other),
        )
        name = memory.put(inet(host, 5000))
        need(calls.make("sendto", sender, calls.pointer(b"data"), 4, 0, name, 16), "sendto", returns=4)
        await_events(calls, there[device])
        result = calls.make("recv", there[device], room, 16, 0)
        check.of([int(result), room.read()[:4]], result)
        nothing.of(calls.make("recv", there[other], room, 16, python.MSG_DONTWAIT))


def wired(source, destination):
    """Packs the IPv4 packet of a datagram without a checksum, from one struct sockaddr_in to another."""
    head = struct.pack(">BBHHHBBH", 0x45, 0, 33, 0, 0, 64, python.IPPROTO_UDP, 0) + source[4:8] + destination[4:8]
    udp = source[2:4] + destination[2:4] + struct.pack(">HH", 8 + 5, 0)
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + udp + b"wired"


def broadcast(link):
    """Packs a struct sockaddr_ll of every station of a link."""
    return packet(ETH_P_IP, link)[:10] + struct.pack("<BB", 0, 6) + b"\xff" * 6 + bytes(2)
