"""Behaviours: documented statements, each with an id, a text, a source, a tag, and the one test that judges it."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from probes import VERSION
from probes.abi.operations import ROUTES
from probes.installation import suite

_Test = TypeVar("_Test", bound=Callable[..., Any])
_ID = re.compile(r"[a-z][a-z0-9]*(\.[a-z0-9][a-z0-9-]*){2,}")
#: Tags: what every implementation owes, and what is Linux's own.
ABI, IMPLEMENTATION = TAGS = ("abi", "implementation")
#: The committed list of ids: `id since [retired]`, one a line, append-only.
IDS = "ids.txt"
#: The committed list of behaviours that need Python in the process that calls: `id | reason`, one a line.
PYTHON_ALONE = "python.txt"
_NO_REASON = "a reason that is not given"


@dataclass(frozen=True)
class Behaviour:
    """One documented statement.

    `id` is folder.subject.law and never changes; `source` names the documents that state it. `tag` is "abi" for what
    every implementation owes, "implementation" for Linux's own constants and heuristics. `routes` are those of the
    test's calls, ("both",) if it makes calls over both itself. `python` says why only the tests' own Python can make
    them, "" if an agent can.
    """

    id: str
    statement: str
    source: str
    test: str
    routes: tuple[str, ...] = ROUTES
    tag: str = ABI
    python: str = ""

    @property
    def folder(self) -> str:
        """Returns the directory of tests/ that judges it."""
        return self.id.split(".")[0]


#: In the stash of a module: what its tests judge, by the names of their functions.
_BEHAVIOURS: pytest.StashKey[dict[str, Behaviour | None]] = pytest.StashKey()


def behaviour(id: str, source: str, tag: str = ABI) -> Callable[[_Test], _Test]:
    """Marks the test of a behaviour. The first paragraph of the test's docstring is the statement.

    Raises ValueError for an id that is not folder.subject.law, an unknown tag, no source and no statement: what is
    judged must be documented somewhere.
    """
    if not _ID.fullmatch(id):
        raise ValueError(f"behaviour id {id!r} is not folder.subject.law")
    if not source.strip():
        raise ValueError(f"behaviour {id} names no source")

    if tag not in TAGS:
        raise ValueError(f"behaviour {id} has tag {tag!r}, not one of {', '.join(TAGS)}")

    def mark(test: _Test) -> _Test:
        statement = " ".join((inspect.getdoc(test) or "").partition("\n\n")[0].split())
        if not statement:
            raise ValueError(f"behaviour {id} has no statement: {test.__name__} needs a docstring")
        marked: _Test = pytest.mark.behaviour(id, source, statement, tag)(test)
        return marked

    return mark


def behaviour_of(item: pytest.Item) -> Behaviour | None:
    """Returns the behaviour that a test judges, None for a test of the suite itself.

    It is that of the test's function: the marks of a set of parameters do not change it, so all its items share one.
    """
    assert item.parent is not None
    found = item.parent.stash.setdefault(_BEHAVIOURS, {})
    name = getattr(item, "originalname", item.name)
    if name not in found:
        found[name] = _marked(item)
    return found[name]


def _marked(item: pytest.Item) -> Behaviour | None:
    mark = item.get_closest_marker("behaviour")
    if mark is None:
        return None
    id, source, statement, tag = mark.args
    routes, test = item.get_closest_marker("routes"), item.nodeid.partition("[")[0]
    return Behaviour(id, statement, source, test, routes.args if routes else ROUTES, tag, needs_python(item))


def needs_python(node: pytest.Item | pytest.Collector) -> str:
    """Returns why only the tests' own Python can make the calls of a behaviour, "" if an agent can.

    Its test is marked: `@pytest.mark.python`, with the reason in tests/python.txt, or `@pytest.mark.python("reason")` in
    tests of another directory. `catalogue` refuses one without a reason.
    """
    mark, this = node.get_closest_marker("python"), node.get_closest_marker("behaviour")
    if mark is None or this is None:
        return ""
    return str(mark.args[0]) if mark.args else python_alone(suite() / "tests").get(this.args[0], _NO_REASON)


@functools.cache
def python_alone(tests: Path) -> dict[str, str]:
    """Returns the reasons of python.txt by behaviour. Raises ValueError for a malformed or repeated line."""
    found: dict[str, str] = {}
    for number, line in enumerate((tests / PYTHON_ALONE).read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        id, bar, reason = (part.strip() for part in line.partition("|"))
        if not bar or not reason or not _ID.fullmatch(id) or id in found:
            raise ValueError(f"{PYTHON_ALONE} line {number}: {line!r} is not `id | reason` with an id of its own")
        found[id] = reason
    return found


def catalogue(items: Iterable[pytest.Item]) -> dict[str, Behaviour]:
    """Returns the behaviours of collected tests by id. Raises pytest.UsageError: a misplaced id, or one in two tests."""
    found: dict[str, Behaviour] = {}
    for item in items:
        this = behaviour_of(item)
        if this is None or found.get(this.id) is this:
            continue
        other = found.setdefault(this.id, this)
        if other.test != this.test:
            raise pytest.UsageError(f"behaviour {this.id} has two tests: {other.test}, {this.test}")
        if item.path.parent.name != this.folder:
            raise pytest.UsageError(f"behaviour {this.id} lies in {item.path.parent.name}/, not in {this.folder}/")
        if this.python == _NO_REASON:
            raise pytest.UsageError(
                f"behaviour {this.id} has @pytest.mark.python, and {PYTHON_ALONE} no reason: let the fixture `caller` do it,"
                " or add a line"
            )
    return found


@dataclass(frozen=True)
class Registered:
    """A line of ids.txt: an id, the version that introduced it, the version that retired it."""

    id: str
    since: str
    retired: str = ""


def registered(tests: Path) -> dict[str, Registered]:
    """Returns every id ever given, from ids.txt. Raises ValueError for a malformed or repeated line."""
    found: dict[str, Registered] = {}
    for number, line in enumerate((tests / IDS).read_text().splitlines(), 1):
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        if len(fields) not in (2, 3) or not _ID.fullmatch(fields[0]) or fields[0] in found:
            raise ValueError(f"{IDS} line {number}: {line!r} is not `id since [retired]` with a new id")
        found[fields[0]] = Registered(*fields)
    return found


def register(tests: Path, ids: Iterable[str]) -> None:
    """Appends ids that ids.txt lacks, as introduced by this version."""
    known = registered(tests)
    with (tests / IDS).open("a") as file:
        file.writelines(f"{id} {VERSION}\n" for id in sorted(set(ids) - set(known)))
