"""What an accepted socket is: its names, what it inherits, and connections whose peer is gone before they are accepted."""

import signal
import socket
import struct
from errno import ECONNRESET, ENOTCONN
from fcntl import F_SETFL

import pytest

from probes.abi.names import value
from probes.testing import behaviour, need
from probes.testing.socket_kinds import CONNECTING, TCP, TCP6, UNIX_SEQPACKET, UNIX_STREAM
from probes.testing.states import CLIENT_PORT, DATA, SERVER_PORT
from tests.listen.clients import STREAMS
from tests.names.name_bytes import name
from tests.transfer.signals import BlockedSignals

SOL, IP, IP6, TCP_LEVEL = socket.SOL_SOCKET, socket.IPPROTO_IP, socket.IPPROTO_IPV6, socket.IPPROTO_TCP
SOURCE = "accept(2); do_accept, inet_accept, unix_accept"
SOURCE_CLONE = "accept(2); tcp_create_openreq_child, inet_csk_clone_lock, sk_clone_lock; socket(7), tcp(7), ip(7)"
O_ASYNC, F_SETOWN = 0o20000, 8
#: Options by name: the level, and a value that no socket has at first.
GENERAL = {
    "SO_KEEPALIVE": 1, "SO_OOBINLINE": 1, "SO_REUSEADDR": 1, "SO_LINGER": struct.pack("<ii", 1, 7), "SO_RCVLOWAT": 5,
    "SO_SNDTIMEO_OLD": struct.pack("<ii", 7, 0),
}  # fmt: skip
OF_TCP = {
    "TCP_NODELAY": 1, "TCP_KEEPIDLE": 77, "TCP_KEEPINTVL": 7, "TCP_KEEPCNT": 3, "TCP_SYNCNT": 2, "TCP_LINGER2": 9,
    "TCP_USER_TIMEOUT": 7000,
}  # fmt: skip
OF_IP = {TCP: (IP, {"IP_TTL": 9, "IP_TOS": 0x10}), TCP6: (IP6, {"IPV6_UNICAST_HOPS": 9, "IPV6_TCLASS": 0x10})}


def options(kind):
    """Yields (name, level, number, value) of the options that a connection over TCP has from the listening socket."""
    level, of_ip = OF_IP[kind]
    for at, table in ((SOL, GENERAL), (TCP_LEVEL, OF_TCP), (level, of_ip)):
        for option, given in table.items():
            yield option, at, value(option), given


def packed(given):
    """Returns the bytes of an option's value."""
    return struct.pack("<i", given) if isinstance(given, int) else given


@behaviour("listen.accept.inherits", SOURCE_CLONE)
@pytest.mark.parametrize("kind", CONNECTING, ids=str)
def test_inherits(kind, prepare, calls, expect):
    """An accepted TCP socket has the options that the listening socket had when the connection was made: of the socket, of
    TCP and of IP. What is set later is not inherited.
    """
    for when in ("before", "after"):
        end = prepare("bound", kind)
        need(end.calls.listen(end.fd, 4), "listen")
        client = end.new()
        if when == "after":
            end.connect(client, end.server)
            end.wait(end.fd)
        fresh = end.new()
        known = {option: end.calls.getsockopt(fresh, at, number, 8).bytes for option, at, number, _ in options(kind)}
        for option, at, number, given in options(kind):
            need(end.calls.setsockopt(end.fd, at, number, given), option)
        if when == "before":
            end.connect(client, end.server)
            end.wait(end.fd)
        checks = {
            option: expect(packed(given) if when == "before" else known[option], option=option, set=when)
            for option, _, _, given in options(kind)
        }
        result = calls.accept(end.fd)
        accepted = end.keep(result, "accept")
        for option, at, number, _ in options(kind):
            checks[option].of(end.calls.getsockopt(accepted, at, number, 8).bytes, result)
        end.close()


@behaviour(
    "listen.accept.inherits-unix", "accept(2); unix(7) SO_PASSCRED, SO_PASSSEC; unix_sock_inherit_flags, unix_create1"
)
def test_inherits_unix(prepare, calls, expect):
    """An accepted AF_UNIX socket has SO_PASSCRED and SO_PASSSEC of the listening socket, and of its other options none."""
    inherited = {"SO_PASSCRED": 1, "SO_PASSSEC": 1}
    for kind in (UNIX_STREAM, UNIX_SEQPACKET):
        end = prepare("bound", kind)
        given = GENERAL | inherited
        fresh = end.new()
        known = {option: end.calls.getsockopt(fresh, SOL, value(option), 8).bytes for option in given}
        for option, setting in given.items():
            need(end.calls.setsockopt(end.fd, SOL, value(option), setting), option)
        need(end.calls.listen(end.fd, 4), "listen")
        end.connect(end.new(), end.server)
        checks = {
            option: expect(
                packed(inherited[option]) if option in inherited else known[option], kind=kind, option=option
            )
            for option in given
        }
        result = calls.accept(end.fd)
        accepted = end.keep(result, "accept")
        for option, check in checks.items():
            check.of(end.calls.getsockopt(accepted, SOL, value(option), 8).bytes, result)
        end.close()


@behaviour("listen.accept.peer-gone", f"{SOURCE} Error handling, ECONNABORTED; tcp_reset, unix_release_sock")
@pytest.mark.parametrize("gone", ["closed", "data-and-closed", "reset"])
def test_peer_gone(gone, prepare, calls, memory, expect):
    """A connection is accepted although its peer has closed or reset it, and with the peer's address. What the peer sent
    and its end are received, or ECONNRESET; the address of a peer that has reset is known no longer: ENOTCONN.
    """
    for kind in STREAMS:
        if gone == "reset" and kind not in CONNECTING:
            continue
        end = prepare("pending", kind)
        if gone == "data-and-closed":
            end.send(end.peer, DATA)
        if gone == "reset":
            end.reset(end.peer)
        else:
            end.close_one(end.peer)
        own = name(kind, CLIENT_PORT)
        room, length = memory.alloc(64), memory.words(64)
        check = expect([own, len(own)], kind=kind, call="accept")
        result = calls.accept(end.fd, room, length)
        check.of([room.written(len(own)), *length.words()] if result >= 0 else int(result), result)
        accepted = end.keep(result, "accept")
        end.wait(accepted)
        peer = -ENOTCONN if gone == "reset" else own
        expect(peer, kind=kind, call="getpeername").of(calls.name("getpeername", accepted))
        for step in ("data", "end") if gone == "data-and-closed" else ("end",):
            expected = {"data": DATA, "end": -ECONNRESET if gone == "reset" else b""}[step]
            block = memory.alloc(8)
            read = expect(expected, kind=kind, call="recv", reads=step)
            received = calls.make("recv", accepted, block, 8, 0)
            read.of(block.written(received) if received >= 0 else int(received), received)
        end.close()


@behaviour("listen.accept.names", f"{SOURCE} `the address of the peer`; inet_getname, unix_getname; unix(7)")
def test_names(prepare, calls, expect):
    """An accepted socket has the name of the listening socket, over TCP also if that listens at the wildcard address, and
    its peer's name. An AF_UNIX peer without a name has none: the family alone.
    """
    for kind in STREAMS:
        for client in ("named", "unnamed") if kind not in CONNECTING else ("named",):
            end = prepare("unbound", kind)
            address = kind.address(SERVER_PORT, "any") if kind in CONNECTING else end.server
            need(end.calls.bind(end.fd, address), "bind")
            need(end.calls.listen(end.fd, 1), "listen")
            end.connect(end.bound(end.client) if client == "named" else end.new(), end.server)
            peer = name(kind, CLIENT_PORT) if client == "named" else b"\1\0"
            accepted = end.keep(calls.accept(end.fd), "accept")
            case = {"kind": kind, "client": client}
            expect(name(kind, SERVER_PORT), **case, call="getsockname").of(calls.name("getsockname", accepted))
            expect(peer, **case, call="getpeername").of(calls.name("getpeername", accepted))
            end.close()


@behaviour(
    "listen.accept.signal", "accept(2) `deliver SIGIO when activity occurs`; socket(7) FIOSETOWN; fcntl(2) O_ASYNC"
)
def test_signal(prepare, calls, caller, expect):
    """A listening socket with O_ASYNC sends SIGIO to its owner when a connection comes, without O_ASYNC it sends none."""
    signals = BlockedSignals(calls, [signal.SIGIO])
    for kind in (TCP, UNIX_STREAM):
        for case, flag in {"none": 0, "O_ASYNC": O_ASYNC}.items():
            end = prepare("listening", kind)
            need(end.calls.syscall("fcntl64", end.fd, F_SETOWN, caller.pid), "F_SETOWN")
            need(end.calls.syscall("fcntl64", end.fd, F_SETFL, flag), "F_SETFL")
            check = expect(int(signal.SIGIO) if flag else 0, kind=kind, flag=case)
            result = calls.connect(end.new(), end.server)
            need(result)
            end.wait(end.fd)
            check.of(signals.taken(), result)
            end.close()
