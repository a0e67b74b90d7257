"""Checks: one judged result of a behaviour for one case, with its key, its verdict and what it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Every verdict, in the order in which they are counted and printed.
VERDICTS = ("conforms", "deviates", "broke", "not_applicable", "lost", "not_run")
#: The verdicts that a line of --expect can list.
NOT_CONFORMING = ("deviates", "broke", "lost")
#: The route of a check that rests on calls over both routes: they agree, or they do not.
BOTH = "both"
#: A value as JSON carries it: None, bool, int, str, list, dict; bytes are {"bytes": hex}.
Json = Any


@dataclass(frozen=True, slots=True)
class Key:
    """The five fields that identify a check on every machine and in every run.

    `route` and `gate` are those of the judged call: "socketcall", "direct", or "both" where calls over both routes are
    compared. `word` is the calling process's, 32 or 64.
    """

    id: str
    case: str
    route: str
    gate: str
    word: int

    def __str__(self) -> str:
        """Return the key as people read it."""
        case = f"[{self.case}] " if self.case else ""
        return f"{self.id} {case}{self.route} {self.gate} {self.word}"

    def as_json(self) -> dict[str, Json]:
        """Return the five fields by name."""
        return {"id": self.id, "case": self.case, "route": self.route, "gate": self.gate, "word": self.word}

    @classmethod
    def of_json(cls, line: Mapping[str, Json]) -> Key:
        """Read the five fields of a line. Raises KeyError for one that lacks."""
        return cls(line["id"], line["case"], line["route"], line["gate"], line["word"])


@dataclass(frozen=True)
class Range:
    """What the machine-code loop found over values from first to last: all of them, or a sample if `count` is less.

    `histogram` counts the members by result, `surprises` are at most 1000 (value, result) pairs that differ from what
    was expected, `surprising` counts them all, `seconds` is what the loop took.
    """

    first: int
    last: int
    count: int
    histogram: Mapping[str, int]
    surprises: Sequence[Sequence[int]]
    surprising: int
    seconds: float

    def as_json(self) -> dict[str, Json]:
        """Return the object that results.jsonl has under `range`."""
        return dict(self.__dict__)


@dataclass(slots=True)
class Check:
    """One judged result.

    `rests_on` holds positions in the evidence of the test (calls, then frames); the writer numbers the evidence of the
    whole run and fills `seq` from them. `known` is the reason of the line of --expect that matched. `seconds` is what the
    test took, on the first of its checks.
    """

    key: Key
    verdict: str
    expected: Json = None
    actual: Json = None
    detail: str = ""
    rests_on: list[int] = field(default_factory=list)
    seq: list[int] = field(default_factory=list)
    range: Range | None = None
    difference: dict[str, Json] | None = None
    known: str | None = None
    seconds: float | None = None

    @property
    def unexpected(self) -> bool:
        """True if the check fails the test: it deviates, broke or was lost, and no line of --expect lists it."""
        return self.verdict in NOT_CONFORMING and self.known is None

    def as_json(self) -> dict[str, Json]:
        """Return the fields as results.jsonl has them, without what is not set; `rests_on` only before numbering."""
        line = {**self.key.as_json(), "verdict": self.verdict, "expected": self.expected, "actual": self.actual}
        if self.range is not None:
            line["range"] = self.range.as_json()
        if self.difference is not None:
            line["difference"] = self.difference
        if self.known is not None:
            line["known"] = self.known
        if self.seconds is not None:
            line["seconds"] = self.seconds
        line |= {"seq": self.seq, "detail": self.detail}
        return line | ({"rests_on": self.rests_on} if self.rests_on else {})

    @classmethod
    def of_json(cls, line: Mapping[str, Json]) -> Check:
        """Read a check that `as_json` wrote. Raises KeyError for a field that lacks."""
        span = line.get("range")
        return cls(
            Key.of_json(line), line["verdict"], line["expected"], line["actual"], line["detail"],
            list(line.get("rests_on", ())), list(line["seq"]), Range(**span) if span else None,
            line.get("difference"), line.get("known"), line.get("seconds"),
        )  # fmt: skip
