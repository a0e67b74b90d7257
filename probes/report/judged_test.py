"""What one test brings to the report: its behaviour, its checks, and the evidence that they rest on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from probes.report.check import Check, Json


@dataclass(frozen=True)
class Statement:
    """The behaviour that a test judges, as the files carry it."""

    id: str
    statement: str
    source: str
    tag: str = "abi"

    def as_json(self) -> dict[str, Json]:
        """Return the fields by name."""
        return dict(self.__dict__)


@dataclass(frozen=True, slots=True)
class Segment:
    """Says where a worker of this machine wrote what a test adds to the files: results, then evidence, by their sizes.

    `descriptor` is that of the file in the worker and in the process that started it.
    """

    descriptor: int
    start: int
    results: int
    evidence: int


@dataclass
class JudgedTest:
    """The checks of one test and its evidence.

    `evidence` holds lines of evidence.jsonl without `seq`, in the order to which Check.rests_on refers: calls, frames,
    then signals. `seconds` is what the test took, None if it did not run. With `segment` its lines are written there, and
    `evidence` has only those of checks that are not as expected.
    """

    checks: list[Check]
    evidence: list[dict[str, Json]] = field(default_factory=list)
    behaviour: Statement | None = None
    seconds: float | None = None
    segment: Segment | None = None

    def as_json(self) -> dict[str, Json]:
        """Return what crosses from one process or machine to another."""
        behaviour = None if self.behaviour is None else self.behaviour.as_json()
        checks = [check.as_json() for check in self.checks]
        return {"behaviour": behaviour, "checks": checks, "evidence": self.evidence, "seconds": self.seconds}

    @classmethod
    def of_json(cls, line: Mapping[str, Json]) -> JudgedTest:
        """Read what `as_json` made. Raises KeyError or TypeError for a line that is something else."""
        about = line["behaviour"]
        return cls(
            [Check.of_json(check) for check in line["checks"]],
            line["evidence"],
            None if about is None else Statement(**about),
            line["seconds"],
        )
