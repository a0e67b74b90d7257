"""shutdown(2): what each direction ends, for both ends of a connection, and what it leaves."""

import socket
from errno import EAGAIN, EBADF, ECONNREFUSED, ECONNRESET, EINVAL, ENOTCONN, ENOTSOCK, EOPNOTSUPP, EPIPE
from fcntl import F_SETFL
from functools import partial
from itertools import product
from select import POLLERR, POLLHUP, POLLIN, POLLOUT
from socket import SHUT_RD, SHUT_RDWR, SHUT_WR

import pytest

from probes.testing import behaviour, need, procfs
from probes.testing.readiness import POLLRDHUP, WANTED
from probes.testing.socket_kinds import (
    CONNECTING,
    NETLINK,
    PACKET,
    RAW,
    TCP,
    TCP6,
    UDP,
    UDP6,
    UNIX,
    UNIX_DGRAM,
    UNIX_SEQPACKET,
    UNIX_STREAM,
)
from probes.testing.states import DATA

SOURCE = "shutdown(2)"
SOURCE_BOTH = f"{SOURCE}; __sys_shutdown, inet_shutdown, unix_shutdown"
NOW, QUIET = socket.MSG_DONTWAIT, socket.MSG_NOSIGNAL
HOWS = {"read": SHUT_RD, "write": SHUT_WR, "both": SHUT_RDWR}
END = POLLIN | POLLRDHUP
#: Milliseconds in which what follows a call has come.
SECOND = 1000
#: What follows a shutdown of each direction at both ends of an idle connection: recv, send of 4 bytes, and poll's events.
#: TCP has no message for "receives no more": its peer can send, and what it sends is received. In a pair of AF_UNIX
#: sockets that have a connection each direction of one end is the other direction of its peer. An AF_UNIX datagram socket
#: is not shut down by its peer; but what the peer does not receive it cannot send.
IDLE = (-EAGAIN, 4, POLLOUT)
ENDED = (0, 4, END | POLLOUT)
MUTE = (-EAGAIN, -EPIPE, POLLOUT)
CLOSED = (0, -EPIPE, END | POLLOUT | POLLHUP)
AFTER = {
    TCP: {"read": (ENDED, IDLE), "write": (MUTE, ENDED), "both": (CLOSED, ENDED)},
    UNIX_STREAM: {"read": (ENDED, MUTE), "write": (MUTE, ENDED), "both": (CLOSED, CLOSED)},
    UNIX_SEQPACKET: {"read": (ENDED, MUTE), "write": (MUTE, ENDED), "both": (CLOSED, CLOSED)},
    UNIX_DGRAM: {
        "read": (ENDED, (-EAGAIN, -EPIPE, POLLOUT)), "write": (MUTE, IDLE),
        "both": (CLOSED, (-EAGAIN, -EPIPE, POLLOUT)),
    },
    UDP: {"read": (ENDED, IDLE), "write": (MUTE, IDLE), "both": (CLOSED, IDLE)},
}  # fmt: skip


@pytest.fixture
def receive(calls, memory):
    """Receives from a descriptor without blocking."""
    return lambda fd, flags=NOW: calls.make("recv", fd, memory.scratch(bytes(16), "room"), 16, flags)


@pytest.fixture
def send(calls):
    """Sends four bytes on a descriptor, without SIGPIPE."""
    return lambda fd: calls.make("send", fd, calls.pointer(DATA), len(DATA), NOW | QUIET)


@behaviour("teardown.shutdown.directions", f"{SOURCE} DESCRIPTION; {SOURCE_BOTH}; tcp_poll, unix_poll, datagram_poll")
@pytest.mark.parametrize("kind", AFTER, ids=str)
def test_directions(kind, prepare, readiness, calls, receive, send, expect, expect_direct):
    """After shutdown of a direction recv returns 0 and send fails with EPIPE on that end, and poll reports what is so; the
    peer finds the end of what was shut down for sending.
    """
    for number, (how, name) in enumerate(product(HOWS, ("own", "peer"))):
        got, sent, events = AFTER[kind][how][name == "peer"]
        end = prepare.another(number)("connected", kind)
        if name == "own":
            expect(0, how=how, end=name, call="shutdown").of(calls.make("shutdown", end, HOWS[how]))
        else:
            end.shutdown(end.fd, HOWS[how])
        fd = end.fd if name == "own" else end.peer
        if got == 0 and name == "peer":
            end.wait(fd)
        expect_direct([1, events], how=how, end=name, call="poll").of(readiness.poll(fd, WANTED))
        # Without MSG_DONTWAIT where there is an end: datagram sockets look for one only before they wait.
        expect(got, how=how, end=name, call="recv").of(receive(fd, 0 if got == 0 else NOW))
        expect(sent, how=how, end=name, call="send").of(send(fd))
        end.close()


@behaviour("teardown.shutdown.how", f"{SOURCE} EINVAL, BUGS; {SOURCE_BOTH}")
def test_how(prepare, calls, expect):
    """shutdown with another `how` than 0, 1 and 2 fails with EINVAL, each bit of it, on a socket of any kind that can be
    shut down, connected or not, and shuts down nothing.
    """
    values = [3, -1, -2, *(1 << bit for bit in range(2, 32)), 0x10001, 0x7FFFFFFF]
    for kind in (*CONNECTING, UDP, UDP6, RAW, *UNIX):
        for state in ("unbound", "connected"):
            end = prepare(state, kind)
            check = expect([-EINVAL] * len(values), kind=kind, state=state)
            results = [calls.make("shutdown", end, value) for value in values]
            check.of([int(result) for result in results], *results)
            if state == "connected":
                end.send(end.fd, DATA)
                end.wait(end.peer)
                end.send(end.peer, DATA)
                end.wait(end.fd)
            end.close()


@behaviour("teardown.shutdown.refused", f"{SOURCE} EBADF, ENOTSOCK, ENOTCONN; sock_no_shutdown; {SOURCE_BOTH}")
def test_refused(prepare, readiness, calls, expect, expect_direct):
    """shutdown fails with EBADF for no descriptor, ENOTSOCK for a file, ENOTCONN on an unconnected socket of IPv4 or IPv6,
    EOPNOTSUPP on netlink and packet sockets; on an unconnected AF_UNIX socket it succeeds, as poll shows.
    """
    connected = prepare("connected-by-name", TCP)
    for how, number in HOWS.items():
        expect(-EBADF, fd="minus-one", how=how).of(calls.make("shutdown", -1, number))
        expect(-EBADF, fd="plus-65536", how=how).of(calls.make("shutdown", 0x10000 + connected.fd, number))
        for state, error in (("pipe", ENOTSOCK), ("path", EBADF)):
            expect(-error, fd=state, how=how).of(calls.make("shutdown", prepare(state), number))
        for kind in (TCP, TCP6, UDP, UDP6, RAW):
            for state in ("unbound", "bound"):
                end = prepare.another(0)(state, kind)
                expect(-ENOTCONN, fd=state, kind=kind, how=how).of(calls.make("shutdown", end, number))
                end.close()
        for kind in (NETLINK, PACKET):
            expect(-EOPNOTSUPP, fd="unbound", kind=kind, how=how).of(
                calls.make("shutdown", prepare("unbound", kind), number)
            )
        for kind in UNIX:
            end = prepare("unbound", kind)
            expect(0, fd="unbound", kind=kind, how=how).of(calls.make("shutdown", end, number))
            hung_up = POLLHUP if how == "both" or kind is not UNIX_DGRAM else 0
            events = POLLOUT | hung_up | (0 if how == "write" else END)
            expect_direct([1, events], fd="unbound", kind=kind, how=how, then="poll").of(readiness.poll(end, WANTED))


@behaviour(
    "teardown.shutdown.states", f"{SOURCE} ENOTCONN; RFC 9293 3.3.2; inet_shutdown `sk->sk_state`, unix_shutdown"
)
def test_states(prepare, calls, expect):
    """shutdown succeeds in every state of a connection, more than once too, and fails with ENOTCONN once TCP has ended it:
    after both ends were shut down, and after a reset.
    """
    states = {"half-closed": 0, "peer-half-closed": 0, "peer-closed": 0, "shut-down": 0, "data-and-end": 0, "full": 0}
    ended = {"reset": -ENOTCONN, "time-wait": -ENOTCONN}
    for kind in (TCP, UNIX_STREAM):
        for number, (state, result) in enumerate((states | ended).items()):
            if kind is UNIX_STREAM and state == "time-wait":
                continue
            for how, word in HOWS.items():
                end = prepare.another(3 * number + word)(state, kind)
                wanted = result if kind is TCP else 0
                expect(wanted, kind=kind, state=state, how=how).of(calls.make("shutdown", end, word))
                end.close()
    # The peer's FIN was there before: the second one ends the connection at once (LAST_ACK).
    end = prepare.another(50)("peer-half-closed", TCP)
    expect(0, state="close-wait", how="write").of(calls.make("shutdown", end, SHUT_WR))
    end.wait(end.peer, POLLHUP)
    end.wait(end.fd, POLLHUP)
    for name in ("fd", "peer"):
        expect(-ENOTCONN, state="closed", end=name).of(calls.make("shutdown", getattr(end, name), SHUT_RDWR))


@behaviour("teardown.shutdown.connecting", "shutdown(2); RFC 9293 3.10.4; inet_shutdown TCP_SYN_SENT tcp_disconnect")
def test_connecting(prepare, readiness, calls, expect, expect_direct):
    """shutdown of any direction ends a connect in progress: poll reports POLLHUP, and the socket can connect again."""
    other = prepare("listening", TCP)
    for number, (how, word) in enumerate(HOWS.items()):
        end = prepare.another(number)("connecting", TCP)
        expect(0, how=how, call="shutdown").of(calls.make("shutdown", end, word))
        expect_direct([1, POLLOUT | POLLHUP | POLLERR], how=how, call="poll").of(readiness.poll(end, WANTED))
        need(calls.getsockopt(end.fd, socket.SOL_SOCKET, socket.SO_ERROR))
        need(calls.syscall("fcntl", end.fd, F_SETFL, 0))
        expect(0, how=how, call="connect").of(calls.connect(end.fd, other.server))


@behaviour("teardown.shutdown.queued", f"{SOURCE}; tcp_shutdown, tcp_send_fin; unix_stream_read_generic, tcp_recvmsg")
@pytest.mark.parametrize("kind", [TCP, UNIX_STREAM, UNIX_SEQPACKET], ids=str)
def test_queued(kind, prepare, calls, receive, expect):
    """shutdown discards nothing: what was sent before comes at the peer, then the end; what was received before can be
    read, then the end.
    """
    for number, (how, word) in enumerate(HOWS.items()):
        end = prepare.another(number)("with-data", kind)
        end.send(end.fd, DATA)
        expect(0, how=how, call="shutdown").of(calls.make("shutdown", end, word))
        end.wait(end.peer)
        for name, fd, ended in (("own", end.fd, how != "write"), ("peer", end.peer, how != "read")):
            expect(len(DATA), how=how, end=name, read="first").of(receive(fd))
            if ended and name == "peer":
                end.wait(fd)
            expect(0 if ended else -EAGAIN, how=how, end=name, read="second").of(receive(fd))
        end.close()


@behaviour(
    "teardown.shutdown.received-later", "RFC 9293 3.9.1; tcp_rcv_established, tcp_rcv_state_process RCV_SHUTDOWN"
)
def test_received_later(prepare, calls, receive, expect):
    """What a TCP peer sends after shutdown(SHUT_RD) is received all the same; after SHUT_RDWR it resets the connection."""
    for how, own, peer in (("read", len(DATA), -EAGAIN), ("both", -ECONNRESET, -ECONNRESET)):
        end = prepare("connected", TCP)
        expect(0, how=how, call="shutdown").of(calls.make("shutdown", end, HOWS[how]))
        if how == "both":
            end.wait(end.peer)
            need(receive(end.peer), "recv at the end", returns=0)
        end.send(end.peer, DATA)
        if how == "both":
            end.wait(end.fd, POLLERR)
            end.wait(end.peer, POLLERR)
        else:
            # poll reports POLLIN since the shutdown.
            procfs.read_until(lambda fd=end.fd: int(receive(fd, NOW | socket.MSG_PEEK)), len(DATA))
        expect(own, how=how, end="own").of(receive(end.fd))
        # The end of the peer's stream comes before the reset of it.
        expect(0 if how == "both" else peer, how=how, end="peer").of(receive(end.peer))
        end.close()


@behaviour(
    "teardown.shutdown.listener", f"{SOURCE}; listen(2); inet_shutdown TCP_LISTEN; unix_shutdown, unix_accept EINVAL"
)
@pytest.mark.parametrize("kind", [TCP, TCP6, UNIX_STREAM], ids=str)
def test_listener(kind, prepare, readiness, calls, receive, expect, expect_direct):
    """shutdown of a listening socket for receiving ends it: later connects are refused and accept fails with EINVAL. TCP
    resets the connection that waits, AF_UNIX lets it be accepted first. For sending alone it changes nothing.
    """
    for number, (how, word) in enumerate(HOWS.items()):
        end, stops = prepare.another(number)("pending", kind), how != "write"
        expect(0, how=how, call="shutdown").of(calls.make("shutdown", end, word))
        resets = kind in CONNECTING and stops
        if resets:
            # Traced: it comes to nothing if nothing is shut down.
            reset = expect_direct([1, POLLERR | POLLHUP], how=how, waiting="poll")
            reset.of(readiness.poll(end.peer, 0, SECOND))
        expect(-ECONNRESET if resets else -EAGAIN, how=how, waiting="recv").of(receive(end.peer))
        expect(-ECONNREFUSED if stops else 0, how=how, later="connect").of(calls.connect(end.new(), end.server))
        if not resets:
            need(calls.accept(end.fd))
        if stops:
            expect(-EINVAL, how=how, later="accept").of(calls.accept(end.fd))
        if resets:
            expect(0, how=how, later="listen").of(calls.listen(end.fd, 1))
            expect(0, how=how, later="connect-again").of(calls.connect(end.new(), end.server))


@behaviour("teardown.shutdown.shared", f"{SOURCE}; dup(2), fork(2) `share the open file description`; close(2)")
@pytest.mark.parametrize("kind", [TCP, UNIX_STREAM], ids=str)
def test_shared(kind, prepare, keepers, calls, receive, expect):
    """shutdown concerns the connection, not the descriptor: it ends it although a duplicate or another process has it."""
    for how in ("dup", "fork"):
        end = prepare("connected", kind)
        release = keepers.by[how](end.fd)
        expect(0, kept=how, call="shutdown").of(calls.make("shutdown", end, SHUT_WR))
        end.wait(end.peer)
        expect(0, kept=how, end="peer").of(receive(end.peer))
        release()
        end.close()


@behaviour(
    "teardown.shutdown.wakes", f"{SOURCE}; tcp_shutdown sk_state_change, inet_csk_accept, unix_shutdown; poll(2)"
)
@pytest.mark.parametrize("kind", [TCP, UNIX_STREAM, UDP, UNIX_DGRAM], ids=str)
def test_wakes(kind, prepare, caller, meanwhile, memory, calls, expect):
    """shutdown by another process wakes a blocked call: recv returns 0, send fails with EPIPE, accept with EINVAL."""
    calls_by_state = {
        "connected": ("recv", SHUT_RD, 0, (memory.alloc(16), 16, 0)),
        "full": ("send", SHUT_WR, -EPIPE, (memory.put(DATA), 4, QUIET)),
        "listening": ("accept", SHUT_RD, -EINVAL, (0, 0)),
    }
    for state, (name, how, result, words) in calls_by_state.items():
        if state != "connected" and kind.type == socket.SOCK_DGRAM:
            continue
        end = prepare(state, kind)
        check = expect(result, call=name)
        with socket.socket(fileno=caller.lend(end.fd)) as lent, meanwhile(partial(lent.shutdown, how)):
            done = calls.make(name, end, *words)
        check.of(done)
        end.close()
