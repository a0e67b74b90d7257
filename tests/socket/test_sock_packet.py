"""SOCK_PACKET of AF_INET, which makes a socket of AF_PACKET."""

from errno import EPERM, ESOCKTNOSUPPORT
from socket import AF_INET, AF_INET6, AF_PACKET, AF_UNIX

import pytest

from probes.entry.calls import Socket
from probes.testing import behaviour, need, not_applicable, procfs
from probes.testing.caller import Caller
from probes.testing.socket_model import CLOEXEC, NONBLOCK, PACKET
from tests.socket.socket_options import read_bytes

SOURCE = "socket(2) SOCK_PACKET; packet(7); ip(7) SOCK_PACKET; __sock_create `family = PF_PACKET`; S4 2.2 step 2"
F_GETFD, F_GETFL, FD_CLOEXEC, O_RDWR = 1, 3, 1, 2

pytestmark = pytest.mark.usefixtures("registered_packet")


@pytest.fixture
def registered_packet(caller: Caller) -> None:
    """Not applicable unless the kernel has AF_PACKET."""
    if "PACKET" not in procfs.protocols():
        not_applicable("the protocol PACKET")


@behaviour("socket.sock-packet.becomes-af-packet", SOURCE)
@pytest.mark.parametrize("protocol", [0, 0x0300, 0x0008])
def test_becomes_af_packet(protocol, calls, expect):
    """SOCK_PACKET of AF_INET makes a socket of AF_PACKET: by SO_DOMAIN, SO_TYPE, and its row in /proc/net/packet."""
    tables, type_column = expect(["packet"], tables="all"), expect(str(PACKET), column="type")
    made = calls.socket(AF_INET, PACKET, protocol)
    socket = Socket(calls, need(made))
    for option, value in (("SO_DOMAIN", AF_PACKET), ("SO_TYPE", PACKET), ("SO_ERROR", 0)):
        expect(value, option=option).of(read_bytes(socket, option, 4).as_unsigned())
    inode = procfs.inode(socket.fd)
    tables.of(procfs.tables_listing(inode), made)
    type_column.of(procfs.row("packet", inode)["type"], made)


@behaviour("socket.sock-packet.name", f"{SOURCE}; packet_getname_spkt; getsockname(2)")
def test_name(new_socket, expect):
    """The name of a fresh SOCK_PACKET socket is a sockaddr_pkt of AF_PACKET without a device."""
    expect(AF_PACKET.to_bytes(2, "little") + bytes(14)).of(new_socket(AF_INET, PACKET).sockname())


@behaviour("socket.sock-packet.flags", f"{SOURCE}; SOCK_CLOEXEC, SOCK_NONBLOCK")
def test_flags(calls, fcntl, expect):
    """SOCK_CLOEXEC and SOCK_NONBLOCK set FD_CLOEXEC and O_NONBLOCK of a SOCK_PACKET socket of AF_INET."""
    descriptor_flags = expect(FD_CLOEXEC, read="F_GETFD")
    status_flags = expect(O_RDWR | NONBLOCK, read="F_GETFL")
    made = calls.socket(AF_INET, PACKET | CLOEXEC | NONBLOCK, 0)
    need(made)
    descriptor_flags.of(fcntl(made, F_GETFD), made)
    status_flags.of(fcntl(made, F_GETFL), made)


@behaviour("socket.sock-packet.privilege", f"{SOURCE}; packet(7) CAP_NET_RAW; packet_create")
def test_privilege(unprivileged, calls, expect):
    """SOCK_PACKET of AF_INET fails with EPERM without CAP_NET_RAW, as AF_PACKET does, for every protocol."""
    for protocol in (0, 6, 0x0300, 300, -1):
        expect(-EPERM, protocol=protocol).of(calls.socket(AF_INET, PACKET, protocol))


@behaviour("socket.sock-packet.of-other-families", SOURCE)
def test_of_other_families(calls, expect):
    """SOCK_PACKET of AF_UNIX and AF_INET6 fails with ESOCKTNOSUPPORT."""
    for family in (AF_UNIX, AF_INET6):
        if family == AF_INET6 and "TCPv6" not in procfs.protocols():
            continue
        expect(-ESOCKTNOSUPPORT, family=family).of(calls.socket(family, PACKET, 0))
