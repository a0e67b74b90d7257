"""epoll_wait(2): how many events, which, and how often: level and edge, one shot, in turn."""

import os
import select
import struct
from errno import EBADF, EFAULT, EINVAL, ENOSYS
from select import EPOLLEXCLUSIVE, EPOLLONESHOT, POLLERR, POLLHUP, POLLIN, POLLOUT

import pytest

from probes.entry.memory import POISON, PROT_READ
from probes.testing import AbiDifference, behaviour, need
from probes.testing.readiness import ADD, EPOLLET, MODIFY, POLLRDHUP
from probes.testing.socket_kinds import TCP, UDP, UNIX_STREAM
from probes.testing.states import DATA
from tests.readiness.waiting import of_form

pytestmark = pytest.mark.routes("direct")

SOURCE = "epoll_wait(2)"
EVENT = struct.Struct("<IQ")
FORMS = ("epoll_wait", "epoll_pwait", "epoll_pwait2")
#: Bytes of a timeout, and the signal mask and its size behind it.
TAIL = {"epoll_wait": (0,), "epoll_pwait": (0, 0, 8), "epoll_pwait2": (0, 0, 8)}
#: More events than there are, in memory that a 32-bit process can have.
MANY = 1 << 20
#: include/linux/eventpoll.h EP_MAX_EVENTS: INT_MAX over the size of struct epoll_event.
MOST = 0x7FFFFFFF // 12


@pytest.fixture
def receive(calls, memory):
    """Receives from a descriptor, for set-up."""
    return lambda fd, count=4: need(calls.make("recv", fd, memory.scratch(bytes(16), "room"), count, 0), "recv")


@pytest.fixture
def wait(calls, memory):
    """Waits by a form with time 0: wait(form, epoll, events, maxevents) returns the result."""
    zero = memory.put(bytes(16))

    def make(form, epoll, events, most):
        tail = (zero, 0, 8) if form == "epoll_pwait2" else TAIL[form]
        return calls.syscall(form, epoll, events, most, *tail)

    return make


@behaviour("readiness.epoll.written", f"{SOURCE} events, data, maxevents; ep_send_events, epoll_put_uevent")
@pytest.mark.parametrize("form", FORMS)
def test_written(form, wait, readiness, prepare, memory, expect):
    """epoll_wait writes 12 bytes for each event, 4 of events and 8 of data, at most maxevents of them, and nothing behind;
    it returns how many. With more than maxevents ready, calls report them in turn.
    """
    epoll, ends = readiness.epoll(), [prepare.another(number)("with-data", UDP) for number in range(3)]
    for number, end in enumerate(ends):
        need(readiness.control(epoll, ADD, end, POLLIN, 0x1122334455667700 + number))
    entry = [EVENT.pack(POLLIN, 0x1122334455667700 + number) for number in range(3)]
    poison = bytes([POISON])
    for most, numbers in ((3, (0, 1, 2)), (2, (0, 1)), (2, (2, 0)), (1, (1,)), (1, (2,)), (MANY, (0, 1, 2))):
        block = memory.alloc(48)
        case = "".join(map(str, numbers))
        wanted = b"".join(entry[number] for number in numbers).ljust(48, poison)
        check = expect(of_form(form, [len(numbers), wanted], [-ENOSYS, poison * 48]), maxevents=most, reports=case)
        result = wait(form, epoll, block, most)
        check.of([result, block.read()], result)
    expect(of_form(form, 1), maxevents=1, memory="enough").of(wait(form, epoll, memory.guarded(12), 1))


@behaviour("readiness.epoll.refused", f"{SOURCE} EBADF, EINVAL, EFAULT; do_epoll_wait, ep_check_params, EP_MAX_EVENTS")
@pytest.mark.parametrize("form", FORMS)
def test_refused(form, wait, readiness, prepare, memory, expect):
    """epoll_wait fails with EINVAL for maxevents of 0 and below, or of more than INT_MAX bytes, and for epfd that is no
    epoll; with EBADF for none; with EFAULT where an event cannot be written, which is then reported again.
    """
    end = prepare("with-data", UNIX_STREAM)
    epoll, room = readiness.watching(end, POLLIN | EPOLLET, 5), memory.alloc(48)
    for case, most in {"0": 0, "minus-1": -1, "least": -(1 << 31), "more": MOST + 1, "int-max": 0x7FFFFFFF}.items():
        expect(of_form(form, -EINVAL), maxevents=case).of(wait(form, epoll, room, most))
    expect(of_form(form, -EBADF), epfd="none").of(wait(form, -1, room, 1))
    expect(of_form(form, -EINVAL), epfd="socket").of(wait(form, end, room, 1))
    for case, events in (
        ("no-access", memory.unmapped()), ("null", 0), ("read-only", memory.guarded(bytes(12), PROT_READ)),
        ("one-byte-less", memory.guarded(11)),
    ):  # fmt: skip
        expect(of_form(form, -EFAULT), events=case).of(wait(form, epoll, events, 1))
    expect([1, [POLLIN, 5]], events="good").of(readiness.wait(epoll))
    # So many events do not fit below the end of a 32-bit kernel's user memory, at 3 GiB.
    room_for_all = AbiDifference(
        i386=-EFAULT,
        ia32_compat=1,
        cite="fs/eventpoll.c access_ok(events, maxevents * size); page_32_types.h TASK_SIZE",
    )
    level = readiness.watching(end, POLLIN, 6)
    expect(of_form(form, room_for_all), maxevents="most").of(wait(form, level, room, MOST))


@behaviour("readiness.epoll.level", "epoll(7) Level-triggered; epoll_ctl(2) EPOLLET; ep_send_events")
def test_level(readiness, prepare, receive, expect):
    """Without EPOLLET a descriptor is reported as long as it is ready, with EPOLLET once for what has arrived: again only
    when more arrives, not when a part is read. EPOLL_CTL_MOD reports it anew.
    """
    end = prepare("connected", UNIX_STREAM)
    level, edge = readiness.watching(end, POLLIN, 1), readiness.watching(end, POLLIN | EPOLLET, 2)
    once, none = [1, [POLLIN, 2]], [0]

    def judge(step, level_found, edge_found):
        expect(level_found, step=step, trigger="level").of(readiness.wait(level))
        expect(edge_found, step=step, trigger="edge").of(readiness.wait(edge))

    judge("idle", [0], none)
    end.send(end.peer, DATA)
    judge("arrived", [1, [POLLIN, 1]], once)
    judge("asked-again", [1, [POLLIN, 1]], none)
    receive(end.fd, 2)
    judge("partly-read", [1, [POLLIN, 1]], none)
    end.send(end.peer, DATA)
    judge("more-arrived", [1, [POLLIN, 1]], once)
    need(readiness.control(edge, MODIFY, end, POLLIN | EPOLLET, 2))
    judge("modified", [1, [POLLIN, 1]], once)
    receive(end.fd, 16)
    judge("all-read", [0], none)
    end.close_one(end.peer)
    for trigger, epoll, data in (("level", level, 1), ("edge", edge, 2)):
        expect([1, [POLLIN | POLLHUP, data]], step="closed", trigger=trigger).of(readiness.wait(epoll))


@behaviour("readiness.epoll.edges-tcp", "epoll(7) EPOLLET; tcp_data_ready, sk_stream_write_space, tcp_fin, tcp_reset")
def test_edges_tcp(readiness, prepare, receive, expect):
    """On TCP each arrival is an edge: data, urgent data, the peer's FIN, a reset; an edge reports all that is so."""
    end = prepare("connected", TCP)
    epoll = readiness.watching(end, POLLIN | POLLOUT | POLLRDHUP | EPOLLET, 3)
    now = POLLOUT
    expect([1, [now, 3]], step="added").of(readiness.wait(epoll))
    expect([0], step="added-again").of(readiness.wait(epoll))
    for step in ("first", "second"):
        end.send(end.peer, DATA)
        end.wait_bytes(end.fd, 4 if step == "first" else 8)
        now |= POLLIN
        expect([1, [now, 3]], step=f"data-{step}").of(readiness.wait(epoll))
        expect([0], step=f"data-{step}-again").of(readiness.wait(epoll))
    end.shutdown(end.peer, 1)
    end.wait(end.fd, POLLRDHUP)
    expect([1, [now | POLLRDHUP, 3]], step="fin").of(readiness.wait(epoll))
    receive(end.fd, 16)
    expect([0], step="read").of(readiness.wait(epoll))
    end.reset(end.peer)
    end.wait(end.fd, POLLERR)
    expect([1, [now | POLLRDHUP | POLLERR | POLLHUP, 3]], step="reset").of(readiness.wait(epoll))


@behaviour("readiness.epoll.one-shot", "epoll_ctl(2) EPOLLONESHOT; epoll(7); ep_send_events EP_PRIVATE_BITS")
def test_one_shot(readiness, prepare, expect):
    """With EPOLLONESHOT a descriptor is reported once and then not at all, not its error either, until EPOLL_CTL_MOD."""
    end = prepare("with-data", UNIX_STREAM)
    epoll = readiness.watching(end, POLLIN | EPOLLONESHOT, 1)
    expect([1, [POLLIN, 1]], step="first").of(readiness.wait(epoll))
    end.send(end.peer, DATA)
    expect([0], step="more-data").of(readiness.wait(epoll))
    need(readiness.control(epoll, MODIFY, end, POLLIN | EPOLLONESHOT, 2))
    expect([1, [POLLIN, 2]], step="modified").of(readiness.wait(epoll))
    end.send(end.fd, DATA)
    end.close_one(end.peer)
    expect([0], step="reset").of(readiness.wait(epoll))
    need(readiness.control(epoll, MODIFY, end, EPOLLONESHOT, 3))
    expect([1, [POLLERR | POLLHUP, 3]], step="modified-again").of(readiness.wait(epoll))


@behaviour(
    "readiness.epoll.exclusive", "epoll_ctl(2) EPOLLEXCLUSIVE; __wake_up_common WQ_FLAG_EXCLUSIVE, ep_poll_callback"
)
def test_exclusive(readiness, prepare, receive, expect):
    """Of epolls that watch a descriptor with EPOLLEXCLUSIVE at least one reports an event, and each one without it does."""
    end = prepare("connected", UNIX_STREAM)
    exclusive = [readiness.watching(end, POLLIN | EPOLLET | EPOLLEXCLUSIVE, number) for number in range(2)]
    plain = [readiness.watching(end, POLLIN | EPOLLET, number) for number in range(2)]
    check = expect([True, [1, [POLLIN, 0]], [1, [POLLIN, 1]]])
    end.send(end.peer, DATA)
    found = [readiness.wait(epoll) for epoll in exclusive]
    others = [readiness.wait(epoll) for epoll in plain]
    reported = any(one.value == [1, [POLLIN, number]] for number, one in enumerate(found))
    check.of([reported, *(one.value for one in others)], *found, *others)
    receive(end.fd)


@behaviour("readiness.epoll.added-while-waiting", f"{SOURCE} NOTES; epoll(7); ep_insert `wake_up`")
def test_added_while_waiting(readiness, prepare, caller, meanwhile, calls, expect):
    """epoll_wait on an empty list waits; a ready descriptor that another process adds to the list wakes it."""
    end, epoll = prepare("with-data", UNIX_STREAM), readiness.epoll()
    lent, theirs = caller.lend(epoll), caller.lend(end.fd)

    def add() -> None:
        select.epoll.fromfd(lent).register(theirs, POLLIN)

    check = expect(1)
    with meanwhile(add):
        result = calls.syscall("epoll_wait", epoll, calls.memory.alloc(24), 2, -1)
    check.of(result)
    for fd in (lent, theirs):
        os.close(fd)
