"""Describes another machine that has the suite: how to run a script there, and how a failure of it shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from probes.targets.target import Target


@dataclass(frozen=True)
class Machine:
    """Describes the machine of a target.

    `command` makes the command line that runs a shell script there; `checkout` and `python` are paths there; `parts` is
    the number of runs that share the work. `failure` returns the reason for which the machine has stopped, None while it
    seems to work; `console` returns the last lines of its console.
    """

    target: Target
    command: Callable[[str], list[str]]
    checkout: str
    python: str
    parts: int = 1
    failure: Callable[[], str | None] = lambda: None
    console: Callable[[], list[str]] = list
