"""Signals on the way back: what a call that was interrupted answers, and what a tracer sees of it."""

import os
import signal
from errno import EINTR
from socket import MSG_WAITALL

import pytest

from probes.entry.gate import WORD
from probes.testing import behaviour
from tests.entry.entry_blocking import LONG, RESTARTED, Blocked, Blocking
from tests.entry.entry_calls import NUMBER, before, by_route, kept, own, patterned

SOURCE = "signal(7) Interruption of system calls; sigaction(2) SA_RESTART; S3 ret_from_sys_call, S5 1.3; handle_signal"
SOURCE_STOP = "signal(7) `by stop signals`; arch/x86/kernel/signal.c arch_do_signal_or_restart"
#: What only a tracer sees, include/linux/errno.h.
ERESTARTSYS, ERESTARTNOHAND, ERESTART_RESTARTBLOCK = 512, 514, 516
#: What each call answers that waits for several descriptors (fs/select.c).
MULTIPLEXING = {
    "poll": ERESTART_RESTARTBLOCK, "ppoll": ERESTARTNOHAND, "_newselect": ERESTARTNOHAND, "pselect6": ERESTARTNOHAND,
}  # fmt: skip
#: Those with a timeout that is the socket's (SO_RCVTIMEO, SO_SNDTIMEO), by signal(7).
TIMED = ("accept", "recv", "recvfrom", "recvmsg", "recvmmsg", "connect", "send", "sendto", "sendmsg", "read", "write")


@pytest.fixture
def blocking(memory):
    """Calls that block."""
    return Blocking(memory)


@pytest.fixture
def judged(the_gate, entry, memory, expect, meanwhile):
    """judged(blocked, steps, answer, codes): makes a call that blocks while the steps are taken, and judges its result
    and the results that a tracer saw, one for each time it was entered."""

    def judge(blocked, steps, answer, codes, **case):
        registers = by_route(entry.route, blocked.name, blocked.words, memory)
        with meanwhile(*steps):
            check = expect(answer, call=blocked.name, **case)
            result = the_gate.enter(*registers)
            check.of(result)
        expect(codes, call=blocked.name, **case, seen="ret").seen("ret", result)
        return result

    return judge


@behaviour("entry.signals.interrupted", SOURCE)
def test_interrupted(entry, blocking, judged, meanwhile):
    """A blocked call that a handler without SA_RESTART interrupts fails with EINTR; what the kernel's own part answers,
    and a tracer sees, is ERESTARTSYS.
    """
    meanwhile.catch(restart=False)
    for name in own(entry.route, RESTARTED):
        judged(blocking(name), [meanwhile.signal], -EINTR, [-ERESTARTSYS])


@behaviour("entry.signals.restarted", SOURCE)
def test_restarted(entry, blocking, judged, meanwhile):
    """A blocked call that a handler with SA_RESTART interrupts starts again by itself, as often as that happens: a
    tracer sees ERESTARTSYS, and the same call with the same words again.
    """
    meanwhile.catch(restart=True)
    for name, times in [(name, 1) for name in own(entry.route, RESTARTED)] + [("recv", 3), ("connect", 3)]:
        blocked = blocking(name)
        steps = [meanwhile.signal] * times + [blocked.end]
        judged(blocked, steps, blocked.value, [-ERESTARTSYS] * times + [blocked.value], times=times)


@behaviour("entry.signals.restart-is-the-same-call", f"{SOURCE} `regs->ax = regs->orig_ax; regs->ip -= 2`")
def test_same_call(entry, blocking, judged, meanwhile, expect):
    """A call that starts again has the number and the arguments that it had."""
    meanwhile.catch(restart=True)
    for name in own(entry.route, ("recv", "read", "sendmsg", "accept")):
        blocked = blocking(name)
        result = judged(blocked, [meanwhile.signal, blocked.end], blocked.value, [-ERESTARTSYS, blocked.value])
        for register in ("eax", "ebx", "ecx", "edx", "esi", "edi"):
            value = result.regs_in[register if WORD == 32 else f"r{register[1:]}"]
            expect([value] * 2, call=name, seen=register).seen(f"regs_in.{register}", result)


@behaviour("entry.signals.registers", f"{SOURCE}; sigreturn(2); restore_sigcontext")
@pytest.mark.sandbox(trace="calls")
@pytest.mark.parametrize("how", ["interrupted", "restarted", "stopped"])
def test_registers(how, the_gate, entry, blocking, memory, meanwhile, expect):
    """Every register but eax comes back as it was from a call that was interrupted, or started again."""
    meanwhile.catch(restart=how == "restarted")
    blocked = blocking("recv")
    filled, others = patterned(by_route(entry.route, "recv", blocked.words, memory))
    steps = {
        "interrupted": [meanwhile.signal],
        "restarted": [meanwhile.signal, blocked.end],
        "stopped": [meanwhile.stop, blocked.end],
    }[how]
    with meanwhile(*steps):
        check = expect([-EINTR if how == "interrupted" else 3, before(filled, others)])
        result = the_gate.enter(*filled, others=others)
        check.of([result, kept(result)], result)


@behaviour("entry.signals.multiplexing", f"{SOURCE} `never restarted`; fs/select.c do_sys_poll, poll_select_finish")
@pytest.mark.routes("direct")
@pytest.mark.parametrize("restart", [False, True], ids=["plain", "sa-restart"])
def test_multiplexing(restart, blocking, judged, meanwhile):
    """poll, select and theirs fail with EINTR after a handler, with SA_RESTART too: a tracer sees ERESTARTNOHAND, or
    for poll ERESTART_RESTARTBLOCK.
    """
    meanwhile.catch(restart)
    for name, code in MULTIPLEXING.items():
        judged(blocking.multiplexing(name), [meanwhile.signal], -EINTR, [-code])


@behaviour("entry.signals.timeout", f"{SOURCE} `when a timeout has been set on the socket`; sock_intr_errno; socket(7)")
@pytest.mark.parametrize("restart", [False, True], ids=["plain", "sa-restart"])
def test_timeout(restart, entry, blocking, judged, meanwhile):
    """A call on a socket with a timeout (SO_RCVTIMEO, SO_SNDTIMEO) fails with EINTR after a handler, with SA_RESTART
    too: it answers EINTR itself, and no restart code.
    """
    meanwhile.catch(restart)
    for name in own(entry.route, TIMED):
        judged(blocking(name, timeout=True), [meanwhile.signal], -EINTR, [-EINTR])


@behaviour("entry.signals.recvmmsg-timeout", "recvmmsg(2) BUGS; do_recvmmsg; signal(7) has it that this never restarts")
@pytest.mark.parametrize("restart", [False, True], ids=["plain", "sa-restart"])
def test_recvmmsg_timeout(restart, blocking, judged, meanwhile, memory):
    """recvmmsg looks at its own timeout only between messages: when a handler interrupts it before the first, it
    answers ERESTARTSYS as without a timeout, and starts again under SA_RESTART.
    """
    meanwhile.catch(restart)
    blocked = blocking("recvmmsg")
    blocked = blocked._replace(words=(*blocked.words[:-1], memory.words(LONG, 0)))
    if restart:
        judged(blocked, [meanwhile.signal, blocked.end], 1, [-ERESTARTSYS, 1])
    else:
        judged(blocked, [meanwhile.signal], -EINTR, [-ERESTARTSYS])


@behaviour("entry.signals.stopped", SOURCE_STOP)
def test_stopped(entry, blocking, judged, meanwhile):
    """A blocked call goes on when the process is stopped and continued: there is no handler, and it starts again."""
    for name in own(entry.route, RESTARTED):
        blocked = blocking(name)
        judged(blocked, [meanwhile.stop, blocked.end], blocked.value, [-ERESTARTSYS, blocked.value])


@behaviour("entry.signals.stopped-timeout", f"{SOURCE_STOP}; sock_intr_errno")
def test_stopped_timeout(entry, blocking, judged, meanwhile):
    """A call on a socket with a timeout fails with EINTR when the process is stopped and continued, handler or not."""
    for name in own(entry.route, TIMED):
        judged(blocking(name, timeout=True), [meanwhile.stop], -EINTR, [-EINTR])


@behaviour("entry.signals.stopped-multiplexing", f"{SOURCE_STOP} ERESTARTNOHAND; poll_select_finish")
@pytest.mark.routes("direct")
def test_stopped_multiplexing(blocking, judged, meanwhile):
    """select, pselect6 and ppoll start again as they are when the process is stopped and continued."""
    for name in ("ppoll", "_newselect", "pselect6"):
        blocked = blocking.multiplexing(name)
        judged(blocked, [meanwhile.stop, blocked.end], 1, [-ERESTARTNOHAND, 1])


@behaviour("entry.signals.restart-syscall", f"restart_syscall(2); {SOURCE_STOP} ERESTART_RESTARTBLOCK; do_restart_poll")
@pytest.mark.routes("direct")
@pytest.mark.parametrize("name", ["poll", "nanosleep"])
def test_restart_syscall(name, blocking, judged, meanwhile, memory, expect):
    """A call that has waited part of its time goes on through restart_syscall, call 0 in place of its own, when the
    process is stopped and continued, as often as that happens: of i386, from either word size.
    """
    meanwhile.catch(restart=True)
    for times in (1, 2):
        if name == "poll":
            blocked, last = blocking.multiplexing("poll"), 1
        else:
            # There is nothing to end it but a handler: then it is the time that is left, and EINTR.
            blocked = Blocked(name, (memory.words(LONG, 0), 0), -EINTR, meanwhile.signal)
            last = -ERESTART_RESTARTBLOCK
        codes = [-ERESTART_RESTARTBLOCK] * times + [last]
        result = judged(blocked, [meanwhile.stop] * times + [blocked.end], blocked.value, codes, times=times)
        expect([NUMBER[name]] + [0] * times, times=times, seen="nr").seen("nr", result)


@behaviour("entry.signals.partial", f"{SOURCE} `has already transferred some data`; unix_stream_sendmsg, MSG_WAITALL")
@pytest.mark.parametrize("restart", [False, True], ids=["plain", "sa-restart"])
def test_partial(restart, blocking, judged, meanwhile, memory):
    """A call that has transferred something when a handler interrupts it returns how much, with SA_RESTART too."""
    meanwhile.catch(restart)
    left, right = blocking.pair()
    left.send(b"abc")
    words = (right.fileno(), memory.alloc(16), 16, MSG_WAITALL)
    judged(Blocked("recv", words, 3, None), [meanwhile.signal], 3, [3])


@behaviour("entry.signals.blocked", "signal(7) Signal mask; sigprocmask(2)")
@pytest.mark.routes("direct")
def test_blocked(blocking, judged, meanwhile, expect):
    """A signal that the process blocks interrupts nothing, and waits."""
    meanwhile.catch(restart=False)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    blocked = blocking("recv")
    me = os.getpid()
    result = judged(blocked, [lambda: os.kill(me, signal.SIGUSR1), blocked.end], 3, [3])
    expect([signal.SIGUSR1], seen="pending").of(sorted(signal.sigpending()), result)


@behaviour(
    "entry.signals.on-return", f"{SOURCE} `signals are handled before the return`; kill(2) NOTES; exit_to_user_mode"
)
@pytest.mark.routes("direct")
def test_on_return(the_gate, meanwhile, expect):
    """A signal that a call brings upon its own process is handled before that call returns."""
    handled = []
    signal.signal(signal.SIGUSR1, lambda number, _: handled.append(number))
    check = expect(0, call="kill")
    result = the_gate.enter(NUMBER["kill"], os.getpid(), signal.SIGUSR1)
    check.of(result)
    expect([signal.SIGUSR1], handled="after-kill").of(handled, result)
