"""Divides a run into parts: I/N is the I-th of N."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

_T = TypeVar("_T")


@dataclass(frozen=True)
class Shard:
    """Names the I-th of N parts; I counts from 1."""

    number: int
    count: int

    @classmethod
    def of(cls, text: str) -> Shard:
        """Parses I/N, the value of --shard. Raises ArgumentTypeError."""
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not I/N with I from 1 to N")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        """Returns I/N."""
        return f"{self.number}/{self.count}"

    def choose(self, from_all: Sequence[_T]) -> Sequence[_T]:
        """Returns every N-th element, from the I-th on."""
        return from_all[self.number - 1 :: self.count]

    def part(self, number: int, count: int) -> Shard:
        """Divides this part further, and returns one of `count` parts of it; `number` counts from 0."""
        return Shard(self.number + self.count * number, self.count * count)
