"""The names that operations report of a message's sender: their bytes, their length, and what lies behind them."""

import socket
import struct
from errno import EFAULT, EINVAL

from probes.entry.memory import PROT_READ
from probes.testing import behaviour
from probes.testing.socket_kinds import (
    NETLINK,
    RAW,
    TCP,
    TCP6,
    UDP,
    UDP6,
    UNIX_DGRAM,
    UNIX_SEQPACKET,
    UNIX_STREAM,
    SocketKind,
)
from probes.testing.states import SERVER_PORT
from tests.names.name_bytes import name as name_of
from tests.transfer.exchange import Message, came, without_head

SOURCE = "recv(2) `recvfrom()`, msg_namelen; recvmmsg(2); move_addr_to_user, ____sys_recvmsg"
#: The name of the sender by kind, packed independently of the suite's own encoder: a port, a host, a netlink port.
SENDERS = {
    **{kind: name_of(kind, SERVER_PORT) for kind in (UDP, UDP6, UNIX_DGRAM, UNIX_SEQPACKET, UNIX_STREAM)},
    RAW: name_of(RAW, 0),
    NETLINK: struct.pack("<HHII", socket.AF_NETLINK, 0, SERVER_PORT, 0),
}
#: struct iphdr, before the data that a raw socket receives.
HEADER = 20


def sent_to(prepare, kind: SocketKind):
    """Prepares a connection between two ends with names, over which four bytes come with each `again`."""
    end = prepare("connected-by-name", kind)

    def again() -> None:
        end.send(end.peer, b"data")
        end.wait(end.fd)

    return end, again


@behaviour("transfer.names.reported", f"{SOURCE}; ip(7), ipv6(7), unix(7), netlink(7) address format")
def test_reported(exchange, prepare, expect):
    """recvfrom, recvmsg and recvmmsg write as much of the sender's name as the room takes, no byte behind it, and report its
    whole length.
    """
    for kind, name in SENDERS.items():
        end, again = sent_to(prepare, kind)
        for op in exchange.with_name:
            for room in (0, 1, len(name) - 1, len(name), len(name) + 1, 128, 200):
                again()
                value = came(op, b"data", name=name[:room], namelen=len(name))
                check = expect(value, kind=kind, op=op, room=_case(room, len(name)))
                done = exchange.receive(op, end, 64, name=room)
                check.of(without_head(done.value, HEADER if kind is RAW else 0), done)
        end.close()


def _case(room: int, size: int) -> str:
    return {0: "none", size - 1: "shorter", size: "exact", size + 1: "longer"}.get(room, str(room))


@behaviour("transfer.names.none", f"{SOURCE}; tcp(7); unix(7) unnamed; tcp_recvmsg, unix_copy_addr")
def test_none(exchange, prepare, expect):
    """Where the sender has no name, as on TCP and between unnamed AF_UNIX sockets, the length reported is 0 and nothing is
    written.
    """
    for kind in (TCP, TCP6, UNIX_STREAM, UNIX_DGRAM, UNIX_SEQPACKET):
        end = prepare("connected", kind)
        for op in exchange.with_name:
            end.send(end.peer, b"data")
            end.wait(end.fd)
            expect(came(op, b"data", name=b""), kind=kind, op=op).of(exchange.receive(op, end, 64, name=16))
        end.close()


@behaviour("transfer.names.not-wanted", "recv(2) `src_addr and addrlen should be specified as NULL`; __sys_recvfrom")
def test_not_wanted(exchange, prepare, calls, memory, expect):
    """Without a room for the name a length is neither read nor written: recvfrom with a NULL address ignores the pointer to
    the length, recvmsg a msg_namelen of any value.
    """
    end, again = sent_to(prepare, UDP)
    for case, length in {"good": memory.words(16), "bad": memory.unmapped()}.items():
        again()
        check, room = expect([4, b"data", 16 if case == "good" else None], op="recvfrom", length=case), memory.alloc(8)
        result = calls.make("recvfrom", end, room, 8, 0, 0, length)
        check.of([int(result), room.written(4), length.words()[0] if case == "good" else None], result)
    for op in exchange.with_header:
        for namelen in (16, -1, 0x7FFFFFFF):
            again()
            room = memory.alloc(8)
            message = Message(calls, [(room, 8)], namelen=namelen, size=32)
            check = expect([1 if op != "recvmsg" else 4, b"data", {"flags": 0}], op=op, namelen=namelen)
            result = exchange.make(op, end, message, *([1, 0, 0] if op != "recvmsg" else [0]))
            check.of([int(result), room.written(4), message.changed()], result)


@behaviour("transfer.names.negative", f"{SOURCE} `len < 0`; __copy_msghdr, __get_compat_msghdr")
def test_negative(exchange, prepare, calls, memory, expect):
    """A negative length of the room for a name fails with EINVAL. recvmsg and recvmmsg check it before they receive;
    recvfrom afterwards, and the message is lost.
    """
    end, again = sent_to(prepare, UDP)
    for length in (-1, -0x80000000):
        again()
        room, name = memory.alloc(8), memory.guarded(16)
        for op in exchange.with_header:
            message = Message(calls, [(room, 8)], name=name, namelen=length, size=32)
            check = expect([-EINVAL, {}], op=op, length=length)
            result = exchange.make(op, end, message, *([1, 0, 0] if op != "recvmsg" else [0]))
            check.of([int(result), message.changed()], result)
        expect(came("recv", b"data"), op="recv", length=length, then="kept").of(exchange.receive("recv", end, 8))
        again()
        expect(-EINVAL, op="recvfrom", length=length).of(
            calls.make("recvfrom", end, room, 8, 0, name, memory.words(length))
        )
        end.send(end.peer, b"marker")
        end.wait(end.fd)
        expect(came("recv", b"marker"), op="recv", length=length, then="lost").of(exchange.receive("recv", end, 8))


@behaviour("transfer.names.bad-room", f"{SOURCE}; recv(2) EFAULT; copy_to_user, put_user")
def test_bad_room(exchange, prepare, calls, memory, expect):
    """A room for a name, or for its length, that cannot be written fails with EFAULT after the message was received: it is
    lost.
    """
    end, again = sent_to(prepare, UDP)
    room, name = memory.alloc(8), memory.guarded(16)
    rooms = {"unmapped": memory.unmapped(), "read-only": memory.guarded(16, PROT_READ), "half": name.part(8)}
    lengths = {
        "unmapped": (name, memory.unmapped()), "read-only": (name, memory.guarded(struct.pack("<I", 16), PROT_READ)),
    }  # fmt: skip
    words = [("recvfrom", "name", case, (block, memory.words(16))) for case, block in rooms.items()]
    words += [("recvfrom", "length", case, pair) for case, pair in lengths.items()]
    words += [(op, "name", case, (block,)) for op in exchange.with_header for case, block in rooms.items()]
    for op, bad, case, arguments in words:
        again()
        if op == "recvfrom":
            expect(-EFAULT, op=op, bad=bad, room=case).of(calls.make(op, end, room, 8, 0, *arguments))
        else:
            message = Message(calls, [(room, 8)], name=arguments[0], namelen=16, size=32)
            expect(-EFAULT, op=op, bad=bad, room=case).of(
                exchange.make(op, end, message, *([1, 0, 0] if op != "recvmsg" else [0]))
            )
        end.send(end.peer, b"marker")
        end.wait(end.fd)
        expect(came("recv", b"marker"), op=op, bad=bad, room=case, then="lost").of(exchange.receive("recv", end, 8))
