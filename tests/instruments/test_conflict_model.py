"""The model of conflicts (tests/bind/conflict_*.py): none of its rules can be turned round without being found out, neither
by the tables nor by the random sequences."""

import functools
import os

import pytest

from probes.entry.calls import Calls
from probes.entry.gate import Gate
from probes.entry.memory import Memory
from probes.sandbox import namespaces
from probes.testing.procfs import protocols
from probes.testing.reference import local
from tests.bind.bind_links import pair
from tests.bind.conflict_kernel import Kernel, answer
from tests.bind.conflict_meetings import meeting_checks
from tests.bind.conflict_model import Model
from tests.bind.conflict_play import FIRST_PORT, SAMPLE, STRIDE
from tests.bind.conflict_rules import BHASH2_ONLY, RULES
from tests.bind.conflict_table import (
    STATES,
    apart_checks,
    device_checks,
    option_checks,
    three_checks,
    user_checks,
)

ROOT = os.geteuid() == 0
VERSION = local().version
USERS = (0, *namespaces.OTHER_IDS) if ROOT else (0,)
#: What can be found out here: rules that this kernel has, and one that takes several users.
FINDABLE = [
    name for name, rule in RULES.items()
    if (rule.until is None or rule.until > VERSION) and (ROOT or name != "has_no_user")
]  # fmt: skip
#: What a bucket of TCP remembers takes three sockets before 6.8: the sequences have them.
BY_THREE = {"wildcard_fits"} if VERSION < BHASH2_ONLY else set()
pytestmark = pytest.mark.sandbox(trace="none", ids=len(USERS))


def some_checks():
    """Every seventh row of the tables of tests/bind/test_conflicts.py: each check with its members."""
    checks = [*option_checks("listening", "tcp"), *meeting_checks("tcp"), *meeting_checks("udp")]
    checks += [*device_checks("bound", "tcp", "near0"), *apart_checks(("tcp", "udp")), *three_checks("udp")]
    if ROOT:
        checks += user_checks("time-wait", "tcp", USERS[1])
    for state in STATES:
        checks += option_checks(state, "tcp")
    for check in checks:
        yield check, [member for _, members in list(check.rows)[::SAMPLE] for member in members]


def over_a_quiet_gate():
    """Calls that nobody sees."""
    return Calls(Gate("int80", quiet=True), "socketcall", Memory())


def contradicts(model, made):
    """Whether a model says something else than what was answered, or who accepted."""
    for call, _, result in made:
        if call.op == "accept":
            if model.accepted != (call.slot, call.first):
                return True
        elif call.op != "close" or call.slot != model.closed_too:
            said = model.answer(call)
            if said is None:
                return False
            if said != answer(result):
                return True
    return False


class Missing(set):
    """The rules that nothing has contradicted yet when they were turned round."""

    def take(self, model_with, made):
        """Takes out those that these calls contradict; true if none is left. The model as it is must not be."""
        assert not contradicts(model_with(None), made)
        self -= {name for name in self if contradicts(model_with(name), made)}
        return not self


def test_a_rule_turned_round_fails_the_tables():
    missing = Missing(set(FINDABLE) - BY_THREE)
    for check, members in some_checks():
        namespaces.new_network()
        pair()
        kernel = Kernel(over_a_quiet_gate(), ROOT)
        kernel.play(Model(VERSION).plan(check.before))
        kept = set(kernel.fds)
        for number, member in enumerate(members):
            made = kernel.play(member.steps(check.model(VERSION), FIRST_PORT + STRIDE * number))
            kernel.forget([slot for slot in kernel.fds if slot not in kept])
            if missing.take(functools.partial(check.model, VERSION), made):
                return
    assert sorted(missing) == []


def test_a_rule_turned_round_fails_two_thousand_sequences():
    conflict_search = pytest.importorskip("conflict_search", reason="hypothesis", exc_type=ImportError)
    missing, quiet = Missing(FINDABLE), over_a_quiet_gate()
    pair()
    kinds = [({"link": "near0"}, 500), ({}, 1000 if ROOT else 1500), *([({"users": USERS}, 500)] if ROOT else [])]
    for kind, count in kinds:
        sequences = conflict_search.Sequences(VERSION, lite="UDP-Lite" in protocols(), **kind)

        def play(numbers, sequences=sequences):
            made = sequences.play(sequences.steps(numbers), quiet)
            if missing.take(functools.partial(Model, VERSION), made):
                raise conflict_search.Enough
            return made

        conflict_search.Search(play).run(count, random_seed=5)
    assert sorted(missing) == []
