"""Ports: every one of them, and the automatic ones, where they come from and which were given."""

import struct

from probes.entry.sweep import Sweep

RANGE = "net.ipv4.ip_local_port_range"


def ports(calls, kind):
    """A sweep that binds a fresh socket to each port."""
    address = calls.memory.guarded(kind.address(0))
    sweep = Sweep(calls)
    sweep.varied_port(address, 2)
    fd = sweep.call("socket", *kind.triple)
    sweep.call("bind", fd, address, address.size, judged=True)
    sweep.plain("close", fd)
    return sweep


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
