"""Packet sockets and their link: for whom a frame is, the addresses that a link receives, times, and no errors kept."""

import socket
import struct
from errno import EINVAL, EMSGSIZE, ENODEV, ENOENT

import pytest

from probes.abi.names import value
from probes.testing import behaviour, need, procfs
from probes.testing.socket_kinds import PACKET, PACKET_DGRAM
from probes.testing.states import DATA
from tests.transfer.exchange import came
from tests.transfer.test_packets import link_name

SOL_PACKET, LOOPBACK = 263, 1
#: include/uapi/linux/if_packet.h: types of packets, and of memberships.
HOST, BROADCAST, MULTICAST, OTHERHOST = range(4)
#: arch/x86/entry/syscalls/syscall_32.tbl, include/uapi/linux/sockios.h.
_IOCTL, _SIOCSIFHWBROADCAST = 54, 0x8937
MR_MULTICAST, MR_PROMISC, MR_ALLMULTI = range(3)
#: A multicast address of Ethernet that no other socket of a sandbox joins.
GROUP = bytes.fromhex("0180c2000042")
SIOCGSTAMP_OLD = 0x8906
#: include/uapi/linux/if_ether.h: frames that have a length in place of a protocol.
ETH_P_802_3, ETH_P_802_2, ETH_P_ALL = 1, 4, 3


@behaviour("transfer.packet.type", "packet(7) sll_pkttype; eth_type_trans; packet_rcv")
def test_type(exchange, prepare, expect):
    """sll_pkttype of a received frame says for whom it is by its destination: this host, a group, another host."""
    end = prepare("connected", PACKET)
    for case, destination, number in (
        ("host", bytes(6), HOST), ("multicast", GROUP, MULTICAST), ("other", b"\2" + bytes(5), OTHERHOST),
    ):  # fmt: skip
        frame = destination + bytes(6) + struct.pack(">H", 0x88B5) + DATA
        for op in exchange.with_name:
            check = expect(came(op, frame, name=link_name(number)), destination=case, op=op)
            end.send(end.fd, frame)
            end.wait(end.peer)
            check.of(exchange.receive(op, end.peer, 64, name=20))


@behaviour("transfer.packet.broadcast", "packet(7) PACKET_BROADCAST; eth_type_trans `dev->broadcast`; netdevice(7)")
def test_broadcast(exchange, prepare, calls, memory, expect):
    """sll_pkttype of a frame whose destination is the link's broadcast address is PACKET_BROADCAST, of another group's
    PACKET_MULTICAST.
    """
    end = prepare("connected", PACKET)
    # The broadcast address of the loopback link is zeros at first, which is no group: SIOCSIFHWBROADCAST, ARPHRD_LOOPBACK.
    ifreq = struct.pack("<16sH6s8x", b"lo", 772, b"\xff" * 6)
    need(
        calls.gate.quieted().enter(_IOCTL, end.fd, _SIOCSIFHWBROADCAST, memory.put(ifreq).address), "SIOCSIFHWBROADCAST"
    )
    for case, destination, number in (("every", b"\xff" * 6, BROADCAST), ("group", GROUP, MULTICAST)):
        frame = destination + bytes(6) + struct.pack(">H", 0x88B5) + DATA
        for op in exchange.with_name:
            check = expect(came(op, frame, name=link_name(number)), destination=case, op=op)
            end.send(end.fd, frame)
            end.wait(end.peer)
            check.of(exchange.receive(op, end.peer, 64, name=20))


def joined() -> bool:
    """Returns True if the loopback link receives the group (/proc/net/dev_mcast)."""
    return GROUP.hex() in procfs.link_groups()


def mreq(kind, address=b"", link=LOOPBACK, length=None):
    """Packs a struct packet_mreq: 16 bytes."""
    return struct.pack("<iHH8s", link, kind, len(address) if length is None else length, address)


@behaviour(
    "transfer.packet.membership",
    "packet(7) PACKET_ADD_MEMBERSHIP, PACKET_DROP_MEMBERSHIP; packet_mc_add",
)
def test_membership(new_socket, expect):
    """PACKET_ADD_MEMBERSHIP with PACKET_MR_MULTICAST lets the link receive an address, until PACKET_DROP_MEMBERSHIP or the
    end of the socket. PACKET_MR_PROMISC and PACKET_MR_ALLMULTI are accepted. No link is ENODEV, an address longer than
    the link's EINVAL, and so are fewer than 16 bytes.
    """
    add, drop = value("PACKET_ADD_MEMBERSHIP"), value("PACKET_DROP_MEMBERSHIP")
    sock = new_socket(*PACKET.triple)
    for step, option, there in (("add", add, True), ("drop", drop, False), ("add-again", add, True)):
        check = expect([0, there], step=step)
        result = sock.setsockopt(SOL_PACKET, option, mreq(MR_MULTICAST, GROUP))
        check.of([int(result), joined()], result)
    check = expect([0, False], step="close", op="setsockopt")
    result = sock.setsockopt(SOL_PACKET, add, mreq(MR_MULTICAST, GROUP))
    need(sock.close(), "close")
    check.of([int(result), joined()], result)
    sock = new_socket(*PACKET.triple)
    for case, kind in (("promisc", MR_PROMISC), ("allmulti", MR_ALLMULTI)):
        for option, step in ((add, "add"), (drop, "drop")):
            expect(0, kind=case, step=step).of(sock.setsockopt(SOL_PACKET, option, mreq(kind)))
    for case, given, error in (
        ("no-link", mreq(MR_MULTICAST, GROUP, link=0x3FFFFFFF), ENODEV),
        ("too-long", mreq(MR_MULTICAST, GROUP, length=7), EINVAL), ("short", mreq(MR_MULTICAST, GROUP)[:15], EINVAL),
        ("not-joined", None, 0),
    ):  # fmt: skip
        option = add if given else drop
        expect(-error, request=case).of(sock.setsockopt(SOL_PACKET, option, given or mreq(MR_MULTICAST, GROUP)))


@behaviour("transfer.packet.stamp", "packet(7) SIOCGSTAMP, ENOENT; sock_gettstamp; packet_ioctl")
@pytest.mark.routes("direct")
def test_stamp(prepare, calls, memory, clock, expect):
    """SIOCGSTAMP on a packet socket fails with ENOENT before a packet was received, then writes the time of the last one."""
    end = prepare("connected", PACKET_DGRAM)
    expect(-ENOENT, packet="none").of(calls.syscall("ioctl", end.peer, SIOCGSTAMP_OLD, memory.alloc(8)))
    before, check = clock(), expect([0, True], packet="received")
    end.send(end.fd, DATA)
    end.wait(end.peer)
    need(calls.make("recv", end.peer, memory.alloc(8), 8, 0), "recv")
    block = memory.alloc(8)
    result = calls.syscall("ioctl", end.peer, SIOCGSTAMP_OLD, block)
    seconds, microseconds = struct.unpack("<ii", block.read())
    # The kernel begins to stamp packets some time after it is first asked: until then it has the time of the question.
    time = seconds * 10**9 + microseconds * 1000
    check.of([int(result), before - 1000 < time <= clock()], result)


@behaviour("transfer.packet.no-pending-error", "packet(7) Error handling; packet_snd")
def test_no_pending_error(exchange, prepare, calls, expect):
    """A packet socket has no pending error: what was refused is returned by the call that sent it, and SO_ERROR is 0."""
    end = prepare("connected", PACKET)
    for op in exchange.sending:
        sent, pending = expect(-EMSGSIZE, op=op), expect(0, op=op, option="SO_ERROR")
        sent.of(exchange.send(op, end, bytes(65551)))
        pending.of(calls.getsockopt(end.fd, socket.SOL_SOCKET, socket.SO_ERROR).as_int())


@behaviour("transfer.packet.length-field", "packet(7) NOTES ETH_P_802_2, ETH_P_802_3; eth_header")
def test_length_field(exchange, prepare, expect):
    """A SOCK_DGRAM packet socket that sends with ETH_P_802_2 or ETH_P_802_3 gives the frame a length in place of a protocol,
    and no LLC header.
    """
    end, every = prepare("connected", PACKET_DGRAM), prepare("unbound", PACKET)
    need(every.calls.bind(every.fd, address(ETH_P_ALL)))
    for case, protocol in (("802-2", ETH_P_802_2), ("802-3", ETH_P_802_3)):
        for op in exchange.over(("sendto", "sendmsg", "sendmmsg")):
            check = expect(came("recv", bytes(12) + struct.pack(">H", len(DATA)) + DATA), protocol=case, op=op)
            need(exchange.send(op, end, DATA, name=address(protocol)).result, op)
            every.wait(every.fd)
            check.of(exchange.receive("recv", every, 64))
            every.wait(every.fd)
            need(exchange.receive("recv", every, 64).result, "recv")


def address(protocol):
    """Packs a struct sockaddr_ll of the loopback link."""
    return (
        struct.pack("<H", socket.AF_PACKET)
        + struct.pack(">H", protocol)
        + struct.pack("<iHBB8s", LOOPBACK, 0, 0, 6, b"")
    )


@behaviour("transfer.packet.timestamp-source", "packet(7) PACKET_TIMESTAMP; packet_setsockopt", tag="implementation")
def test_timestamp_source(new_socket, expect):
    """PACKET_TIMESTAMP takes a source of time stamps, and PACKET_QDISC_BYPASS a switch, which are read as they were set."""
    sock = new_socket(*PACKET.triple)
    for name, given in (("PACKET_TIMESTAMP", 1 << 6), ("PACKET_QDISC_BYPASS", 1)):
        expect(0, option=name).of(sock.setsockopt(SOL_PACKET, value(name), given))
        expect(given, option=name, then="read").of(sock.getsockopt(SOL_PACKET, value(name)).as_int())
