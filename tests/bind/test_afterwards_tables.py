"""What /proc/net and another process show of sockets that are bound."""

import socket as python
import struct
from errno import ECONNREFUSED

import pytest

from probes.testing import behaviour, need, not_applicable, procfs
from probes.testing.observers import connections
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
    SocketKind,
)
from tests.bind.bind_forms import ETH_P_ALL, inet, inet6, netlink, packet, unix

SOURCE = "proc(5) /proc/net; raw(7), udp(7), tcp(7); udp_lib_get_port, raw_hash_sk, inet_hash; BEHAVIOURS bind"
UDPLITE = SocketKind("udplite", python.AF_INET, python.SOCK_DGRAM, 136)
UDPLITE6 = SocketKind("udplite6", python.AF_INET6, python.SOCK_DGRAM, 136)
#: Values of the column `st` (include/net/tcp_states.h).
TCP_CLOSE, TCP_LISTEN = "07", "0A"


def in_table(kind: SocketKind, port: int, host: str = "loopback") -> str:
    """Returns an address as the tables print it: the host as words of memory in hexadecimal, a colon, the port."""
    address = kind.address(port, host)
    raw = address[4:8] if kind.family == python.AF_INET else address[8:24]
    return "".join(f"{word:08X}" for (word,) in struct.iter_unpack("=I", raw)) + f":{port:04X}"


@behaviour("bind.afterwards.tables", SOURCE)
@pytest.mark.parametrize("kind", [UDP, UDP6, UDPLITE, UDPLITE6], ids=str)
def test_tables(kind, new_socket, expect):
    """bind adds a datagram socket to the /proc/net table of its protocol, and to no other table: the row has the
    address and port, no peer and state 07.
    """
    protocol = {"udplite": "UDP-Lite", "udplite6": "UDPLITEv6"}.get(kind.name)
    if protocol and protocol not in procfs.protocols():
        not_applicable(f"the protocol {protocol}")
    for host in ("any", "loopback"):
        sock = new_socket(*kind.triple)
        inode = procfs.inode(sock.fd)
        listed = expect([[], [kind.name]], host=host)
        row = expect([in_table(kind, 5000, host), in_table(kind, 0, "any"), TCP_CLOSE], host=host, then="row")
        before = procfs.tables_listing(inode)
        result = sock.bind(kind.address(5000, host))
        need(result)
        listed.of([before, procfs.tables_listing(inode)], result)
        row.of(procfs.row(kind.name, inode).columns("local", "remote", "state"), result)
        need(sock.close())


@behaviour("bind.afterwards.tables-raw", f"{SOURCE}; ip(7) `On raw sockets sin_port is set to the IP protocol`")
@pytest.mark.parametrize("kind", [RAW, RAW6], ids=str)
def test_tables_raw(kind, new_socket, expect):
    """A raw socket is in its /proc/net table before bind, with the wildcard address and its protocol as port; bind
    changes the address.
    """
    sock = new_socket(*kind.triple)
    inode, peer = procfs.inode(sock.fd), in_table(kind, 0, "any")
    rows = [[in_table(kind, kind.protocol, host), peer, TCP_CLOSE] for host in ("any", "loopback")]
    check = expect([*rows, [kind.name]])
    before = procfs.row(kind.name, inode).columns("local", "remote", "state")
    result = sock.bind(kind.address(0))
    need(result)
    after = procfs.row(kind.name, inode).columns("local", "remote", "state")
    check.of([before, after, procfs.tables_listing(inode)], result)


@behaviour("bind.afterwards.tables-tcp", f"{SOURCE}; bind(2) `before a SOCK_STREAM socket may receive connections`")
@pytest.mark.parametrize("kind", CONNECTING, ids=str)
def test_tables_tcp(kind, new_socket, expect):
    """A bound TCP socket is in no /proc/net table and connections to it are refused; listen adds it to its table."""
    sock, client = new_socket(*kind.triple), new_socket(*kind.triple)
    inode = procfs.inode(sock.fd)
    bound = expect([], step="bound")
    result = sock.bind(kind.address(5000))
    need(result)
    bound.of(procfs.tables_listing(inode), result)
    expect(-ECONNREFUSED, step="bound", then="connect").of(client.connect(kind.address(5000)))
    row = [in_table(kind, 5000), in_table(kind, 0, "any"), TCP_LISTEN]
    listening = expect([[kind.name], *row], step="listening")
    result = sock.listen()
    need(result)
    found = procfs.row(kind.name, inode).columns("local", "remote", "state")
    listening.of([procfs.tables_listing(inode), *found], result)


@behaviour("bind.afterwards.tables-others", f"{SOURCE}; unix(7), netlink(7), packet(7); unix_seq_show and the like")
def test_tables_others(new_socket, expect):
    """/proc/net/unix shows the path of a bound socket, or its abstract name with @ for each NUL; /proc/net/netlink the
    protocol, port id and groups; /proc/net/packet the protocol, link and that it receives.
    """
    for kind in UNIX:
        names = {"path": (f"{kind}.path", f"{kind}.path"), "abstract": (f"\0{kind}\0abstract", f"@{kind}@abstract")}
        for case, (name, shown) in names.items():
            sock = new_socket(*kind.triple)
            check = expect([shown], kind=kind, name=case)
            result = sock.bind(unix(name.encode()))
            need(result)
            check.of(procfs.row("unix", procfs.inode(sock.fd)).columns("path"), result)
    sock = new_socket(*NETLINK.triple)
    check = expect(["0", "12345", "00000005"], kind=NETLINK)
    result = sock.bind(netlink(12345, 5))
    need(result)
    check.of(procfs.row("netlink", procfs.inode(sock.fd)).columns("protocol", "port", "groups"), result)
    for link in (0, 1):
        sock = new_socket(*PACKET.triple)
        check = expect(["0003", str(link), "1"], kind=PACKET, link=link)
        result = sock.bind(packet(ETH_P_ALL, link))
        need(result)
        check.of(procfs.row("packet", procfs.inode(sock.fd)).columns("protocol", "interface", "running"), result)


@behaviour("bind.afterwards.seen-from-outside", "bind(2); psutil net_connections in another process; BEHAVIOURS bind")
def test_seen_from_outside(new_socket, expect, caller):
    """Another process sees, through psutil, the addresses of bound datagram sockets, listening sockets and AF_UNIX
    sockets, but not a TCP socket that is only bound.
    """
    addresses = {
        UDP: (inet(5000, 0x7F000001), "127.0.0.1:5000"), UDP6: (inet6(5001), ":::5001"),
        TCP: (inet(5002), "0.0.0.0:5002"), TCP6: (inet6(5003, bytes(15) + b"\1"), "::1:5003"),
        UNIX_STREAM: (unix(b"path"), "path"), UNIX_DGRAM: (unix(b"\0name"), "@name"),
    }  # fmt: skip
    sockets = {kind: new_socket(*kind.triple) for kind in addresses}
    bound = {
        kind: expect(None if kind in CONNECTING else [shown, "", "NONE"], kind=kind)
        for kind, (_, shown) in addresses.items()
    }
    results = {kind: sockets[kind].bind(address) for kind, (address, _) in addresses.items()}
    for result in results.values():
        need(result)
    seen = {one.fd: [one.local, one.remote, one.status] for one in connections(caller.process)}
    for kind, check in bound.items():
        check.of(seen.get(sockets[kind].fd), results[kind])
    listening = {kind: expect([addresses[kind][1], "", "LISTEN"], kind=kind, then="listening") for kind in CONNECTING}
    results = {kind: sockets[kind].listen() for kind in CONNECTING}
    for result in results.values():
        need(result)
    seen = {one.fd: [one.local, one.remote, one.status] for one in connections(caller.process)}
    for kind, check in listening.items():
        check.of(seen.get(sockets[kind].fd), results[kind])
