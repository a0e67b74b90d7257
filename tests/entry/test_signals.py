"""Judges calls that a signal interrupts: the result, and the restart codes that a tracer sees."""

import signal
from errno import EINTR
from socket import MSG_WAITALL

import pytest

from probes.testing import behaviour, need
from tests.entry.blocking_calls import LONG, RESTARTED, TIMED, BlockingCall
from tests.entry.documented_calls import judged_over
from tests.entry.registers import NUMBER, Registers, values_of_call

SOURCE = "signal(7) Interruption of system calls; sigaction(2) SA_RESTART; S3 ret_from_sys_call, S5 1.3; handle_signal"
SOURCE_STOP = "signal(7) `by stop signals`; arch/x86/kernel/signal.c arch_do_signal_or_restart"
#: Restart codes, which only a tracer sees (include/linux/errno.h).
ERESTARTSYS, ERESTARTNOHAND, ERESTART_RESTARTBLOCK = 512, 514, 516
#: The mask of SIGUSR1, and `how` of sigprocmask (include/uapi/asm-generic/signal-defs.h).
USR1, SIG_BLOCK = 1 << signal.SIGUSR1 - 1, 0
#: The restart code of each call that waits for several descriptors (fs/select.c).
MULTIPLEXING = {
    "poll": ERESTART_RESTARTBLOCK, "ppoll": ERESTARTNOHAND, "_newselect": ERESTARTNOHAND, "pselect6": ERESTARTNOHAND,
}  # fmt: skip


@behaviour("entry.signals.interrupted", SOURCE)
def test_interrupted(entry, enter, blocking, meanwhile, expect):
    """A blocked call that a handler without SA_RESTART interrupts fails with EINTR; a tracer sees ERESTARTSYS."""
    meanwhile.catch(restart=False)
    for name in judged_over(entry.route, RESTARTED):
        call = blocking.prepare(name)
        returned, codes = expect(-EINTR, call=name), expect([-ERESTARTSYS], call=name, seen="ret")
        with meanwhile(meanwhile.signal):
            result = enter(call.name, *call.words)
            returned.of(result)
        codes.seen("ret", result)


@behaviour("entry.signals.restarted", SOURCE)
def test_restarted(entry, enter, blocking, meanwhile, expect):
    """A blocked call that a handler with SA_RESTART interrupts is restarted each time; a tracer sees ERESTARTSYS and the
    same call again.
    """
    meanwhile.catch(restart=True)
    for names, times in ((RESTARTED, 1), (("recv", "connect"), 3)):
        for name in judged_over(entry.route, names):
            call = blocking.prepare(name)
            returned = expect(call.returns, call=name, times=times)
            codes = expect([-ERESTARTSYS] * times + [call.returns], call=name, times=times, seen="ret")
            with meanwhile(*[meanwhile.signal] * times, call.end):
                result = enter(call.name, *call.words)
                returned.of(result)
            codes.seen("ret", result)


@behaviour("entry.signals.restart-is-the-same-call", f"{SOURCE} `regs->ax = regs->orig_ax; regs->ip -= 2`")
def test_same_call(entry, enter, the_gate, memory, blocking, meanwhile, expect):
    """A restarted call has the number and the arguments that it had at first."""
    meanwhile.catch(restart=True)
    for name in judged_over(entry.route, ("recv", "read", "sendmsg", "accept")):
        call = blocking.prepare(name)
        returned = expect(call.returns, call=name)
        codes = expect([-ERESTARTSYS, call.returns], call=name, seen="ret")
        values = values_of_call(entry.route, call.name, call.words, memory)
        loaded = dict(zip(("eax", "ebx", "ecx", "edx", "esi", "edi"), [*values, 0, 0, 0, 0, 0], strict=False))
        same = {register: expect([value] * 2, call=name, seen=register) for register, value in loaded.items()}
        with meanwhile(meanwhile.signal, call.end):
            result = the_gate.enter(*values)
            returned.of(result)
        codes.seen("ret", result)
        for register, check in same.items():
            check.seen(f"regs_in.{register}", result)


@behaviour("entry.signals.registers", f"{SOURCE}; sigreturn(2); restore_sigcontext")
@pytest.mark.sandbox(trace="calls")
@pytest.mark.parametrize("how", ["interrupted", "restarted", "stopped"])
def test_registers(how, the_gate, entry, blocking, memory, meanwhile, expect):
    """A call that was interrupted, restarted or stopped preserves every general register but eax."""
    meanwhile.catch(restart=how == "restarted")
    call = blocking.prepare("recv")
    before = Registers.filled(the_gate.word, values_of_call(entry.route, call.name, call.words, memory))
    steps = {
        "interrupted": [meanwhile.signal],
        "restarted": [meanwhile.signal, call.end],
        "stopped": [meanwhile.stop, call.end],
    }[how]
    with meanwhile(*steps):
        check = expect([-EINTR if how == "interrupted" else 3, before.without_result()])
        result = before.enter(the_gate)
        check.of([result, Registers(result.regs_out).without_result()], result)


@behaviour("entry.signals.multiplexing", f"{SOURCE} `never restarted`; fs/select.c do_sys_poll, poll_select_finish")
@pytest.mark.routes("direct")
@pytest.mark.parametrize("restart", [False, True], ids=["no-restart", "sa-restart"])
def test_multiplexing(restart, enter, blocking, meanwhile, expect):
    """poll, ppoll, select and pselect6 fail with EINTR after a handler, with SA_RESTART too; a tracer sees
    ERESTARTNOHAND, or for poll ERESTART_RESTARTBLOCK.
    """
    meanwhile.catch(restart)
    for name, code in MULTIPLEXING.items():
        call = blocking.multiplexing(name)
        returned, codes = expect(-EINTR, call=name), expect([-code], call=name, seen="ret")
        with meanwhile(meanwhile.signal):
            result = enter(call.name, *call.words)
            returned.of(result)
        codes.seen("ret", result)


@behaviour("entry.signals.timeout", f"{SOURCE} `when a timeout has been set on the socket`; sock_intr_errno; socket(7)")
@pytest.mark.parametrize("restart", [False, True], ids=["no-restart", "sa-restart"])
def test_timeout(restart, entry, enter, blocking, meanwhile, expect):
    """A call on a socket with SO_RCVTIMEO or SO_SNDTIMEO fails with EINTR after a handler, with SA_RESTART too; a tracer
    sees EINTR and no restart code.
    """
    meanwhile.catch(restart)
    for name in judged_over(entry.route, TIMED):
        call = blocking.prepare(name, timeout=True)
        returned, codes = expect(-EINTR, call=name), expect([-EINTR], call=name, seen="ret")
        with meanwhile(meanwhile.signal):
            result = enter(call.name, *call.words)
            returned.of(result)
        codes.seen("ret", result)


@behaviour(
    "entry.signals.recvmmsg-timeout",
    "recvmmsg(2) BUGS; do_recvmmsg; signal(7) has it that this never restarts",
    tag="implementation",
)
@pytest.mark.parametrize("restart", [False, True], ids=["no-restart", "sa-restart"])
def test_recvmmsg_timeout(restart, enter, blocking, meanwhile, memory, expect):
    """recvmmsg with a timeout that a handler interrupts before the first message behaves as without a timeout: a tracer
    sees ERESTARTSYS, and SA_RESTART restarts it.
    """
    meanwhile.catch(restart)
    call = blocking.prepare("recvmmsg")
    words = (*call.words[:-1], memory.words(LONG, 0))
    returned = expect(call.returns if restart else -EINTR, call="recvmmsg")
    codes = expect([-ERESTARTSYS, call.returns] if restart else [-ERESTARTSYS], call="recvmmsg", seen="ret")
    with meanwhile(meanwhile.signal, *([call.end] if restart else [])):
        result = enter("recvmmsg", *words)
        returned.of(result)
    codes.seen("ret", result)


@behaviour("entry.signals.stopped", SOURCE_STOP)
def test_stopped(entry, enter, blocking, meanwhile, expect):
    """A blocked call is restarted when the process is stopped and continued."""
    for name in judged_over(entry.route, RESTARTED):
        call = blocking.prepare(name)
        returned = expect(call.returns, call=name)
        codes = expect([-ERESTARTSYS, call.returns], call=name, seen="ret")
        with meanwhile(meanwhile.stop, call.end):
            result = enter(call.name, *call.words)
            returned.of(result)
        codes.seen("ret", result)


@behaviour("entry.signals.stopped-timeout", f"{SOURCE_STOP}; sock_intr_errno")
def test_stopped_timeout(entry, enter, blocking, meanwhile, expect):
    """A call on a socket with SO_RCVTIMEO or SO_SNDTIMEO fails with EINTR when the process is stopped and continued."""
    for name in judged_over(entry.route, TIMED):
        call = blocking.prepare(name, timeout=True)
        returned, codes = expect(-EINTR, call=name), expect([-EINTR], call=name, seen="ret")
        with meanwhile(meanwhile.stop):
            result = enter(call.name, *call.words)
            returned.of(result)
        codes.seen("ret", result)


@behaviour("entry.signals.stopped-multiplexing", f"{SOURCE_STOP} ERESTARTNOHAND; poll_select_finish")
@pytest.mark.routes("direct")
def test_stopped_multiplexing(enter, blocking, meanwhile, expect):
    """ppoll, select and pselect6 are restarted when the process is stopped and continued; a tracer sees
    ERESTARTNOHAND.
    """
    for name in ("ppoll", "_newselect", "pselect6"):
        call = blocking.multiplexing(name)
        returned, codes = expect(1, call=name), expect([-ERESTARTNOHAND, 1], call=name, seen="ret")
        with meanwhile(meanwhile.stop, call.end):
            result = enter(call.name, *call.words)
            returned.of(result)
        codes.seen("ret", result)


@behaviour("entry.signals.restart-syscall", f"restart_syscall(2); {SOURCE_STOP} ERESTART_RESTARTBLOCK; do_restart_poll")
@pytest.mark.routes("direct")
@pytest.mark.parametrize("name", ["poll", "nanosleep"])
def test_restart_syscall(name, enter, blocking, meanwhile, memory, expect):
    """poll and nanosleep continue through restart_syscall, i386 call 0, each time the process is stopped and
    continued.
    """
    meanwhile.catch(restart=True)
    for times in (1, 2):
        if name == "poll":
            call, last = blocking.multiplexing("poll"), 1
        else:
            # Only a handler ends a sleep before its time; nanosleep then fails with EINTR.
            call = BlockingCall(name, (memory.words(LONG, 0), 0), -EINTR, meanwhile.signal)
            last = -ERESTART_RESTARTBLOCK
        returned = expect(call.returns, call=name, times=times)
        codes = expect([-ERESTART_RESTARTBLOCK] * times + [last], call=name, times=times, seen="ret")
        numbers = expect([NUMBER[name]] + [0] * times, times=times, seen="nr")
        with meanwhile(*[meanwhile.stop] * times, call.end):
            result = enter(call.name, *call.words)
            returned.of(result)
        codes.seen("ret", result)
        numbers.seen("nr", result)


@behaviour("entry.signals.partial", f"{SOURCE} `has already transferred some data`; unix_stream_sendmsg, MSG_WAITALL")
@pytest.mark.parametrize("restart", [False, True], ids=["no-restart", "sa-restart"])
def test_partial(restart, enter, blocking, meanwhile, memory, expect):
    """A call that has transferred data when a handler interrupts it returns the count, with SA_RESTART too."""
    meanwhile.catch(restart)
    left, right = blocking.pair()
    blocking.lent(left).send(b"abc")
    returned, codes = expect(3, call="recv"), expect([3], call="recv", seen="ret")
    with meanwhile(meanwhile.signal):
        result = enter("recv", right, memory.alloc(16), 16, MSG_WAITALL)
        returned.of(result)
    codes.seen("ret", result)


@behaviour("entry.signals.blocked", "signal(7) Signal mask; sigprocmask(2)")
@pytest.mark.routes("direct")
def test_blocked(enter, blocking, meanwhile, memory, expect):
    """A signal that the process blocks does not interrupt a call and stays pending."""
    meanwhile.catch(restart=False)
    need(enter("sigprocmask", SIG_BLOCK, memory.words(USR1), 0), returns=0)
    call, mask = blocking.prepare("recv"), memory.words(0)
    returned, codes = expect(3, call="recv"), expect([3], call="recv", seen="ret")
    pending = expect([signal.SIGUSR1], seen="pending")
    with meanwhile(meanwhile.send, call.end):
        result = enter(call.name, *call.words)
        returned.of(result)
    codes.seen("ret", result)
    read = enter("sigpending", mask)
    need(read, returns=0)
    pending.of([number for number in range(1, 33) if mask.words()[0] >> (number - 1) & 1], result, read)


@behaviour(
    "entry.signals.on-return", f"{SOURCE} `signals are handled before the return`; kill(2) NOTES; exit_to_user_mode"
)
@pytest.mark.routes("direct")
def test_on_return(enter, the_gate, caller, meanwhile, expect):
    """A signal that a process sends to itself is handled before kill returns: the handler of an agent finds that the
    instruction behind `int $0x80` is the next one.
    """
    meanwhile.catch(restart=False)
    shows_place = meanwhile.handled_at() is not None and the_gate.ip
    returned, before_return = expect(0, call="kill"), expect([signal.SIGUSR1], handled="after-kill")
    place = expect(True, handled="before-the-next-instruction") if shows_place else None
    result = enter("kill", caller.pid, signal.SIGUSR1)
    returned.of(result)
    before_return.of([signal.SIGUSR1] * meanwhile.handled(), result)
    if place is not None:
        place.of(meanwhile.handled_at() == the_gate.ip, result)
