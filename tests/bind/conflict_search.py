"""Searches for a sequence of calls whose results the model does not predict, and simplifies it.

It uses hypothesis: this module is imported only where that is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from hypothesis import HealthCheck, Phase, Verbosity, configuration, given, seed, settings
from hypothesis import strategies as st

from probes.entry.calls import Calls
from tests.bind.conflict_kernel import Kernel, Made
from tests.bind.conflict_model import Model, Step
from tests.bind.conflict_sequences import BINDING, CONNECTING, LARGEST, LENGTH, PORTS, Composer
from tests.bind.conflict_sockets import LOOPBACK_LINK

#: The most sequences that are tried to simplify one that disagrees.
SIMPLIFIED = 400
#: How far the ports of each sequence are shifted: they stay below ip_local_port_range.
_shifts = cycle(range(0, 27000, len(PORTS)))


class Disagreement(Exception):
    """A result is not the predicted one."""


class Enough(BaseException):
    """Ends the simplification. Not an Exception: hypothesis would take that for another disagreement."""


@dataclass
class Sequences:
    """The sequences of one subject: of calls without connections if `link` names a second link, else with connections.

    Each is played on ports of its own: connections in TIME_WAIT are left on them. `users` are those that sockets may
    have, `lite` is True if the kernel has UDP-Lite, `inverted` is a rule of the model.
    """

    version: tuple[int, ...]
    link: str = ""
    users: tuple[int, ...] = (0,)
    lite: bool = True
    inverted: str | None = None

    def steps(self, numbers: Sequence[int]) -> list[Step]:
        """Returns the steps of a list of numbers."""
        devices = ("", LOOPBACK_LINK, self.link) if self.link else ("", LOOPBACK_LINK)
        moves = BINDING if self.link else CONNECTING
        return Composer(Model(self.version, self.inverted), moves, self.users, devices, self.lite).steps_of(numbers)

    def play(self, steps: Sequence[Step], calls: Calls) -> list[Made]:
        """Makes the calls of a sequence, up to one whose result is not the predicted one, and closes its sockets."""
        kernel = Kernel(calls, len(self.users) > 1, next(_shifts))
        made = kernel.play(steps)
        kernel.forget(list(kernel.fds))
        return made


def agrees(made: Sequence[Made]) -> bool:
    """Returns True if all results were predicted; only the last one can be another."""
    return not made or made[-1].agrees


@dataclass
class Search:
    """Searches with `play`, which makes the calls of a sequence of numbers.

    `played` counts the sequences that agreed before one disagreed. `last` is the last one that made a call, `simplest`
    the simplest one that disagrees, None if none does.
    """

    play: Callable[[Sequence[int]], list[Made]]
    played: int = 0
    last: Sequence[int] | None = None
    simplest: Sequence[int] | None = None
    _length: int = 0
    _tried: int = 0

    def run(self, count: int, random_seed: int) -> None:
        """Plays `count` sequences, or fewer if one disagrees."""
        drawn = given(st.tuples(*[st.integers(0, LARGEST - 1)] * LENGTH))
        limits = settings(
            max_examples=count, database=None, deadline=None, suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False, print_blob=False, verbosity=Verbosity.quiet,
            phases=(Phase.generate, Phase.shrink),
        )  # fmt: skip
        # The sandbox's own directory. By default hypothesis writes to the one where the run was started.
        configuration.set_hypothesis_home_dir(Path.cwd() / ".hypothesis")
        with suppress(Disagreement, Enough):
            seed(random_seed)(limits(drawn(lambda numbers: self._one(numbers))))()

    def _one(self, numbers: Sequence[int]) -> None:
        made = self.play(numbers)
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
