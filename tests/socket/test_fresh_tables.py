"""Where a fresh socket is seen: the tables and counters of /proc/net, and psutil in another process."""

import os
from socket import AF_PACKET, AF_UNIX, MSG_DONTWAIT

import pytest

from probes.abi import sockaddr
from probes.sandbox import namespaces
from probes.testing import behaviour, need
from probes.testing import procfs as witness
from probes.testing.socket_kinds import NETLINK, PACKET, PACKET_DGRAM, RAW6, TCP, TCP6, UDP, UDP6, UNIX
from probes.testing.socket_kinds import RAW as RAW_KIND
from tests.socket.socket_model import STREAM

SOURCE = "S4 2.3 step 16 `sk->sk_prot->hash(sk)`; proc(5) /proc/net"
KINDS = (TCP, TCP6, UDP, UDP6, RAW_KIND, RAW6, NETLINK, PACKET, PACKET_DGRAM, *UNIX)
CLONE_NEWNET = 0x40000000
#: The table that has a row for a kind from the beginning.
TABLE = {
    RAW_KIND: "raw", RAW6: "raw6", PACKET: "packet", PACKET_DGRAM: "packet", **dict.fromkeys(UNIX, "unix"),
}  # fmt: skip
#: What each kind adds to the counters of sockstat beside `sockets`: raw sockets are counted when they are hashed.
COUNTER = {RAW_KIND: "RAW", RAW6: "RAW6"}


@behaviour("socket.fresh.tables", f"{SOURCE}; raw(7), unix(7), packet(7); inet_create, unix_create1, packet_create")
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_tables(kind, make, expect):
    """A fresh TCP or UDP socket is in no table, nor is a netlink socket; a raw one is in its own at once, and so are
    sockets of AF_UNIX and AF_PACKET.
    """
    made = make(kind)
    expect([TABLE[kind]] if kind in TABLE else []).of(witness.listed(made.inode), made.result)


@behaviour("socket.fresh.raw-row", f"{SOURCE}; raw(7); raw_sock_seq_show, raw6_seq_show")
def test_raw_row(make, new_socket, expect):
    """The row of a fresh raw socket: any-address, its protocol as local port, no peer, state TCP_CLOSE, nothing queued,
    the user who made it.
    """
    for kind, table, any_address in ((RAW_KIND, "raw", "0" * 8), (RAW6, "raw6", "0" * 32)):
        make(kind)
        for protocol in (1, 58, 253, 255):
            announced = expect(
                [f"{any_address}:{protocol:04X}", f"{any_address}:0000", "07", "00000000:00000000"],
                table=table, protocol=protocol,
            )  # fmt: skip
            socket = new_socket(kind.family, kind.type, protocol)
            result, _ = socket.getsockopt(1, 4)
            row = witness.rows(table)[witness.inode(socket.fd)]
            announced.of(row[1:5], result)
            expect(str(os.getuid()), table=table, protocol=protocol, column="uid").of(row[7], result)


@behaviour("socket.fresh.raw-receives", f"{SOURCE}; raw(7) All packets matching the protocol number are passed")
def test_raw_receives(make, calls, memory, expect):
    """A fresh raw socket receives at once, without being bound: a packet of its protocol, with the IP header."""
    receiver, sender = make(RAW_KIND).socket, make(RAW_KIND).socket
    data, room = memory.guarded(b"at once"), memory.guarded(64)
    to = sockaddr.inet("127.0.0.1", 0)
    need(calls.make("sendto", sender.fd, data, data.size, 0, calls.pointer(to), len(to)))
    # What goes over loopback has arrived when sendto returns.
    result = calls.make("recv", receiver.fd, room, room.size, MSG_DONTWAIT)
    expect(20 + data.size, told="length").of(result)
    expect(data.read(), told="bytes").of(room.read()[20 : 20 + data.size], result)


@behaviour("socket.fresh.unix-row", "unix(7); proc(5) /proc/net/unix; unix_seq_show")
@pytest.mark.parametrize("kind", UNIX, ids=str)
def test_unix_row(kind, make, expect):
    """The row of a fresh socket of AF_UNIX: its type, unconnected, not listening, no path."""
    made = make(kind)
    row = witness.rows("unix")[made.inode]
    expect(["00000000", "00000000", f"{kind.type:04X}", "01"], columns="protocol,flags,type,state").of(
        row[2:6], made.result
    )
    expect(7, columns="count").of(len(row), made.result)


@behaviour("socket.fresh.packet-row", "packet(7); proc(5) /proc/net/packet; packet_seq_show, packet_create")
@pytest.mark.parametrize("kind", [PACKET, PACKET_DGRAM], ids=str)
def test_packet_row(kind, make, new_socket, expect):
    """The row of a fresh packet socket: its type and protocol, no device; it runs if it has a protocol."""
    make(kind)
    # ETH_P_IP and ETH_P_ALL in network order.
    for protocol, shown in ((0, "0000"), (0x0008, "0800"), (0x0300, "0003")):
        announced = expect([str(int(kind.type)), shown, "0", str(int(protocol != 0))], protocol=shown)
        socket = new_socket(AF_PACKET, kind.type, protocol)
        result, _ = socket.getsockopt(1, 4)
        announced.of(witness.rows("packet")[witness.inode(socket.fd)][2:6], result)


@behaviour("socket.fresh.netlink-row", "netlink(7); proc(5) /proc/net/netlink; netlink_insert")
def test_netlink_row(make, expect):
    """A netlink socket comes into its table when it is bound, with its protocol, port and groups."""
    made = make(NETLINK)
    expect([], bound=False).of(witness.listed(made.inode), made.result)
    bound = made.socket.bind(sockaddr.netlink(pid=4711, groups=1))
    expect(0, bound="result").of(bound)
    row = witness.rows("netlink").get(made.inode, [])
    expect(["0", "4711", "00000001"], bound=True).of(row[1:4], bound)


@behaviour("socket.fresh.counters", f"{SOURCE} /proc/net/sockstat; sk_alloc, sock_init_data; raw_hash_sk")
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_counters(kind, make, expect):
    """A fresh socket is one socket more in its network namespace; only a raw one is in use already."""
    before = witness.counted()
    made = make(kind)
    more = {"sockets": 1, COUNTER.get(kind, "sockets"): 1}
    now = witness.counted()
    expect({name: more.get(name, 0) for name in before}).of(
        {name: now[name] - before[name] for name in now}, made.result
    )


@behaviour("socket.fresh.psutil", f"{SOURCE}; psutil net_connections; tcp4_seq_show, udp4_seq_show, unix_seq_show")
def test_psutil(make, expect):
    """To another process psutil tells nothing about fresh TCP, UDP, raw, netlink and packet sockets, and about those of
    AF_UNIX their descriptor and type, without names.
    """
    made = [make(kind) for kind in KINDS]
    told = [
        [one.socket.fd, int(AF_UNIX), int(kind.type), "", "", "NONE"]
        for kind, one in zip(KINDS, made, strict=True)
        if kind in UNIX
    ]
    expect(told).of(witness.connections(os.getpid()), *(one.result for one in made))


@behaviour("socket.fresh.psutil-bound", f"{SOURCE}; psutil net_connections; the table when it is bound")
def test_psutil_bound(make, expect):
    """The witness sees what it should not have seen before: once they are bound, TCP that listens and UDP are in their
    tables, and psutil tells another process their names.
    """
    results, told = [], []
    for port, kind in enumerate((TCP, TCP6, UDP, UDP6), 5000):
        one = make(kind)
        results.append(one.socket.bind(kind.address(port)))
        need(results[-1])
        if kind.type == STREAM:
            need(one.socket.listen())
        host = "127.0.0.1" if kind in (TCP, UDP) else "::1"
        state = "LISTEN" if kind.type == STREAM else "NONE"
        told.append([one.socket.fd, int(kind.family), int(kind.type), f"{host}:{port}", "", state])
    expect(told).of(witness.connections(os.getpid()), *results)


@behaviour("socket.fresh.tables-of-another-namespace", f"{SOURCE}; network_namespaces(7) /proc/net")
def test_tables_of_another_namespace(make, expect):
    """Another network namespace shows and counts no socket of this one."""
    made = make(RAW_KIND)
    inode = made.inode

    def look():
        namespaces.unshare(CLONE_NEWNET)
        return {"tables": witness.listed(inode), "sockets": witness.counted()["sockets"]}

    expect({"tables": [], "sockets": 0}).of(witness.elsewhere(look), made.result)
    expect(["raw"], here=True).of(witness.listed(inode), made.result)
