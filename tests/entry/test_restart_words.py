"""Judges what a restarted call reads again: socketcall its words in memory, a direct call no memory for its words."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from errno import EBADF

import pytest

from probes.abi.operations import OPERATIONS, SOCKETCALL
from probes.testing import behaviour, not_applicable
from probes.testing.caller import Caller
from tests.entry.blocking_calls import RESTARTED
from tests.entry.registers import values_of_call

SOURCE = (
    "signal(7) Interruption of system calls, SA_RESTART; handle_signal `regs->ax = regs->orig_ax; regs->ip -= 2`; "
    "net/socket.c and net/compat.c socketcall, `copy_from_user(a, args, len)`"
)
#: The blocking ones of the 20 operations.
BLOCKING = tuple(name for name in RESTARTED if name in OPERATIONS)
_FD, _LEN = 0, 2


@pytest.fixture
def overwrite(caller: Caller) -> Iterator[Callable[[int, int], None]]:
    """Changes a word in the memory of the process that makes the calls, while it is blocked: overwrite(address, value)."""
    try:
        # Opened here, by that process or its parent: its child may not, where Yama restricts ptrace.
        memory = os.open(f"/proc/{caller.pid}/mem", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        not_applicable(f"/proc/PID/mem, by which the words of a blocked call are changed: {error.strerror}")

    def change(address: int, value: int) -> None:
        os.pwrite(memory, struct.pack("<i", value), address)

    yield change
    os.close(memory)


@behaviour("entry.signals.restart-reads-words", f"{SOURCE}; S1 `copy_from_user(a, args, nas[call])`")
@pytest.mark.routes("socketcall")
def test_read_again(the_gate, memory, blocking, meanwhile, overwrite, expect):
    """A socketcall that a handler with SA_RESTART interrupts reads its words again: if they have descriptor -1 by then it
    fails with EBADF, if they have a shorter length it receives less.
    """
    meanwhile.catch(restart=True)
    changes = [(name, _FD, -1, -EBADF) for name in BLOCKING] + [("recv", _LEN, 1, 1)]
    for name, index, value, result in changes:
        call = blocking.prepare(name)
        words = memory.words(*call.words)

        def change(address=words.address + 4 * index, value=value):
            overwrite(address, value)
            meanwhile.signal()

        check = expect(result, call=name, word=OPERATIONS[name].arguments[index].name)
        with meanwhile(change, call.end):
            check.of(the_gate.enter(SOCKETCALL, OPERATIONS[name].call, words.address))


@behaviour("entry.signals.restart-keeps-words", SOURCE)
@pytest.mark.routes("direct")
def test_kept(the_gate, memory, blocking, meanwhile, overwrite, expect):
    """A direct call that a handler with SA_RESTART interrupts goes on with the words in its registers: a change of
    the memory that they were loaded from has no effect.
    """
    meanwhile.catch(restart=True)
    for name in BLOCKING:
        call = blocking.prepare(name)
        words = memory.words(*call.words)

        def change(address=words.address):
            overwrite(address, -1)
            meanwhile.signal()

        check = expect(call.returns, call=name)
        with meanwhile(change, call.end):
            check.of(the_gate.enter(*values_of_call("direct", name, words.words(), memory)))
