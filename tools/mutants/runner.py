"""Runs the tests of behaviours on wrong kernels, each in its sandbox, until the mutant is found."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pytest

from probes.plugin.plugin import Run, spec_of
from probes.report.judged_test import JudgedTest
from probes.sandbox.link_fault import LinkFault
from probes.testing.behaviours import behaviour_of
from probes.trace.actions import Word
from probes.trace.injection import Injection, Match
from probes.trace.stop import LOW, Stop
from tools.mutants import forked, observed
from tools.mutants.abi import fits
from tools.mutants.mutant import Mutant, Outcome
from tools.mutants.observed import Passed, Seen

_Piece = TypeVar("_Piece")
_Result = TypeVar("_Result")

#: Tests of a behaviour that run on the genuine kernel, spread over all: what its checks rest on is taken from them. For a
#: sample of mutants they would take longer than the mutants.
_CONTROLS, _CONTROLS_OF_SAMPLE = 6, 3
#: Tests that run on one mutant before it has survived.
_MOST = 250
#: Seconds that a test may take on a mutant: so many, and so many times what it took on the genuine kernel.
_LEAST, _TIMES = 1.0, 10


@dataclass(frozen=True)
class Control:
    """Holds what a test showed on the genuine kernel.

    On which calls its checks rest and with which words, on which frames, which calls succeeded, how long it took, and which
    checks do not conform. `item` is the number of the test.
    """

    item: int
    seen: Sequence[Seen] = ()
    words: Set[Passed] = frozenset()
    frames: Set[bytes] = frozenset()
    succeeded: Set[tuple[str, int]] = frozenset()
    seconds: float = 0.0
    wrong: Sequence[str] = ()


class Runner:
    """Judges mutants by the collected tests of a session, in a process for each CPU."""

    def __init__(self, run: Run, items: Sequence[pytest.Item], seed: int, sampled: bool, cpus: Sequence[int]) -> None:
        """Take the tests that run in a sandbox which a tracer watches; `sampled`: not all mutants are judged."""
        self._run, self._tests, self._seed, self._cpus = run, items, seed, cpus
        self._most_controls = _CONTROLS_OF_SAMPLE if sampled else _CONTROLS
        #: By behaviour, the numbers of its tests.
        self.items: dict[str, list[int]] = defaultdict(list)
        for number, item in enumerate(items):
            this, spec = behaviour_of(item), spec_of(item)
            if this is not None and spec is not None and spec.trace != "none":
                self.items[this.id].append(number)
        #: By behaviour, the tests that ran as controls.
        self.controls: dict[str, list[Control]] = {}

    def control(self, ids: Iterable[str]) -> list[str]:
        """Run some tests of behaviours with the injection in place and nothing changed; all must conform.

        Return the checks that do not.
        """
        drawn = {
            id: random.Random(f"{self._seed} {id}").sample(items, min(len(items), self._most_controls))
            for id in ids
            for items in [self.items[id]]
        }
        pieces = [item for items in drawn.values() for item in items]
        found = dict(zip(pieces, self._shared(pieces, self._controlled), strict=True))
        self.controls |= {id: [found[item] for item in items] for id, items in drawn.items()}
        return [line for control in found.values() for line in control.wrong]

    def _shared(self, pieces: Sequence[_Piece], work: Callable[[_Piece], _Result]) -> list[_Result]:
        return forked.results(pieces, work, self._cpus, self._run.become_worker)

    def _controlled(self, item: int) -> Control:
        before, after = observed.Watch(), observed.Watch()
        judged = self._judge(item, None, Injection(Match(), before, after))
        wrong = [
            f"{check.key} {check.verdict} {check.detail}".rstrip()
            for check in judged.checks
            if check.verdict not in ("conforms", "not_applicable")
        ]
        return Control(
            item, observed.seen(judged, before, after), observed.words(judged, before), observed.frames(judged),
            observed.succeeded(judged), judged.seconds or 0.0, wrong,
        )  # fmt: skip

    def seen(self, ids: Iterable[str]) -> Iterator[Seen]:
        """Yield the calls on which checks of these behaviours rest; their controls have run."""
        for id in ids:
            for control in self.controls[id]:
                yield from control.seen

    def judge_all(self, mutants: Sequence[Mutant], until: float) -> list[dict[str, Any]]:
        """Return the outcomes of mutants, as JSON carries them; the controls of all behaviours concerned have run.

        Those that did not begin before `until` (time.monotonic) have none.
        """
        outcomes = self._shared(mutants, lambda mutant: self._judged(mutant) if time.monotonic() < until else None)
        return [outcome for outcome in outcomes if outcome is not None]

    def _judged(self, mutant: Mutant) -> dict[str, Any]:
        return self._outcome(mutant).as_json()

    def _outcome(self, mutant: Mutant) -> Outcome:
        """Run tests on a mutant until a behaviour that has to find it deviates.

        A mutant that no behaviour was named for may be found by any: where the first that finds it is not one that judges
        what is wrong, those are run too.
        """
        outcome = Outcome(mutant)
        right = {id for id in self.items if mutant.is_right(id)}
        named = right if mutant.behaviours else set(self.items)
        found = self._first(outcome, self._candidates(mutant, named))
        if not found and mutant.behaviours and mutant.population == "B" and mutant.fault is None:
            outcome.other = self._first(outcome, self._candidates(mutant, set(self.items) - named))
        elif found and found not in right:
            outcome.other = found
            found = self._first(outcome, self._candidates(mutant, right)) or found
        outcome.killed = found
        return outcome

    def _first(self, outcome: Outcome, candidates: Iterable[tuple[str, Control]]) -> str:
        """Run tests until one deviates, and return its behaviour, "" if none does."""
        mutant = outcome.mutant
        for id, control in candidates:
            judged, changed, first = self._wrong(mutant, control)
            outcome.tests += 1
            outcome.changed += changed
            verdicts = {check.verdict for check in judged.checks}
            outcome.broke += "broke" in verdicts and "deviates" not in verdicts
            if changed and "deviates" in verdicts:
                return id
            if changed and id not in outcome.unmoved:
                outcome.unmoved.append(id)
            if first is not None and not outcome.record:
                calls = (line for line in judged.evidence if line["type"] == "call")
                outcome.record = next((line for line in calls if line["call"] == first), {})
        return ""

    def _wrong(self, mutant: Mutant, control: Control) -> tuple[JudgedTest, int, int | None]:
        """Run a test on the wrong kernel, and return also how many calls or frames were wrong, and the first call's id."""
        injection = Injection(_match(mutant, control), mutant.entry, mutant.exit)
        if mutant.fault is None:
            return self._judge(control.item, control, injection), injection.done, injection.first
        with mutant.fault() as fault:
            return self._judge(control.item, control, injection, fault), fault.count(), None

    def _candidates(self, mutant: Mutant, ids: Set[str]) -> list[tuple[str, Control]]:
        """Return the tests for a mutant: those known to judge such a call first, one of each behaviour before a second."""
        judging: list[tuple[int, str, Control]] = []
        others: list[tuple[str, Control]] = []
        drawing = random.Random(f"{self._seed} {mutant.name}")
        for id in drawing.sample(sorted(ids), len(ids)):
            fitting = 0
            for control in self.controls[id]:
                if _met(mutant, control):
                    judging.append((fitting, id, control))
                    fitting += 1
                elif mutant.behaviours and mutant.fault is None:
                    others.append((id, control))
            if mutant.behaviours and mutant.fault is None and not mutant.succeeding:
                others += self._not_controlled(id, drawing)
        judging.sort(key=lambda candidate: candidate[0])
        return [*((id, control) for _, id, control in judging), *others][:_MOST]

    def _not_controlled(self, id: str, drawing: random.Random) -> list[tuple[str, Control]]:
        """Return some tests of a behaviour that did not run as controls."""
        ran = {control.item for control in self.controls[id]}
        rest = [item for item in self.items[id] if item not in ran]
        longest = max((control.seconds for control in self.controls[id]), default=0.0)
        return [(id, Control(item, seconds=longest)) for item in drawing.sample(rest, min(len(rest), _CONTROLS))]

    def _judge(
        self, number: int, control: Control | None, injection: Injection, fault: LinkFault | None = None
    ) -> JudgedTest:
        """Run a test. On a wrong kernel one often waits for what does not come: it may take a little longer than it did."""
        item = self._tests[number]
        spec = spec_of(item)
        assert spec is not None
        deadline = None if control is None else _LEAST + _TIMES * control.seconds
        judged: JudgedTest = self._run.judged(item, replace(spec, injection=injection, link_fault=fault), deadline)
        return judged


def _met(mutant: Mutant, control: Control) -> bool:
    """Return True if a check of a test rests on a frame, or a call, that a mutant makes wrong."""
    if mutant.fault is not None:
        fault = mutant.fault()
        return any(map(fault.fits, control.frames))
    return any(fits(mutant, call) for call in control.seen) and _changes(mutant, control)


def _changes(mutant: Mutant, control: Control) -> bool:
    """Return True unless a mutant changes an argument word to what each call of a test passed."""
    if not isinstance(mutant.entry, Word) or not mutant.operation:
        return True
    passed = (
        each.value for each in control.words
        if (each.operation, each.position) == (mutant.operation, mutant.entry.index)
        and mutant.match.route in (None, each.route)
    )  # fmt: skip
    return any(mutant.entry.change(word) & LOW != word for word in passed)


def _match(mutant: Mutant, control: Control) -> Match:
    """Return which calls of a test a mutant makes wrong."""
    if not mutant.succeeding:
        return mutant.match
    where = mutant.match.where

    def succeeds(stop: Stop) -> bool:
        return (stop.call.op, stop.call.call_id) in control.succeeded and (where is None or where(stop))

    return replace(mutant.match, where=succeeds)
