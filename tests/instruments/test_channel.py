"""The channel's bytes are not trusted: whatever a test writes there, it gets its verdict and the run goes on."""

import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.abi.frame import Frame
from probes.plugin.verdicts import Subject, judge
from probes.report import failure
from probes.report.check import VERDICTS, Key
from probes.report.judged_test import Statement
from probes.sandbox.channel import Channel
from probes.sandbox.messages import (
    Announced,
    Broke,
    Finished,
    FrameSeen,
    Judged,
    NotApplicable,
    Passed,
    Report,
    SandboxFailed,
    SetUpRefused,
    of_json,
    to_json,
)
from probes.sandbox.sandbox import SandboxResult
from tests.instruments.support import run_check, write_tests

SIZE = 1 << 16

#: name: (what a test writes after its judged call, what the detail of its broken check says).
GARBAGE = {
    "every byte": ("write(0, b'\\xff' * (64 << 20))", "messages end at byte"),
    "a head before the messages": ("write(0, struct.pack('<Q', 0)); os._exit(0)", "messages end at byte 0"),
    "a head outside": ("write(0, struct.pack('<Q', 1 << 63))", "messages end at byte"),
    "a head behind the messages": ("write(0, struct.pack('<Q', 64 << 20))", "is damaged"),
    "bytes that are no UTF-8": ("line(b'\\xff\\xfe')", "is damaged"),
    "lines without end": ("line(b'\\n' * 1000000)", "is damaged"),
    "lists without end": ("line(b'[' * 1000000)", "is damaged"),
    "a message without end": ("write(end(), b'{}'); write(0, struct.pack('<Q', end() + 2)); os._exit(0)", "has no end"),
    "no object": ("line(b'[]')", "is damaged"),
    "an unknown message": ("send('Verdict', conforms=True)", "is damaged"),
    "a field of another type": ("send('Broke', why=[1])", "Broke.why"),
    "a field too many": ("send('Broke', why='x', more=1)", "is damaged"),
    "a field too few": ("send('Judged', number=1, actual=1)", "is damaged"),
    "no number": ("send('Announced', number=9, case='', expected=float('nan'))", "NaN"),
    "a number without end": ("send('Announced', number=9, case='', expected=1 << 100)", "Announced.expected"),
    "bytes that are no bytes": ("send('Announced', number=9, case='', expected={'bytes': 'zz'})", "Announced.expected"),
    "a case of two lines": ("send('Announced', number=9, case='a' + chr(10) + 'ok 1', expected=1)", "one line"),
    "a value that was not announced": ("judged(99)", "number 99 was judged, but not announced"),
    "frames that were not sent": ("expect(1, n=1); judged(number(), frames=[7])", "frame 7 was not sent"),
    "a field that records have not": ("expect(1, n=1); judged(number(), record_field='__class__')", "have no field"),
    "a report that is none": ("send('Report', data={'$report_type': 'TestReport'})", "a report is damaged"),
    "its end without a report": ("send('Finished'); os._exit(0)", "without a report"),
    "lone surrogates": ("send('Broke', why=chr(0xdc80) + chr(0xd800))", "\\udc80\\ud800"),
}  # fmt: skip

HOSTILE = '''
import json
from pathlib import Path

@law
def test_it(calls, expect, request):
    """Binding descriptor -1 fails."""
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
    maps = Path("/proc/self/maps").read_text().splitlines()
    start = next(int(row.split("-")[0], 16) for row in maps if "rw-s" in row and "zero" in row)

    def write(at, data):
        ctypes.memmove(start + at, data, min(len(data), (64 << 20) - at))

    def end():
        return struct.unpack("<Q", ctypes.string_at(start, 8))[0]

    def line(data):
        at = end()
        write(at, data + b"\\n")
        write(0, struct.pack("<Q", at + len(data) + 1))

    def send(kind, **fields):
        line(json.dumps({"is": kind, **fields}).encode())

    def judged(number, **fields):
        nothing = {"actual": 1, "calls": [], "frames": [], "record_field": "", "range": None, "noted": []}
        send("Judged", number=number, **{**nothing, **fields})

    def number():
        messages = ctypes.string_at(start + 8, end() - 8).decode().splitlines()
        return max(json.loads(text)["number"] for text in messages if "Announced" in text)

    GARBAGE
'''


GOOD = '''
@law
def test_it(calls, expect):
    """Binding descriptor -1 fails."""
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
'''


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Run all tests that damage their channel in one run, each with a good test after it."""
    folder = tmp_path_factory.mktemp("garbage")
    write_tests(folder, *(text for what, _ in GARBAGE.values() for text in (HOSTILE.replace("GARBAGE", what), GOOD)))
    return run_check(folder, "--deadline", "20", "--", "--tb=short")


@pytest.mark.parametrize("name", GARBAGE)
def test_who_damages_the_channel_broke(name, ended):
    """A test that writes garbage to its channel broke, with the reason; the test after it has its verdict."""
    _, said = GARBAGE[name]
    number = 2 * list(GARBAGE).index(name)
    checks = [check for check in ended.checks if check["id"] == f"made.m{number}.law"]
    assert "broke" in [check["verdict"] for check in checks]
    assert any(said in check["detail"] for check in checks if check["verdict"] == "broke"), checks
    assert [check["verdict"] for check in ended.checks if check["id"] == f"made.m{number + 1}.law"] == ["conforms"]


def test_run_with_damaged_channels_ends_3(ended):
    """The run ends with its files whole, and what was judged before the damage counts."""
    assert (ended.status, ended.lines("results.jsonl")[-1]["type"]) == (3, "end")
    first = [check for check in ended.checks if check["id"] == "made.m8.law"]
    assert [check["verdict"] for check in first] == ["conforms", "broke"]
    assert "Traceback" not in ended.err


numbers = st.integers(0, 3)
texts = st.text(max_size=5)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts | st.just({"bytes": "00ff"}),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
some = st.lists(numbers, max_size=2)
fields = st.sampled_from(["", "ret", "regs_in.ebx", "regs_in.no", "clobbered", "no", "__class__", "pid.x"])
messages = st.one_of(
    st.builds(Announced, numbers, st.sampled_from(["", "a=1"]), values),
    st.builds(Judged, numbers, values, some, some, fields),
    st.builds(FrameSeen, st.builds(Frame, numbers, numbers, texts, st.binary(max_size=20))),
    st.builds(Broke, texts),
    st.builds(SetUpRefused, numbers, numbers, texts),
    st.builds(NotApplicable, texts),
    st.builds(SandboxFailed, texts),
    st.just(Finished()),
    st.just(Report({})),
    st.builds(Passed, st.lists(st.lists(st.floats(0, 9), max_size=3), max_size=4)),
)


@given(
    st.lists(messages, max_size=6),
    st.sampled_from(["", "damage"]),
    st.sampled_from([None, 0, 9, 60, 0x100]),
    st.booleans(),
)
@settings(max_examples=300, deadline=None, database=None)
def test_verdicts_take_any_messages(sent, damage, status, observed):
    """Any sequence of messages gives checks that can be printed and stored."""
    subject = Subject(Key("made.up.law", "", "direct", "int80", 64), observed)
    judgement = judge(subject, SandboxResult(sent, status=status, damage=damage), set())
    for check in judgement.checks:
        assert check.verdict in VERDICTS
        json.dumps(check.as_json(), allow_nan=False)
        assert failure.text(check, judgement.records, Statement("made.up.law", "s", "d", "abi"), failure.Rerun())
    assert not damage or any(check.verdict == "broke" for check in judgement.checks)


@given(messages)
@settings(max_examples=200, deadline=None, database=None)
def test_messages_arrive_as_they_were_sent(message):
    """A message that a test may send is read back as it was."""
    read = of_json(json.loads(json.dumps(to_json(message))))
    assert to_json(read) == to_json(message)


whole = Channel(SIZE)
for one in (
    Announced(1, "a=1", {"bytes": "00"}),
    Judged(1, -13, [2]),
    FrameSeen(Frame(1, 2, "lo", b"abc")),
    Finished(),
):
    whole.send(one)
GOOD_BYTES = bytes(whole._map[: whole._map.find(b"\0", 20)])


@given(st.lists(st.tuples(st.integers(0, len(GOOD_BYTES) - 1), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=1000, deadline=None, database=None)
def test_damaged_bytes_are_never_an_error(changes):
    """Whatever bytes change, the messages before them are read, and nothing is raised."""
    data = bytearray(GOOD_BYTES)
    for at, value in changes:
        data[at] = value
    channel = Channel(SIZE)
    channel._map[: len(data)] = bytes(data)
    received = channel.received()
    # A head that ends with an earlier message is that of fewer.
    (end,) = struct.unpack_from("<Q", data)
    assert received.damage or len(received.messages) == GOOD_BYTES.count(b"\n", 8, end)
    for message in received.messages:
        json.dumps(to_json(message)).encode()


def test_messages_of_the_test_before_do_not_come_back():
    """A head behind the messages shows none that an earlier sandbox sent."""
    channel = Channel(SIZE)
    channel.send(Broke("before"))
    end = bytes(channel._map[:8])
    channel.clear()
    channel._map[:8] = end
    received = channel.received()
    assert received.messages == []
    assert received.damage
