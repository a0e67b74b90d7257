"""What single flags do: MSG_MORE, MSG_EOR, MSG_DONTROUTE, MSG_CONFIRM, MSG_ZEROCOPY, MSG_ERRQUEUE."""

import socket
import struct
from errno import EAGAIN, EMSGSIZE, ENETUNREACH
from select import POLLERR

from probes.testing import behaviour, need
from probes.testing.socket_kinds import RAW, TCP, TCP6, UDP, UDP6, UNIX_SEQPACKET
from probes.testing.states import DATA
from tests.transfer.caller_files import route_through_gateway
from tests.transfer.exchange import Message, came, went

MORE, EOR, NOW = socket.MSG_MORE, socket.MSG_EOR, socket.MSG_DONTWAIT
DONTROUTE, CONFIRM = socket.MSG_DONTROUTE, 0x800
#: include/linux/socket.h, include/uapi/asm-generic/socket.h, include/uapi/linux/errqueue.h.
ZEROCOPY, ERRQUEUE = 0x4000000, 0x2000
SO_ZEROCOPY, UDP_CORK = 60, 1


@behaviour(
    "transfer.effects.more", "send(2) MSG_MORE; udp(7) UDP_CORK; udp_sendmsg corkreq, ip_append_data, raw_sendmsg"
)
def test_more(exchange, prepare, expect):
    """With MSG_MORE the data of several operations becomes one datagram, which the first one without the flag sends."""
    for kind in (UDP, UDP6):
        end = prepare("connected", kind)
        for op in exchange.sending_with_flags:
            for part in (b"one ", b"", b"two "):
                expect(went(op, len(part)), kind=kind, op=op, part=(len(part) and part[:3].decode()) or "empty").of(
                    exchange.send(op, end, part, MORE)
                )
            expect(-EAGAIN, kind=kind, op=op, reader="peer", sent="more").of(
                exchange.receive("recv", end.peer, 64, NOW)
            )
            for last in exchange.over(("send", "write"))[:1]:
                expect(5, kind=kind, op=op, part="last").of(exchange.send(last, end, b"three"))
            end.wait(end.peer)
            expect(came("recv", b"one two three"), kind=kind, op=op, reader="peer", sent="all").of(
                exchange.receive("recv", end.peer, 64)
            )
        end.close()


@behaviour("transfer.effects.corked", "udp(7) UDP_CORK; udp_sendmsg corkreq, udp_push_pending_frames")
def test_corked(exchange, prepare, expect):
    """With UDP_CORK set the data of every operation that sends is gathered, and goes as one datagram when it is cleared."""
    for kind in (UDP, UDP6):
        end = prepare("connected", kind)
        need(end.calls.setsockopt(end.fd, socket.IPPROTO_UDP, UDP_CORK, 1))
        for op in exchange.sending:
            expect(went(op, 4), kind=kind, op=op).of(exchange.send(op, end, DATA))
        expect(-EAGAIN, kind=kind, op="recv", cork="set").of(exchange.receive("recv", end.peer, 64, NOW))
        expect(0, kind=kind, op="setsockopt", cork="cleared").of(
            exchange.calls.setsockopt(end.fd, socket.IPPROTO_UDP, UDP_CORK, 0)
        )
        end.wait(end.peer)
        whole = came("recv", DATA * len(exchange.sending))
        expect(whole, kind=kind, op="recv", cork="cleared").of(exchange.receive("recv", end.peer, 64))
        end.close()


@behaviour("transfer.effects.more-stream", "send(2) MSG_MORE; tcp(7) TCP_CORK; tcp_push, tcp_mark_push")
def test_more_stream(exchange, prepare, expect):
    """On TCP what was sent with MSG_MORE arrives with what comes behind it."""
    for kind in (TCP, TCP6):
        end = prepare("connected", kind)
        for op in exchange.sending_with_flags:
            expect(went(op, 4), kind=kind, op=op, flags="more").of(exchange.send(op, end, b"one ", MORE))
            expect(went(op, 3), kind=kind, op=op, flags="none").of(exchange.send(op, end, b"two"))
            end.wait_bytes(end.peer, 7)
            expect(came("recv", b"one two"), kind=kind, op=op, reader="peer").of(exchange.receive("recv", end.peer, 64))
        end.close()


@behaviour("transfer.effects.more-too-long", "send(2) MSG_MORE, EMSGSIZE; udp_sendmsg `udp_flush_pending_frames`")
def test_more_too_long(exchange, prepare, memory, expect):
    """Data that would make a corked datagram too long is refused with EMSGSIZE, and what was corked before it is dropped."""
    block = memory.alloc(40_000)
    end = prepare("connected", UDP)
    need(end.calls.setsockopt(end.fd, socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18))
    for op in exchange.over(("send", "sendmsg")):
        expect(40_000, op=op, part=1).of(exchange.send(op, end, block, MORE))
        expect(-EMSGSIZE, op=op, part=2).of(exchange.send(op, end, block, MORE))
        end.send(end.fd, b"marker")
        end.wait(end.peer)
        expect(came("recv", b"marker"), op=op, reader="peer").of(exchange.receive("recv", end.peer, 64))


@behaviour("transfer.effects.end-of-record", "send(2), recv(2) MSG_EOR; unix(7) SOCK_SEQPACKET; tcp_sendmsg_locked eor")
def test_end_of_record(exchange, prepare, expect):
    """MSG_EOR does not change what is sent: a SOCK_SEQPACKET socket keeps the boundaries without it, a TCP socket has none;
    msg_flags does not show it.
    """
    for kind in (TCP, UNIX_SEQPACKET):
        end = prepare("connected", kind)
        for op in exchange.sending_with_flags:
            for data in (b"one", b"two"):
                check = expect(went(op, 3), kind=kind, op=op, data=data.decode())
                check.of(exchange.send(op, end, data, EOR))
            if kind is TCP:
                end.wait_bytes(end.peer, 6)
            for data in (b"onetwo",) if kind is TCP else (b"one", b"two"):
                case = {"kind": kind, "op": op, "data": data.decode()}
                expect(came("recvmsg", data), **case, reader="peer").of(exchange.receive("recvmsg", end.peer, 64))
        end.close()


@behaviour(
    "transfer.effects.not-routed", "send(2) MSG_DONTROUTE; socket(7) SO_DONTROUTE; ip_sendmsg_scope, RT_SCOPE_LINK"
)
def test_not_routed(exchange, prepare, expect):
    """With MSG_DONTROUTE a datagram goes to a directly connected network only, past any gateway: through one it is
    refused with ENETUNREACH.
    """
    route_through_gateway(prepare)
    for kind in (UDP, RAW):
        end = prepare("unbound", kind)
        there = end.bound(kind.address(5000))
        for op in exchange.over(("sendto", "sendmsg", "sendmmsg")):
            for case, host, flags, value in (
                ("near", "127.0.0.1", DONTROUTE, 4), ("far", "192.0.2.1", DONTROUTE, -ENETUNREACH),
                ("far", "192.0.2.1", 0, 4),
            ):  # fmt: skip
                expected = went(op, 4) if value == 4 else value
                check = expect(expected, kind=kind, op=op, host=case, flags="dontroute" if flags else "none")
                check.of(exchange.send(op, end, DATA, flags, name=kind.address(5000, host)))
            end.wait(there)
            check = expect(DATA, kind=kind, op=op, host="near", reader="there")
            received = exchange.receive("recv", there, 64, NOW)
            check.of(received.value[1][-len(DATA) :] if received.result > 0 else received.value, received)
        end.close()


@behaviour("transfer.effects.confirmed", "send(2) MSG_CONFIRM; arp(7); dst_confirm_neigh")
def test_confirmed(exchange, prepare, expect):
    """A datagram with MSG_CONFIRM is sent like any other, also one of no bytes."""
    for kind in (UDP, UDP6):
        end = prepare("connected", kind)
        for op in exchange.sending_with_flags:
            for data in (DATA, b""):
                check = expect(went(op, len(data)), kind=kind, op=op, size=len(data))
                check.of(exchange.send(op, end, data, CONFIRM))
                end.wait(end.peer)
                check = expect(came("recv", data), kind=kind, op=op, size=len(data), reader="peer")
                check.of(exchange.receive("recv", end.peer, 8))
        end.close()


@behaviour("transfer.effects.zero-copy", "Documentation/networking/msg_zerocopy.rst; send(2); msg_zerocopy_realloc")
def test_zero_copy(exchange, prepare, memory, expect):
    """With SO_ZEROCOPY set and MSG_ZEROCOPY data is sent as without the flag, and each such operation is notified once
    in the error queue, by its number from 0 on; without SO_ZEROCOPY the flag is ignored.
    """
    # IP_RECVERR, IPV6_RECVERR; the length of a struct cmsghdr, a struct sock_extended_err and an address.
    kinds = ((TCP, socket.IPPROTO_IP, 11, 44), (UDP, socket.IPPROTO_IP, 11, 44), (UDP6, socket.IPPROTO_IPV6, 25, 56))
    for kind, level, number, length in kinds:
        end = prepare("connected", kind)
        expect(4, kind=kind, op="send", option="unset").of(exchange.send("send", end, DATA, ZEROCOPY))
        expect(-EAGAIN, kind=kind, op="recv", option="unset").of(exchange.receive("recv", end, 8, ERRQUEUE))
        end.wait(end.peer)
        check = expect(came("recv", DATA), kind=kind, op="recv", option="unset", reader="peer")
        check.of(exchange.receive("recv", end.peer, 8))
        need(end.calls.setsockopt(end.fd, socket.SOL_SOCKET, SO_ZEROCOPY, 1))
        for at, op in enumerate(exchange.over(("send", "sendto", "sendmsg", "sendmmsg"))):
            expect(went(op, 4), kind=kind, op=op, option="set").of(exchange.send(op, end, DATA, ZEROCOPY))
            end.wait(end.peer)
            expect(came("recv", DATA), kind=kind, op=op, reader="peer").of(exchange.receive("recv", end.peer, 8))
            end.wait(end.fd, POLLERR)
            control = memory.alloc(64)
            message = Message(exchange.calls, [(memory.alloc(8), 8)], control=control, controllen=64)
            value = [0, {"controllen": length, "flags": ERRQUEUE}, [length, level, number, 0, 5, at, at]]
            check = expect(value, kind=kind, op=op, reader="errors")
            result = exchange.make("recvmsg", end, message, ERRQUEUE)
            # struct cmsghdr; struct sock_extended_err: errno, origin, type, code, pad, info, data.
            fields = struct.unpack("<3I I4B2I", control.part(0, 28).read())
            shown = [*fields[:5], *fields[8:10]] if result == 0 else []
            check.of([int(result), message.changed(), shown], result)
        end.close()


@behaviour("transfer.effects.no-errors", "recv(2) MSG_ERRQUEUE; ip(7) IP_RECVERR; sock_recv_errqueue")
def test_no_errors(exchange, prepare, expect):
    """Receiving with MSG_ERRQUEUE does not wait: it fails with EAGAIN where no error is queued, whatever data there is."""
    for kind in (TCP, TCP6, UDP, UDP6, RAW):
        end = prepare("with-data", kind) if kind is not RAW else prepare("unbound", RAW)
        for op in exchange.receiving_with_flags:
            expect(-EAGAIN, kind=kind, op=op).of(exchange.receive(op, end, 8, ERRQUEUE))
        end.close()
