"""sendmmsg and recvmmsg: several messages in one call, what is written for each, and errors after the first one."""

import socket
import struct
from errno import EAGAIN, EBADF, EFAULT, EMSGSIZE, ENOTSOCK

from probes.abi.sockaddr import unix
from probes.testing import behaviour
from probes.testing.socket_kinds import TCP, UDP, UNIX_DGRAM, UNIX_STREAM
from tests.transfer.exchange import came
from tests.transfer.message_layouts import MMSGHDR, POISONED, UNSET, array, flags, lengths

SENT = "sendmmsg(2); __sys_sendmmsg"
CAME = "recvmmsg(2); do_recvmmsg"
RECEIVING = ("recvmmsg", "recvmmsg_time64")
NOW, WAITFORONE, OOB = socket.MSG_DONTWAIT, 0x10000, socket.MSG_OOB


def with_count(block, at, count):
    """Sets the number of members of one message."""
    block.part(at * MMSGHDR.size + 12, 4).write(struct.pack("<I", count))


@behaviour("transfer.many.sent", f"{SENT} DESCRIPTION, RETURN VALUE")
def test_sent(prepare, calls, memory, exchange, expect):
    """sendmmsg sends each message of its array, returns how many, and writes to each its length, and nothing else."""
    for kind in (UDP, UNIX_DGRAM):
        end = prepare("connected", kind)
        texts = [b"first", b"", b"the third"]
        block = array(memory, [(memory.put(text or b"x"), len(text)) for text in texts])
        before = block.read()
        for count in (3, 2, 1, 0):
            block.write(before)
            check, writes = (
                expect(count, kind=kind, vlen=count),
                expect(True, kind=kind, vlen=count, writes="lengths-only"),
            )
            result = calls.make("sendmmsg", end, block, count, 0)
            check.of(result)
            after = b"".join(
                before[at * 32 : at * 32 + 28] + struct.pack("<I", len(text) if at < count else UNSET)
                for at, text in enumerate(texts)
            )
            writes.of(block.read() == after, result)
            for at, text in enumerate(texts[:count]):
                end.wait(end.peer)
                expect(came("recv", text), kind=kind, vlen=count, message=at).of(exchange.receive("recv", end.peer, 64))
        end.close()


@behaviour("transfer.many.received", f"{CAME} DESCRIPTION, RETURN VALUE")
def test_received(prepare, exchange, memory, expect):
    """recvmmsg receives a message into each entry of its array, returns how many, and writes msg_len, msg_flags and the rest
    as recvmsg does; an entry behind them stays as it was.
    """
    for kind in (UDP, UNIX_DGRAM):
        end = prepare("connected", kind)
        for op in exchange.over(RECEIVING):
            rooms = [memory.guarded(6) for _ in range(4)]
            block = array(memory, [(room, 6) for room in rooms])
            before = block.read()
            for text in (b"first", b"longer than that", b""):
                end.send(end.peer, text)
            end.wait(end.fd)
            check, writes = expect(3, kind=kind, op=op), expect(True, kind=kind, op=op, writes="three-entries")
            data = expect([b"first\xa5", b"longer", POISONED * 6, POISONED * 6], kind=kind, op=op, reader="rooms")
            # Datagrams of AF_UNIX are queued once they are sent; for those of UDP the call waits, and takes no entry more.
            result = exchange.make(op, end, block, *((3, 0) if kind is UDP else (4, NOW)), 0)
            check.of(result)
            entries = [before[at * 32 : at * 32 + 32] for at in range(4)]
            for at, (length, flag) in enumerate([(5, 0), (6, socket.MSG_TRUNC), (0, 0)]):
                entries[at] = entries[at][:20] + struct.pack("<III", 0, flag, length)
            writes.of(block.read() == b"".join(entries), result)
            data.of([room.read() for room in rooms], result)
            expect(-EAGAIN, kind=kind, op=op, queued=0).of(exchange.make(op, end, block, 4, NOW, 0))
        end.close()


@behaviour("transfer.many.names", f"{CAME}; recvmsg(2) msg_name")
def test_names(prepare, exchange, memory, expect):
    """recvmmsg writes the name of each message's sender to the room of its own entry, and its length beside it, as it does
    its data.
    """
    end = prepare("connected-by-name", UNIX_DGRAM)
    names = [unix(name) for name in (b"\x00a", b"\x00longer")]
    # A third socket, which is not connected, receives from both others.
    there = end.bound(unix(b"\x00there"))
    senders = [end.connect(end.bound(name), unix(b"\x00there")) for name in names]
    for op in exchange.over(RECEIVING):
        for sender, text in zip(senders, (b"from", b"text"), strict=True):
            end.send(sender, text)
        end.wait(there)
        rooms, texts = ([memory.guarded(size) for _ in range(3)] for size in (10, 4))
        block = array(memory, [(text, 4) for text in texts])
        for at, room in enumerate(rooms):
            block.part(at * MMSGHDR.size, 8).write(struct.pack("<Ii", room.address, 10))
        # msg_namelen, msg_controllen, msg_flags, msg_len.
        written = [[4, 0, 0, 4], [9, 0, 0, 4], [10, 0, UNSET, UNSET]]
        named = [names[0] + POISONED * 6, written[0], names[1] + POISONED, written[1], POISONED * 10, written[2]]
        check = expect([2, *named, b"from", b"text", POISONED * 4], op=op)
        result = exchange.make(op, there, block, 3, NOW, 0)
        reported = [[*one] for one in struct.iter_unpack("<4xI12xIII", block.read())]
        found = [one for at in range(3) for one in (rooms[at].read(), reported[at])]
        check.of([int(result), *found, *(text.read() for text in texts)], result)


@behaviour("transfer.many.capped", f"{SENT} NOTES `capped to UIO_MAXIOV`; {CAME}")
def test_capped(prepare, exchange, memory, expect):
    """sendmmsg sends at most 1,024 messages of an array; recvmmsg receives any number, here 1,200."""
    data = bytes(number % 249 for number in range(1200))
    source, room = memory.put(data), memory.alloc(1200)
    for kind in (TCP, UNIX_STREAM):
        end = prepare("connected", kind)
        # An AF_UNIX socket's send buffer does not hold so many.
        for count in (1024, 1025, 0xFFFFFFFF) if kind is TCP else ():
            check = expect([1024, True], kind=kind, op="sendmmsg", vlen=count)
            block = array(memory, [(source.address + at, 1) for at in range(1030)])
            result = exchange.make("sendmmsg", end, block, count, 0)
            check.of([int(result), lengths(block) == [1] * 1024 + [UNSET] * 6], result)
            end.wait_bytes(end.peer, 1024)
            check = expect(True, kind=kind, op="recv", vlen=count, reader="peer")
            received = exchange.receive("recv", end.peer, 2048)
            check.of(received.value == came("recv", data[:1024]), received)
        for op in exchange.over(RECEIVING):
            end.send(end.peer, data)
            end.wait_bytes(end.fd, 1200)
            room.write(POISONED * 1200)
            block = array(memory, [(room.address + at, 1) for at in range(1200)])
            check, fills = expect([1200, True], kind=kind, op=op), expect(True, kind=kind, op=op, reader="room")
            result = exchange.make(op, end, block, 1200, 0, 0)
            check.of([int(result), lengths(block) == [1] * 1200], result)
            fills.of(room.read() == data, result)
        end.close()


@behaviour("transfer.many.none", f"{SENT}; {CAME}")
def test_none(prepare, exchange, memory, expect):
    """With a count of 0 a call returns 0 and does not read the array; a bad descriptor fails with EBADF or ENOTSOCK."""
    end, pipe = prepare("with-data", UDP), prepare("pipe")
    for op in exchange.over(("sendmmsg", *RECEIVING)):
        tail = [0] if op == "sendmmsg" else [0, 0]
        for case, pointer in {"null": 0, "unmapped": memory.unmapped()}.items():
            expect(0, op=op, array=case).of(exchange.make(op, end, pointer, 0, *tail))
        expect(-EBADF, op=op, descriptor="minus-one").of(exchange.make(op, -1, 0, 0, *tail))
        expect(-ENOTSOCK, op=op, descriptor="pipe").of(exchange.make(op, pipe, 0, 0, *tail))
    expect(came("recv", b"data"), op="recv", then="kept").of(exchange.receive("recv", end, 8))


@behaviour("transfer.many.error-sending", f"{SENT} RETURN VALUE, BUGS `The error code is lost`")
def test_error_sending(prepare, calls, memory, exchange, expect):
    """sendmmsg fails with the error of its first message. After an error of a later one it returns how many it has sent, and
    SO_ERROR is 0.
    """
    end = prepare("connected", UDP)
    text = memory.put(b"text")
    for case, error in {"bad-part": -EFAULT, "too-many-parts": -EMSGSIZE, "cut-off": -EFAULT}.items():
        for place in (0, 1, 2):
            if case == "cut-off" and place == 0:
                continue
            # The array ends where the message is cut off.
            parts = [(text, 4)] * (place if case == "cut-off" else 3)
            if case == "bad-part":
                parts[place] = (memory.unmapped(), 4)
            block = array(memory, parts)
            if case == "too-many-parts":
                with_count(block, place, 1025)
            check = expect(error if place == 0 else [place, [4] * place], error=case, message=place)
            result = calls.make("sendmmsg", end, block, 3, 0)
            check.of([int(result), lengths(block)[:place]] if result > 0 else int(result), result)
            pending = expect(0, error=case, message=place, option="so-error")
            pending.of(calls.getsockopt(end.fd, socket.SOL_SOCKET, socket.SO_ERROR).as_int())
            arrives = [
                expect(came("recv", b"text"), error=case, message=place, reader="peer", received=at)
                for at in range(place)
            ]
            for effect, received in zip(arrives, exchange.arrived(end, 64, place), strict=True):
                effect.of(received)


@behaviour("transfer.many.error-receiving", f"{CAME}; recvmmsg(2) BUGS `returned on a subsequent call`; sk_err")
def test_error_receiving(prepare, calls, memory, exchange, expect):
    """An error in a later message ends recvmmsg, which returns how many it received before, and stays in SO_ERROR, once;
    EAGAIN does not stay.
    """
    end = prepare("connected", UDP)
    room, bad = memory.alloc(8), memory.unmapped()
    for op in exchange.over(RECEIVING):
        for case, error in {"bad-part": EFAULT, "too-many-parts": EMSGSIZE, "none-left": 0}.items():
            block = array(memory, [(room, 8), (bad if case == "bad-part" else room, 8), (room, 8)])
            if case == "too-many-parts":
                with_count(block, 1, 1025)
            end.send(end.peer, b"first")
            if case != "none-left":
                end.send(end.peer, b"second")
            end.wait(end.fd)
            check = expect([1, [5, UNSET, UNSET]], op=op, error=case)
            result = exchange.make(op, end, block, 3, NOW if error == 0 else 0, 0)
            check.of([int(result), lengths(block)], result)
            for time, value in (("first", error), ("second", 0)):
                check = expect(value, op=op, error=case, option="so-error", time=time)
                check.of(calls.getsockopt(end.fd, socket.SOL_SOCKET, socket.SO_ERROR).as_int())
            if case == "too-many-parts":
                expect(came("recv", b"second"), op=op, error=case, then="kept").of(exchange.receive("recv", end, 8))


@behaviour("transfer.many.error-returned", f"{CAME}; recvmmsg(2) BUGS; sock_error")
def test_error_returned(prepare, memory, exchange, expect):
    """The next recvmmsg, whatever there is to receive, fails with the error that ended the one before."""
    end = prepare("connected", UDP)
    room = memory.alloc(8)
    for op in exchange.over(RECEIVING):
        block = array(memory, [(room, 8), (memory.unmapped(), 8)])
        end.send(end.peer, b"first")
        end.send(end.peer, b"lost")
        end.send(end.peer, b"third")
        for time, count, value in (("first", 2, 1), ("second", 1, -EFAULT), ("third", 1, 1)):
            headers = block if count == 2 else array(memory, [(room, 8)])
            expect(value, op=op, time=time).of(exchange.make(op, end, headers, count, 0, 0))


@behaviour("transfer.many.wait-for-one", f"{CAME} MSG_WAITFORONE; do_recvmmsg `flags |= MSG_DONTWAIT`")
def test_wait_for_one(prepare, memory, exchange, expect):
    """With MSG_WAITFORONE recvmmsg returns what is there once it has one message; on a stream too, and after its end it
    fills every entry with 0 bytes.
    """
    for kind in (UDP, UNIX_DGRAM, TCP):
        end = prepare("connected", kind)
        for op in exchange.over(RECEIVING):
            for sent in (1, 2):
                for _ in range(sent):
                    end.send(end.peer, b"text")
                if kind is TCP:
                    end.wait_bytes(end.fd, 4 * sent)
                if kind is UDP:
                    end.wait_datagram(end.fd, 4 * (sent - 1))
                block = array(memory, [(memory.alloc(4), 4)] * 3)
                check = expect([sent, [4] * sent + [UNSET] * (3 - sent)], kind=kind, op=op, queued=sent)
                result = exchange.make(op, end, block, 3, WAITFORONE, 0)
                check.of([int(result), lengths(block)], result)
        end.close()
    end = prepare("peer-half-closed", TCP)
    for op in exchange.over(RECEIVING):
        block = array(memory, [(memory.alloc(4), 4)] * 3)
        check = expect([3, [0, 0, 0]], kind=TCP, op=op, queued="end")
        result = exchange.make(op, end, block, 3, 0, 0)
        check.of([int(result), lengths(block)], result)


@behaviour(
    "transfer.many.urgent", "net/socket.c do_recvmmsg `Out of band data, return right away`", tag="implementation"
)
def test_urgent(prepare, memory, exchange, expect):
    """recvmmsg returns after a message of out-of-band data, which msg_flags shows."""
    for op in exchange.over(RECEIVING):
        end = prepare("with-urgent-data", TCP)
        block = array(memory, [(memory.alloc(4), 4)] * 3)
        check = expect([1, [1, UNSET, UNSET], [OOB, UNSET, UNSET]], op=op)
        result = exchange.make(op, end, block, 3, OOB | NOW, 0)
        check.of([int(result), lengths(block), flags(block)], result)
        end.close()
