"""Which sockets listen(2) makes listen: kinds, states, addresses, and the option that shows it."""

import socket
from errno import EADDRINUSE, ECONNREFUSED, EINVAL, ENOPROTOOPT, EOPNOTSUPP

import pytest

from probes.testing import behaviour, need
from probes.testing.socket_kinds import (
    CONNECTING,
    NETLINK,
    PACKET,
    PACKET_DGRAM,
    RAW,
    RAW6,
    TCP,
    UDP,
    UDP6,
    UDPLITE,
    UNIX_DGRAM,
)  # fmt: skip
from probes.testing.states import possible
from tests.listen.clients import CONNECTED, STREAMS
from tests.listen.other_files import SPECIAL, OtherFiles

SOL, ACCEPTS = socket.SOL_SOCKET, socket.SO_ACCEPTCONN
SOURCE = "listen(2); inet_listen, unix_listen, sock_no_listen"
NEVER = (UDP, UDP6, UDPLITE, RAW, RAW6, UNIX_DGRAM, NETLINK, PACKET, PACKET_DGRAM)


@behaviour("listen.type.others", f"{SOURCE}; listen(2) EOPNOTSUPP")
def test_others(prepare, calls, expect):
    """listen on a socket of another type than SOCK_STREAM and SOCK_SEQPACKET fails with EOPNOTSUPP, bound or not."""
    for kind in NEVER:
        for state in (state for state in ("unbound", "bound") if possible(state, kind)):
            end = prepare(state, kind)
            expect(-EOPNOTSUPP, kind=kind, state=state).of(calls.listen(end.fd, 1))
            end.close()


@behaviour("listen.state.every", f"{SOURCE} EINVAL; unix(7) EINVAL")
def test_states(prepare, calls, expect):
    """listen succeeds on a bound socket, and again on a listening one, with connections queued or not. It fails with EINVAL
    on one that is, or has been, connected, and on an AF_UNIX socket without a name. SO_ACCEPTCONN shows whether it listens.
    """
    for kind in STREAMS:
        tcp = kind in CONNECTING
        unnamed = {} if tcp else {"unbound": -EINVAL, "connected": -EINVAL}
        states = CONNECTED if tcp else ("connected-by-name",)
        listening = dict.fromkeys(("bound", "listening", "pending", "backlog-full"), 0)
        for state, expected in (unnamed | listening | dict.fromkeys(states, -EINVAL)).items():
            end = prepare(state, kind)
            expect(expected, kind=kind, state=state).of(calls.listen(end.fd, 1))
            expect(int(expected == 0), kind=kind, state=state, read="SO_ACCEPTCONN").of(
                calls.getsockopt(end.fd, SOL, ACCEPTS).as_int()
            )
            end.close()


@behaviour("listen.state.after-refused", "connect(2) ECONNREFUSED; listen(2); inet_listen `sock->state`")
def test_after_refused(prepare, calls, expect):
    """A socket whose connect was refused can listen."""
    for kind in STREAMS:
        end = prepare("bound", kind)
        nowhere = kind.address(5009) if kind in CONNECTING else b"\1\0\0nowhere"
        need(end.calls.connect(end.fd, nowhere), "connect to no socket", returns=-ECONNREFUSED)
        expect(0, kind=kind).of(calls.listen(end.fd, 1))
        end.close()


@behaviour("listen.option.accepts", "socket(7) SO_ACCEPTCONN; sk_getsockopt, sk_setsockopt `return -ENOPROTOOPT`")
def test_option(prepare, calls, expect):
    """SO_ACCEPTCONN is 1 of a listening socket, 0 of one that it has accepted, and cannot be set: ENOPROTOOPT."""
    for kind in STREAMS:
        end = prepare("pending", kind)
        expect(1, kind=kind, socket="listening").of(calls.getsockopt(end.fd, SOL, ACCEPTS).as_int())
        expect(-ENOPROTOOPT, kind=kind, socket="listening", call="setsockopt").of(
            calls.setsockopt(end.fd, SOL, ACCEPTS, 0)
        )
        accepted = end.keep(calls.accept(end.fd), "accept")
        expect(0, kind=kind, socket="accepted").of(calls.getsockopt(accepted, SOL, ACCEPTS).as_int())
        end.close()


@behaviour("listen.address.in-use", "listen(2) EADDRINUSE `already listening`; inet_csk_listen_start `get_port`")
def test_in_use(new_socket, expect):
    """Of sockets that share an address by SO_REUSEADDR one can listen: listen on another fails with EADDRINUSE until the
    first is closed. With SO_REUSEPORT all can.
    """
    for kind in CONNECTING:
        for second_host in ("loopback", "any"):
            first, second = new_socket(*kind.triple), new_socket(*kind.triple)
            for sock, host in ((first, "loopback"), (second, second_host)):
                need(sock.setsockopt(SOL, socket.SO_REUSEADDR, 1))
                need(sock.bind(kind.address(5000, host)))
            case = {"kind": kind, "host": second_host}
            expect(0, **case, socket="first").of(first.listen())
            expect(-EADDRINUSE, **case, socket="second").of(second.listen())
            need(first.close())
            expect(0, **case, socket="second", first="closed").of(second.listen())
            need(second.close())
        sharing = [new_socket(*kind.triple) for _ in range(2)]
        for number, sock in enumerate(sharing):
            need(sock.setsockopt(SOL, socket.SO_REUSEPORT, 1))
            need(sock.bind(kind.address(5000)))
            expect(0, kind=kind, shared="SO_REUSEPORT", socket=number).of(sock.listen())
        for sock in sharing:
            need(sock.close())


@behaviour("listen.descriptor.usual", "listen(2), accept(2) EBADF, ENOTSOCK; sockfd_lookup_light")
def test_descriptor(prepare, calls, expect):
    """listen, accept and accept4 fail with EBADF on what is no open descriptor or was opened with O_PATH, with ENOTSOCK on
    any other file.
    """
    for name, (fd, error) in OtherFiles(calls).usual(prepare("bound", TCP).fd).items():
        for op, words in {"listen": (1,), "accept": (0, 0), "accept4": (0, 0, 0)}.items():
            expect(-error, descriptor=name, call=op).of(calls.make(op, fd, *words))


@behaviour("listen.descriptor.special", "accept(2) ENOTSOCK; sockfd_lookup_light; open_tree(2) `O_PATH`")
@pytest.mark.parametrize("name", SPECIAL)
def test_special(name, calls, expect):
    """accept and accept4 fail with ENOTSOCK on every descriptor that is no socket, with EBADF on one of open_tree."""
    fd, error = OtherFiles(calls).special(name)
    for op, words in {"accept": (0, 0), "accept4": (0, 0, 0)}.items():
        expect(-error, call=op).of(calls.make(op, fd, *words))
