"""Runs the tests of behaviours on wrong kernels, each in its sandbox, until the mutant is found."""

from __future__ import annotations

import fnmatch
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest

from probes.plugin.plugin import Run, spec_of
from probes.report.judged_test import JudgedTest
from probes.testing.behaviours import behaviour_of
from probes.trace.injection import Injection, Match
from tools.mutants import observed
from tools.mutants.mutant import Mutant, Outcome
from tools.mutants.observed import Seen

#: Tests of a behaviour that run on the genuine kernel, spread over all: what its checks rest on is taken from them.
_CONTROLS = 6
#: Tests that run on one mutant before it has survived.
_MOST = 250


class Runner:
    """Judges mutants by the collected tests of a session."""

    def __init__(self, run: Run, items: Sequence[pytest.Item], seed: int) -> None:
        """Take the tests that run in a sandbox which a tracer watches."""
        self._run, self._random = run, random.Random(seed)
        self.items: dict[str, list[pytest.Item]] = defaultdict(list)
        for item in items:
            this, spec = behaviour_of(item), spec_of(item)
            if this is not None and spec is not None and spec.trace != "none":
                self.items[this.id].append(item)
        #: What the checks of a test rest on, by behaviour, for the tests that ran as controls.
        self.seen: dict[str, list[tuple[pytest.Item, list[Seen]]]] = {}
        #: Checks of the control arm that do not conform.
        self.wrong_controls: list[str] = []

    def control(self, ids: Iterable[str]) -> None:
        """Run some tests of behaviours with the injection in place and nothing changed; all must conform."""
        for id in ids:
            if id in self.seen:
                continue
            items = self.items[id]
            some = items if len(items) <= _CONTROLS else self._random.sample(items, _CONTROLS)
            self.seen[id] = []
            for item in some:
                judged = self._judge(item, Injection(Match()))
                self.wrong_controls += [
                    f"{check.key} {check.verdict}" for check in judged.checks
                    if check.verdict not in ("conforms", "not_applicable")
                ]  # fmt: skip
                self.seen[id].append((item, observed.seen(judged)))

    def mutants_of(self, id: str) -> list[Mutant]:
        """Return population A of a behaviour, which was run as control."""
        kinds = dict.fromkeys(kind for _, kinds in self.seen[id] for kind in kinds)
        return [*observed.mutants(id, [*kinds])]

    def judge(self, mutant: Mutant) -> Outcome:
        """Run tests on a mutant until a behaviour that has to find it deviates."""
        outcome = Outcome(mutant)
        named = {id for glob in mutant.behaviours for id in fnmatch.filter(self.items, glob)}
        self.control(sorted(named) if named else self.items)
        for id, item in self._candidates(mutant, named):
            injection = Injection(mutant.match, mutant.entry, mutant.exit)
            judged = self._judge(item, injection)
            outcome.tests += 1
            outcome.changed += injection.done
            verdicts = {check.verdict for check in judged.checks}
            outcome.broke += "broke" in verdicts and "deviates" not in verdicts
            if injection.done and "deviates" in verdicts:
                outcome.killed = id
                break
            if injection.done and not outcome.record:
                outcome.record = next((line for line in judged.evidence if line.get("op") == mutant.operation), {})
        return outcome

    def _candidates(self, mutant: Mutant, named: set[str]) -> list[tuple[str, pytest.Item]]:
        """Return the tests for a mutant: those known to judge such a call first, one of each behaviour before a second."""
        wanted = mutant.match.outcome
        judging: list[tuple[int, str, pytest.Item]] = []
        others: list[tuple[str, pytest.Item]] = []
        for id in sorted(named) if named else self._random.sample(sorted(self.seen), len(self.seen)):
            controls, fitting = self.seen.get(id, []), 0
            for item, kinds in controls:
                if any(operation == mutant.operation and wanted in (None, result) for operation, result in kinds):
                    judging.append((fitting, id, item))
                    fitting += 1
                else:
                    others.append((id, item))
            if named:
                ran = {item for item, _ in controls}
                rest = [item for item in self.items[id] if item not in ran]
                others += [(id, item) for item in self._random.sample(rest, min(len(rest), _CONTROLS))]
        judging.sort(key=lambda candidate: candidate[0])
        first = [(id, item) for _, id, item in judging]
        return [*first, *(others if named else [])][:_MOST]

    def _judge(self, item: pytest.Item, injection: Injection) -> JudgedTest:
        spec = spec_of(item)
        assert spec is not None
        judged: JudgedTest = self._run.judged(item, replace(spec, injection=injection))
        return judged
