"""Which value a reference is judged by, where genuine kernels differ."""

import pytest

from probes.testing.expect import to_json
from probes.testing.reference import AbiDifference, Reference, VersionDifference, local, parse, resolved, version_of

VALUE = AbiDifference(i386=1, ia32_compat=VersionDifference("6.2", before=2, after=3, cite="inner"), cite="outer")


@pytest.mark.parametrize(("text", "expected"), [("i386-6.1", 1), ("ia32-compat-6.1", 2), ("ia32-compat-6.2", 3)])
def test_each_reference_has_its_value(text, expected):
    """A difference inside a difference is resolved, and the note names every branch."""
    value, note = resolved(VALUE, parse(text))
    assert value == expected
    assert to_json(note) == {
        "cite": "outer", "i386": 1, "ia32-compat": {"cite": "inner", "before 6.2": 2, "since 6.2": 3},
    }  # fmt: skip


def test_plain_values_have_no_note():
    """What kernels agree on is itself."""
    assert resolved(-22, local()) == (-22, None)


@pytest.mark.parametrize(
    ("version", "has"),
    [
        ("5.10.223", False),
        ("6.1", False),
        ("6.1.31", False),
        ("6.1.32", True),
        ("6.2.16", False),
        ("6.3", True),
        ("7.0", True),
    ],
)
def test_what_a_stable_kernel_took_over(version, has):
    """A fact that came with 6.3 is in 6.1 from 6.1.32 on, and not in 6.2."""
    assert parse(f"i386-{version}").has("6.3, 6.1.32") == has


@pytest.mark.parametrize(
    ("release", "version", "numbers"),
    [
        ("6.1.0-50-686-pae", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.176-1 (2026-07-02)", (6, 1, 176)),
        ("6.18.44-x", "#1 SMP", (6, 18, 44)),
        ("6.8-generic", "#1", (6, 8)),
    ],
)
def test_which_stable_kernel_it_is(release, version, numbers):
    """Debian's release does not say it; the version beside it does."""
    assert version_of(release, version) == numbers
    assert str(Reference("i386", (6, 1, 176))) == "i386 6.1.176"


@pytest.mark.parametrize("text", ["i386", "vax-6.1", "i386-6"])
def test_no_reference(text):
    """Text that names no kernel is refused."""
    with pytest.raises(ValueError, match="ABI-VERSION"):
        parse(text)
