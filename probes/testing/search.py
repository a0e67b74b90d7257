"""Searches for a sequence of calls whose results a model does not predict, and simplifies it.

It uses hypothesis: this module is imported only where that is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from hypothesis import HealthCheck, Phase, Verbosity, configuration, given, seed, settings
from hypothesis import strategies as st

from probes.entry.gate import Result
from probes.testing.expect import Broke, Expect
from probes.testing.sequences import LARGEST, LENGTH

#: The most sequences that are tried to simplify one that disagrees.
SIMPLIFIED = 400


class Made(Protocol):
    """Is a call that was made."""

    @property
    def result(self) -> Result:
        """Returns the result."""

    @property
    def agrees(self) -> bool:
        """Returns True if the result is the predicted one."""


#: Makes the calls of a sequence of numbers.
Play = Callable[[Sequence[int]], Sequence[Made]]


class Disagreement(Exception):
    """A result is not the predicted one."""


class Enough(BaseException):
    """Ends the simplification. Not an Exception: hypothesis would take that for another disagreement."""


def agrees(made: Sequence[Made]) -> bool:
    """Returns True if all results were predicted; only the last one can be another."""
    return not made or made[-1].agrees


@dataclass
class Search:
    """Searches with `play`, which makes the calls of a sequence of numbers.

    `played` counts the sequences that agreed before one disagreed. `last` is the last one that made a call, `simplest`
    the simplest one that disagrees, None if none does.
    """

    play: Play
    played: int = 0
    last: Sequence[int] | None = None
    simplest: Sequence[int] | None = None
    _raised: Exception | None = None
    _length: int = 0
    _tried: int = 0

    def run(self, count: int, random_seed: int, home: Path | None = None) -> None:
        """Plays `count` sequences, or fewer if one disagrees. Raises what `play` raises, at the first time.

        `home` is the directory of hypothesis, by default one in the current directory: that of the sandbox.
        """
        drawn = given(st.tuples(*[st.integers(0, LARGEST - 1)] * LENGTH))
        limits = settings(
            max_examples=count, database=None, deadline=None, suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False, print_blob=False, verbosity=Verbosity.quiet,
            phases=(Phase.generate, Phase.shrink),
        )  # fmt: skip
        # By default hypothesis writes to the directory where the run was started.
        configuration.set_hypothesis_home_dir(home or Path.cwd() / ".hypothesis")
        with suppress(Disagreement, Enough):
            seed(random_seed)(limits(drawn(lambda numbers: self._one(numbers))))()
        if self._raised is not None:
            raise self._raised

    def _one(self, numbers: Sequence[int]) -> None:
        try:
            made = self.play(numbers)
        except Exception as error:
            # The process of the calls may have ended: hypothesis would play the sequence again, and find another result.
            self._raised = error
            raise Enough from error
        if self.simplest is not None:
            self._tried += 1
            if self._tried > SIMPLIFIED:
                raise Enough
        if not agrees(made):
            if self.simplest is None or len(made) <= self._length:
                self.simplest, self._length = numbers, len(made)
            raise Disagreement
        if self.simplest is None:
            self.played += 1
            self.last = numbers if made else self.last


def warm_up() -> None:
    """Lets hypothesis read the constants of all modules of the suite, which it does at the first search of a process.

    That takes longer than a thousand sequences: tests that are forked afterwards need not do it.
    """
    with TemporaryDirectory() as directory:
        # One draw in twenty is of a constant, and lets it read them.
        Search(lambda numbers: []).run(40, 0, Path(directory))


def judge_sequences(
    expect: Expect,
    count: int,
    random_seed: int,
    quiet: Play,
    traced: Play,
    transcript: Callable[[Sequence[Any]], list[str]],
) -> None:
    """Judges one check: `count` sequences agree.

    They are played untraced, then one once more, traced: the last, or the simplest that disagrees, which is written down.
    """
    check = expect({"sequences": count, "disagreement": []})
    search = Search(quiet)
    search.run(count, random_seed)
    numbers = search.simplest or search.last
    if numbers is None:
        raise Broke("no sequence made a call")
    made = traced(numbers)
    lines = [] if search.simplest is None and agrees(made) else transcript(made)
    if lines and agrees(made):
        lines.append("the traced calls agree; the untraced calls did not")
    print(*lines, sep="\n")
    check.of({"sequences": search.played, "disagreement": lines}, *(one.result for one in made))
