"""Value-result lengths of names: how much of a name is written, what is reported, and which lengths are refused."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from errno import EFAULT, EINVAL

import pytest

from probes.entry.calls import Calls
from probes.entry.gate import Result
from probes.entry.memory import POISON, PROT_READ, Block
from probes.testing import VersionDifference, behaviour, procfs
from probes.testing.prepared import Prepared
from probes.testing.socket_kinds import (
    NETLINK,
    PACKET,
    RAW,
    TCP,
    TCP6,
    UDP,
    UDP6,
    UNIX_DGRAM,
    UNIX_SEQPACKET,
    UNIX_STREAM,
    SocketKind,
)  # fmt: skip
from probes.testing.states import CLIENT_PORT, SERVER_PORT, Prepare
from tests.names.name_bytes import name

SOURCE = "getsockname(2); getpeername(2); accept(2) addrlen; move_addr_to_user"
KINDS = (TCP, TCP6, UDP, UDP6, UNIX_STREAM, UNIX_DGRAM)
#: Kinds for which lengths and rooms are refused, before a name is made of any; the dispatch tables have IPv4, and
#: listen.accept.address-fault has accept.
REFUSED = (TCP6, UNIX_STREAM)
#: More than the longest name.
MOST = 160
READING, ACCEPTING = ("getsockname", "getpeername"), ("accept", "accept4")


@dataclass(frozen=True)
class Named:
    """Is an operation that writes a name, on a socket for which it succeeds, and then returns 0 or the lowest descriptor."""

    op: str
    state: Prepared
    expected: bytes
    returns: int = 0

    def call(self, calls: Calls, address: Block | int, length: Block | int) -> Result:
        """Makes the call. The state closes the descriptor that it makes."""
        result = calls.make(self.op, self.state.fd, address, length, *[0] * (self.op == "accept4"))
        if self.op in ACCEPTING and result >= 0:
            self.state.made.append(result)
        return result


def named(prepare: Prepare, kind: SocketKind, ops: Sequence[str] = (*READING, *ACCEPTING)) -> Iterator[Named]:
    """Yields each of some operations that writes a name of such sockets, in a fresh state."""
    for op in ops:
        if op in READING:
            end = prepare("connected-by-name", kind)
            yield Named(op, end, name(kind, CLIENT_PORT if op == "getsockname" else SERVER_PORT))
        elif kind.type == socket.SOCK_STREAM:
            end = prepare("pending", kind)
            yield Named(op, end, name(kind, CLIENT_PORT), procfs.lowest()[0])
        else:
            continue
        end.close()


@behaviour("names.length.room", SOURCE)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_room(kind, calls, prepare, memory, expect):
    """getsockname, getpeername, accept and accept4 write as many bytes of a name as the length has room for, none behind
    them, and report the whole length.
    """
    size = len(name(kind, SERVER_PORT))
    rooms = {"0": 0, "1": 1, "2": 2, "one-less": size - 1, "exact": size, "one-more": size + 1, "all": MOST}
    for room, given in rooms.items():
        for one in named(prepare, kind):
            address, length = memory.alloc(MOST), memory.words(given, -1)
            check = expect({"name": one.expected[:given], "length": size, "behind": 0xFFFFFFFF}, call=one.op, room=room)
            result = one.call(calls, address, length)
            reported, behind = length.words()
            found = {"name": address.written(min(given, size)), "length": reported, "behind": behind}
            check.of(found if result == one.returns else int(result), result)


@behaviour("names.length.negative", f"{SOURCE}; EINVAL")
def test_negative(calls, prepare, memory, expect):
    """getsockname and getpeername with a negative length fail with EINVAL, and write no name."""
    for kind in REFUSED:
        for given in (-1, -(1 << 31)):
            for one in named(prepare, kind, READING):
                address = memory.alloc(MOST)
                check = expect([-EINVAL, b""], kind=kind, call=one.op, length=given)
                result = one.call(calls, address, memory.words(given))
                check.of([result, address.written(0)], result)


@behaviour("names.length.unreadable", f"{SOURCE}; EFAULT; S2 copy_from_user")
def test_unreadable(calls, prepare, memory, expect):
    """getsockname and getpeername fail with EFAULT if the length cannot be read and written: NULL, an unmapped page, the
    last three bytes of a page, read-only memory.
    """
    places = {
        "null": 0,
        "unmapped": memory.unmapped(),
        "cut-off": memory.guarded(3),
        "read-only": memory.guarded(struct.pack("<i", MOST), PROT_READ),
    }
    for kind in REFUSED:
        for place, length in places.items():
            for one in named(prepare, kind, READING):
                check = expect(-EFAULT, kind=kind, call=one.op, length=place)
                check.of(one.call(calls, memory.alloc(MOST), length))


@behaviour("names.room.unwritable", f"{SOURCE}; EFAULT; S2 copy_to_user")
def test_unwritable(calls, prepare, memory, expect):
    """getsockname and getpeername fail with EFAULT if the name cannot be written, also at NULL. accept and accept4 with NULL
    succeed, write no name, and leave the length.
    """
    for kind in REFUSED:
        for place, address in {"null": 0, "unmapped": memory.unmapped(), "cut-off": memory.guarded(1)}.items():
            for one in named(prepare, kind, READING):
                expect(-EFAULT, kind=kind, call=one.op, name=place).of(one.call(calls, address, memory.words(MOST)))
        for one in named(prepare, kind, ACCEPTING):
            length = memory.words(MOST)
            left = expect(MOST, kind=kind, call=one.op, name="null")
            result = one.call(calls, 0, length)
            left.of(length.words()[0] if result == one.returns else int(result), result)


@behaviour("names.length.within-room", SOURCE)
def test_within_room(calls, prepare, memory, expect):
    """The length may lie in the room for the name, behind the bytes that are written: both are written there."""
    for kind in (TCP, UNIX_STREAM):
        for one in named(prepare, kind):
            size = len(one.expected)
            at = -(-size // 4) * 4
            room = memory.alloc(at + 8)
            room.part(at).write(struct.pack("<i", room.size))
            expected = one.expected.ljust(at, bytes([POISON])) + struct.pack("<i", size) + bytes([POISON]) * 4
            check = expect(expected, kind=kind, call=one.op)
            result = one.call(calls, room, room.part(at, 4))
            check.of(room.read() if result == one.returns else int(result), result)


#: Sockets whose names have no port of TCP or UDP, with a state in which they have a name, and the name.
WITHOUT_PORTS = {
    RAW: ("bound", RAW.address(RAW.protocol)), NETLINK: ("bound", struct.pack("<HHII", NETLINK.family, 0, SERVER_PORT, 0)),
    # ARPHRD_LOOPBACK, and six bytes of zeros.
    PACKET: ("bound", struct.pack("<H", PACKET.family) + b"\x88\xb5" + struct.pack("<iHBB6x", 1, 772, 0, 6)),
    UNIX_SEQPACKET: ("connected-by-name", name(UNIX_SEQPACKET, CLIENT_PORT)),
}  # fmt: skip


@behaviour("names.length.others", f"{SOURCE}; raw(7), netlink(7), packet(7); netlink_getname, packet_getname")
def test_others(calls, prepare, memory, expect):
    """getsockname cuts the name of a raw, netlink, packet and AF_UNIX SOCK_SEQPACKET socket as it does others: it writes as
    many bytes as the length has room for, none behind them, and reports the whole length.
    """
    for kind, (state, own) in WITHOUT_PORTS.items():
        end, size = prepare(state, kind), len(own)
        for case, given in {"0": 0, "1": 1, "one-less": size - 1, "exact": size, "all": MOST}.items():
            address, length = memory.alloc(MOST), memory.words(given, -1)
            check = expect([own[:given], size, 0xFFFFFFFF], kind=kind, room=case)
            result = calls.make("getsockname", end.fd, address, length)
            found = [address.written(min(given, size)), *length.words()]
            check.of(found if result == 0 else int(result), result)
        end.close()


@behaviour("names.length.overlapping", f"{SOURCE} `__put_user(klen, ulen)`", tag="implementation")
def test_overlapping(calls, prepare, memory, expect):
    """The length may lie where the name is written: it is written after the name, and since Linux 6.18 before it."""
    for kind in (TCP, UNIX_STREAM):
        for one in named(prepare, kind):
            whole, room = one.expected, memory.alloc(MOST)
            room.part(4).write(struct.pack("<i", MOST))
            with_length = whole[:4] + struct.pack("<i", len(whole)) + whole[8:]
            # A name that ends within the length leaves the rest of it.
            with_name = whole + struct.pack("<i", len(whole))[len(whole) - 4 :]
            last = VersionDifference(
                "6.18",
                before=with_length.ljust(MOST, bytes([POISON])),
                after=with_name.ljust(MOST, bytes([POISON])),
                cite="net: remove one stac/clac pair from move_addr_to_user()",
            )
            check = expect(last, kind=kind, call=one.op)
            result = one.call(calls, room, room.part(4, 4))
            check.of(room.read() if result == one.returns else int(result), result)
