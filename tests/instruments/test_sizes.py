"""Tests what a run takes: bytes on disk for a check, memory for a call, a check, and a run's formats."""

import random
import struct
import tracemalloc
from itertools import repeat

import pytest

from probes.abi.record import Record
from probes.report.check import Check, Key
from probes.report.expectations import Expectations
from probes.report.judged_test import JudgedTest, Statement
from probes.report.machine_run import MachineRun
from probes.report.writer import Writer, write_views
from probes.trace import ptrace
from probes.trace.traced_call import TracedCall, named_registers

TESTS, CHECKS = 200, 25
FACTS = {
    "suite_version": "1", "seed": 1, "reference": "i386-6.1",
    "target": {
        "name": "made", "kernel": {"release": "6.1", "version": "#1", "machine": "x86_64"}, "modules": [],
        "callers": [{"name": "python", "word": 64, "gates": ["int80"], "options": []}],
        "implementation": "linux", "privileges": "root", "abi": "ia32-compat", "again": ["socketcall", "check"],
    },
}  # fmt: skip


@pytest.fixture
def allocated():
    """Measure the bytes that Python has allocated since the test began, and at most."""
    tracemalloc.start()
    yield tracemalloc.get_traced_memory
    tracemalloc.stop()


def registers(number, result):
    """Return the registers of one of many calls: the stack pointer and the words' address differ."""
    wide = "rax" in ptrace.REGISTER_NAMES
    values = {"ax": result & (2**64 - 1 if wide else 2**32 - 1), "bx": 2, "cx": 0x41000000 + 16 * number}
    named = {("r" if wide else "e") + name: value for name, value in values.items()}
    named |= {"orig_rax": 102, "orig_eax": 102, "rsp": 0x7FFC3D8350F0 + 8 * (number % 9), "cs": 0x33, "eflags": 0x246}
    return struct.pack(
        f"={len(ptrace.REGISTER_NAMES)}{'QI'[not wide]}", *map(named.get, ptrace.REGISTER_NAMES, repeat(0))
    )


def judged_test(number, verdict="conforms"):
    """Return a test with a call for each check, with clocks and addresses as a kernel gives them."""
    chance = random.Random(number)
    calls = [
        Record(
            number, number, 10**13 + chance.randrange(10**11), "ia32-compat", 64, "int80", "socketcall", 102, "bind",
            named_registers(registers(chance.randrange(999), -38), entry=True), "0x41a01002", (9, 1101004816, 16),
            call=at, dur_ns=chance.randrange(90000), regs_out=named_registers(registers(at, -98)), ret=-98,
            args_after=(9, 1101004816, 16), decoded={"fd": 9, "addr": {"family": "AF_INET", "port": at}},
        ).as_json()
        for at in range(CHECKS)
    ]  # fmt: skip
    checks = [
        Check(Key("made.up.law", f"kind=tcp test={number} port={at}", "socketcall", "int80", 64), verdict, 0, -98,
              rests_on=[at])
        for at in range(CHECKS)
    ]  # fmt: skip
    return JudgedTest(checks, calls, Statement("made.up.law", "It binds.", "bind(2)"), 0.01)


def test_a_call_that_waits(allocated, monkeypatch):
    """A call between its entry and its exit takes less than 1.5 kB, 576 bytes of it the memory around its words."""
    chance = random.Random(1)
    monkeypatch.setattr(ptrace, "read", lambda tid, address, size: chance.randbytes(size))
    before, _ = allocated()
    waiting = []
    for n in range(500):
        raw = registers(n, -38)
        waiting.append(TracedCall(1, 1, 10**13 + n, raw, ptrace.registers_in(raw), True, "int80", numbered=True))
    assert (allocated()[0] - before) / len(waiting) < 1500


def test_a_record(allocated):
    """A record takes less than 4 kB: registers that are alike share their text."""
    before, _ = allocated()
    records = [(named_registers(registers(n, -38), entry=True), named_registers(registers(n, -98))) for n in range(500)]
    assert (allocated()[0] - before) / len(records) < 4000


def test_a_run_of_many_checks(allocated, tmp_path):
    """A check and its call take less than 500 bytes on disk; nothing keeps them, and the formats keep their keys only."""
    writer = Writer(tmp_path / "report", FACTS)
    run = MachineRun(FACTS, Expectations.of(None, None, str(tmp_path / "known")), writer)
    run.take("first", judged_test(TESTS, "conforms"))
    before, _ = allocated()
    for number in range(TESTS):
        run.take(f"test {number}", judged_test(number))
    grown = allocated()[0] - before
    assert grown / TESTS < 1000, "the run keeps more of a test than its name"
    run.finish()
    total = CHECKS * (TESTS + 1)
    size = sum(path.stat().st_size for path in (tmp_path / "report").rglob("*") if path.is_file())
    assert size / total < 500
    tracemalloc.reset_peak()
    before, _ = allocated()
    write_views(tmp_path / "report")
    _, peak = allocated()
    # 106 MB of evidence took 1 GB: 30 kB a check.
    assert (peak - before) / total < 1000


def test_a_run_in_which_everything_deviates(allocated, tmp_path):
    """Of checks that deviate the lines of --write-expect are kept, and nothing of their evidence."""
    run = MachineRun(FACTS, Expectations.of(None, None, str(tmp_path / "known")), None)
    run.take("first", judged_test(TESTS, "deviates"))
    before, _ = allocated()
    for number in range(TESTS):
        run.take(f"test {number}", judged_test(number, "deviates"))
    assert (allocated()[0] - before) / (TESTS * CHECKS) < 300
    run.finish()
    assert len((tmp_path / "known").read_text().splitlines()) == 1 + CHECKS * (TESTS + 1)
