"""Where a fresh socket is listed: the tables and counters of /proc/net, and psutil in another process."""

import os
from socket import AF_PACKET, AF_UNIX

import pytest

from probes.abi import sockaddr
from probes.report.check import Json
from probes.testing import behaviour, need, procfs
from probes.testing.observers import Connection, connections, in_child
from probes.testing.prepared import await_events
from probes.testing.socket_kinds import NETLINK, PACKET, PACKET_DGRAM, RAW6, TCP, TCP6, UDP, UDP6, UNIX
from probes.testing.socket_kinds import RAW as RAW_KIND
from probes.testing.socket_model import STREAM

SOURCE = "S4 2.3 step 16 `sk->sk_prot->hash(sk)`; proc(5) /proc/net"
KINDS = (TCP, TCP6, UDP, UDP6, RAW_KIND, RAW6, NETLINK, PACKET, PACKET_DGRAM, *UNIX)
CLONE_NEWNET = 0x40000000
#: The table that lists a fresh socket, for the kinds that have one.
TABLE = {
    RAW_KIND: "raw", RAW6: "raw6", PACKET: "packet", PACKET_DGRAM: "packet", **dict.fromkeys(UNIX, "unix"),
}  # fmt: skip
#: The counter of sockstat beside `sockets` that counts a fresh socket: raw sockets are counted when they are hashed.
COUNTER = {RAW_KIND: "RAW", RAW6: "RAW6"}


@behaviour("socket.fresh.tables", f"{SOURCE}; raw(7), unix(7), packet(7); inet_create, unix_create1, packet_create")
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_tables(kind, make, expect):
    """/proc/net/raw, raw6, unix and packet list a socket as soon as it is made; no table lists a fresh TCP, UDP or
    netlink socket.
    """
    check = expect([TABLE[kind]] if kind in TABLE else [])
    made = make(kind)
    check.of(procfs.tables_listing(made.inode), made.result)


@behaviour("socket.fresh.raw-row", f"{SOURCE}; raw(7); raw_sock_seq_show, raw6_seq_show")
def test_raw_row(make, calls, expect):
    """The row of a fresh raw socket in /proc/net/raw or raw6 has the wildcard address with its protocol as local port.

    It has no peer, state TCP_CLOSE, empty queues, and the user who made the socket.
    """
    for kind, table, wildcard in ((RAW_KIND, "raw", "0" * 8), (RAW6, "raw6", "0" * 32)):
        make(kind)
        for protocol in (1, 58, 253, 255):
            fields = expect(
                [f"{wildcard}:{protocol:04X}", f"{wildcard}:0000", "07", "00000000:00000000"],
                table=table, protocol=protocol,
            )  # fmt: skip
            owner = expect(str(os.getuid()), table=table, protocol=protocol, column="uid")
            made = calls.socket(kind.family, kind.type, protocol)
            row = procfs.row(table, procfs.inode(need(made)))
            fields.of(row.columns("local", "remote", "state", "queues"), made)
            owner.of(row["uid"], made)


@behaviour("socket.fresh.raw-receives", f"{SOURCE}; raw(7) All packets matching the protocol number are passed")
def test_raw_receives(make, calls, memory, expect):
    """A fresh raw socket, which is not bound, receives a packet of its protocol with the IP header."""
    receiver, sender = make(RAW_KIND).socket, make(RAW_KIND).socket
    data, room = memory.guarded(b"at once"), memory.guarded(64)
    to = sockaddr.inet("127.0.0.1", 0)
    need(calls.make("sendto", sender.fd, data, data.size, 0, calls.pointer(to), len(to)))
    length, payload = expect(20 + data.size, judged="length"), expect(data.read(), judged="bytes")
    await_events(calls, receiver)
    received = calls.make("recv", receiver.fd, room, room.size, 0)
    length.of(received)
    payload.of(room.read()[20 : 20 + data.size], received)


@behaviour("socket.fresh.unix-row", "unix(7); proc(5) /proc/net/unix; unix_seq_show")
@pytest.mark.parametrize("kind", UNIX, ids=str)
def test_unix_row(kind, make, expect):
    """The row of a fresh socket in /proc/net/unix has its type, SS_UNCONNECTED, no flag of a listener, and no path."""
    fields = expect(
        ["00000000", "00000000", f"{kind.type:04X}", "01"],
        columns="protocol,flags,type,state",
    )
    count = expect(7, columns="count")
    made = make(kind)
    row = procfs.row("unix", made.inode)
    fields.of(row.columns("protocol", "flags", "type", "state"), made.result)
    count.of(len(row.fields), made.result)


@behaviour(
    "socket.fresh.packet-row",
    "packet(7); proc(5) /proc/net/packet; packet_seq_show, packet_create",
    tag="implementation",
)
@pytest.mark.parametrize("kind", [PACKET, PACKET_DGRAM], ids=str)
def test_packet_row(kind, make, calls, expect):
    """The row of a fresh socket in /proc/net/packet has its type and protocol and no interface.

    It is running if it has a protocol.
    """
    make(kind)
    # ETH_P_IP and ETH_P_ALL in network byte order.
    for protocol, shown in ((0, "0000"), (0x0008, "0800"), (0x0300, "0003")):
        check = expect([str(int(kind.type)), shown, "0", str(int(protocol != 0))], protocol=shown)
        made = calls.socket(AF_PACKET, kind.type, protocol)
        row = procfs.row("packet", procfs.inode(need(made)))
        check.of(row.columns("type", "protocol", "interface", "running"), made)


@behaviour("socket.fresh.netlink-row", "netlink(7); proc(5) /proc/net/netlink; netlink_insert", tag="implementation")
def test_netlink_row(make, expect):
    """/proc/net/netlink lists a socket once it is bound, with its protocol, port and groups."""
    unbound = expect([], bound=False)
    made = make(NETLINK)
    unbound.of(procfs.tables_listing(made.inode), made.result)
    result, fields = expect(0, bound="result"), expect(["0", "4711", "00000001"], bound=True)
    bound = made.socket.bind(sockaddr.netlink(pid=4711, groups=1))
    result.of(bound)
    fields.of(procfs.row("netlink", made.inode).columns("protocol", "port", "groups"), bound)


@behaviour(
    "socket.fresh.counters",
    f"{SOURCE} /proc/net/sockstat; sk_alloc, sock_init_data; raw_hash_sk",
    tag="implementation",
)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_counters(kind, make, expect):
    """A fresh socket adds 1 to `sockets` in /proc/net/sockstat; only a raw socket also adds 1 to those in use."""
    before = procfs.socket_counts()
    added = {"sockets": 1, COUNTER.get(kind, "sockets"): 1}
    check = expect({name: added.get(name, 0) for name in before})
    made = make(kind)
    after = procfs.socket_counts()
    check.of({name: after[name] - before[name] for name in after}, made.result)


@behaviour("socket.fresh.psutil", f"{SOURCE}; psutil net_connections; tcp4_seq_show, udp4_seq_show, unix_seq_show")
def test_psutil(make, expect, caller):
    """psutil in another process lists fresh sockets of AF_UNIX, with descriptor and type and without names.

    It lists no fresh TCP, UDP, raw, netlink or packet socket.
    """
    free = zip(KINDS, procfs.lowest(len(KINDS)), strict=True)
    listed = [
        Connection(fd, int(AF_UNIX), int(kind.type), local="", remote="", status="NONE")
        for kind, fd in free
        if kind in UNIX
    ]
    check = expect(listed)
    made = [make(kind) for kind in KINDS]
    check.of(connections(caller.process), *(one.result for one in made))


@behaviour("socket.fresh.psutil-bound", f"{SOURCE}; psutil net_connections; the table when it is bound")
def test_psutil_bound(make, expect, caller):
    """psutil in another process lists bound UDP and listening TCP sockets with their names."""
    kinds = (TCP, TCP6, UDP, UDP6)
    sockets = [make(kind).socket for kind in kinds]
    listed, results = [], []
    for port, (kind, socket) in enumerate(zip(kinds, sockets, strict=True), 5000):
        host = "127.0.0.1" if kind in (TCP, UDP) else "::1"
        status = "LISTEN" if kind.type == STREAM else "NONE"
        listed.append(Connection(socket.fd, int(kind.family), int(kind.type), f"{host}:{port}", "", status))
    check = expect(listed)
    for port, (kind, socket) in enumerate(zip(kinds, sockets, strict=True), 5000):
        results.append(socket.bind(kind.address(port)))
        need(results[-1])
        if kind.type == STREAM:
            results.append(socket.listen())
            need(results[-1])
    check.of(connections(caller.process), *results)


@behaviour("socket.fresh.tables-of-another-namespace", f"{SOURCE}; network_namespaces(7) /proc/net")
@pytest.mark.usefixtures("beside")
def test_tables_of_another_namespace(make, expect, caller):
    """The tables and counters of /proc/net in another network namespace do not have a socket of this one."""
    there, here = expect({"tables": [], "sockets": 0}), expect(["raw"], here=True)
    made = make(RAW_KIND)
    inode = made.inode

    def read_in_new_namespace() -> Json:
        caller.unshare(CLONE_NEWNET)
        return {"tables": procfs.tables_listing(inode), "sockets": procfs.socket_counts()["sockets"]}

    there.of(in_child(read_in_new_namespace), made.result)
    here.of(procfs.tables_listing(inode), made.result)
