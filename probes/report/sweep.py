"""What a sweep found: members whose result was not expected, as ranges grouped by result, and members that were lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from probes.report.check import Json

#: How many ranges of a group are listed; all its members are counted.
LISTED = 1000


@dataclass
class Group:
    """Counts members with the same expected and actual result, and lists them as ranges [first member, number]."""

    count: int = 0
    ranges: list[list[int]] = field(default_factory=list)

    def add(self, start: int, count: int) -> None:
        """Adds members that follow those added before, or do not."""
        self.count += count
        if self.ranges and sum(self.ranges[-1]) == start:
            self.ranges[-1][1] += count
        elif len(self.ranges) < LISTED:
            self.ranges.append([start, count])

    def arrange(self) -> None:
        """Sorts the ranges, and makes one of those that follow each other."""
        ranges, self.ranges = sorted(self.ranges), []
        for start, count in ranges:
            if self.ranges and sum(self.ranges[-1]) == start:
                self.ranges[-1][1] += count
            else:
                self.ranges.append([start, count])


class Deviations:
    """Holds groups by (expected, actual), both as people read them."""

    def __init__(self) -> None:
        """Holds none."""
        self._groups: dict[tuple[str, str], Group] = {}

    def add(self, expected: str, actual: str, start: int, count: int) -> None:
        """Adds members with an unexpected result."""
        self._groups.setdefault((expected, actual), Group()).add(start, count)

    def more(self, expected: str, actual: str, count: int) -> None:
        """Adds members that are counted and not listed."""
        self._groups.setdefault((expected, actual), Group()).count += count

    def join(self, others: Deviations) -> None:
        """Adds the members of others."""
        for expected, actual, group in others:
            for start, count in group.ranges:
                self.add(expected, actual, start, count)
            self.more(expected, actual, group.count - sum(count for _, count in group.ranges))

    def __iter__(self) -> Iterator[tuple[str, str, Group]]:
        """Yields (expected, actual, group), the largest groups first."""
        for (expected, actual), group in sorted(self._groups.items(), key=lambda item: (-item[1].count, item[0])):
            group.arrange()
            yield expected, actual, group

    @property
    def count(self) -> int:
        """Returns the number of members."""
        return sum(group.count for group in self._groups.values())


@dataclass
class Outcome:
    """Holds what was found in members of a plan. Lists have (first member, number, …)."""

    deviations: Deviations = field(default_factory=Deviations)
    #: Members without a result, and why.
    lost: list[tuple[int, int, str]] = field(default_factory=list)
    #: Members after which descriptors were open that were not before, and how many.
    left_open: list[tuple[int, int, int]] = field(default_factory=list)
    #: How many processes died; the members that killed them were narrowed down.
    deaths: int = 0

    def join(self, other: Outcome) -> None:
        """Adds what was found in other members."""
        self.deviations.join(other.deviations)
        self.lost += other.lost
        self.left_open += other.left_open
        self.deaths += other.deaths

    @property
    def status(self) -> int:
        """Returns the exit status: 0 all as expected, 1 a deviation, 3 members without a result."""
        if self.deviations.count or self.left_open:
            return 1
        return 3 if self.lost else 0

    def as_json(self) -> dict[str, Json]:
        """Returns it as JSON."""
        groups = [
            {"expected": expected, "actual": actual, "count": group.count, "members": group.ranges}
            for expected, actual, group in self.deviations
        ]
        return {
            "deviations": groups, "lost": [list(one) for one in self.lost],
            "left_open": [list(one) for one in self.left_open], "deaths": self.deaths,
        }  # fmt: skip

    @classmethod
    def of_json(cls, line: Mapping[str, Any]) -> Outcome:
        """Reads what `as_json` wrote. Raises ValueError."""
        try:
            outcome = cls(deaths=_count(line["deaths"]))
            for group in line["deviations"]:
                expected, actual = _text(group["expected"]), _text(group["actual"])
                listed = 0
                for start, count in group["members"]:
                    outcome.deviations.add(expected, actual, _count(start), _count(count))
                    listed += count
                outcome.deviations.more(expected, actual, _count(group["count"] - listed))
            outcome.lost = [(_count(start), _count(count), _text(why)) for start, count, why in line["lost"]]
            outcome.left_open = [(_count(start), _count(count), int(left)) for start, count, left in line["left_open"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no outcome of a sweep has these fields: {error!r}") from error
        return outcome


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError(f"{value!r} is no number of members")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable() or len(value) > 200:
        raise ValueError(f"{value!r} is no result")
    return value
