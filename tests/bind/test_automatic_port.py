"""Port 0: the kernel chooses a port, from where and until when."""

from errno import EADDRINUSE, EADDRNOTAVAIL, EAGAIN
from socket import SO_REUSEADDR, SOL_SOCKET

import pytest

from probes.sandbox import namespaces
from probes.testing import behaviour, need
from probes.testing import procfs as witness
from probes.testing.socket_kinds import CONNECTING, TCP, UDP, UDP6, WITH_PORTS
from tests.bind.bind_ports import RANGE, automatic, port_of

SOURCE = "bind(2) EADDRINUSE; ip(7) ip_local_port_range; inet_csk_find_open_port, udp_lib_get_port"
SOURCE_RESERVED = "Documentation/networking/ip-sysctl.rst ip_local_reserved_ports; inet_is_local_reserved_port"
SOURCE_REUSE = "Documentation/networking/ip-sysctl.rst ip_autobind_reuse; inet_csk_find_open_port `relax`"
RESERVED, START = "net.ipv4.ip_local_reserved_ports", "net.ipv4.ip_unprivileged_port_start"


@behaviour("bind.automatic.range", SOURCE)
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
def test_range(kind, new_socket, expect):
    """Port 0 takes a port of ip_local_port_range, a different one for each socket, and getsockname tells it."""
    low, high = witness.sysctl(RANGE)
    announced = expect([0] * 200, sockets=200, then="bound")
    sockets, results, ports = automatic(new_socket, kind, 200)
    announced.of(results, *results)
    expect([200, True], sockets=200, then="ports").of(
        [len(set(ports)), all(low <= port <= high for port in ports)], *results
    )
    for number in (0, 199):
        result, name = sockets[number].sockname()
        expect(kind.address(ports[number]), socket=number, then="name").of(name, result)


#: Ranges of which every port is looked at: TCP leaves out the last port of an odd number, unless there is just one.
RANGES = {
    "lowest": (1, 2), "single": (50000, 50000), "pair": (50000, 50001), "eight": (50000, 50007),
    "across-default": (32760, 32775), "highest": (65534, 65535), "last": (65535, 65535),
}  # fmt: skip


@behaviour("bind.automatic.exhausted", SOURCE)
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
def test_exhausted(kind, new_socket, expect):
    """Every port of ip_local_port_range is given, both its ends too, and then EADDRINUSE: the socket stays unbound, and
    can have the port of one that is closed.
    """
    namespaces.set_sysctl(START, 0)
    for case, (low, high) in RANGES.items():
        namespaces.set_sysctl(RANGE, f"{low} {high}")
        count = high - low + 1
        sockets, results, ports = automatic(new_socket, kind, count)
        expect(list(range(low, high + 1)), range=case, then="ports").of(sorted(ports), *results)
        late = new_socket(*kind.triple)
        expect(-EADDRINUSE, range=case, then="one-more").of(late.bind(kind.address(0)))
        result, name = late.sockname()
        expect(kind.address(0, "any"), range=case, then="unbound").of(name, result)
        need(sockets[0].close())
        expect(0, range=case, then="one-closed").of(late.bind(kind.address(0)))
        result, name = late.sockname()
        expect(True, range=case, then="its-port").of(name == kind.address(ports[0]), result)
        for socket in (*sockets[1:], late):
            need(socket.close())


@behaviour("bind.automatic.exhausted-apart", f"{SOURCE}; ip(7) `one IP socket ... (address, port) pair`")
def test_exhausted_apart(new_socket, expect):
    """Ports are taken for an address and a protocol: what is exhausted for one is free for another, and anyone may
    still bind outside of the range.
    """
    namespaces.set_sysctl(RANGE, "50000 50001")
    for kind in (TCP, UDP):
        for host in ("127.0.0.1", "127.0.0.2"):
            _, results, ports = automatic(new_socket, kind, 2, host)
            expect([50000, 50001], kind=kind, host=host).of(sorted(ports), *results)
        expect(-EADDRINUSE, kind=kind, host="any").of(new_socket(*kind.triple).bind(kind.address(0, "any")))
        expect(0, kind=kind, port="outside").of(new_socket(*kind.triple).bind(kind.address(50002)))


@behaviour("bind.automatic.reserved", f"{SOURCE_RESERVED}; ip(7) ip_local_reserved_ports")
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
def test_reserved(kind, new_socket, expect):
    """Ports of ip_local_reserved_ports are never given for port 0, and can be bound by their number."""
    namespaces.set_sysctl(RANGE, "50000 50009")
    namespaces.set_sysctl(RESERVED, "80,50000-50003,50006,50009")
    _, results, ports = automatic(new_socket, kind, 4)
    expect([50004, 50005, 50007, 50008], then="ports").of(sorted(ports), *results)
    expect(-EADDRINUSE, then="one-more").of(new_socket(*kind.triple).bind(kind.address(0)))
    for port in (80, 50000, 50003, 50006, 50009):
        expect(0, port=port).of(new_socket(*kind.triple).bind(kind.address(port)))


@behaviour("bind.automatic.reuse", SOURCE_REUSE)
@pytest.mark.parametrize("kind", CONNECTING, ids=str)
def test_reuse(kind, new_socket, expect):
    """TCP gives no port twice, even to sockets that all have SO_REUSEADDR, unless ip_autobind_reuse is 1."""
    namespaces.set_sysctl(RANGE, "50000 50001")

    def reusing(socket):
        need(socket.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1))

    _, results, ports = automatic(new_socket, kind, 2, prepare=reusing)
    expect([50000, 50001], then="ports").of(sorted(ports), *results)
    late = new_socket(*kind.triple)
    reusing(late)
    expect(-EADDRINUSE, reuse=0).of(late.bind(kind.address(0)))
    namespaces.set_sysctl("net.ipv4.ip_autobind_reuse", 1)
    expect(0, reuse=1).of(late.bind(kind.address(0)))
    result, name = late.sockname()
    expect(True, reuse=1, then="shared").of(port_of(name) in ports, result)
    expect(-EADDRINUSE, reuse=1, socket="without").of(new_socket(*kind.triple).bind(kind.address(0)))


@behaviour("bind.automatic.by-listen", "ip(7) `When listen(2) is called on an unbound socket`; inet_csk_listen_start")
@pytest.mark.parametrize("kind", CONNECTING, ids=str)
def test_by_listen(kind, new_socket, expect):
    """listen gives an unbound socket a port of the range and the any-address, EADDRINUSE if none is left."""
    namespaces.set_sysctl(RANGE, "50000 50000")
    first, second = (new_socket(*kind.triple) for _ in range(2))
    expect(0, listen="first").of(first.listen())
    result, name = first.sockname()
    expect(kind.address(50000, "any"), listen="first", then="name").of(name, result)
    expect(-EADDRINUSE, listen="second").of(second.listen())


@behaviour("bind.automatic.by-connect", "ip(7) `When connect(2) is called on an unbound socket`; inet_autobind")
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
def test_by_connect(kind, new_socket, expect):
    """connect gives an unbound socket a port of the range, and the address that leads to the peer."""
    namespaces.set_sysctl(RANGE, "50000 50000")
    server, socket = new_socket(*kind.triple), new_socket(*kind.triple)
    need(server.bind(kind.address(5000)))
    if kind in CONNECTING:
        need(server.listen())
    expect(0, then="connect").of(socket.connect(kind.address(5000)))
    result, name = socket.sockname()
    expect(kind.address(50000), then="name").of(name, result)


@behaviour("bind.automatic.by-sendto", "ip(7) ip_local_port_range `sendto(2)`; inet_send_prepare inet_autobind")
def test_by_sendto(new_socket, calls, expect):
    """sendto gives an unbound datagram socket a port of the range and the any-address."""
    namespaces.set_sysctl(RANGE, "50000 50000")
    for kind in (UDP, UDP6):
        socket, peer = new_socket(*kind.triple), calls.memory.put(kind.address(5000))
        expect(1, kind=kind, then="sendto").of(calls.make("sendto", socket, calls.pointer(b"x"), 1, 0, peer, peer.size))
        result, name = socket.sockname()
        expect(kind.address(50000, "any"), kind=kind, then="name").of(name, result)
        need(socket.close())


@behaviour("bind.automatic.exhausted-elsewhere", "ip(7) BUGS, EAGAIN; __inet_hash_connect, inet_autobind")
def test_exhausted_elsewhere(new_socket, calls, expect):
    """When no port of the range is left, bind and listen fail with EADDRINUSE, connect of TCP with EADDRNOTAVAIL, connect
    and sendto of a datagram socket with EAGAIN.
    """
    namespaces.set_sysctl(RANGE, "50000 50000")
    for kind in WITH_PORTS:
        server, taken = new_socket(*kind.triple), new_socket(*kind.triple)
        need(server.bind(kind.address(5000)))
        if kind in CONNECTING:
            need(server.listen())
        need(taken.bind(kind.address(50000, "any")))
        fresh, peer = new_socket(*kind.triple), calls.memory.put(kind.address(5000))
        expect(-EADDRINUSE, kind=kind, call="bind").of(fresh.bind(kind.address(0)))
        if kind in CONNECTING:
            expect(-EADDRINUSE, kind=kind, call="listen").of(fresh.listen())
        else:
            sent = expect(-EAGAIN, kind=kind, call="sendto")
            sent.of(calls.make("sendto", fresh, calls.pointer(b"x"), 1, 0, peer, peer.size))
        announced = expect(-EADDRNOTAVAIL if kind in CONNECTING else -EAGAIN, kind=kind, call="connect")
        announced.of(fresh.connect(peer))
        need(server.close())
        need(taken.close())
