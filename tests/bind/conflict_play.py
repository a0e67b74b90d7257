"""Plays checks of conflict_table.py against the kernel: all members unseen, a few of each check once more, traced."""

from collections.abc import Callable
from dataclasses import dataclass, field

from probes.entry.calls import Calls
from probes.sandbox import namespaces
from probes.testing import Broke
from tests.bind.conflict_kernel import Kernel, answer
from tests.bind.conflict_model import Model
from tests.bind.conflict_table import outcome

#: Each member has ports of its own, from the first one up: below ip_local_port_range, and as many as its sockets.
FIRST_PORT, STRIDE = 5000, 4
#: Members whose outcome was not predicted that are made again, traced, for the report.
SHOWN = 4
#: Where not all rows are played, every such one is: a number that no dimension of a table has.
SAMPLE = 7


@dataclass
class Player:
    """Plays checks by a model of some kernel's version."""

    quiet: Calls
    traced: Calls
    version: tuple[int, ...]
    whole: bool = True
    users: bool = False
    #: Called in every new network namespace.
    prepare: Callable[[], object] = lambda: None
    _port: int = field(default=FIRST_PORT, init=False)

    def check(self, expect, check):
        """Judges a check: what came of each member is what the model says."""
        rows = list(check.rows) if self.whole else list(check.rows)[::SAMPLE]
        self._port = FIRST_PORT
        planned = {name: [(member, self._steps(check, member)) for member in members] for name, members in rows}
        expected = {name: " ".join(said(steps) for _, steps in members) for name, members in planned.items()}
        judged = expect(expected, **check.case)
        if check.leaves:
            namespaces.new_network()
            self.prepare()
        kernel = Kernel(self.traced, self.users)
        seen = kernel.play(Model(self.version).plan(check.before))
        kernel.calls = self.quiet
        kept, actual, odd = set(kernel.fds), {}, []
        for name, members in planned.items():
            found = []
            for member, steps in members:
                found.append(self._play(kernel, steps, kept)[0])
                if found[-1] != said(steps):
                    odd.append((name, member))
            actual[name] = " ".join(found)
        kernel.calls = self.traced
        ends = (rows[0][0], rows[0][1][0]), (rows[-1][0], rows[-1][1][-1])
        for name, member in [*ends, *odd[:SHOWN]]:
            steps = self._steps(check, member)
            told, made = self._play(kernel, steps, kept)
            seen = [*made, *seen] if told != said(steps) else [*seen, *made]
            if told != said(steps) and (name, member) not in odd:
                actual[f"{name} traced"] = told
        judged.of(actual, *(result for _, _, result in seen))

    def _steps(self, check, member):
        self._port += STRIDE
        if self._port >= 32768:
            raise Broke("a check has more members than there are ports below ip_local_port_range")
        return member.steps(check.model(self.version), self._port)

    def _play(self, kernel, steps, kept):
        made = kernel.play(steps)
        kernel.forget([slot for slot in kernel.fds if slot not in kept])
        return outcome([(call, answer(result)) for call, _, result in made]), made


def said(steps):
    """What the model says comes of a member."""
    return outcome([(step.call, step.predicted) for step in steps])
