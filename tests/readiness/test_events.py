"""What poll, select and epoll report of sockets of every kind, in every state that they can have."""

from select import POLLERR, POLLHUP, POLLIN, POLLOUT, POLLPRI, POLLRDNORM, POLLWRBAND, POLLWRNORM

import pytest

from probes.testing import behaviour
from probes.testing.readiness import EVERY, POLLRDHUP
from probes.testing.socket_kinds import (
    NETLINK,
    PACKET_DGRAM,
    RAW,
    TCP,
    TCP6,
    UDP,
    UDP6,
    UNIX_DGRAM,
    UNIX_SEQPACKET,
    UNIX_STREAM,
)

pytestmark = pytest.mark.routes("direct")

SOURCE = "socket(7) `events`; poll(2) POLLIN, POLLOUT, POLLRDHUP, POLLERR, POLLHUP; tcp_poll, datagram_poll, unix_poll"
READ, WRITE = POLLIN | POLLRDNORM, POLLOUT | POLLWRNORM
#: What datagram and AF_UNIX sockets report when they can be written to.
BAND = WRITE | POLLWRBAND
END, URGENT, ERROR, HUP = READ | POLLRDHUP, POLLPRI, POLLERR, POLLHUP
TCP_STATES = {
    "unbound": WRITE | HUP, "bound": WRITE | HUP, "listening": 0, "pending": READ, "backlog-full": READ, "connecting": 0,
    "connected": WRITE, "with-data": READ | WRITE, "with-urgent-data": URGENT | WRITE, "full": 0, "half-closed": WRITE,
    "peer-half-closed": END | WRITE, "peer-closed": END | WRITE, "data-and-end": END | WRITE,
    "shut-down": END | WRITE | HUP, "reset": END | WRITE | HUP | ERROR, "time-wait": END | WRITE | HUP,
}  # fmt: skip
UNIX_STATES = {
    "unbound": BAND | HUP, "bound": BAND | HUP, "listening": 0, "pending": READ, "backlog-full": READ, "connected": BAND,
    "with-data": READ | BAND, "with-rights": READ | BAND, "full": 0, "half-closed": BAND, "peer-half-closed": END | BAND,
    "peer-closed": END | BAND | HUP, "data-and-end": END | BAND, "shut-down": END | BAND | HUP,
    "reset": END | BAND | HUP | ERROR,
}  # fmt: skip
DATAGRAM_STATES = {"unbound": BAND, "bound": BAND, "connected": BAND, "with-data": READ | BAND}
EVENTS = {
    TCP: TCP_STATES,
    UNIX_STREAM: UNIX_STATES,
    UNIX_SEQPACKET: {state: events for state, events in UNIX_STATES.items() if state != "with-rights"},
    UNIX_DGRAM: DATAGRAM_STATES | {"full": 0},
    UDP: DATAGRAM_STATES | {"refused": BAND | ERROR},
    **dict.fromkeys((NETLINK, RAW, PACKET_DGRAM), DATAGRAM_STATES),
}
#: What says the same over IPv6 is judged for the states that have code of their own there: none but these.
EVENTS6 = {TCP6: {"connected": WRITE, "connecting": 0}, UDP6: {"refused": BAND | ERROR}}
#: The events that put a descriptor into the three sets of select: select(2) POLLIN_SET, POLLOUT_SET, POLLEX_SET.
SETS = (POLLIN | POLLHUP | POLLERR, POLLOUT | POLLERR, POLLPRI)


def states(table):
    """Yields the kinds and states of a table, each with its number and its events."""
    for kind, events_of in table.items():
        for number, (state, events) in enumerate(events_of.items()):
            yield number, kind, state, events


@behaviour("readiness.events.states", f"{SOURCE}; select(2) Correspondence between select() and poll(); epoll_ctl(2)")
@pytest.mark.parametrize("kind", EVENTS, ids=str)
def test_states(kind, prepare, readiness, expect):
    """poll and epoll_wait report what is so of a socket: that it can be read or written without blocking, has urgent data, a
    pending error, its peer's end, no connection. select puts the descriptor into the sets that correspond.
    """
    table = {kind: EVENTS[kind]} | ({six: EVENTS6[six] for six in EVENTS6} if kind is UDP else {})
    for number, of, state, events in states(table):
        end = prepare.another(number)(state, of)
        case = {} if of is kind else {"also": of}
        ready = int(events != 0)
        expect([ready, events], **case, state=state, call="poll").of(readiness.poll(end))
        sets = [bool(events & wanted) for wanted in SETS]
        expect([sum(sets), sets], **case, state=state, call="select").of(readiness.select(end))
        epoll = readiness.watching(end, EVERY, 77)
        expect([ready, *([[events, 77]] * ready)], **case, state=state, call="epoll").of(readiness.wait(epoll))
        end.close()


@behaviour("readiness.events.requested", "poll(2) `set in the revents field whenever`; epoll_ctl(2) EPOLLERR, EPOLLHUP")
def test_requested(prepare, readiness, expect):
    """Only events that were requested are reported, each bit of them, but POLLERR and POLLHUP always; the latter with
    events 0 too.
    """
    for state, events in (
        ("with-data", READ | WRITE),
        ("with-urgent-data", URGENT | WRITE),
        ("reset", TCP_STATES["reset"]),
    ):
        end = prepare(state, TCP)
        for bit in (1 << at for at in range(14)):
            asked = bit & (EVERY | ERROR | HUP)
            wanted = events & (asked | ERROR | HUP)
            expect([int(wanted != 0), wanted], state=state, call="poll", events=bit).of(readiness.poll(end, bit))
            epoll = readiness.watching(end, bit)
            expect([int(wanted != 0), *([[wanted, 0]] * (wanted != 0))], state=state, call="epoll", events=bit).of(
                readiness.wait(epoll)
            )
        expect([int(bool(events & (ERROR | HUP))), events & (ERROR | HUP)], state=state, call="poll", events=0).of(
            readiness.poll(end, 0)
        )
        end.close()
