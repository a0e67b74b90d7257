"""Operations that send and receive behave as the direct calls do, errors and their order included.

The tables hold the result that both routes must return: a column is the state of the descriptor (dispatch_table.py), a row
the argument words. A function beside each has what the call leaves.
"""

import socket

import pytest

from probes.testing import behaviour
from probes.testing.states import DATA, SERVER_PORT
from tests.multiplexer.call_words import BAD, FD, PointerTo, buffer, inet, length, number, written
from tests.multiplexer.dispatch_effects import EMPTIED, MAYBE_BOUND, peer_name, received, sent
from tests.multiplexer.dispatch_table import failing
from tests.multiplexer.socket_view import Found

pytestmark = pytest.mark.routes("both")

SOURCE = "socketcall(2); S1 `switch (call)`; S4 1.5 steps 3 and 4"
QUIET, NOW, OOB, PEEK, TRUNC = (
    socket.MSG_NOSIGNAL, socket.MSG_DONTWAIT, socket.MSG_OOB, socket.MSG_PEEK, socket.MSG_TRUNC
)  # fmt: skip
#: MSG_FASTOPEN connects and sends: tcp(7).
FAST_OPEN = 0x20000000
ADDRESS = inet(SERVER_PORT)


def data_sent(row: str, column: str, result: int | str) -> Found:
    """Returns what send and sendto leave. The last byte of urgent data is not among the data (tcp(7))."""
    if failing(result):
        return MAYBE_BOUND if column.startswith("udp") else {}
    return sent(column, DATA[:-1] if row == "oob" else DATA) if result else {}


def data_taken(row: str, column: str, result: int | str) -> Found:
    """Returns what recv leaves."""
    if failing(result):
        # A datagram that cannot be written to memory is lost, the data of a stream is not.
        return EMPTIED if (row, column) == ("bad", "udp-sent") else {}
    room = {"short": 2, "trunc": 2, "long": 4, "empty": 0}.get(row, 8)
    left = received(column, min(room, len(DATA)), peek=row == "peek" or (not room and column != "udp-sent"))
    # With MSG_TRUNC TCP drops the data: tcp(7).
    wrote = result and room and (row, column) != ("trunc", "sent")
    return left | ({"buf": written(DATA, room)} if wrote else {})


def data_and_name(row: str, column: str, result: int | str) -> Found:
    """Returns what recvfrom leaves. It writes the name last: where that fails the data is written, and is gone."""
    if column not in ("sent", "ended", "udp-sent", "unix-sent"):
        return {}
    if row == "bad":
        return {"sent": {}, "unix-sent": {}, "udp-sent": EMPTIED, "ended": {"addrlen": number(0)}}[column]
    rooms, peek = {"address": 16, "large": 128, "short": 4, "empty": 0, "peek": 16}, row == "peek"
    data = {} if column == "ended" else {"buf": written(DATA, {"peek": 2, "long": 4}.get(row, 8))}
    left = data | received(column, 2 if peek else 8, peek=peek)
    if row == "bad-address" and not failing(result):
        return left | {"addrlen": number(0)}
    if row not in rooms:
        return left
    name = peer_name(column)
    return left | {"addrlen": number(len(name))} | ({"addr": written(name, rooms[row])} if rooms[row] else {})


@behaviour("multiplexer.dispatch.send", f"{SOURCE}; send(2); __sys_sendto, tcp_sendmsg, udp_sendmsg")
def test_send(dispatch):
    """socketcall(9, {fd, buf, len, flags}) returns what sendto(fd, buf, len, flags, NULL, 0) returns, in every
    state of the descriptor, and the peer receives the data.
    """
    rows = {
        "data": (FD, PointerTo(DATA), 4, QUIET),
        "empty": (FD, PointerTo(b""), 0, QUIET),
        "bad": (FD, BAD, 4, QUIET),
        "cut-off": (FD, PointerTo(b"da"), 4, QUIET),
        "oob": (FD, PointerTo(DATA), 4, QUIET | OOB),
        "too-big": (FD, PointerTo(bytes(70_000)), 70_000, QUIET),
        "fast-open": (FD, PointerTo(DATA), 4, QUIET | FAST_OPEN),
    }
    dispatch.judge("send", rows, """
                minus-one pipe     path  tcp   listening connected shut  udp          udp-connected unix     unix-pair
        data    EBADF     ENOTSOCK EBADF EPIPE EPIPE     4         EPIPE EDESTADDRREQ 4             ENOTCONN 4
        empty   EBADF     ENOTSOCK EBADF EPIPE EPIPE     0         EPIPE EDESTADDRREQ .             ENOTCONN 0
        bad     EBADF     ENOTSOCK EBADF EPIPE EPIPE     EFAULT    EPIPE EDESTADDRREQ EFAULT        ENOTCONN EFAULT
        cut-off EBADF     ENOTSOCK EBADF EPIPE EPIPE     EFAULT    EPIPE EDESTADDRREQ EFAULT        ENOTCONN EFAULT
        oob     EBADF     ENOTSOCK EBADF EPIPE EPIPE     4         EPIPE EOPNOTSUPP   EOPNOTSUPP    .        .
        too-big EBADF     ENOTSOCK EBADF EPIPE EPIPE     .         EPIPE EMSGSIZE     EMSGSIZE      ENOTCONN .
        fast-open .       .        .     EINVAL .        .         .     .            .             .        .
    """, data_sent)  # fmt: skip


@behaviour("multiplexer.dispatch.recv", f"{SOURCE}; recv(2); __sys_recvfrom, tcp_recvmsg, sock_rcvlowat")
def test_recv(dispatch):
    """socketcall(10, {fd, buf, len, flags}) returns what recvfrom(fd, buf, len, flags, NULL, NULL) returns, in
    every state of the descriptor, and writes the data that it takes from the socket.
    """
    rows = {
        "now": (FD, buffer(8), 8, NOW),
        "wait": (FD, buffer(8), 8, 0),
        "short": (FD, buffer(2), 2, NOW),
        "peek": (FD, buffer(8), 8, NOW | PEEK),
        "trunc": (FD, buffer(2), 2, NOW | TRUNC),
        "long": (FD, buffer(4), 0x10002, NOW),
        "empty": (FD, 0, 0, NOW),
        "bad": (FD, BAD, 8, NOW),
        "oob": (FD, buffer(8), 8, NOW | OOB),
        "errors": (FD, buffer(8), 8, NOW | 0x2000),
    }
    dispatch.judge("recv", rows, """
               minus-one pipe     path  tcp      connected sent   ended  udp    udp-sent unix   unix-pair unix-sent
        now    EBADF     ENOTSOCK EBADF ENOTCONN EAGAIN    4      0      EAGAIN 4        EINVAL EAGAIN    4
        wait   EBADF     ENOTSOCK EBADF ENOTCONN .         4      0      .      4        EINVAL .         4
        short  EBADF     ENOTSOCK EBADF ENOTCONN EAGAIN    2      0      EAGAIN 2        EINVAL EAGAIN    2
        peek   EBADF     ENOTSOCK EBADF ENOTCONN EAGAIN    4      0      EAGAIN 4        EINVAL EAGAIN    4
        trunc  EBADF     ENOTSOCK EBADF ENOTCONN EAGAIN    2      0      EAGAIN 4        EINVAL EAGAIN    2
        long   .         .        .     .        .         4      0      .      4        .      .         4
        empty  EBADF     ENOTSOCK EBADF ENOTCONN EAGAIN    0      0      EAGAIN 0        EINVAL EAGAIN    0
        bad    EBADF     ENOTSOCK EBADF ENOTCONN EAGAIN    EFAULT 0      EAGAIN EFAULT   EINVAL EAGAIN    EFAULT
        oob    EBADF     ENOTSOCK EBADF EINVAL   EINVAL    EINVAL EINVAL .      .        .      .         .
        errors EBADF     ENOTSOCK EBADF EAGAIN   EAGAIN    EAGAIN EAGAIN EAGAIN EAGAIN   .      .         .
    """, data_taken)  # fmt: skip


@behaviour("multiplexer.dispatch.sendto", f"{SOURCE}; sendto(2); __sys_sendto, move_addr_to_kernel, udp_sendmsg")
def test_sendto(dispatch):
    """socketcall(11, {fd, buf, len, flags, addr, addrlen}) returns what sendto(fd, buf, len, flags, addr, addrlen)
    returns, in every state of the descriptor, and the peer receives the data.
    """
    data = (FD, PointerTo(DATA), 4, QUIET)
    rows = {
        "server": (*data, PointerTo(ADDRESS), 16),
        "unspec": (*data, PointerTo(inet(SERVER_PORT, family=0)), 16),
        "none": (*data, 0, 0),
        "null": (*data, 0, 16),
        "short": (*data, PointerTo(ADDRESS), 15),
        "empty": (*data, PointerTo(ADDRESS), 0),
        "family": (*data, PointerTo(inet(SERVER_PORT, family=99)), 16),
        "port-0": (*data, PointerTo(inet(0)), 16),
        "broadcast": (*data, PointerTo(inet(SERVER_PORT, 0x7FFFFFFF)), 16),
        "foreign": (*data, PointerTo(inet(SERVER_PORT, 0xC0000201)), 16),
        "negative": (*data, PointerTo(ADDRESS), -1),
        "too-long": (*data, PointerTo(ADDRESS), 129),
        "bad-address": (*data, BAD, 16),
        "bad-negative": (FD, BAD, 4, QUIET, BAD, -1),
        "bad": (FD, BAD, 4, QUIET, PointerTo(ADDRESS), 16),
        "oob": (FD, PointerTo(DATA), 4, QUIET | OOB, PointerTo(ADDRESS), 16),
        "too-big": (FD, PointerTo(DATA), 0x10004, QUIET, PointerTo(ADDRESS), 16),
        "fast-open": (FD, PointerTo(DATA), 4, QUIET | FAST_OPEN, 0, 0),
    }
    dispatch.judge("sendto", rows, """
                     minus-one pipe     path  tcp    connected shut   udp-served   udp-connected unix       unix-pair
        server       EBADF     ENOTSOCK EBADF EPIPE  4         EPIPE  4            4             EOPNOTSUPP EISCONN
        unspec       EBADF     ENOTSOCK EBADF EPIPE  4         EPIPE  4            4             EOPNOTSUPP EISCONN
        none         EBADF     ENOTSOCK EBADF EPIPE  4         EPIPE  EDESTADDRREQ 4             ENOTCONN   4
        null         EBADF     ENOTSOCK EBADF EPIPE  4         EPIPE  EDESTADDRREQ 4             ENOTCONN   4
        short        EBADF     ENOTSOCK EBADF EPIPE  4         EPIPE  EINVAL       EINVAL        EOPNOTSUPP EISCONN
        empty        EBADF     ENOTSOCK EBADF EPIPE  4         EPIPE  EINVAL       EINVAL        ENOTCONN   4
        family       EBADF     ENOTSOCK EBADF EPIPE  4         EPIPE  EAFNOSUPPORT EAFNOSUPPORT  EOPNOTSUPP EISCONN
        port-0       EBADF     ENOTSOCK EBADF EPIPE  4         EPIPE  EINVAL       EINVAL        EOPNOTSUPP EISCONN
        broadcast    EBADF     ENOTSOCK EBADF EPIPE  4         EPIPE  EACCES       EACCES        EOPNOTSUPP EISCONN
        foreign      EBADF     ENOTSOCK EBADF EPIPE  4         EPIPE  ENETUNREACH  ENETUNREACH   EOPNOTSUPP EISCONN
        negative     EBADF     ENOTSOCK EBADF EINVAL EINVAL    EINVAL EINVAL       EINVAL        EINVAL     EINVAL
        too-long     EBADF     ENOTSOCK EBADF EINVAL EINVAL    EINVAL EINVAL       EINVAL        EINVAL     EINVAL
        bad-address  EBADF     ENOTSOCK EBADF EFAULT EFAULT    EFAULT EFAULT       EFAULT        EFAULT     EFAULT
        bad-negative EBADF     ENOTSOCK EBADF EINVAL EINVAL    EINVAL EINVAL       EINVAL        EINVAL     EINVAL
        bad          EBADF     ENOTSOCK EBADF EPIPE  EFAULT    EPIPE  EFAULT       EFAULT        EOPNOTSUPP EISCONN
        oob          EBADF     ENOTSOCK EBADF EPIPE  4         EPIPE  EOPNOTSUPP   EOPNOTSUPP    .          .
        too-big      .         .        .     EPIPE  .         EPIPE  EMSGSIZE     EMSGSIZE      EOPNOTSUPP EISCONN
        fast-open    .         .        .     EINVAL .         .      .            .             .          .
    """, data_sent)  # fmt: skip


@behaviour("multiplexer.dispatch.recvfrom", f"{SOURCE}; recvfrom(2); __sys_recvfrom, move_addr_to_user")
def test_recvfrom(dispatch):
    """socketcall(12, {fd, buf, len, flags, addr, addrlen}) returns what recvfrom(fd, buf, len, flags, addr,
    addrlen) returns, in every state of the descriptor, and writes the data, the sender's address as far as there is room
    and its whole length, 0 for a connected stream.
    """
    data = (FD, buffer(8), 8, NOW)
    rows = {
        "none": (*data, 0, 0),
        "only-length": (*data, 0, BAD),
        "address": (*data, buffer(16), length(16)),
        "large": (*data, buffer(128), length(128)),
        "short": (*data, buffer(4), length(4)),
        "empty": (*data, BAD, length(0)),
        "negative": (*data, buffer(16), length(-1)),
        "no-length": (*data, buffer(16), 0),
        "bad-address": (*data, BAD, length(16)),
        "bad-length": (*data, buffer(16), BAD),
        "bad": (FD, BAD, 8, NOW, buffer(16), length(16)),
        "peek": (FD, buffer(2), 2, NOW | PEEK, buffer(16), length(16)),
        "long": (FD, buffer(4), 0x10002, NOW, 0, 0),
    }
    dispatch.judge("recvfrom", rows, """
                    minus-one pipe     tcp      connected sent   ended  udp    udp-sent unix   unix-pair unix-sent
        none        EBADF     ENOTSOCK ENOTCONN EAGAIN    4      0      EAGAIN 4        EINVAL EAGAIN    4
        only-length EBADF     ENOTSOCK ENOTCONN EAGAIN    4      0      EAGAIN 4        EINVAL EAGAIN    4
        address     EBADF     ENOTSOCK ENOTCONN EAGAIN    4      0      EAGAIN 4        EINVAL EAGAIN    4
        large       EBADF     ENOTSOCK ENOTCONN EAGAIN    4      0      EAGAIN 4        EINVAL EAGAIN    4
        short       EBADF     ENOTSOCK ENOTCONN EAGAIN    4      0      EAGAIN 4        EINVAL EAGAIN    4
        empty       EBADF     ENOTSOCK ENOTCONN EAGAIN    4      0      EAGAIN 4        EINVAL EAGAIN    4
        negative    EBADF     ENOTSOCK ENOTCONN EAGAIN    EINVAL EINVAL EAGAIN EINVAL   EINVAL EAGAIN    EINVAL
        no-length   EBADF     ENOTSOCK ENOTCONN EAGAIN    EFAULT EFAULT EAGAIN EFAULT   EINVAL EAGAIN    EFAULT
        bad-address EBADF     ENOTSOCK ENOTCONN EAGAIN    4      0      EAGAIN EFAULT   EINVAL EAGAIN    4
        bad-length  EBADF     ENOTSOCK ENOTCONN EAGAIN    EFAULT EFAULT EAGAIN EFAULT   EINVAL EAGAIN    EFAULT
        bad         EBADF     ENOTSOCK ENOTCONN EAGAIN    EFAULT 0      EAGAIN EFAULT   EINVAL EAGAIN    EFAULT
        peek        EBADF     ENOTSOCK ENOTCONN EAGAIN    2      0      EAGAIN 2        EINVAL EAGAIN    2
        long        .         .        .        .         4      0      .      4        .      .         4
    """, data_and_name)  # fmt: skip
