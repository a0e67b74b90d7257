"""SO_SNDBUF and SO_RCVBUF: what is set of a value, and what can then be queued."""

import socket
from errno import EPERM

import pytest

from probes.testing import behaviour, procfs
from probes.testing.socket_kinds import TCP, UDP

SOL_SOCKET = socket.SOL_SOCKET
#: include/uapi/asm-generic/socket.h.
FORCED = {"SO_SNDBUF": 32, "SO_RCVBUF": 33}
OPTIONS = {"SO_SNDBUF": socket.SO_SNDBUF, "SO_RCVBUF": socket.SO_RCVBUF}
SYSCTLS = {"SO_SNDBUF": "net.core.wmem_max", "SO_RCVBUF": "net.core.rmem_max"}
SOURCE = "socket(7) SO_RCVBUF, SO_SNDBUF, rmem_max, wmem_max; __sock_set_rcvbuf"


@behaviour("options.buffer.doubled", SOURCE)
def test_doubled(new_socket, expect):
    """SO_SNDBUF and SO_RCVBUF allocate twice of what is set, and getsockopt returns that; more than wmem_max or rmem_max
    is set as that, also a negative value, which is read as unsigned.
    """
    for kind in (TCP, UDP):
        sock = new_socket(*kind.triple)
        for option, number in OPTIONS.items():
            most = procfs.sysctl(SYSCTLS[option])[0]
            for case, given, allocated in (
                ("8192", 8192, 2 * 8192), ("12345", 12345, 2 * 12345), ("most", most, 2 * most),
                ("over-most", most + 1, 2 * most), ("int-max", 0x7FFFFFFF, 2 * most), ("negative", -1, 2 * most),
            ):  # fmt: skip
                expect(0, kind=kind, option=option, given=case).of(sock.setsockopt(SOL_SOCKET, number, given))
                expect(allocated, kind=kind, option=option, given=case, then="allocated").of(
                    sock.getsockopt(SOL_SOCKET, number).as_int()
                )


@behaviour("options.buffer.least", f"{SOURCE} SOCK_MIN_SNDBUF, SOCK_MIN_RCVBUF", tag="implementation")
def test_least(new_socket, expect):
    """SO_RCVBUF of 0 or 1 allocates the least buffer, one of 2048 bytes with its overhead, and SO_SNDBUF two of them:
    socket(7) gives 256 and 2048 bytes, as older kernels had.
    """
    sock = new_socket(*UDP.triple)
    for option, count in (("SO_RCVBUF", 1), ("SO_SNDBUF", 2)):
        for given in (0, 1):
            expect(0, option=option, given=given).of(sock.setsockopt(SOL_SOCKET, OPTIONS[option], given))
            check = expect(True, option=option, given=given, then="allocated")
            found = sock.getsockopt(SOL_SOCKET, OPTIONS[option]).as_int()
            check.of(2048 < found.value / count < 2048 + 512, found)


@behaviour("options.buffer.forced", "socket(7) SO_RCVBUFFORCE, SO_SNDBUFFORCE; capabilities(7) CAP_NET_ADMIN")
@pytest.mark.usefixtures("unprivileged")
def test_forced(new_socket, expect):
    """SO_SNDBUFFORCE and SO_RCVBUFFORCE fail with EPERM without CAP_NET_ADMIN, and set nothing."""
    sock = new_socket(*UDP.triple)
    for option, number in OPTIONS.items():
        expect(0, option=option).of(sock.setsockopt(SOL_SOCKET, number, 8192))
        expect(-EPERM, option=f"{option}FORCE").of(sock.setsockopt(SOL_SOCKET, FORCED[option], 1 << 20))
        expect(2 * 8192, option=option, then="allocated").of(sock.getsockopt(SOL_SOCKET, number).as_int())
