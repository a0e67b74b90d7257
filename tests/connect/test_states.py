"""connect in every state of a socket: when it is refused, and what AF_UNSPEC dissolves."""

import socket
from errno import ECONNRESET, EDESTADDRREQ, EINVAL, EISCONN, ENOTCONN, EOPNOTSUPP, EPIPE

import pytest

from probes.testing import behaviour, need
from probes.testing.socket_kinds import (
    CONNECTING,
    NETLINK,
    PACKET,
    PACKET_DGRAM,
    TCP,
    UDP,
    UDP6,
    UNIX_DGRAM,
    UNIX_SEQPACKET,
    UNIX_STREAM,
)  # fmt: skip
from probes.testing.states import DATA, possible
from tests.listen.clients import CONNECTED, STREAMS
from tests.listen.other_files import OtherFiles

SOURCE = "connect(2) EISCONN; ip(7), unix(7) EISCONN; __inet_stream_connect, unix_stream_connect"
SOURCE_UNSPEC = "connect(2) `AF_UNSPEC`; __inet_stream_connect, tcp_disconnect, __udp_disconnect, unix_dgram_connect"
UNSPEC = bytes(16)
SOL, ERROR, ACCEPTS = socket.SOL_SOCKET, socket.SO_ERROR, socket.SO_ACCEPTCONN
LISTENING = ("listening", "pending")
#: States of a TCP socket from which it can connect again: its former connection ends at once.
AGAIN = ("connected-by-name", "with-data", "half-closed", "peer-half-closed", "shut-down", "peer-closed", "reset")


@behaviour("connect.state.connected", f"{SOURCE}; unix(7) EINVAL `state is not correct`")
def test_connected(prepare, calls, expect):
    """connect fails with EISCONN on a stream socket that is connected, or was until its peer or TCP ended the connection,
    and on a TCP socket that listens; on an AF_UNIX socket that listens it fails with EINVAL.
    """
    for kind in STREAMS:
        for state in (*LISTENING, *CONNECTED):
            if state == "connecting" or not possible(state, kind):
                continue
            end = prepare(state, kind)
            if kind not in CONNECTING and state not in (*LISTENING, "connected-by-name"):
                # These are sockets of a pair: the name is looked up first.
                end.listener()
            error = EINVAL if state in LISTENING and kind not in CONNECTING else EISCONN
            expect(-error, kind=kind, state=state).of(calls.connect(end.fd, end.server))
            end.close()


@behaviour("connect.state.packet", "packet(7); packet_ops `.connect = sock_no_connect`")
def test_packet(prepare, calls, expect):
    """connect on a packet socket fails with EOPNOTSUPP, bound or not."""
    for kind in (PACKET, PACKET_DGRAM):
        for state in ("unbound", "bound"):
            end = prepare(state, kind)
            expect(-EOPNOTSUPP, kind=kind, state=state).of(calls.connect(end.fd, end.server))
            end.close()


@behaviour("connect.descriptor.usual", "connect(2) EBADF, ENOTSOCK; sockfd_lookup_light")
def test_descriptor(prepare, calls, expect):
    """connect fails with EBADF on what is no open descriptor or was opened with O_PATH, with ENOTSOCK on any other file."""
    for name, (fd, error) in OtherFiles(calls).usual(prepare("unbound", TCP).fd).items():
        expect(-error, descriptor=name).of(calls.connect(fd, TCP.address(5000)))


@behaviour("connect.dissolve.stream", f"{SOURCE_UNSPEC}; tcp_need_reset")
@pytest.mark.parametrize("kind", CONNECTING, ids=str)
def test_dissolve(kind, prepare, calls, expect):
    """connect of AF_UNSPEC returns 0 in every state of a TCP socket: it listens no longer, has no peer, and can connect
    anew where no connection of the same addresses is left.
    """
    for state in ("unbound", "bound", *LISTENING, *CONNECTED):
        end = prepare(state, kind)
        expect(0, state=state, address="unspec").of(calls.connect(end.fd, UNSPEC))
        expect(0, state=state, read="SO_ACCEPTCONN").of(calls.getsockopt(end.fd, SOL, ACCEPTS).as_int())
        expect(-ENOTCONN, state=state, read="peer").of(calls.name("getpeername", end.fd))
        if state in AGAIN:
            expect(0, state=state, address="server").of(calls.connect(end.fd, end.server))
        end.close()


@behaviour("connect.dissolve.length", f"{SOURCE_UNSPEC} `addr_len < sizeof(uaddr->sa_family)`")
def test_dissolve_length(prepare, calls, expect):
    """AF_UNSPEC needs the two bytes of the family alone; the bytes behind them, up to 128, are ignored."""
    for kind in (*CONNECTING, UDP, UDP6):
        for length, given in {1: -EINVAL, 2: 0, 15: 0, 16: 0, 128: 0, 129: -EINVAL}.items():
            end = prepare("connected-by-name", kind)
            expect(given, kind=kind, length=length).of(calls.connect(end.fd, b"\0\0" + b"\xff" * (length - 2), length))
            end.close()


@behaviour(
    "connect.dissolve.unix", "connect(2) `may successfully connect() only once`; unix_stream_connect; unix(7) EINVAL"
)
def test_dissolve_unix(prepare, calls, expect):
    """An AF_UNIX SOCK_STREAM or SOCK_SEQPACKET socket refuses AF_UNSPEC with EINVAL, and keeps its peer."""
    for kind in (UNIX_STREAM, UNIX_SEQPACKET):
        for state in ("unbound", "bound", "listening", "connected-by-name"):
            end = prepare(state, kind)
            expect(-EINVAL, kind=kind, state=state).of(calls.connect(end.fd, UNSPEC))
            if state == "connected-by-name":
                expect(end.server, kind=kind, state=state, read="peer").of(calls.name("getpeername", end.fd))
            end.close()


@behaviour("connect.dissolve.datagram", f"{SOURCE_UNSPEC}; netlink_connect")
def test_dissolve_datagram(prepare, calls, expect):
    """connect of AF_UNSPEC on a datagram socket returns 0, connected or not: it has no peer, a datagram without a
    destination is refused, and one from any address is received.
    """
    errors = {UDP: EDESTADDRREQ, UDP6: EDESTADDRREQ, UNIX_DGRAM: ENOTCONN}
    for kind, error in errors.items():
        for state in ("bound", "connected-by-name"):
            end = prepare(state, kind)
            case = {"kind": kind, "state": state}
            expect(0, **case, call="connect").of(calls.connect(end.fd, UNSPEC))
            expect(-ENOTCONN, **case, call="getpeername").of(calls.name("getpeername", end.fd))
            data = calls.pointer(DATA)
            expect(-error, **case, call="send").of(calls.make("send", end.fd, data, 4, socket.MSG_NOSIGNAL))
            stranger = end.new()
            own = end.server if state == "bound" else end.client
            sent = end.calls.make("sendto", stranger, calls.pointer(DATA), 4, 0, end.calls.address(own), len(own))
            need(sent, "sendto")
            end.wait(end.fd)
            room = calls.memory.alloc(8)
            check = expect(DATA, **case, call="recv")
            received = calls.make("recv", end.fd, room, 8, 0)
            check.of(room.written(received), received)
            end.close()
    end = prepare("bound", NETLINK)
    expect(0, kind=NETLINK, state="bound", call="connect").of(calls.connect(end.fd, UNSPEC))


@behaviour("connect.dissolve.peer", f"{SOURCE_UNSPEC}; RFC 9293 3.10.4; tcp_send_active_reset")
def test_dissolve_peer(prepare, calls, expect):
    """connect of AF_UNSPEC resets a TCP connection: the peer's send fails with EPIPE after what it received has ended."""
    for kind in CONNECTING:
        end = prepare("connected-by-name", kind)
        need(calls.connect(end.fd, UNSPEC))
        end.wait(end.peer)
        error = expect(ECONNRESET, kind=kind, read="SO_ERROR")
        error.of(calls.getsockopt(end.peer, SOL, ERROR).as_int())
        data = calls.pointer(DATA)
        expect(-EPIPE, kind=kind, call="send").of(calls.make("send", end.peer, data, 4, socket.MSG_NOSIGNAL))
        end.close()
