"""Tests that a record's line names each register once, and that reading it restores them all."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.abi.record import Record
from probes.trace import ptrace
from probes.trace.traced_call import named_registers

LOW = st.integers(0, (1 << 32) - 1)
HIGH = st.integers(0, (1 << 64) - 1)
VALUE = st.one_of(st.just(0), LOW, HIGH if "rax" in ptrace.REGISTER_NAMES else LOW)
REGISTERS = st.tuples(*[VALUE] * len(ptrace.REGISTER_NAMES))
ABIS = ["i386", "ia32-compat", "x86_64"] if "rax" in ptrace.REGISTER_NAMES else ["i386", "ia32-compat"]


def record(abi, regs_in, regs_out):
    """Return a record with the registers that a tracer read."""
    word = 64 if "rax" in ptrace.REGISTER_NAMES else 32
    packed = struct.Struct(f"={len(ptrace.REGISTER_NAMES)}{'Q' if word == 64 else 'I'}").pack
    return Record(
        1, 1, 1, abi, word, "int80", "direct", 3, "read", named_registers(packed(*regs_in), entry=True), None, (1, 2),
        regs_out=None if regs_out is None else named_registers(packed(*regs_out)), ret=0,
    )  # fmt: skip


def without_copies(registers):
    """Return registers without orig_eax, which is eax at entry."""
    return registers and {name: value for name, value in registers.items() if not name.startswith("orig_")}


@pytest.mark.parametrize("abi", ABIS)
@given(before=REGISTERS, after=st.none() | REGISTERS)
def test_reading_a_line_restores_the_registers(abi, before, after):
    """Every register of the record, but those that are zero and have no 32-bit name."""
    made = record(abi, before, after)
    read = Record.of_json(made.as_json())
    for found, wanted in ((read.regs_in, made.regs_in), (read.regs_out, made.regs_out)):
        if wanted is None:
            assert found is None
            continue
        kept = without_copies(wanted)
        assert {name: found.get(name, "0x0") for name in kept} == kept
        assert found.keys() <= kept.keys()
    if after is not None:
        assert sorted(read.clobbered) == sorted(name for name in made.clobbered if not name.startswith("orig_"))


@pytest.mark.parametrize("abi", ABIS)
@given(before=REGISTERS, after=REGISTERS)
def test_a_line_names_each_register_once(abi, before, after):
    """No two names of a line stand for the same bits."""
    line = record(abi, before, after).as_json()
    for name in ("regs_in", "regs_out"):
        bases = [one.lstrip("er") if one[1:].isalpha() and one[0] in "er" else one for one in line[name]]
        assert len(bases) == len(set(bases))
    unchanged = [name for name, value in line["regs_out"].items() if line["regs_in"].get(name, "0x0") == value]
    assert set(unchanged) <= {"eax", "rax"}


def test_the_line_of_a_refused_call():
    """The example of a 64-bit process: eax is whole in 32 bits at entry, and sign-extended at exit."""
    if "rax" not in ptrace.REGISTER_NAMES:
        pytest.skip("a 32-bit tracer reads 32-bit registers")
    values = {"orig_rax": 0x66, "rax": (1 << 64) - 38, "rbx": 2, "rsp": 0x7FFC3D8350F0, "r15": 7}
    before = tuple(values.get(name, 0) for name in ptrace.REGISTER_NAMES)
    values["rax"] = (1 << 64) - 9
    line = record("ia32-compat", before, tuple(values.get(name, 0) for name in ptrace.REGISTER_NAMES)).as_json()
    assert (line["regs_in"]["eax"], line["regs_in"]["ebx"], line["regs_in"]["esp"]) == ("0x66", "0x2", "0x3d8350f0")
    assert (line["regs_in"]["r15"], "r14" in line["regs_in"], "rax" in line["regs_in"]) == ("0x7", False, False)
    assert line["regs_in_upper"] == {"esp": "0x7ffc"}
    assert line["regs_out"] == {"eax": "0xfffffff7"}
    assert line["regs_out_upper"] == {"eax": "0xffffffff"}
