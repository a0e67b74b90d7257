"""Operations that send and receive do what the direct calls do, errors and their order included.

The tables say what both routes answer: a column is the state of the descriptor (route_states.py), a row the words.
"""

import socket

import pytest

from probes.testing import behaviour
from tests.multiplexer.route_states import DATA, SERVER
from tests.multiplexer.route_words import BAD, FD, Put, inet, length, room

pytestmark = pytest.mark.routes("socketcall")

SOURCE = "socketcall(2); S1 `switch (call)`; S4 1.5 steps 3 and 4"
QUIET, NOW, OOB, PEEK, TRUNC = (
    socket.MSG_NOSIGNAL, socket.MSG_DONTWAIT, socket.MSG_OOB, socket.MSG_PEEK, socket.MSG_TRUNC
)  # fmt: skip
ADDRESS = inet(SERVER[1])


def arrives(row, expected):
    """What was sent, the other end gets."""
    return expected > 0


@behaviour("multiplexer.dispatch.send", f"{SOURCE}; send(2); __sys_sendto, tcp_sendmsg, udp_sendmsg")
def test_send(both):
    """Operation 9 is sendto without an address."""
    rows = {
        "data": (FD, Put(DATA), 4, QUIET),
        "empty": (FD, Put(b""), 0, QUIET),
        "bad": (FD, BAD, 4, QUIET),
        "cut-off": (FD, Put(b"da"), 4, QUIET),
        "oob": (FD, Put(DATA), 4, QUIET | OOB),
        "too-big": (FD, Put(bytes(70_000)), 70_000, QUIET),
    }
    both.judge("send", rows, """
                minus-one pipe     path  tcp   listening connected shut  udp          udp-connected unix     unix-pair
        data    EBADF     ENOTSOCK EBADF EPIPE EPIPE     4         EPIPE EDESTADDRREQ 4             ENOTCONN 4
        empty   EBADF     ENOTSOCK EBADF EPIPE EPIPE     0         EPIPE EDESTADDRREQ .             ENOTCONN 0
        bad     EBADF     ENOTSOCK EBADF EPIPE EPIPE     EFAULT    EPIPE EDESTADDRREQ EFAULT        ENOTCONN EFAULT
        cut-off EBADF     ENOTSOCK EBADF EPIPE EPIPE     EFAULT    EPIPE EDESTADDRREQ EFAULT        ENOTCONN EFAULT
        oob     EBADF     ENOTSOCK EBADF EPIPE EPIPE     4         EPIPE EOPNOTSUPP   EOPNOTSUPP    .        .
        too-big EBADF     ENOTSOCK EBADF EPIPE EPIPE     .         EPIPE EMSGSIZE     EMSGSIZE      ENOTCONN .
    """, arrives)  # fmt: skip


@behaviour("multiplexer.dispatch.recv", f"{SOURCE}; recv(2); __sys_recvfrom, tcp_recvmsg, sock_rcvlowat")
def test_recv(both):
    """Operation 10 is recvfrom without an address."""
    rows = {
        "now": (FD, room(8), 8, NOW),
        "wait": (FD, room(8), 8, 0),
        "short": (FD, room(2), 2, NOW),
        "peek": (FD, room(8), 8, NOW | PEEK),
        "trunc": (FD, room(2), 2, NOW | TRUNC),
        "empty": (FD, 0, 0, NOW),
        "bad": (FD, BAD, 8, NOW),
        "oob": (FD, room(8), 8, NOW | OOB),
        "errors": (FD, room(8), 8, NOW | 0x2000),
    }
    both.judge("recv", rows, """
               minus-one pipe     path  tcp      connected sent   ended  udp    udp-sent unix   unix-pair unix-sent
        now    EBADF     ENOTSOCK EBADF ENOTCONN EAGAIN    4      0      EAGAIN 4        EINVAL EAGAIN    4
        wait   EBADF     ENOTSOCK EBADF ENOTCONN .         4      0      .      4        EINVAL .         4
        short  EBADF     ENOTSOCK EBADF ENOTCONN EAGAIN    2      0      EAGAIN 2        EINVAL EAGAIN    2
        peek   EBADF     ENOTSOCK EBADF ENOTCONN EAGAIN    4      0      EAGAIN 4        EINVAL EAGAIN    4
        trunc  EBADF     ENOTSOCK EBADF ENOTCONN EAGAIN    2      0      EAGAIN 4        EINVAL EAGAIN    2
        empty  EBADF     ENOTSOCK EBADF ENOTCONN EAGAIN    0      0      EAGAIN 0        EINVAL EAGAIN    0
        bad    EBADF     ENOTSOCK EBADF ENOTCONN EAGAIN    EFAULT 0      EAGAIN EFAULT   EINVAL EAGAIN    EFAULT
        oob    EBADF     ENOTSOCK EBADF EINVAL   EINVAL    EINVAL EINVAL .      .        .      .         .
        errors EBADF     ENOTSOCK EBADF EAGAIN   EAGAIN    EAGAIN EAGAIN EAGAIN EAGAIN   .      .         .
    """)  # fmt: skip


@behaviour("multiplexer.dispatch.sendto", f"{SOURCE}; sendto(2); __sys_sendto, move_addr_to_kernel, udp_sendmsg")
def test_sendto(both):
    """Operation 11 is sendto."""
    data = (FD, Put(DATA), 4, QUIET)
    rows = {
        "server": (*data, Put(ADDRESS), 16),
        "unspec": (*data, Put(inet(SERVER[1], family=0)), 16),
        "none": (*data, 0, 0),
        "null": (*data, 0, 16),
        "short": (*data, Put(ADDRESS), 15),
        "empty": (*data, Put(ADDRESS), 0),
        "family": (*data, Put(inet(SERVER[1], family=99)), 16),
        "port-0": (*data, Put(inet(0)), 16),
        "broadcast": (*data, Put(inet(SERVER[1], 0x7FFFFFFF)), 16),
        "foreign": (*data, Put(inet(SERVER[1], 0xC0000201)), 16),
        "negative": (*data, Put(ADDRESS), -1),
        "too-long": (*data, Put(ADDRESS), 129),
        "bad-address": (*data, BAD, 16),
        "bad-negative": (FD, BAD, 4, QUIET, BAD, -1),
        "bad": (FD, BAD, 4, QUIET, Put(ADDRESS), 16),
        "oob": (FD, Put(DATA), 4, QUIET | OOB, Put(ADDRESS), 16),
    }
    both.judge("sendto", rows, """
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
    """, arrives)  # fmt: skip


@behaviour("multiplexer.dispatch.recvfrom", f"{SOURCE}; recvfrom(2); __sys_recvfrom, move_addr_to_user")
def test_recvfrom(both):
    """Operation 12 is recvfrom."""
    data = (FD, room(8), 8, NOW)
    rows = {
        "none": (*data, 0, 0),
        "only-length": (*data, 0, BAD),
        "address": (*data, room(16), length(16)),
        "large": (*data, room(128), length(128)),
        "short": (*data, room(4), length(4)),
        "empty": (*data, BAD, length(0)),
        "negative": (*data, room(16), length(-1)),
        "no-length": (*data, room(16), 0),
        "bad-address": (*data, BAD, length(16)),
        "bad-length": (*data, room(16), BAD),
        "bad": (FD, BAD, 8, NOW, room(16), length(16)),
        "peek": (FD, room(2), 2, NOW | PEEK, room(16), length(16)),
    }
    both.judge("recvfrom", rows, """
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
    """)  # fmt: skip
