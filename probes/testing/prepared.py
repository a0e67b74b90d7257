"""Prepares one socket state: a descriptor, its peer, and the calls that set-up makes, each of which must succeed."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from select import POLLIN
from typing import SupportsInt

from probes.abi import sockaddr
from probes.entry.calls import Calls, SetUpRefused
from probes.entry.gate import Result
from probes.testing.expect import need
from probes.testing.socket_kinds import SocketKind

#: Which sockets can have a state: their (family, type) pairs.
FamiliesAndTypes = frozenset[tuple[int, int]]
TCPS: FamiliesAndTypes = frozenset({(socket.AF_INET, socket.SOCK_STREAM), (socket.AF_INET6, socket.SOCK_STREAM)})
BACKLOG = 4
#: include/uapi/asm-generic/socket.h.
SO_PEEK_OFF = 42
#: With a linger time of 0, close(2) resets a connection (socket(7) SO_LINGER).
_RESET = struct.pack("<ii", 1, 0)
#: Hosts of the two ends where an address has no port.
_RAW_HOSTS = ("127.0.0.1", "127.0.0.2")
#: The Ethernet protocol of packet sockets: reserved for local experiments (IEEE 802a). The link is the loopback link.
ETHERTYPE, _LOOPBACK = 0x88B5, 1
_POLLFD = struct.Struct("<ihh")
_PATIENCE_MS = 10_000


class Prepared:
    """A descriptor in a named state, with what was made around it.

    `fd` is the descriptor that the judged call is about, -1 if the state has none; `peer` is the other end of its
    connection, or the socket at the server's address, -1 if there is none.
    """

    def __init__(self, calls: Calls, kind: SocketKind | None, flags: int, ports: tuple[int, int]) -> None:
        """Makes nothing yet. `ports` are those of the server's and the client's address."""
        self.fd = self.peer = -1
        self.calls, self.kind, self.flags = calls, kind, flags
        self.server, self.client = (_address(kind, host, port) for host, port in zip(_RAW_HOSTS, ports, strict=True))
        self.made: list[int] = []

    def __int__(self) -> int:
        """Returns the descriptor: the word that a call takes."""
        return int(self.fd)

    def wait(self, fd: int, events: int = POLLIN) -> None:
        """Waits until poll(2) reports one of these events. Raises SetUpRefused if that takes ten seconds."""
        await_events(self.calls, fd, events)

    def nonblocking(self, fd: int) -> None:
        """Sets O_NONBLOCK of a descriptor (fcntl(2) F_SETFL)."""
        need(self.calls.syscall("fcntl64", fd, fcntl.F_SETFL, os.O_NONBLOCK), "F_SETFL")

    def wait_bytes(self, fd: int, count: int) -> None:
        """Waits until so many bytes of a stream are there to receive (recv(2) MSG_PEEK, MSG_WAITALL)."""
        block = self.calls.memory.alloc(count)
        need(self.calls.make("recv", fd, block, count, socket.MSG_PEEK | socket.MSG_WAITALL), "recv", returns=count)

    def wait_datagram(self, fd: int, offset: int) -> None:
        """Waits until a datagram is queued behind so many bytes of others (socket(7) SO_PEEK_OFF)."""
        block = self.calls.memory.alloc(1)
        need(self.calls.setsockopt(fd, socket.SOL_SOCKET, SO_PEEK_OFF, offset), "SO_PEEK_OFF")
        need(self.calls.make("recv", fd, block, 1, socket.MSG_PEEK), "recv")
        need(self.calls.setsockopt(fd, socket.SOL_SOCKET, SO_PEEK_OFF, -1), "SO_PEEK_OFF")

    def close(self) -> None:
        """Closes every descriptor made for this state. TCP connections are reset, so that no address stays in use."""
        for fd in reversed(self.made):
            if self.of(TCPS):
                self.calls.setsockopt(fd, socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.calls.close(fd)
        self.made.clear()

    def keep(self, result: Result, why: str) -> int:
        """Returns a new descriptor, which `close` will close. Raises SetUpRefused if the kernel made none."""
        fd = need(result, why)
        self.made.append(fd)
        return fd

    def of(self, families_and_types: FamiliesAndTypes) -> bool:
        """Returns True if the socket is of one of these families and types."""
        return self.kind is not None and (self.kind.family, self.kind.type) in families_and_types

    def new(self, flags: int = 0) -> int:
        """Makes a socket of the state's kind."""
        assert self.kind is not None
        family, type_, protocol = self.kind.triple
        return self.keep(self.calls.socket(family, type_ | flags, protocol), "socket")

    def pair(self, flags: int = 0) -> tuple[int, int]:
        """Makes two connected AF_UNIX sockets."""
        assert self.kind is not None
        family, type_, protocol = self.kind.triple
        ends = self.calls.memory.scratch(bytes(8), "ends")
        need(self.calls.make("socketpair", family, type_ | flags, protocol, ends), "socketpair")
        first, second = ends.words()
        self.made += [first, second]
        return first, second

    def bound(self, address: bytes, flags: int = 0) -> int:
        """Makes a socket with a name."""
        fd = self.new(flags)
        need(self.calls.bind(fd, address), "bind")
        return fd

    def listener(self, backlog: int = BACKLOG, flags: int = 0) -> int:
        """Makes a socket that listens at the server's address."""
        fd = self.bound(self.server, flags)
        need(self.calls.listen(fd, backlog), "listen")
        return fd

    def connect(self, fd: int, address: bytes) -> int:
        """Connects a socket, and returns its descriptor."""
        need(self.calls.connect(fd, address), "connect")
        return fd

    def send(self, fd: int, data: bytes, flags: int = 0) -> None:
        """Sends data on a connected socket."""
        sent = self.calls.make("send", fd, self.calls.pointer(data), len(data), flags | socket.MSG_NOSIGNAL)
        need(sent, "send")

    def shutdown(self, fd: int, how: int) -> None:
        """Shuts down one direction of a connection, or both."""
        need(self.calls.make("shutdown", fd, how), "shutdown")

    def reset(self, fd: int) -> None:
        """Closes a TCP socket so that its connection is reset."""
        need(self.calls.setsockopt(fd, socket.SOL_SOCKET, socket.SO_LINGER, _RESET), "SO_LINGER")
        self.close_one(fd)

    def close_one(self, fd: int) -> None:
        """Closes one descriptor of this state."""
        need(self.calls.close(fd), "close")
        self.made.remove(fd)


def await_events(calls: Calls, fd: SupportsInt, events: int = POLLIN) -> None:
    """Waits until poll(2) reports one of these events of a descriptor. Raises SetUpRefused if that takes ten seconds."""
    entry = calls.memory.scratch(_POLLFD.pack(int(fd), events, 0), "pollfd")
    result = calls.syscall("poll", entry, 1, _PATIENCE_MS)
    if need(result, "poll") == 0:
        raise SetUpRefused(
            result, f"poll, which should report an event of {events:#x} within {_PATIENCE_MS // 1000} s,"
        )


def _address(kind: SocketKind | None, host: str, port: int) -> bytes:
    """Returns the address of an end: a port of the loopback host, a netlink port, or the port as an abstract AF_UNIX name.

    A raw IPv4 socket has no port; its two ends have different hosts. Those of packet sockets have one address.
    """
    if kind is not None and kind.family == socket.AF_PACKET:
        return sockaddr.packet(ETHERTYPE, _LOOPBACK)
    if kind is not None and kind.family == socket.AF_NETLINK:
        return sockaddr.netlink(port)
    if kind is not None and (kind.family, kind.type) == (socket.AF_INET, socket.SOCK_RAW):
        return sockaddr.inet(host, 0)
    if kind is not None and kind.family in (socket.AF_INET, socket.AF_INET6):
        return kind.address(port)
    return sockaddr.unix(f"\0{port}".encode())
