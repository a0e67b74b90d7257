"""Compares docs/coverage.md with the facts of docs/facts/, and those with the manual pages that they were taken from."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.instruments.support import installed, missing
from tools import coverage, manpages
from tools.coverage import Fact, Judged


@pytest.fixture(scope="module")
def facts() -> list[Fact]:
    """Read docs/facts/."""
    return coverage.load()


@pytest.fixture(scope="module")
def behaviours() -> dict[str, Judged]:
    """Return the catalogue."""
    return coverage.judged()


def pages() -> list[str]:
    """Return the manual pages that docs/facts/ has a file of."""
    return [document for document in dict.fromkeys(fact.document for fact in coverage.load()) if document[-1] == ")"]


def test_the_map_is_up_to_date(facts: list[Fact], behaviours: dict[str, Judged]) -> None:
    assert coverage.MAP.read_text() == coverage.render(facts, behaviours), "run `python -m tools.coverage`"


def test_every_fact_that_must_be_is_mapped_to_behaviours_that_exist(
    facts: list[Fact], behaviours: dict[str, Judged]
) -> None:
    found = list(coverage.problems(facts, behaviours))
    assert found == [], "\n".join(found)


@pytest.fixture
def page(name: str) -> manpages.Page:
    """Read the installed page. Without its package the test is skipped, or fails if SOCKETCALL_REQUIRE is set."""
    installed("manpages" if name.endswith("(7)") else "manpages-dev")
    return manpages.installed(name)


@pytest.mark.parametrize("name", pages())
def test_the_facts_have_everything_that_the_page_lists(name: str, page: manpages.Page, facts: list[Fact]) -> None:
    lacking = list(coverage.missing(page, [fact for fact in facts if fact.document == name]))
    assert lacking == [], coverage.mismatch(name, page.release, lacking)


@pytest.mark.parametrize("name", pages())
def test_the_facts_are_the_pages_own(name: str, page: manpages.Page, facts: list[Fact]) -> None:
    if page.release != coverage.MAN_PAGES:
        missing(f"man-pages {page.release} here may lack what {coverage.MAN_PAGES} lists: compare the pages by hand")
    assert list(coverage.invented(page, [fact for fact in facts if fact.document == name])) == []


def test_a_page_that_is_not_installed_is_an_error() -> None:
    with pytest.raises(FileNotFoundError, match=r"no_such_call\(2\) .* install manpages and manpages-dev"):
        manpages.installed("no_such_call(2)")


# The reader of pages.

PAGE = textwrap.dedent(r"""
    .\" .B ECOMMENT
    .TH socket 2 2023-02-05 "Linux man-pages 6.03"
    .SH SYNOPSIS
    .B AF_SYNOPSIS
    .SH DESCRIPTION
    A
    .B SO_PROSE
    and plain SO_PLAIN.
    .TS
    T{
    .B AF_ONE
    T}:T{
    Once more
    .BR AF_ONE ;
    .B AF_TWO
    T}
    .TE
    .TP 16
    .BR SO_FIRST " (since Linux 2.2), " SO_SECOND " (with " SO_REMARK )
    .TQ
    .nh
    .B SO_THIRD, SO_FOURTH
    .SH ERRORS
    .TP
    .B EINVAL
    .\" .B ENOTE
    Why.
    .TP
    .\" A comment before the tag.
    .BR EINVAL " or " ENOMEM
    Because arm/EABI.
    .SH EXAMPLES
    .SS Program source
    .B EXAMPLE_ONLY
    """).lstrip()


def test_a_page_is_read() -> None:
    page = manpages.read(PAGE)
    assert page.release == "6.03"
    assert list(page.sections) == ["DESCRIPTION", "ERRORS"]
    assert page.sections["DESCRIPTION"].listed == [
        "AF_ONE", "AF_TWO", "SO_FIRST", "SO_SECOND", "SO_THIRD", "SO_FOURTH",
    ]  # fmt: skip
    assert page.sections["DESCRIPTION"].bold[0] == "SO_PROSE"
    assert "SO_PLAIN" not in page.sections["DESCRIPTION"].bold
    assert page.sections["ERRORS"].listed == ["EINVAL", "EINVAL", "ENOMEM"]


def of_the_page(*lines: tuple[str, str]) -> list[Fact]:
    """Make facts of socket(2) from pairs of section and text."""
    return [Fact("socket(2)", section, text) for section, text in lines]


ALL = of_the_page(
    ("DESCRIPTION", "AF_ONE, AF_TWO: families, SO_PROSE as well"),
    ("DESCRIPTION", "SO_FIRST, SO_SECOND, SO_THIRD, SO_FOURTH: options, not SO_REMARK"),
    ("ERRORS", "EINVAL: one"),
    ("ERRORS", "EINVAL, ENOMEM: another"),
)


def test_facts_with_everything_lack_nothing() -> None:
    assert list(coverage.missing(manpages.read(PAGE), ALL)) == []
    assert list(coverage.invented(manpages.read(PAGE), ALL)) == []


@pytest.mark.parametrize(
    ("left_out", "reported"),
    [
        (0, ["AF_ONE is listed 1 times, 0", "AF_TWO is listed", "SO_PROSE is in no fact"]),
        (2, ["EINVAL is listed 2 times, 1 facts begin with it"]),
        (3, ["EINVAL is listed 2 times, 1", "ENOMEM is listed 1 times, 0 facts"]),
    ],
)
def test_a_name_that_the_page_lists_and_the_facts_lack_is_reported(left_out: int, reported: list[str]) -> None:
    lacking = "\n".join(coverage.missing(manpages.read(PAGE), ALL[:left_out] + ALL[left_out + 1 :]))
    assert [text for text in reported if text not in lacking] == []


@pytest.mark.parametrize(
    ("release", "hint"),
    [
        (coverage.MAN_PAGES, ""),
        ("6.99", f"\nThe page is of man-pages 6.99: add the facts, or install {coverage.MAN_PAGES}."),
    ],
)
def test_the_message_names_the_file_and_a_release_only_if_it_differs(release: str, hint: str) -> None:
    text = coverage.mismatch("socket(2)", release, ["ERRORS: EPERM is in no fact", "NOTES: SO_X is in no fact"])
    listed = "\n  ERRORS: EPERM is in no fact\n  NOTES: SO_X is in no fact"
    assert text == f"docs/facts/socket.2.toml lacks:{listed}{hint}"


def test_a_name_later_in_a_fact_does_not_make_the_fact_about_it() -> None:
    facts = [*ALL[:2], *of_the_page(("ERRORS", "EINVAL: one"), ("ERRORS", "EINVAL: another, not ENOMEM"))]
    assert list(coverage.missing(manpages.read(PAGE), facts)) == [
        "ERRORS: ENOMEM is listed 1 times, 0 facts begin with it"
    ]


def test_a_fact_that_the_page_lacks_is_reported() -> None:
    more = of_the_page(("ERRORS", "EPERM: no"), ("NOTES", "a note"), ("DESCRIPTION, of other calls", "a fact"))
    assert list(coverage.invented(manpages.read(PAGE), more)) == [
        "socket(2) ERRORS: EPERM: no: EPERM is not listed",
        "socket(2) NOTES: a note: the page has no such section",
    ]


# The table, the rules, the map.


def table(tmp_path: Path, value: str) -> list[Fact]:
    """Load a table whose one fact has this value."""
    (tmp_path / "socket.2.toml").write_text(f'[ERRORS]\n"EINVAL: why" = {value}\n')
    return coverage.load(tmp_path)


@pytest.mark.parametrize(
    ("value", "state"),
    [
        ('["socket.type.bit", "socket.type.*"]', "mapped"),
        ('"not provoked: a reason"', "not provoked"),
        ("[]", "unmapped"),
    ],
)
def test_a_fact_is_in_one_state(tmp_path: Path, value: str, state: str) -> None:
    assert [(fact.document, fact.about, fact.state) for fact in table(tmp_path, value)] == [
        ("socket(2)", ("EINVAL",), state)
    ]


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ('["socket.type.bit", "not provoked: a reason"]', "not both"),
        ('"socket.type.bit"', "neither"),
        ('""', "neither"),
        ("true", "neither"),
        ('[""]', "not a list of behaviour ids"),
        ('"not provoked: "', "no reason"),
    ],
)
def test_a_fact_with_both_or_neither_is_refused(tmp_path: Path, value: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=rf"socket\(2\) ERRORS: EINVAL: why: .*{wrong}"):
        table(tmp_path, value)


BEHAVIOURS = {id: Judged(id, f"tests/socket/{id.split('.')[1]}.py") for id in ("socket.type.bit", "socket.type.pair")}


def problems_of(*facts: Fact) -> list[str]:
    """Return the problems of some facts, without those of COMPLETE's sections that they do not have."""
    return [text for text in coverage.problems(list(facts), BEHAVIOURS) if not text.startswith("COMPLETE")]


def test_names_of_behaviours_must_exist() -> None:
    good = Fact("tcp(7)", "NOTES", "a", ("socket.type.bit", "socket.type.*"))
    bad = Fact("tcp(7)", "NOTES", "b", ("socket.type.none", "socket.none.*", "socket.*"))
    assert problems_of(good) == []
    assert problems_of(bad) == [
        "tcp(7) NOTES: b: no behaviour is named socket.type.none",
        "tcp(7) NOTES: b: no behaviour is named socket.none.*",
        "tcp(7) NOTES: b: socket.* is too wide, give folder.subject.law or folder.subject.*",
    ]


def test_a_fact_of_a_complete_section_must_be_mapped() -> None:
    assert problems_of(Fact("made-up(7)", "NOTES", "a")) == []
    assert problems_of(Fact("close(2)", "NOTES", "a")) == ["close(2) NOTES: a: unmapped"]
    assert problems_of(Fact("socket(2)", "ERRORS", "a")) == ["socket(2) ERRORS: a: unmapped"]
    assert problems_of(Fact("socket(2)", "DESCRIPTION, of other calls", "a")) == []


def test_a_section_that_must_be_complete_must_be_there() -> None:
    assert "COMPLETE names 'close(2)', which has no facts" in list(coverage.problems([], BEHAVIOURS))


def test_the_map_shows_facts_reasons_and_behaviours_without_a_fact() -> None:
    facts = [
        Fact("close(2)", "ERRORS", "EBADF: a_b", ("socket.type.b*",)),
        Fact("close(2)", "ERRORS", "EIO: c", reason="of files"),
        Fact("made-up(7)", "NOTES", "d"),
    ]
    text = coverage.render(facts, BEHAVIOURS)
    assert "- **0 unmapped facts** in the sections" in text
    assert "- 3 facts in all: 1 mapped, 1 not provoked, 1 unmapped\n- 2 behaviours, 1 that" in text
    assert "| [close(2)](#close2) | 2 | 1 | 0 | 1 | 0 |" in text
    assert "### ERRORS ✔\n\n- EBADF: a\\_b — [socket.type.bit](../tests/socket/type.py)\n" in text
    assert "- EIO: c — not provoked: of files\n" in text
    assert "### NOTES\n\n- d — **unmapped**" in text
    assert text.endswith("not mapped yet.\n\n- [socket.type.pair](../tests/socket/type.py)\n")
    alone = {**BEHAVIOURS, "socket.type.bit": Judged("socket.type.bit", "tests/socket/type.py", "a C|library")}
    text = coverage.render(facts, alone)
    assert "- 1 behaviours that [Python alone]" in text
    assert "| [close(2)](#close2) | 2 | 1 | 1 | 1 | 0 |" in text
    assert "| [socket.type.bit](../tests/socket/type.py)ᴾ | a C\\|library |" in text
