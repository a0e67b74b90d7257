"""Packet sockets of type SOCK_PACKET: they name links by struct sockaddr_pkt, whole frames by their protocol."""

import socket
import struct
from errno import EINVAL, EMSGSIZE, ENETDOWN, ENODEV, ENOTCONN

import pytest

from probes.testing import behaviour, need, not_applicable, procfs
from probes.testing.socket_kinds import PACKET, SocketKind
from probes.testing.states import DATA
from tests.transfer.exchange import came, went

#: An experimental protocol, in network byte order, as socket(2) takes it.
PROTOCOL = 0x88B5
OLD = SocketKind("sock-packet", socket.AF_INET, 10, socket.htons(PROTOCOL))
#: ARPHRD_LOOPBACK, which a received name has in place of a family.
LINK_TYPE = 772
#: arch/x86/entry/syscalls/syscall_32.tbl; include/uapi/linux/sockios.h, include/uapi/linux/if.h.
_IOCTL, SIOCSIFFLAGS, SIOCSIFNAME, IFF_UP = 54, 0x8914, 0x8923, 1


def name(device=b"lo", family=0, protocol=PROTOCOL):
    """Packs a struct sockaddr_pkt: 18 bytes, of which 14 are for the name of a link."""
    return struct.pack("<H14s", family, device) + struct.pack(">H", protocol)


def frame(data=DATA):
    """Returns a frame of the loopback link with the experimental protocol."""
    return bytes(12) + struct.pack(">H", PROTOCOL) + data


@pytest.fixture
def old(prepare):
    """Makes a socket of type SOCK_PACKET that receives the experimental protocol. Not applicable without AF_PACKET."""
    if "PACKET" not in procfs.protocols():
        not_applicable("the protocol PACKET")
    return prepare("unbound", OLD)


@pytest.fixture
def link_request(calls, memory):
    """Makes requests about the loopback link by untraced calls: link_request(socket, number, name, the union's bytes)."""

    def make(sock, number, of, data):
        block = memory.put(struct.pack("<16s16s", of, data))
        need(calls.gate.quieted().enter(_IOCTL, int(sock), number, block.address), "a request about a link")

    return make


@behaviour("transfer.packet.old-received", "packet(7) SOCK_PACKET, sockaddr_pkt; packet_rcv_spkt, packet_recvmsg")
def test_received(old, exchange, prepare, expect):
    """A SOCK_PACKET socket receives whole frames of its protocol; their name is a sockaddr_pkt of 18 bytes with the type of
    the link, its name, and the protocol.
    """
    sender = prepare("connected", PACKET)
    for op in exchange.receiving:
        sender.send(sender.fd, frame())
        old.wait(old.fd)
        value = came(op, frame(), name=name(family=LINK_TYPE))
        expect(value, op=op).of(exchange.receive(op, old, 64, name=32 if op in exchange.with_name else None))


@behaviour("transfer.packet.old-sent", "packet(7) SOCK_PACKET, sockaddr_pkt, ENOTCONN, EMSGSIZE; packet_sendmsg_spkt")
def test_sent(old, exchange, prepare, expect):
    """A SOCK_PACKET socket sends whole frames by the link that a sockaddr_pkt names; 16 bytes without a protocol will do.
    No name fails with ENOTCONN, fewer bytes with EINVAL, a name of no link with ENODEV, and a frame longer than the link
    takes with EMSGSIZE.
    """
    there = prepare("connected", PACKET)
    for op in exchange.over(("sendto", "sendmsg", "sendmmsg")):
        for size in (18, 16):
            check = expect([went(op, 18), frame()], op=op, namelen=size)
            sent = exchange.send(op, old, frame(), name=name()[:size])
            there.wait(there.fd)
            got = exchange.receive("recv", there, 64)
            check.of([sent.value, got.value[1] if got.result > 0 else got.value], sent, got)
        expect(-EINVAL, op=op, namelen=15).of(exchange.send(op, old, frame(), name=name()[:15]))
        expect(-ENODEV, op=op, link="none").of(exchange.send(op, old, frame(), name=name(b"none")))
        expect(-EMSGSIZE, op=op, size=70000).of(exchange.send(op, old, frame().ljust(70000, b"\0"), name=name()))
    for op in exchange.sending:
        expect(-ENOTCONN, op=op, link="not-given").of(exchange.send(op, old, frame()))


@behaviour(
    "transfer.packet.old-device",
    "packet(7) spkt_device device name truncation; packet_sendmsg_spkt `sizeof(saddr->spkt_device) - 1`",
)
def test_device(old, exchange, prepare, link_request, expect):
    """spkt_device names links of up to 13 characters: by one with a longer name a SOCK_PACKET socket cannot send, ENODEV,
    and of such a link it reports 13 characters. By a link that is down it fails with ENETDOWN.
    """
    current, sender = b"lo", prepare("unbound", PACKET)
    for length in (13, 14, 15):
        new = b"long-name-of-lo"[:length]
        link_request(sender, SIOCSIFFLAGS, current, bytes(2))
        if length == 13:
            expect(-ENETDOWN, link="down").of(exchange.send("sendto", old, frame(), name=name(current)))
        link_request(sender, SIOCSIFNAME, current, new)
        link_request(sender, SIOCSIFFLAGS, new, struct.pack("<H", IFF_UP))
        current = new
        for op in exchange.over(("sendto", "sendmsg", "sendmmsg")):
            sent = expect(went(op, 18) if length == 13 else -ENODEV, op=op, length=length)
            sent.of(exchange.send(op, old, frame(), name=name(new)))
            if length == 13:
                old.wait(old.fd)
                need(exchange.receive("recv", old, 64).result, "recv")
        for op in exchange.with_name:
            check = expect(came(op, frame(), name=name(new[:13], LINK_TYPE)), op=op, length=length)
            link = (
                struct.pack("<H", socket.AF_PACKET)
                + struct.pack(">H", PROTOCOL)
                + struct.pack("<iHBB8s", 1, 0, 0, 6, b"")
            )
            need(exchange.send("sendto", sender, frame(), name=link).result, "sendto")
            old.wait(old.fd)
            check.of(exchange.receive(op, old, 64, name=18))
