"""Operations that make, name and connect sockets behave as the direct calls do, errors and their order included.

The tables hold the result that both routes must return: a column is the state of the descriptor (dispatch_table.py), a row
the argument words.
"""

import socket

import pytest

from probes.testing import behaviour
from probes.testing.states import SERVER_PORT
from tests.multiplexer.call_words import BAD, FD, PointerTo, buffer, inet, length

pytestmark = pytest.mark.routes("both")

SOURCE = "socketcall(2); S1 `switch (call)`; S4 1.5 steps 3 and 4"
INET, UNIX, STREAM, DGRAM = socket.AF_INET, socket.AF_UNIX, socket.SOCK_STREAM, socket.SOCK_DGRAM
CLOEXEC, NONBLOCK, UNKNOWN_FLAG = socket.SOCK_CLOEXEC, socket.SOCK_NONBLOCK, 0x10
HUGE, NO_TYPE = 0x7FFFFFFF, 11
ADDRESS = inet(SERVER_PORT)


@behaviour("multiplexer.dispatch.socket", f"{SOURCE}; socket(2); __sys_socket, __sock_create")
def test_socket(dispatch):
    """socketcall(1, {family, type, protocol}) returns what socket(family, type, protocol) returns, the lowest free
    descriptor or the same error, and makes the same socket.
    """
    rows = {
        "tcp": (INET, STREAM, 0),
        "tcp-6": (INET, STREAM, 6),
        "udp-cloexec": (INET, DGRAM | CLOEXEC, 0),
        "tcp-nonblock": (INET, STREAM | NONBLOCK, 0),
        "raw": (INET, socket.SOCK_RAW, 253),
        "unix": (UNIX, STREAM, 0),
        "unix-1": (UNIX, socket.SOCK_SEQPACKET, 1),
        "netlink": (socket.AF_NETLINK, socket.SOCK_RAW, 0),
        "unix-2": (UNIX, STREAM, 2),
        "tcp-17": (INET, STREAM, 17),
        "tcp-minus-1": (INET, STREAM, -1),
        "no-family": (0, STREAM, 0),
        "huge-family": (HUGE, STREAM, 0),
        "type-0": (INET, 0, 0),
        "type-11": (INET, NO_TYPE, 0),
        "flag": (INET, STREAM | UNKNOWN_FLAG, 0),
        "family-and-type": (-1, NO_TYPE, -1),
        "family-and-flag": (-1, STREAM | UNKNOWN_FLAG, 0),
    }
    dispatch.judge("socket", rows, """
                        none
        tcp             fd
        tcp-6           fd
        udp-cloexec     fd
        tcp-nonblock    fd
        raw             fd
        unix            fd
        unix-1          fd
        netlink         fd
        unix-2          EPROTONOSUPPORT
        tcp-17          EPROTONOSUPPORT
        tcp-minus-1     EINVAL
        no-family       EAFNOSUPPORT
        huge-family     EAFNOSUPPORT
        type-0          ESOCKTNOSUPPORT
        type-11         EINVAL
        flag            EINVAL
        family-and-type EAFNOSUPPORT
        family-and-flag EINVAL
    """)  # fmt: skip


@behaviour("multiplexer.dispatch.bind", f"{SOURCE}; bind(2); __sys_bind, move_addr_to_kernel, __inet_bind")
def test_bind(dispatch):
    """socketcall(2, {fd, addr, addrlen}) returns what bind(fd, addr, addrlen) returns, in every state of the
    descriptor, and leaves the sockets alike.
    """
    rows = {
        "address": (FD, PointerTo(ADDRESS), 16),
        "longer": (FD, PointerTo(ADDRESS + bytes(12)), 28),
        "any-unspec": (FD, PointerTo(inet(5000, 0, socket.AF_UNSPEC)), 16),
        "foreign": (FD, PointerTo(inet(5000, 0xC0000201)), 16),
        "family": (FD, PointerTo(inet(5000, family=UNIX)), 16),
        "abstract": (FD, PointerTo(b"\1\0\0name"), 7),
        "short": (FD, PointerTo(ADDRESS), 15),
        "empty": (FD, PointerTo(ADDRESS), 0),
        "negative": (FD, PointerTo(ADDRESS), -1),
        "too-long": (FD, PointerTo(ADDRESS), 129),
        "cut-off": (FD, PointerTo(ADDRESS[:15]), 16),
        "bad": (FD, BAD, 16),
        "bad-empty": (FD, BAD, 0),
        "bad-negative": (FD, BAD, -1),
    }
    dispatch.judge("bind", rows, """
                     minus-one pipe     tcp           bound         served        connected     udp           unix
        address      EBADF     ENOTSOCK 0             EINVAL        EADDRINUSE    EINVAL        0             EINVAL
        longer       EBADF     ENOTSOCK 0             EINVAL        EADDRINUSE    EINVAL        0             EINVAL
        any-unspec   EBADF     ENOTSOCK 0             EINVAL        EADDRINUSE    EINVAL        0             EINVAL
        foreign      EBADF     ENOTSOCK EADDRNOTAVAIL EADDRNOTAVAIL EADDRNOTAVAIL EADDRNOTAVAIL EADDRNOTAVAIL EINVAL
        family       EBADF     ENOTSOCK EAFNOSUPPORT  EAFNOSUPPORT  EAFNOSUPPORT  EAFNOSUPPORT  EAFNOSUPPORT  .
        abstract     EBADF     ENOTSOCK EINVAL        EINVAL        EINVAL        EINVAL        EINVAL        0
        short        EBADF     ENOTSOCK EINVAL        EINVAL        EINVAL        EINVAL        EINVAL        EINVAL
        empty        EBADF     ENOTSOCK EINVAL        EINVAL        EINVAL        EINVAL        EINVAL        EINVAL
        negative     EBADF     ENOTSOCK EINVAL        EINVAL        EINVAL        EINVAL        EINVAL        EINVAL
        too-long     EBADF     ENOTSOCK EINVAL        EINVAL        EINVAL        EINVAL        EINVAL        EINVAL
        cut-off      EBADF     ENOTSOCK EFAULT        EFAULT        EFAULT        EFAULT        EFAULT        EFAULT
        bad          EBADF     ENOTSOCK EFAULT        EFAULT        EFAULT        EFAULT        EFAULT        EFAULT
        bad-empty    EBADF     ENOTSOCK EINVAL        EINVAL        EINVAL        EINVAL        EINVAL        EINVAL
        bad-negative EBADF     ENOTSOCK EINVAL        EINVAL        EINVAL        EINVAL        EINVAL        EINVAL
    """)  # fmt: skip


@behaviour("multiplexer.dispatch.connect", f"{SOURCE}; connect(2); __sys_connect, inet_stream_connect")
def test_connect(dispatch):
    """socketcall(3, {fd, addr, addrlen}) returns what connect(fd, addr, addrlen) returns, in every state of the
    descriptor, and leaves the sockets alike.
    """
    rows = {
        "server": (FD, PointerTo(ADDRESS), 16),
        "nobody": (FD, PointerTo(inet(5009)), 16),
        "unspec": (FD, PointerTo(bytes(16)), 16),
        "family": (FD, PointerTo(inet(5000, family=99)), 16),
        "abstract": (FD, PointerTo(b"\1\0\0nobody"), 9),
        "short": (FD, PointerTo(ADDRESS), 15),
        "one-byte": (FD, PointerTo(ADDRESS), 1),
        "empty": (FD, PointerTo(ADDRESS), 0),
        "negative": (FD, PointerTo(ADDRESS), -1),
        "too-long": (FD, PointerTo(ADDRESS), 129),
        "cut-off": (FD, PointerTo(ADDRESS[:15]), 16),
        "bad": (FD, BAD, 16),
        "bad-too-long": (FD, BAD, 129),
    }
    dispatch.judge("connect", rows, """
                     minus-one pipe     path  tcp          served       listening connected udp-served   unix
        server       EBADF     ENOTSOCK EBADF ECONNREFUSED 0            EISCONN   EISCONN   0            EINVAL
        nobody       EBADF     ENOTSOCK EBADF ECONNREFUSED ECONNREFUSED EISCONN   EISCONN   0            EINVAL
        unspec       EBADF     ENOTSOCK EBADF 0            0            0         0         0            EINVAL
        family       EBADF     ENOTSOCK EBADF EAFNOSUPPORT EAFNOSUPPORT EISCONN   EISCONN   EAFNOSUPPORT EINVAL
        abstract     EBADF     ENOTSOCK EBADF EINVAL       EINVAL       EISCONN   EISCONN   EINVAL       ECONNREFUSED
        short        EBADF     ENOTSOCK EBADF EINVAL       EINVAL       EISCONN   EISCONN   EINVAL       EINVAL
        one-byte     EBADF     ENOTSOCK EBADF EINVAL       EINVAL       EINVAL    EINVAL    EINVAL       EINVAL
        empty        EBADF     ENOTSOCK EBADF EINVAL       EINVAL       EINVAL    EINVAL    EINVAL       EINVAL
        negative     EBADF     EINVAL   EBADF EINVAL       EINVAL       EINVAL    EINVAL    EINVAL       EINVAL
        too-long     EBADF     EINVAL   EBADF EINVAL       EINVAL       EINVAL    EINVAL    EINVAL       EINVAL
        cut-off      EBADF     EFAULT   EBADF EFAULT       EFAULT       EFAULT    EFAULT    EFAULT       EFAULT
        bad          EBADF     EFAULT   EBADF EFAULT       EFAULT       EFAULT    EFAULT    EFAULT       EFAULT
        bad-too-long EBADF     EINVAL   EBADF EINVAL       EINVAL       EINVAL    EINVAL    EINVAL       EINVAL
    """)  # fmt: skip


@behaviour("multiplexer.dispatch.listen", f"{SOURCE}; listen(2); __sys_listen, inet_listen")
def test_listen(dispatch):
    """socketcall(4, {fd, backlog}) returns what listen(fd, backlog) returns, in every state of the descriptor, and
    leaves the sockets alike.
    """
    rows = {"0": (FD, 0), "1": (FD, 1), "minus-1": (FD, -1), "huge": (FD, HUGE)}
    dispatch.judge("listen", rows, """
                minus-one pipe     path  tcp bound listening connected udp        unix   unix-pending unix-pair
        0       EBADF     ENOTSOCK EBADF 0   0     0         EINVAL    EOPNOTSUPP EINVAL 0            EINVAL
        1       EBADF     ENOTSOCK EBADF 0   0     0         EINVAL    EOPNOTSUPP EINVAL 0            EINVAL
        minus-1 EBADF     ENOTSOCK EBADF 0   0     0         EINVAL    EOPNOTSUPP EINVAL 0            EINVAL
        huge    EBADF     ENOTSOCK EBADF 0   0     0         EINVAL    EOPNOTSUPP EINVAL 0            EINVAL
    """)  # fmt: skip


#: The words of accept and accept4 but the flags, and their results.
ACCEPT_WORDS = {
    "no-address": (FD, 0, 0),
    "address": (FD, buffer(16), length(16)),
    "large": (FD, buffer(128), length(128)),
    "short": (FD, buffer(4), length(4)),
    "empty": (FD, BAD, length(0)),
    "negative": (FD, buffer(16), length(-1)),
    "no-length": (FD, buffer(16), 0),
    "bad-address": (FD, BAD, length(16)),
    "bad-length": (FD, buffer(16), BAD),
    "only-length": (FD, 0, BAD),
}
ACCEPT_TABLE = """
                minus-one pipe     path  tcp    listening pending connected udp        unix-pending unix-pair
    no-address  EBADF     ENOTSOCK EBADF EINVAL EAGAIN    fd      EINVAL    EOPNOTSUPP fd           EINVAL
    address     EBADF     ENOTSOCK EBADF EINVAL EAGAIN    fd      EINVAL    EOPNOTSUPP fd           EINVAL
    large       EBADF     ENOTSOCK EBADF EINVAL EAGAIN    fd      EINVAL    EOPNOTSUPP fd           EINVAL
    short       EBADF     ENOTSOCK EBADF EINVAL EAGAIN    fd      EINVAL    EOPNOTSUPP fd           EINVAL
    empty       EBADF     ENOTSOCK EBADF EINVAL EAGAIN    fd      EINVAL    EOPNOTSUPP fd           EINVAL
    negative    EBADF     ENOTSOCK EBADF EINVAL EAGAIN    EINVAL  EINVAL    EOPNOTSUPP EINVAL       EINVAL
    no-length   EBADF     ENOTSOCK EBADF EINVAL EAGAIN    EFAULT  EINVAL    EOPNOTSUPP EFAULT       EINVAL
    bad-address EBADF     ENOTSOCK EBADF EINVAL EAGAIN    EFAULT  EINVAL    EOPNOTSUPP EFAULT       EINVAL
    bad-length  EBADF     ENOTSOCK EBADF EINVAL EAGAIN    EFAULT  EINVAL    EOPNOTSUPP EFAULT       EINVAL
    only-length EBADF     ENOTSOCK EBADF EINVAL EAGAIN    fd      EINVAL    EOPNOTSUPP fd           EINVAL
"""


@behaviour("multiplexer.dispatch.accept", f"{SOURCE}; accept(2); __sys_accept4, do_accept, move_addr_to_user")
def test_accept(dispatch):
    """socketcall(5, {fd, addr, addrlen}) returns what accept4(fd, addr, addrlen, 0) returns, in every state of the
    descriptor, writes the same address and length, and makes the same socket.
    """
    dispatch.judge("accept", ACCEPT_WORDS, ACCEPT_TABLE)


@behaviour("multiplexer.dispatch.accept4", f"{SOURCE}; accept4(2); __sys_accept4_file `flags & ~(…)`, do_accept")
def test_accept4(dispatch):
    """socketcall(18, {fd, addr, addrlen, flags}) returns what accept4(fd, addr, addrlen, flags) returns, in every
    state of the descriptor, writes the same address and length, and makes the same socket.
    """
    rows = {name: (*words, 0) for name, words in ACCEPT_WORDS.items()} | {
        "cloexec": (FD, 0, 0, CLOEXEC),
        "nonblock": (FD, buffer(16), length(16), NONBLOCK),
        "both-flags": (FD, 0, 0, CLOEXEC | NONBLOCK),
        "flag-1": (FD, 0, 0, 1),
        "flag-bad": (FD, BAD, BAD, -1),
    }
    dispatch.judge("accept4", rows, ACCEPT_TABLE + """
        cloexec    EBADF ENOTSOCK EBADF EINVAL EAGAIN fd     EINVAL EOPNOTSUPP fd     EINVAL
        nonblock   EBADF ENOTSOCK EBADF EINVAL EAGAIN fd     EINVAL EOPNOTSUPP fd     EINVAL
        both-flags EBADF ENOTSOCK EBADF EINVAL EAGAIN fd     EINVAL EOPNOTSUPP fd     EINVAL
        flag-1     EBADF EINVAL   EBADF EINVAL EINVAL EINVAL EINVAL EINVAL     EINVAL EINVAL
        flag-bad   EBADF EINVAL   EBADF EINVAL EINVAL EINVAL EINVAL EINVAL     EINVAL EINVAL
    """)  # fmt: skip


@behaviour("multiplexer.dispatch.socketpair", f"{SOURCE}; socketpair(2); __sys_socketpair")
def test_socketpair(dispatch):
    """socketcall(8, {family, type, protocol, sv}) returns what socketpair(family, type, protocol, sv) returns, and
    writes the descriptors of the same two sockets to sv.
    """
    rows = {
        "stream": (UNIX, STREAM, 0, buffer(8)),
        "dgram": (UNIX, DGRAM, 0, buffer(8)),
        "seqpacket-1": (UNIX, socket.SOCK_SEQPACKET, 1, buffer(8)),
        "flags": (UNIX, STREAM | CLOEXEC | NONBLOCK, 0, buffer(8)),
        "flag": (UNIX, STREAM | UNKNOWN_FLAG, 0, buffer(8)),
        "protocol": (UNIX, STREAM, 2, buffer(8)),
        "type": (UNIX, NO_TYPE, 0, buffer(8)),
        "inet": (INET, STREAM, 0, buffer(8)),
        "inet-udp": (INET, DGRAM, 0, buffer(8)),
        "family": (-1, STREAM, 0, buffer(8)),
        "null": (UNIX, STREAM, 0, 0),
        "bad": (UNIX, STREAM, 0, BAD),
        "room-for-one": (UNIX, STREAM, 0, buffer(4)),
        "bad-and-family": (-1, STREAM, 0, BAD),
        "bad-and-flag": (-1, UNKNOWN_FLAG, 0, BAD),
    }
    dispatch.judge("socketpair", rows, """
                       none
        stream         0
        dgram          0
        seqpacket-1    0
        flags          0
        flag           EINVAL
        protocol       EPROTONOSUPPORT
        type           EINVAL
        inet           EOPNOTSUPP
        inet-udp       EOPNOTSUPP
        family         EAFNOSUPPORT
        null           EFAULT
        bad            EFAULT
        room-for-one   EFAULT
        bad-and-family EFAULT
        bad-and-flag   EINVAL
    """)  # fmt: skip


@behaviour("multiplexer.dispatch.shutdown", f"{SOURCE}; shutdown(2); __sys_shutdown, inet_shutdown, unix_shutdown")
def test_shutdown(dispatch):
    """socketcall(13, {fd, how}) returns what shutdown(fd, how) returns, in every state of the descriptor, and
    leaves the sockets alike.
    """
    rows = {"read": (FD, 0), "write": (FD, 1), "both": (FD, 2), "three": (FD, 3), "minus-1": (FD, -1)}
    dispatch.judge("shutdown", rows, """
                minus-one pipe     path  tcp      bound    listening connected shut   udp      udp-connected unix-pair
        read    EBADF     ENOTSOCK EBADF ENOTCONN ENOTCONN 0         0         0      ENOTCONN 0             0
        write   EBADF     ENOTSOCK EBADF ENOTCONN ENOTCONN 0         0         0      ENOTCONN 0             0
        both    EBADF     ENOTSOCK EBADF ENOTCONN ENOTCONN 0         0         0      ENOTCONN 0             0
        three   EBADF     ENOTSOCK EBADF EINVAL   EINVAL   EINVAL    EINVAL    EINVAL EINVAL   EINVAL        EINVAL
        minus-1 EBADF     ENOTSOCK EBADF EINVAL   EINVAL   EINVAL    EINVAL    EINVAL EINVAL   EINVAL        EINVAL
    """)  # fmt: skip
