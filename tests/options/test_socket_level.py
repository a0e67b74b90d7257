"""What options of SOL_SOCKET change: what is sent and received, what is refused, what comes with a datagram."""

import socket
import struct
from errno import EACCES, ENETUNREACH, ENODEV, EPERM

import pytest

from probes.abi.names import value
from probes.testing import behaviour, need, not_applicable
from probes.testing.socket_kinds import RAW, TCP, UDP, UDP6, UNIX_STREAM
from tests.transfer.caller_files import route_through_gateway
from tests.transfer.control_messages import Messages, cmsg

SOL_SOCKET = socket.SOL_SOCKET
#: include/uapi/asm-generic/socket.h, and the versions that introduced them.
SO_RCVMARK, SO_RCVPRIORITY = (75, "5.19"), (82, "6.14")
NOW = socket.MSG_DONTWAIT


@pytest.fixture
def messages(calls):
    """Sends and receives messages with control data: see tests/transfer/control_messages.py."""
    return Messages(calls)


@behaviour("options.socket.route", "socket(7) SO_DONTROUTE `equivalent to MSG_DONTROUTE`; ip(7); sk_setsockopt")
def test_route(prepare, calls, expect):
    """With SO_DONTROUTE a datagram goes to a directly connected network only: through a gateway it fails with
    ENETUNREACH.
    """
    route_through_gateway(prepare)
    for kind in (UDP, RAW):
        end = prepare("bound", kind)
        for on, far in ((0, 4), (1, -ENETUNREACH)):
            need(calls.setsockopt(end.fd, SOL_SOCKET, value("SO_DONTROUTE"), on), "SO_DONTROUTE")
            for case, host, result in (("near", "127.0.0.1", 4), ("far", "192.0.2.1", far)):
                name = calls.memory.put(kind.address(5000, host))
                check = expect(result, kind=kind, host=case, option=on)
                check.of(calls.make("sendto", end.fd, calls.pointer(b"data"), 4, 0, name, 16))
        end.close()


@behaviour(
    "options.socket.locked-filter", "socket(7) SO_LOCK_FILTER, SO_DETACH_FILTER; sk_setsockopt, sk_attach_filter"
)
def test_locked_filter(new_socket, memory, expect):
    """After SO_LOCK_FILTER the filter of a socket can be neither changed nor removed, nor the option cleared: EPERM."""
    sock = new_socket(*UDP.triple)
    program = memory.put(struct.pack("<HBBI", 0x06, 0, 0, 0xFFFF))
    attach, filter_ = value("SO_ATTACH_FILTER"), struct.pack("<HxxI", 1, program.address)
    for step, name, given, result in (
        ("attach", attach, filter_, 0), ("lock", value("SO_LOCK_FILTER"), 1, 0), ("change", attach, filter_, -EPERM),
        ("detach", value("SO_DETACH_FILTER"), 0, -EPERM), ("unlock", value("SO_LOCK_FILTER"), 0, -EPERM),
        ("lock-again", value("SO_LOCK_FILTER"), 1, 0),
    ):  # fmt: skip
        expect(result, step=step).of(sock.setsockopt(SOL_SOCKET, name, given))


@behaviour("options.socket.privilege", "socket(7) SO_DEBUG, SO_BROADCAST; ip(7) SO_BROADCAST; capabilities(7)")
@pytest.mark.usefixtures("unprivileged")
def test_privilege(new_socket, expect):
    """Without a capability SO_DEBUG of 1 fails with EACCES; SO_BROADCAST is set."""
    sock = new_socket(*UDP.triple)
    for name, given, result in (("SO_DEBUG", 1, -EACCES), ("SO_DEBUG", 0, 0), ("SO_BROADCAST", 1, 0)):
        expect(result, option=name, given=given).of(sock.setsockopt(SOL_SOCKET, value(name), given))
    read = expect([0, 1], option="SO_BROADCAST", then="read")
    read.of(sock.getsockopt(SOL_SOCKET, value("SO_BROADCAST")).as_int().with_result())


@behaviour("options.socket.obsolete", "socket(7) SO_BSDCOMPAT; udp(7), raw(7) SO_BSDCOMPAT; sk_setsockopt")
def test_obsolete(new_socket, expect):
    """SO_BSDCOMPAT can be set, changes nothing and is read as 0."""
    for kind in (UDP, RAW, TCP):
        sock = new_socket(*kind.triple)
        expect(0, kind=kind).of(sock.setsockopt(SOL_SOCKET, value("SO_BSDCOMPAT"), 1))
        expect(0, kind=kind, then="read").of(sock.getsockopt(SOL_SOCKET, value("SO_BSDCOMPAT")).as_int())


@behaviour("options.socket.dropped", "socket(7) SO_RXQ_OVFL; sock_recv_drops, sock_skb_set_dropcount")
def test_dropped(prepare, messages, calls, expect):
    """With SO_RXQ_OVFL a datagram comes with a control message of 16 bytes that has how many were dropped before it for want
    of room; with none before the first drop.
    """
    for kind in (UDP, UDP6):
        end, sent = prepare("connected", kind), 30
        need(calls.setsockopt(end.peer, SOL_SOCKET, value("SO_RXQ_OVFL"), 1), "SO_RXQ_OVFL")
        need(calls.setsockopt(end.peer, SOL_SOCKET, value("SO_RCVBUF"), 0), "SO_RCVBUF")
        check, first = (
            expect([True, True], kind=kind),
            expect([9, b"datagram-"[:9], b"", 0], kind=kind, datagram="first"),
        )
        for _ in range(sent):
            end.send(end.fd, b"datagram-")
        got = messages.receive(end.peer)
        first.of(got.value, got.result)
        count = 1
        while messages.receive(end.peer, flags=NOW).result > 0:
            count += 1
        end.send(end.fd, b"m")
        while (got := messages.receive(end.peer)).data not in (b"m", b""):
            count += 1
        dropped = cmsg(SOL_SOCKET, value("SO_RXQ_OVFL"), struct.pack("<I", sent - count))
        check.of([count < sent, got.control == dropped], got.result)


@behaviour("options.socket.mark", "socket(7) SO_MARK; include/uapi/asm-generic/socket.h SO_RCVMARK; sock_recv_mark")
def test_mark(prepare, messages, calls, expect):
    """What a socket sends has the mark of its SO_MARK: SO_RCVMARK shows it in a control message of 16 bytes."""
    option, since = SO_RCVMARK
    if not expect.reference.has(since):
        not_applicable(f"Linux {since}, which introduced SO_RCVMARK")
    end = prepare("connected", UDP)
    need(calls.setsockopt(end.peer, SOL_SOCKET, option, 1), "SO_RCVMARK")
    for mark in (0, 7, 0xFFFFFFFF):
        check = expect([0, [1, b"x", cmsg(SOL_SOCKET, value("SO_MARK"), struct.pack("<I", mark)), 0]], mark=mark)
        result = calls.setsockopt(end.fd, SOL_SOCKET, value("SO_MARK"), struct.pack("<I", mark))
        messages.sent(end.fd)
        got = messages.receive(end.peer)
        check.of([int(result), got.value], result, got.result)


@behaviour("options.socket.priority", "socket(7) SO_PRIORITY; include/uapi/asm-generic/socket.h SO_RCVPRIORITY")
def test_priority(prepare, messages, calls, caller, expect):
    """What a socket sends has the priority of its SO_PRIORITY, 0 to 6 without a capability, which is read as it was set;
    where the kernel has SO_RCVPRIORITY, that shows it in a control message of 16 bytes.
    """
    option, since = SO_RCVPRIORITY
    end, shown = prepare("connected", UDP), expect.reference.has(since)
    caller.keep_capabilities(())
    if shown:
        need(calls.setsockopt(end.peer, SOL_SOCKET, option, 1), "SO_RCVPRIORITY")
    for priority in (*range(7), 7, -1):
        allowed = 0 <= priority <= 6
        expect(0 if allowed else -EPERM, given=priority).of(
            calls.setsockopt(end.fd, SOL_SOCKET, value("SO_PRIORITY"), priority)
        )
        kept = min(priority, 6) if priority >= 0 else 6
        expect(kept, given=priority, then="read").of(
            calls.getsockopt(end.fd, SOL_SOCKET, value("SO_PRIORITY")).as_int()
        )
        if shown:
            message = cmsg(SOL_SOCKET, value("SO_PRIORITY"), struct.pack("<I", kept))
            check = expect([1, b"x", message, 0], given=priority, then="received")
            messages.sent(end.fd)
            got = messages.receive(end.peer)
            check.of(got.value, got.result)


@behaviour("options.socket.processor", "socket(7) SO_INCOMING_CPU, SO_INCOMING_NAPI_ID; sk_incoming_cpu_update")
def test_processor(prepare, calls, memory, expect):
    """SO_INCOMING_CPU is read as the CPU that it was set to, and of a socket that has received as the number of a CPU;
    SO_INCOMING_NAPI_ID is 0 where packets come through no queue of a device, as over loopback.
    """
    end, option = prepare("connected", UDP), value("SO_INCOMING_CPU")
    check, queue = expect(True, option="SO_INCOMING_CPU", then="received"), expect(0, option="SO_INCOMING_NAPI_ID")
    end.send(end.peer, b"data")
    need(end.calls.make("recv", end.fd, memory.alloc(8), 8, 0), "recv", returns=4)
    found = calls.getsockopt(end.fd, SOL_SOCKET, option).as_int()
    check.of(0 <= found.value < 8192, found)
    queue.of(calls.getsockopt(end.fd, SOL_SOCKET, value("SO_INCOMING_NAPI_ID")).as_int())
    expect(0, option="SO_INCOMING_CPU", given=0).of(calls.setsockopt(end.fd, SOL_SOCKET, option, 0))
    expect(0, option="SO_INCOMING_CPU", given=0, then="read").of(calls.getsockopt(end.fd, SOL_SOCKET, option).as_int())


@behaviour(
    "options.socket.device", "socket(7) SO_BINDTODEVICE; raw(7) NOTES; sock_setbindtodevice, sock_getbindtodevice"
)
def test_device(new_socket, expect):
    """SO_BINDTODEVICE takes the name of a link, with or without a null behind it, and is read with it; ENODEV is the answer
    to no link, and an empty name binds to none again.
    """
    for kind in (UDP, TCP, RAW, UNIX_STREAM):
        sock, option = new_socket(*kind.triple), value("SO_BINDTODEVICE")
        for case, given, result, read in (
            ("name", b"lo", 0, b"lo\0"), ("null", b"lo\0", 0, b"lo\0"), ("unknown", b"none", -ENODEV, b"lo\0"),
            ("empty", b"", 0, b""),
        ):  # fmt: skip
            expect(result, kind=kind, given=case).of(sock.setsockopt(SOL_SOCKET, option, given))
            expect(read, kind=kind, given=case, then="read").of(sock.getsockopt(SOL_SOCKET, option, 16))
