"""I/N: one of N parts of a run."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """The I-th of N parts, with I from 1 to N."""

    number: int
    count: int

    @classmethod
    def of(cls, text: str) -> Shard:
        """I/N as an option has it. Raises ArgumentTypeError."""
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise argparse.ArgumentTypeError(f"{text!r} is no I/N with I from 1 to N")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def choose(self, from_all: Sequence[T]) -> Sequence[T]:
        """Every N-th, from the I-th on."""
        return from_all[self.number - 1 :: self.count]

    def part(self, number: int, count: int) -> Shard:
        """A part of it: number counts from 0."""
        return Shard(self.number + self.count * number, self.count * count)
