"""The model of conflicts (tests/bind/conflict_*.py): none of its rules can be turned round without being found out, neither
by the tables nor by the random sequences."""

import os
import sys

import pytest

from probes import namespaces
from probes.calls import Calls
from probes.checkout import checkout
from probes.gate import Gate
from probes.memory import Memory
from probes.suite.reference import local

BIND = str(checkout() / "tests" / "bind")
if BIND not in sys.path:
    sys.path.append(BIND)

from bind_links import pair  # noqa: E402
from conflict_kernel import Kernel, answer  # noqa: E402
from conflict_meetings import meeting_checks  # noqa: E402
from conflict_model import Model  # noqa: E402
from conflict_play import FIRST_PORT, SAMPLE, STRIDE  # noqa: E402
from conflict_rules import RULES  # noqa: E402
from conflict_table import (  # noqa: E402
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
pytestmark = pytest.mark.sandbox(trace="none", ids=len(USERS))


def some_checks():
    """Every seventh row of the tables of tests/bind/test_conflicts.py."""
    checks = [*meeting_checks("tcp"), *meeting_checks("udp"), *apart_checks(("tcp", "udp")), *three_checks("udp")]
    checks += device_checks("bound", "tcp", "near0")
    if ROOT:
        checks += user_checks("time-wait", "tcp", USERS[1])
    for state in STATES:
        checks += option_checks(state, "tcp")
    for check in checks:
        yield check, [member for _, members in list(check.rows)[::SAMPLE] for member in members]


def over_a_quiet_gate():
    """Calls that nobody sees."""
    return Calls(Gate("int80", quiet=True), "socketcall", Memory())


def played_table():
    """What the kernel answers to the members of the tables: (check, made)."""
    played = []
    for check, members in some_checks():
        namespaces.new_network()
        pair()
        kernel = Kernel(over_a_quiet_gate(), ROOT)
        kernel.play(Model(VERSION).plan(check.before))
        kept = set(kernel.fds)
        for number, member in enumerate(members):
            made = kernel.play(member.steps(check.model(VERSION), FIRST_PORT + STRIDE * number))
            kernel.forget([slot for slot in kernel.fds if slot not in kept])
            played.append((check, made))
    return played


def played_sequences():
    """What the kernel answers to 2,000 sequences: what was made of each."""
    conflict_search = pytest.importorskip("conflict_search", reason="hypothesis", exc_type=ImportError)
    pair()
    quiet, played = over_a_quiet_gate(), []
    kinds = [({"link": "near0"}, 500), ({}, 1000 if ROOT else 1500), *([({"users": USERS}, 500)] if ROOT else [])]
    for kind, count in kinds:
        sequences = conflict_search.Sequences(VERSION, **kind)

        def play(numbers, sequences=sequences):
            played.append(sequences.play(sequences.steps(numbers), quiet))
            return played[-1]

        search = conflict_search.Search(play)
        search.run(count, random_seed=5)
        assert search.simplest is None
    return played


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


def test_a_rule_turned_round_fails_the_tables():
    played = played_table()
    assert not any(contradicts(check.model(VERSION), made) for check, made in played)
    found = [name for name in FINDABLE if any(contradicts(c.model(VERSION, name), made) for c, made in played)]
    assert sorted(set(FINDABLE) - set(found)) == []


def test_a_rule_turned_round_fails_the_sequences():
    played = played_sequences()
    assert not any(contradicts(Model(VERSION), made) for made in played)
    found = [name for name in FINDABLE if any(contradicts(Model(VERSION, name), made) for made in played)]
    assert sorted(set(FINDABLE) - set(found)) == []
