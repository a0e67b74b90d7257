"""SOCK_PACKET of AF_INET: an old name of AF_PACKET."""

from errno import EPERM, ESOCKTNOSUPPORT
from socket import AF_INET, AF_INET6, AF_PACKET, AF_UNIX

import pytest

from probes.abi.names import value
from probes.entry.calls import Socket
from probes.testing import behaviour, need, not_applicable
from probes.testing import procfs as witness
from tests.socket.socket_model import CLOEXEC, NONBLOCK, PACKET

SOURCE = "socket(2) SOCK_PACKET; packet(7); ip(7) SOCK_PACKET; __sock_create `family = PF_PACKET`; S4 2.2 step 2"
#: Column of the type in /proc/net/packet (packet_seq_show).
TYPE = 2

pytestmark = pytest.mark.usefixtures("packet_is_there")


@pytest.fixture
def packet_is_there():
    """The kernel has AF_PACKET."""
    if "PACKET" not in witness.protocols():
        not_applicable("the protocol PACKET")


@behaviour("socket.sock-packet.becomes-af-packet", SOURCE)
@pytest.mark.parametrize("protocol", [0, 0x0300, 0x0008])
def test_becomes_af_packet(protocol, calls, expect):
    """A SOCK_PACKET of AF_INET is made as one of AF_PACKET: SO_DOMAIN says so, and /proc/net/packet has it."""
    result = calls.socket(AF_INET, PACKET, protocol)
    socket = Socket(calls, need(result))
    for option, told in (("SO_DOMAIN", AF_PACKET), ("SO_TYPE", PACKET), ("SO_ERROR", 0)):
        got, data = socket.getsockopt(1, value(option))
        expect(told, option=option).of(int.from_bytes(data, "little"), got)
    inode = witness.inode(socket.fd)
    expect(["packet"], tables="all").of(witness.listed(inode), result)
    expect(str(PACKET), column="type").of(witness.rows("packet")[inode][TYPE], result)


@behaviour("socket.sock-packet.name", f"{SOURCE}; packet_getname_spkt; getsockname(2)")
def test_name(new_socket, expect):
    """The name of a fresh SOCK_PACKET is a sockaddr_pkt of AF_PACKET without a device."""
    result, name = new_socket(AF_INET, PACKET).sockname()
    expect(AF_PACKET.to_bytes(2, "little") + bytes(14)).of(name, result)


@behaviour("socket.sock-packet.flags", f"{SOURCE}; SOCK_CLOEXEC, SOCK_NONBLOCK")
def test_flags(calls, fcntl, expect):
    """The flags of the type word hold for a SOCK_PACKET of AF_INET as well."""
    fd = need(calls.socket(AF_INET, PACKET | CLOEXEC | NONBLOCK, 0))
    expect(1, read="F_GETFD").of(fcntl(fd, 1))
    expect(2 | NONBLOCK, read="F_GETFL").of(fcntl(fd, 3))


@behaviour("socket.sock-packet.privilege", f"{SOURCE}; packet(7) CAP_NET_RAW; packet_create")
def test_privilege(unprivileged, calls, expect):
    """A SOCK_PACKET of AF_INET needs what AF_PACKET needs, CAP_NET_RAW: EPERM without it, whatever the protocol."""
    for protocol in (0, 6, 0x0300, 300, -1):
        expect(-EPERM, protocol=protocol).of(calls.socket(AF_INET, PACKET, protocol))


@behaviour("socket.sock-packet.of-other-families", SOURCE)
def test_of_other_families(calls, expect):
    """Only AF_INET has that old name: SOCK_PACKET of AF_UNIX and AF_INET6 fails with ESOCKTNOSUPPORT."""
    for family in (AF_UNIX, AF_INET6):
        if family == AF_INET6 and "TCPv6" not in witness.protocols():
            continue
        expect(-ESOCKTNOSUPPORT, family=family).of(calls.socket(family, PACKET, 0))
