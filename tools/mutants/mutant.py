"""A mutant: a kernel that is wrong in one way, and the behaviours that have to find it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from errno import EBADF, EINVAL, errorcode

from probes.trace.actions import Action, Return, ReturnMore
from probes.trace.injection import Match


@dataclass(frozen=True)
class Mutant:
    """Describes a wrong kernel. `name` is its id; `of` what it was derived from: a behaviour, a fact or a field.

    `behaviours` are globs of those that have to find it; without, any that judges a call of `operation` may. `folder` and
    `operator` are where it is counted.
    """

    population: str
    name: str
    of: str
    operator: str
    operation: str
    match: Match
    entry: Action | None = None
    exit: Action | None = None
    behaviours: tuple[str, ...] = ()
    folder: str = ""


@dataclass
class Outcome:
    """Says what became of a mutant.

    `killed` is the first behaviour that deviated of those that have to find it, "" if none did. `changed` counts the calls
    that were wrong; `tests` those that ran; `broke` those of them that broke.
    """

    mutant: Mutant
    killed: str = ""
    changed: int = 0
    tests: int = 0
    broke: int = 0
    #: A record of a changed call, where nothing deviated.
    record: dict[str, object] = field(default_factory=dict)


def wrong_results(result: int | str) -> list[tuple[str, Callable[[], Action]]]:
    """Return the operators that fit a result: an error's negative number, or "success"."""
    if isinstance(result, int):
        other = -EINVAL if result != -EINVAL else -EBADF
        return [("error for an error", lambda: Return(other)), ("success for an error", lambda: Return(0))]
    return [("error for success", lambda: Return(-EINVAL)), ("off by one", lambda: ReturnMore(1))]


def shown(result: int | str) -> str:
    """Return a result as the name of a mutant has it."""
    return result if isinstance(result, str) else errorcode.get(-result, str(result))
