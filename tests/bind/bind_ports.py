"""Automatic ports: where they come from, and which were given."""

import struct

RANGE = "net.ipv4.ip_local_port_range"


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
