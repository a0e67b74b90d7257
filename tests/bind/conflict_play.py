"""Plays tables of conflict_table.py against the kernel: all members untraced, a few of each table once more, traced."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from probes.entry.calls import Calls
from probes.testing import Broke
from probes.testing.caller import Caller
from probes.testing.expect import Expect
from tests.bind.conflict_kernel import Kernel, Made
from tests.bind.conflict_model import Model, Step
from tests.bind.conflict_table import Member, Table, outcome

#: Each member has ports of its own, from FIRST_PORT on: below ip_local_port_range, as many as its sockets need.
FIRST_PORT, STRIDE = 5000, 4
#: The most members with an unexpected outcome that are played again, traced.
TRACED_SURPRISES = 4
#: Where a sample of the rows is played, it is each seventh: no dimension of a table has seven values.
SAMPLE = 7


@dataclass(frozen=True)
class Plan:
    """A table as it is played: the members of each row with their calls and predicted results."""

    table: Table
    rows: dict[str, Sequence[tuple[Member, Sequence[Step]]]]

    @property
    def outcomes(self) -> dict[str, str]:
        """The predicted outcomes of the members of each row."""
        return {name: " ".join(predicted(steps) for _, steps in row) for name, row in self.rows.items()}

    @property
    def ends(self) -> list[tuple[str, Member]]:
        """The first and the last member, with the names of their rows."""
        first, last = next(iter(self.rows)), next(reversed(self.rows))
        return [(first, self.rows[first][0][0]), (last, self.rows[last][-1][0])]


@dataclass
class Played:
    """The outcomes of each row of a table, and the calls that were traced, those of surprises first."""

    outcomes: dict[str, str]
    traced: list[Made]


@dataclass
class Player:
    """Plays tables against the kernel, planned by a model of the kernel's version.

    `whole` is False to play a sample of the rows. With `users` sockets are made as the user of their call. `prepare` is
    called in every new network namespace.
    """

    caller: Caller
    quiet: Calls
    traced: Calls
    version: tuple[int, ...]
    whole: bool = True
    users: bool = False
    prepare: Callable[[], object] = lambda: None
    _port: int = field(default=FIRST_PORT, init=False)

    def plan(self, table: Table) -> Plan:
        """Plans the calls of all members that are played."""
        self._port = FIRST_PORT
        rows = table.rows if self.whole else table.rows[::SAMPLE]
        return Plan(table, {name: [(one, self._steps(table, one)) for one in members] for name, members in rows})

    def play(self, plan: Plan) -> Played:
        """Makes the calls of all members untraced, then those of the first, the last and some surprising ones traced."""
        table = plan.table
        if table.leaves_state:
            self.caller.new_network()
            self.prepare()
        kernel = Kernel(self.traced, self.users)
        traced = kernel.play(Model(self.version).plan(table.before))
        kernel.calls = self.quiet
        kept, outcomes = set(kernel.fds), {}
        surprises: list[tuple[str, Member]] = []
        for name, row in plan.rows.items():
            found = []
            for member, steps in row:
                found.append(outcome_of(self._make(kernel, steps, kept)))
                if found[-1] != predicted(steps):
                    surprises.append((name, member))
            outcomes[name] = " ".join(found)
        kernel.calls = self.traced
        for name, member in [*plan.ends, *surprises[:TRACED_SURPRISES]]:
            steps = self._steps(table, member)
            made = self._make(kernel, steps, kept)
            if outcome_of(made) == predicted(steps):
                traced = [*traced, *made]
                continue
            traced = [*made, *traced]
            if (name, member) not in surprises:
                outcomes[f"{name} traced"] = outcome_of(made)
        return Played(outcomes, traced)

    def _steps(self, table: Table, member: Member) -> Sequence[Step]:
        self._port += STRIDE
        if self._port >= 32768:
            raise Broke("a table has more members than there are ports below ip_local_port_range")
        return member.steps(table.model(self.version), self._port)

    def _make(self, kernel: Kernel, steps: Sequence[Step], kept: set[int]) -> list[Made]:
        made = kernel.play(steps)
        kernel.forget([slot for slot in kernel.fds if slot not in kept])
        return made


def judge_tables(expect: Expect, player: Player, tables: Iterable[Table]) -> None:
    """Judges one check for each table: the outcomes of its rows are those that the model predicts."""
    for table in tables:
        plan = player.plan(table)
        check = expect(plan.outcomes, **table.case)
        played = player.play(plan)
        check.of(played.outcomes, *(one.result for one in played.traced))


def predicted(steps: Sequence[Step]) -> str:
    """Returns the outcome of a member as the model predicts it."""
    return outcome([(step.call, step.predicted) for step in steps])


def outcome_of(made: Sequence[Made]) -> str:
    """Returns the outcome of a member from the calls that were made."""
    return outcome([(one.call, one.answer) for one in made])
