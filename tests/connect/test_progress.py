"""connect over TCP that does not succeed at once: what the next calls return, and how it ends."""

import os
import socket
import time
from errno import (
    EAGAIN,
    EALREADY,
    ECONNABORTED,
    ECONNREFUSED,
    EINPROGRESS,
    EINTR,
    EISCONN,
    ENOTCONN,
    ETIMEDOUT,
)  # fmt: skip
from fcntl import F_SETFL
from functools import partial
from select import POLLERR, POLLOUT

import pytest

from probes.testing import behaviour, need
from probes.testing.blocking import LEAST, SHORT
from probes.testing.socket_kinds import CONNECTING, TCP, UDP, UDP6, UNIX_DGRAM, UNIX_SEQPACKET, UNIX_STREAM
from probes.testing.states import CLIENT_PORT, DATA, SERVER_PORT
from tests.connect.simultaneous import both
from tests.names.name_bytes import name

SOURCE = "connect(2) EINPROGRESS, EALREADY, EISCONN; ip(7) EALREADY, EISCONN; __inet_stream_connect"
SOL, ERROR, NONBLOCK = socket.SOL_SOCKET, socket.SO_ERROR, socket.SOCK_NONBLOCK
TCP_USER_TIMEOUT = 18
#: A port at which no socket is.
NO_PORT = 5009

each_kind = pytest.mark.parametrize("kind", CONNECTING, ids=str)


@behaviour("connect.progress.completed", f"{SOURCE}; socket(7) O_NONBLOCK; connect(2) `SO_ERROR is zero`")
def test_completed(prepare, calls, expect):
    """A non-blocking connect fails with EINPROGRESS. When the socket is writable SO_ERROR is 0, the next connect returns 0,
    and those after it fail with EISCONN, to any address.
    """
    for kind in CONNECTING:
        end = prepare("beside-server", kind, flags=NONBLOCK)
        expect(-EINPROGRESS, kind=kind, step="first").of(calls.connect(end.fd, end.server))
        end.wait(end.fd, POLLOUT)
        expect(0, kind=kind, step="SO_ERROR").of(calls.getsockopt(end.fd, SOL, ERROR).as_int())
        expect(0, kind=kind, step="second").of(calls.connect(end.fd, end.server))
        expect(-EISCONN, kind=kind, step="third").of(calls.connect(end.fd, end.server))
        expect(-EISCONN, kind=kind, step="other-address").of(calls.connect(end.fd, kind.address(NO_PORT)))
        end.close()


@behaviour("connect.progress.pending", SOURCE)
def test_pending(prepare, calls, expect):
    """While a non-blocking connect is under way connect fails with EALREADY, to any address; SO_ERROR is 0, and the socket
    has no peer, but a name.
    """
    for kind in CONNECTING:
        end = prepare("connecting", kind)
        for step, address in {"same": end.server, "other": kind.address(NO_PORT)}.items():
            expect(-EALREADY, kind=kind, address=step).of(calls.connect(end.fd, address))
        expect(0, kind=kind, read="SO_ERROR").of(calls.getsockopt(end.fd, SOL, ERROR).as_int())
        expect(-ENOTCONN, kind=kind, read="peer").of(calls.name("getpeername", end.fd))
        own = calls.name("getsockname", end.fd)
        check = expect(kind.address(0), kind=kind, read="name")
        named = calls.name("getsockname", end.fd)
        check.of(named.without(own.bytes[2:4]).value, named.result)
        end.close()


@behaviour("connect.progress.refused", f"{SOURCE}; connect(2) ECONNREFUSED; sock_error")
def test_refused(prepare, calls, expect):
    """A non-blocking connect that is refused fails with EINPROGRESS first. ECONNREFUSED is returned once: by SO_ERROR, and
    the next connect fails with ECONNABORTED then, or by the next connect; the one after it begins anew.
    """
    for kind in CONNECTING:
        for first in ("SO_ERROR", "connect"):
            end = prepare("unbound", kind, flags=NONBLOCK)
            nowhere, case = kind.address(NO_PORT), {"kind": kind, "read-by": first}
            expect(-EINPROGRESS, **case, step="first").of(calls.connect(end.fd, nowhere))
            end.wait(end.fd, POLLERR)
            if first == "SO_ERROR":
                for step, error in {"error": ECONNREFUSED, "again": 0}.items():
                    expect(error, **case, step=step).of(calls.getsockopt(end.fd, SOL, ERROR).as_int())
            last = ECONNABORTED if first == "SO_ERROR" else ECONNREFUSED
            expect(-last, **case, step="second").of(calls.connect(end.fd, nowhere))
            expect(-EINPROGRESS, **case, step="third").of(calls.connect(end.fd, nowhere))
            end.close()


@behaviour(
    "connect.progress.refused-blocking", "connect(2) ECONNREFUSED, NOTES `consider the state as unspecified`; tcp_reset"
)
def test_refused_blocking(prepare, calls, expect):
    """connect to a port without a listening socket fails with ECONNREFUSED, every time, and leaves no pending error; the
    socket can then connect to another port.
    """
    for kind in CONNECTING:
        end = prepare("beside-server", kind)
        for step in ("first", "second"):
            expect(-ECONNREFUSED, kind=kind, step=step).of(calls.connect(end.fd, kind.address(NO_PORT)))
            expect(0, kind=kind, step=step, read="SO_ERROR").of(calls.getsockopt(end.fd, SOL, ERROR).as_int())
        expect(0, kind=kind, step="server").of(calls.connect(end.fd, end.server))
        end.close()


@behaviour("connect.progress.timed-out", "connect(2), tcp(7) ETIMEDOUT; tcp(7) TCP_USER_TIMEOUT; tcp_write_timeout")
def test_timed_out(prepare, calls, expect):
    """connect that is not answered fails with ETIMEDOUT: here after the first time that the request is sent again, as
    TCP_USER_TIMEOUT is over. A non-blocking one has ETIMEDOUT in SO_ERROR, once.
    """
    end = prepare("backlog-full", TCP)
    blocking, other = end.new(), end.new(NONBLOCK)
    for fd in (blocking, other):
        need(end.calls.setsockopt(fd, socket.IPPROTO_TCP, TCP_USER_TIMEOUT, 1), "TCP_USER_TIMEOUT")
    expect(-EINPROGRESS, socket="non-blocking").of(calls.connect(other, end.server))
    expect(-ETIMEDOUT, socket="blocking").of(calls.connect(blocking, end.server))
    end.wait(other, POLLERR)
    for step, error in {"error": ETIMEDOUT, "again": 0}.items():
        expect(error, socket="non-blocking", read=step).of(calls.getsockopt(other, SOL, ERROR).as_int())


@behaviour("connect.progress.send-timeout", "socket(7) SO_SNDTIMEO `EINPROGRESS`; sock_sndtimeo, unix_wait_for_peer")
def test_send_timeout(prepare, calls, expect):
    """With SO_SNDTIMEO a connect that is not answered fails after that time, not before it: over TCP with EINPROGRESS, the
    next one with EALREADY, over AF_UNIX with EAGAIN.
    """
    for kind, errors in {
        TCP: (EINPROGRESS, EALREADY), UNIX_STREAM: (EAGAIN, EAGAIN), UNIX_SEQPACKET: (EAGAIN, EAGAIN)
    }.items():  # fmt: skip
        end = prepare("backlog-full", kind)
        fd = end.new()
        need(end.calls.setsockopt(fd, SOL, socket.SO_SNDTIMEO, SHORT), "SO_SNDTIMEO")
        for step, error in zip(("first", "second"), errors, strict=True):
            check = expect([-error, True], kind=kind, step=step)
            began = time.monotonic()
            result = calls.connect(fd, end.server)
            check.of([int(result), time.monotonic() - began >= LEAST], result)
        end.close()


@behaviour("connect.progress.interrupted", f"{SOURCE}; connect(2) EINTR; signal(7) SA_RESTART; inet_wait_for_connect")
@each_kind
def test_interrupted(kind, prepare, calls, caller, meanwhile, expect):
    """A blocked connect over TCP that a handler interrupts fails with EINTR, and the connection is still under way: the next
    connect waits for it. With SA_RESTART it goes on by itself.
    """
    pair = both(prepare, kind)
    end = pair.end
    meanwhile.catch(restart=False)
    check = expect(-EINTR, handler="plain", call="connect")
    with meanwhile(meanwhile.signal):
        check.of(calls.connect(pair.first, end.server))
    need(end.calls.syscall("fcntl64", pair.first, F_SETFL, os.O_NONBLOCK), "F_SETFL")
    expect(-EALREADY, handler="plain", call="non-blocking").of(calls.connect(pair.first, end.server))
    need(end.calls.syscall("fcntl64", pair.first, F_SETFL, 0), "F_SETFL")
    meanwhile.catch(restart=True)
    host = "127.0.0.1" if kind is TCP else "::1"
    with socket.socket(fileno=caller.lend(pair.second)) as second:
        check = expect(0, handler="restart", call="connect")
        with meanwhile(meanwhile.signal, partial(second.connect, (host, CLIENT_PORT))):
            check.of(calls.connect(pair.first, end.server))


@behaviour("connect.simultaneous.open", "connect(2); RFC 9293 3.5 figure 7; tcp_rcv_synsent_state_process `th->syn`")
def test_simultaneous(prepare, calls, expect):
    """Two TCP sockets that connect to each other's address are connected with each other, without a listening socket that
    accepts: both have the other's name as that of their peer, and receive what the other sends.
    """
    for kind in CONNECTING:
        pair = both(prepare, kind, flags=NONBLOCK)
        end = pair.end
        expect(-EINPROGRESS, kind=kind, socket="first").of(calls.connect(pair.first, end.server))
        expect(0, kind=kind, socket="second").of(calls.connect(pair.second, end.client))
        end.wait(pair.first, POLLOUT)
        expect(0, kind=kind, socket="first", again="yes").of(calls.connect(pair.first, end.server))
        ends = {"first": (pair.first, SERVER_PORT, pair.second), "second": (pair.second, CLIENT_PORT, pair.first)}
        for which, (fd, port, other) in ends.items():
            expect(name(kind, port), kind=kind, socket=which, read="peer").of(calls.name("getpeername", fd))
            check = expect(DATA, kind=kind, socket=which, read="data")
            end.send(other, DATA)
            end.wait(fd)
            room = calls.memory.alloc(8)
            received = calls.make("recv", fd, room, 8, 0)
            check.of(room.written(received), received)
        end.close()


@behaviour(
    "connect.simultaneous.self", "connect(2); RFC 9293 3.5; tcp_rcv_synsent_state_process; __ip4_datagram_connect"
)
def test_itself(prepare, calls, expect):
    """A bound socket can connect to its own address, over TCP without a listening socket: it receives what it sends."""
    for kind in (*CONNECTING, UDP, UDP6, UNIX_DGRAM):
        end = prepare("bound", kind)
        expect(0, kind=kind, call="connect").of(calls.connect(end.fd, end.server))
        expect(name(kind, SERVER_PORT), kind=kind, call="getpeername").of(calls.name("getpeername", end.fd))
        check = expect(DATA, kind=kind, call="recv")
        end.send(end.fd, DATA)
        end.wait(end.fd)
        room = calls.memory.alloc(8)
        received = calls.make("recv", end.fd, room, 8, 0)
        check.of(room.written(received), received)
        end.close()
