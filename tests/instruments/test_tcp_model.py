"""The model of TCP's states (tests/teardown/tcp_*.py): random sequences notice each inverted rule."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from probes.entry.calls import Calls
from probes.entry.gate import Gate
from probes.entry.memory import Memory
from probes.testing.procfs import protocols
from tests.teardown.tcp_kernel import Made, Surroundings, kinds_of, transcript
from tests.teardown.tcp_model import Model
from tests.teardown.tcp_rules import RULES
from tests.teardown.tcp_sequences import Sequences

pytestmark = pytest.mark.sandbox(trace="none")


def contradicts(model: Model, made: Sequence[Made]) -> bool:
    """Returns True if a model predicts another result of one of these calls, or other events after it."""
    for one in made:
        if one.call is None:
            if {slot: model.events(end) for slot, end in model.slots.items()} != one.answer:
                return True
            continue
        predicted = model.predict(one.call)
        if predicted is None:
            return False
        if predicted != one.answer:
            return True
    return False


def test_a_thousand_sequences_notice_each_inverted_rule():
    """Each rule, inverted, predicts another result, or other events, in some of a thousand random sequences."""
    search = pytest.importorskip("probes.testing.search", reason="hypothesis", exc_type=ImportError)
    calls, missing = Calls(Gate("int80", quiet=True), "socketcall", Memory()), set(RULES)
    sequences = Sequences(Surroundings(calls, kinds_of(protocols())))

    def play(numbers: Sequence[int]) -> list[Made]:
        made = sequences.play(numbers, calls)
        assert not contradicts(Model(), made), transcript(made)
        missing.difference_update([name for name in missing if contradicts(Model(name), made)])
        if not missing:
            raise search.Enough
        return made

    search.Search(play).run(1000, random_seed=5)
    assert {name: RULES[name].source for name in missing} == {}


def test_an_inverted_rule_is_a_disagreement_that_is_written_down():
    """The simplest sequence that disagrees is short, and its transcript has what the model predicts."""
    search = pytest.importorskip("probes.testing.search", reason="hypothesis", exc_type=ImportError)
    calls = Calls(Gate("int80", quiet=True), "socketcall", Memory())
    sequences = Sequences(Surroundings(calls, kinds_of(protocols())), inverted="is_last_fin")
    found = search.Search(lambda numbers: sequences.play(numbers, calls))
    found.run(500, random_seed=7)
    assert found.simplest is not None
    lines = transcript(sequences.play(found.simplest, calls))
    assert len(lines) <= 12, lines
    assert "the model predicts" in lines[-1]
