"""Composes sequences of calls from numbers: any numbers are a sequence, smaller numbers a simpler one."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from types import ModuleType
from typing import TypeVar

from probes.testing.expect import not_applicable

_Choice = TypeVar("_Choice")

#: A sequence has LENGTH numbers below LARGEST: hypothesis draws uniformly up to there.
LENGTH, LARGEST = 14, 1 << 24
#: How many sequences a test plays over one route and gate.
SEQUENCES = int(os.environ.get("SOCKETCALL_SEQUENCES", "500"))


class Digits:
    """Makes choices by the digits of a number, the lowest first."""

    def __init__(self, number: int) -> None:
        """Takes the number."""
        self._rest = number

    def choose(self, choices: Sequence[_Choice]) -> _Choice:
        """Returns one of the choices."""
        self._rest, index = divmod(self._rest, len(choices))
        return choices[index]


def hypothesis_search() -> ModuleType:
    """Returns probes.testing.search. Not applicable without hypothesis, which that module imports."""
    try:
        return importlib.import_module("probes.testing.search")
    except ImportError as error:
        if error.name != "hypothesis":
            raise
        not_applicable("Python module hypothesis")
