"""A fresh socket of AF_UNIX, AF_NETLINK or AF_PACKET: names, options, state."""

import struct
from errno import EAGAIN, EINVAL, ENOTCONN, EOPNOTSUPP
from socket import AF_NETLINK, AF_PACKET, AF_UNIX, MSG_DONTWAIT, MSG_NOSIGNAL

import pytest

from probes.testing import behaviour, procfs
from probes.testing.socket_kinds import NETLINK, PACKET, PACKET_DGRAM, UNIX, UNIX_DGRAM, UNIX_SEQPACKET, UNIX_STREAM
from probes.testing.socket_model import DGRAM, RAW
from tests.socket.socket_options import NETLINK_ZERO, PACKET_ZERO, SO_BYTES, SO_ONE, SO_ZERO, read_bytes, read_int

SOURCE = "sock_init_data; socket(7)"
KINDS = (*UNIX, NETLINK, PACKET, PACKET_DGRAM)
#: ETH_P_ALL and ETH_P_IP in network byte order, as packet(7) has the protocol.
ALL, IP = 0x0300, 0x0008

every_other = pytest.mark.parametrize("kind", KINDS, ids=str)


def packet_name(protocol: int) -> bytes:
    """Returns a struct sockaddr_ll without interface and hardware address."""
    return struct.pack("<HHiHBB", AF_PACKET, protocol, 0, 0, 0, 0)


@behaviour("socket.fresh.other-identity", f"{SOURCE} SO_DOMAIN, SO_TYPE, SO_PROTOCOL, SO_ERROR, SO_ACCEPTCONN")
@every_other
def test_identity(kind, make, expect):
    """SO_DOMAIN and SO_TYPE of a fresh socket are its family and type; SO_PROTOCOL, SO_ERROR and SO_ACCEPTCONN are 0."""
    socket = make(kind).socket
    identity = {"SO_DOMAIN": kind.family, "SO_TYPE": kind.type, "SO_PROTOCOL": 0, "SO_ERROR": 0, "SO_ACCEPTCONN": 0}
    for name, value in identity.items():
        expect([0, value], option=name).of(read_int(socket, name))


@behaviour("socket.fresh.other-options", f"{SOURCE} Socket options")
@every_other
def test_options(kind, make, expect):
    """The options of level SOL_SOCKET in a fresh socket have the values of any fresh socket.

    SO_REUSEADDR is 0, and so is SO_PASSCRED where the family has it.
    """
    socket = make(kind).socket
    # Since Linux 6.16 only these families have SO_PASSCRED.
    passcred = ("SO_PASSCRED",) if kind in (*UNIX, NETLINK) else ()
    for name in (*SO_ZERO, "SO_REUSEADDR", *passcred):
        expect([0, 0], option=name).of(read_int(socket, name))
    for name in SO_ONE:
        expect([0, 1], option=name).of(read_int(socket, name))
    for name, data in SO_BYTES.items():
        expect(data, option=name).of(read_bytes(socket, name, len(data) or 4))


@behaviour(
    "socket.fresh.other-buffers", f"{SOURCE} SO_RCVBUF, SO_SNDBUF, rmem_default, wmem_default", tag="implementation"
)
@every_other
def test_buffers(kind, make, expect):
    """SO_RCVBUF and SO_SNDBUF of a fresh socket are net.core.rmem_default and net.core.wmem_default."""
    socket = make(kind).socket
    expect([0, procfs.sysctl("net.core.rmem_default")[0]], option="SO_RCVBUF").of(read_int(socket, "SO_RCVBUF"))
    expect([0, procfs.sysctl("net.core.wmem_default")[0]], option="SO_SNDBUF").of(read_int(socket, "SO_SNDBUF"))


@behaviour("socket.fresh.unix-names", "unix(7) unnamed; unix_getname; getpeername(2) ENOTCONN")
@pytest.mark.parametrize("kind", UNIX, ids=str)
def test_unix_names(kind, make, expect):
    """A fresh socket of AF_UNIX is unnamed: its name is the two bytes of the family; getpeername fails with ENOTCONN."""
    socket = make(kind).socket
    expect(struct.pack("<H", AF_UNIX), call="getsockname").of(socket.sockname())
    expect(-ENOTCONN, call="getpeername").of(socket.peername())


@behaviour("socket.fresh.unix-peek-offset", "socket(7) SO_PEEK_OFF; sock_init_data `sk->sk_peek_off = -1`")
@pytest.mark.parametrize("kind", UNIX, ids=str)
def test_unix_peek_offset(kind, make, expect):
    """SO_PEEK_OFF of a fresh socket of AF_UNIX is -1."""
    expect(struct.pack("<i", -1), option="SO_PEEK_OFF").of(read_bytes(make(kind).socket, "SO_PEEK_OFF", 4))


@behaviour("socket.fresh.unix-unconnected", "unix_create SS_UNCONNECTED; unix(7); send(2), recv(2), accept(2)")
@pytest.mark.parametrize("kind", UNIX, ids=str)
def test_unix_unconnected(kind, make, calls, memory, expect):
    """send, recv and accept fail on a fresh socket of AF_UNIX, which neither is connected nor listens.

    send fails with ENOTCONN; recv with EINVAL on a stream, ENOTCONN on SOCK_SEQPACKET, EAGAIN on datagrams; accept with
    EINVAL, or EOPNOTSUPP on datagrams.
    """
    fd = make(kind).socket.fd
    data = memory.guarded(b"unsent")
    received = {UNIX_STREAM: -EINVAL, UNIX_SEQPACKET: -ENOTCONN, UNIX_DGRAM: -EAGAIN}[kind]
    expect(-ENOTCONN, call="send").of(calls.make("send", fd, data, data.size, MSG_NOSIGNAL))
    expect(received, call="recv").of(calls.make("recv", fd, data, data.size, MSG_DONTWAIT))
    expect(-EOPNOTSUPP if kind is UNIX_DGRAM else -EINVAL, call="accept").of(calls.accept(fd))


@behaviour("socket.fresh.netlink-names", "netlink(7) Address formats; netlink_getname")
@pytest.mark.parametrize("type", [RAW, DGRAM], ids=lambda type: type.name)
def test_netlink_names(type, make, new_socket, expect):
    """A fresh netlink socket has port 0 and no groups, and its peer is the kernel: port 0 and no groups."""
    make(NETLINK)
    socket = new_socket(AF_NETLINK, type)
    port_0 = struct.pack("<HHII", AF_NETLINK, 0, 0, 0)
    expect(port_0, call="getsockname").of(socket.sockname())
    expect(port_0, call="getpeername").of(socket.peername())


@behaviour("socket.fresh.netlink-options", "netlink(7) Socket options; netlink_getsockopt")
def test_netlink_options(make, expect):
    """The options of SOL_NETLINK in a fresh socket are 0, and NETLINK_LIST_MEMBERSHIPS is empty."""
    socket = make(NETLINK).socket
    for name in NETLINK_ZERO:
        expect([0, 0], option=name).of(read_int(socket, name))
    expect(b"", option="NETLINK_LIST_MEMBERSHIPS").of(read_bytes(socket, "NETLINK_LIST_MEMBERSHIPS", 4))


@behaviour("socket.fresh.packet-names", "packet(7) Address types; packet_getname; packet_create `po->num = proto`")
@pytest.mark.parametrize("type", [RAW, DGRAM], ids=lambda type: type.name)
@pytest.mark.parametrize("protocol", [0, IP, ALL, 0xFFFF])
def test_packet_names(type, protocol, make, new_socket, expect):
    """The name of a fresh packet socket has its protocol, no interface and no hardware address.

    getpeername fails with EOPNOTSUPP.
    """
    make(PACKET)
    socket = new_socket(AF_PACKET, type, protocol)
    expect(packet_name(protocol), call="getsockname").of(socket.sockname())
    expect(-EOPNOTSUPP, call="getpeername").of(socket.peername())


@behaviour(
    "socket.fresh.packet-protocol-bits",
    "packet(7); packet_create `__be16 proto = (__be16)protocol`",
    tag="implementation",
)
def test_packet_protocol_bits(make, new_socket, expect):
    """The protocol of a packet socket is the lower 16 bits of the argument of socket, whatever the upper bits are."""
    make(PACKET)
    for protocol in (0x10000, 0x10008, -1, -0x10000, 0x7FFF0300):
        socket = new_socket(AF_PACKET, RAW, protocol)
        expect(packet_name(protocol & 0xFFFF), protocol=f"{protocol & 0xFFFFFFFF:#x}").of(socket.sockname())


@behaviour("socket.fresh.packet-options", "packet(7) Packet socket options; packet_getsockopt")
@pytest.mark.parametrize("kind", [PACKET, PACKET_DGRAM], ids=str)
def test_packet_options(kind, make, expect):
    """The options of SOL_PACKET in a fresh socket are 0, and so are the counters of PACKET_STATISTICS."""
    socket = make(kind).socket
    for name in PACKET_ZERO:
        expect([0, 0], option=name).of(read_int(socket, name))
    expect(bytes(8), option="PACKET_STATISTICS").of(read_bytes(socket, "PACKET_STATISTICS", 8))
