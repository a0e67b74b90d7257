"""Options of IPPROTO_TCP: which values they take, and how they are read."""

import socket
from errno import EINVAL, ENOENT

import pytest

from probes.abi.names import value
from probes.testing import behaviour, need, procfs
from probes.testing.socket_kinds import TCP, TCP6

TCP_LEVEL = socket.IPPROTO_TCP
#: Options that are numbers: the values that each takes, and values that fail with EINVAL (MAX_TCP_KEEPIDLE,
#: MAX_TCP_KEEPINTVL, MAX_TCP_KEEPCNT, MAX_TCP_SYNCNT, TCP_MIN_MSS, MAX_TCP_WINDOW of include/net/tcp.h).
NUMBERS = {
    "TCP_KEEPIDLE": ((1, 32767), (0, -1, 32768)), "TCP_KEEPINTVL": ((1, 32767), (0, -1, 32768)),
    "TCP_KEEPCNT": ((1, 127), (0, -1, 128)), "TCP_SYNCNT": ((1, 127), (0, -1, 128, 255)),
    "TCP_MAXSEG": ((88, 1460, 32767), (87, -1, 32768)), "TCP_USER_TIMEOUT": ((0, 1, 0x7FFFFFFF), (-1, -0x80000000)),
    "TCP_LINGER2": ((1, 60), ()),
}  # fmt: skip
SWITCHES = ("TCP_NODELAY", "TCP_CORK")
SOURCE = "tcp(7) Socket options; do_tcp_setsockopt, do_tcp_getsockopt"


@behaviour("options.tcp.range", SOURCE)
def test_range(new_socket, expect):
    """TCP_KEEPIDLE and TCP_KEEPINTVL are 1 to 32767 seconds, TCP_KEEPCNT and TCP_SYNCNT 1 to 127 (tcp(7): 255), TCP_MAXSEG
    88 to 32767 bytes, TCP_USER_TIMEOUT not negative: another value fails with EINVAL, and leaves the one that was set.
    """
    for kind in (TCP, TCP6):
        sock = new_socket(*kind.triple)
        for name, (good, bad) in NUMBERS.items():
            number = value(name)
            for given in good:
                expect(0, kind=kind, option=name, given=given).of(sock.setsockopt(TCP_LEVEL, number, given))
                if name != "TCP_MAXSEG":
                    expect(given, kind=kind, option=name, given=given, then="read").of(
                        sock.getsockopt(TCP_LEVEL, number).as_int()
                    )
            for given in bad:
                expect(-EINVAL, kind=kind, option=name, given=given).of(sock.setsockopt(TCP_LEVEL, number, given))
            if bad and name != "TCP_MAXSEG":
                expect(good[-1], kind=kind, option=name, then="kept").of(sock.getsockopt(TCP_LEVEL, number).as_int())


@behaviour("options.tcp.switch", SOURCE)
def test_switch(new_socket, expect):
    """TCP_NODELAY and TCP_CORK are on for every number but 0, and read as 1 then; fewer than 4 bytes fail with EINVAL."""
    for kind in (TCP, TCP6):
        sock = new_socket(*kind.triple)
        for name in SWITCHES:
            number = value(name)
            for given in (1, 2, -1, 0):
                expect(0, kind=kind, option=name, given=given).of(sock.setsockopt(TCP_LEVEL, number, given))
                expect(int(given != 0), kind=kind, option=name, given=given, then="read").of(
                    sock.getsockopt(TCP_LEVEL, number).as_int()
                )
            for size in (0, 1, 3):
                expect(-EINVAL, kind=kind, option=name, bytes=size).of(
                    sock.setsockopt(TCP_LEVEL, number, b"\1\0\0\0"[:size])
                )


@behaviour(
    "options.tcp.congestion", "tcp(7) TCP_CONGESTION, tcp_available_congestion_control; tcp_set_congestion_control"
)
@pytest.mark.usefixtures("unprivileged")
def test_congestion(new_socket, expect):
    """TCP_CONGESTION sets an algorithm by its name, which is read in 16 bytes; without a capability those of
    tcp_allowed_congestion_control, Reno among them. An unknown name fails with ENOENT, an empty one with EINVAL.
    """
    sock, number = new_socket(*TCP.triple), value("TCP_CONGESTION")
    default = procfs.sysctl_text("net.ipv4.tcp_congestion_control").encode()
    expect(0, given="default").of(sock.setsockopt(TCP_LEVEL, number, default))
    # Its name differs from machine to machine; the value that is compared does not.
    check = expect(True, given="default", then="read")
    found = sock.getsockopt(TCP_LEVEL, number, 16)
    check.of(found.bytes == default.ljust(16, b"\0"), found)
    for case, name in {"reno": b"reno", "null": b"reno\0and more"}.items():
        expect(0, given=case).of(sock.setsockopt(TCP_LEVEL, number, name))
        expect(b"reno".ljust(16, b"\0"), given=case, then="read").of(sock.getsockopt(TCP_LEVEL, number, 16))
    for case, name, error in (("unknown", b"none-such", ENOENT), ("empty", b"", EINVAL)):
        expect(-error, given=case).of(sock.setsockopt(TCP_LEVEL, number, name))
    expect(b"reno", then="read", bytes=4).of(sock.getsockopt(TCP_LEVEL, number, 4))


@behaviour("options.tcp.segment", "tcp(7) TCP_MAXSEG; tcp_mtup_init, tcp_sync_mss; do_tcp_getsockopt `user_mss`")
def test_segment(prepare, calls, new_socket, expect):
    """TCP_MAXSEG that is set before connect is the most that a segment of the connection has; of an unconnected socket it is
    read as it was set.
    """
    number = value("TCP_MAXSEG")
    for kind in (TCP, TCP6):
        end = prepare("beside-server", kind)
        for given in (1000, 536):
            expect(0, kind=kind, given=given).of(calls.setsockopt(end.fd, TCP_LEVEL, number, given))
        expect(536, kind=kind, state="unconnected").of(calls.getsockopt(end.fd, TCP_LEVEL, number).as_int())
        check = expect(True, kind=kind, state="connected")
        need(end.calls.connect(end.fd, end.server), "connect")
        found = calls.getsockopt(end.fd, TCP_LEVEL, number).as_int()
        # A time stamp in each segment takes 12 bytes of it.
        check.of(found.value in range(536 - 12, 536 + 1), found)
        end.close()


@behaviour("options.tcp.info", "tcp(7) TCP_INFO; struct tcp_info; include/net/tcp_states.h; tcp_get_info")
def test_info(prepare, calls, expect):
    """TCP_INFO has the state of a connection in its first byte, and later how many bytes were received; as much of it is
    written as there is room.
    """
    number = value("TCP_INFO")
    states = {"unbound": 7, "listening": 10, "connecting": 2, "connected": 1, "peer-half-closed": 8}
    for kind in (TCP, TCP6):
        for state, expected in states.items():
            end = prepare(state, kind)
            expect(bytes([expected]), kind=kind, state=state).of(calls.getsockopt(end.fd, TCP_LEVEL, number, 1))
            end.close()
        end = prepare("with-data", kind)
        # tcpi_bytes_received is at 128.
        whole, received = expect(136, kind=kind, room=136), expect(4, kind=kind, field="bytes_received")
        found = calls.getsockopt(end.fd, TCP_LEVEL, number, 136)
        whole.of(len(found.bytes), found)
        received.of(found[128:136].as_int())
        end.close()
