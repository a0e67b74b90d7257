"""Operations on names and options behave as the direct calls do, errors and their order included.

The tables hold the result that both routes must return: a column is the state of the descriptor (dispatch_table.py), a row
the argument words. A function beside each has what the call leaves.
"""

import os
import socket
import struct
from errno import EFAULT

import pytest

from probes.testing import behaviour
from probes.testing.states import CLIENT_PORT, SERVER_PORT
from tests.multiplexer.call_words import BAD, FD, PointerTo, buffer, inet, length, number, written
from tests.multiplexer.dispatch_effects import UNNAMED, unchanged
from tests.multiplexer.dispatch_table import UNSTATED, failing
from tests.multiplexer.socket_view import Found

pytestmark = pytest.mark.routes("both")

SOURCE = "socketcall(2); S1 `switch (call)`; S4 1.5 steps 3 and 4"
SOL = socket.SOL_SOCKET
#: No level and no option: their lower halves alone would be SOL_SOCKET, and SO_REUSEADDR or SO_TYPE.
NO_LEVEL, NO_OPTION, NO_VALUE = 0x10000 | SOL, 0x10000 | socket.SO_REUSEADDR, 0x10000 | socket.SO_TYPE
ONE = PointerTo(number(1))
DEFAULT_TTL = 64

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
#: The bytes that they have room for.
NAME_ROOMS = {"room": 16, "large": 128, "short": 3, "empty": 0}


def name_written(name: bytes, row: str, result: int | str) -> Found:
    """Returns what a call leaves that writes a name."""
    if not failing(result):
        wrote = {"addr": written(name, NAME_ROOMS[row])} if NAME_ROOMS[row] else {}
        return wrote | {"addrlen": number(len(name))}
    # Some kernels write the length first, and of the bytes those before the page that faults.
    return {"addr": UNSTATED, "addrlen": UNSTATED} if result == -EFAULT else {}


def own_name(row: str, column: str, result: int | str) -> Found:
    """Returns what getsockname leaves."""
    ports = {"bound": SERVER_PORT, "listening": SERVER_PORT, "connected": CLIENT_PORT, "udp-connected": CLIENT_PORT}
    name = UNNAMED if column.startswith("unix") else inet(ports[column]) if column in ports else inet(0, 0)
    return name_written(name, row, result)


def peers_name(row: str, column: str, result: int | str) -> Found:
    """Returns what getpeername leaves."""
    return name_written(UNNAMED if column == "unix-pair" else inet(SERVER_PORT), row, result)


@behaviour("multiplexer.dispatch.getsockname", f"{SOURCE}; getsockname(2); __sys_getsockname, move_addr_to_user")
def test_getsockname(dispatch):
    """socketcall(6, {fd, addr, addrlen}) returns what getsockname(fd, addr, addrlen) returns, in every state of the
    descriptor, and writes the name as far as there is room and its whole length.
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
    """, own_name)  # fmt: skip


@behaviour("multiplexer.dispatch.getpeername", f"{SOURCE}; getpeername(2); __sys_getpeername, inet_getname")
def test_getpeername(dispatch):
    """socketcall(7, {fd, addr, addrlen}) returns what getpeername(fd, addr, addrlen) returns, in every state of the
    descriptor, and writes the peer's name as far as there is room and its whole length.
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
    """, peers_name)  # fmt: skip


#: What a read of the option finds after each setsockopt.
OPTIONS_SET = {"linger": struct.pack("<ii", 1, 0), "ttl": number(9)}


@behaviour("multiplexer.dispatch.setsockopt", f"{SOURCE}; setsockopt(2); __sys_setsockopt, sock_setsockopt")
def test_setsockopt(dispatch, caller):
    """socketcall(14, {fd, level, name, val, len}) returns what setsockopt(fd, level, name, val, len) returns, in
    every state of the descriptor, and sets the option to the value.
    """
    # The option is read by this process where it has a copy of the descriptor: its struct timeval may be of 64 bits.
    options = OPTIONS_SET | {"timeout": struct.pack("@ll" if caller.lends else "<ii", 1, 0)}

    def option_set(row: str, column: str, result: int | str) -> Found:
        """Returns what setsockopt leaves."""
        return {} if failing(result) else {"option": options.get(row, number(1))}

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
        "no-level": (FD, NO_LEVEL, socket.SO_REUSEADDR, ONE, 4),
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
    """, option_set)  # fmt: skip


@behaviour("multiplexer.dispatch.setsockopt-negative", f"{SOURCE}; setsockopt(2) EINVAL; __sys_setsockopt")
def test_setsockopt_negative(dispatch):
    """setsockopt with a negative length fails with EINVAL over both routes, before the kernel reads the value."""
    rows = {"negative": (FD, SOL, socket.SO_REUSEADDR, ONE, -1), "bad": (FD, SOL, socket.SO_REUSEADDR, BAD, -1)}
    dispatch.judge("setsockopt", rows, """
                 tcp    listening connected udp    unix   unix-pair
        negative EINVAL EINVAL    EINVAL    EINVAL EINVAL EINVAL
        bad      EINVAL EINVAL    EINVAL    EINVAL EINVAL EINVAL
    """, unchanged)  # fmt: skip


@behaviour("multiplexer.dispatch.getsockopt", f"{SOURCE}; getsockopt(2); __sys_getsockopt, sock_getsockopt")
def test_getsockopt(dispatch, caller):
    """socketcall(15, {fd, level, name, val, len}) returns what getsockopt(fd, level, name, val, len) returns, in
    every state of the descriptor, and writes the value as far as there is room and its length.
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
        "no-option": (FD, SOL, NO_VALUE, buffer(4), length(4)),
        "no-level": (FD, NO_LEVEL, socket.SO_TYPE, buffer(4), length(4)),
        "null": (FD, SOL, socket.SO_TYPE, 0, length(4)),
        "bad": (FD, SOL, socket.SO_TYPE, BAD, length(4)),
        "bad-length": (FD, SOL, socket.SO_TYPE, buffer(4), BAD),
        "no-length": (FD, SOL, socket.SO_TYPE, buffer(4), 0),
        "bad-and-option": (FD, SOL, NO_VALUE, BAD, BAD),
    }

    def option_written(row: str, column: str, result: int | str) -> Found:
        """Returns what getsockopt leaves."""
        if failing(result) or row == "empty":
            return {}
        type_ = socket.SOCK_DGRAM if column == "udp" else socket.SOCK_STREAM
        family = socket.AF_UNIX if column.startswith("unix") else socket.AF_INET
        # A socket without a peer on this machine has no credentials of it.
        peer = (caller.pid, os.getuid(), os.getgid()) if column == "unix-pair" else (0, -1, -1)
        value = {
            "short": number(family)[:1], "timeout": bytes(8), "linger": bytes(8), "nodelay": bytes(4),
            "credentials": struct.pack("<3i", *peer), "ttl": number(DEFAULT_TTL),
        }.get(row, number(type_))  # fmt: skip
        return {"optval": written(value, 8 if row == "longer" else len(value)), "optlen": number(len(value))}

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
    """, option_written)  # fmt: skip
