"""Operations that take messages do what the direct calls do, errors and their order included.

The tables say what both routes answer: a column is the state of the descriptor (route_states.py), a row the words.
Of control data there is only what native i386 and x86-64 agree on.
"""

import os
import socket
import struct

import pytest

from probes.testing import behaviour
from tests.multiplexer.route_states import DATA, SERVER
from tests.multiplexer.route_words import BAD, FD, Put, Words, inet, message, messages, room

pytestmark = pytest.mark.routes("socketcall")

SOURCE = "socketcall(2); S1 `switch (call)`; S4 1.5 steps 3 and 4"
QUIET, NOW, OOB, PEEK, ONE = (
    socket.MSG_NOSIGNAL, socket.MSG_DONTWAIT, socket.MSG_OOB, socket.MSG_PEEK, 0x10000
)  # fmt: skip
ADDRESS = inet(SERVER[1])
#: More than UIO_MAXIOV, the most parts that a message may have.
TOO_MANY = 1025


def arrives(row, expected):
    """What was sent, the other end gets."""
    return expected > 0


def rights(descriptor):
    """Control data: struct cmsghdr of SCM_RIGHTS, 16 bytes."""
    return Words((16, socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptor))


@behaviour("multiplexer.dispatch.sendmsg", f"{SOURCE}; sendmsg(2); __sys_sendmsg, ___sys_sendmsg, get_compat_msghdr")
def test_sendmsg(both):
    """Operation 16 is sendmsg."""
    data = (Put(DATA), 4)
    own = Words((24, socket.SOL_SOCKET, socket.SCM_CREDENTIALS, os.getpid(), os.getuid(), os.getgid()))
    rows = {
        "one": (FD, message(data), QUIET),
        "two": (FD, message((Put(b"da"), 2), (Put(b"ta"), 2)), QUIET),
        "null-part": (FD, message((0, 0), data), QUIET),
        "name": (FD, message(data, name=Put(ADDRESS), namelen=16), QUIET),
        "long-name": (FD, message(data, name=Put(ADDRESS.ljust(128, b"\0")), namelen=1000), QUIET),
        "null-name": (FD, message(data, namelen=-1), QUIET),
        "negative": (FD, message(data, name=Put(ADDRESS), namelen=-1), QUIET),
        "short-name": (FD, message(data, name=Put(ADDRESS), namelen=15), QUIET),
        "cut-off-name": (FD, message(data, name=Put(ADDRESS), namelen=17), QUIET),
        "too-many": (FD, message(data, count=TOO_MANY), QUIET),
        "part-length": (FD, message((Put(DATA), -1)), QUIET),
        "bad": (FD, BAD, QUIET),
        "cut-off": (FD, Put(bytes(27)), QUIET),
        "bad-vector": (FD, Words((0, 0, BAD, 1, 0, 0, 0)), QUIET),
        "bad-part": (FD, message((BAD, 4)), QUIET),
        "oob": (FD, message(data), QUIET | OOB),
        "rights": (FD, message(data, control=rights(FD), controllen=16), QUIET),
        "no-rights": (FD, message(data, control=rights(-1), controllen=16), QUIET),
        "credentials": (FD, message(data, control=own, controllen=24), QUIET),
        "long-control": (FD, message(data, control=own, controllen=-1), QUIET),
    }
    both.judge("sendmsg", rows, """
                     minus-one pipe     tcp      connected shut     udp-served   udp-connected unix       unix-pair
        one          EBADF     ENOTSOCK EPIPE    4         EPIPE    EDESTADDRREQ 4             ENOTCONN   4
        two          EBADF     ENOTSOCK EPIPE    4         EPIPE    EDESTADDRREQ 4             ENOTCONN   4
        null-part    EBADF     ENOTSOCK EPIPE    4         EPIPE    EDESTADDRREQ 4             ENOTCONN   4
        name         EBADF     ENOTSOCK EPIPE    4         EPIPE    4            4             EOPNOTSUPP EISCONN
        long-name    EBADF     ENOTSOCK EPIPE    4         EPIPE    4            4             EOPNOTSUPP EISCONN
        null-name    EBADF     ENOTSOCK EPIPE    4         EPIPE    EDESTADDRREQ 4             ENOTCONN   4
        negative     EBADF     ENOTSOCK EINVAL   EINVAL    EINVAL   EINVAL       EINVAL        EINVAL     EINVAL
        short-name   EBADF     ENOTSOCK EPIPE    4         EPIPE    EINVAL       EINVAL        EOPNOTSUPP EISCONN
        cut-off-name EBADF     ENOTSOCK EFAULT   EFAULT    EFAULT   EFAULT       EFAULT        EFAULT     EFAULT
        too-many     EBADF     ENOTSOCK EMSGSIZE EMSGSIZE  EMSGSIZE EMSGSIZE     EMSGSIZE      EMSGSIZE   EMSGSIZE
        part-length  EBADF     ENOTSOCK EINVAL   EINVAL    EINVAL   EINVAL       EINVAL        EINVAL     EINVAL
        bad          EBADF     ENOTSOCK EFAULT   EFAULT    EFAULT   EFAULT       EFAULT        EFAULT     EFAULT
        cut-off      EBADF     ENOTSOCK EFAULT   EFAULT    EFAULT   EFAULT       EFAULT        EFAULT     EFAULT
        bad-vector   EBADF     ENOTSOCK EFAULT   EFAULT    EFAULT   EFAULT       EFAULT        EFAULT     EFAULT
        bad-part     EBADF     ENOTSOCK EPIPE    EFAULT    EPIPE    EDESTADDRREQ EFAULT        ENOTCONN   EFAULT
        oob          EBADF     ENOTSOCK EPIPE    4         EPIPE    EOPNOTSUPP   EOPNOTSUPP    .          .
        rights       EBADF     ENOTSOCK EPIPE    4         EPIPE    EDESTADDRREQ 4             ENOTCONN   4
        no-rights    EBADF     ENOTSOCK EPIPE    4         EPIPE    EDESTADDRREQ 4             EBADF      EBADF
        credentials  EBADF     ENOTSOCK EPIPE    4         EPIPE    EDESTADDRREQ 4             ENOTCONN   4
        long-control EBADF     ENOTSOCK ENOBUFS  ENOBUFS   ENOBUFS  ENOBUFS      ENOBUFS       ENOBUFS    ENOBUFS
    """, arrives)  # fmt: skip


@behaviour("multiplexer.dispatch.recvmsg", f"{SOURCE}; recvmsg(2); __sys_recvmsg, ___sys_recvmsg, get_compat_msghdr")
def test_recvmsg(both):
    """Operation 17 is recvmsg."""
    data = (room(8), 8)
    rows = {
        "one": (FD, message(data), NOW),
        "two": (FD, message((room(2), 2), (room(2), 2)), NOW),
        "short": (FD, message((room(2), 2)), NOW),
        "peek": (FD, message(data), NOW | PEEK),
        "no-part": (FD, message(), NOW),
        "name": (FD, message(data, name=room(16), namelen=16), NOW),
        "short-name": (FD, message(data, name=room(3), namelen=3), NOW),
        "null-name": (FD, message(data, namelen=16), NOW),
        "negative": (FD, message(data, name=room(16), namelen=-1), NOW),
        "control": (FD, message(data, control=room(64), controllen=64), NOW),
        "too-many": (FD, message(data, count=TOO_MANY), NOW),
        "part-length": (FD, message((room(8), -1)), NOW),
        "bad": (FD, BAD, NOW),
        "cut-off": (FD, Put(bytes(27)), NOW),
        "bad-vector": (FD, Words((0, 0, BAD, 1, 0, 0, 0)), NOW),
        "bad-part": (FD, message((BAD, 4)), NOW),
        "bad-name": (FD, message(data, name=BAD, namelen=16), NOW),
    }
    both.judge("recvmsg", rows, """
                    minus-one pipe     tcp      connected sent     ended    udp      udp-sent unix-pair unix-sent
        one         EBADF     ENOTSOCK ENOTCONN EAGAIN    4        0        EAGAIN   4        EAGAIN    4
        two         EBADF     ENOTSOCK ENOTCONN EAGAIN    4        0        EAGAIN   4        EAGAIN    4
        short       EBADF     ENOTSOCK ENOTCONN EAGAIN    2        0        EAGAIN   2        EAGAIN    2
        peek        EBADF     ENOTSOCK ENOTCONN EAGAIN    4        0        EAGAIN   4        EAGAIN    4
        no-part     EBADF     ENOTSOCK ENOTCONN EAGAIN    0        0        EAGAIN   0        EAGAIN    0
        name        EBADF     ENOTSOCK ENOTCONN EAGAIN    4        0        EAGAIN   4        EAGAIN    4
        short-name  EBADF     ENOTSOCK ENOTCONN EAGAIN    4        0        EAGAIN   4        EAGAIN    4
        null-name   EBADF     ENOTSOCK ENOTCONN EAGAIN    4        0        EAGAIN   4        EAGAIN    4
        negative    EBADF     ENOTSOCK EINVAL   EINVAL    EINVAL   EINVAL   EINVAL   EINVAL   EINVAL    EINVAL
        control     EBADF     ENOTSOCK ENOTCONN EAGAIN    4        0        EAGAIN   4        EAGAIN    4
        too-many    EBADF     ENOTSOCK EMSGSIZE EMSGSIZE  EMSGSIZE EMSGSIZE EMSGSIZE EMSGSIZE EMSGSIZE  EMSGSIZE
        part-length EBADF     ENOTSOCK EINVAL   EINVAL    EINVAL   EINVAL   EINVAL   EINVAL   EINVAL    EINVAL
        bad         EBADF     ENOTSOCK EFAULT   EFAULT    EFAULT   EFAULT   EFAULT   EFAULT   EFAULT    EFAULT
        cut-off     EBADF     ENOTSOCK EFAULT   EFAULT    EFAULT   EFAULT   EFAULT   EFAULT   EFAULT    EFAULT
        bad-vector  EBADF     ENOTSOCK EFAULT   EFAULT    EFAULT   EFAULT   EFAULT   EFAULT   EFAULT    EFAULT
        bad-part    EBADF     ENOTSOCK ENOTCONN EAGAIN    EFAULT   0        EAGAIN   EFAULT   EAGAIN    EFAULT
        bad-name    EBADF     ENOTSOCK ENOTCONN EAGAIN    4        0        EAGAIN   EFAULT   EAGAIN    4
    """)  # fmt: skip


@behaviour("multiplexer.dispatch.sendmmsg", f"{SOURCE}; sendmmsg(2); __sys_sendmmsg")
def test_sendmmsg(both):
    """Operation 20 is sendmmsg."""
    data, bad = message((Put(DATA), 4)), message((BAD, 4))
    named = message((Put(DATA), 4), name=Put(ADDRESS), namelen=16)
    rows = {
        "none": (FD, messages(data), 0, QUIET),
        "bad-none": (FD, BAD, 0, QUIET),
        "one": (FD, messages(data), 1, QUIET),
        "two": (FD, messages(data, data), 2, QUIET),
        "named": (FD, messages(named, named), 2, QUIET),
        "first-bad": (FD, messages(bad, data), 2, QUIET),
        "second-bad": (FD, messages(data, bad), 2, QUIET),
        "cut-off": (FD, messages(data), 2, QUIET),
        "bad": (FD, BAD, 1, QUIET),
        "oob": (FD, messages(data), 1, QUIET | OOB),
    }
    both.judge("sendmmsg", rows, """
                   minus-one pipe     path  tcp    connected shut   udp-served   udp-connected unix       unix-pair
        none       EBADF     ENOTSOCK EBADF 0      0         0      0            0             0          0
        bad-none   EBADF     ENOTSOCK EBADF 0      0         0      0            0             0          0
        one        EBADF     ENOTSOCK EBADF EPIPE  1         EPIPE  EDESTADDRREQ 1             ENOTCONN   1
        two        EBADF     ENOTSOCK EBADF EPIPE  2         EPIPE  EDESTADDRREQ 2             ENOTCONN   2
        named      EBADF     ENOTSOCK EBADF EPIPE  2         EPIPE  2            2             EOPNOTSUPP EISCONN
        first-bad  EBADF     ENOTSOCK EBADF EPIPE  EFAULT    EPIPE  EDESTADDRREQ EFAULT        ENOTCONN   EFAULT
        second-bad EBADF     ENOTSOCK EBADF EPIPE  1         EPIPE  EDESTADDRREQ 1             ENOTCONN   1
        cut-off    EBADF     ENOTSOCK EBADF EPIPE  1         EPIPE  EDESTADDRREQ 1             ENOTCONN   1
        bad        EBADF     ENOTSOCK EBADF EFAULT EFAULT    EFAULT EFAULT       EFAULT        EFAULT     EFAULT
        oob        EBADF     ENOTSOCK EBADF EPIPE  1         EPIPE  EOPNOTSUPP   EOPNOTSUPP    .          .
    """, arrives)  # fmt: skip


@behaviour("multiplexer.dispatch.recvmmsg", f"{SOURCE}; recvmmsg(2); __sys_recvmmsg, do_recvmmsg")
def test_recvmmsg(both):
    """Operation 19 is recvmmsg with a timeout of 32-bit words."""
    data = message((room(8), 8))

    def timeout(seconds, nanoseconds):
        return Put(struct.pack("<ii", seconds, nanoseconds))

    rows = {
        "none": (FD, messages(data), 0, NOW, 0),
        "bad-none": (FD, BAD, 0, NOW, 0),
        "one": (FD, messages(data), 1, NOW, 0),
        "two": (FD, messages(data, data), 2, NOW, 0),
        "for-one": (FD, messages(data, data), 2, NOW | ONE, 0),
        "bad": (FD, BAD, 1, NOW, 0),
        "cut-off": (FD, messages(data), 2, NOW, 0),
        "at-once": (FD, messages(data, data), 2, NOW, timeout(0, 0)),
        "negative": (FD, messages(data), 1, NOW, timeout(-1, 0)),
        "nanoseconds": (FD, messages(data), 1, NOW, timeout(0, 1_000_000_000)),
        "bad-timeout": (FD, messages(data), 1, NOW, BAD),
        "cut-off-timeout": (FD, messages(data), 1, NOW, room(7)),
        "bad-and-timeout": (FD, BAD, 1, NOW, timeout(-1, 0)),
    }
    both.judge("recvmmsg", rows, """
                        minus-one pipe     tcp      connected sent   ended  udp    udp-sent unix   unix-pair unix-sent
        none            EBADF     ENOTSOCK 0        0         0      0      0      0        0      0         0
        bad-none        EBADF     ENOTSOCK 0        0         0      0      0      0        0      0         0
        one             EBADF     ENOTSOCK ENOTCONN EAGAIN    1      1      EAGAIN 1        EINVAL EAGAIN    1
        two             EBADF     ENOTSOCK ENOTCONN EAGAIN    1      2      EAGAIN 1        EINVAL EAGAIN    1
        for-one         EBADF     ENOTSOCK ENOTCONN EAGAIN    1      2      EAGAIN 1        EINVAL EAGAIN    1
        bad             EBADF     ENOTSOCK EFAULT   EFAULT    EFAULT EFAULT EFAULT EFAULT   EFAULT EFAULT    EFAULT
        cut-off         EBADF     ENOTSOCK ENOTCONN EAGAIN    1      1      EAGAIN 1        EINVAL EAGAIN    1
        at-once         EBADF     ENOTSOCK ENOTCONN EAGAIN    1      1      EAGAIN 1        EINVAL EAGAIN    1
        negative        EINVAL    EINVAL   EINVAL   EINVAL    EINVAL EINVAL EINVAL EINVAL   EINVAL EINVAL    EINVAL
        nanoseconds     EINVAL    EINVAL   EINVAL   EINVAL    EINVAL EINVAL EINVAL EINVAL   EINVAL EINVAL    EINVAL
        bad-timeout     EFAULT    EFAULT   EFAULT   EFAULT    EFAULT EFAULT EFAULT EFAULT   EFAULT EFAULT    EFAULT
        cut-off-timeout EFAULT    EFAULT   EFAULT   EFAULT    EFAULT EFAULT EFAULT EFAULT   EFAULT EFAULT    EFAULT
        bad-and-timeout EINVAL    EINVAL   EINVAL   EINVAL    EINVAL EINVAL EINVAL EINVAL   EINVAL EINVAL    EINVAL
    """)  # fmt: skip
