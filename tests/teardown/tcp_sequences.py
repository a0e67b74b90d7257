"""Composes sequences of calls for tcp_model.py from numbers, and plays them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from probes.entry.calls import Calls
from probes.testing.sequences import Digits
from tests.teardown.tcp_kernel import Kernel, Made, Surroundings
from tests.teardown.tcp_model import DARK, SLOTS, Call, Model, Step
from tests.teardown.tcp_rules import LISTEN

#: Ports of listeners.
PORTS = (2, 3)
#: Moves, each as likely as it is frequent here.
MOVES = (
    "rest", "meet", "send", "shutdown", "meet", "recv", "close", "meet", "shutdown", "abort", "recv", "send", "close",
    "call", "disconnect", "send", "recv", "shutdown", "again", "error", "meet", "shutdown", "send", "close", "peer", "call",
    "accept", "recv", "serve", "dark", "connect", "listen", "close",
)  # fmt: skip


class Composer:
    """Composes steps from numbers; a call that the model does not predict is left out."""

    def __init__(self, model: Model) -> None:
        """Begins with no step."""
        self.model = model
        self.steps: list[Step] = []
        self._move: dict[str, Callable[[Digits], None]] = {
            "rest": lambda digits: None, "meet": self._meet, "call": self._call, "serve": self._serve, "dark": self._dark,
            "again": self._again,
        }  # fmt: skip
        self._values: dict[str, Sequence[int]] = {
            "send": (1, 4, 3), "recv": (16, 2, 16, 1), "shutdown": (1, 0, 2, 1), "connect": (2, 3, DARK),
        }  # fmt: skip

    def steps_of(self, numbers: Sequence[int]) -> list[Step]:
        """Returns the steps of a list of numbers."""
        for number in numbers:
            digits = Digits(number)
            move = digits.choose(MOVES)
            self._move.get(move, lambda digits, move=move: self._one(move, digits))(digits)  # type: ignore[misc]
        return self.steps

    def _make(self, *call: object) -> bool:
        """Makes a call if the model predicts it. Returns True if it succeeds."""
        planned = list(self.model.plan([Call(*call)]))  # type: ignore[arg-type]
        self.steps += planned
        return bool(planned) and planned[0].predicted >= 0

    def _free(self, digits: Digits) -> int:
        """Returns a free slot; if there is none, closes a socket first."""
        slots = sorted(self.model.slots)
        if len(slots) == SLOTS:
            self._make("close", digits.choose(slots))
        return min(set(range(SLOTS)) - set(self.model.slots))

    def _one(self, op: str, digits: Digits) -> None:
        """Makes a call on an open socket."""
        slots = sorted(self.model.slots)
        if not slots:
            return
        slot = digits.choose(slots)
        if op == "accept":
            self._accept(slot)
        else:
            self._make(op, slot, digits.choose(self._values.get(op, (0,))))

    def _accept(self, slot: int) -> None:
        free = set(range(SLOTS)) - set(self.model.slots)
        if free:
            self._make("accept", slot, min(free))

    def _listener(self) -> int | None:
        return next((slot for slot, end in sorted(self.model.slots.items()) if end.state == LISTEN and end.port), None)

    def _serve(self, digits: Digits) -> None:
        slot = self._free(digits)
        self._make("socket", slot, 1)
        self._make("bind", slot, digits.choose(PORTS))
        if digits.choose((True, True, True, False)):
            self._make("listen", slot)

    def _call(self, digits: Digits) -> None:
        """Connects a new socket, mostly to a listener. It is not accepted."""
        listener, slot = self._listener(), self._free(digits)
        port = self.model.slots[listener].port if listener in self.model.slots else digits.choose(PORTS)
        self._make("socket", slot, 0)
        self._make("connect", slot, port)

    def _meet(self, digits: Digits) -> None:
        """Connects a new socket to a listener, which is made if there is none, and accepts the connection."""
        if self._listener() is None:
            self._serve(Digits(0))
        self._call(digits)
        listener = self._listener()
        if listener is not None:
            self._accept(listener)

    def _dark(self, digits: Digits) -> None:
        """Begins a connect that never ends."""
        slot = self._free(digits)
        self._make("socket", slot, 1)
        self._make("connect", slot, DARK)

    def _again(self, digits: Digits) -> None:
        """Makes the last call on a socket once more."""
        if self.steps and self.steps[-1].call.op not in ("socket", "close", "abort", "accept", "bind"):
            self._make(*self.steps[-1].call)


@dataclass
class Sequences:
    """The sequences of a test. The first number chooses the family. `inverted` is a rule of the model."""

    around: Surroundings
    inverted: str | None = None

    def family(self, numbers: Sequence[int]) -> int:
        """Returns 4 or 6."""
        return Digits(numbers[0]).choose(sorted(self.around.dark))

    def steps(self, numbers: Sequence[int]) -> list[Step]:
        """Returns the steps of a list of numbers."""
        return Composer(Model(self.inverted)).steps_of(numbers[1:])

    def play(self, numbers: Sequence[int], calls: Calls) -> list[Made]:
        """Makes the calls of a sequence, up to one that does not agree."""
        return Kernel(calls, self.around, self.family(numbers)).play(self.steps(numbers))
