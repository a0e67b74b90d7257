"""Injection: what a caller gets of a call that was made wrong, and what its record says."""

import errno
import fcntl
import os
import signal
import struct
import time
from types import SimpleNamespace

import pytest

from probes.abi.operations import ROUTES
from probes.entry.calls import Calls
from probes.entry.gate import gate
from probes.entry.memory import Memory
from probes.sandbox import sandbox
from probes.sandbox.channel import Channel
from probes.sandbox.messages import Report
from probes.sandbox.sandbox import SandboxSpec
from probes.trace import injection
from probes.trace.actions import Add, Again, Delay, Exceed, Flip, Make, Put, Return, ReturnMore, Send, Skip, Word
from probes.trace.injection import Injection, Match
from probes.trace.stop import Behind, Place

UNIX, STREAM, DATAGRAM = 1, 1, 2


@pytest.fixture(params=ROUTES)
def inject(request, tmp_path):
    """Run a body, which gets Calls over a route, under an injection; return what it returned, and the records."""
    channel = Channel()

    def do(injection, body, trace="gate"):
        def sending():
            channel.send(Report({"found": body(Calls(gate("int80"), request.param, Memory()))}))

        spec = SandboxSpec(trace=trace, injection=injection)
        result = sandbox.run(sending, spec, channel, tmp_path, 20)
        (message,) = result.messages
        return message.data["found"], result.records()

    return do


def made(calls):
    """Make a socket, and say what came and whether the descriptor works."""
    result = int(calls.socket(UNIX, STREAM, 0))
    return [result, result >= 0 and os.fstat(result) is not None]


def test_nothing_is_changed_without_a_match(inject):
    injection = Injection(Match("bind"), exit=Return(-errno.EINVAL))
    found, (record,) = inject(injection, made)
    assert found == [15, True]
    assert (record.ret, injection.done) == (15, 0)


def test_result(inject):
    injection = Injection(Match("socket"), exit=Return(-errno.EINVAL))
    found, (record,) = inject(injection, made)
    assert found == [-errno.EINVAL, False]
    assert (record.ret, injection.done) == (-errno.EINVAL, 1)


def test_result_of_a_process_traced_at_every_call(inject):
    found, records = inject(Injection(Match("socket"), exit=Return(-errno.EINVAL)), made, trace="calls")
    assert found == [-errno.EINVAL, False]
    assert [record.ret for record in records] == [-errno.EINVAL]


def test_greater_result(inject):
    found, _ = inject(Injection(Match("socket"), exit=ReturnMore(1)), lambda calls: int(calls.socket(UNIX, STREAM, 0)))
    assert found == 16


@pytest.mark.parametrize(
    "outcome, changed",
    [
        ("success", [True, False]),
        ("error", [False, True]),
        (-errno.EAFNOSUPPORT, [False, True]),
        (-errno.EBADF, [False, False]),
    ],
)
def test_outcome(inject, outcome, changed):
    injection = Injection(Match("socket", outcome=outcome), exit=Return(-errno.EXDEV))
    found, _ = inject(injection, lambda calls: [int(calls.socket(UNIX, STREAM, 0)), int(calls.socket(99, STREAM, 0))])
    assert [result == -errno.EXDEV for result in found] == changed


def test_words_and_position(inject):
    match = Match("socket", words={1: DATAGRAM}, nth=2)
    kinds = [STREAM, DATAGRAM, STREAM, DATAGRAM, DATAGRAM]
    found, _ = inject(
        Injection(match, exit=Return(-errno.EXDEV)), lambda calls: [int(calls.socket(UNIX, kind, 0)) for kind in kinds]
    )
    assert [result == -errno.EXDEV for result in found] == [False, False, False, True, False]


def test_route(inject):
    found, (record,) = inject(Injection(Match("socket", route="direct"), exit=Return(-errno.EXDEV)), made)
    assert (found[0] == -errno.EXDEV) == (record.route == "direct")


def name(calls):
    """Ask for the name of an unnamed socket; return what came, its length and memory, and the words after the call."""
    fd = calls.socket(UNIX, DATAGRAM, 0)
    room, length = calls.memory.put(bytes([7]) * 8), calls.memory.put(struct.pack("<I", 8))
    result = calls.make("getsockname", fd, room, length)
    return [int(result), length.read().hex(), room.read().hex()]


def test_length_and_memory(inject):
    found, _ = inject(Injection(Match("getsockname"), exit=Add(Place("addrlen"), 4)), name)
    assert found == [0, struct.pack("<I", 6).hex(), "0100" + "07" * 6]
    found, _ = inject(Injection(Match("getsockname"), exit=Flip(Place("addr"), 2)), name)
    assert found == [0, struct.pack("<I", 2).hex(), "feff" + "07" * 6]
    found, _ = inject(Injection(Match("getsockname"), exit=Put(Place("addr", (3,)), b"\1\2")), name)
    assert found[2] == "0100070102070707"


@pytest.mark.parametrize(("room", "found"), [(4, [0, "0100ff00"]), (2, [-errno.EFAULT, "0100"])])
def test_bytes_behind_what_is_written(inject, room, found):
    """Where the caller has memory they change; where it has a page without access the call fails, as of a kernel's own."""

    def name(calls):
        sock = calls.socket(UNIX, STREAM, 0)
        address, length = calls.memory.guarded(bytes(room)), calls.memory.words(room)
        result = calls.make("getsockname", sock, address, length)
        return [int(result), address.read().hex()]

    injection = Injection(Match("getsockname"), exit=Exceed(Behind("addr", "addrlen")))
    assert inject(injection, name)[0] == found


@pytest.mark.parametrize("action", [Put(Place("addrlen"), bytes(4)), Add(Place("addrlen"), 1), Flip(Place("addrlen"))])
@pytest.mark.parametrize("protected", [False, True])
def test_memory_that_is_not_mapped_is_left(inject, action, protected):
    """It counts as no change: the caller would find nothing. In memory without access a kernel faults, too."""
    injection = Injection(Match("getsockname"), exit=action)

    def body(calls):
        length = calls.memory.unmapped() if protected else 4096
        return int(calls.make("getsockname", calls.socket(UNIX, DATAGRAM, 0), calls.memory.alloc(8), length))

    assert (inject(injection, body)[0], injection.done) == (-errno.EFAULT, 0)


def test_a_null_pointer_is_left(inject):
    injection = Injection(Match("getsockname"), exit=Flip(Place("addr"), 2))
    found, _ = inject(injection, lambda calls: int(calls.make("getsockname", calls.socket(UNIX, DATAGRAM, 0), 0, 0)))
    assert (found, injection.done) == (-errno.EFAULT, 0)


def test_word(inject):
    """The kernel gets another word; the caller finds its own, in memory or in the register."""
    injection = Injection(Match("socket"), entry=Word(0, lambda family: 99))
    found, (record,) = inject(injection, made)
    assert found == [-errno.EAFNOSUPPORT, False]
    assert record.args[0] == UNIX
    if record.route == "socketcall":
        assert record.args_after[0] == UNIX
    else:
        assert record.regs_out["ebx"] == record.regs_in["ebx"] == hex(UNIX)


def test_words_that_change_during_a_call_stay_changed(inject):
    """Nothing is put back where nothing was changed: another thread may have written there meanwhile."""

    def meanwhile(stop):
        if stop.call.args_ptr:
            stop.write(stop.call.args_ptr, struct.pack("<I", 99))
        return False

    _, (record,) = inject(Injection(Match("socket"), entry=meanwhile), made)
    assert record.args[0] == UNIX
    if record.route == "socketcall":
        assert record.args_after[0] == 99


def test_no_call(inject):
    injection = Injection(Match("socket"), entry=Skip(0), exit=Return(5))
    found, (record,) = inject(injection, lambda calls: [int(calls.socket(UNIX, STREAM, 0)), os.dup(0)])
    assert found == [5, 15]
    assert record.ret == 5


def test_second_call(inject):
    """A datagram is taken twice from the queue."""

    def body(calls):
        pair = calls.memory.put(bytes(8))
        assert calls.make("socketpair", UNIX, DATAGRAM, 0, pair) == 0
        one, other = struct.unpack("<2i", pair.read())
        os.write(one, b"first")
        os.write(one, b"second")
        room = calls.memory.put(bytes(8))
        return [int(calls.make("recv", other, room, 8, 0)), room.read().hex()]

    # recv has no number of its own: over the direct route it is recvfrom.
    for operation in ("recv", "recvfrom"):
        injection = Injection(Match(operation), exit=Again())
        found, _ = inject(injection, body)
        taken = [6, b"second\0\0".hex()] if injection.done else [5, b"first\0\0\0".hex()]
        assert found == taken
        if injection.done:
            return
    pytest.fail("nothing matched")


F_SETFD, FCNTL, DUP = 2, 55, 41


@pytest.mark.parametrize("trace", ["gate", "calls"])
def test_further_call(inject, trace):
    """The caller keeps its registers, whatever the further call returns, and finds what that call did."""
    injection = Injection(Match("socket", outcome="success"), exit=Make(lambda stop: (FCNTL, stop.result, F_SETFD, 1)))

    def body(calls):
        result = calls.socket(UNIX, STREAM, 0)
        return [int(result), fcntl.fcntl(int(result), fcntl.F_GETFD)]

    found, (record,) = inject(injection, body, trace=trace)
    assert found == [15, fcntl.FD_CLOEXEC]
    assert record.ret == 15
    changed = {name for name, value in record.regs_in.items() if record.regs_out[name] != value}
    assert changed <= {"eax", "rax", "orig_eax", "orig_rax"}


def test_further_call_that_leaks_a_descriptor(inject):
    injection = Injection(Match("socket", outcome="error"), exit=Make(lambda stop: (DUP, 0)))
    found, records = inject(injection, lambda calls: [int(calls.socket(99, STREAM, 0)), os.dup(0)])
    assert (found, len(records)) == ([-errno.EAFNOSUPPORT, 16], 1)


def test_further_call_while_a_signal_is_pending(inject):
    """The signal is delivered after it, by the caller's own registers."""
    alarm = Injection(Match("socket"), entry=Send(signal.SIGUSR1), exit=Make(lambda stop: (DUP, 0)))

    def body(calls):
        came = []
        signal.signal(signal.SIGUSR1, lambda number, _: came.append(number))
        return [int(calls.socket(UNIX, STREAM, 0)), os.dup(0), came]

    found, _ = inject(alarm, body)
    assert found == [15, 17, [signal.SIGUSR1]]


def test_no_further_call_where_there_is_nothing_to_change(inject):
    injection = Injection(Match("socket"), exit=Make(lambda stop: None))
    found, _ = inject(injection, made)
    assert (found, injection.done) == ([15, True], 0)


@pytest.mark.parametrize("chosen", [True, False])
def test_where(inject, chosen):
    injection = Injection(Match("socket", where=lambda stop: chosen), exit=Return(-errno.EXDEV))
    found, _ = inject(injection, made)
    assert (found[0] == -errno.EXDEV) == chosen


def test_signal(inject):
    def body(calls):
        came = []
        signal.signal(signal.SIGUSR1, lambda number, _: came.append(number))
        calls.socket(UNIX, STREAM, 0)
        return came

    found, _ = inject(Injection(Match("socket"), entry=Send(signal.SIGUSR1)), body)
    assert found == [signal.SIGUSR1]


def test_delay(inject):
    def body(calls):
        before = time.monotonic()
        calls.socket(UNIX, STREAM, 0)
        return time.monotonic() - before

    found, _ = inject(Injection(Match("socket"), entry=Delay(0.2)), body)
    assert found >= 0.2


def test_what_a_killed_thread_passed_is_not_put_back(monkeypatch):
    """Another thread that gets its number keeps its own words."""
    changed = []
    monkeypatch.setattr(injection, "Stop", lambda call: SimpleNamespace(call=call, raw=b""))
    monkeypatch.setattr(Injection, "_put_back", lambda *arguments: changed.append(arguments))
    one = Injection(Match(operation="bind"), entry=lambda stop: True)
    killed, other = (
        SimpleNamespace(tid=7, op=op, args=(), args_ptr=None, call_id=1, before={}) for op in ("bind", "listen")
    )
    one.enter(killed)
    assert killed.injected and list(one._passed) == [7]
    one.enter(other)
    one.leave(other)
    assert changed == []
