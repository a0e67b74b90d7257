"""Sockets on one address with SO_REUSEPORT are a group: each datagram and each connection goes to one of them."""

import socket
from collections import Counter
from errno import EAGAIN
from functools import partial
from select import POLLERR, POLLHUP, POLLIN

import pytest

from probes.entry.calls import Calls
from probes.testing import behaviour, need, procfs
from probes.testing.readiness import Readiness
from probes.testing.settling import Settling
from probes.testing.socket_kinds import CONNECTING, UDP, UDP6

SOURCE = "socket(7) SO_REUSEPORT; reuseport_select_sock, reciprocal_scale"
SOL_SOCKET, SO_REUSEPORT = 1, 15
#: So many sockets are in a group, and so many sources: that all choose one socket by chance does not happen.
GROUP, SOURCES = 4, 16
NOW, PATIENCE = socket.MSG_DONTWAIT, 10_000


@pytest.fixture
def group(new_socket):
    """Makes a group: group(kind) returns its sockets, which are non-blocking and listen if they can."""

    def make(kind):
        members = []
        for _ in range(GROUP):
            member = new_socket(kind.family, kind.type | socket.SOCK_NONBLOCK, kind.protocol)
            need(member.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1))
            need(member.bind(kind.address(5000)))
            if kind in CONNECTING:
                need(member.listen(SOURCES))
            members.append(member)
        return members

    return make


@pytest.fixture
def sources(new_socket):
    """Makes sockets that are connected to the group."""

    def make(kind):
        made = [new_socket(*kind.triple) for _ in range(SOURCES)]
        for one in made:
            need(one.connect(kind.address(5000)))
        return made

    return make


def received(members, count, calls, memory):
    """Receives so many datagrams of one byte by the members of a group: for each member the bytes, and the results."""
    room, found, results = memory.alloc(1), [[] for _ in members], []
    fds = [int(member) for member in members]
    while sum(map(len, found)) < count:
        block = memory.put(b"".join(fd.to_bytes(4, "little") + bytes((POLLIN, 0, 0, 0)) for fd in fds))
        if need(calls.syscall("poll", block, len(fds), PATIENCE)) == 0:
            break
        for member, got in zip(fds, found, strict=True):
            result = calls.make("recv", member, room, 1, NOW)
            if result == 1:
                got.append(room.read()[0])
                results.append(result)
    return found, results


@behaviour("bind.group.datagrams", f"{SOURCE}; udp4_lib_lookup2, udp6_lib_lookup2 lookup_reuseport")
@pytest.mark.parametrize("kind", [UDP, UDP6], ids=str)
def test_datagrams(kind, group, sources, calls, memory, expect):
    """Each datagram for a group of UDP sockets is received by one of them, all of one source by the same, those of several
    sources by several; after a close of the first socket its sources send to others.
    """
    members, senders = group(kind), sources(kind)
    for step in ("all", "first-closed"):
        check = expect([dict.fromkeys(range(SOURCES), 2), True, True], step=step)
        sent = [
            calls.make("send", one, memory.put(bytes([number])), 1, 0)
            for _ in range(2)
            for number, one in enumerate(senders)
        ]
        for result in sent:
            need(result, "send", returns=1)
        found, results = received(members, 2 * SOURCES, calls, memory)
        once = all(len({at for at, got in enumerate(found) if number in got}) == 1 for number in range(SOURCES))
        counts = Counter(number for got in found for number in got)
        check.of([dict(sorted(counts.items())), once, sum(map(bool, found)) > 1], *sent, *results)
        for member in members:
            need(calls.make("recv", member, memory.alloc(1), 1, NOW), "recv of no more", returns=-EAGAIN)
        if step == "all":
            need(members.pop(0).close())


@behaviour("bind.group.connections", f"{SOURCE}; inet_lookup_listener, inet6_lookup_listener; inet_csk_listen_stop")
@pytest.mark.parametrize("kind", CONNECTING, ids=str)
def test_connections(kind, group, sources, calls, expect):
    """Each connection to a group of listeners is accepted from one of them, those of several sources from several. The close
    of a listener resets the connections that it did not accept, and no others; later connections go to the others.
    """
    state = Readiness(Calls(calls.gate.quieted(), calls.route, calls.memory))
    listeners, settling = group(kind), Settling(calls)
    for step in ("all", "first-closed"):
        clients = sources(kind)
        check = expect([SOURCES, True], step=step)
        # connect returns before the listener has the last frame of the handshake.
        settling.settle()
        accepted = [take_all(calls, listener) for listener in listeners[1:]]
        if step == "all":
            need(listeners[0].close())
        taken, used = sum(map(len, accepted)), sum(map(bool, accepted)) > 1
        lost = procfs.read_until(partial(reset, state, clients), SOURCES - taken)
        check.of([taken + lost, used], *(result for results in accepted for result in results))


def reset(state, clients):
    """Returns how many clients have been reset."""
    return sum(state.poll(client, 0).value == [1, POLLERR | POLLHUP] for client in clients)


def take_all(calls, listener):
    """Accepts the connections that wait at a listener, and returns the results."""
    results = []
    while (result := calls.accept(listener.fd)) >= 0:
        results.append(result)
        need(calls.close(result))
    need(result, "accept of no more", returns=-EAGAIN)
    return results
