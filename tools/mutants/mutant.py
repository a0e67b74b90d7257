"""A mutant: a kernel that is wrong in one way, and the behaviours that have to find it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from errno import EBADF, EINVAL, errorcode
from fnmatch import fnmatch
from typing import Any

from probes.sandbox.link_fault import LinkFault
from probes.trace.actions import Action, Return, ReturnMore
from probes.trace.injection import Match
from probes.trace.stop import Stop

#: Operations whose rate has to hold, and the behaviours that judge each; the rate of the others is printed.
HELD = {
    "socket": ("socket.*",),
    "socketpair": ("socket.pair.*",),
    "bind": ("bind.*",),
    "close": ("teardown.*",),
    "multiplexer": ("multiplexer.*", "entry.*"),
}
#: Behaviours that judge each operation's words and results, besides its own.
_OF_EVERY_OPERATION = ("multiplexer.dispatch.*", "multiplexer.words.*", "multiplexer.array.*", "entry.*")
OTHERS = "other operations"
#: Ends the folder of mutants that concern one kind and state of a socket; those of a held operation are held too.
BY_STATE = ", by state"


@dataclass(frozen=True)
class Mutant:
    """Describes a wrong kernel. `name` is its id; `of` what it was derived from: a behaviour, a fact or a field.

    `operation` is the one whose calls are wrong, None for any. `behaviours` are globs of those that have to find it;
    without, any that judges a call of `operation` may. `folder` and `operator` are where it is counted. `succeeding`: only
    calls that succeed on the genuine kernel are wrong. `kind` is the socket that is concerned ("" for any, see kinds.py).
    `fault` is what is wrong with frames, in place of calls.
    """

    population: str
    name: str
    of: str
    operator: str
    operation: str | None
    match: Match
    entry: Action | None = None
    exit: Action | None = None
    behaviours: tuple[str, ...] = ()
    folder: str = ""
    succeeding: bool = False
    kind: str = ""
    fault: Callable[[], LinkFault] | None = None

    def is_right(self, behaviour: str) -> bool:
        """Return True if a behaviour that found this mutant is one that judges what is wrong."""
        globs = self.behaviours or (*HELD.get(operation_of(self.folder), ("*",)), *_OF_EVERY_OPERATION)
        return any(fnmatch(behaviour, glob) for glob in globs)

    def concerned(self, before: str, after: str) -> str:
        """Return the kind of the socket that decides: that at the entry if the entry is wrong, else that at the exit."""
        return after if self.entry is None else before

    def of_kind(self, kind: str, kind_of: Callable[[Stop], str]) -> Mutant:
        """Return this mutant for calls that concern sockets of one kind and state only."""
        match = replace(self.match, where=lambda stop: kind_of(stop) == kind)
        return replace(self, name=f"{self.name} [{kind}]", match=match, kind=kind, folder=f"{self.folder}{BY_STATE}")


@dataclass
class Outcome:
    """Says what became of a mutant.

    `killed` is the first behaviour that deviated of those that have to find it, "" if none did; `other` the first of the
    others that did, where the mutant was tried on them. `changed` counts the calls or frames that were wrong; `tests` those
    that ran; `broke` those of them that broke.
    """

    mutant: Mutant
    killed: str = ""
    other: str = ""
    changed: int = 0
    tests: int = 0
    broke: int = 0
    #: Where nothing deviated: the behaviours whose calls were changed, and the record of one of these.
    unmoved: list[str] = field(default_factory=list)
    record: dict[str, object] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the fields by name; `right`: the behaviour that found it judges what is wrong."""
        fields = ("population", "name", "of", "operator", "operation", "behaviours", "folder")
        line = {name: value for name, value in vars(self).items() if name != "mutant"}
        right = bool(self.killed) and self.mutant.is_right(self.killed)
        return {**{name: getattr(self.mutant, name) for name in fields}, **line, "right": right}


def wrong_results(result: int | str) -> list[tuple[str, Callable[[], Action]]]:
    """Return the operators that fit a result: an error's negative number, or "success"."""
    if isinstance(result, int):
        other = -EINVAL if result != -EINVAL else -EBADF
        return [("error for an error", lambda: Return(other)), ("success for an error", lambda: Return(0))]
    return [("error for success", lambda: Return(-EINVAL)), ("off by one", lambda: ReturnMore(1))]


def folder_of(operation: str) -> str:
    """Return where the mutants of an operation are counted."""
    return operation if operation in HELD else OTHERS


def operation_of(folder: str) -> str:
    """Return the operation, or OTHERS, whose mutants are counted in a folder."""
    return folder.removesuffix(BY_STATE)


def shown(result: int | str) -> str:
    """Return a result as the name of a mutant has it."""
    return result if isinstance(result, str) else errorcode.get(-result, str(result))
