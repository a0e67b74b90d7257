"""What datagram sockets carry: whole messages, one for each operation."""

import socket
from errno import EAGAIN, ECONNREFUSED, EMSGSIZE, ENODATA

from probes.testing import behaviour, need
from probes.testing.socket_kinds import NETLINK, UDP, UDP6, UNIX_DGRAM, UNIX_SEQPACKET
from probes.testing.states import DATA
from tests.transfer.exchange import RECEIVING_WITH_FLAGS, came, went

NOW, TRUNC, PEEK = socket.MSG_DONTWAIT, socket.MSG_TRUNC, socket.MSG_PEEK
DATAGRAMS = (UDP, UDP6, UNIX_DGRAM, UNIX_SEQPACKET, NETLINK)
#: The most data of a UDP datagram: an IPv4 packet has 65,535 bytes, its headers 28; an IPv6 payload begins with UDP's 8.
MOST = {UDP: 65535 - 28, UDP6: 65535 - 8}
RECEIVED = "recv(2) DESCRIPTION; read(2); readv(2); udp_recvmsg, __unix_dgram_recvmsg, netlink_recvmsg"
#: netlink_sendmsg since f123cffdd8fe (5.16, 5.10.88): "netlink: do not allow zero-length messages".
NO_EMPTY = -ENODATA


@behaviour("transfer.datagram.sent", "send(2); write(2); sendmmsg(2); udp_sendmsg, unix_dgram_sendmsg, netlink_sendmsg")
def test_sent(exchange, prepare, expect):
    """Every operation that sends makes one message of its data, which the peer receives whole."""
    for kind in DATAGRAMS:
        end = prepare("connected", kind)
        for op in exchange.sending:
            data = b"a message by " + op.encode()
            expect(went(op, len(data)), kind=kind, op=op).of(exchange.send(op, end, data))
            end.wait(end.peer)
            expect(came("recvmsg", data), kind=kind, op=op, reader="peer").of(exchange.receive("recvmsg", end.peer, 64))
        end.close()


@behaviour(
    "transfer.datagram.empty",
    "send(2); write(2) `count is zero`; recv(2) `zero-length datagrams`; vfs_writev `tot_len`",
)
def test_empty(exchange, prepare, expect):
    """Sending no bytes makes an empty message, by write too, but writev with no bytes makes none; AF_NETLINK refuses it with
    ENODATA.
    """
    for kind in DATAGRAMS:
        end = prepare("connected", kind)
        for op in exchange.sending:
            value = NO_EMPTY if kind is NETLINK and op != "writev" else went(op, 0)
            expect(value, kind=kind, op=op).of(exchange.send(op, end, b""))
            end.send(end.fd, b"marker")
            for data in (b"marker",) if kind is NETLINK or op == "writev" else (b"", b"marker"):
                end.wait(end.peer)
                case = {"kind": kind, "op": op, "message": data.decode() or "empty"}
                expect(came("recvmsg", data), **case, reader="peer").of(exchange.receive("recvmsg", end.peer, 64))
        end.close()


@behaviour("transfer.datagram.received", f"{RECEIVED}; recvmmsg(2)")
def test_received(exchange, prepare, expect):
    """Every operation that receives returns one message, whatever room is left, and the next one is the next message; an
    empty message is 0 bytes.
    """
    for kind in DATAGRAMS:
        end = prepare("connected", kind)
        for op in exchange.receiving:
            sent = (b"first of " + op.encode(), b"second", *([] if kind is NETLINK else [b""]), b"last")
            for data in sent:
                end.send(end.peer, data)
            for number, data in enumerate(sent):
                end.wait(end.fd)
                expect(came(op, data), kind=kind, op=op, message=number).of(exchange.receive(op, end, 64))
        end.close()


@behaviour("transfer.datagram.cut", f"{RECEIVED}; recv(2) `excess bytes may be discarded`, MSG_TRUNC in msg_flags")
def test_cut(exchange, prepare, expect):
    """A message longer than the room is cut to it and the rest is lost; msg_flags has MSG_TRUNC then."""
    for kind in DATAGRAMS:
        end = prepare("connected", kind)
        for op in exchange.receiving:
            for room in (0, 3):
                if room == 0 and op not in RECEIVING_WITH_FLAGS:
                    continue
                end.send(end.peer, b"longer than that")
                end.send(end.peer, b"marker")
                end.wait(end.fd)
                cut = came(op, b"longer"[:room], flags=TRUNC)
                expect(cut, kind=kind, op=op, room=room).of(exchange.receive(op, end, room))
                end.wait(end.fd)
                expect(came(op, b"marker"), kind=kind, op=op, room=room, then="marker").of(
                    exchange.receive(op, end, 64)
                )
        end.close()


@behaviour("transfer.datagram.whole-length", "recv(2) MSG_TRUNC; udp(7); unix(7); netlink(7); __unix_dgram_recvmsg")
def test_whole_length(exchange, prepare, expect):
    """With MSG_TRUNC an operation returns the length of the whole message, though it writes no more than the room."""
    for kind in DATAGRAMS:
        end = prepare("connected", kind)
        for op in exchange.receiving_with_flags:
            end.send(end.peer, b"longer than that")
            end.send(end.peer, b"fits")
            end.wait(end.fd)
            cut = came(op, b"lon", length=16, flags=TRUNC)
            expect(cut, kind=kind, op=op, room=3).of(exchange.receive(op, end, 3, TRUNC))
            end.wait(end.fd)
            expect(came(op, b"fits"), kind=kind, op=op, room=64).of(exchange.receive(op, end, 64, TRUNC))
        end.close()


@behaviour("transfer.datagram.read-nothing", "recv(2) NOTES, for every count; read(2) `a count of 0`; sock_read_iter")
def test_read_nothing(exchange, prepare, expect):
    """read and readv with a count of 0 return 0 and leave the datagram, an empty one too; recv with a length of 0 takes it.
    read with a room takes an empty datagram as recv does.
    """
    for kind in (UDP, UNIX_DGRAM):
        end = prepare("connected", kind)
        for data in (b"", b"data"):
            end.send(end.peer, data)
            end.send(end.peer, b"marker")
            end.wait(end.fd)
            case = {"kind": kind, "size": len(data)}
            for op in exchange.over(("read", "readv")):
                expect(came(op, b""), **case, op=op, room=0).of(exchange.receive(op, end, 0))
            expect(came("recv", data), **case, op="recv", room=64, flags="peek").of(
                exchange.receive("recv", end, 64, PEEK)
            )
            for op in exchange.over(("read",)) or ("recv",):
                room = 64 if op == "read" else 0
                expect(came(op, data[:room]), **case, op=op, room=room).of(exchange.receive(op, end, room))
            end.wait(end.fd)
            expect(came("recv", b"marker"), **case, op="recv", then="marker").of(exchange.receive("recv", end, 64))
        end.close()


@behaviour(
    "transfer.datagram.longest",
    "send(2), udp(7), ip(7) EMSGSIZE; __ip_append_data, __ip6_append_data",
)
def test_longest(exchange, prepare, calls, expect):
    """A UDP datagram has at most 65,507 bytes over IPv4 and 65,527 over IPv6; one more is refused with EMSGSIZE, and nothing
    is sent.
    """
    for kind, most in MOST.items():
        end = prepare("connected", kind)
        for option, fd in ((socket.SO_SNDBUF, end.fd), (socket.SO_RCVBUF, end.peer)):
            need(end.calls.setsockopt(fd, socket.SOL_SOCKET, option, 1 << 18))
        block = calls.memory.put(bytes(number % 253 for number in range(1 << 16)))
        for op in exchange.over(("send", "sendmsg", "sendmmsg", "write")):
            judge_longest(exchange, expect, end, op, block, most)
        end.close()


def judge_longest(exchange, expect, end, op, block, most) -> None:
    """Judges that an operation sends so many bytes of a block, and refuses one more, and all of the block, with EMSGSIZE."""
    for size in (most + 1, block.size):
        expect(-EMSGSIZE, kind=end.kind, op=op, size=size).of(exchange.send(op, end, block.part(0, size)))
    expect(went(op, most), kind=end.kind, op=op, size=most).of(exchange.send(op, end, block.part(0, most)))
    end.wait(end.peer)
    check, room = expect(True, kind=end.kind, op=op, size=most, reader="peer"), end.calls.memory.alloc(block.size)
    received = exchange.make("recv", end.peer, room, room.size, NOW)
    check.of(received == most and room.part(0, most).read() == block.part(0, most).read(), received)


@behaviour(
    "transfer.datagram.longest-buffered",
    "send(2), unix(7) EMSGSIZE; unix_dgram_sendmsg, netlink_sendmsg",
    tag="implementation",
)
def test_longest_buffered(exchange, prepare, calls, expect):
    """A message of AF_UNIX or AF_NETLINK is at least 32 bytes shorter than SO_SNDBUF; a longer one: EMSGSIZE."""
    block = calls.memory.put(bytes(number % 253 for number in range(16384)))
    for kind in (UNIX_DGRAM, UNIX_SEQPACKET, NETLINK):
        end = prepare("connected", kind)
        need(end.calls.setsockopt(end.fd, socket.SOL_SOCKET, socket.SO_SNDBUF, 8192))
        if kind is not NETLINK:
            # It has no effect there (unix(7)).
            need(end.calls.setsockopt(end.peer, socket.SOL_SOCKET, socket.SO_RCVBUF, 1))
        # SO_SNDBUF doubles the value (socket(7)).
        most = 16384 - 32
        for op in exchange.over(("send", "sendmmsg", "writev")):
            judge_longest(exchange, expect, end, op, block, most)
        end.close()


@behaviour(
    "transfer.datagram.refused",
    "recv(2), udp(7) ECONNREFUSED; sock_error, __udp4_lib_err, udpv6_err",
)
def test_refused(exchange, prepare, expect):
    """A connected UDP socket to whose datagram no socket listened fails with ECONNREFUSED, once, in the next operation that
    receives or sends.
    """
    for kind in (UDP, UDP6):
        for op in exchange.receiving:
            end = prepare("refused", kind)
            end.nonblocking(end.fd)
            for time, error in (("first", -ECONNREFUSED), ("second", -EAGAIN)):
                expect(error, kind=kind, op=op, time=time).of(exchange.receive(op, end, 8))
            end.close()
        for op in exchange.sending:
            end = prepare("refused", kind)
            expect(-ECONNREFUSED, kind=kind, op=op, time="first").of(exchange.send(op, end, DATA))
            expect(went(op, 4), kind=kind, op=op, time="second").of(exchange.send(op, end, DATA))
            end.close()
