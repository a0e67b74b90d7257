"""Population A: what each behaviour's checks rest on, as a run on the genuine kernel shows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from probes.report.judged_test import JudgedTest
from probes.trace.injection import Match
from tools.mutants.mutant import Mutant, shown, wrong_results

#: An operation, and an error or "success".
Seen = tuple[str, int | str]


def seen(judged: JudgedTest) -> list[Seen]:
    """Return the calls on which the conforming checks of a test rest, each kind once, in their order.

    A call that the tables do not know (an unknown number) is one of operation "".
    """
    found: dict[Seen, None] = {}
    for check in judged.checks:
        if check.verdict != "conforms":
            continue
        for at in check.rests_on:
            line = judged.evidence[at]
            if line["type"] == "call" and line["ret"] is not None:
                found[line["op"], outcome(line["ret"])] = None
    return [*found]


def outcome(result: int) -> int | str:
    """Return an error's negative number, or "success"."""
    return result if -4096 < result < 0 else "success"


def mutants(behaviour: str, seen: Sequence[Seen]) -> Iterator[Mutant]:
    """Yield the mutants of a behaviour."""
    for operation, result in seen:
        for operator, action in wrong_results(result):
            name = f"A {behaviour}: {operation or 'unknown call'} {shown(result)}: {operator}"
            yield Mutant(
                "A", name, behaviour, operator, operation, Match(operation, outcome=result), None, action(),
                (behaviour,), behaviour.partition(".")[0],
            )  # fmt: skip
