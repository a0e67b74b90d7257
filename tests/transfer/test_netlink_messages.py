"""Messages of AF_NETLINK: to groups, to the kernel, and to a socket that has no room for them."""

import socket
import struct
from errno import EAGAIN, ECONNREFUSED, ENOBUFS

from probes.abi.sockaddr import netlink
from probes.testing import behaviour, need
from probes.testing.socket_kinds import NETLINK, SocketKind
from probes.testing.states import DATA
from tests.transfer.exchange import came, went

TRUNC, NOW = socket.MSG_TRUNC, socket.MSG_DONTWAIT
#: NETLINK_USERSOCK: for messages between processes.
USERSOCK = SocketKind("netlink-user", socket.AF_NETLINK, socket.SOCK_RAW, 2)


@behaviour("transfer.packets.netlink-groups", "netlink(7) nl_groups; netlink_broadcast, netlink_sendmsg")
def test_groups(exchange, prepare, expect):
    """A netlink message to groups goes to every member, which gets the sender's name with the number of the group, and to
    the port that the address names: where no socket has it the operation fails with ECONNREFUSED.
    """
    end = prepare("unbound", USERSOCK)
    members = [end.new(), end.new()]
    need(end.calls.bind(end.fd, netlink(7000, 0)))
    for at, fd in enumerate(members):
        need(end.calls.bind(fd, netlink(7001 + at, 1)))
    to_group = netlink(0, 1)
    to_both = netlink(7001, 1)
    to_one = netlink(7001, 0)
    name = [netlink(7000, groups) for groups in (0, 1)]
    for op in exchange.over(("sendto", "sendmsg", "sendmmsg")):
        # Port 0 is the kernel, which has no socket of this protocol.
        expect(-ECONNREFUSED, op=op, to="group").of(exchange.send(op, end, DATA, name=to_group))
        for at, fd in enumerate(members):
            end.wait(fd)
            expect(came("recvfrom", DATA, name=name[1]), op=op, to="group", member=at).of(
                exchange.receive("recvfrom", fd, 8, name=16)
            )
        expect(went(op, 4), op=op, to="port").of(exchange.send(op, end, DATA, name=to_one))
        end.wait(members[0])
        expect(came("recvfrom", DATA, name=name[0]), op=op, to="port", member=0).of(
            exchange.receive("recvfrom", members[0], 8, name=16)
        )
        expect(went(op, 4), op=op, to="both").of(exchange.send(op, end, DATA, name=to_both))
        for at, fd in enumerate(members):
            end.wait(fd)
            expect(came("recvfrom", DATA, name=name[1]), op=op, to="both", member=at).of(
                exchange.receive("recvfrom", fd, 8, name=16)
            )
        expect(-EAGAIN, op=op, to="port", member=1).of(exchange.receive("recv", members[1], 8, NOW))


@behaviour("transfer.packets.netlink-kernel", "netlink(7); rtnetlink(7); netlink_unicast_kernel, netlink_ack")
def test_kernel(exchange, prepare, expect):
    """A request to the kernel, by any operation that sends, is answered to the sender by a message from port 0."""
    end = prepare("unbound", NETLINK)
    # struct nlmsghdr of an unknown type with NLM_F_REQUEST and NLM_F_ACK.
    request = struct.pack("<IHHII", 16, 0x7FFF, 5, 77, 0)
    for op in exchange.sending:
        check = expect([went(op, 16), 36, netlink(0, 0), 2, 77, -95], op=op)
        sent = exchange.send(op, end, request)
        end.wait(end.fd)
        received = exchange.receive("recvfrom", end, 64, name=12)
        _, data, name, *_ = received.value if received.result > 0 else [0, bytes(36), b""]
        kind, sequence, error = struct.unpack("<4xH2xI4xi", data[:20])
        check.of([sent.value, int(received.result), name, kind, sequence, error], sent, received)


@behaviour("transfer.packets.netlink-overrun", "netlink(7) ENOBUFS; netlink_overrun, netlink_broadcast_deliver")
def test_overrun(exchange, prepare, expect):
    """A netlink socket that had no room for a message to its group fails with ENOBUFS, once, then receives what it has."""
    for op in exchange.receiving:
        end = prepare("unbound", USERSOCK)
        member = end.new()
        need(end.calls.bind(member, netlink(7001, 1)))
        need(end.calls.setsockopt(member, socket.SOL_SOCKET, socket.SO_RCVBUF, 1))
        name = netlink(0, 1)
        data = bytes(1000)
        address, block = end.calls.memory.put(name), end.calls.memory.put(data)
        for _ in range(8):
            end.calls.make("sendto", end.fd, block, len(data), 0, address, 12)
        for time, value in (("first", -ENOBUFS), ("second", came(op, data[:8], flags=TRUNC))):
            expect(value, op=op, time=time).of(exchange.receive(op, member, 8))
        end.close()
