"""Rings of packet sockets: memory that kernel and caller share, through which packets are received and sent."""

import struct
from errno import EBUSY, EINVAL

import pytest

from probes.abi.names import value
from probes.entry.memory import Block
from probes.testing import behaviour, need
from probes.testing.socket_kinds import PACKET, PACKET_DGRAM

#: What is judged is the socket's, whatever the route of the calls.
pytestmark = pytest.mark.routes("socketcall")

SOL_PACKET = 263
#: include/uapi/linux/if_packet.h: versions, TP_STATUS_* of a ring to receive, and of one to send.
V1, V2, V3 = range(3)
KERNEL, USER = 0, 1
AVAILABLE, SEND_REQUEST, WRONG_FORMAT = 0, 1, 4
#: struct tpacket2_hdr: status, len, snaplen, mac, net, sec, nsec, vlan_tci, vlan_tpid. struct sockaddr_ll follows.
HEADER = struct.Struct("<IIIHHIIHH4x")
#: A ring of one block with two frames: struct tpacket_req.
BLOCK, FRAME = 4096, 2048
REQUEST = struct.pack("<4I", BLOCK, 1, FRAME, 2)
PROT_READ_WRITE, MAP_SHARED = 3, 1
#: mmap2 of the i386 table.
MMAP2 = 192
#: Where a packet to send begins in its frame, behind the header, and where the network header of a received one lies:
#: behind struct sockaddr_ll too, and 16 bytes for the link's header, at a multiple of TPACKET_ALIGNMENT.
SENT_AT, RECEIVED_AT = 32, 80
LINK_HEADER = bytes(12) + b"\x88\xb5"


class Ring:
    """Is the ring of a packet socket, which is mapped into the caller's memory."""

    def __init__(self, calls, fd, option, **settings):
        """Makes the ring, with these options of SOL_PACKET set before. Raises SetUpRefused."""
        for name, given in {"PACKET_VERSION": V2, **settings}.items():
            need(calls.setsockopt(fd, SOL_PACKET, value(name), given), name)
        need(calls.setsockopt(fd, SOL_PACKET, value(option), REQUEST), option)
        address = calls.gate.quieted().enter(MMAP2, 0, BLOCK, PROT_READ_WRITE, MAP_SHARED, fd, 0)
        assert not -4096 < int(address) < 0, f"mmap of a ring: {int(address)}"
        self.block = Block(int(address) & 0xFFFFFFFF, BLOCK, calls.memory.space)

    def frame(self, number):
        """Returns the memory of a frame."""
        return self.block.part(number * FRAME, FRAME)

    def header(self, number):
        """Returns the members of a frame's header."""
        return HEADER.unpack_from(self.frame(number).read())

    def set_status(self, number, status):
        """Sets the status of a frame."""
        self.frame(number).write(struct.pack("<I", status))

    def fill(self, number, data):
        """Puts a packet into a frame, and requests that it is sent."""
        self.frame(number).write(HEADER.pack(0, len(data), 0, 0, 0, 0, 0, 0, 0))
        self.frame(number).part(SENT_AT, len(data)).write(data)
        self.set_status(number, SEND_REQUEST)


@behaviour("transfer.packet.ring-received", "packet(7) PACKET_RX_RING, PACKET_VERSION, PACKET_RESERVE; tpacket_rcv")
@pytest.mark.parametrize("kind", (PACKET, PACKET_DGRAM), ids=str)
def test_received(kind, prepare, calls, expect):
    """A ring of TPACKET_V2 gets each packet in its next frame, behind a header with its length and where its headers
    lie; its status is TP_STATUS_KERNEL before, and has TP_STATUS_USER then. A frame that is given back is used again.
    PACKET_RESERVE leaves so many bytes more before the packet.
    """
    head = LINK_HEADER if kind is PACKET else b""
    for reserved in (0, 64):
        end = prepare("connected", kind)
        ring = Ring(calls, end.peer, "PACKET_RX_RING", PACKET_RESERVE=reserved)
        for step, number, data in (("first", 0, b"first"), ("second", 1, b"other"), ("again", 0, b"third")):
            size, net = len(head + data), RECEIVED_AT + reserved
            value_ = [size, KERNEL, USER, size, size, net - len(head), net, head + data]
            check = expect(value_, reserved=reserved, step=step)
            before = ring.header(number)[0]
            sent = calls.make("send", end.fd, calls.pointer(head + data), size, 0)
            if sent > 0:
                end.wait(end.peer)
            status, *lengths, mac, net = ring.header(number)[:5]
            packet = ring.frame(number).part(mac, size).read()
            check.of([int(sent), before, status & USER, *lengths, mac, net, packet], sent)
            ring.set_status(number, KERNEL)
        end.close()


@behaviour("transfer.packet.ring-sent", "packet(7) PACKET_TX_RING, PACKET_LOSS; tpacket_snd, tpacket_parse_header")
def test_sent(prepare, calls, expect):
    """send of no bytes sends the frames of a ring whose status is TP_STATUS_SEND_REQUEST, and returns their bytes; their
    status is TP_STATUS_AVAILABLE then. A frame that is too short for the link gets TP_STATUS_WRONG_FORMAT and ends the call
    with EINVAL; with PACKET_LOSS it is skipped.
    """
    right, other, short = LINK_HEADER + b"first", LINK_HEADER + b"second", b"short"
    for loss in (0, 1):
        end = prepare("connected", PACKET)
        ring = Ring(calls, end.fd, "PACKET_TX_RING", PACKET_LOSS=loss)
        refused = [-EINVAL, WRONG_FORMAT, SEND_REQUEST] if not loss else [len(right), AVAILABLE, AVAILABLE]
        for case, frames, value_, arriving in (
            ("both", (right, other), [len(right + other), AVAILABLE, AVAILABLE], [right, other]),
            ("short-first", (short, right), refused, [right] if loss else []),
        ):  # fmt: skip
            check = expect([*value_, arriving], loss=loss, frames=case)
            for number, data in enumerate(frames):
                ring.fill(number, data)
            sent = calls.make("send", end.fd, 0, 0, 0)
            got = [received(end, calls) for _ in arriving] if sent > 0 else []
            check.of([int(sent), ring.header(0)[0], ring.header(1)[0], got], sent)
        end.close()


def received(end, calls):
    """Receives a frame at the peer."""
    end.wait(end.peer)
    room = calls.memory.alloc(64)
    result = need(end.calls.make("recv", end.peer, room, room.size, 0), "recv")
    return room.read()[:result]


@behaviour(
    "transfer.packet.ring-refused", "packet(7) PACKET_RX_RING, PACKET_VERSION; packet_set_ring, packet_setsockopt"
)
def test_refused(new_socket, prepare, calls, expect):
    """A ring needs blocks of whole pages and frames that fill them: else EINVAL. PACKET_VERSION is TPACKET_V1 to TPACKET_V3,
    else EINVAL, and cannot be changed, nor PACKET_RESERVE, while there is a ring: EBUSY.
    """
    sock = new_socket(*PACKET.triple)
    version, receive = value("PACKET_VERSION"), value("PACKET_RX_RING")
    for given in (V1, V3, V2):
        expect(0, option="PACKET_VERSION", given=given).of(sock.setsockopt(SOL_PACKET, version, given))
    for given in (3, -1):
        expect(-EINVAL, option="PACKET_VERSION", given=given).of(sock.setsockopt(SOL_PACKET, version, given))
    wrong = {
        "block-size": (BLOCK - 16, 1, FRAME, 2), "block-zero": (0, 1, FRAME, 2), "frame-unaligned": (BLOCK, 1, 2047, 2),
        "frame-small": (BLOCK, 1, 16, 256), "frame-count": (BLOCK, 1, FRAME, 3), "short": (),
    }  # fmt: skip
    for case, words in wrong.items():
        request = struct.pack("<4I", *words) if words else REQUEST[:12]
        expect(-EINVAL, ring=case).of(sock.setsockopt(SOL_PACKET, receive, request))
    expect(0, ring="right").of(sock.setsockopt(SOL_PACKET, receive, REQUEST))
    for name, given in (("PACKET_VERSION", V1), ("PACKET_RESERVE", 16)):
        expect(-EBUSY, option=name, ring="right").of(sock.setsockopt(SOL_PACKET, value(name), given))
