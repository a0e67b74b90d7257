"""IPv6 sockets that receive from IPv4, and that become IPv4 sockets."""

import socket
import struct
from errno import EADDRNOTAVAIL, EINVAL, ENOTCONN

from probes.abi.names import value
from probes.abi.sockaddr import inet6
from probes.testing import behaviour, need
from probes.testing.socket_kinds import TCP, TCP6, UDP, UDP6
from tests.transfer.exchange import came

IPV6 = socket.IPPROTO_IPV6
IPV6_ADDRFORM, IPV6_V6ONLY = 1, 26


def mapped(port):
    """Packs the address of an IPv4 host, 127.0.0.1, as an IPv6 socket has it: ::ffff:127.0.0.1."""
    return inet6("::ffff:127.0.0.1", port)


@behaviour(
    "transfer.mapped.source", "ipv6(7) IPV6_V6ONLY, `mapped`; udpv6_recvmsg, inet6_getname; ipv6_addr_set_v4mapped"
)
def test_source(exchange, new_socket, expect):
    """Without IPV6_V6ONLY an IPv6 socket that is bound to the wildcard address receives from IPv4 hosts: the address of the
    sender is mapped.
    """
    there, sender = new_socket(*UDP6.triple), new_socket(*UDP.triple)
    need(there.setsockopt(IPV6, IPV6_V6ONLY, 0), "IPV6_V6ONLY")
    need(there.bind(UDP6.address(5000, "any")), "bind")
    need(sender.bind(UDP.address(5001)), "bind")
    for op in exchange.with_name:
        check = expect(came(op, b"data", name=mapped(5001)), kind=UDP6, op=op)
        need(exchange.send("sendto", sender, b"data", name=UDP.address(5000)).result, "sendto")
        check.of(exchange.receive(op, there, 8, name=28))


@behaviour("transfer.mapped.form", "ipv6(7) IPV6_ADDRFORM; do_ipv6_setsockopt `fl6_free_socklist`")
def test_form(prepare, new_socket, calls, expect):
    """IPV6_ADDRFORM with AF_INET makes an IPv4 socket of an IPv6 one that is connected to a mapped address. It fails with
    ENOTCONN on an unconnected TCP socket, with EADDRNOTAVAIL if the address is not mapped, with EINVAL for another family.
    """
    end = prepare("beside-server", TCP)
    client, own = new_socket(*TCP6.triple), prepare("connected", TCP6)
    expect(-ENOTCONN, state="unconnected").of(client.setsockopt(IPV6, IPV6_ADDRFORM, socket.AF_INET))
    expect(-EADDRNOTAVAIL, state="not-mapped").of(calls.setsockopt(own.fd, IPV6, IPV6_ADDRFORM, socket.AF_INET))
    need(client.connect(mapped(5000)), "connect")
    end.wait(end.peer)
    for family in (socket.AF_UNIX, socket.AF_INET6):
        expect(-EINVAL, family=family).of(client.setsockopt(IPV6, IPV6_ADDRFORM, family))
    expect(0, state="connected").of(client.setsockopt(IPV6, IPV6_ADDRFORM, socket.AF_INET))
    expect(socket.AF_INET, then="SO_DOMAIN").of(client.getsockopt(socket.SOL_SOCKET, value("SO_DOMAIN")).as_int())
    expect(TCP.address(5000), then="getpeername").of(client.peername())


@behaviour("transfer.mapped.hops", "ipv6(7) IPV6_UNICAST_HOPS, IPV6_MULTICAST_HOPS; do_ipv6_setsockopt")
def test_hops(new_socket, expect):
    """IPV6_UNICAST_HOPS and IPV6_MULTICAST_HOPS are 0 to 255, or -1 for the default; other values fail with EINVAL."""
    for kind in (UDP6, TCP6):
        sock = new_socket(*kind.triple)
        for name in ("IPV6_UNICAST_HOPS", *(("IPV6_MULTICAST_HOPS",) if kind is UDP6 else ())):
            for given in (0, 1, 255):
                expect(0, kind=kind, option=name, given=given).of(sock.setsockopt(IPV6, value(name), given))
                expect(given, kind=kind, option=name, given=given, then="read").of(
                    sock.getsockopt(IPV6, value(name)).as_int()
                )
            for given in (256, -2, 0x7FFFFFFF):
                expect(-EINVAL, kind=kind, option=name, given=given).of(sock.setsockopt(IPV6, value(name), given))
            expect(0, kind=kind, option=name, given=-1).of(sock.setsockopt(IPV6, value(name), struct.pack("<i", -1)))
