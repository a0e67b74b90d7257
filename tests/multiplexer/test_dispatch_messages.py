"""Operations that take messages behave as the direct calls do, errors and their order included.

The tables hold the result that both routes must return: a column is the state of the descriptor (dispatch_table.py), a row
the argument words; message_effects.py has what the calls leave.
Control data is limited to what has the same layout on native i386 and in x86-64's ia32 entry.
"""

import os
import socket
import struct

import pytest

from probes.testing import behaviour
from probes.testing.states import DATA, SERVER_PORT
from tests.multiplexer.call_words import (
    BAD,
    FD,
    PointerTo,
    PointerToWords,
    buffer,
    control,
    control_room,
    inet,
    message,
    messages,
)
from tests.multiplexer.message_effects import (
    CLOEXEC,
    RIGHTS,
    message_received,
    message_sent,
    messages_received,
    messages_sent,
)

pytestmark = pytest.mark.routes("both")

SOURCE = "socketcall(2); S1 `switch (call)`; S4 1.5 steps 3 and 4"
QUIET, NOW, OOB, PEEK, ONE = (
    socket.MSG_NOSIGNAL, socket.MSG_DONTWAIT, socket.MSG_OOB, socket.MSG_PEEK, 0x10000
)  # fmt: skip
#: MSG_FASTOPEN connects and sends: tcp(7).
FAST_OPEN = 0x20000000
ADDRESS = inet(SERVER_PORT)
#: More than UIO_MAXIOV, the most parts that a message may have.
TOO_MANY = 1025


@behaviour("multiplexer.dispatch.sendmsg", f"{SOURCE}; sendmsg(2); __sys_sendmsg, ___sys_sendmsg, get_compat_msghdr")
def test_sendmsg(dispatch, caller):
    """socketcall(16, {fd, msg, flags}) returns what sendmsg(fd, msg, flags) returns, in every state of the
    descriptor, and the peer receives the data, with a descriptor of SCM_RIGHTS.
    """
    data = (PointerTo(DATA), 4)
    own = control(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, caller.pid, os.getuid(), os.getgid())
    rows = {
        "one": (FD, message(data), QUIET),
        "two": (FD, message((PointerTo(b"da"), 2), (PointerTo(b"ta"), 2)), QUIET),
        "null-part": (FD, message((0, 0), data), QUIET),
        "name": (FD, message(data, name=PointerTo(ADDRESS), namelen=16), QUIET),
        "long-name": (FD, message(data, name=PointerTo(ADDRESS.ljust(128, b"\0")), namelen=1000), QUIET),
        "null-name": (FD, message(data, namelen=-1), QUIET),
        "negative": (FD, message(data, name=PointerTo(ADDRESS), namelen=-1), QUIET),
        "short-name": (FD, message(data, name=PointerTo(ADDRESS), namelen=15), QUIET),
        "cut-off-name": (FD, message(data, name=PointerTo(ADDRESS), namelen=17), QUIET),
        "too-many": (FD, message(data, count=TOO_MANY), QUIET),
        "part-length": (FD, message((PointerTo(DATA), -1)), QUIET),
        "bad": (FD, BAD, QUIET),
        "cut-off": (FD, PointerTo(bytes(27)), QUIET),
        "bad-vector": (FD, PointerToWords((0, 0, BAD, 1, 0, 0, 0)), QUIET),
        "bad-part": (FD, message((BAD, 4)), QUIET),
        "oob": (FD, message(data), QUIET | OOB),
        "fast-open": (FD, message(data), QUIET | FAST_OPEN),
        "rights": (FD, message(data, control=control(*RIGHTS, FD), controllen=16), QUIET),
        "no-rights": (FD, message(data, control=control(*RIGHTS, -1), controllen=16), QUIET),
        "credentials": (FD, message(data, control=own, controllen=24), QUIET),
        "long-control": (FD, message(data, control=own, controllen=-1), QUIET),
    }
    dispatch.judge("sendmsg", rows, """
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
        fast-open    .         .        EINVAL   .         .        .            .             .          .
        rights       EBADF     ENOTSOCK EPIPE    4         EPIPE    EDESTADDRREQ 4             ENOTCONN   4
        no-rights    EBADF     ENOTSOCK EPIPE    4         EPIPE    EDESTADDRREQ 4             EBADF      EBADF
        credentials  EBADF     ENOTSOCK EPIPE    4         EPIPE    EDESTADDRREQ 4             ENOTCONN   4
        long-control EBADF     ENOTSOCK ENOBUFS  ENOBUFS   ENOBUFS  ENOBUFS      ENOBUFS       ENOBUFS    ENOBUFS
    """, message_sent)  # fmt: skip


@behaviour("multiplexer.dispatch.recvmsg", f"{SOURCE}; recvmsg(2); __sys_recvmsg, ___sys_recvmsg, get_compat_msghdr")
def test_recvmsg(dispatch):
    """socketcall(17, {fd, msg, flags}) returns what recvmsg(fd, msg, flags) returns, in every state of the
    descriptor, and writes the data, the sender's name, the control data in the i386 layout, their lengths and msg_flags:
    MSG_TRUNC, MSG_CTRUNC and the caller's MSG_CMSG_CLOEXEC.
    """
    data = (buffer(8), 8)
    rows = {
        "one": (FD, message(data), NOW),
        "two": (FD, message((buffer(2), 2), (buffer(2), 2)), NOW),
        "short": (FD, message((buffer(2), 2)), NOW),
        "peek": (FD, message(data), NOW | PEEK),
        "no-part": (FD, message(), NOW),
        "name": (FD, message(data, name=buffer(16), namelen=16), NOW),
        "short-name": (FD, message(data, name=buffer(3), namelen=3), NOW),
        "null-name": (FD, message(data, namelen=16), NOW),
        "negative": (FD, message(data, name=buffer(16), namelen=-1), NOW),
        "control": (FD, message(data, control=control_room(16), controllen=64), NOW),
        "cloexec": (FD, message(data, control=control_room(16), controllen=64), NOW | CLOEXEC),
        "short-room": (FD, message(data, control=control_room(3), controllen=12), NOW),
        "too-many": (FD, message(data, count=TOO_MANY), NOW),
        "part-length": (FD, message((buffer(8), -1)), NOW),
        "bad": (FD, BAD, NOW),
        "cut-off": (FD, PointerTo(bytes(27)), NOW),
        "bad-vector": (FD, PointerToWords((0, 0, BAD, 1, 0, 0, 0)), NOW),
        "bad-part": (FD, message((BAD, 4)), NOW),
        "bad-name": (FD, message(data, name=BAD, namelen=16), NOW),
    }
    dispatch.judge("recvmsg", rows, """
                    minus-one pipe     tcp      connected sent     ended    udp      udp-sent unix-pair unix-sent rights
        one         EBADF     ENOTSOCK ENOTCONN EAGAIN    4        0        EAGAIN   4        EAGAIN    4         4
        two         EBADF     ENOTSOCK ENOTCONN EAGAIN    4        0        EAGAIN   4        EAGAIN    4         .
        short       EBADF     ENOTSOCK ENOTCONN EAGAIN    2        0        EAGAIN   2        EAGAIN    2         2
        peek        EBADF     ENOTSOCK ENOTCONN EAGAIN    4        0        EAGAIN   4        EAGAIN    4         4
        no-part     EBADF     ENOTSOCK ENOTCONN EAGAIN    0        0        EAGAIN   0        EAGAIN    0         .
        name        EBADF     ENOTSOCK ENOTCONN EAGAIN    4        0        EAGAIN   4        EAGAIN    4         .
        short-name  EBADF     ENOTSOCK ENOTCONN EAGAIN    4        0        EAGAIN   4        EAGAIN    4         .
        null-name   EBADF     ENOTSOCK ENOTCONN EAGAIN    4        0        EAGAIN   4        EAGAIN    4         .
        negative    EBADF     ENOTSOCK EINVAL   EINVAL    EINVAL   EINVAL   EINVAL   EINVAL   EINVAL    EINVAL    .
        control     EBADF     ENOTSOCK ENOTCONN EAGAIN    4        0        EAGAIN   4        EAGAIN    4         4
        too-many    EBADF     ENOTSOCK EMSGSIZE EMSGSIZE  EMSGSIZE EMSGSIZE EMSGSIZE EMSGSIZE EMSGSIZE  EMSGSIZE  .
        part-length EBADF     ENOTSOCK EINVAL   EINVAL    EINVAL   EINVAL   EINVAL   EINVAL   EINVAL    EINVAL    .
        bad         EBADF     ENOTSOCK EFAULT   EFAULT    EFAULT   EFAULT   EFAULT   EFAULT   EFAULT    EFAULT    .
        cut-off     EBADF     ENOTSOCK EFAULT   EFAULT    EFAULT   EFAULT   EFAULT   EFAULT   EFAULT    EFAULT    .
        bad-vector  EBADF     ENOTSOCK EFAULT   EFAULT    EFAULT   EFAULT   EFAULT   EFAULT   EFAULT    EFAULT    .
        bad-part    EBADF     ENOTSOCK ENOTCONN EAGAIN    EFAULT   0        EAGAIN   EFAULT   EAGAIN    EFAULT    EFAULT
        cloexec     .         .        .        .         4        0        .        4        .         4         4
        short-room  .         .        .        .         4        .        .        4        .         4         4
        bad-name    EBADF     ENOTSOCK ENOTCONN EAGAIN    4        0        EAGAIN   EFAULT   EAGAIN    4         .
    """, message_received)  # fmt: skip


@behaviour("multiplexer.dispatch.sendmmsg", f"{SOURCE}; sendmmsg(2); __sys_sendmmsg")
def test_sendmmsg(dispatch):
    """socketcall(20, {fd, msgvec, vlen, flags}) returns what sendmmsg(fd, msgvec, vlen, flags) returns, in every
    state of the descriptor, the peer receives the messages, and their msg_len are written.
    """
    data, bad = message((PointerTo(DATA), 4)), message((BAD, 4))
    named = message((PointerTo(DATA), 4), name=PointerTo(ADDRESS), namelen=16)
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
        "many": (FD, messages(data, data), 0x10001, QUIET),
        "fast-open": (FD, messages(data), 1, QUIET | FAST_OPEN),
    }
    dispatch.judge("sendmmsg", rows, """
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
        many       .         .        .     EPIPE  2         EPIPE  EDESTADDRREQ 2             ENOTCONN   2
        fast-open  .         .        .     EINVAL .         .      .            .             .          .
    """, messages_sent)  # fmt: skip


@behaviour("multiplexer.dispatch.recvmmsg", f"{SOURCE}; recvmmsg(2); __sys_recvmmsg, do_recvmmsg")
def test_recvmmsg(dispatch):
    """socketcall(19, {fd, msgvec, vlen, flags, timeout}) returns what recvmmsg(fd, msgvec, vlen, flags, timeout)
    with a 32-bit struct timespec returns, in every state of the descriptor, and writes the data, msg_len and msg_flags of
    each message; an error after the first one is left in SO_ERROR.
    """
    data = message((buffer(8), 8))
    named = message((buffer(8), 8), name=buffer(16), namelen=16)
    with_room = message((buffer(8), 8), control=control_room(16), controllen=64)

    def timeout(seconds: int, nanoseconds: int) -> PointerTo:
        return PointerTo(struct.pack("<ii", seconds, nanoseconds))

    rows = {
        "none": (FD, messages(data), 0, NOW, 0),
        "bad-none": (FD, BAD, 0, NOW, 0),
        "one": (FD, messages(data), 1, NOW, 0),
        "two": (FD, messages(data, data), 2, NOW, 0),
        "for-one": (FD, messages(data, data), 2, NOW | ONE, 0),
        "wait-for-one": (FD, messages(data, data), 2, ONE, 0),
        "many": (FD, messages(data), 0x10001, NOW, 0),
        "named": (FD, messages(named), 1, NOW, 0),
        "control": (FD, messages(with_room), 1, NOW, 0),
        "bad": (FD, BAD, 1, NOW, 0),
        "cut-off": (FD, messages(data), 2, NOW, 0),
        "at-once": (FD, messages(data, data), 2, NOW, timeout(0, 0)),
        "negative": (FD, messages(data), 1, NOW, timeout(-1, 0)),
        "nanoseconds": (FD, messages(data), 1, NOW, timeout(0, 1_000_000_000)),
        "bad-timeout": (FD, messages(data), 1, NOW, BAD),
        "cut-off-timeout": (FD, messages(data), 1, NOW, buffer(7)),
        "bad-and-timeout": (FD, BAD, 1, NOW, timeout(-1, 0)),
    }
    dispatch.judge("recvmmsg", rows, """
                        minus-one pipe     tcp      connected sent   ended  udp    udp-sent unix   unix-pair unix-sent rights
        none            EBADF     ENOTSOCK 0        0         0      0      0      0        0      0         0         .
        bad-none        EBADF     ENOTSOCK 0        0         0      0      0      0        0      0         0         .
        one             EBADF     ENOTSOCK ENOTCONN EAGAIN    1      1      EAGAIN 1        EINVAL EAGAIN    1         1
        two             EBADF     ENOTSOCK ENOTCONN EAGAIN    1      2      EAGAIN 1        EINVAL EAGAIN    1         .
        for-one         EBADF     ENOTSOCK ENOTCONN EAGAIN    1      2      EAGAIN 1        EINVAL EAGAIN    1         .
        wait-for-one    .         .        .        .         1      2      .      1        .      .         1         .
        many            .         .        .        .         1      .      .      1        .      .         1         .
        named           .         .        .        .         1      1      .      1        .      .         1         .
        control         .         .        .        .         1      1      .      1        .      .         1         1
        bad             EBADF     ENOTSOCK EFAULT   EFAULT    EFAULT EFAULT EFAULT EFAULT   EFAULT EFAULT    EFAULT    .
        cut-off         EBADF     ENOTSOCK ENOTCONN EAGAIN    1      1      EAGAIN 1        EINVAL EAGAIN    1         1
        at-once         EBADF     ENOTSOCK ENOTCONN EAGAIN    1      1      EAGAIN 1        EINVAL EAGAIN    1         .
        negative        EINVAL    EINVAL   EINVAL   EINVAL    EINVAL EINVAL EINVAL EINVAL   EINVAL EINVAL    EINVAL    .
        nanoseconds     EINVAL    EINVAL   EINVAL   EINVAL    EINVAL EINVAL EINVAL EINVAL   EINVAL EINVAL    EINVAL    .
        bad-timeout     EFAULT    EFAULT   EFAULT   EFAULT    EFAULT EFAULT EFAULT EFAULT   EFAULT EFAULT    EFAULT    .
        cut-off-timeout EFAULT    EFAULT   EFAULT   EFAULT    EFAULT EFAULT EFAULT EFAULT   EFAULT EFAULT    EFAULT    .
        bad-and-timeout EINVAL    EINVAL   EINVAL   EINVAL    EINVAL EINVAL EINVAL EINVAL   EINVAL EINVAL    EINVAL    .
    """, messages_received)  # fmt: skip
