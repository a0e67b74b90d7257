"""Operations that name, connect and shut down sockets behave as the direct calls do, errors and their order included.

The tables hold the result that both routes must return: a column is the state of the descriptor (dispatch_table.py), a row
the argument words. A function beside each has what the call leaves.
"""

import socket
from errno import EAGAIN, ECONNRESET, EINVAL, ENOTCONN
from select import POLLHUP, POLLIN, POLLOUT

import pytest

from probes.testing import behaviour
from probes.testing.states import SERVER_PORT
from tests.multiplexer.call_words import BAD, FD, PointerTo, inet
from tests.multiplexer.dispatch_effects import (
    ENDED,
    EPHEMERAL,
    LOOPBACK,
    MAYBE_BOUND,
    POLLRDHUP,
    WILDCARD,
)
from tests.multiplexer.dispatch_table import MOST_BACKLOG, UNSTATED, failing
from tests.multiplexer.socket_view import Found

pytestmark = pytest.mark.routes("both")

SOURCE = "socketcall(2); S1 `switch (call)`; S4 1.5 steps 3 and 4"
UNIX, HUGE = socket.AF_UNIX, 0x7FFFFFFF
ADDRESS = inet(SERVER_PORT)
#: A port at which no socket is.
NO_PORT = 5009
#: What a socket that listened is then: unconnected, with its name.
CLOSED = {"fd listens": 0, "fd queued": 0, "fd events": POLLOUT | POLLHUP}
#: After an AF_UNIX address, readable bytes behind its length: bind.memory.placement judges that none is read.
BEHIND = b"\xa5" * 4


def bound(row: str, column: str, result: int | str) -> Found:
    """Returns what bind leaves."""
    names = {"any-unspec": (WILDCARD, SERVER_PORT), "abstract": b"\0name"}
    return {} if failing(result) else {"fd name": names.get(row, (LOOPBACK, SERVER_PORT))}


@behaviour("multiplexer.dispatch.bind", f"{SOURCE}; bind(2); __sys_bind, move_addr_to_kernel, __inet_bind")
def test_bind(dispatch):
    """socketcall(2, {fd, addr, addrlen}) returns what bind(fd, addr, addrlen) returns, in every state of the
    descriptor, and gives the socket that name.
    """
    rows = {
        "address": (FD, PointerTo(ADDRESS), 16),
        "longer": (FD, PointerTo(ADDRESS + bytes(12)), 28),
        "any-unspec": (FD, PointerTo(inet(5000, 0, socket.AF_UNSPEC)), 16),
        "foreign": (FD, PointerTo(inet(5000, 0xC0000201)), 16),
        "family": (FD, PointerTo(inet(5000, family=UNIX)), 16),
        "abstract": (FD, PointerTo(b"\1\0\0name" + BEHIND), 7),
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
    """, bound)  # fmt: skip


def connected(row: str, column: str, result: int | str) -> Found:
    """Returns what connect leaves. With AF_UNSPEC it ends a connection, by RST, and a socket's listening."""
    if failing(result):
        return MAYBE_BOUND if column in ("tcp", "served", "udp-served") else {}
    if row == "unspec" and column == "connected":
        alone = {"peer": -ENOTCONN, "error": ECONNRESET}
        fd = alone | {"received": -ENOTCONN, "events": POLLOUT | POLLHUP}
        peer = alone | {"received": ENDED, "events": POLLIN | POLLOUT | POLLHUP | POLLRDHUP}
        return {f"fd {name}": value for name, value in fd.items()} | {
            f"peer {name}": value for name, value in peer.items()
        }
    if row == "unspec":
        return CLOSED if column == "listening" else {}
    names = {"fd name": (LOOPBACK, EPHEMERAL), "fd peer": (LOOPBACK, SERVER_PORT if row == "server" else NO_PORT)}
    stream = {"fd received": -EAGAIN, "fd events": POLLOUT, "peer events": POLLIN} if column == "served" else {}
    return names | stream


@behaviour("multiplexer.dispatch.connect", f"{SOURCE}; connect(2); __sys_connect, inet_stream_connect")
def test_connect(dispatch):
    """socketcall(3, {fd, addr, addrlen}) returns what connect(fd, addr, addrlen) returns, in every state of the
    descriptor, connects the socket or dissolves its association, and names both of its ends.
    """
    rows = {
        "server": (FD, PointerTo(ADDRESS), 16),
        "nobody": (FD, PointerTo(inet(NO_PORT)), 16),
        "unspec": (FD, PointerTo(bytes(16)), 16),
        "family": (FD, PointerTo(inet(5000, family=99)), 16),
        "abstract": (FD, PointerTo(b"\1\0\0nobody" + BEHIND), 9),
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
    """, connected)  # fmt: skip


def listening(row: str, column: str, result: int | str) -> Found:
    """Returns what listen leaves. A backlog is an unsigned number, and at most that of somaxconn: listen(2)."""
    if failing(result) or column not in ("tcp", "bound", "listening"):
        return {}
    found = {"fd backlog": {"0": 0, "1": 1}.get(row, MOST_BACKLOG)}
    if column != "listening":
        found |= {"fd listens": 1, "fd queued": -EINVAL, "fd events": 0}
    return found | ({"fd name": (WILDCARD, EPHEMERAL)} if column == "tcp" else {})


@behaviour("multiplexer.dispatch.listen", f"{SOURCE}; listen(2); __sys_listen, inet_listen")
def test_listen(dispatch):
    """socketcall(4, {fd, backlog}) returns what listen(fd, backlog) returns, in every state of the descriptor, and
    makes the socket listen with that backlog, at a port that the kernel chooses if it has none.
    """
    rows = {"0": (FD, 0), "1": (FD, 1), "minus-1": (FD, -1), "huge": (FD, HUGE), "65537": (FD, 0x10001)}
    dispatch.judge("listen", rows, """
                minus-one pipe     path  tcp bound listening connected udp        unix   unix-pending unix-pair
        0       EBADF     ENOTSOCK EBADF 0   0     0         EINVAL    EOPNOTSUPP EINVAL 0            EINVAL
        1       EBADF     ENOTSOCK EBADF 0   0     0         EINVAL    EOPNOTSUPP EINVAL 0            EINVAL
        minus-1 EBADF     ENOTSOCK EBADF 0   0     0         EINVAL    EOPNOTSUPP EINVAL 0            EINVAL
        huge    EBADF     ENOTSOCK EBADF 0   0     0         EINVAL    EOPNOTSUPP EINVAL 0            EINVAL
        65537   .         .        .     0   0     0         .         .          .      .            .
    """, listening)  # fmt: skip


def shut_down(row: str, column: str, result: int | str) -> Found:
    """Returns what shutdown leaves."""
    reads, writes = row in ("read", "both"), row in ("write", "both")
    if failing(result):
        # The kernel marks a socket that is not connected as shut down nevertheless.
        return {"fd received": UNSTATED, "fd events": UNSTATED} if column in ("tcp", "bound", "udp") and reads else {}
    if column == "listening":
        return CLOSED if reads else {}
    found = {}
    if reads:
        hung_up = POLLHUP if writes or column == "shut" else 0
        found["fd events"] = POLLIN | POLLOUT | POLLRDHUP | hung_up
        if column != "udp-connected":
            found["fd received"] = ENDED
    if writes and column in ("connected", "unix-pair"):
        # In a socket pair what one end shuts down is set on the other too; TCP has no message for the receiving direction.
        hung_up = POLLHUP if reads and column == "unix-pair" else 0
        found |= {"peer received": ENDED, "peer events": POLLIN | POLLOUT | POLLRDHUP | hung_up}
    return found


@behaviour("multiplexer.dispatch.shutdown", f"{SOURCE}; shutdown(2); __sys_shutdown, inet_shutdown, unix_shutdown")
def test_shutdown(dispatch):
    """socketcall(13, {fd, how}) returns what shutdown(fd, how) returns, in every state of the descriptor, and
    shuts down the directions of the connection that `how` names, as both ends find.
    """
    rows = {
        "read": (FD, 0), "write": (FD, 1), "both": (FD, 2), "three": (FD, 3), "minus-1": (FD, -1), "65537": (FD, 0x10001),
    }  # fmt: skip
    dispatch.judge("shutdown", rows, """
                minus-one pipe     path  tcp      bound    listening connected shut   udp      udp-connected unix-pair
        read    EBADF     ENOTSOCK EBADF ENOTCONN ENOTCONN 0         0         0      ENOTCONN 0             0
        write   EBADF     ENOTSOCK EBADF ENOTCONN ENOTCONN 0         0         0      ENOTCONN 0             0
        both    EBADF     ENOTSOCK EBADF ENOTCONN ENOTCONN 0         0         0      ENOTCONN 0             0
        three   EBADF     ENOTSOCK EBADF EINVAL   EINVAL   EINVAL    EINVAL    EINVAL EINVAL   EINVAL        EINVAL
        minus-1 EBADF     ENOTSOCK EBADF EINVAL   EINVAL   EINVAL    EINVAL    EINVAL EINVAL   EINVAL        EINVAL
        65537   .         .        .     .        .        .         EINVAL    .      .        EINVAL        EINVAL
    """, shut_down)  # fmt: skip
