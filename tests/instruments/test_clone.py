"""Whatever fork and clone return, as under an emulator, the process that was started goes on, and says what failed."""

import os

import pytest

from probes.entry.gate import WORD
from probes.entry.machine import code
from probes.sandbox import clone, namespaces

#: How the first clone of the machine code is given a fault: bytes of each word size, and what they become.
COPIES = {64: ("bf11410000", "bf11000000"), 32: ("bb11410000", "bb11000000")}
TWICE_0 = {64: ("4885c074", "4831c074"), 32: ("85c074", "31c074")}
NEVER_0 = {64: ("4885c074", "4839c075"), 32: ("85c074", "39c075")}
#: The faults, with what the error says. qemu-user copies the process: it takes CLONE_VM with CLONE_VFORK for a fork.
FAULTS = {
    "it copies the process": ([COPIES], "shares no memory"),
    "it returns 0 twice": ([TWICE_0], "Function not implemented"),
    "it copies the process, and returns 0 twice": ([COPIES, TWICE_0], "Function not implemented"),
    "it never returns 0": ([NEVER_0], "it did not know itself for a child"),
}


def faulty(name):
    """Return the machine code of this process's word size with a fault."""
    text, gate = code.CLONE[WORD][0].hex(), code.CLONE[WORD][1]
    for patch in FAULTS[name][0]:
        old, new = patch[WORD]
        assert old in text
        text = text.replace(old, new, 1)
    return bytes.fromhex(text), gate


@pytest.fixture
def alone(tmp_path):
    """Run a function in a forked process, and return what it returns there; every other process of it has to end."""

    def run(function):
        reading, writing = os.pipe()
        started = os.fork()
        if started == 0:
            try:
                said = function()
            except OSError as error:
                said = str(error)
            os.write(writing, f"{os.getpid()} {said}\n".encode())
            os._exit(0)
        os.close(writing)
        os.waitpid(started, 0)
        with os.fdopen(reading) as lines:
            # The pipe has its end when no process of the run is left.
            return started, lines.read().splitlines()

    return run


@pytest.mark.parametrize("name", FAULTS)
def test_faulty_clone(name, alone, monkeypatch):
    """The caller gets an error, and no other process comes back as the caller."""
    monkeypatch.setitem(code.CLONE, WORD, faulty(name))
    monkeypatch.setattr(clone, "_code", None)

    def forked():
        child = clone.fork(namespaces.unshare_flags("full", user=True), init=True)
        if child.pid == 0:
            os._exit(0)
        return "no error"

    started, (line,) = alone(forked)
    assert line.startswith(f"{started} ")
    assert FAULTS[name][1] in line


@pytest.mark.parametrize("returned", [0, 1])
def test_faulty_fork(returned, alone, monkeypatch):
    """A fork that returns the same in both processes: the caller gets its child or an error, and the child ends."""
    real = os.fork

    def both_return():
        child = real()
        return 0 if not returned else child or os.getpid()

    def forked():
        monkeypatch.setattr(os, "fork", both_return)
        return "a child" if clone.fork(0, init=False).pid else os._exit(0)

    started, (line,) = alone(forked)
    assert line == f"{started} " + (
        "a child" if returned else "[Errno 38] fork returned 0 in the process that called it"
    )
