"""connect where a local packet filter drops what the host sends."""

import socket
from errno import EALREADY, EINPROGRESS, EPERM

from probes.testing import behaviour
from probes.testing.socket_kinds import TCP, TCP6, UDP, UDP6
from probes.testing.states import DATA
from tests.connect.packet_filter import drop_all

SOURCE = "connect(2) EPERM `local firewall rule`; tcp_connect `err == -ECONNREFUSED`; nf_hook_slow NF_DROP"
SOL, ERROR = socket.SOL_SOCKET, socket.SO_ERROR


@behaviour("connect.filter.dropped", SOURCE, tag="implementation")
def test_dropped(prepare, calls, expect):
    """connect over TCP does not fail if the local packet filter drops its request: it stays under way, without an error. A
    datagram socket is connected, and its send fails with EPERM.
    """
    drop_all(prepare)
    for kind in (TCP, TCP6):
        end = prepare("unbound", kind, flags=socket.SOCK_NONBLOCK)
        for step, error in {"first": EINPROGRESS, "second": EALREADY}.items():
            expect(-error, kind=kind, step=step).of(calls.connect(end.fd, end.server))
        expect(0, kind=kind, read="SO_ERROR").of(calls.getsockopt(end.fd, SOL, ERROR).as_int())
        end.close()
    for kind in (UDP, UDP6):
        end = prepare("bound", kind)
        expect(0, kind=kind, call="connect").of(calls.connect(end.fd, end.server))
        sent = expect(-EPERM, kind=kind, call="send")
        sent.of(calls.make("send", end.fd, calls.pointer(DATA), len(DATA), socket.MSG_NOSIGNAL))
        expect(0, kind=kind, read="SO_ERROR").of(calls.getsockopt(end.fd, SOL, ERROR).as_int())
        end.close()
