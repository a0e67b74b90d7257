"""Ephemeral ports: port 0 in bind, and listen, connect and sendto of an unbound socket."""

import struct
from errno import EADDRINUSE, EADDRNOTAVAIL, EAGAIN
from socket import SO_REUSEADDR, SOL_SOCKET

import pytest

from probes.testing import behaviour, need, procfs
from probes.testing.socket_kinds import CONNECTING, TCP, UDP, UDP6, WITH_PORTS
from probes.testing.sweeps import START
from tests.bind.bind_ports import RANGE, RESERVED, bind_ephemeral, port_in

SOURCE = "bind(2) EADDRINUSE; ip(7) ip_local_port_range; inet_csk_find_open_port, udp_lib_get_port"
SOURCE_RESERVED = "Documentation/networking/ip-sysctl.rst ip_local_reserved_ports; inet_is_local_reserved_port"
SOURCE_REUSE = "Documentation/networking/ip-sysctl.rst ip_autobind_reuse; inet_csk_find_open_port `relax`"


@behaviour("bind.automatic.range", SOURCE)
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
def test_range(kind, new_socket, expect):
    """bind to port 0 takes a port of ip_local_port_range, a different one for each socket, and getsockname returns
    it.
    """
    low, high = procfs.sysctl(RANGE)
    sockets = [new_socket(*kind.triple) for _ in range(200)]
    results = expect([0] * 200, sockets=200, then="bound")
    ports = expect([200, True], sockets=200, then="ports")
    bound = bind_ephemeral(sockets, kind)
    results.of(bound.results, *bound.results)
    ports.of([len(set(bound.ports)), all(low <= port <= high for port in bound.ports)], *bound.results)
    for number in (0, 199):
        port = struct.pack(">H", bound.port(number))
        expect(kind.address(0), socket=number, then="name").of(sockets[number].sockname().without(port))


#: Small ranges, taken whole: of a larger one with an odd number of ports TCP does not give the last one.
RANGES = {
    "lowest": (1, 2), "single": (50000, 50000), "pair": (50000, 50001), "eight": (50000, 50007),
    "across-default": (32760, 32775), "highest": (65534, 65535), "last": (65535, 65535),
}  # fmt: skip


@behaviour("bind.automatic.exhausted", SOURCE)
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
def test_exhausted(kind, new_socket, expect):
    """bind to port 0 gives every port of ip_local_port_range, both ends included, then fails with EADDRINUSE and leaves
    the socket unbound; the port of a socket that is closed is given again.
    """
    procfs.set_sysctl(START, 0)
    for case, (low, high) in RANGES.items():
        procfs.set_sysctl(RANGE, f"{low} {high}")
        sockets = [new_socket(*kind.triple) for _ in range(low, high + 1)]
        ports = expect(list(range(low, high + 1)), range=case, then="ports")
        bound = bind_ephemeral(sockets, kind)
        ports.of(sorted(bound.ports), *bound.results)
        late = new_socket(*kind.triple)
        expect(-EADDRINUSE, range=case, then="one-more").of(late.bind(kind.address(0)))
        expect(kind.address(0, "any"), range=case, then="unbound").of(late.sockname())
        need(sockets[0].close())
        expect(0, range=case, then="one-closed").of(late.bind(kind.address(0)))
        freed = expect(True, range=case, then="its-port")
        name = late.sockname()
        freed.of(name.bytes == kind.address(bound.port(0)), name)
        for socket in (*sockets[1:], late):
            need(socket.close())


@behaviour("bind.automatic.exhausted-apart", f"{SOURCE}; ip(7) `one IP socket ... (address, port) pair`")
def test_exhausted_apart(new_socket, expect):
    """Ephemeral ports are exhausted for one address and protocol at a time; ports outside of ip_local_port_range can
    still be bound by number.
    """
    procfs.set_sysctl(RANGE, "50000 50001")
    for kind in (TCP, UDP):
        for host in ("127.0.0.1", "127.0.0.2"):
            ports = expect([50000, 50001], kind=kind, host=host)
            bound = bind_ephemeral([new_socket(*kind.triple) for _ in range(2)], kind, host)
            ports.of(sorted(bound.ports), *bound.results)
        expect(-EADDRINUSE, kind=kind, host="any").of(new_socket(*kind.triple).bind(kind.address(0, "any")))
        expect(0, kind=kind, port="outside").of(new_socket(*kind.triple).bind(kind.address(50002)))


@behaviour("bind.automatic.reserved", f"{SOURCE_RESERVED}; ip(7) ip_local_reserved_ports")
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
def test_reserved(kind, new_socket, expect):
    """bind to port 0 never takes a port of ip_local_reserved_ports; such a port can be bound by number."""
    procfs.set_sysctl(RANGE, "50000 50009")
    procfs.set_sysctl(RESERVED, "80,50000-50003,50006,50009")
    ports = expect([50004, 50005, 50007, 50008], then="ports")
    bound = bind_ephemeral([new_socket(*kind.triple) for _ in range(4)], kind)
    ports.of(sorted(bound.ports), *bound.results)
    expect(-EADDRINUSE, then="one-more").of(new_socket(*kind.triple).bind(kind.address(0)))
    for port in (80, 50000, 50003, 50006, 50009):
        expect(0, port=port).of(new_socket(*kind.triple).bind(kind.address(port)))


@behaviour("bind.automatic.reuse", SOURCE_REUSE)
@pytest.mark.parametrize("kind", CONNECTING, ids=str)
def test_reuse(kind, new_socket, expect):
    """TCP gives an ephemeral port to one socket at a time, even if all have SO_REUSEADDR; if ip_autobind_reuse is 1,
    sockets with SO_REUSEADDR share a port when none is free.
    """
    procfs.set_sysctl(RANGE, "50000 50001")
    *sockets, late = (new_socket(*kind.triple) for _ in range(3))
    for socket in (*sockets, late):
        need(socket.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1))
    ports = expect([50000, 50001], then="ports")
    bound = bind_ephemeral(sockets, kind)
    ports.of(sorted(bound.ports), *bound.results)
    expect(-EADDRINUSE, reuse=0).of(late.bind(kind.address(0)))
    procfs.set_sysctl("net.ipv4.ip_autobind_reuse", 1)
    expect(0, reuse=1).of(late.bind(kind.address(0)))
    shared = expect(True, reuse=1, then="shared")
    name = late.sockname()
    shared.of(port_in(name.bytes) in bound.ports, name)
    expect(-EADDRINUSE, reuse=1, socket="without").of(new_socket(*kind.triple).bind(kind.address(0)))


@behaviour("bind.automatic.by-listen", "ip(7) `When listen(2) is called on an unbound socket`; inet_csk_listen_start")
@pytest.mark.parametrize("kind", CONNECTING, ids=str)
def test_by_listen(kind, new_socket, expect):
    """listen binds an unbound socket to an ephemeral port of the wildcard address, and fails with EADDRINUSE if none is
    left.
    """
    procfs.set_sysctl(RANGE, "50000 50000")
    first, second = (new_socket(*kind.triple) for _ in range(2))
    expect(0, listen="first").of(first.listen())
    expect(kind.address(50000, "any"), listen="first", then="name").of(first.sockname())
    expect(-EADDRINUSE, listen="second").of(second.listen())


@behaviour("bind.automatic.by-connect", "ip(7) `When connect(2) is called on an unbound socket`; inet_autobind")
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
def test_by_connect(kind, new_socket, expect):
    """connect binds an unbound socket to an ephemeral port and the source address of the route to the peer."""
    procfs.set_sysctl(RANGE, "50000 50000")
    server, socket = new_socket(*kind.triple), new_socket(*kind.triple)
    need(server.bind(kind.address(5000)))
    if kind in CONNECTING:
        need(server.listen())
    expect(0, then="connect").of(socket.connect(kind.address(5000)))
    expect(kind.address(50000), then="name").of(socket.sockname())


@behaviour("bind.automatic.by-sendto", "ip(7) ip_local_port_range `sendto(2)`; inet_send_prepare inet_autobind")
def test_by_sendto(new_socket, calls, expect):
    """sendto binds an unbound datagram socket to an ephemeral port of the wildcard address."""
    procfs.set_sysctl(RANGE, "50000 50000")
    for kind in (UDP, UDP6):
        socket, peer = new_socket(*kind.triple), calls.memory.put(kind.address(5000))
        sent = expect(1, kind=kind, then="sendto")
        sent.of(calls.make("sendto", socket, calls.pointer(b"x"), 1, 0, peer, peer.size))
        expect(kind.address(50000, "any"), kind=kind, then="name").of(socket.sockname())
        need(socket.close())


@behaviour("bind.automatic.exhausted-elsewhere", "ip(7) BUGS, EAGAIN; __inet_hash_connect, inet_autobind")
def test_exhausted_in_other_calls(new_socket, calls, expect):
    """Without a free port in ip_local_port_range, bind and listen fail with EADDRINUSE, connect of TCP with
    EADDRNOTAVAIL, connect and sendto of a datagram socket with EAGAIN.
    """
    procfs.set_sysctl(RANGE, "50000 50000")
    for kind in WITH_PORTS:
        server, taken = new_socket(*kind.triple), new_socket(*kind.triple)
        need(server.bind(kind.address(5000)))
        if kind in CONNECTING:
            need(server.listen())
        need(taken.bind(kind.address(50000, "any")))
        unbound, peer = new_socket(*kind.triple), calls.memory.put(kind.address(5000))
        expect(-EADDRINUSE, kind=kind, call="bind").of(unbound.bind(kind.address(0)))
        if kind in CONNECTING:
            expect(-EADDRINUSE, kind=kind, call="listen").of(unbound.listen())
        else:
            sent = expect(-EAGAIN, kind=kind, call="sendto")
            sent.of(calls.make("sendto", unbound, calls.pointer(b"x"), 1, 0, peer, peer.size))
        refused = -EADDRNOTAVAIL if kind in CONNECTING else -EAGAIN
        expect(refused, kind=kind, call="connect").of(unbound.connect(peer))
        need(server.close())
        need(taken.close())
