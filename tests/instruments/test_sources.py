"""Resolves the sources S1 to S5 of all behaviours in docs/sources.md.

A reference is a document and what narrows it: `S5`, `S4 3.2`, `S4 2.1 to 2.3`, `S2 4.2, 4.4`, `S4 3.2 steps 3 to 9`,
`S3 1 _syscall1`, "S1 `switch (call)`". It ends at a semicolon or a parenthesis. Prose may follow after a comma or a colon.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from probes.installation import checkout
from tests.instruments.support import run_command

_HEADING = re.compile(r"#+ (S[1-5])(?: (\d+(?:\.\d+)?))? ")
_STEP = re.compile(r"(\d+)\. ")
_TOKEN = re.compile(r"`[^`]*`|\d+(?:\.\d+)*|\w+(?:\(\))?|\S")
_DOCUMENT = re.compile(r"S\d+")


@dataclass
class Part:
    """The text of a document, or of one of its sections, and the numbers of its steps."""

    text: str = ""
    steps: list[int] = field(default_factory=list)

    def has(self, name: str) -> bool:
        """Return whether it names a function, a variable or a piece of code."""
        if name.startswith("`"):
            code = name.strip("`")
            # Today's arguments of a function that the document names without any.
            return any(form in self.text.replace("`", "") for form in (code, re.sub(r"\(.*\)$", "()", code)))
        spans = " ".join(re.findall(r"`([^`]*)`", self.text))
        return re.search(rf"\b{re.escape(name.removesuffix('()'))}\b", spans) is not None


@dataclass
class Reference:
    """A document, and the sections, steps and names that narrow it."""

    document: str
    sections: list[str] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


def parts_of(page: str) -> dict[str, Part]:
    """Split docs/sources.md into the documents ("S4") and their sections ("S4 3.2"), in order."""
    parts: dict[str, Part] = {}
    document = section = Part()
    for line in page.splitlines():
        if heading := _HEADING.match(line):
            section = parts[" ".join(filter(None, heading.groups()))] = Part()
            if heading[2] is None:
                document = section
        for part in (section,) if section is document else (document, section):
            part.text += line + "\n"
        if step := _STEP.match(line):
            section.steps.append(int(step[1]))
    return parts


def references(source: str, parts: dict[str, Part]) -> Iterator[Reference]:
    """Parse the references to S1 to S5 in a behaviour's source. Raises ValueError for a word that narrows nothing."""
    now: Reference | None = None
    in_steps = in_range = prose_may_follow = False
    for token in [*_TOKEN.findall(source), ";"]:
        if now is not None and (token in ";()" or _DOCUMENT.fullmatch(token)):
            yield now
            now = None
        if _DOCUMENT.fullmatch(token):
            now, in_steps, in_range, prose_may_follow = Reference(token), False, False, False
        elif now is None or token == "and":
            continue
        elif token in (",", ":"):
            prose_may_follow = True
        elif token in ("step", "steps", "to"):
            in_steps, in_range = in_steps or token != "to", token == "to"
        elif token[0].isdigit() and in_steps:
            first = now.steps[-1] + 1 if in_range else int(token)
            now.steps += range(first, int(token) + 1)
            in_range = False
        elif token[0].isdigit():
            now.sections += between(now, token, parts) if in_range else [token]
            in_range = False
        elif token[0] == "`" or "_" in token or token.endswith("()") or (not now.sections and not prose_may_follow):
            now.names.append(token)
            prose_may_follow = True
        elif prose_may_follow:
            yield now
            now = None
        else:
            raise ValueError(f"{token!r} after {now.document} {' '.join(now.sections)} is no step and no name")


def between(reference: Reference, last: str, parts: dict[str, Part]) -> list[str]:
    """Return the sections of a document after the reference's last one, up to and including `last`."""
    names = [part.partition(" ")[2] for part in parts if part.startswith(f"{reference.document} ")]
    first = reference.sections[-1]
    if first not in names or last not in names:
        return [last]
    return names[names.index(first) + 1 : names.index(last) + 1]


def unresolved(source: str, parts: dict[str, Part]) -> Iterator[str]:
    """Yield each reference of a source that docs/sources.md does not resolve, with the reason."""
    try:
        found = list(references(source, parts))
    except ValueError as error:
        yield str(error)
        return
    for reference in found:
        named = [f"{reference.document} {section}" for section in reference.sections] or [reference.document]
        yield from (f"no heading {name!r}" for name in named if name not in parts)
        there = [parts[name] for name in named if name in parts]
        yield from (f"{named[-1]} has no step {n}" for n in reference.steps if not any(n in p.steps for p in there))
        yield from (
            f"{' and '.join(named)} does not name {n}" for n in reference.names if not any(p.has(n) for p in there)
        )


@pytest.fixture(scope="module")
def page() -> str:
    """Return the text of docs/sources.md."""
    return (checkout() / "docs" / "sources.md").read_text()


def test_every_source_of_a_behaviour_resolves(page: str, tmp_path: Path) -> None:
    run = run_command(tmp_path, "behaviours", "--json")
    assert run.status == 0, run.err
    sources = {line["id"]: line["source"] for line in map(json.loads, run.out.splitlines())}
    parts = parts_of(page)
    assert sum(re.search(r"\bS[1-5]\b", source) is not None for source in sources.values()) > 100
    wrong = [f"{id}: {why}" for id, source in sources.items() for why in unresolved(source, parts)]
    assert wrong == [], "\n".join(wrong)


def test_sections_and_steps_are_in_order(page: str) -> None:
    """A number that occurs twice, or a gap, would make a reference ambiguous."""
    parts = parts_of(page)
    assert [name for name in parts if " " not in name] == ["S1", "S2", "S3", "S4", "S5"]
    assert len(parts) == len([line for line in page.splitlines() if _HEADING.match(line)])
    for name, part in parts.items():
        assert part.steps == list(range(part.steps[0], part.steps[0] + len(part.steps)) if part.steps else []), name


PAGE = """
## S1 A document
### S1 3.1 First
1. It calls `first_function()` and `second(value)`.
2. It returns `-EINVAL`.
### S1 3.2 Second
0. It changes the `nice` value.
### S1 3.3 Third
1. It ends.
"""


@pytest.mark.parametrize(
    "source",
    [
        "bind(2) EINVAL; no reference at all, step 9",
        "S1",
        "S1 3.1",
        "S1 3.1 step 2; bind(2)",
        "S1 3.1 steps 1 and 2, S1 3.2 step 0",
        "S1 3.1 to 3.3",
        "S1 3.1, 3.2 first_function",
        "S1 3.1 first_function(): `-EINVAL` before anything else",
        "S1 3.1 `second(value)`",
        "S1 3.1 `first_function(1, 2)`",
        "S1 3.2 `nice value`",
        "(20 in S1); S1 first_function, of an old kernel",
    ],
)
def test_a_reference_resolves(source: str) -> None:
    assert list(unresolved(source, parts_of(PAGE))) == []


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("bind(2); S6 1", "no heading 'S6 1'"),
        ("S2", "no heading 'S2'"),
        ("S1 3.4", "no heading 'S1 3.4'"),
        ("S1 3.1 to 3.4", "no heading 'S1 3.4'"),
        ("S1 3.1 step 3", "S1 3.1 has no step 3"),
        ("S1 3.1 steps 1 to 3", "S1 3.1 has no step 3"),
        ("S1 unheard_of", "S1 does not name unheard_of"),
        ("S1 word", "S1 does not name word"),
        ("S1 3.2 first_function", "S1 3.2 does not name first_function"),
        ("S1 3.1 `third(value)`", "S1 3.1 does not name `third(value)`"),
        ("S1 3.1 stp 2", "'stp' after S1 3.1 is no step and no name"),
    ],
)
def test_a_reference_that_does_not_resolve_is_reported(source: str, why: str) -> None:
    assert list(unresolved(source, parts_of(PAGE))) == [why]
