"""What raw, packet and UDP-Lite sockets carry: headers included or not, names, and a link whose queue is full."""

import socket
import struct
from errno import EAGAIN, EINVAL, EMSGSIZE, ENOBUFS, ENXIO

import pytest

from probes.testing import behaviour, need, not_applicable, procfs
from probes.testing.checksum import checksum
from probes.testing.socket_kinds import PACKET, PACKET_DGRAM, RAW, RAW6, UDP, UDPLITE, UDPLITE6
from probes.testing.states import DATA
from tests.transfer.caller_files import REPLACE, request
from tests.transfer.exchange import came, went, without_head

ETHERTYPE, LOOPBACK = 0x88B5, 1
#: include/uapi/linux/if_ether.h, if_packet.h.
ETH_P_ALL, PACKET_HOST, PACKET_OUTGOING = 3, 0, 4
TRUNC, NOW = socket.MSG_TRUNC, socket.MSG_DONTWAIT
LO, OTHER = 0x7F000001, 0x7F000002


def ip_header(length, identification, ttl=64, protocol=253):
    """Packs a struct iphdr without its checksum, from 127.0.0.2 to 127.0.0.1."""
    return struct.pack(">BBHHHBBHII", 0x45, 0, length, identification, 0, ttl, protocol, 0, OTHER, LO)


@behaviour("transfer.packets.raw-received", "raw(7) `includes the IP header`; ip(7); raw_recvmsg, raw_send_hdrinc")
def test_raw_received(exchange, prepare, expect):
    """A raw IPv4 socket receives the IPv4 header before the data: version, length, time to live, protocol and addresses."""
    end = prepare("connected", RAW)
    for op in exchange.sending:
        check = expect(
            [went(op, 4), 24, struct.pack(">BBHBB", 0x45, 0, 24, 64, 253) + struct.pack(">II", OTHER, LO) + DATA], op=op
        )
        sent = exchange.send(op, end, DATA)
        end.wait(end.peer)
        received = exchange.receive("recv", end.peer, 64)
        got = received.value[1] if received.result == 24 else bytes(24)
        # Without identification, fragmentation and checksum, which the kernel chooses.
        check.of([sent.value, int(received.result), got[:4] + got[8:10] + got[12:]], sent, received)
    for op in exchange.receiving:
        end.send(end.peer, DATA)
        end.wait(end.fd)
        check = expect(came(op, DATA), op=op, reader="itself")
        received = exchange.receive(op, end, 24)
        check.of(without_head(received.value, 20), received)


@behaviour("transfer.packets.raw-header", "raw(7) IP_HDRINCL, `filled in when zero`, EINVAL, EMSGSIZE; raw_send_hdrinc")
def test_raw_header(exchange, prepare, expect):
    """With IP_HDRINCL the caller's data begins with the IPv4 header: the kernel fills in total length and checksum, and a
    source of 0; less than a header is refused with EINVAL, more than the link takes with EMSGSIZE.
    """
    end = prepare("connected", RAW)
    need(end.calls.setsockopt(end.fd, socket.IPPROTO_IP, socket.IP_HDRINCL, 1))
    for op in exchange.sending:
        packet = ip_header(0xFFFF, 0x1234, ttl=7) + DATA
        check = expect([went(op, 24), struct.pack(">BBHHHBB", 0x45, 0, 24, 0x1234, 0, 7, 253), DATA, 0], op=op)
        sent = exchange.send(op, end, packet)
        end.wait(end.peer)
        received = exchange.receive("recv", end.peer, 64)
        got = received.value[1] if received.result == 24 else bytes(24)
        check.of([sent.value, got[:10], got[20:], checksum(got[:20])], sent, received)
        check = expect([went(op, 24), struct.pack(">II", OTHER, LO)], op=op, source="zero")
        sent = exchange.send(op, end, packet[:12] + bytes(4) + packet[16:])
        end.wait(end.peer)
        received = exchange.receive("recv", end.peer, 64)
        check.of([sent.value, received.value[1][12:20] if received.result == 24 else b""], sent, received)
        for size in (1, 19):
            expect(-EINVAL, op=op, size=size).of(exchange.send(op, end, packet[:size]))
        expect(-EMSGSIZE, op=op, size=65537).of(exchange.send(op, end, packet.ljust(65537, b"\0")))


@behaviour("transfer.packets.raw6", "raw(7); ipv6(7); rfc 3542; rawv6_sendmsg, rawv6_recvmsg")
def test_raw6(exchange, prepare, expect):
    """A raw IPv6 socket sends and receives data without the IPv6 header, and reports the sender without a port."""
    end = prepare("unbound", RAW6)
    name = RAW6.address(0)
    for op in exchange.over(("sendto", "sendmsg", "sendmmsg")):
        expect(went(op, 4), op=op).of(exchange.send(op, end, DATA, name=name))
        end.wait(end.fd)
        expect(came("recvfrom", DATA, name=name), op=op, reader="itself").of(
            exchange.receive("recvfrom", end, 8, name=64)
        )
    for op in exchange.receiving:
        expect(4, op=op, sent="for-it").of(exchange.send("sendto", end, DATA, name=name))
        end.wait(end.fd)
        expect(came(op, DATA), op=op).of(exchange.receive(op, end, 8))
    # A port is 0 or the protocol.
    expect(-EINVAL, op="sendto", port=5000).of(exchange.send("sendto", end, DATA, name=RAW6.address(5000)))
    expect(4, op="sendto", port=253).of(exchange.send("sendto", end, DATA, name=RAW6.address(253)))


def link_name(pkttype, protocol=ETHERTYPE):
    """Packs a struct sockaddr_ll of the loopback link as packet sockets report it."""
    head = struct.pack("<H", socket.AF_PACKET) + struct.pack(">H", protocol)
    # ARPHRD_LOOPBACK, a hardware address of 6 bytes.
    return head + struct.pack("<iHBB8s", LOOPBACK, 772, pkttype, 6, bytes(8))


def packet_address(protocol=ETHERTYPE):
    """Packs a struct sockaddr_ll to send to, or to bind: the loopback link, its hardware address."""
    head = struct.pack("<H", socket.AF_PACKET) + struct.pack(">H", protocol)
    return head + struct.pack("<iHBB8s", LOOPBACK, 0, 0, 6, bytes(8))


@behaviour("transfer.packets.cooked", "packet(7) SOCK_DGRAM `link-level header removed`; packet_snd, packet_rcv")
def test_cooked(exchange, prepare, expect):
    """A SOCK_DGRAM packet socket sends and receives without the link's header, which the kernel makes from the address; a
    SOCK_RAW one receives that header too. The name has protocol, interface, type of link and packet, and the address of
    the sender's link.
    """
    end, raw = prepare("connected", PACKET_DGRAM), prepare("connected", PACKET)
    for op in exchange.sending:
        expect(went(op, 4), op=op).of(exchange.send(op, end, DATA))
        end.wait(end.peer)
        expect(came("recvfrom", DATA, name=link_name(PACKET_HOST)), op=op, reader="dgram").of(
            exchange.receive("recvfrom", end.peer, 64, name=24)
        )
        raw.wait(raw.fd)
        frame = bytes(12) + struct.pack(">H", ETHERTYPE) + DATA
        expect(came("recvfrom", frame, name=link_name(PACKET_HOST)), op=op, reader="raw").of(
            exchange.receive("recvfrom", raw.fd, 64, name=24)
        )
    for op in exchange.over(("sendto", "sendmsg", "sendmmsg")):
        expect(went(op, 4), op=op, name="given").of(exchange.send(op, end, DATA, name=packet_address()))
        end.wait(end.peer)
        expect(came("recv", DATA), op=op, name="given", reader="dgram").of(exchange.receive("recv", end.peer, 64))


@behaviour("transfer.packets.outgoing", "packet(7) ETH_P_ALL, PACKET_OUTGOING; dev_queue_xmit_nit, packet_sendmsg")
def test_outgoing(exchange, prepare, expect):
    """A packet socket of ETH_P_ALL receives the frame that another one sends as it goes out, PACKET_OUTGOING, and again as
    it comes in, PACKET_HOST.
    """
    end, every = prepare("connected", PACKET), prepare("unbound", PACKET)
    need(every.calls.bind(every.fd, packet_address(ETH_P_ALL)))
    frame = bytes(12) + struct.pack(">H", ETHERTYPE) + DATA
    for op in exchange.sending:
        expect(went(op, 18), op=op).of(exchange.send(op, end, frame))
        for packet_type in (PACKET_OUTGOING, PACKET_HOST):
            every.wait(every.fd)
            value = came("recvfrom", frame, name=link_name(packet_type))
            check = expect(value, op=op, reader="every-protocol", packet_type=packet_type)
            check.of(exchange.receive("recvfrom", every, 64, name=20))


@behaviour(
    "transfer.packets.frames", "packet(7) SOCK_RAW, EMSGSIZE; packet_snd `dev_validate_header`, packet_parse_headers"
)
def test_frames(exchange, prepare, expect):
    """A SOCK_RAW packet socket sends its data as a whole frame: shorter than the link's header is refused with EINVAL,
    longer than its MTU and header with EMSGSIZE.
    """
    end = prepare("connected", PACKET)
    frame = bytes(12) + struct.pack(">H", ETHERTYPE)
    for op in exchange.sending:
        expect(went(op, 18), op=op, size=18).of(exchange.send(op, end, frame + DATA))
        end.wait(end.peer)
        expect(came("recvmsg", frame + DATA), op=op, reader="peer").of(exchange.receive("recvmsg", end.peer, 64))
        for size in (1, 13):
            expect(-EINVAL, op=op, size=size).of(exchange.send(op, end, frame[:size]))
        # The loopback link has an MTU of 65,536 bytes.
        expect(-EMSGSIZE, op=op, size=65551).of(exchange.send(op, end, frame.ljust(65551, b"\0")))


@behaviour("transfer.packets.cut", "packet(7), recv(2) MSG_TRUNC; raw(7); packet_recvmsg, raw_recvmsg")
def test_cut(exchange, prepare, expect):
    """Raw and packet sockets cut a packet to the room, report MSG_TRUNC in msg_flags, and return its whole length with the
    flag MSG_TRUNC.
    """
    for kind, head in ((RAW, 20), (PACKET_DGRAM, 0)):
        end = prepare("connected", kind)
        for op in exchange.receiving_with_flags:
            for flag in (0, TRUNC):
                end.send(end.peer, b"longer than that")
                end.wait(end.fd)
                right = came(op, b"lon", length=16 if flag else 3, flags=TRUNC)
                check = expect(right, kind=kind, op=op, flag=flag)
                done = exchange.receive(op, end, head + 3, flag)
                check.of(without_head(done.value, head), done)
        end.close()


@behaviour(
    "transfer.packets.not-bound", "packet(7) ENXIO, `protocol 0`; packet_snd, packet_do_bind", tag="implementation"
)
def test_not_bound(exchange, prepare, expect):
    """A packet socket with protocol 0 receives nothing, and sends through the link that an address names; through none that
    exists it fails with ENXIO.
    """
    end, other = prepare("unbound", PACKET_DGRAM), prepare("connected", PACKET_DGRAM)
    for op in exchange.over(("sendto", "sendmsg", "sendmmsg")):
        expect(went(op, 4), op=op, link="lo").of(exchange.send(op, end, DATA, name=packet_address()))
        other.wait(other.fd)
        expect(came("recv", DATA), op=op, reader="other").of(exchange.receive("recv", other, 8))
        expect(-EAGAIN, op=op, reader="itself").of(exchange.receive("recv", end, 8, NOW))
        none = packet_address()[:4] + struct.pack("<i", 0x3FFFFFFF) + packet_address()[8:]
        expect(-ENXIO, op=op, link="none").of(exchange.send(op, end, DATA, name=none))


@behaviour(
    "transfer.packets.queue-full", "send(2) ENOBUFS; ip(7) IP_RECVERR; udp_send_skb, net_xmit_errno; tc-pfifo(8)"
)
def test_queue_full(exchange, prepare, expect):
    """Where the queue of the link takes no packet, sending over UDP returns the number of bytes all the same; with
    IP_RECVERR it fails with ENOBUFS.
    """
    end = prepare("connected", UDP)
    for option in (0, 1):
        need(end.calls.setsockopt(end.fd, socket.IPPROTO_IP, 11, option))
        if not option:
            give_queue(prepare, 0)
        for op in exchange.sending:
            expect(-ENOBUFS if option else went(op, 4), op=op, recverr=option).of(exchange.send(op, end, DATA))
    give_queue(prepare, 10)
    end.send(end.fd, b"m")
    need(end.calls.make("recv", end.peer, end.calls.memory.alloc(8), 8, 0), "recv of the marker", returns=1)
    expect(-EAGAIN, op="recv", reader="peer").of(exchange.receive("recv", end.peer, 8, NOW))


def give_queue(prepare, limit) -> None:
    """Gives the loopback link a queue of so many packets: RTM_NEWQDISC of a pfifo. Not applicable without it."""
    attributes = struct.pack("<HH8s", 12, 1, b"pfifo") + struct.pack("<HHI", 8, 2, limit)
    body = struct.pack("<BxxxiIII", 0, LOOPBACK, 0x00010000, 0xFFFFFFFF, 0) + attributes
    if request(prepare, 36, body, REPLACE):
        not_applicable("the queueing discipline pfifo")


@behaviour("transfer.packets.udp-lite", "udplite(7); udplite_getfrag; RFC 3828; UDPLITE_SEND_CSCOV, UDPLITE_RECV_CSCOV")
@pytest.mark.parametrize("kind", [UDPLITE, UDPLITE6], ids=str)
def test_udp_lite(kind, exchange, prepare, expect):
    """UDP-Lite sockets carry datagrams as UDP does; those are dropped whose checksum covers less than UDPLITE_RECV_CSCOV."""
    names = procfs.protocols()
    if ("UDP-Lite" if kind is UDPLITE else "UDPLITEv6") not in names:
        not_applicable("the protocol UDP-Lite")
    end = prepare("connected", kind)
    for op in exchange.sending:
        expect(went(op, 4), op=op).of(exchange.send(op, end, DATA))
        end.wait(end.peer)
        expect(came("recvmsg", DATA), op=op, reader="peer").of(exchange.receive("recvmsg", end.peer, 8))
    for op in exchange.receiving:
        end.send(end.peer, b"longer than that")
        end.wait(end.fd)
        expect(came(op, b"lon", flags=TRUNC), op=op).of(exchange.receive(op, end, 3))
    # UDPLITE_RECV_CSCOV: at least 16 bytes; UDPLITE_SEND_CSCOV: the 8 of the header, then all of 24.
    need(end.calls.setsockopt(end.peer, 136, 11, 16))
    for coverage, data in ((8, b"dropped, and longer"), (20, b"received, and longer")):
        need(end.calls.setsockopt(end.fd, 136, 10, coverage))
        expect(len(data), op="send", coverage=coverage).of(exchange.send("send", end, data))
    end.wait(end.peer)
    expect(came("recv", b"received, and longer"), op="recv", reader="peer").of(exchange.receive("recv", end.peer, 64))
