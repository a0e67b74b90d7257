"""What a bind leaves: the name, the tables of the kernel, no peer, and what a disconnect takes away again."""

import os
import socket as python
import struct
from errno import EADDRINUSE, EAGAIN, ECONNREFUSED, EINVAL, ENOTCONN, EOPNOTSUPP

import pytest

from probes.testing import behaviour, need, not_applicable
from probes.testing import procfs as witness
from probes.testing.socket_kinds import (
    CONNECTING,
    NETLINK,
    PACKET,
    RAW,
    RAW6,
    TCP,
    TCP6,
    UDP,
    UDP6,
    UNIX,
    UNIX_DGRAM,
    UNIX_STREAM,
    WITH_PORTS,
    SocketKind,
)
from tests.bind.bind_forms import ETH_P_ALL, inet, inet6, netlink, packet, unix

SOURCE = "bind(2); getsockname(2); S4 3.2 steps 8 and 11"
SOURCE_TABLES = "proc(5) /proc/net; raw(7), udp(7), tcp(7); udp_lib_get_port, raw_hash_sk, inet_hash; BEHAVIOURS bind"
SOURCE_LOCKS = (
    "connect(2) AF_UNSPEC; SOCK_BINDADDR_LOCK, SOCK_BINDPORT_LOCK in __inet_bind, __inet6_bind; S4 3.2 step 10"
)
SOURCE_LOST = f"{SOURCE_LOCKS}; __udp_disconnect, tcp_disconnect, tcp_set_state inet_put_port"
UDPLITE = SocketKind("udplite", python.AF_INET, python.SOCK_DGRAM, 136)
UDPLITE6 = SocketKind("udplite6", python.AF_INET6, python.SOCK_DGRAM, 136)
NO_LINGER = struct.pack("<ii", 1, 0)
#: st in the tables: include/net/tcp_states.h.
CLOSED, LISTENING = "07", "0A"


def told(kind, address):
    """An address as /proc/net writes it: words of memory in hexadecimal, a port."""
    (port,) = struct.unpack(">H", address[2:4])
    host = address[4:8] if kind.family == python.AF_INET else address[8:24]
    return "".join(f"{word:08X}" for (word,) in struct.iter_unpack("=I", host)) + f":{port:04X}"


@behaviour("bind.afterwards.name", SOURCE)
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
def test_name(kind, new_socket, expect):
    """getsockname tells the address and port that were bound, whatever the bytes beyond them were: they come back as
    zeros.
    """
    for host in ("any", "loopback"):
        for port in (1, 5000, 65535):
            socket, address = new_socket(*kind.triple), kind.address(port, host)
            padded = address[:8] + b"\xa5" * 8 if kind.family == python.AF_INET else address
            need(socket.bind(padded + b"\xa5" * (128 - len(padded))))
            result, name = socket.sockname()
            expect(address, host=host, port=port).of(name, result)
            need(socket.close())


@behaviour("bind.afterwards.tables", SOURCE_TABLES)
@pytest.mark.parametrize("kind", [UDP, UDP6, UDPLITE, UDPLITE6], ids=str)
def test_tables(kind, new_socket, expect):
    """A datagram socket is in its table of /proc/net from bind on, under its address and port and without a peer, and
    in no other; before it is in none.
    """
    protocol = {"udplite": "UDP-Lite", "udplite6": "UDPLITEv6"}.get(kind.name)
    if protocol and protocol not in witness.protocols():
        not_applicable(f"the protocol {protocol}")
    nobody = told(kind, kind.address(0, "any"))
    for host in ("any", "loopback"):
        socket = new_socket(*kind.triple)
        inode, before = witness.inode(int(socket)), witness.listed(witness.inode(int(socket)))
        result = socket.bind(kind.address(5000, host))
        row = witness.rows(kind.name).get(inode, [])
        expect([[], [kind.name]], host=host).of([before, witness.listed(inode)], result)
        here = told(kind, kind.address(5000, host))
        expect([here, nobody, CLOSED], host=host, then="row").of(row[1:4], result)
        need(socket.close())


@behaviour("bind.afterwards.tables-raw", f"{SOURCE_TABLES}; ip(7) `On raw sockets sin_port is set to the IP protocol`")
@pytest.mark.parametrize("kind", [RAW, RAW6], ids=str)
def test_tables_raw(kind, new_socket, expect):
    """A raw socket is in its table before it is bound, under the any-address; bind puts the address there. Its port is
    its protocol.
    """
    socket = new_socket(*kind.triple)
    inode, nobody = witness.inode(int(socket)), told(kind, kind.address(0, "any"))
    before = witness.rows(kind.name).get(inode, [])[1:4]
    result = socket.bind(kind.address(0))
    after = witness.rows(kind.name).get(inode, [])[1:4]
    rows = [[told(kind, kind.address(kind.protocol, host)), nobody, CLOSED] for host in ("any", "loopback")]
    expect([*rows, [kind.name]]).of([before, after, witness.listed(inode)], result)


@behaviour(
    "bind.afterwards.tables-tcp", f"{SOURCE_TABLES}; bind(2) `before a SOCK_STREAM socket may receive connections`"
)
@pytest.mark.parametrize("kind", CONNECTING, ids=str)
def test_tables_tcp(kind, new_socket, expect):
    """A TCP socket that is bound is in no table and refuses connections; from listen on it is in its table."""
    socket, client = new_socket(*kind.triple), new_socket(*kind.triple)
    inode = witness.inode(int(socket))
    bound = socket.bind(kind.address(5000))
    expect([], step="bound").of(witness.listed(inode), bound)
    expect(-ECONNREFUSED, step="bound", then="connect").of(client.connect(kind.address(5000)))
    listening = socket.listen()
    row = witness.rows(kind.name).get(inode, [])
    here, nobody = told(kind, kind.address(5000)), told(kind, kind.address(0, "any"))
    expect([[kind.name], here, nobody, LISTENING], step="listening").of([witness.listed(inode), *row[1:4]], listening)


@behaviour(
    "bind.afterwards.tables-others", f"{SOURCE_TABLES}; unix(7), netlink(7), packet(7); unix_seq_show and the like"
)
def test_tables_others(new_socket, expect):
    """/proc/net/unix has the path or, behind an @, the abstract name; /proc/net/netlink the port and the groups;
    /proc/net/packet the protocol and the link.
    """
    for kind in UNIX:
        for name, shown in {f"{kind}.path": f"{kind}.path", f"\0{kind}\0abstract": f"@{kind}@abstract"}.items():
            socket = new_socket(*kind.triple)
            result = socket.bind(unix(name.encode()))
            row = witness.rows("unix").get(witness.inode(int(socket)), [])
            expect([shown], kind=kind, name="abstract" if name[0] == "\0" else "path").of(row[7:], result)
    socket = new_socket(*NETLINK.triple)
    result = socket.bind(netlink(12345, 5))
    row = witness.rows("netlink").get(witness.inode(int(socket)), [])
    expect(["0", "12345", "00000005"], kind=NETLINK).of(row[1:4], result)
    for link in (0, 1):
        socket = new_socket(*PACKET.triple)
        result = socket.bind(packet(ETH_P_ALL, link))
        row = witness.rows("packet").get(witness.inode(int(socket)), [])
        expect(["0003", str(link), "1"], kind=PACKET, link=link).of(row[3:6], result)


@behaviour("bind.afterwards.seen-from-outside", "bind(2); psutil net_connections in another process; BEHAVIOURS bind")
def test_seen_from_outside(new_socket, expect):
    """Another process sees, by psutil, the addresses of bound datagram sockets, listening sockets and AF_UNIX sockets,
    and nothing of a TCP socket that is only bound.
    """
    bound = {
        UDP: (inet(5000, 0x7F000001), "127.0.0.1:5000"), UDP6: (inet6(5001), ":::5001"),
        TCP: (inet(5002), "0.0.0.0:5002"), TCP6: (inet6(5003, bytes(15) + b"\1"), "::1:5003"),
        UNIX_STREAM: (unix(b"path"), "path"), UNIX_DGRAM: (unix(b"\0name"), "@name"),
    }  # fmt: skip
    sockets, results = {}, {}
    for kind, (address, _) in bound.items():
        sockets[kind] = new_socket(*kind.triple)
        results[kind] = sockets[kind].bind(address)
    by_fd = {entry[0]: entry[3:] for entry in witness.connections(os.getpid())}
    for kind, (_, name) in bound.items():
        seen = None if kind in CONNECTING else [name, "", "NONE"]
        expect(seen, kind=kind).of(by_fd.get(int(sockets[kind])), results[kind])
    listening = {kind: sockets[kind].listen() for kind in CONNECTING}
    by_fd = {entry[0]: entry[3:] for entry in witness.connections(os.getpid())}
    for kind, result in listening.items():
        expect([bound[kind][1], "", "LISTEN"], kind=kind, then="listening").of(by_fd.get(int(sockets[kind])), result)


@behaviour(
    "bind.afterwards.no-peer", "getpeername(2) ENOTCONN; inet_getname, inet6_getname, unix_getname, packet_getname"
)
def test_no_peer(new_socket, expect):
    """A socket that is bound has no peer: ENOTCONN; packet sockets never have one: EOPNOTSUPP."""
    for kind in (*WITH_PORTS, RAW, RAW6):
        socket = new_socket(*kind.triple)
        need(socket.bind(kind.address(5000 if kind in WITH_PORTS else 0)))
        expect(-ENOTCONN, kind=kind).of(socket.peername()[0])
        need(socket.close())
    for kind in UNIX:
        socket = new_socket(*kind.triple)
        need(socket.bind(unix(b"\0name")))
        expect(-ENOTCONN, kind=kind).of(socket.peername()[0])
    socket = new_socket(*PACKET.triple)
    need(socket.bind(packet(ETH_P_ALL, 0)))
    expect(-EOPNOTSUPP, kind=PACKET).of(socket.peername()[0])


#: What is bound before, as host and port, and what of it is left when the connection is given up again.
LOCKS = {
    "nothing": (None, ("any", False)), "any-automatic": (("any", 0), ("any", False)),
    "address-automatic": (("loopback", 0), ("loopback", False)), "any-port": (("any", 5001), ("any", True)),
    "address-port": (("loopback", 5001), ("loopback", True)),
}  # fmt: skip


def disconnected(new_socket, kind, first):
    """A socket that was bound as `first` says, connected, and disconnected again, with the names it had before the two
    last steps and the last result."""
    server, socket = new_socket(*kind.triple), new_socket(*kind.triple)
    need(server.bind(kind.address(5000)))
    if kind in CONNECTING:
        need(server.listen())
        # No TIME_WAIT: the connection is reset.
        need(socket.setsockopt(python.SOL_SOCKET, python.SO_LINGER, NO_LINGER))
    if first:
        need(socket.bind(kind.address(first[1], first[0])))
    need(socket.connect(kind.address(5000)))
    while_connected = socket.sockname()[1]
    result = socket.connect(bytes(16))
    need(server.close())
    return socket, while_connected, result


@behaviour("bind.afterwards.locks", SOURCE_LOCKS)
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
def test_locks(kind, new_socket, expect):
    """What bind was told survives a disconnect: the address if it was not any, the port if it was not 0. The socket
    with such a port stays bound, EINVAL; and its port stays its own, EADDRINUSE.
    """
    for case, (first, (host, locked)) in LOCKS.items():
        socket, _, result = disconnected(new_socket, kind, first)
        expect(0, first=case, then="disconnect").of(result)
        result, name = socket.sockname()
        at = kind.address(5001 if locked else 0, host)
        # Without a port: a TCP socket goes on telling the one it lost.
        expect(at[:2] + at[4:], first=case, then="address").of(name[:2] + name[4:], result)
        if locked:
            expect(at, first=case, then="name").of(name, result)
            expect(-EADDRINUSE, first=case, then="other").of(new_socket(*kind.triple).bind(kind.address(5001)))
            expect(-EINVAL, first=case, then="bind").of(socket.bind(kind.address(5002)))
        expect(-ENOTCONN, first=case, then="peer").of(socket.peername()[0])
        need(socket.close())


@behaviour("bind.afterwards.automatic-port-lost", SOURCE_LOST)
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
def test_automatic_port_lost(kind, new_socket, expect):
    """An automatic port does not survive a disconnect: another socket can have it, and this one can be bound again."""
    for case, (first, (_, locked)) in LOCKS.items():
        if not locked:
            socket, name, _ = disconnected(new_socket, kind, first)
            other = new_socket(*kind.triple)
            expect(0, first=case, socket="other").of(other.bind(name))
            expect(0, first=case, socket="same").of(socket.bind(kind.address(5001)))
            result, name = socket.sockname()
            expect(kind.address(5001), first=case, socket="same", then="name").of(name, result)
            need(socket.close())
            need(other.close())


@behaviour("bind.afterwards.lost-port-told", f"{SOURCE_LOST}; __inet_put_port leaves inet_sport; inet_getname")
def test_lost_port_told(new_socket, expect):
    """The name of a datagram socket that lost its automatic port has port 0; that of a TCP socket goes on telling the
    port, which others may have by now.
    """
    for kind in WITH_PORTS:
        socket, name, _ = disconnected(new_socket, kind, ("loopback", 0))
        result, now = socket.sockname()
        expect(kind in CONNECTING, kind=kind).of(now[2:4] == name[2:4], result)
        expect(kind not in CONNECTING, kind=kind, then="zero").of(now[2:4] == b"\0\0", result)


@behaviour(
    "bind.afterwards.receives",
    "ip(7) INADDR_ANY `bound to all local interfaces`; raw(7) `bound to a specific local address`",
)
def test_receives(calls, memory, new_socket, expect):
    """A datagram or raw socket receives what is sent to the address it was bound to and nothing else; at the
    any-address it receives what is sent to every address of this machine.
    """
    for kind in (UDP, RAW):
        port = 5000 if kind is UDP else 0
        for host, arriving in (("127.0.0.2", [b"2"]), ("any", [b"1", b"2", b"3"])):
            socket = new_socket(*kind.triple)
            need(socket.bind(kind.address(port, host)))
            with python.socket(kind.family, kind.type, kind.protocol) as sender:
                for number in (1, 2, 3):
                    sender.sendto(str(number).encode(), (f"127.0.0.{number}", port))
            buffer = memory.alloc(64)
            for index, data in enumerate(arriving):
                header = 0 if kind is UDP else 20
                announced = expect([header + 1, data], kind=kind, host=host, message=index)
                result = calls.make("recv", socket, buffer, 64, 0)
                announced.of([int(result), buffer.read()[header : header + 1]], result)
            last = calls.make("recv", socket, buffer, 64, python.MSG_DONTWAIT)
            expect(-EAGAIN, kind=kind, host=host, message="last").of(last)
            need(socket.close())
