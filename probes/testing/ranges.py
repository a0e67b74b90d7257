"""The values that a sweep takes: a whole range once for what its answer depends on, otherwise its ends and a sample.

A test sweeps a range whole over one entry, WHOLE, and for one of the things that its answer does not depend on.
docs/ranges.md states for each behaviour with many members what they tell apart.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: Route and gate over which ranges are swept whole: every process has them.
WHOLE = ("socketcall", "int80")
#: How many values a sample has besides the ends of its range and what lies around the powers of two.
DRAWN = 200


@dataclass(frozen=True)
class Ranges:
    """Yields the values of ranges over one entry: `whole` is True if it is the one that sweeps them whole."""

    whole: bool
    seeded: random.Random

    def of(self, first: int, last: int, whole: bool = True) -> tuple[str, Sequence[int]]:
        """Returns the values of a range and their name for a case: all, "1..65535", or a sample, "sample".

        `whole` is False where the range is swept whole for another parameter of the test.
        """
        if self.whole and whole:
            return f"{first}..{last}", range(first, last + 1)
        return "sample", self.sample((first, last))

    def sample(self, *ranges: tuple[int, int]) -> list[int]:
        """Returns the ends of ranges, what lies around their powers of two, and values drawn from all of them."""
        found = {end for span in ranges for end in span}
        found |= {value for value in around_powers() for first, last in ranges if first <= value <= last}
        # Not len(range): in a 32-bit process it cannot say how long a range of 2^31 values is.
        room = sum(last + 1 - first for first, last in ranges)
        draws = range(room) if room <= DRAWN else (self.seeded.randrange(room) for _ in range(DRAWN))
        for at in draws:
            for first, last in ranges:
                if at <= last - first:
                    found.add(first + at)
                    break
                at -= last + 1 - first
        return sorted(found)


def around_powers(bits: Iterable[int] = range(32)) -> set[int]:
    """Returns the powers of two with their neighbours, and the negatives of all."""
    near = {(1 << bit) + off for bit in bits for off in (-1, 0, 1)}
    return near | {-value for value in near}
