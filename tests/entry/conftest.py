"""Fixtures of the tests of the entry."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import SupportsInt

import pytest

from probes.entry.calls import Calls
from probes.entry.gate import Gate, Result
from probes.entry.memory import Memory
from probes.testing.caller import Caller
from probes.testing.fixtures import Entry
from tests.entry.blocking_calls import BlockingCalls
from tests.entry.registers import values_of_call


@pytest.fixture
def keep() -> Iterator[Callable[[socket.socket], socket.socket]]:
    """Keeps one of Python's own sockets open until the test ends: keep(sock) returns it."""
    with ExitStack() as stack:
        yield stack.enter_context


@pytest.fixture
def enter(the_gate: Gate, entry: Entry, memory: Memory) -> Callable[..., Result]:
    """Makes a call over this test's route: enter(name, *words), by its name in the i386 table."""

    def make(name: str, *words: SupportsInt) -> Result:
        return the_gate.enter(*values_of_call(entry.route, name, words, memory))

    return make


@pytest.fixture
def blocking(calls: Calls, caller: Caller) -> BlockingCalls:
    """Prepares sockets on which a call blocks."""
    return BlockingCalls(Calls(calls.gate.quieted(), calls.route, calls.memory), caller)
