"""Defines what every target has: where a run happens, and how to check there."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from probes.installation import AGAIN, IMPLEMENTATION, TARGET
from probes.interrupts import ENDING
from probes.targets.store import Progress, Recipe

#: Seconds after which a signal that was received is passed on.
_TICK = 0.1


@dataclass(frozen=True)
class CheckArguments:
    """Holds the arguments of a `socketcall check`: the words, and what they were parsed to.

    `command` is "sweep" where they are those of a `socketcall sweep`.
    """

    words: Sequence[str]
    parsed: argparse.Namespace
    command: str = "check"


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
        return run_check([sys.executable, "-m", "probes.cli", args.command, *args.words], lambda pid: pid)


def run_check(
    command: Sequence[str], judging: Callable[[int], int | None], environment: Mapping[str, str] | None = None
) -> int:
    """Runs a command line that runs `socketcall check`, and returns its exit status.

    The signals that end a command are passed on to the process that judges, which writes its report. `judging` returns
    that process for the process that was started, None while there is none. A terminal signals both: `check` takes that
    for one request. `environment` are the variables of the command, by default those of this process.
    """
    received: list[int] = []
    handled = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda number, _: received.append(number)) for number in handled}
    try:
        process = subprocess.Popen(command, env=environment)
        while True:
            target = judging(process.pid) if received else None
            if target is not None:
                with suppress(ProcessLookupError):
                    os.kill(target, received.pop(0))
            with suppress(subprocess.TimeoutExpired):
                status = process.wait(_TICK)
                return status if status >= 0 else 128 - status
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
