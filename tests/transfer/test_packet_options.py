"""Options of packet sockets: counters of packets, and groups that share packets out."""

import socket
import struct
from errno import EAGAIN, EINVAL

import pytest

from probes.abi.names import value
from probes.testing import behaviour, need
from probes.testing.socket_kinds import PACKET, PACKET_DGRAM

#: What is judged is the socket's, whatever the route of the calls.
pytestmark = pytest.mark.routes("socketcall")

SOL_PACKET, NOW = 263, socket.MSG_DONTWAIT
#: include/uapi/linux/if_packet.h: PACKET_FANOUT_*, and flags of PACKET_FANOUT.
HASH, LB, CPU, ROLLOVER, RND, QM = range(6)
FLAG_ROLLOVER, FLAG_DEFRAG = 0x1000, 0x8000
FRAME = bytes(12) + b"\x88\xb5"


@behaviour("transfer.packet.statistics", "packet(7) PACKET_STATISTICS; packet_getsockopt, packet_rcv")
def test_statistics(prepare, calls, expect):
    """PACKET_STATISTICS has 8 bytes: how many packets came, those included that were dropped, and how many were dropped
    because the receive buffer was full; reading it sets both to 0.
    """
    end, number = prepare("connected", PACKET_DGRAM), value("PACKET_STATISTICS")
    room_of_sender = calls.memory.alloc(1000)
    for case, room, count in (("received", 1 << 18, 3), ("dropped", 0, 30)):
        need(calls.setsockopt(end.peer, socket.SOL_SOCKET, socket.SO_RCVBUF, room), "SO_RCVBUF")
        check = expect([count, case == "dropped"], packets=case)
        for _ in range(count):
            end.send(end.fd, bytes(1000))
        # The sender receives each packet too, behind the peer, which was bound later.
        for _ in range(count):
            end.wait(end.fd)
            need(end.calls.make("recv", end.fd, room_of_sender, 1000, 0), "recv", returns=1000)
        found = calls.getsockopt(end.peer, SOL_PACKET, number, 8)
        packets, drops = struct.unpack("<2I", found.bytes)
        check.of([packets, drops > 0], found)
        expect(bytes(8), packets=case, then="again").of(calls.getsockopt(end.peer, SOL_PACKET, number, 8))


@behaviour("transfer.packet.fanout", "packet(7) PACKET_FANOUT; fanout_add, packet_rcv_fanout, fanout_demux_rollover")
def test_fanout(prepare, calls, expect):
    """The sockets of a fanout group share packets out: each packet comes to one of them. PACKET_FANOUT_LB takes turns; the
    packets of one flow come to one socket by PACKET_FANOUT_HASH, PACKET_FANOUT_QM and PACKET_FANOUT_ROLLOVER.
    """
    modes = {"hash": HASH, "lb": LB, "cpu": CPU, "rollover": ROLLOVER, "rnd": RND, "qm": QM}
    kinds = [*modes.items(), *(("hash", HASH | flag) for flag in (FLAG_DEFRAG, FLAG_ROLLOVER))]
    for group, (mode, kind) in enumerate([*kinds, ("rollover", ROLLOVER | FLAG_ROLLOVER)]):
        judge_fanout(prepare, calls, expect, mode, group, kind)


def judge_fanout(prepare, calls, expect, mode, group, kind) -> None:
    """Judges how the four packets that are sent to a group of two sockets are shared out."""
    end = prepare("connected", PACKET)
    members = [end.bound(end.server) for _ in range(2)]
    # To roll over is not a backup strategy of itself.
    refused = kind == ROLLOVER | FLAG_ROLLOVER
    joined = expect([-EINVAL, -EINVAL] if refused else [0, 0], mode=mode, flags=f"{kind & 0xF000:#x}", op="setsockopt")
    results = [calls.setsockopt(fd, SOL_PACKET, value("PACKET_FANOUT"), kind << 16 | group) for fd in members]
    joined.of([int(result) for result in results], *results)
    if refused:
        end.close()
        return
    shares = {"lb": [2, 2], "cpu": None, "rnd": None}.get(mode, [0, 4])
    ends = [-EAGAIN, -EAGAIN]
    check = expect([4 if shares is None else shares, ends], mode=mode, flags=f"{kind & 0xF000:#x}", op="recv")
    for number in b"0123m":
        end.send(end.fd, FRAME + bytes([number]))
    # A socket of no group receives all of them, in order, and the last one after the group has the others.
    room = calls.memory.alloc(64)
    for _ in range(5):
        end.wait(end.peer)
        need(end.calls.make("recv", end.peer, room, room.size, 0), "recv", returns=15)
    counts, last = [], []
    for fd in members:
        counts.append(0)
        while (result := calls.make("recv", fd, room, room.size, NOW)) > 0:
            counts[-1] += room.read()[14:15] != b"m"
        last.append(result)
    check.of([sum(counts) if shares is None else sorted(counts), [int(result) for result in last]], *last)
    end.close()
