"""The sequences of each subject that the model of bind's conflicts predicts, as they are played."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

from probes.entry.calls import Calls
from tests.bind.conflict_kernel import Kernel, Made
from tests.bind.conflict_model import Model, Step
from tests.bind.conflict_sequences import BINDING, CONNECTING, PORTS, Composer
from tests.bind.conflict_sockets import LOOPBACK_LINK

#: How far the ports of each sequence are shifted: they stay below ip_local_port_range.
_shifts = cycle(range(0, 27000, len(PORTS)))


@dataclass
class Sequences:
    """The sequences of one subject: of calls without connections if `link` names a second link, else with connections.

    Each is played on ports of its own: connections in TIME_WAIT are left on them. `users` are those that sockets may
    have, `lite` is True if the kernel has UDP-Lite, `inverted` is a rule of the model.
    """

    version: tuple[int, ...]
    link: str = ""
    users: tuple[int, ...] = (0,)
    lite: bool = True
    inverted: str | None = None

    def steps(self, numbers: Sequence[int]) -> list[Step]:
        """Returns the steps of a list of numbers."""
        devices = ("", LOOPBACK_LINK, self.link) if self.link else ("", LOOPBACK_LINK)
        moves = BINDING if self.link else CONNECTING
        return Composer(Model(self.version, self.inverted), moves, self.users, devices, self.lite).steps_of(numbers)

    def play(self, steps: Sequence[Step], calls: Calls) -> list[Made]:
        """Makes the calls of a sequence, up to one whose result is not the predicted one, and closes its sockets."""
        kernel = Kernel(calls, len(self.users) > 1, next(_shifts))
        made = kernel.play(steps)
        kernel.forget(list(kernel.fds))
        return made
