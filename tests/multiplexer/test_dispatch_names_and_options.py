"""Operations on names and options behave as the direct calls do, errors and their order included.

The tables hold the result that both routes must return: a column is the state of the descriptor (dispatch_table.py), a row
the argument words.
"""

import socket
import struct

import pytest

from probes.testing import behaviour
from tests.multiplexer.call_words import BAD, FD, PointerTo, buffer, length

pytestmark = pytest.mark.routes("both")

SOURCE = "socketcall(2); S1 `switch (call)`; S4 1.5 steps 3 and 4"
SOL, NO_LEVEL, NO_OPTION = socket.SOL_SOCKET, 9999, 0x7FFF
ONE = PointerTo(struct.pack("<i", 1))

#: The words of getsockname and getpeername.
NAME_WORDS = {
    "room": (FD, buffer(16), length(16)),
    "large": (FD, buffer(128), length(128)),
    "short": (FD, buffer(3), length(3)),
    "empty": (FD, BAD, length(0)),
    "negative": (FD, buffer(16), length(-1)),
    "null": (FD, 0, length(16)),
    "no-length": (FD, buffer(16), 0),
    "bad-address": (FD, BAD, length(16)),
    "bad-length": (FD, buffer(16), BAD),
    "cut-off": (FD, buffer(1), length(16)),
}


@behaviour("multiplexer.dispatch.getsockname", f"{SOURCE}; getsockname(2); __sys_getsockname, move_addr_to_user")
def test_getsockname(dispatch):
    """socketcall(6, {fd, addr, addrlen}) returns what getsockname(fd, addr, addrlen) returns, in every state of the
    descriptor, and writes the same address and length.
    """
    dispatch.judge("getsockname", NAME_WORDS, """
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
def test_getpeername(dispatch):
    """socketcall(7, {fd, addr, addrlen}) returns what getpeername(fd, addr, addrlen) returns, in every state of the
    descriptor, and writes the same address and length.
    """
    dispatch.judge("getpeername", NAME_WORDS, """
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
def test_setsockopt(dispatch):
    """socketcall(14, {fd, level, name, val, len}) returns what setsockopt(fd, level, name, val, len) returns, in
    every state of the descriptor, and leaves the sockets alike.
    """
    rows = {
        "reuse": (FD, SOL, socket.SO_REUSEADDR, ONE, 4),
        "longer": (FD, SOL, socket.SO_KEEPALIVE, PointerTo(b"\1" + bytes(7)), 8),
        "timeout": (FD, SOL, socket.SO_RCVTIMEO, PointerTo(struct.pack("<ii", 1, 0)), 8),
        "linger": (FD, SOL, socket.SO_LINGER, PointerTo(struct.pack("<ii", 1, 0)), 8),
        "linger-short": (FD, SOL, socket.SO_LINGER, ONE, 4),
        "ttl": (FD, socket.IPPROTO_IP, socket.IP_TTL, PointerTo(struct.pack("<i", 9)), 4),
        "ttl-0": (FD, socket.IPPROTO_IP, socket.IP_TTL, PointerTo(bytes(4)), 4),
        "nodelay": (FD, socket.IPPROTO_TCP, socket.TCP_NODELAY, ONE, 4),
        "short": (FD, SOL, socket.SO_REUSEADDR, ONE, 3),
        "empty": (FD, SOL, socket.SO_REUSEADDR, ONE, 0),
        "read-only": (FD, SOL, socket.SO_TYPE, ONE, 4),
        "no-option": (FD, SOL, NO_OPTION, ONE, 4),
        "no-level": (FD, NO_LEVEL, 1, ONE, 4),
        "null": (FD, SOL, socket.SO_REUSEADDR, 0, 4),
        "bad": (FD, SOL, socket.SO_REUSEADDR, BAD, 4),
        "cut-off": (FD, SOL, socket.SO_REUSEADDR, PointerTo(bytes(3)), 4),
        "bad-short": (FD, SOL, socket.SO_REUSEADDR, BAD, 3),
        "bad-option": (FD, SOL, NO_OPTION, BAD, 4),
    }
    dispatch.judge("setsockopt", rows, """
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
def test_setsockopt_negative(dispatch):
    """setsockopt with a negative length fails with EINVAL over both routes, before the kernel reads the value."""
    rows = {"negative": (FD, SOL, socket.SO_REUSEADDR, ONE, -1), "bad": (FD, SOL, socket.SO_REUSEADDR, BAD, -1)}
    dispatch.judge("setsockopt", rows, """
                 tcp    listening connected udp    unix   unix-pair
        negative EINVAL EINVAL    EINVAL    EINVAL EINVAL EINVAL
        bad      EINVAL EINVAL    EINVAL    EINVAL EINVAL EINVAL
    """)  # fmt: skip


@behaviour("multiplexer.dispatch.getsockopt", f"{SOURCE}; getsockopt(2); __sys_getsockopt, sock_getsockopt")
def test_getsockopt(dispatch):
    """socketcall(15, {fd, level, name, val, len}) returns what getsockopt(fd, level, name, val, len) returns, in
    every state of the descriptor, and writes the same value and length.
    """
    rows = {
        "type": (FD, SOL, socket.SO_TYPE, buffer(4), length(4)),
        "longer": (FD, SOL, socket.SO_TYPE, buffer(8), length(8)),
        "short": (FD, SOL, socket.SO_DOMAIN, buffer(1), length(1)),
        "empty": (FD, SOL, socket.SO_TYPE, BAD, length(0)),
        "timeout": (FD, SOL, socket.SO_RCVTIMEO, buffer(8), length(8)),
        "linger": (FD, SOL, socket.SO_LINGER, buffer(8), length(8)),
        "credentials": (FD, SOL, socket.SO_PEERCRED, buffer(12), length(12)),
        "ttl": (FD, socket.IPPROTO_IP, socket.IP_TTL, buffer(4), length(4)),
        "nodelay": (FD, socket.IPPROTO_TCP, socket.TCP_NODELAY, buffer(4), length(4)),
        "negative": (FD, SOL, socket.SO_TYPE, buffer(4), length(-1)),
        "no-option": (FD, SOL, NO_OPTION, buffer(4), length(4)),
        "no-level": (FD, NO_LEVEL, 1, buffer(4), length(4)),
        "null": (FD, SOL, socket.SO_TYPE, 0, length(4)),
        "bad": (FD, SOL, socket.SO_TYPE, BAD, length(4)),
        "bad-length": (FD, SOL, socket.SO_TYPE, buffer(4), BAD),
        "no-length": (FD, SOL, socket.SO_TYPE, buffer(4), 0),
        "bad-and-option": (FD, SOL, NO_OPTION, BAD, BAD),
    }
    dispatch.judge("getsockopt", rows, """
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
