"""The model of bind conflicts (tests/bind/conflict_*.py): the tables and the sequences notice each inverted rule."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence

import pytest

from probes.entry.agent_frames import AgentGone
from probes.entry.calls import Calls
from probes.entry.gate import Gate
from probes.entry.memory import Memory
from probes.sandbox import namespaces
from probes.testing.procfs import protocols
from probes.testing.reference import local
from tests.bind.conflict_kernel import Kernel, Made
from tests.bind.conflict_meetings import meeting_tables
from tests.bind.conflict_model import Model
from tests.bind.conflict_play import FIRST_PORT, STRIDE
from tests.bind.conflict_played import Sequences
from tests.bind.conflict_rules import BHASH2_ONLY, RULES
from tests.bind.conflict_states import PASSING, STATES
from tests.bind.conflict_table import (
    Member,
    Table,
    apart_tables,
    device_tables,
    option_tables,
    three_tables,
    user_tables,
)
from tests.bind.network_links import make_pair

ROOT = os.geteuid() == 0
VERSION = local().version
USERS: tuple[int, ...] = (0, *namespaces.OTHER_IDS) if ROOT else (0,)
#: Rules that can be tested here: those that this kernel has; one of them needs several users.
TESTABLE = [
    name for name, rule in RULES.items()
    if (rule.until is None or rule.until > VERSION) and (ROOT or name != "has_no_user")
]  # fmt: skip
#: Before 6.8 what a bucket of TCP caches takes three sockets to show: the sequences have them.
BY_THREE = {"wildcard_fits"} if VERSION < BHASH2_ONLY else set()
pytestmark = pytest.mark.sandbox(trace="none", ids=len(USERS))


def tables_with_members() -> Iterator[tuple[Table, list[Member]]]:
    """Yields tables of tests/bind/test_conflicts.py, each with its members; first those that notice most."""
    tables = [*option_tables("listening", "tcp"), *meeting_tables("tcp"), *meeting_tables("udp")]
    tables += [*device_tables("bound", "tcp", "near0"), *apart_tables(("tcp", "udp")), *three_tables("udp")]
    if ROOT:
        tables += user_tables("time-wait", "tcp", USERS[1])
    for state in (*STATES, *PASSING):
        tables += option_tables(state, "tcp")
    for table in tables:
        yield table, [member for _, members in table.rows for member in members]


def untraced_calls() -> Calls:
    """Returns calls through a gate that is not traced."""
    return Calls(Gate("int80", quiet=True), "socketcall", Memory())


def contradicts(model: Model, made: Sequence[Made]) -> bool:
    """Returns True if a model predicts another result, or another accepted socket, for one of these calls."""
    for one in made:
        call = one.call
        if call.op == "accept":
            if model.accepted != (call.slot, call.end):
                return True
        elif call.op != "close" or call.slot != model.closed_too:
            predicted = model.predict(call)
            if predicted is None:
                return False
            if predicted != one.answer:
                return True
    return False


class Missing(set[str]):
    """The rules that no call has contradicted yet when they were inverted."""

    def take(self, model_with: Callable[[str | None], Model], made: Sequence[Made]) -> bool:
        """Removes the rules that these calls contradict. Returns True if none is left.

        Fails if they contradict the model with no rule inverted.
        """
        assert not contradicts(model_with(None), made)
        self -= {name for name in self if contradicts(model_with(name), made)}
        return not self


def test_the_tables_notice_each_inverted_rule():
    """Each rule, inverted, predicts another outcome for some member of the tables."""
    missing = Missing(set(TESTABLE) - BY_THREE)
    for table, members in tables_with_members():
        namespaces.new_network()
        make_pair()
        kernel = Kernel(untraced_calls(), ROOT)
        kernel.play(Model(VERSION).plan(table.before))
        kept = set(kernel.fds)
        for number, member in enumerate(members):
            made = kernel.play(member.steps(table.model(VERSION), FIRST_PORT + STRIDE * number))
            kernel.forget([slot for slot in kernel.fds if slot not in kept])
            if missing.take(functools.partial(table.model, VERSION), made):
                return
    assert {name: RULES[name].source for name in missing} == {}


def test_two_thousand_sequences_notice_each_inverted_rule():
    """Each rule, inverted, predicts another result in some of two thousand random sequences."""
    search = pytest.importorskip("probes.testing.search", reason="hypothesis", exc_type=ImportError)
    missing, untraced = Missing(TESTABLE), untraced_calls()
    make_pair()
    subject = functools.partial(Sequences, VERSION, lite="UDP-Lite" in protocols())
    subjects = [(subject(link="near0"), 500), (subject(), 1000 if ROOT else 1500)]
    if ROOT:
        subjects.append((subject(users=USERS), 500))
    for sequences, count in subjects:

        def play(numbers: Sequence[int], sequences: Sequences = sequences) -> list[Made]:
            made: list[Made] = sequences.play(sequences.steps(numbers), untraced)
            if missing.take(functools.partial(Model, VERSION), made):
                raise search.Enough
            return made

        search.Search(play).run(count, random_seed=5)
    assert {name: RULES[name].source for name in missing} == {}


def test_a_search_ends_with_what_a_call_raises():
    """What ends the process of the calls is raised as it is: it is not played again, where it would look unlike itself."""
    search = pytest.importorskip("probes.testing.search", reason="hypothesis", exc_type=ImportError)
    played: list[Sequence[int]] = []

    def play(numbers: Sequence[int]) -> list[Made]:
        played.append(numbers)
        if len(played) == 3:
            raise AgentGone("the agent has ended", 11)
        return []

    with pytest.raises(AgentGone, match="the agent has ended"):
        search.Search(play).run(10, random_seed=1)
    assert len(played) == 3
