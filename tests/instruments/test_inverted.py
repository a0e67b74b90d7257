"""Checks with inverted expectations deviate, and a check that rests on no answer is found (tools/inverted.py)."""

import pytest

from tests.instruments.support import write_tests
from tools import inverted

#: What judges by each form: a result, an Output, a list, a table, a swept range, a field of a record, a frame.
BEHAVIOURS = (
    "bind.conflict.apart", "bind.port.privileged", "entry.registers.*", "multiplexer.dispatch.bind", "socket.fresh.i*",
    "socket.type.two-bits", "wire.connect.handshake", "wire.silence.*",
)  # fmt: skip
TESTS = '''
@law
def test_it(calls, expect):
    """One check rests on the answer, one does not."""
    expect(-errno.EBADF, of="answer").of(calls.bind(-1, ADDRESS))
    check = expect([-errno.EBADF], of="itself")
    check.of(check.value, calls.bind(-1, ADDRESS))
'''


@pytest.mark.parametrize(
    "value", [None, True, 0, -22, "", "S", b"", b"\0\1", [], [1, 2], [[], "x"], {}, {"row": "ok ok"}], ids=repr
)
def test_an_inverse_is_another_value(value):
    """Whatever member of it is drawn."""
    assert all(inverted.inverted(value, drawn) != value for drawn in range(4))


def test_a_check_that_rests_on_no_answer_is_found(tmp_path, capsys):
    """It conforms though its expected value was inverted."""
    write_tests(tmp_path, TESTS)
    assert inverted.main(["1", "1", "--tests", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "of=answer" in line] == []
    assert [line for line in lines if "of=itself" in line]


def test_each_inverted_expectation_deviates(capsys):
    """Every check of a sample by seed deviates when its expected value is inverted, and no other check does."""
    assert inverted.main(["5", "19", *BEHAVIOURS]) == 0, capsys.readouterr().out
    assert int(capsys.readouterr().out.split()[0]) >= 60
