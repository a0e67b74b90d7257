"""A fresh socket of AF_UNIX, AF_NETLINK or AF_PACKET: names, options, state."""

import struct
from errno import EAGAIN, EINVAL, ENOTCONN, EOPNOTSUPP
from socket import AF_NETLINK, AF_PACKET, AF_UNIX, MSG_DONTWAIT, MSG_NOSIGNAL

import pytest

from probes.testing import behaviour
from probes.testing import procfs as witness
from probes.testing.socket_kinds import NETLINK, PACKET, PACKET_DGRAM, UNIX, UNIX_DGRAM, UNIX_SEQPACKET, UNIX_STREAM
from tests.socket.socket_model import DGRAM, RAW
from tests.socket.socket_options import FORMS, NETLINK_ZERO, ONE, PACKET_ZERO, ZERO

SOURCE = "sock_init_data; socket(7)"
KINDS = (*UNIX, NETLINK, PACKET, PACKET_DGRAM)
#: ETH_P_ALL and ETH_P_IP in network order, as packet(7) wants the protocol.
ALL, IP = 0x0300, 0x0008

every = pytest.mark.parametrize("kind", KINDS, ids=str)


def packet_name(protocol):
    """struct sockaddr_ll of a socket on no device: as long as it is without a hardware address."""
    return struct.pack("<HHiHBB", AF_PACKET, protocol, 0, 0, 0, 0)


@behaviour("socket.fresh.other-identity", f"{SOURCE} SO_DOMAIN, SO_TYPE, SO_PROTOCOL, SO_ERROR, SO_ACCEPTCONN")
@every
def test_identity(kind, make, option, expect):
    """A fresh socket tells the family and the type that it was made with, and the protocol, which is 0."""
    socket = make(kind).socket
    identity = {"SO_DOMAIN": kind.family, "SO_TYPE": kind.type, "SO_PROTOCOL": 0, "SO_ERROR": 0, "SO_ACCEPTCONN": 0}
    for name, told in identity.items():
        option(expect, socket, name, told)


@behaviour("socket.fresh.other-options", f"{SOURCE} Socket options")
@every
def test_options(kind, make, option, expect):
    """The options of the socket level are those of any fresh socket, SO_REUSEADDR off; credentials are not passed."""
    socket = make(kind).socket
    # Since Linux 6.16 only these families have SO_PASSCRED.
    passing = ("SO_PASSCRED",) if kind in (*UNIX, NETLINK) else ()
    for name in (*ZERO, "SO_REUSEADDR", *passing):
        option(expect, socket, name, 0)
    for name in ONE:
        option(expect, socket, name, 1)
    for name, told in FORMS.items():
        option(expect, socket, name, told)


@behaviour("socket.fresh.other-buffers", f"{SOURCE} SO_RCVBUF, SO_SNDBUF, rmem_default, wmem_default")
@every
def test_buffers(kind, make, option, expect):
    """The buffers have the sizes that net.core.rmem_default and wmem_default say."""
    socket = make(kind).socket
    option(expect, socket, "SO_RCVBUF", witness.sysctl("net.core.rmem_default")[0])
    option(expect, socket, "SO_SNDBUF", witness.sysctl("net.core.wmem_default")[0])


@behaviour("socket.fresh.unix-names", "unix(7) unnamed; unix_getname; getpeername(2) ENOTCONN")
@pytest.mark.parametrize("kind", UNIX, ids=str)
def test_unix_names(kind, make, expect):
    """A fresh socket of AF_UNIX is unnamed: its name is the family alone, two bytes; it has no peer."""
    socket = make(kind).socket
    result, name = socket.sockname()
    expect(struct.pack("<H", AF_UNIX), call="getsockname").of(name, result)
    result, _ = socket.peername()
    expect(-ENOTCONN, call="getpeername").of(result)


@behaviour("socket.fresh.unix-peek-offset", "socket(7) SO_PEEK_OFF; sock_init_data `sk->sk_peek_off = -1`")
@pytest.mark.parametrize("kind", UNIX, ids=str)
def test_unix_peek_offset(kind, make, option, expect):
    """The peek offset of a fresh socket of AF_UNIX is -1: there is none."""
    option(expect, make(kind).socket, "SO_PEEK_OFF", struct.pack("<i", -1))


@behaviour("socket.fresh.unix-unconnected", "unix_create SS_UNCONNECTED; unix(7); send(2), recv(2), accept(2)")
@pytest.mark.parametrize("kind", UNIX, ids=str)
def test_unix_unconnected(kind, make, calls, memory, expect):
    """A fresh socket of AF_UNIX is not connected and does not listen: sending fails with ENOTCONN, receiving with
    EINVAL on a stream, ENOTCONN on sequenced packets, EAGAIN on datagrams.
    """
    fd = make(kind).socket.fd
    data = memory.guarded(b"nobody")
    received = {UNIX_STREAM: -EINVAL, UNIX_SEQPACKET: -ENOTCONN, UNIX_DGRAM: -EAGAIN}[kind]
    expect(-ENOTCONN, call="send").of(calls.make("send", fd, data, data.size, MSG_NOSIGNAL))
    expect(received, call="recv").of(calls.make("recv", fd, data, data.size, MSG_DONTWAIT))
    expect(-EOPNOTSUPP if kind is UNIX_DGRAM else -EINVAL, call="accept").of(calls.accept(fd))


@behaviour("socket.fresh.netlink-names", "netlink(7) Address formats; netlink_getname")
@pytest.mark.parametrize("type", [RAW, DGRAM], ids=lambda type: type.name)
def test_netlink_names(type, make, new_socket, expect):
    """A fresh netlink socket has port 0 and no groups, and its peer is the kernel: port 0, no groups."""
    make(NETLINK)
    socket = new_socket(AF_NETLINK, type)
    nobody = struct.pack("<HHII", AF_NETLINK, 0, 0, 0)
    for call, (result, name) in (("getsockname", socket.sockname()), ("getpeername", socket.peername())):
        expect(nobody, call=call).of(name, result)


@behaviour("socket.fresh.netlink-options", "netlink(7) Socket options; netlink_getsockopt")
def test_netlink_options(make, option, expect):
    """The options of a fresh netlink socket are off, and it is in no group."""
    socket = make(NETLINK).socket
    for name in NETLINK_ZERO:
        option(expect, socket, name, 0)
    option(expect, socket, "NETLINK_LIST_MEMBERSHIPS", b"")


@behaviour("socket.fresh.packet-names", "packet(7) Address types; packet_getname; packet_create `po->num = proto`")
@pytest.mark.parametrize("type", [RAW, DGRAM], ids=lambda type: type.name)
@pytest.mark.parametrize("protocol", [0, IP, ALL, 0xFFFF])
def test_packet_names(type, protocol, make, new_socket, expect):
    """A fresh packet socket has the protocol that it was made with, on no device, without a hardware address; a peer it
    cannot have: EOPNOTSUPP.
    """
    make(PACKET)
    socket = new_socket(AF_PACKET, type, protocol)
    result, name = socket.sockname()
    expect(packet_name(protocol), call="getsockname").of(name, result)
    result, _ = socket.peername()
    expect(-EOPNOTSUPP, call="getpeername").of(result)


@behaviour("socket.fresh.packet-protocol-bits", "packet(7); packet_create `__be16 proto = (__be16)protocol`")
def test_packet_protocol_bits(make, new_socket, expect):
    """Of the protocol of a packet socket the lower 16 bits count, whatever is above them."""
    make(PACKET)
    for protocol in (0x10000, 0x10008, -1, -0x10000, 0x7FFF0300):
        result, name = new_socket(AF_PACKET, RAW, protocol).sockname()
        expect(packet_name(protocol & 0xFFFF), protocol=f"{protocol & 0xFFFFFFFF:#x}").of(name, result)


@behaviour("socket.fresh.packet-options", "packet(7) Packet socket options; packet_getsockopt")
@pytest.mark.parametrize("kind", [PACKET, PACKET_DGRAM], ids=str)
def test_packet_options(kind, make, option, expect):
    """The options of a fresh packet socket are off, its counters 0."""
    socket = make(kind).socket
    for name in PACKET_ZERO:
        option(expect, socket, name, 0)
    option(expect, socket, "PACKET_STATISTICS", bytes(8))
