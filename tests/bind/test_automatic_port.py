"""Port 0: the kernel chooses a port, from where and until when."""

import struct
from errno import EADDRINUSE, EADDRNOTAVAIL, EINVAL, ENOPROTOOPT
from socket import IPPROTO_IP, SO_REUSEADDR, SOL_SOCKET

import pytest

from probes import namespaces
from probes.abi.names import value
from probes.suite import Changed, behaviour, need, not_applicable, witness
from probes.suite.kinds import CONNECTING, TCP, UDP, WITH_PORTS

SOURCE = "bind(2) EADDRINUSE; ip(7) ip_local_port_range; inet_csk_find_open_port, udp_lib_get_port"
SOURCE_RESERVED = "Documentation/networking/ip-sysctl.rst ip_local_reserved_ports; inet_is_local_reserved_port"
SOURCE_REUSE = "Documentation/networking/ip-sysctl.rst ip_autobind_reuse; inet_csk_find_open_port `relax`"
SOURCE_NO_PORT = "ip(7) IP_BIND_ADDRESS_NO_PORT; __inet_bind, __inet6_bind `bind_address_no_port`"
SOURCE_SOCKET_RANGE = "ip(7) of man-pages 6.04 IP_LOCAL_PORT_RANGE; inet_sk_get_local_port_range"
RANGE, RESERVED, START = (
    f"net.ipv4.{name}" for name in ("ip_local_port_range", "ip_local_reserved_ports", "ip_unprivileged_port_start")
)
#: Linux 6.3 has it, and 6.1.32, where a later fix needed it (ChangeLog-6.1.32).
SOCKET_RANGE_SINCE = "6.1"
SOCKET_RANGE_CITE = "91d0b78c5177: inet: Add IP_LOCAL_PORT_RANGE socket option, in 6.3 and 6.1.32"


def port_of(name):
    """The port in a name."""
    (port,) = struct.unpack(">H", name[2:4])
    return port


def automatic(new_socket, kind, count, host="loopback", prepare=None):
    """Binds so many sockets to port 0: the sockets, the results, and the ports of those that were bound."""
    sockets = [new_socket(*kind.triple) for _ in range(count)]
    for socket in sockets:
        if prepare:
            prepare(socket)
    results = [socket.bind(kind.address(0, host)) for socket in sockets]
    return (
        sockets,
        results,
        [port_of(s.sockname()[1]) for s, result in zip(sockets, results, strict=True) if result == 0],
    )


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


def no_port(socket):
    """Sets IP_BIND_ADDRESS_NO_PORT, which sockets of IPv6 have too."""
    need(socket.setsockopt(IPPROTO_IP, value("IP_BIND_ADDRESS_NO_PORT"), 1))


@behaviour("bind.automatic.no-port", SOURCE_NO_PORT)
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
def test_no_port(kind, new_socket, expect):
    """With IP_BIND_ADDRESS_NO_PORT port 0 binds the address and takes no port: as many sockets as like may, each can be
    bound again, and a port that is named is taken as ever.
    """
    namespaces.set_sysctl(RANGE, "50000 50000")
    for number in range(4):
        socket = new_socket(*kind.triple)
        no_port(socket)
        expect(0, socket=number).of(socket.bind(kind.address(0)))
        result, name = socket.sockname()
        expect(kind.address(0), socket=number, then="name").of(name, result)
        expect(0, socket=number, then="again").of(socket.bind(kind.address(5000 + number)))
        expect(-EINVAL, socket=number, then="once-more").of(socket.bind(kind.address(0)))
    expect(0, socket="without").of(new_socket(*kind.triple).bind(kind.address(0)))


@behaviour(
    "bind.automatic.no-port-connect", f"{SOURCE_NO_PORT} `as long as the 4-tuple is unique`; __inet_hash_connect"
)
@pytest.mark.parametrize("kind", CONNECTING, ids=str)
def test_no_port_connect(kind, new_socket, expect):
    """After IP_BIND_ADDRESS_NO_PORT connect chooses the port, the same for several sockets if they connect to different
    peers; to the same peer EADDRNOTAVAIL.
    """
    namespaces.set_sysctl(RANGE, "50000 50000")
    for port in (5000, 5001):
        server = new_socket(*kind.triple)
        need(server.bind(kind.address(port)))
        need(server.listen(4))
    sockets = [new_socket(*kind.triple) for _ in range(3)]
    for socket in sockets:
        no_port(socket)
        need(socket.bind(kind.address(0)))
    for socket, peer in zip(sockets, (5000, 5001), strict=False):
        expect(0, peer=peer).of(socket.connect(kind.address(peer)))
        result, name = socket.sockname()
        expect(kind.address(50000), peer=peer, then="name").of(name, result)
    expect(-EADDRNOTAVAIL, peer="same").of(sockets[2].connect(kind.address(5001)))


@behaviour("bind.automatic.no-port-later", f"{SOURCE_NO_PORT}; inet_dgram_connect inet_autobind, inet_csk_listen_start")
def test_no_port_later(new_socket, expect):
    """After IP_BIND_ADDRESS_NO_PORT a datagram socket has a port from connect on, a listening socket from listen on, at
    the address that was bound.
    """
    namespaces.set_sysctl(RANGE, "50000 50000")
    for kind in WITH_PORTS:
        socket = new_socket(*kind.triple)
        no_port(socket)
        need(socket.bind(kind.address(0)))
        announced = expect(0, kind=kind)
        announced.of(socket.listen() if kind in CONNECTING else socket.connect(kind.address(5000)))
        result, name = socket.sockname()
        expect(kind.address(50000), kind=kind, then="name").of(name, result)


def set_range(socket, low, high):
    """Sets IP_LOCAL_PORT_RANGE: the lower bound in the lower half, 0 for none."""
    return socket.setsockopt(IPPROTO_IP, value("IP_LOCAL_PORT_RANGE"), struct.pack("<I", high << 16 | low))


@behaviour("bind.automatic.socket-range-option", f"{SOURCE_SOCKET_RANGE}; do_ip_setsockopt")
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
def test_socket_range_option(kind, new_socket, expect):
    """IP_LOCAL_PORT_RANGE takes two bounds, or one, or none; a lower one above the upper one is EINVAL. Kernels without
    it answer ENOPROTOOPT.
    """
    socket = new_socket(*kind.triple)
    ranges = {"both": (50000, 50001), "lower": (50000, 0), "upper": (0, 50001), "none": (0, 0), "same": (5, 5)}
    for name, (low, high) in {**ranges, "wrong": (50001, 50000)}.items():
        answer = -EINVAL if name == "wrong" else 0
        announced = expect(Changed(SOCKET_RANGE_SINCE, -ENOPROTOOPT, answer, SOCKET_RANGE_CITE), range=name)
        announced.of(set_range(socket, low, high))


#: What the namespace has, what the socket asks for, what it gets. Pairs, for TCP leaves out one of an odd number.
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
    """IP_LOCAL_PORT_RANGE narrows the range of port 0 for a socket; a bound outside of ip_local_port_range does not
    count. Then EADDRINUSE, however many ports others may have.
    """
    major, minor = expect.reference.version
    if (major, minor) < tuple(map(int, SOCKET_RANGE_SINCE.split("."))):
        not_applicable("IP_LOCAL_PORT_RANGE: since Linux 6.3 and 6.1.32")
    for case, (system, asked, given) in SOCKET_RANGES.items():
        namespaces.set_sysctl(RANGE, "{} {}".format(*system))

        def narrowed(socket, asked=asked):
            need(set_range(socket, *asked))

        sockets, results, ports = automatic(new_socket, kind, 3, prepare=narrowed)
        expect([0, 0, -EADDRINUSE], range=case, then="results").of(results, *results)
        expect(list(given), range=case, then="ports").of(sorted(ports), *results)
        for socket in sockets:
            need(socket.close())
