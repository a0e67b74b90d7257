"""Population A: what each behaviour's checks rest on, as a run on the genuine kernel shows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from probes.report.check import Json
from probes.report.judged_test import JudgedTest
from probes.trace.injection import Match
from probes.trace.stop import Stop
from tools.mutants.kinds import kind_of
from tools.mutants.mutant import Mutant, shown, wrong_results

#: Bytes of the longest headers that a mutant of frames asks for: Ethernet, IPv6, TCP.
_HEADERS = 14 + 40 + 20


class Seen(NamedTuple):
    """Is a call on which a check rests: operation, an error or "success", the kind of its socket at entry and exit."""

    operation: str
    result: int | str
    before: str
    after: str


class Passed(NamedTuple):
    """Is an argument word of such a call: operation, route, position, value."""

    operation: str
    route: str
    position: int
    value: int


@dataclass
class Watch:
    """Notes the kind of the socket and the words of each call by the call's id, and changes nothing."""

    kinds: dict[int, str] = field(default_factory=dict)
    words: dict[int, list[Passed]] = field(default_factory=dict)

    def __call__(self, stop: Stop) -> bool:
        """Note them."""
        call = stop.call
        if call.call_id is not None:
            self.kinds[call.call_id] = kind_of(stop)
            words = range(len(call.args))
            self.words[call.call_id] = [Passed(call.op, call.route, index, stop.word(index)) for index in words]
        return False


def _judged_calls(judged: JudgedTest) -> Iterator[dict[str, Json]]:
    """Yield the records of the calls on which the conforming checks of a test rest, in their order."""
    for check in judged.checks:
        if check.verdict == "conforms":
            lines = (judged.evidence[at] for at in check.rests_on)
            yield from (line for line in lines if line["type"] == "call" and line["ret"] is not None)


def seen(judged: JudgedTest, before: Watch, after: Watch) -> list[Seen]:
    """Return the calls on which the conforming checks of a test rest, each kind once, in their order.

    A call that the tables do not know (an unknown number) is one of operation "".
    """
    found: dict[Seen, None] = {}
    for line in _judged_calls(judged):
        kinds = before.kinds.get(line["call"], ""), after.kinds.get(line["call"], "")
        found[Seen(line["op"], outcome(line["ret"]), *kinds)] = None
    return [*found]


def frames(judged: JudgedTest) -> set[bytes]:
    """Return the beginnings of the frames on which the conforming checks of a test rest: their headers."""
    conforming = (check for check in judged.checks if check.verdict == "conforms")
    lines = (judged.evidence[at] for check in conforming for at in check.rests_on)
    return {bytes.fromhex(line["raw"])[:_HEADERS] for line in lines if line["type"] == "frame"}


def words(judged: JudgedTest, before: Watch) -> set[Passed]:
    """Return the argument words of these calls."""
    return {word for line in _judged_calls(judged) for word in before.words.get(line["call"], ())}


def succeeded(judged: JudgedTest) -> set[tuple[str, int]]:
    """Return the calls of a test that succeeded: operation and call id."""
    return {
        (line["op"], line["call"]) for line in judged.evidence
        if line["type"] == "call" and line["ret"] is not None and outcome(line["ret"]) == "success"
    }  # fmt: skip


def outcome(result: int) -> int | str:
    """Return an error's negative number, or "success"."""
    return result if -4096 < result < 0 else "success"


def mutants(behaviour: str, seen: Sequence[Seen]) -> Iterator[Mutant]:
    """Yield the mutants of a behaviour."""
    for operation, result in dict.fromkeys((each.operation, each.result) for each in seen):
        for operator, action in wrong_results(result):
            name = f"A {behaviour}: {operation or 'unknown call'} {shown(result)}: {operator}"
            yield Mutant(
                "A", name, behaviour, operator, operation, Match(operation, outcome=result), None, action(),
                (behaviour,), behaviour.partition(".")[0],
            )  # fmt: skip
