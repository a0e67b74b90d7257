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
        spans = [range(first, last + 1) for first, last in ranges]
        found = {end for span in spans for end in (span[0], span[-1])}
        found |= {value for value in around_powers() for span in spans if value in span}
        room = sum(map(len, spans))
        for at in self.seeded.sample(range(room), min(DRAWN, room)):
            for span in spans:
                if at < len(span):
                    found.add(span[at])
                    break
                at -= len(span)
        return sorted(found)


def around_powers(bits: Iterable[int] = range(32)) -> set[int]:
    """Returns the powers of two with their neighbours, and the negatives of all."""
    near = {(1 << bit) + off for bit in bits for off in (-1, 0, 1)}
    return near | {-value for value in near}
