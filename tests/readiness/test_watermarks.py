"""When a socket counts as readable, writable or exceptional: low-water marks, the error queue."""

import socket
from errno import EAGAIN, ENOPROTOOPT
from functools import partial
from select import POLLERR, POLLIN, POLLOUT, POLLPRI

import pytest

from probes.testing import behaviour, need, procfs
from probes.testing.readiness import POLLRDHUP, WANTED
from probes.testing.socket_kinds import TCP, UDP, UNIX_STREAM
from probes.testing.states import DATA

pytestmark = pytest.mark.routes("direct")

SOL_SOCKET, IPPROTO_IP, IPPROTO_TCP = 1, 0, 6
SO_SNDLOWAT, SO_RCVLOWAT, SO_ERROR, SO_SELECT_ERR_QUEUE = 19, 18, 4, 45
IP_RECVERR, TCP_NOTSENT_LOWAT, MSG_ERRQUEUE = 11, 25, 0x2000


@behaviour(
    "readiness.watermark.receive", "socket(7) SO_RCVLOWAT `select(2), poll(2), and epoll(7)`; tcp_stream_is_readable"
)
def test_receive(readiness, prepare, expect):
    """A TCP socket is readable once SO_RCVLOWAT bytes are there, or the end: for poll, select and epoll. An AF_UNIX socket
    is with one byte.
    """
    for kind, less in ((TCP, 0), (UNIX_STREAM, POLLIN)):
        end = prepare("connected", kind)
        need(end.calls.setsockopt(end.fd, SOL_SOCKET, SO_RCVLOWAT, 8))
        epoll = readiness.watching(end, POLLIN, 1)
        for count, events in ((4, less), (8, POLLIN), (12, POLLIN)):
            end.send(end.peer, DATA)
            # A receive that sleeps is not woken below the mark.
            await_bytes(end, count)
            ready = int(events != 0)
            expect([ready, events], kind=kind, bytes=count, call="poll").of(readiness.poll(end, POLLIN))
            expect([ready, *([[events, 1]] * ready)], kind=kind, bytes=count, call="epoll").of(readiness.wait(epoll))
            sets = [ready == 1, True, False]
            expect([ready + 1, sets], kind=kind, bytes=count, call="select").of(readiness.select(end))
        end.close()
    end = prepare("connected", TCP)
    need(end.calls.setsockopt(end.fd, SOL_SOCKET, SO_RCVLOWAT, 8))
    end.send(end.peer, DATA)
    end.shutdown(end.peer, socket.SHUT_WR)
    end.wait(end.fd, POLLRDHUP)
    expect([1, POLLIN], kind=TCP, bytes=4, then="end", call="poll").of(readiness.poll(end, POLLIN))


def await_bytes(end, count):
    """Waits until so many bytes are there to receive."""
    room = end.calls.memory.alloc(count)
    peeked = partial(end.calls.make, "recv", end.fd, room, count, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    procfs.read_until(lambda: int(peeked()), count)
    need(peeked(), "recv", returns=count)


@behaviour(
    "readiness.watermark.send", "socket(7) SO_SNDLOWAT ENOPROTOOPT; tcp(7) TCP_NOTSENT_LOWAT; sk_stream_is_writeable"
)
def test_send(readiness, prepare, calls, memory, expect):
    """SO_SNDLOWAT cannot be changed. A TCP socket is writable while less than TCP_NOTSENT_LOWAT bytes wait to be sent: with
    a higher mark it is at once.
    """
    end = prepare("connected", TCP)
    expect(-ENOPROTOOPT, option="SO_SNDLOWAT").of(calls.setsockopt(end.fd, SOL_SOCKET, SO_SNDLOWAT, 1))
    need(calls.setsockopt(end.fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 1))
    expect([1, POLLOUT], option="TCP_NOTSENT_LOWAT", step="idle").of(readiness.poll(end, POLLOUT))
    data = memory.alloc(1 << 14)
    fill(end, data)
    expect([0, 0], option="TCP_NOTSENT_LOWAT", step="above-the-mark").of(readiness.poll(end, POLLOUT))
    need(calls.setsockopt(end.fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, -1))
    expect([1, POLLOUT], option="TCP_NOTSENT_LOWAT", step="mark-raised").of(readiness.poll(end, POLLOUT))


def fill(end, data):
    """Sends until the socket takes nothing more, though all that can be acknowledged is."""
    taken = True
    while taken:
        taken = False
        while (sent := end.calls.make("send", end.fd, data, data.size, socket.MSG_DONTWAIT)) > 0:
            taken = True
        need(sent, "send above the mark", returns=-EAGAIN)
        # What is in flight makes room once it is acknowledged, which the peer delays.
        need(end.calls.setsockopt(end.peer, IPPROTO_TCP, socket.TCP_QUICKACK, 1), "TCP_QUICKACK")


@behaviour("readiness.errors.queue", "ip(7) IP_RECVERR; poll(2) POLLERR; socket(7) SO_SELECT_ERR_QUEUE; datagram_poll")
@pytest.mark.parametrize("select_queue", [0, 1], ids=["default", "select-err-queue"])
def test_queue(select_queue, readiness, prepare, calls, memory, expect):
    """An error in the queue of IP_RECVERR is POLLERR, and readable and writable for select, until it is taken from there,
    though SO_ERROR was read; with SO_SELECT_ERR_QUEUE it is POLLPRI too, and in exceptfds.
    """
    end = prepare("connected", UDP)
    end.close_one(end.peer)
    need(calls.setsockopt(end.fd, IPPROTO_IP, IP_RECVERR, 1))
    need(calls.setsockopt(end.fd, SOL_SOCKET, SO_SELECT_ERR_QUEUE, select_queue))
    end.send(end.fd, DATA)
    end.wait(end.fd, POLLERR)
    events = POLLOUT | POLLERR | (POLLPRI if select_queue else 0)
    expect([1, events], step="queued", call="poll").of(readiness.poll(end, WANTED))
    need(calls.getsockopt(end.fd, SOL_SOCKET, SO_ERROR))
    expect([1, events], step="so-error-read", call="poll").of(readiness.poll(end, WANTED))
    sets = [True, True, bool(select_queue)]
    expect([2 + select_queue, sets], step="so-error-read", call="select").of(readiness.select(end))
    message = memory.words(0, 0, memory.words(memory.alloc(16), 16), 1, memory.alloc(128), 128, 0)
    need(calls.make("recvmsg", end.fd, message, MSG_ERRQUEUE), "recvmsg of the error queue")
    expect([1, POLLOUT], step="taken", call="poll").of(readiness.poll(end, WANTED))
