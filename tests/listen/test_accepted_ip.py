"""Accepted TCP sockets and IP: memberships of multicast groups, and connections over IPv4 of IPv6 sockets."""

import socket
import struct
from errno import EADDRNOTAVAIL

from probes.testing import behaviour, need
from probes.testing.socket_kinds import TCP, TCP6
from probes.testing.states import CLIENT_PORT, SERVER_PORT

IP, IPV6 = socket.IPPROTO_IP, socket.IPPROTO_IPV6
MCAST_JOIN_GROUP, MCAST_LEAVE_GROUP, IPV6_ADDRFORM = 42, 45, 1
#: A group of each family, and the loopback link: struct group_req of i386 has the address at offset 4.
GROUPS = {TCP: (IP, "224.0.0.251"), TCP6: (IPV6, "ff02::fb")}
LOOPBACK = 1
FAMILY = struct.pack("<i", socket.AF_INET)
#: The port at which a socket listens that was accepted before.
ANOTHER = 5005


@behaviour("listen.accept.no-groups", "accept(2); ip(7) MCAST_JOIN_GROUP; inet_csk_clone_lock; ip_mc_leave_group")
def test_groups(prepare, calls, expect):
    """An accepted socket is no member of the multicast groups of the listening socket: to leave one fails with
    EADDRNOTAVAIL, and the listening socket is a member still.
    """
    for kind, (level, group) in GROUPS.items():
        end = prepare("bound", kind)
        request = (struct.pack("<i", LOOPBACK) + kind.address(0, group)).ljust(132, b"\0")
        need(end.calls.setsockopt(end.fd, level, MCAST_JOIN_GROUP, request), "MCAST_JOIN_GROUP")
        need(end.calls.listen(end.fd, 1), "listen")
        end.connect(end.new(), end.server)
        accepted = end.keep(calls.accept(end.fd), "accept")
        for which, fd, error in (("accepted", accepted, EADDRNOTAVAIL), ("listening", end.fd, 0)):
            expect(-error, kind=kind, socket=which).of(calls.setsockopt(fd, level, MCAST_LEAVE_GROUP, request))
        end.close()


@behaviour("listen.accept.family", "connect(2) `AF_UNSPEC`; ipv6(7) IPV6_ADDRFORM; do_ipv6_setsockopt, tcp_disconnect")
def test_family(prepare, calls, expect):
    """A connection over IPv4 of an IPv6 socket becomes one of AF_INET by IPV6_ADDRFORM. After connect of AF_UNSPEC the
    socket can be bound to an address of AF_INET, listen, and accept.
    """
    end, client = prepare("unbound", TCP6), prepare.another(0)("unbound", TCP)
    need(end.calls.bind(end.fd, TCP6.address(SERVER_PORT, "any")), "bind")
    need(end.calls.listen(end.fd, 1), "listen")
    need(client.calls.bind(client.fd, TCP.address(CLIENT_PORT)), "bind")
    client.connect(client.fd, TCP.address(SERVER_PORT))
    fd = end.keep(calls.accept(end.fd), "accept")
    expect(0, step="converted").of(calls.setsockopt(fd, IPV6, IPV6_ADDRFORM, FAMILY))
    for op, port in {"getsockname": SERVER_PORT, "getpeername": CLIENT_PORT}.items():
        expect(TCP.address(port), step="converted", call=op).of(calls.name(op, fd))
    expect(0, step="dissolved", call="connect").of(calls.connect(fd, bytes(16)))
    expect(0, step="dissolved", call="bind").of(calls.bind(fd, TCP.address(ANOTHER)))
    expect(0, step="dissolved", call="listen").of(calls.listen(fd, 1))
    second = client.bound(TCP.address(ANOTHER + 1))
    expect(0, step="client", call="connect").of(calls.connect(second, TCP.address(ANOTHER)))
    again = end.keep(calls.accept(fd), "accept")
    expect(TCP.address(ANOTHER + 1), step="accepted", call="getpeername").of(calls.name("getpeername", again))
