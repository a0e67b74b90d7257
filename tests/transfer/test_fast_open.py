"""Data that goes with the SYN: MSG_FASTOPEN, TCP_FASTOPEN and TCP_FASTOPEN_CONNECT."""

import socket
from errno import EAGAIN, EALREADY, EINPROGRESS, EINVAL, EISCONN, EOPNOTSUPP

from probes.testing import behaviour, need, procfs
from probes.testing.socket_kinds import TCP, TCP6
from probes.testing.states import DATA
from tests.transfer.exchange import came, went

FASTOPEN = 0x20000000
#: include/uapi/linux/tcp.h.
TCP_FASTOPEN, TCP_FASTOPEN_CONNECT = 23, 30
#: TFO_CLIENT_ENABLE, TFO_SERVER_ENABLE, TFO_CLIENT_NO_COOKIE, TFO_SERVER_COOKIE_NOT_REQD, and TFO_SERVER_WO_SOCKOPT1,
#: with which a listener needs no option.
WITHOUT_COOKIES = 0x607


@behaviour("transfer.effects.fast-open", "send(2) MSG_FASTOPEN; tcp(7) TCP_FASTOPEN; tcp_sendmsg_fastopen")
def test_fast_open(exchange, prepare, expect):
    """Sending with MSG_FASTOPEN and a destination connects a TCP socket and sends the data, in the SYN where no cookie is
    needed: the peer accepts a connection that has it.
    """
    procfs.set_sysctl("net.ipv4.tcp_fastopen", WITHOUT_COOKIES)
    for kind in (TCP, TCP6):
        for op in exchange.over(("sendto", "sendmsg", "sendmmsg")):
            end = prepare("beside-server", kind)
            need(end.calls.setsockopt(end.peer, socket.IPPROTO_TCP, TCP_FASTOPEN, 5))
            expect(went(op, 4), kind=kind, op=op).of(exchange.send(op, end, DATA, FASTOPEN, name=end.server))
            end.wait(end.peer)
            accepted = end.keep(end.calls.accept(end.peer), "accept")
            end.wait(accepted)
            expect(came("recv", DATA), kind=kind, op=op, reader="peer").of(exchange.receive("recv", accepted, 8))
            end.close()


@behaviour("transfer.effects.fast-open-refused", "send(2) MSG_FASTOPEN, EALREADY; tcp_sendmsg_fastopen")
def test_fast_open_refused(exchange, prepare, expect):
    """MSG_FASTOPEN on a non-blocking socket without a cookie fails with EINPROGRESS and connects; while it connects another
    one fails with EALREADY; where the client side is off (net.ipv4.tcp_fastopen) it fails with EOPNOTSUPP.
    """
    procfs.set_sysctl("net.ipv4.tcp_fastopen", "1")
    for op in exchange.over(("sendto", "sendmsg", "sendmmsg")):
        end = prepare("beside-server", TCP, socket.SOCK_NONBLOCK)
        expect(-EINPROGRESS, op=op, cookie="none").of(exchange.send(op, end, DATA, FASTOPEN, name=end.server))
        end.wait(end.peer)
        accepted = end.keep(end.calls.accept(end.peer), "accept")
        end.send(end.fd, b"after")
        end.wait(accepted)
        expect(came("recv", b"after"), op=op, reader="peer").of(exchange.receive("recv", accepted, 8))
        end.close()
        end = prepare("connecting", TCP)
        expect(-EALREADY, op=op, state="connecting").of(exchange.send(op, end, DATA, FASTOPEN, name=end.server))
        end.close()
    procfs.set_sysctl("net.ipv4.tcp_fastopen", "0")
    for op in exchange.over(("sendto", "sendmsg", "sendmmsg")):
        end = prepare("beside-server", TCP)
        expect(-EOPNOTSUPP, op=op, client="off").of(exchange.send(op, end, DATA, FASTOPEN, name=end.server))
        end.close()


@behaviour("transfer.effects.fast-open-deferred", "tcp(7) TCP_FASTOPEN_CONNECT; __inet_stream_connect `defer_connect`")
def test_deferred(exchange, prepare, calls, expect):
    """With TCP_FASTOPEN_CONNECT connect returns 0 and sends nothing: the first data that is sent, by any operation, connects
    and goes with the SYN, and the peer accepts a connection that has it. Then the socket is connected: EISCONN.
    """
    procfs.set_sysctl("net.ipv4.tcp_fastopen", WITHOUT_COOKIES)
    for kind in (TCP, TCP6):
        for op in exchange.sending:
            end = prepare("beside-server", kind)
            end.nonblocking(end.peer)
            need(calls.setsockopt(end.peer, socket.IPPROTO_TCP, TCP_FASTOPEN, 5), "TCP_FASTOPEN")
            need(calls.setsockopt(end.fd, socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1), "TCP_FASTOPEN_CONNECT")
            expect(0, kind=kind, op=op, then="connect").of(calls.connect(end.fd, end.server))
            expect(-EAGAIN, kind=kind, op=op, then="accept").of(calls.accept(end.peer))
            expect(went(op, 4), kind=kind, op=op).of(exchange.send(op, end, DATA))
            end.wait(end.peer)
            accepted = end.keep(end.calls.accept(end.peer), "accept")
            end.wait(accepted)
            expect(came("recv", DATA), kind=kind, op=op, reader="peer").of(exchange.receive("recv", accepted, 8))
            expect(-EISCONN, kind=kind, op=op, then="connect-again").of(calls.connect(end.fd, end.server))
            end.close()


@behaviour("transfer.effects.fast-open-option", "tcp(7) TCP_FASTOPEN, TCP_FASTOPEN_CONNECT; do_tcp_setsockopt")
def test_option(prepare, calls, expect):
    """TCP_FASTOPEN is set on a socket that is unconnected or listens, else it fails with EINVAL; TCP_FASTOPEN_CONNECT takes
    0 and 1 on an unconnected socket alone, else EINVAL, and fails with EOPNOTSUPP where the client side is off.
    """
    procfs.set_sysctl("net.ipv4.tcp_fastopen", WITHOUT_COOKIES)
    for state, fast_open, connect in (("unbound", 0, 0), ("listening", 0, -EINVAL), ("connected", -EINVAL, -EINVAL)):
        end = prepare(state, TCP)
        for name, number, value in (("listener", TCP_FASTOPEN, fast_open), ("connect", TCP_FASTOPEN_CONNECT, connect)):
            check = expect(value, state=state, option=name)
            check.of(calls.setsockopt(end.fd, socket.IPPROTO_TCP, number, 1))
        end.close()
    end = prepare("unbound", TCP)
    for value in (2, -1):
        expect(-EINVAL, given=value, option="connect").of(
            calls.setsockopt(end.fd, socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, value)
        )
    expect(-EINVAL, given=-1, option="listener").of(calls.setsockopt(end.fd, socket.IPPROTO_TCP, TCP_FASTOPEN, -1))
    procfs.set_sysctl("net.ipv4.tcp_fastopen", 0)
    off = expect(-EOPNOTSUPP, option="connect", client="off")
    off.of(calls.setsockopt(end.fd, socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1))
