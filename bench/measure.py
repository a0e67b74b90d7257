"""Holds what is measured: rows of pairs, each of one measurement and of the barest way to do the same, made in turn."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from probes import VERSION
from probes.entry.gate import WORD

#: Units by which seconds and bytes are shown: what they are multiplied with.
SCALES = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9, "MB": 1e-6}


class CannotMeasure(Exception):
    """Is raised where something cannot be measured. The text is one line: what, why, what to do."""


@dataclass(frozen=True)
class Row:
    """Holds the pairs of one ratio.

    `ours` and `bare` are seconds, or bytes where `unit` is "MB"; they are shown in `unit`. `bound` is the most that the
    median of the ratios may be, None if nothing is asked of it.
    """

    name: str
    unit: str
    bound: float | None
    ours: Sequence[float]
    bare: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        """Returns the ratio of each pair."""
        return [ours / bare for ours, bare in zip(self.ours, self.bare, strict=True)]

    @property
    def ratio(self) -> float:
        """Returns the median of the ratios."""
        return statistics.median(self.ratios)

    @property
    def is_held(self) -> bool:
        """Returns False if the ratio is above its bound."""
        return self.bound is None or self.ratio <= self.bound

    def as_json(self) -> dict[str, Any]:
        """Returns the pairs and what they come to."""
        found = {"ratio": self.ratio, "least": min(self.ratios), "most": max(self.ratios), "held": self.is_held}
        return {**self.__dict__, "ours": list(self.ours), "bare": list(self.bare), **found}

    @classmethod
    def of_json(cls, line: Mapping[str, Any]) -> Row:
        """Reads the pairs of a row. Raises KeyError for one that lacks a field."""
        return cls(line["name"], line["unit"], line["bound"], line["ours"], line["bare"])

    def cells(self) -> list[str]:
        """Returns the cells of its line in a table."""
        held = "" if self.bound is None else ("yes" if self.is_held else "no")
        return [
            self.name,
            f"{self.ratio:.2f} ({min(self.ratios):.2f} to {max(self.ratios):.2f})",
            "" if self.bound is None else f"{self.bound:g}",
            held,
            *(f"{SCALES[self.unit] * statistics.median(side):.4g} {self.unit}" for side in (self.ours, self.bare)),
        ]


TITLES = ["what is measured / its barest form", "ratio: median (range)", "at most", "held", "measured", "bare"]
"""The titles of the columns that Row.cells fills."""


def table(rows: Sequence[Sequence[str]]) -> str:
    """Returns lines of a Markdown table, aligned; the first row has the titles."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def in_turn(rounds: int, *measured: Callable[[], float]) -> list[list[float]]:
    """Measures each in turn, in the opposite order every second time, and returns the results of each."""
    found: list[list[float]] = [[] for _ in measured]
    for number in range(rounds):
        order = range(len(measured)) if number % 2 == 0 else reversed(range(len(measured)))
        for at in order:
            found[at].append(measured[at]())
    return found


def seconds(function: Callable[[], object]) -> float:
    """Returns the seconds that a function takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def machine() -> dict[str, Any]:
    """Returns what kind of machine this is, and how busy it was when the measurements began."""
    return {
        "suite": VERSION,
        "kernel": platform.release().partition("-")[0],
        "machine": platform.machine(),
        "hypervisor": _is_guest(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory": psutil.virtual_memory().total,
        "python": f"{platform.python_version()}, {WORD}-bit",
        "load": os.getloadavg()[0],
    }


def _is_guest() -> bool:
    return " hypervisor" in Path("/proc/cpuinfo").read_text()
