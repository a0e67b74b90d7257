"""Prepares sockets in named states, through the caller's own calls, before the call that a test judges.

    end = prepare("half-closed", TCP6)
    expect(0).of(calls.make("shutdown", end.fd, SHUT_RD))

Every state of STATES combines with the kinds of sockets that can have it: see `possible`. A function below makes each.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from errno import EAGAIN, EINPROGRESS
from select import POLLERR, POLLHUP, POLLPRI, POLLRDHUP

from probes.entry.calls import Calls, SetUpRefused
from probes.entry.memory import Block
from probes.testing.expect import need
from probes.testing.prepared import TCPS, FamiliesAndTypes, Prepared
from probes.testing.socket_kinds import SocketKind

#: The ports of the two ends. AF_UNIX sockets have them as abstract names.
SERVER_PORT, CLIENT_PORT = 5000, 5001
#: What a peer has sent where a state has data to receive.
DATA = b"data"
URGENT = b"!"
#: System calls that no behaviour is about: arch/x86/entry/syscalls/syscall_32.tbl.
_OPEN, _PIPE = 5, 42
_CHUNK = 1 << 16

#: Bytes of struct cmsghdr in the i386 layout.
_CMSGHDR = 12

_NO_SOCKET: FamiliesAndTypes = frozenset()
_UDPS: FamiliesAndTypes = frozenset({(socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_INET6, socket.SOCK_DGRAM)})
_UNIX_DGRAM: FamiliesAndTypes = frozenset({(socket.AF_UNIX, socket.SOCK_DGRAM)})
_UNIX_STREAMS: FamiliesAndTypes = frozenset(
    {(socket.AF_UNIX, socket.SOCK_STREAM), (socket.AF_UNIX, socket.SOCK_SEQPACKET)}
)
#: Kinds that need a privilege: raw IPv4, netlink and packet sockets. The two ends of the last have one address, at which
#: both receive what either sends.
_PACKETS: FamiliesAndTypes = frozenset({(socket.AF_PACKET, socket.SOCK_DGRAM), (socket.AF_PACKET, socket.SOCK_RAW)})
_RAWS: FamiliesAndTypes = frozenset({(socket.AF_INET, socket.SOCK_RAW), (socket.AF_NETLINK, socket.SOCK_RAW)})
_MUTUAL: FamiliesAndTypes = _UDPS | _RAWS | _PACKETS
_STREAMS: FamiliesAndTypes = TCPS | _UNIX_STREAMS
_CONNECTABLE: FamiliesAndTypes = _STREAMS | _MUTUAL | _UNIX_DGRAM
_Make = Callable[[Prepared], None]


@dataclass(frozen=True)
class State:
    """Describes a named state: what makes it, and which (family, type) pairs can have it.

    `kinds` is None if every socket can, and empty if the state is not about a socket.
    """

    make: _Make
    kinds: FamiliesAndTypes | None


#: The states by name.
STATES: dict[str, State] = {}


def _state(name: str, kinds: FamiliesAndTypes | None = None) -> Callable[[_Make], _Make]:
    """Registers a function as the one that makes a state."""

    def register(make: _Make) -> _Make:
        STATES[name] = State(make, kinds)
        return make

    return register


def possible(state: str, kind: SocketKind | None) -> bool:
    """Returns True if a state exists for a kind of socket; None stands for no socket."""
    kinds = STATES[state].kinds
    if kind is None:
        return kinds == frozenset()
    return kinds is None or (kind.family, kind.type) in kinds


class Prepare:
    """Makes states: `prepare("connected", TCP)`. The ports keep two states of one kind apart.

    It makes its calls by the `calls` that it gets: over their route, and traced if their gate is.
    """

    def __init__(self, calls: Calls, server: int = SERVER_PORT, client: int = CLIENT_PORT) -> None:
        """Takes the calls to make states by, and the ports of the server's and the client's address."""
        self._calls, self._ports = calls, (server, client)

    def another(self, number: int) -> Prepare:
        """Returns one that makes states with ports of its own, so that they can exist beside this one's."""
        server, client = self._ports
        return Prepare(self._calls, server + 10 * (number + 1), client + 10 * (number + 1))

    def __call__(self, state: str, kind: SocketKind | None = None, flags: int = 0) -> Prepared:
        """Makes a state. `flags` (SOCK_NONBLOCK, SOCK_CLOEXEC) are those of the socket at `fd`.

        Raises SetUpRefused if the kernel refuses a call, ValueError if the kind of socket has no such state.
        """
        if not possible(state, kind):
            raise ValueError(f"{kind or 'no socket'} has no state {state!r}")
        end = Prepared(self._calls, kind, flags, self._ports)
        STATES[state].make(end)
        return end


@_state("none", _NO_SOCKET)
def _none(end: Prepared) -> None:
    """No descriptor: for calls that make one, and for descriptor -1."""


@_state("pipe", _NO_SOCKET)
def _pipe(end: Prepared) -> None:
    """Makes a pipe, of which it takes the read end."""
    ends = end.calls.memory.scratch(bytes(8), "ends")
    need(end.calls.gate.enter(_PIPE, ends.address), "pipe")
    end.made += ends.words()
    end.fd = end.made[0]


@_state("path", _NO_SOCKET)
def _path(end: Prepared) -> None:
    """Opens a directory with O_PATH: a descriptor that permits no operation on its file (open(2))."""
    root = end.calls.pointer(b"/\0")
    end.fd = end.keep(end.calls.gate.enter(_OPEN, root, os.O_PATH), "open")


@_state("unbound")
def _unbound(end: Prepared) -> None:
    """Makes a socket as socket(2) returns it."""
    end.fd = end.new(end.flags)


@_state("bound", _CONNECTABLE)
def _bound(end: Prepared) -> None:
    """Makes a socket bound to the server's address."""
    end.fd = end.bound(end.server, end.flags)


@_state("beside-server", _CONNECTABLE)
def _beside_server(end: Prepared) -> None:
    """Makes an unbound socket; the peer is at the server's address, and listens if its kind does."""
    end.peer = end.listener() if end.of(_STREAMS) else end.bound(end.server)
    end.fd = end.new(end.flags)


@_state("listening", _STREAMS)
def _listening(end: Prepared) -> None:
    """Makes a listening socket without a connection to accept."""
    end.fd = end.listener(flags=end.flags)


@_state("pending", _STREAMS)
def _pending(end: Prepared) -> None:
    """Makes a listening socket with one connection to accept, from the peer, which has a name."""
    end.fd = end.listener(flags=end.flags)
    end.peer = end.connect(end.bound(end.client), end.server)
    end.wait(end.fd)


@_state("backlog-full", _STREAMS)
def _backlog_full(end: Prepared) -> None:
    """Makes a listening socket with backlog 0 and the one connection, from the peer, that such a queue takes."""
    end.fd = end.listener(0, end.flags)
    end.peer = end.connect(end.bound(end.client), end.server)
    end.wait(end.fd)


@_state("connecting", TCPS)
def _connecting(end: Prepared) -> None:
    """Makes a socket in SYN_SENT: the peer listens, and drops the SYN because its backlog is full. It is non-blocking."""
    end.peer = end.listener(0)
    end.connect(end.new(), end.server)
    end.wait(end.peer)
    end.fd = end.new(end.flags | socket.SOCK_NONBLOCK)
    result = end.calls.connect(end.fd, end.server)
    if result != -EINPROGRESS:
        raise SetUpRefused(result, "connect to a full backlog, which fails with EINPROGRESS,")


@_state("connected", _CONNECTABLE)
def _connected(end: Prepared) -> None:
    """Makes the client's end of a connection; for AF_UNIX one of the two unnamed sockets of socketpair(2)."""
    if end.of(_UNIX_STREAMS | _UNIX_DGRAM):
        end.fd, end.peer = end.pair(end.flags)
    else:
        _connected_by_name(end)


@_state("connected-by-name", _CONNECTABLE)
def _connected_by_name(end: Prepared) -> None:
    """Makes the client's end of a connection between two sockets that both have a name."""
    if end.of(_STREAMS):
        listener = end.listener()
        end.fd = end.connect(end.bound(end.client, end.flags), end.server)
        end.wait(listener)
        end.peer = end.keep(end.calls.accept(listener), "accept")
    elif end.of(_PACKETS):
        end.fd, end.peer = end.bound(end.client, end.flags), end.bound(end.server)
    else:
        end.peer = end.bound(end.server)
        end.fd = end.connect(end.bound(end.client, end.flags), end.server)
        end.connect(end.peer, end.client)


@_state("with-data", _CONNECTABLE)
def _with_data(end: Prepared) -> None:
    """Makes a connected socket with four bytes, or a datagram of four bytes, to receive."""
    _connected(end)
    end.send(end.peer, DATA)
    end.wait(end.fd)


@_state("with-rights", _UNIX_STREAMS | _UNIX_DGRAM)
def _with_rights(end: Prepared) -> None:
    """Makes a connected socket with four bytes to receive, which bring a descriptor of the peer (SCM_RIGHTS)."""
    _connected(end)
    memory = end.calls.memory
    rights = memory.words(_CMSGHDR + 4, socket.SOL_SOCKET, socket.SCM_RIGHTS, end.peer)
    message = memory.words(0, 0, memory.words(memory.put(DATA), len(DATA)), 1, rights, rights.size, 0)
    need(end.calls.make("sendmsg", end.peer, message, socket.MSG_NOSIGNAL), "sendmsg with SCM_RIGHTS")
    end.wait(end.fd)


@_state("with-urgent-data", TCPS)
def _with_urgent_data(end: Prepared) -> None:
    """Makes a connected socket with one byte of urgent data to receive."""
    _connected(end)
    end.send(end.peer, URGENT, socket.MSG_OOB)
    end.wait(end.fd, POLLPRI)


@_state("full", _STREAMS | _UNIX_DGRAM)
def _full(end: Prepared) -> None:
    """Makes a connected socket whose send buffer, or peer's queue, is full: the next call that sends blocks."""
    _connected(end)
    data = end.calls.memory.alloc(_CHUNK)
    while _fill(end, data) and end.of(TCPS):
        # What is in flight makes room once it is acknowledged, which the peer delays.
        need(end.calls.setsockopt(end.peer, socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1), "TCP_QUICKACK")


def refill(end: Prepared) -> None:
    """Fills a "full" TCP socket again, before a call that must find it so.

    Where the peer's window is too small for a segment the kernel uses it up after 200 ms (the persist timer): then there is
    room for a few bytes more.
    """
    _fill(end, end.calls.memory.alloc(_CHUNK))


def _fill(end: Prepared, data: Block) -> int:
    """Sends until nothing more is taken, and returns how many bytes were."""
    count = 0
    for size in (_CHUNK, 1024, 1):
        while (result := end.calls.make("send", end.fd, data, size, socket.MSG_DONTWAIT)) > 0:
            count += result
        if result != -EAGAIN:
            raise SetUpRefused(result, "send to a full buffer, which fails with EAGAIN,")
    return count


@_state("half-closed", _STREAMS)
def _half_closed(end: Prepared) -> None:
    """Makes a connected socket after its own shutdown(SHUT_WR), whose FIN the peer has received, acknowledged or not yet."""
    _connected(end)
    end.shutdown(end.fd, socket.SHUT_WR)
    end.wait(end.peer)


@_state("peer-half-closed", _STREAMS)
def _peer_half_closed(end: Prepared) -> None:
    """Makes a connected socket that has received the end of the peer's data (FIN)."""
    _connected(end)
    end.shutdown(end.peer, socket.SHUT_WR)
    end.wait(end.fd)


@_state("shut-down", _STREAMS)
def _shut_down(end: Prepared) -> None:
    """Makes a connected socket after its own shutdown(SHUT_RDWR)."""
    _connected(end)
    end.shutdown(end.fd, socket.SHUT_RDWR)
    end.wait(end.peer)


@_state("peer-closed", _STREAMS)
def _peer_closed(end: Prepared) -> None:
    """Makes a connected socket that has received the end of the peer's data. There is no peer any more."""
    _connected(end)
    end.close_one(end.peer)
    end.wait(end.fd)
    end.peer = -1


@_state("data-and-end", _STREAMS)
def _data_and_end(end: Prepared) -> None:
    """Makes a connected socket with four bytes to receive, and behind them the end of the peer's data."""
    _connected(end)
    end.send(end.peer, DATA)
    end.shutdown(end.peer, socket.SHUT_WR)
    end.wait(end.fd, POLLRDHUP)


@_state("reset", _STREAMS)
def _reset(end: Prepared) -> None:
    """Makes a socket whose connection the peer has reset: ECONNRESET is pending. There is no peer any more.

    An AF_UNIX peer does so by closing with data unread.
    """
    _connected(end)
    if end.of(TCPS):
        end.reset(end.peer)
    else:
        end.send(end.fd, DATA)
        end.close_one(end.peer)
    end.wait(end.fd, POLLERR)
    end.peer = -1


@_state("refused", _UDPS)
def _refused(end: Prepared) -> None:
    """Makes a connected datagram socket with a pending ECONNREFUSED: no socket is at the server's address."""
    end.fd = end.connect(end.bound(end.client, end.flags), end.server)
    end.send(end.fd, DATA)
    end.wait(end.fd, POLLERR)


@_state("time-wait", TCPS)
def _time_wait(end: Prepared) -> None:
    """Makes the descriptor of a connection in TIME_WAIT, which keeps both addresses in use. There is no peer any more."""
    _connected(end)
    end.shutdown(end.fd, socket.SHUT_WR)
    end.wait(end.peer)
    end.close_one(end.peer)
    end.wait(end.fd, POLLHUP)
    end.peer = -1
