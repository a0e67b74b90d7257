"""Which value a reference is judged by, where genuine kernels differ."""

import pytest

from probes.suite.expect import plain
from probes.suite.reference import Changed, Difference, local, parse, resolved

VALUE = Difference(i386=1, ia32_compat=Changed("6.2", before=2, after=3, cite="inner"), cite="outer")


@pytest.mark.parametrize(("text", "expected"), [("i386-6.1", 1), ("ia32-compat-6.1", 2), ("ia32-compat-6.2", 3)])
def test_each_reference_has_its_value(text, expected):
    """A difference inside a difference is resolved, and the note tells every branch in plain words."""
    value, note = resolved(VALUE, parse(text))
    assert value == expected
    assert plain(note) == {
        "cite": "outer", "i386": 1, "ia32-compat": {"cite": "inner", "before 6.2": 2, "since 6.2": 3},
    }  # fmt: skip


def test_plain_values_have_no_note():
    """What kernels agree on is itself."""
    assert resolved(-22, local()) == (-22, None)


@pytest.mark.parametrize("text", ["i386", "vax-6.1", "i386-6"])
def test_no_reference(text):
    """Text that names no kernel is refused."""
    with pytest.raises(ValueError, match="ABI-VERSION"):
        parse(text)
