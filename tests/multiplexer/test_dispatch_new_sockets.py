"""Operations that make sockets behave as the direct calls do, errors and their order included.

The tables hold the result that both routes must return: a column is the state of the descriptor (dispatch_table.py), a row
the argument words. A function beside each has what the call leaves.
"""

import socket
from errno import EINVAL, ENOTCONN, ENOTTY
from select import POLLHUP, POLLIN, POLLOUT

import pytest

from probes.testing import behaviour
from probes.testing.states import CLIENT_PORT, SERVER_PORT
from tests.multiplexer.call_words import BAD, FD, buffer, descriptors, length, number, written
from tests.multiplexer.dispatch_effects import (
    ENDED,
    LOOPBACK,
    POLLRDHUP,
    WILDCARD,
    file_flags,
    made,
    name_of,
)
from tests.multiplexer.dispatch_table import UNSTATED, failing
from tests.multiplexer.socket_view import Found

pytestmark = pytest.mark.routes("both")

SOURCE = "socketcall(2); S1 `switch (call)`; S4 1.5 steps 3 and 4"
INET, UNIX, STREAM, DGRAM = socket.AF_INET, socket.AF_UNIX, socket.SOCK_STREAM, socket.SOCK_DGRAM
CLOEXEC, NONBLOCK, UNKNOWN_FLAG = socket.SOCK_CLOEXEC, socket.SOCK_NONBLOCK, 0x10
HUGE, NO_TYPE = 0x7FFFFFFF, 11


def socket_made(row: str, column: str, result: int | str) -> Found:
    """Returns what socket leaves."""
    tcp = {"name": (WILDCARD, 0), "received": -ENOTCONN, "events": POLLOUT | POLLHUP}
    found = {
        "tcp": made(INET, STREAM, socket.IPPROTO_TCP, **tcp),
        "tcp-6": made(INET, STREAM, socket.IPPROTO_TCP, **tcp),
        "udp-cloexec": made(INET, DGRAM, socket.IPPROTO_UDP, flags=file_flags(CLOEXEC), name=(WILDCARD, 0)),
        "tcp-nonblock": made(INET, STREAM, socket.IPPROTO_TCP, flags=file_flags(NONBLOCK), **tcp),
        "raw": made(INET, socket.SOCK_RAW, 253, name=(WILDCARD, 253)),
        "unix": made(UNIX, STREAM, received=-EINVAL, events=POLLOUT | POLLHUP),
        "unix-1": made(UNIX, socket.SOCK_SEQPACKET, received=-ENOTCONN, events=POLLOUT | POLLHUP),
        "netlink": made(socket.AF_NETLINK, socket.SOCK_RAW, name=(0, 0), peer=(0, 0), queued=-ENOTTY),
    }
    return found.get(row, {})


@behaviour("multiplexer.dispatch.socket", f"{SOURCE}; socket(2); __sys_socket, __sock_create")
def test_socket(dispatch):
    """socketcall(1, {family, type, protocol}) returns what socket(family, type, protocol) returns, the lowest free
    descriptor or the same error, and makes a socket of these, with the flags of its type.
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
    """, socket_made)  # fmt: skip


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
#: The bytes that they have room for.
ACCEPT_ROOMS = {"address": 16, "large": 128, "short": 4, "empty": 0, "nonblock": 16}
#: The flags of accept4.
ACCEPT_FLAGS = {"cloexec": CLOEXEC, "nonblock": NONBLOCK, "both-flags": CLOEXEC | NONBLOCK}
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


def accepted(row: str, column: str, result: int | str) -> Found:
    """Returns what accept and accept4 leave.

    A connection that is taken from the queue is lost if the call fails then: its peer finds the end of the stream.
    """
    if column not in ("pending", "unix-pending") or row in ("flag-1", "flag-bad"):
        return {}
    unix = column == "unix-pending"
    if failing(result):
        events = POLLIN | POLLOUT | POLLRDHUP | (POLLHUP if unix else 0)
        # On a bad address some kernels have written the length already, others not yet.
        return {"fd events": 0, "peer received": ENDED, "peer events": events, "addrlen": UNSTATED}
    name = name_of(column, CLIENT_PORT)
    names = [name_of(column, port)[2:] if unix else (LOOPBACK, port) for port in (SERVER_PORT, CLIENT_PORT)]
    flags = file_flags(ACCEPT_FLAGS.get(row, 0))
    protocol = 0 if unix else socket.IPPROTO_TCP
    socket_made = made(UNIX if unix else INET, STREAM, protocol, flags=flags, name=names[0], peer=names[1])
    room = ACCEPT_ROOMS.get(row)
    wrote = {} if room is None else {"addrlen": number(len(name))} | ({"addr": written(name, room)} if room else {})
    return wrote | {"fd events": 0} | socket_made


@behaviour("multiplexer.dispatch.accept", f"{SOURCE}; accept(2); __sys_accept4, do_accept, move_addr_to_user")
def test_accept(dispatch):
    """socketcall(5, {fd, addr, addrlen}) returns what accept4(fd, addr, addrlen, 0) returns, in every state of the
    descriptor, writes the peer's address as far as there is room and its whole length, and makes a socket of the
    connection without O_NONBLOCK and FD_CLOEXEC.
    """
    dispatch.judge("accept", ACCEPT_WORDS, ACCEPT_TABLE, accepted)


@behaviour("multiplexer.dispatch.accept4", f"{SOURCE}; accept4(2); __sys_accept4_file `flags & ~(…)`, do_accept")
def test_accept4(dispatch):
    """socketcall(18, {fd, addr, addrlen, flags}) returns what accept4(fd, addr, addrlen, flags) returns, in every
    state of the descriptor, writes the peer's address as far as there is room and its whole length, and makes a socket
    of the connection with the flags, SOCK_CLOEXEC and SOCK_NONBLOCK.
    """
    rows = {name: (*words, 0) for name, words in ACCEPT_WORDS.items()} | {
        "cloexec": (FD, 0, 0, ACCEPT_FLAGS["cloexec"]),
        "nonblock": (FD, buffer(16), length(16), ACCEPT_FLAGS["nonblock"]),
        "both-flags": (FD, 0, 0, ACCEPT_FLAGS["both-flags"]),
        "flag-1": (FD, 0, 0, 1),
        "flag-bad": (FD, BAD, BAD, -1),
    }
    dispatch.judge("accept4", rows, ACCEPT_TABLE + """
        cloexec    EBADF ENOTSOCK EBADF EINVAL EAGAIN fd     EINVAL EOPNOTSUPP fd     EINVAL
        nonblock   EBADF ENOTSOCK EBADF EINVAL EAGAIN fd     EINVAL EOPNOTSUPP fd     EINVAL
        both-flags EBADF ENOTSOCK EBADF EINVAL EAGAIN fd     EINVAL EOPNOTSUPP fd     EINVAL
        flag-1     EBADF EINVAL   EBADF EINVAL EINVAL EINVAL EINVAL EINVAL     EINVAL EINVAL
        flag-bad   EBADF EINVAL   EBADF EINVAL EINVAL EINVAL EINVAL EINVAL     EINVAL EINVAL
    """, accepted)  # fmt: skip


def pair_made(row: str, column: str, result: int | str) -> Found:
    """Returns what socketpair leaves."""
    if row in ("flag", "bad-and-flag"):
        return {}
    if failing(result):
        # The kernel writes the numbers before it makes the sockets, other than the page says: socketpair(2) NOTES.
        return {"sv.0": UNSTATED, "sv.1": UNSTATED}
    type_, flags = {
        "dgram": (DGRAM, 0),
        "seqpacket-1": (socket.SOCK_SEQPACKET, 0),
        "flags": (STREAM, CLOEXEC | NONBLOCK),
    }.get(row, (STREAM, 0))
    ends = [made(UNIX, type_, flags=file_flags(flags), peer="", number=number) for number in range(2)]
    return {"sv.0": "made 0", "sv.1": "made 1"} | ends[0] | ends[1]


@behaviour("multiplexer.dispatch.socketpair", f"{SOURCE}; socketpair(2); __sys_socketpair")
def test_socketpair(dispatch):
    """socketcall(8, {family, type, protocol, sv}) returns what socketpair(family, type, protocol, sv) returns, and
    writes the descriptors of two connected sockets of these to sv, with the flags of the type.
    """
    rows = {
        "stream": (UNIX, STREAM, 0, descriptors(2)),
        "dgram": (UNIX, DGRAM, 0, descriptors(3)),
        "seqpacket-1": (UNIX, socket.SOCK_SEQPACKET, 1, descriptors(2)),
        "flags": (UNIX, STREAM | CLOEXEC | NONBLOCK, 0, descriptors(2)),
        "flag": (UNIX, STREAM | UNKNOWN_FLAG, 0, descriptors(2)),
        "protocol": (UNIX, STREAM, 2, descriptors(2)),
        "type": (UNIX, NO_TYPE, 0, descriptors(2)),
        "inet": (INET, STREAM, 0, descriptors(2)),
        "inet-udp": (INET, DGRAM, 0, descriptors(2)),
        "family": (-1, STREAM, 0, descriptors(2)),
        "null": (UNIX, STREAM, 0, 0),
        "bad": (UNIX, STREAM, 0, BAD),
        "room-for-one": (UNIX, STREAM, 0, descriptors(1)),
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
    """, pair_made)  # fmt: skip
