"""The backlog of listen(2): how many connections a queue takes, and what becomes of the next."""

import socket
from errno import EAGAIN, EINPROGRESS, ENOTCONN
from functools import partial
from select import POLLOUT

from probes.testing import behaviour, need, not_applicable, procfs
from probes.testing.prepared import TCPS
from probes.testing.socket_kinds import CONNECTING, TCP, UNIX_SEQPACKET, UNIX_STREAM
from tests.listen.clients import STREAMS

SOURCE = "listen(2) backlog; sk_acceptq_is_full, unix_recvq_full"
SOURCE_CAPPED = "listen(2) NOTES `silently capped`; __sys_listen `(unsigned int)backlog > somaxconn`"
SOURCE_FULL = "listen(2) `when the queue is full`; connect(2) EAGAIN; tcp_conn_request, unix_stream_connect"
SOMAXCONN = "net.core.somaxconn"
#: What net.core.somaxconn is in a test.
MOST = 4
CAPPED = {"least": -(1 << 31), "-1": -1, "over": MOST + 1, "65536": 1 << 16, "greatest": (1 << 31) - 1}


@behaviour("listen.backlog.length", SOURCE, tag="implementation")
def test_length(prepare, calls, clients, expect):
    """As many connections are queued as the backlog says, and one more."""
    for kind in STREAMS:
        for backlog in (0, 1, 3):
            end = prepare("bound", kind)
            queued = expect(backlog + 1, kind=kind, backlog=backlog)
            result = calls.listen(end.fd, backlog)
            queued.of(clients.fill(end) if result == 0 else int(result), result)
            end.close()


@behaviour("listen.backlog.capped", SOURCE_CAPPED, tag="implementation")
def test_capped(prepare, calls, clients, expect):
    """A backlog over net.core.somaxconn is this value; it is compared as an unsigned number."""
    try:
        procfs.set_sysctl(SOMAXCONN, MOST)
    except FileNotFoundError:
        not_applicable(f"sysctl {SOMAXCONN} of a network namespace")
    for kind in (TCP, UNIX_STREAM):
        for case, backlog in CAPPED.items():
            end = prepare("bound", kind)
            queued = expect(MOST + 1, kind=kind, backlog=case)
            result = calls.listen(end.fd, backlog)
            queued.of(clients.fill(end) if result == 0 else int(result), result)
            end.close()


@behaviour("listen.backlog.changed", f"{SOURCE}; inet_listen `already in listen state`, unix_listen")
def test_changed(prepare, calls, clients, expect):
    """listen on a listening socket changes its backlog: with a greater one more connections are queued, with a smaller one
    no more, and those that are queued stay.
    """
    for kind in STREAMS:
        end = prepare("bound", kind, flags=socket.SOCK_NONBLOCK)
        for step, (backlog, more) in {"first": (0, 1), "greater": (2, 2), "smaller": (0, 0)}.items():
            queued = expect(more, kind=kind, backlog=step)
            result = calls.listen(end.fd, backlog)
            queued.of(clients.fill(end) if result == 0 else int(result), result)
        kept = expect([*procfs.lowest(3), -EAGAIN], kind=kind, then="accept")
        results = [calls.accept(end.fd) for _ in range(4)]
        kept.of([int(result) for result in results], *results)
        end.made += [result for result in results if result >= 0]
        end.close()


@behaviour("listen.backlog.full", SOURCE_FULL)
def test_full(prepare, calls, clients, expect):
    """While the queue is full a non-blocking connect over AF_UNIX fails with EAGAIN, and over TCP, whose request is ignored,
    with EINPROGRESS; neither has a peer.
    """
    for kind in STREAMS:
        end = prepare("backlog-full", kind)
        fd = end.new(socket.SOCK_NONBLOCK)
        error = EINPROGRESS if end.of(TCPS) else EAGAIN
        expect(-error, kind=kind, call="connect").of(calls.connect(fd, end.server))
        clients.settle()
        expect(-ENOTCONN, kind=kind, call="getpeername").of(calls.name("getpeername", fd))
        end.close()


@behaviour("listen.backlog.room", f"{SOURCE_FULL}; unix_accept `wake_up_interruptible(&unix_sk(sk)->peer_wait)`")
def test_room(prepare, calls, expect):
    """Once a connection is accepted the queue has room: an AF_UNIX client connects, with the same socket."""
    for kind in (UNIX_STREAM, UNIX_SEQPACKET):
        end = prepare("backlog-full", kind)
        fd = end.new(socket.SOCK_NONBLOCK)
        expect(-EAGAIN, kind=kind, queue="full").of(calls.connect(fd, end.server))
        end.keep(calls.accept(end.fd), "accept")
        expect(0, kind=kind, queue="room").of(calls.connect(fd, end.server))
        end.close()


@behaviour("listen.backlog.retried", "listen(2) `a later reattempt at connection succeeds`; tcp_retransmit_timer")
def test_retried(prepare, calls, expect):
    """A request to connect over TCP that was ignored, as the queue was full, is sent again, and succeeds when a connection
    has been accepted.
    """
    end = prepare("connecting", TCP)
    end.keep(calls.accept(end.peer), "accept")
    check = expect(0, call="connect")
    end.wait(end.fd, POLLOUT)
    check.of(calls.connect(end.fd, end.server))


@behaviour("listen.backlog.wakes", "listen(2) backlog; unix_listen `wake_up_interruptible_all(&u->peer_wait)`")
def test_wakes(prepare, calls, caller, meanwhile, expect):
    """listen with a greater backlog lets a connect over AF_UNIX go on that is blocked because the queue is full."""
    end = prepare("backlog-full", UNIX_STREAM)
    fd = end.new()
    with socket.socket(fileno=caller.lend(end.fd)) as lent:
        check = expect(0, call="connect")
        with meanwhile(partial(lent.listen, 1)):
            check.of(calls.connect(fd, end.server))
    need(calls.accept(end.fd))


@behaviour(
    "listen.backlog.default",
    "listen(2) NOTES SOMAXCONN, `4096`; tcp_get_info TCP_LISTEN `tcpi_sacked`",
    tag="implementation",
)
def test_default(prepare, calls, caller, expect):
    """In a new network namespace a backlog is at most 4096, as TCP_INFO of the listening socket shows it, beside the number
    of connections that are queued.
    """
    caller.new_network()
    for kind in CONNECTING:
        for case, backlog, shown in (("under", 5, 5), ("most", 4096, 4096), ("over", 4097, 4096), ("-1", -1, 4096)):
            end = prepare("bound", kind)
            need(calls.listen(end.fd, backlog), "listen")
            for queued in (0, 1):
                info = expect([queued, shown], kind=kind, backlog=case, connections=queued)
                info.of(calls.getsockopt(end.fd, socket.IPPROTO_TCP, socket.TCP_INFO, 32)[24:].unpack("<II"))
                if not queued:
                    end.connect(end.new(), end.server)
                    end.wait(end.fd)
            end.close()
