"""Operations that ask and set names and options do what the direct calls do, errors and their order included.

The tables say what both routes answer: a column is the state of the descriptor (route_states.py), a row the words.
"""

import socket
import struct

import pytest

from probes.testing import behaviour
from tests.multiplexer.route_words import BAD, FD, Put, length, room

pytestmark = pytest.mark.routes("socketcall")

SOURCE = "socketcall(2); S1 `switch (call)`; S4 1.5 steps 3 and 4"
SOL, NO_LEVEL, NO_OPTION = socket.SOL_SOCKET, 9999, 0x7FFF
ONE = Put(struct.pack("<i", 1))

#: The words of getsockname and getpeername.
NAME = {
    "room": (FD, room(16), length(16)),
    "large": (FD, room(128), length(128)),
    "short": (FD, room(3), length(3)),
    "empty": (FD, BAD, length(0)),
    "negative": (FD, room(16), length(-1)),
    "null": (FD, 0, length(16)),
    "no-length": (FD, room(16), 0),
    "bad-address": (FD, BAD, length(16)),
    "bad-length": (FD, room(16), BAD),
    "cut-off": (FD, room(1), length(16)),
}


@behaviour("multiplexer.dispatch.getsockname", f"{SOURCE}; getsockname(2); __sys_getsockname, move_addr_to_user")
def test_getsockname(both):
    """Operation 6 is getsockname."""
    both.judge("getsockname", NAME, """
                    minus-one pipe     path  tcp    bound  listening connected udp    udp-connected unix   unix-pair
        room        EBADF     ENOTSOCK EBADF 0      0      0         0         0      0             0      0
        large       EBADF     ENOTSOCK EBADF 0      0      0         0         0      0             0      0
        short       EBADF     ENOTSOCK EBADF 0      0      0         0         0      0             0      0
        empty       EBADF     ENOTSOCK EBADF 0      0      0         0         0      0             0      0
        negative    EBADF     ENOTSOCK EBADF EINVAL EINVAL EINVAL    EINVAL    EINVAL EINVAL        EINVAL EINVAL
        null        EBADF     ENOTSOCK EBADF EFAULT EFAULT EFAULT    EFAULT    EFAULT EFAULT        EFAULT EFAULT
        no-length   EBADF     ENOTSOCK EBADF EFAULT EFAULT EFAULT    EFAULT    EFAULT EFAULT        EFAULT EFAULT
        bad-address EBADF     ENOTSOCK EBADF EFAULT EFAULT EFAULT    EFAULT    EFAULT EFAULT        EFAULT EFAULT
        bad-length  EBADF     ENOTSOCK EBADF EFAULT EFAULT EFAULT    EFAULT    EFAULT EFAULT        EFAULT EFAULT
        cut-off     EBADF     ENOTSOCK EBADF EFAULT EFAULT EFAULT    EFAULT    EFAULT EFAULT        EFAULT EFAULT
    """)  # fmt: skip


@behaviour("multiplexer.dispatch.getpeername", f"{SOURCE}; getpeername(2); __sys_getpeername, inet_getname")
def test_getpeername(both):
    """Operation 7 is getpeername."""
    both.judge("getpeername", NAME, """
                    minus-one pipe     tcp      bound    listening connected udp      udp-connected unix     unix-pair
        room        EBADF     ENOTSOCK ENOTCONN ENOTCONN ENOTCONN  0         ENOTCONN 0             ENOTCONN 0
        large       EBADF     ENOTSOCK ENOTCONN ENOTCONN ENOTCONN  0         ENOTCONN 0             ENOTCONN 0
        short       EBADF     ENOTSOCK ENOTCONN ENOTCONN ENOTCONN  0         ENOTCONN 0             ENOTCONN 0
        empty       EBADF     ENOTSOCK ENOTCONN ENOTCONN ENOTCONN  0         ENOTCONN 0             ENOTCONN 0
        negative    EBADF     ENOTSOCK ENOTCONN ENOTCONN ENOTCONN  EINVAL    ENOTCONN EINVAL        ENOTCONN EINVAL
        null        EBADF     ENOTSOCK ENOTCONN ENOTCONN ENOTCONN  EFAULT    ENOTCONN EFAULT        ENOTCONN EFAULT
        no-length   EBADF     ENOTSOCK ENOTCONN ENOTCONN ENOTCONN  EFAULT    ENOTCONN EFAULT        ENOTCONN EFAULT
        bad-address EBADF     ENOTSOCK ENOTCONN ENOTCONN ENOTCONN  EFAULT    ENOTCONN EFAULT        ENOTCONN EFAULT
        bad-length  EBADF     ENOTSOCK ENOTCONN ENOTCONN ENOTCONN  EFAULT    ENOTCONN EFAULT        ENOTCONN EFAULT
        cut-off     EBADF     ENOTSOCK ENOTCONN ENOTCONN ENOTCONN  EFAULT    ENOTCONN EFAULT        ENOTCONN EFAULT
    """)  # fmt: skip


@behaviour("multiplexer.dispatch.setsockopt", f"{SOURCE}; setsockopt(2); __sys_setsockopt, sock_setsockopt")
def test_setsockopt(both):
    """Operation 14 is setsockopt."""
    rows = {
        "reuse": (FD, SOL, socket.SO_REUSEADDR, ONE, 4),
        "longer": (FD, SOL, socket.SO_KEEPALIVE, Put(b"\1" + bytes(7)), 8),
        "timeout": (FD, SOL, socket.SO_RCVTIMEO, Put(struct.pack("<ii", 1, 0)), 8),
        "linger": (FD, SOL, socket.SO_LINGER, Put(struct.pack("<ii", 1, 0)), 8),
        "linger-short": (FD, SOL, socket.SO_LINGER, ONE, 4),
        "ttl": (FD, socket.IPPROTO_IP, socket.IP_TTL, Put(struct.pack("<i", 9)), 4),
        "ttl-0": (FD, socket.IPPROTO_IP, socket.IP_TTL, Put(bytes(4)), 4),
        "nodelay": (FD, socket.IPPROTO_TCP, socket.TCP_NODELAY, ONE, 4),
        "short": (FD, SOL, socket.SO_REUSEADDR, ONE, 3),
        "empty": (FD, SOL, socket.SO_REUSEADDR, ONE, 0),
        "read-only": (FD, SOL, socket.SO_TYPE, ONE, 4),
        "no-option": (FD, SOL, NO_OPTION, ONE, 4),
        "no-level": (FD, NO_LEVEL, 1, ONE, 4),
        "null": (FD, SOL, socket.SO_REUSEADDR, 0, 4),
        "bad": (FD, SOL, socket.SO_REUSEADDR, BAD, 4),
        "cut-off": (FD, SOL, socket.SO_REUSEADDR, Put(bytes(3)), 4),
        "bad-short": (FD, SOL, socket.SO_REUSEADDR, BAD, 3),
        "bad-option": (FD, SOL, NO_OPTION, BAD, 4),
    }
    both.judge("setsockopt", rows, """
                     minus-one pipe     path  tcp         listening   connected   udp         unix        unix-pair
        reuse        EBADF     ENOTSOCK EBADF 0           0           0           0           0           0
        longer       EBADF     ENOTSOCK EBADF 0           0           0           0           0           0
        timeout      EBADF     ENOTSOCK EBADF 0           0           0           0           0           0
        linger       EBADF     ENOTSOCK EBADF 0           0           0           0           0           0
        linger-short EBADF     ENOTSOCK EBADF EINVAL      EINVAL      EINVAL      EINVAL      EINVAL      EINVAL
        ttl          EBADF     ENOTSOCK EBADF 0           0           0           0           EOPNOTSUPP  EOPNOTSUPP
        ttl-0        EBADF     ENOTSOCK EBADF EINVAL      EINVAL      EINVAL      EINVAL      EOPNOTSUPP  EOPNOTSUPP
        nodelay      EBADF     ENOTSOCK EBADF 0           0           0           ENOPROTOOPT EOPNOTSUPP  EOPNOTSUPP
        short        EBADF     ENOTSOCK EBADF EINVAL      EINVAL      EINVAL      EINVAL      EINVAL      EINVAL
        empty        EBADF     ENOTSOCK EBADF EINVAL      EINVAL      EINVAL      EINVAL      EINVAL      EINVAL
        read-only    EBADF     ENOTSOCK EBADF ENOPROTOOPT ENOPROTOOPT ENOPROTOOPT ENOPROTOOPT ENOPROTOOPT ENOPROTOOPT
        no-option    EBADF     ENOTSOCK EBADF ENOPROTOOPT ENOPROTOOPT ENOPROTOOPT ENOPROTOOPT ENOPROTOOPT ENOPROTOOPT
        no-level     EBADF     ENOTSOCK EBADF ENOPROTOOPT ENOPROTOOPT ENOPROTOOPT ENOPROTOOPT EOPNOTSUPP  EOPNOTSUPP
        null         EBADF     ENOTSOCK EBADF EFAULT      EFAULT      EFAULT      EFAULT      EFAULT      EFAULT
        bad          EBADF     ENOTSOCK EBADF EFAULT      EFAULT      EFAULT      EFAULT      EFAULT      EFAULT
        cut-off      EBADF     ENOTSOCK EBADF EFAULT      EFAULT      EFAULT      EFAULT      EFAULT      EFAULT
        bad-short    EBADF     ENOTSOCK EBADF EINVAL      EINVAL      EINVAL      EINVAL      EINVAL      EINVAL
        bad-option   EBADF     ENOTSOCK EBADF EFAULT      EFAULT      EFAULT      EFAULT      EFAULT      EFAULT
    """)  # fmt: skip


@behaviour("multiplexer.dispatch.setsockopt-negative", f"{SOURCE}; setsockopt(2) EINVAL; __sys_setsockopt")
def test_setsockopt_negative(both):
    """A negative length of an option is refused over both routes before its value is read."""
    rows = {"negative": (FD, SOL, socket.SO_REUSEADDR, ONE, -1), "bad": (FD, SOL, socket.SO_REUSEADDR, BAD, -1)}
    both.judge("setsockopt", rows, """
                 tcp    listening connected udp    unix   unix-pair
        negative EINVAL EINVAL    EINVAL    EINVAL EINVAL EINVAL
        bad      EINVAL EINVAL    EINVAL    EINVAL EINVAL EINVAL
    """)  # fmt: skip


@behaviour("multiplexer.dispatch.getsockopt", f"{SOURCE}; getsockopt(2); __sys_getsockopt, sock_getsockopt")
def test_getsockopt(both):
    """Operation 15 is getsockopt."""
    rows = {
        "type": (FD, SOL, socket.SO_TYPE, room(4), length(4)),
        "longer": (FD, SOL, socket.SO_TYPE, room(8), length(8)),
        "short": (FD, SOL, socket.SO_DOMAIN, room(1), length(1)),
        "empty": (FD, SOL, socket.SO_TYPE, BAD, length(0)),
        "timeout": (FD, SOL, socket.SO_RCVTIMEO, room(8), length(8)),
        "linger": (FD, SOL, socket.SO_LINGER, room(8), length(8)),
        "credentials": (FD, SOL, socket.SO_PEERCRED, room(12), length(12)),
        "ttl": (FD, socket.IPPROTO_IP, socket.IP_TTL, room(4), length(4)),
        "nodelay": (FD, socket.IPPROTO_TCP, socket.TCP_NODELAY, room(4), length(4)),
        "negative": (FD, SOL, socket.SO_TYPE, room(4), length(-1)),
        "no-option": (FD, SOL, NO_OPTION, room(4), length(4)),
        "no-level": (FD, NO_LEVEL, 1, room(4), length(4)),
        "null": (FD, SOL, socket.SO_TYPE, 0, length(4)),
        "bad": (FD, SOL, socket.SO_TYPE, BAD, length(4)),
        "bad-length": (FD, SOL, socket.SO_TYPE, room(4), BAD),
        "no-length": (FD, SOL, socket.SO_TYPE, room(4), 0),
        "bad-and-option": (FD, SOL, NO_OPTION, BAD, BAD),
    }
    both.judge("getsockopt", rows, """
                       minus-one pipe     path  tcp         listening   connected   udp         unix        unix-pair
        type           EBADF     ENOTSOCK EBADF 0           0           0           0           0           0
        longer         EBADF     ENOTSOCK EBADF 0           0           0           0           0           0
        short          EBADF     ENOTSOCK EBADF 0           0           0           0           0           0
        empty          EBADF     ENOTSOCK EBADF 0           0           0           0           0           0
        timeout        EBADF     ENOTSOCK EBADF 0           0           0           0           0           0
        linger         EBADF     ENOTSOCK EBADF 0           0           0           0           0           0
        credentials    EBADF     ENOTSOCK EBADF 0           0           0           0           0           0
        ttl            EBADF     ENOTSOCK EBADF 0           0           0           0           EOPNOTSUPP  EOPNOTSUPP
        nodelay        EBADF     ENOTSOCK EBADF 0           0           0           EOPNOTSUPP  EOPNOTSUPP  EOPNOTSUPP
        negative       EBADF     ENOTSOCK EBADF EINVAL      EINVAL      EINVAL      EINVAL      EINVAL      EINVAL
        no-option      EBADF     ENOTSOCK EBADF ENOPROTOOPT ENOPROTOOPT ENOPROTOOPT ENOPROTOOPT ENOPROTOOPT ENOPROTOOPT
        no-level       EBADF     ENOTSOCK EBADF EOPNOTSUPP  EOPNOTSUPP  EOPNOTSUPP  EOPNOTSUPP  EOPNOTSUPP  EOPNOTSUPP
        null           EBADF     ENOTSOCK EBADF EFAULT      EFAULT      EFAULT      EFAULT      EFAULT      EFAULT
        bad            EBADF     ENOTSOCK EBADF EFAULT      EFAULT      EFAULT      EFAULT      EFAULT      EFAULT
        bad-length     EBADF     ENOTSOCK EBADF EFAULT      EFAULT      EFAULT      EFAULT      EFAULT      EFAULT
        no-length      EBADF     ENOTSOCK EBADF EFAULT      EFAULT      EFAULT      EFAULT      EFAULT      EFAULT
        bad-and-option EBADF     ENOTSOCK EBADF EFAULT      EFAULT      EFAULT      EFAULT      EFAULT      EFAULT
    """)  # fmt: skip
