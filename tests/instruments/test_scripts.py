"""Scripts: what their programs print, how two logs of a test become one, and the places of what a test read."""

import os
import re
import struct
from dataclasses import replace

import pytest

from probes.entry.memory import POISON
from probes.script import c, elf, replay, seen
from probes.script.build import Build
from probes.script.recorder import SHIFT
from probes.script.script import Call, Check, Compare, Expected, Put, Script, Verdict, Word
from probes.script.seen import Seen, SeenInt
from tests.instruments.support import ran


def script(*steps, checks=1):
    """Return a script of steps."""
    return Script(
        "made.by.hand", "A statement.", "a source", "direct", [Check(f"n={n}") for n in range(checks)], [*steps]
    )


def words(*values):
    """Return the seven registers of a call."""
    return tuple(Word(value) for value in values) + (Word(0),) * (7 - len(values))


def output(tmp_path, *scripts, seconds=elf.SECONDS):
    """Run scripts as a program, and return its status and the lines after the plan."""
    path = tmp_path / "made.elf"
    path.write_bytes(elf.program(scripts, seconds))
    path.chmod(0o755)
    status, out = ran(path, cwd=tmp_path)
    return status, out.splitlines()[2:]


GETPID, KILL, SIGKILL, PAUSE, DUP = 20, 37, 9, 29, 41


def test_a_call_that_ends_the_process_costs_one_script(tmp_path):
    kills = script(
        Call(words(GETPID), slot=0),
        Call((Word(KILL), Word(0, "slot"), Word(SIGKILL), *words(0, 0, 0, 0)[:4]), expected=[Expected(Word(0), 0)]),
        Verdict(0),
    )
    fine = script(Call(words(6, 0xFFFFFFFF), expected=[Expected(Word(-9 & 0xFFFFFFFF), 0)]), Verdict(0))
    status, lines = output(tmp_path, kills, fine)
    assert status == 1
    assert lines == [
        "not ok 1 made.by.hand n=0 route=direct # ended by signal 9 in syscall(NR_kill, r0, 9)",
        "ok 2 made.by.hand n=0 route=direct",
    ]


def test_a_call_that_does_not_return_is_ended(tmp_path):
    blocks = script(Call(words(PAUSE), expected=[Expected(Word(0), 0)]), Verdict(0))
    status, lines = output(tmp_path, blocks, seconds=1)
    assert (status, lines) == (
        1,
        ["not ok 1 made.by.hand n=0 route=direct # ended by signal 14 in syscall(NR_pause)"],
    )


def test_bytes_that_may_be_any_and_results_that_may_be_errors(tmp_path):
    at = 0x60000000
    judges = script(
        Put(at, b"abcd"),
        Call(words(6, 0xFFFFFFFF), expected=[Expected(None, 0)]),
        Compare(1, at, b"xbcd", (0,)),
        Compare(2, at, b"xbcd", (1,)),
        Compare(3, at + 4, bytes([POISON]) * 4),
        Call(words(DUP, 0), expected=[Expected(None, 4)]),
        *map(Verdict, range(5)),
        checks=5,
    )
    status, lines = output(tmp_path, judges)
    name = "made.by.hand n={} route=direct"
    assert (status, lines[0]) == (
        1,
        f"# {name.format(2)}: syscall(NR_close, -1) wrote 61 62 63 64, expected 78 62 63 64",
    )
    assert re.fullmatch(rf"# {name.format(4)}: syscall\(NR_dup, 0\) = [1-9]\d*, expected 0 or an error", lines[1])
    assert lines[2:] == [f"{'not ok' if n in (2, 4) else 'ok'} {n + 1} {name.format(n)}" for n in range(5)]
    text = c.program([judges])
    for line in (
        'no_more_than_0("n=0");', 'compare("n=1", M(0x1), 0x62, 0x63, 0x64);', 'compare("n=2", M(0x0), 0x78);',
        'compare("n=2", M(0x2), 0x63, 0x64);', 'unwritten("n=3", M(0x4), 4);', 'no_more_than_0("n=4");',
    ):  # fmt: skip
        assert f"\t{line}\n" in text


def test_outcomes_are_in_the_order_of_the_scripts_however_many_run_at_once():
    close = words(6, 0xFFFFFFFF)
    fine = script(Call(close, expected=[Expected(Word(-9 & 0xFFFFFFFF), 0)]), Verdict(0))
    wrong = script(Call(close, expected=[Expected(Word(0), 0)]), Verdict(0))
    blocks = script(Call(words(PAUSE), expected=[Expected(Word(0), 0)]), Verdict(0))
    scripts = [fine, wrong, blocks, fine, fine, wrong, fine]
    expected = [[""], ["syscall(NR_close, -1) = -9, expected 0"], ["ended by signal 14 in syscall(NR_pause)"]]
    expected += [[""], [""], expected[1], [""]]
    for at_once in (1, 3, 20):
        found = replay.outcomes(scripts, seconds=1, at_once=at_once)
        assert [[outcome.why for outcome in one] for one in found] == expected
        assert [[outcome.ok for outcome in one] for one in found] == [[why == [""]] for why in expected]
    assert replay.outcomes([]) == []


def test_a_program_that_an_implementation_does_not_end_has_the_outcomes_that_it_printed(monkeypatch):
    monkeypatch.setattr(replay, "_DEADLINE", 0.0)
    monkeypatch.setattr(replay, "_EACH", 1.0)
    close = Call(words(6, 0xFFFFFFFF), expected=[Expected(Word(-9 & 0xFFFFFFFF), 0)])
    found = replay.outcomes([script(close, Verdict(0))] * 2, ("sh", "-c", 'echo "ok 1 x"; exec sleep 1000'))
    assert [[(outcome.ok, outcome.why) for outcome in one] for one in found] == [
        [(True, "")],
        [(False, "the program ended before, or not at all")],
    ]


def test_a_program_does_not_read_what_is_for_the_command(monkeypatch):
    """Its standard input has nothing, whatever this process has there."""
    monkeypatch.setattr(replay, "_DEADLINE", 0.0)
    monkeypatch.setattr(replay, "_EACH", 2.0)
    close = Call(words(6, 0xFFFFFFFF), expected=[Expected(Word(-9 & 0xFFFFFFFF), 0)])
    kept, (reading, writing) = os.dup(0), os.pipe()
    os.dup2(reading, 0)
    try:
        ((outcome,),) = replay.outcomes([script(close, Verdict(0))], ("sh", "-c", 'read line; exec "$0"'))
    finally:
        os.dup2(kept, 0)
        for descriptor in (kept, reading, writing):
            os.close(descriptor)
    assert outcome.ok, outcome


def test_refused_set_up_is_not_ok_and_refused_preparation_is_skipped(tmp_path):
    bad = words(6, 0xFFFFFFFF)
    judged = [Call(bad, expected=[Expected(Word(-9 & 0xFFFFFFFF), 0)]), Verdict(0)]
    needed = script(Call(bad, expected=[Expected("success")]), *judged)
    prepared = script(Call(bad, setup=True), *judged)
    status, lines = output(tmp_path, needed, prepared)
    assert status == 1
    assert lines == [
        "# made.by.hand n=0 route=direct: syscall(NR_close, -1) = -9, expected success",
        "not ok 1 made.by.hand n=0 route=direct # a call of set-up is not as documented",
        "# made.by.hand n=0 route=direct: syscall(NR_close, -1) = -9, expected success",
        "ok 2 made.by.hand n=0 route=direct # SKIP a call that prepares the test fails",
    ]


def test_a_kernel_with_other_protocols_is_skipped(tmp_path):
    """What a test expects rests on the protocols that it asked for: on a kernel with others it is skipped."""
    close = Call(words(6, 0xFFFFFFFF), expected=[Expected(Word(-9 & 0xFFFFFFFF), 0)])
    asked = [{"TCP": True, "UDP": True}, {"TC": False}, {"UDP": True, "SCTPv9": True}, {"UDP": False}, {"UD": True}]
    scripts = [replace(script(close, Verdict(0)), protocols=one) for one in asked]
    status, lines = output(tmp_path, *scripts)
    name = "made.by.hand n=0 route=direct"
    other = f"{name} # SKIP it is for a kernel with other protocols"
    says = f"# {name}: the kernel"
    assert (status, lines) == (
        0,
        [
            f"ok 1 {name}", f"ok 2 {name}", f"{says} lacks the protocol SCTPv9", f"ok 3 {other}",
            f"{says} has the protocol UDP", f"ok 4 {other}", f"{says} lacks the protocol UD", f"ok 5 {other}",
        ],
    )  # fmt: skip


def test_errors_have_the_names_of_the_pages_and_values_are_decimal(tmp_path):
    closes = script(
        Call(words(6, 0xFFFFFFFF), expected=[Expected(Word(-95 & 0xFFFFFFFF), 0), Expected(Word(0x8802), 1)]),
        Verdict(0),
        Verdict(1),
        checks=2,
    )
    says = ["-9, expected -95 EOPNOTSUPP", "-9, expected 34818"]
    _, lines = output(tmp_path, closes)
    assert lines[:2] == [
        f"# made.by.hand n={n} route=direct: syscall(NR_close, -1) = {said}" for n, said in enumerate(says)
    ]
    assert 'expect(-EOPNOTSUPP, "n=0", syscall(NR_close, -1));' in c.program([closes])


def log(*steps, checks=()):
    """Return a log of steps."""
    return {"steps": list(steps), "checks": list(checks), "stopped": "", "files": False}


def test_pointers_descriptors_and_copied_bytes_are_symbols():
    one = log(
        {"call": [359, 2, 2, 0, 0, 0, 0], "result": 15},
        {"read": 0x60000000, "data": "0200beef"},
        {"write": 0x60001000, "data": struct.pack("<2I", 0x60000010, 15).hex()},
        {"write": 0x60002000, "data": "0200beef7f000001"},
        {"call": [361, 15, 0x60002000, 16, 0, 0, 0], "result": 0},
        checks=[{"case": "", "by": [{"result": 4, "is": 0}], "left_out": "", "judged": True}],
    )
    two = log(
        {"call": [359, 2, 2, 0, 0, 0, 0], "result": 22},
        {"read": 0x60000000 + SHIFT, "data": "0200cafe"},
        {"write": 0x60001000 + SHIFT, "data": struct.pack("<2I", 0x60000010 + SHIFT, 22).hex()},
        {"write": 0x60002000 + SHIFT, "data": "0200cafe7f000001"},
        {"call": [361, 22, 0x60002000 + SHIFT, 16, 0, 0, 0], "result": 0},
        checks=[{"case": "", "by": [{"result": 4, "is": 0}], "left_out": "", "judged": True}],
    )
    built = Build(one, two)
    assert built.stopped == ""
    puts = [step for step in built.steps if isinstance(step, Put)]
    assert [word.kind for _, _, word in puts[0].words] == ["pointer", "slot"]
    assert [(offset, size, word.kind) for offset, size, word in puts[1].words] == [(0, 4, "slot")]
    bind = built.steps[-2]
    assert [word.kind for word in bind.registers[:3]] == ["number", "slot", "pointer"]


RESULT, NO_BYTES = {"result": 0, "is": 0}, {"read": 1, "offset": 0, "is": "", "but": []}


@pytest.mark.parametrize(
    ("one", "two", "why"),
    [
        ([RESULT], [RESULT], ""),
        ([RESULT], [RESULT, RESULT], "is judged by other bytes from run to run"),
        ([RESULT, RESULT], [RESULT], "is judged by other bytes from run to run"),
        ([NO_BYTES], [NO_BYTES], "rests on nothing that is recorded"),
        ([RESULT, NO_BYTES], [RESULT, NO_BYTES], ""),
    ],
)
def test_a_check_is_judged_by_all_that_it_rests_on(one, two, why):
    """A script has no check that compares less than the test does, or nothing."""
    steps = {"call": words_of(DUP), "result": 0}, {"read": 0x60000000, "data": "00"}
    check = {"case": "", "left_out": "", "judged": True}
    built = Build(log(*steps, checks=[{**check, "by": one}]), log(*steps, checks=[{**check, "by": two}]))
    assert [made.left_out for made in built.checks] == [why]


def test_checks_of_other_cases_are_left_out():
    """The order of the checks differs from run to run."""
    logs = [
        log(
            {"call": words_of(DUP), "result": 0},
            checks=[{"case": case, "left_out": "", "judged": True, "by": [RESULT]}],
        )
        for case in ("n=1", "n=2")
    ]
    assert [made.left_out for made in Build(*logs).checks] == ["is another check from run to run"]


def words_of(*values):
    """Return the seven registers of a recorded call."""
    return [*values, *[0] * (7 - len(values))]


def test_unpacked_values_keep_their_place():
    data = Seen.at(struct.pack("<IH", 5, 7), 3, 8)
    value, half = seen._placed("<IH", data, 0, struct.unpack("<IH", data))
    assert (value, value.read, value.offset, value.size) == (5, 3, 8, 4)
    assert (half, half.offset, half.size) == (7, 12, 2)
    assert half.encoded(258) == b"\x02\x01"
    assert isinstance(data[0:2], Seen) and data[4:].offset == 12
    assert isinstance(data[0], SeenInt) and data[0].size == 1
    replaced = data.replace(b"\x07\x00", b"\0\0", 1)
    assert replaced.left_out == {4, 5}
    assert (replaced[2:5].left_out, replaced[5:].left_out) == ({2}, {0})
