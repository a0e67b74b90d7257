"""bind of a socket that is already bound, listening or connected."""

from errno import EADDRINUSE, ECONNREFUSED, EINVAL, ENOENT

import pytest

from probes.abi.names import value
from probes.entry.calls import Socket
from probes.testing import VersionDifference, behaviour, need
from probes.testing.socket_kinds import (
    CONNECTING,
    PACKET,
    PACKET_DGRAM,
    RAW,
    RAW6,
    UDP,
    UDP6,
    UNIX,
    UNIX_SEQPACKET,
    UNIX_STREAM,
    WITH_PORTS,
    SocketKind,
)
from tests.bind.bind_forms import ETH_P_ALL, packet, unix

SOURCE = "bind(2) EINVAL; __inet_bind, __inet6_bind `sk->sk_state != TCP_CLOSE || inet->inet_num`; S4 3.2 step 7"
SOURCE_UNIX = "bind(2) EINVAL; unix(7) EINVAL; unix_bind_bsd, unix_bind_abstract `u->addr`"
SOURCE_RAW = "raw(7); raw_bind, rawv6_bind `sk->sk_state != TCP_CLOSE`; S4 3.2 step 2"
#: arch/x86/entry/syscalls/syscall_32.tbl. No behaviour is about it.
_UNLINK = 10


def seconds(kind: SocketKind, port: int) -> dict[str, bytes]:
    """Returns addresses for a second bind, by name."""
    return {
        "same": kind.address(port),
        "other-port": kind.address(port + 1),
        "port-0": kind.address(0),
        "any": kind.address(port, "any"),
    }


@behaviour("bind.rebind.bound", SOURCE)
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
def test_bound(kind, new_socket, expect):
    """bind of a bound socket fails with EINVAL, for the same address and for others, and the socket keeps its address."""
    socket = new_socket(*kind.triple)
    need(socket.bind(kind.address(5000)))
    for second, address in seconds(kind, 5000).items():
        expect(-EINVAL, second=second).of(socket.bind(address))
    expect(kind.address(5000), afterwards="name").of(socket.sockname())


@behaviour("bind.rebind.automatic-port", f"{SOURCE}; ip(7)")
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
def test_automatic_port(kind, new_socket, expect):
    """bind of a socket that has an ephemeral port from bind to port 0 fails with EINVAL."""
    socket = new_socket(*kind.triple)
    need(socket.bind(kind.address(0)))
    for second, address in seconds(kind, 5000).items():
        expect(-EINVAL, second=second).of(socket.bind(address))


@behaviour("bind.rebind.listening", SOURCE)
@pytest.mark.parametrize("kind", CONNECTING, ids=str)
@pytest.mark.parametrize("first", ["bound", "unbound"])
def test_listening(kind, first, new_socket, expect):
    """bind of a listening socket fails with EINVAL, whether it was bound before listen or by listen."""
    socket = new_socket(*kind.triple)
    if first == "bound":
        need(socket.bind(kind.address(5000)))
    need(socket.listen())
    for second, address in seconds(kind, 5000).items():
        expect(-EINVAL, second=second).of(socket.bind(address))


@behaviour("bind.rebind.connected", SOURCE)
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
@pytest.mark.parametrize("end", ["connecting", "accepted"])
def test_connected(kind, end, new_socket, calls, expect):
    """bind of a connected socket fails with EINVAL, on the connecting and on the accepted socket."""
    peer = new_socket(*kind.triple)
    need(peer.bind(kind.address(5000)))
    socket = new_socket(*kind.triple)
    if kind in CONNECTING:
        need(peer.listen())
    need(socket.connect(kind.address(5000)))
    if end == "accepted" and kind in CONNECTING:
        socket = Socket(calls, need(peer.accept()))
    for second, address in seconds(kind, 5001).items():
        expect(-EINVAL, second=second).of(socket.bind(address))


@behaviour("bind.rebind.after-refused-connect", "connect(2) ECONNREFUSED; tcp_done, inet_put_port; S4 3.2 step 7")
@pytest.mark.parametrize("kind", CONNECTING, ids=str)
def test_after_refused_connect(kind, new_socket, expect):
    """After connect failed with ECONNREFUSED an unbound socket is unbound again: it can be bound."""
    socket = new_socket(*kind.triple)
    expect(-ECONNREFUSED, step="connect").of(socket.connect(kind.address(5000)))
    expect(0, step="bind").of(socket.bind(kind.address(5001)))
    expect(kind.address(5001), step="name").of(socket.sockname())


@behaviour("bind.rebind.raw", SOURCE_RAW)
@pytest.mark.parametrize("kind", [RAW, RAW6], ids=str)
def test_raw(kind, new_socket, expect):
    """A bound raw socket can be bound again, and then has the new address."""
    socket = new_socket(*kind.triple)
    expect(0, bind="first").of(socket.bind(kind.address(0)))
    expect(0, bind="same").of(socket.bind(kind.address(0)))
    expect(0, bind="any").of(socket.bind(kind.address(0, "any")))
    expect(kind.address(kind.protocol, "any"), bind="name").of(socket.sockname())


@behaviour("bind.rebind.raw-connected", SOURCE_RAW)
@pytest.mark.parametrize("kind", [RAW, RAW6], ids=str)
def test_raw_connected(kind, new_socket, expect):
    """bind of a connected raw socket fails with EINVAL."""
    socket = new_socket(*kind.triple)
    need(socket.connect(kind.address(0)))
    expect(-EINVAL, second="same").of(socket.bind(kind.address(0)))
    expect(-EINVAL, second="any").of(socket.bind(kind.address(0, "any")))


@behaviour("bind.rebind.datagram-disconnected", f"{SOURCE}; connect(2) AF_UNSPEC; __udp_disconnect")
@pytest.mark.parametrize("kind", [UDP, UDP6], ids=str)
def test_datagram_disconnected(kind, new_socket, expect):
    """A datagram socket whose ephemeral port was released by connect to AF_UNSPEC can be bound again."""
    peer, socket = new_socket(*kind.triple), new_socket(*kind.triple)
    need(peer.bind(kind.address(5000)))
    need(socket.connect(kind.address(5000)))
    need(socket.connect(bytes(16)))
    expect(0).of(socket.bind(kind.address(5001)))


@behaviour("bind.rebind.unix", f"{SOURCE_UNIX}; unix_autobind")
@pytest.mark.parametrize("kind", UNIX, ids=str)
@pytest.mark.parametrize("first", ["path", "abstract", "autobind"])
def test_unix(kind, first, new_socket, expect):
    """bind of an AF_UNIX socket that has a name fails with EINVAL, for a path and for an abstract name; with addrlen 2
    (autobind) it returns 0. Neither changes the name. The path that the socket has fails with EADDRINUSE.
    """
    socket = new_socket(*kind.triple)
    need(socket.bind(unix({"path": b"first", "abstract": b"\0first", "autobind": b""}[first])))
    name = socket.sockname().bytes
    # The five digits of a name by autobind are the kernel's choice.
    chosen = name[3:] if first == "autobind" else b""
    expect(-EINVAL, second="path").of(socket.bind(unix(b"second")))
    expect(-EINVAL, second="abstract").of(socket.bind(unix(b"\0second")))
    expect(0, second="autobind").of(socket.bind(unix(b"")))
    if first != "autobind":
        again = {"path": (b"first", -EADDRINUSE), "abstract": (b"\0first", -EINVAL)}[first]
        expect(again[1], second="same").of(socket.bind(unix(again[0])))
    expect(name.replace(chosen, bytes(len(chosen)), 1), afterwards="name").of(socket.sockname().without(chosen))


@behaviour("bind.rebind.unix-leaves-no-file", f"{SOURCE_UNIX} `failed after successful mknod?`")
@pytest.mark.parametrize("kind", UNIX, ids=str)
def test_unix_leaves_no_file(kind, new_socket, calls, expect):
    """bind of an AF_UNIX socket that has a name fails without leaving a file at the path."""
    socket = new_socket(*kind.triple)
    need(socket.bind(unix(b"\0first")))
    made = VersionDifference(
        "5.14", 0, -ENOENT, "c0c3b8d380a8: unix_bind_bsd(): unlink if we fail after successful mknod"
    )
    file = expect(made, afterwards="file")
    result = socket.bind(unix(b"second"))
    need(result, "a second name for the socket", returns=-EINVAL)
    # The caller finds out, which may be on another machine: unlink fails with ENOENT if there is no file.
    file.of(calls.gate.enter(_UNLINK, calls.pointer(b"second\0")), result)


@behaviour("bind.rebind.unix-connected", f"{SOURCE_UNIX}; unix_stream_connect; socketpair(2); unix(7) unnamed")
def test_unix_connected(new_socket, calls, expect):
    """bind gives a name to a connected AF_UNIX socket without one and to both sockets of a pair; a listening and an
    accepted socket have the name of the listener, and bind fails with EINVAL.
    """
    for kind in (UNIX_STREAM, UNIX_SEQPACKET):
        text = kind.name.encode()
        listener, client = new_socket(*kind.triple), new_socket(*kind.triple)
        need(listener.bind(unix(b"\0listener" + text)))
        need(listener.listen())
        need(client.connect(unix(b"\0listener" + text)))
        accepted = Socket(calls, need(listener.accept()))
        expect(0, kind=kind, socket="connecting").of(client.bind(unix(b"\0client" + text)))
        expect(-EINVAL, kind=kind, socket="listening").of(listener.bind(unix(b"\0other" + text)))
        expect(-EINVAL, kind=kind, socket="accepted").of(accepted.bind(unix(b"\0other" + text)))
        expect(unix(b"\0client" + text), kind=kind, socket="accepted", then="peer").of(accepted.peername())
    for kind in UNIX:
        sv = calls.memory.words(0, 0)
        need(calls.make("socketpair", *kind.triple, sv))
        for end, fd in zip(("first", "second"), sv.words(), strict=True):
            name = unix(b"\0pair" + end.encode())
            expect(0, kind=kind, socket=f"{end}-of-pair").of(calls.bind(fd, name))
            expect(name, kind=kind, socket=f"{end}-of-pair", then="name").of(calls.name("getsockname", fd))
            need(calls.close(fd))


@behaviour("bind.rebind.packet", "packet(7) bind; packet_do_bind `need_rehook`; BEHAVIOURS bind")
@pytest.mark.parametrize("kind", [PACKET, PACKET_DGRAM], ids=str)
def test_packet(kind, new_socket, expect):
    """A packet socket can be bound again, to the same or another protocol and link, and then has those; bind with
    protocol 0 keeps the protocol.
    """
    socket = new_socket(*kind.triple)
    loopback, arp, every = 1, 0x0806, ETH_P_ALL
    # (protocol, link) given to bind, and what getsockname returns.
    steps = {
        "first": ((arp, 0), (arp, 0)), "same": ((arp, 0), (arp, 0)), "protocol": ((every, 0), (every, 0)),
        "link": ((every, loopback), (every, loopback)), "both": ((arp, loopback), (arp, loopback)),
        "no-protocol": ((0, loopback), (arp, loopback)), "any-link": ((0, 0), (arp, 0)),
    }  # fmt: skip
    for step, (given, named) in steps.items():
        expect(0, bind=step).of(socket.bind(packet(*given)))
        expect(packet(*named)[:8], bind=step, then="name").of(socket.sockname()[:8])


@behaviour("bind.rebind.packet-fanout", "packet(7) PACKET_FANOUT; packet_do_bind `po->fanout`")
def test_packet_fanout(new_socket, expect):
    """bind of a packet socket that has joined a fanout group fails with EINVAL, for the same address and for others."""
    socket = new_socket(*PACKET.triple)
    need(socket.bind(packet(ETH_P_ALL, 0)))
    need(socket.setsockopt(value("SOL_PACKET"), value("PACKET_FANOUT"), 1))
    for second, address in {
        "same": packet(ETH_P_ALL, 0),
        "link": packet(ETH_P_ALL, 1),
        "arp": packet(0x0806, 0),
    }.items():
        expect(-EINVAL, second=second).of(socket.bind(address))
    expect(packet(ETH_P_ALL, 0)[:8], afterwards="name").of(socket.sockname()[:8])
