"""Options that change how an ephemeral port is chosen: IP_BIND_ADDRESS_NO_PORT, IP_LOCAL_PORT_RANGE."""

import struct
from errno import EADDRINUSE, EADDRNOTAVAIL, EINVAL, ENOPROTOOPT
from socket import IPPROTO_IP

import pytest

from probes.abi.names import value
from probes.entry.calls import Socket
from probes.entry.gate import Result
from probes.testing import VersionDifference, behaviour, need, not_applicable, procfs
from probes.testing.socket_kinds import CONNECTING, WITH_PORTS
from tests.bind.bind_ports import RANGE, bind_ephemeral

SOURCE_NO_PORT = "ip(7) IP_BIND_ADDRESS_NO_PORT; __inet_bind, __inet6_bind `bind_address_no_port`"
SOURCE_SOCKET_RANGE = "ip(7) of man-pages 6.04 IP_LOCAL_PORT_RANGE; inet_sk_get_local_port_range"
#: It was backported to 6.1 as well (ChangeLog-6.1.32).
SOCKET_RANGE_SINCE = "6.3, 6.1.32"
SOCKET_RANGE_CITE = "91d0b78c5177: inet: Add IP_LOCAL_PORT_RANGE socket option"


def set_no_port(socket: Socket) -> Result:
    """Sets IP_BIND_ADDRESS_NO_PORT, which IPv6 sockets have too."""
    return socket.setsockopt(IPPROTO_IP, value("IP_BIND_ADDRESS_NO_PORT"), 1)


@behaviour("bind.automatic.no-port", SOURCE_NO_PORT)
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
def test_no_port(kind, new_socket, expect):
    """With IP_BIND_ADDRESS_NO_PORT, bind to port 0 binds the address and takes no port, on any number of sockets; each
    can be bound again. A port other than 0 is taken as without the option.
    """
    procfs.set_sysctl(RANGE, "50000 50000")
    for number in range(4):
        socket = new_socket(*kind.triple)
        need(set_no_port(socket))
        expect(0, socket=number).of(socket.bind(kind.address(0)))
        expect(kind.address(0), socket=number, then="name").of(socket.sockname())
        expect(0, socket=number, then="again").of(socket.bind(kind.address(5000 + number)))
        expect(-EINVAL, socket=number, then="once-more").of(socket.bind(kind.address(0)))
    expect(0, socket="without").of(new_socket(*kind.triple).bind(kind.address(0)))


@behaviour(
    "bind.automatic.no-port-connect", f"{SOURCE_NO_PORT} `as long as the 4-tuple is unique`; __inet_hash_connect"
)
@pytest.mark.parametrize("kind", CONNECTING, ids=str)
def test_no_port_connect(kind, new_socket, expect):
    """After bind with IP_BIND_ADDRESS_NO_PORT, connect chooses the port: several sockets share one if their peers
    differ; with the same peer and no other port left it fails with EADDRNOTAVAIL.
    """
    procfs.set_sysctl(RANGE, "50000 50000")
    for port in (5000, 5001):
        server = new_socket(*kind.triple)
        need(server.bind(kind.address(port)))
        need(server.listen(4))
    sockets = [new_socket(*kind.triple) for _ in range(3)]
    for socket in sockets:
        need(set_no_port(socket))
        need(socket.bind(kind.address(0)))
    for socket, peer in zip(sockets, (5000, 5001), strict=False):
        expect(0, peer=peer).of(socket.connect(kind.address(peer)))
        expect(kind.address(50000), peer=peer, then="name").of(socket.sockname())
    expect(-EADDRNOTAVAIL, peer="same").of(sockets[2].connect(kind.address(5001)))


@behaviour("bind.automatic.no-port-later", f"{SOURCE_NO_PORT}; inet_dgram_connect inet_autobind, inet_csk_listen_start")
def test_no_port_later(new_socket, expect):
    """After bind with IP_BIND_ADDRESS_NO_PORT, connect of a datagram socket and listen of a TCP socket take an
    ephemeral port at the address that was bound.
    """
    procfs.set_sysctl(RANGE, "50000 50000")
    for kind in WITH_PORTS:
        socket = new_socket(*kind.triple)
        need(set_no_port(socket))
        need(socket.bind(kind.address(0)))
        taken = expect(0, kind=kind)
        taken.of(socket.listen() if kind in CONNECTING else socket.connect(kind.address(5000)))
        expect(kind.address(50000), kind=kind, then="name").of(socket.sockname())


def set_range(socket: Socket, low: int, high: int) -> Result:
    """Sets IP_LOCAL_PORT_RANGE: the lower bound in the lower 16 bits, 0 for no bound."""
    return socket.setsockopt(IPPROTO_IP, value("IP_LOCAL_PORT_RANGE"), struct.pack("<I", high << 16 | low))


@behaviour("bind.automatic.socket-range-option", f"{SOURCE_SOCKET_RANGE}; do_ip_setsockopt")
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
def test_socket_range_option(kind, new_socket, expect):
    """IP_LOCAL_PORT_RANGE accepts two bounds, one or none, and fails with EINVAL if the lower one is above the upper
    one. Kernels without the option fail with ENOPROTOOPT.
    """
    socket = new_socket(*kind.triple)
    ranges = {"both": (50000, 50001), "lower": (50000, 0), "upper": (0, 50001), "none": (0, 0), "same": (5, 5)}
    for name, (low, high) in {**ranges, "wrong": (50001, 50000)}.items():
        answer = -EINVAL if name == "wrong" else 0
        check = expect(VersionDifference(SOCKET_RANGE_SINCE, -ENOPROTOOPT, answer, SOCKET_RANGE_CITE), range=name)
        check.of(set_range(socket, low, high))


#: ip_local_port_range, IP_LOCAL_PORT_RANGE, and the ports that are given: of a range with an odd number of ports TCP does
#: not give the last one.
SOCKET_RANGES = {
    "within": ((50000, 50009), (50004, 50005), (50004, 50005)),
    "lower": ((50000, 50009), (50008, 0), (50008, 50009)),
    "upper": ((50000, 50009), (0, 50001), (50000, 50001)),
    "none": ((50000, 50001), (0, 0), (50000, 50001)),
    "lower-outside": ((50000, 50009), (40000, 50001), (50000, 50001)),
    "upper-outside": ((50000, 50009), (50008, 60000), (50008, 50009)),
    "both-outside": ((50000, 50001), (40000, 40001), (50000, 50001)),
}


@behaviour("bind.automatic.socket-range", SOURCE_SOCKET_RANGE)
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
def test_socket_range(kind, new_socket, expect):
    """IP_LOCAL_PORT_RANGE narrows the ephemeral ports of one socket; a bound outside of ip_local_port_range has no
    effect. When its ports are in use, bind to port 0 fails with EADDRINUSE.
    """
    if not expect.reference.has(SOCKET_RANGE_SINCE):
        not_applicable(f"IP_LOCAL_PORT_RANGE: since Linux {SOCKET_RANGE_SINCE}")
    for case, (system, narrowed, given) in SOCKET_RANGES.items():
        procfs.set_sysctl(RANGE, "{} {}".format(*system))
        sockets = [new_socket(*kind.triple) for _ in range(3)]
        for socket in sockets:
            need(set_range(socket, *narrowed))
        results = expect([0, 0, -EADDRINUSE], range=case, then="results")
        ports = expect(list(given), range=case, then="ports")
        bound = bind_ephemeral(sockets, kind)
        results.of(bound.results, *bound.results)
        ports.of(sorted(bound.ports), *bound.results)
        for socket in sockets:
            need(socket.close())
