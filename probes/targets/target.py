"""Defines what every target has: where a run happens, and how to check there."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from probes.installation import AGAIN, IMPLEMENTATION, TARGET
from probes.targets.store import Progress, Recipe


@dataclass(frozen=True)
class CheckArguments:
    """Holds the arguments of a `socketcall check`: the words, and what they were parsed to."""

    words: Sequence[str]
    parsed: argparse.Namespace


@dataclass(frozen=True)
class Target(ABC):
    """Names a place where a run happens.

    `recipe` makes the artefact that the run needs, None if it needs none. `implementation` is what answers the calls.
    """

    name: str
    what: str
    recipe: Recipe | None = None
    implementation: str = "linux"

    @property
    def again(self) -> tuple[str, ...]:
        """Returns the beginning of a command line that checks on this target."""
        return ("socketcall", "target", "run", self.name, "--")

    def environment(self) -> dict[str, str]:
        """Returns the variables in which a launcher gives the plugin what it cannot know by itself."""
        return {TARGET: self.name, AGAIN: shlex.join(self.again), IMPLEMENTATION: self.implementation}

    @abstractmethod
    def run(self, args: CheckArguments, progress: Progress) -> int:
        """Checks on this target, and returns the exit status. Raises CommandError: the run could not start."""


class LocalTarget(Target):
    """Checks in this environment: this Python on this kernel."""

    @property
    def again(self) -> tuple[str, ...]:
        """Returns the command that checks here."""
        return ("socketcall", "check")

    def run(self, args: CheckArguments, progress: Progress) -> int:
        """Checks in a process of its own, and returns its exit status."""
        return subprocess.run([sys.executable, "-m", "probes.cli", "check", *args.words], check=False).returncode
