"""All calls that wait: what wakes them, timeouts, signals and signal masks."""

import signal
import socket
import struct
import time
from errno import EFAULT, EINTR, EINVAL, ENOSYS
from functools import partial
from select import POLLIN, POLLOUT

import pytest

from probes.testing import behaviour, need
from probes.testing.blocking import drain
from probes.testing.readiness import POLLRDHUP
from probes.testing.socket_kinds import TCP, UDP, UNIX_DGRAM, UNIX_STREAM
from probes.testing.states import DATA
from tests.readiness.waiting import FORMS, MASKING, of_form

pytestmark = pytest.mark.routes("direct")

SOURCE = "select(2); poll(2); epoll_wait(2)"
#: kill and sigprocmask of the i386 table, SIG_BLOCK, and a mask with SIGUSR1.
KILL, SIGPROCMASK, SIG_BLOCK = 37, 126, 0
USR1 = struct.pack("<Q", 1 << signal.SIGUSR1 - 1)
NONE = bytes(8)
LONG = 1_000_000

each_form = pytest.mark.parametrize("form", FORMS)


@behaviour("readiness.waiting.times", f"{SOURCE} timeout; poll_select_set_timeout, ep_timeout_to_timespec")
@each_form
def test_times(form, waiting, prepare, expect):
    """With a time of 0 a call returns at once, 1 if the descriptor is ready and else 0; with another it returns 0 when that
    is over, not before; with none, and a descriptor that is ready, it returns 1.
    """
    ready, idle = prepare("with-data", UNIX_STREAM), prepare("connected", UNIX_STREAM)
    expect(of_form(form, 1), time=0, ready="yes").of(waiting.of(form, ready, POLLIN)(0))
    expect(of_form(form, 0), time=0, ready="no").of(waiting.of(form, idle, POLLIN)(0))
    check = expect(of_form(form, [0, True], [-ENOSYS, True]), time=10, ready="no")
    began = time.monotonic()
    result = waiting.of(form, idle, POLLIN)(10)
    check.of([result, result < 0 or time.monotonic() - began >= 0.010], result)
    expect(of_form(form, 1), time="none", ready="yes").of(waiting.of(form, ready, POLLIN)(None))


@behaviour("readiness.waiting.woken", f"{SOURCE}; socket(7); sock_def_readable, sk_stream_write_space, sock_def_wakeup")
def test_woken(waiting, prepare, caller, meanwhile, expect):
    """A call that waits returns when a descriptor becomes ready: data comes, a connection, room, the peer's end."""
    events = {
        ("connected", TCP, "data"): (POLLIN, lambda end: end.send(DATA)),
        ("connected", UDP, "data"): (POLLIN, lambda end: end.send(DATA)),
        ("connected", UNIX_DGRAM, "data"): (POLLIN, lambda end: end.send(DATA)),
        ("connected", UNIX_STREAM, "end"): (POLLRDHUP, lambda end: end.shutdown(socket.SHUT_WR)),
        ("connected", TCP, "end"): (POLLRDHUP, lambda end: end.shutdown(socket.SHUT_WR)),
        ("full", UNIX_STREAM, "room"): (POLLOUT, drain),
        ("full", TCP, "room"): (POLLOUT, drain),
    }
    for number, ((state, kind, what), (wanted, act)) in enumerate(events.items()):
        for form in ("ppoll", "epoll_wait"):
            end = prepare.another(number)(state, kind)
            wait = waiting.of(form, end, wanted)
            check = expect(1, kind=kind, woken_by=what, form=form)
            with socket.socket(fileno=caller.lend(end.peer)) as peer, meanwhile(partial(act, peer)):
                result = wait(None)
            check.of(result)
            end.close()
    for form in FORMS:
        end = prepare.another(20)("listening", TCP)
        with socket.socket(fileno=caller.lend(end.fd)) as listener:
            name = listener.getsockname()
        check = expect(of_form(form, 1), kind=TCP, woken_by="connection", form=form)
        with (
            socket.socket(fileno=caller.lend(end.new())) as client,
            meanwhile(partial(client.connect, name)),
        ):
            result = waiting.of(form, end, POLLIN)(None)
        check.of(result)
        end.close()


@behaviour("readiness.waiting.interrupted", "epoll_wait(2) EINTR; signal(7) `never restarted`; ep_poll")
@pytest.mark.parametrize("restart", [False, True], ids=["no-restart", "sa-restart"])
def test_interrupted(restart, waiting, prepare, meanwhile, expect):
    """epoll_wait, epoll_pwait and epoll_pwait2 fail with EINTR after a handler, with SA_RESTART too."""
    end = prepare("connected", UNIX_STREAM)
    meanwhile.catch(restart)
    for form in (form for form in FORMS if form.startswith("epoll")):
        check = expect(of_form(form, -EINTR), form=form)
        with meanwhile(meanwhile.signal):
            result = waiting.of(form, end, POLLIN)(LONG)
        check.of(result)


@behaviour("readiness.waiting.select-unchanged", "select(2) RETURN VALUE `unmodified`, BUGS; core_sys_select, EINTR")
def test_select_unchanged(prepare, readiness, calls, memory, meanwhile, expect):
    """select that a signal interrupts fails with EINTR, leaves its sets as they were, and writes the time that is left."""
    end = prepare("connected", UNIX_STREAM)
    meanwhile.catch(restart=False)
    asked = struct.pack("<Q", 1 << end.fd)
    for form in ("select", "_newselect"):
        sets, timeout = [memory.put(asked) for _ in range(2)], memory.words(1000, 0)
        words = 64, sets[0], 0, sets[1], timeout
        check = expect([-EINTR, asked, asked, True], form=form)
        with meanwhile(meanwhile.signal):
            result = calls.syscall(form, *([memory.words(*words)] if form == "select" else words))
        check.of([result, *(block.read() for block in sets), 900 <= timeout.words()[0] < 1000], result)


@behaviour("readiness.mask.replaced", f"{SOURCE} sigmask; set_user_sigmask, restore_saved_sigmask_unless")
@pytest.mark.parametrize("form", MASKING)
def test_replaced(form, waiting, prepare, caller, calls, memory, meanwhile, expect):
    """The mask replaces that of the caller while the call waits: a signal that is pending because the caller blocks it is
    handled, and the call fails with EINTR. After it the caller blocks the signal again.
    """
    end, quiet = prepare("connected", UNIX_STREAM), calls.gate.quieted()
    meanwhile.catch(restart=True)
    before, after = memory.put(USR1), memory.put(NONE)
    need(quiet.enter(SIGPROCMASK, SIG_BLOCK, before.address, 0), "sigprocmask")
    need(quiet.enter(KILL, caller.pid, signal.SIGUSR1), "kill")
    check = expect(of_form(form, [-EINTR, 1], [-ENOSYS, 0]), mask="none")
    again = expect(1 << signal.SIGUSR1 - 1, mask="afterwards")
    result = waiting.of(form, end, POLLIN)(LONG, memory.put(NONE))
    check.of([result, meanwhile.handled()], result)
    need(quiet.enter(SIGPROCMASK, SIG_BLOCK, 0, after.address), "sigprocmask")
    again.of(after.words()[0], result)


@behaviour("readiness.mask.ready-first", f"{SOURCE} sigmask; restore_saved_sigmask_unless")
@pytest.mark.parametrize("form", MASKING)
def test_ready_first(form, waiting, prepare, caller, calls, memory, meanwhile, expect):
    """A signal that the mask blocks does not end the wait. One that the mask lets through, but the caller blocks, stays
    pending if the descriptor is ready: the call returns that, not EINTR.
    """
    ready, idle = prepare("with-data", UNIX_STREAM), prepare("connected", UNIX_STREAM)
    quiet, blocking = calls.gate.quieted(), memory.put(USR1)
    meanwhile.catch(restart=False)
    check = expect(of_form(form, 0), mask="blocks", ready="no")
    with meanwhile(meanwhile.send):
        result = waiting.of(form, idle, POLLIN)(50, blocking)
    check.of(result)
    need(quiet.enter(SIGPROCMASK, SIG_BLOCK, blocking.address, 0), "sigprocmask")
    before = meanwhile.handled()
    need(quiet.enter(KILL, caller.pid, signal.SIGUSR1), "kill")
    # What blocks the signal here is the caller's own mask.
    check = expect(of_form(form, [1, 0], [-ENOSYS, 0]), mask="blocks", ready="yes")
    result = waiting.of(form, ready, POLLIN)(0, memory.put(NONE))
    check.of([result, meanwhile.handled() - before], result)


@behaviour(
    "readiness.mask.arguments", f"{SOURCE}; set_user_sigmask EINVAL, EFAULT; sigset_argpack; set_compat_user_sigmask"
)
@pytest.mark.parametrize("form", MASKING)
def test_arguments(form, waiting, prepare, memory, expect):
    """The mask has 8 bytes: with another size the call fails with EINVAL, unreadable with EFAULT; the size of a NULL mask is
    ignored. pselect6 takes a pointer to the pointer and the size, of 4 bytes each.
    """
    make = waiting.of(form, prepare("with-data", UNIX_STREAM), POLLIN)
    expect(of_form(form, 1), mask="enough").of(make(0, memory.guarded(NONE)))
    expect(of_form(form, -EFAULT), mask="one-byte-less").of(make(0, memory.guarded(NONE[:-1])))
    expect(of_form(form, -EFAULT), mask="no-access").of(make(0, memory.unmapped()))
    for size in (0, 4, 7, 9, 16, 128):
        expect(of_form(form, -EINVAL), mask="good", size=size).of(make(0, memory.put(NONE * 16), size))
        expect(of_form(form, 1), mask="null", size=size).of(make(0, 0, size))
