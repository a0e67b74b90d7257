"""Searches for a sequence of calls that the kernel answers otherwise than the model says, and simplifies it. By
hypothesis: imported only where that is installed."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, Phase, Verbosity, configuration, given, seed, settings
from hypothesis import strategies as st

from probes.sandbox import namespaces
from tests.bind.conflict_kernel import Kernel, answer
from tests.bind.conflict_model import Model
from tests.bind.conflict_rules import LOOPBACK_LINK
from tests.bind.conflict_sequences import CONNECTING, LARGEST, LENGTH, PLAIN, Composer

#: Sequences that are tried to simplify one that disagrees.
SIMPLIFIED = 400


class Disagreement(Exception):
    """The kernel answered what the model did not say."""


class Enough(BaseException):
    """It has been simplified for long enough. Not an Exception: hypothesis would look into that."""


@dataclass
class Sequences:
    """What sequences are about: "ports", in the sandbox's own network namespace, where there is another link; or
    connections, each in a network namespace of its own. `users` are those that sockets may belong to."""

    version: tuple[int, ...]
    link: str = ""
    users: tuple[int, ...] = (0,)
    lite: bool = True
    flipped: str | None = None

    def steps(self, numbers):
        """The steps that some numbers come to."""
        devices = ("", LOOPBACK_LINK, self.link) if self.link else ("", LOOPBACK_LINK)
        moves = PLAIN if self.link else CONNECTING
        return Composer(Model(self.version, self.flipped), moves, self.users, devices, self.lite).steps_of(numbers)

    def play(self, steps, calls):
        """Makes the calls of a sequence, over `calls`: a list of (call, predicted, result)."""
        if not self.link:
            namespaces.new_network()
        kernel = Kernel(calls, len(self.users) > 1)
        made = kernel.play(steps)
        kernel.forget(list(kernel.fds))
        return made


def agrees(made):
    """Whether all answers were predicted; only the last can be another."""
    return not made or answer(made[-1][2]) == made[-1][1]


@dataclass
class Search:
    """`play` makes the calls of a sequence of numbers. `last` is the last sequence of which anything was made, `simplest`
    the simplest of those that disagree, if there are any, `played` how many agreed before."""

    play: Callable
    played: int = 0
    last: tuple[int, ...] | None = None
    simplest: tuple[int, ...] | None = None
    _length: int = 0
    _tried: int = 0

    def run(self, count, random_seed):
        """Plays sequences, `count` of them unless one disagrees."""
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

    def _one(self, numbers):
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
