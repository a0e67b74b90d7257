"""The log of a recorded test: the steps of its agent, and its checks, which refer to them by their indexes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from probes.entry.agent_gate import AgentResult
from probes.report.check import Json


@dataclass
class Log:
    """Holds what was recorded of a test. `stopped` says why nothing is recorded any more, "" if everything was."""

    steps: list[dict[str, Json]] = field(default_factory=list)
    checks: list[dict[str, Json]] = field(default_factory=list)
    stopped: str = ""
    files: bool = False
    #: It writes sysctls, which a script must not do in the network of others.
    network: bool = False
    #: The protocols of which it asked if the kernel has them, with the answer.
    protocols: dict[str, bool] = field(default_factory=dict)
    #: Where the test first compared the result of a call, by the index of the call: the number of steps then.
    compared: dict[int, int] = field(default_factory=dict)
    #: Steps are recorded: those by which the caller starts are not.
    on: bool = False
    #: What Python does is the suite's own.
    own: bool = False

    def add(self, **step: Json) -> int:
        """Appends a step, and returns its index, -1 if nothing is recorded now."""
        if self.stopped or not self.on:
            return -1
        self.steps.append(step)
        return len(self.steps) - 1

    def stop(self, why: str) -> None:
        """Ends the log."""
        if not self.own and not self.stopped:
            self.stopped = why

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Records nothing in a `with` block."""
        before = self.on, self.own
        self.on, self.own = False, True
        try:
            yield
        finally:
            self.on, self.own = before

    def end_where_it_branches(self) -> None:
        """Ends the log where the test compared a result that it neither judges nor needs: what follows may depend on it.

        Another result than the expected one of a check fails that, whatever the test does then.
        """
        asserted = {step for step, one in enumerate(self.steps) if "needs" in one}
        asserted |= {by["result"] for check in self.checks for by in check["by"] if "result" in by}
        ends = [at for step, at in self.compared.items() if step not in asserted]
        if not ends:
            return
        self.steps, why = self.steps[: min(ends)], "goes by the result of a call"
        self.stopped = why
        for check in self.checks:
            if check["at"] > min(ends):
                check["left_out"] = check["left_out"] or why

    def as_json(self) -> dict[str, Json]:
        """Returns what the parent gets."""
        return {
            "steps": self.steps,
            "checks": self.checks,
            "stopped": self.stopped,
            "files": self.files,
            "network": self.network,
            "protocols": self.protocols,
        }


class RecordedResult(AgentResult):
    """Is a result that remembers its call, and that the test compared it: what it does next may follow from that."""

    step: int = -1
    log: Log


def _compared(name: str) -> Callable[[RecordedResult, object], bool]:
    def compare(result: RecordedResult, other: object) -> bool:
        if result.step >= 0:
            result.log.compared.setdefault(result.step, len(result.log.steps))
        return bool(getattr(int(result), name)(other))

    return compare


for _name in ("__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__"):
    setattr(RecordedResult, _name, _compared(_name))
