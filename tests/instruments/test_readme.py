"""Runs the examples of README, CONTRIBUTING and implementers.md; compares README's options with those of --help."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from probes.installation import checkout
from tests.instruments.support import installed, run_check, run_command

README = (checkout() / "README.md").read_text()
_HEAD = re.compile(r"^(\S+) \[(.*)\] deviates over (\w+), gate (\w+), (?:32|64)-bit$", re.MULTILINE)
_AGAIN = re.compile(r"^  again     (socketcall .*)$", re.MULTILINE)


@dataclass(frozen=True)
class Example:
    """A failure shown by README: key, statement and source, and the words of its `again` line."""

    id: str
    case: str
    route: str
    gate: str
    states: str
    source: str
    again: tuple[str, ...]


def _field(block: str, name: str) -> str:
    found = re.search(rf"^  {name} +(.*)$", block, re.MULTILINE)
    assert found, f"README's example has no line {name!r}"
    return found[1]


def examples() -> list[Example]:
    """Returns the failures that README shows."""
    blocks = [block for block in README.split("```")[1::2] if _HEAD.search(block)]
    found = []
    for block in blocks:
        (head,), (again,) = _HEAD.findall(block), _AGAIN.findall(block)
        found.append(Example(*head, _field(block, "states"), _field(block, "source"), tuple(shlex.split(again))))
    return found


def test_every_again_line_belongs_to_an_example() -> None:
    assert len(examples()) == len(_AGAIN.findall(README)) == README.count("  again  ") >= 1


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.id)
def test_the_again_line_judges_the_key_of_the_example(example: Example, tmp_path: Path) -> None:
    """The command that README prints judges one check: the one whose failure README shows. It conforms on Linux."""
    run = run_command(tmp_path, *example.again[1:])
    keys = [(check["id"], check["case"], check["route"], check["gate"]) for check in run.checks]
    assert keys == [(example.id, example.case, example.route, example.gate)], run.out + run.err
    assert run.verdicts == ["conforms"]


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.id)
def test_the_example_states_what_the_catalogue_states(example: Example, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in run_command(tmp_path, "behaviours", "--json").out.splitlines()]
    (stated,) = [(line["statement"], line["source"]) for line in lines if line["id"] == example.id]
    assert (example.states, example.source) == stated


def test_readme_has_the_options_of_check(tmp_path: Path) -> None:
    """The first column of the table names every option that --help names, and no other."""
    said = re.findall(r"^  (?:-\w, )?(--[\w-]+)", run_command(tmp_path, "check", "--help").out, re.MULTILINE)
    table = README.partition("Options of `check`:")[2].partition("\n\n`pytest`")[0]
    rows = [row.split(" | ")[0] for row in table.splitlines() if row.startswith("| `-")]
    assert {name for row in rows for name in re.findall(r"--[\w-]+", row)} == set(said) - {"--help"}


def test_the_example_of_contributing_conforms(tmp_path: Path) -> None:
    """The whole file that CONTRIBUTING shows is a test that conforms, in a directory of its own."""
    recipe = (checkout() / "CONTRIBUTING.md").read_text().partition("A whole file, `tests/")[2]
    name, _, text = recipe.partition("`")
    path = tmp_path / "tests" / name
    path.parent.mkdir(parents=True)
    path.write_text(text.partition("```python\n")[2].partition("```")[0])
    run = run_check(tmp_path)
    assert run.status == 0, run.out + run.err
    assert set(run.verdicts) == {"conforms"}
    assert {check["route"] for check in run.checks} == {"socketcall", "direct"}


def sandboxes() -> list[tuple[str, ...]]:
    """Returns the words of the commands in docs/implementers.md that judge a sandbox of programs."""
    text = (checkout() / "docs" / "implementers.md").read_text()
    blocks = text.partition("## A sandbox that runs ELF programs")[2].partition("\n## ")[0].split("```sh\n")[1:]
    return [tuple(shlex.split(line)) for block in blocks for line in block.partition("```")[0].splitlines()]


@pytest.mark.parametrize("words", sandboxes(), ids=lambda words: words[3].split()[0])
def test_a_sandbox_is_judged_by_the_command_for_it(words: tuple[str, ...], tmp_path: Path) -> None:
    """Each command runs as it stands there, over a part of the behaviours that it names: the sandbox conforms."""
    for package, command in (("proot", "proot"), ("bubblewrap", "bwrap")):
        if words[3].split()[0] == command:
            installed(package)
    assert (words[:2], words[-1]) == (("socketcall", "check"), "socket.pair.*")
    run = run_command(tmp_path, *words[1:-1], "socket.pair.unknown-flags", "--route", "direct")
    assert run.status == 0, run.out + run.err
    assert set(run.verdicts) == {"conforms"}
