"""What makes the calls of a run: the tests' own Python, a 32-bit agent, or an agent that a command runs.

By default a run has a caller for each word: 64-bit Python, and beside it the agent where this kernel runs it. --caller
chooses one of them; with --via there is the agent of its command alone. A test exists once for each caller.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn

import pytest

from probes.entry import gate as own
from probes.entry import native_agent
from probes.entry.agent import AgentGone
from probes.entry.gate import WORD, Gate
from probes.errors import CommandError
from probes.testing.caller import AgentCaller, Caller, PythonCaller
from probes.testing.via import Via, ViaCaller, tried

#: Fixtures that act on the test's own process, with what they do there.
_OF_PYTHON = {
    "meanwhile": "steps that are taken while it is blocked",
}


@dataclass(frozen=True)
class CallerKind:
    """Describes one of the callers of a run: its word size, and the names of its gates.

    `gates` are these as a tracer knows them; none where no tracer watches. `via` runs the agent, if a command does.
    """

    name: str
    word: int
    gate_names: tuple[str, ...]
    gates: tuple[Gate, ...] = ()
    via: Via | None = None

    def __str__(self) -> str:
        """Returns "64-bit Python (int80)"."""
        return f"{self.word}-bit {self.name.replace('python', 'Python')} ({', '.join(self.gate_names)})"

    @property
    def traced_gates(self) -> tuple[Gate, ...]:
        """Returns the gates at which the sandbox has to stop besides those of its own Python."""
        return () if self.name == "python" else self.gates

    @property
    def sweeps_whole(self) -> bool:
        """Returns False for an agent on this kernel: 64-bit Python, which makes its calls here too, sweeps ranges whole."""
        return self.name == "python" or self.via is not None

    @property
    def options(self) -> list[str]:
        """Returns the words of a command line that choose it alone among the callers of a target."""
        return [] if self.via is not None or (self.name, self.word) == ("python", 32) else ["--caller", self.name]

    def start(self, observed: bool, until: float | None) -> Caller:
        """Starts one, in the sandbox of its test, which ends at `until` (time.monotonic). Raises AgentError, OSError."""
        if self.via is not None:
            return ViaCaller(self.via, until)
        return PythonCaller() if self.name == "python" else AgentCaller(observed)

    def as_json(self) -> dict[str, object]:
        """Returns what the first line of results.jsonl has of it."""
        return {"name": self.name, "word": self.word, "gates": list(self.gate_names), "options": self.options}


@dataclass(frozen=True)
class Callers:
    """Holds the callers of a run, one for each word. `missing` says why there is no agent where one was looked for."""

    kinds: tuple[CallerKind, ...]
    missing: str = ""

    def __str__(self) -> str:
        """Returns what a run prints when it starts."""
        return " and ".join(map(str, self.kinds)) + (f"; no agent: {self.missing}" if self.missing else "")

    @property
    def via(self) -> Via | None:
        """Returns what the command of --via runs, None without --via."""
        return self.kinds[0].via

    @property
    def gate_names(self) -> tuple[str, ...]:
        """Returns the names of the gates that any of them has."""
        return tuple(dict.fromkeys(name for kind in self.kinds for name in kind.gate_names))

    def named(self, name: str) -> CallerKind:
        """Returns the one of that name. Raises KeyError."""
        for kind in self.kinds:
            if kind.name == name:
                return kind
        raise KeyError(name)

    def of_test(self, node: pytest.Item | pytest.Collector, fixtures: Iterable[str]) -> tuple[CallerKind, ...]:
        """Returns those for which a test exists. What needs Python, and a test of the suite itself, exists once."""
        behaves = node.get_closest_marker("behaviour") is not None
        return self.kinds[:1] if not behaves or needs_python(node, fixtures) else self.kinds


_CALLERS: pytest.StashKey[Callers] = pytest.StashKey()


def callers(config: pytest.Config) -> Callers:
    """Returns what makes the calls of a run, by --caller and --via. Raises UsageError: it cannot run here."""
    found = config.stash.get(_CALLERS, None)
    if found is None:
        found = config.stash[_CALLERS] = _found(config, config.getoption("caller"))
    return found


def caller_of(item: pytest.Item) -> CallerKind:
    """Returns what makes the calls of a test."""
    made, callspec = callers(item.config), getattr(item, "callspec", None)
    entry = callspec.params.get("entry") if callspec is not None else None
    return made.kinds[0] if entry is None else made.named(entry.caller)


def _found(config: pytest.Config, wanted: str | None) -> Callers:
    if config.getoption("via") is not None:
        if wanted == "python":
            raise pytest.UsageError("--caller python: the command of --via runs the agent; leave out one of the two")
        return Callers((_by_command(config),))
    python = CallerKind("python", WORD, own.gate_names(), tuple(own.gate(name) for name in own.gate_names()))
    if wanted == "python" or (wanted is None and WORD == 32):
        return Callers((python,))
    try:
        gates = native_agent.gates()
    except native_agent.CannotRun as error:
        if wanted == "agent":
            raise pytest.UsageError(f"--caller agent: {error}") from error
        return Callers((python,), str(error))
    agent = CallerKind("agent", gates[0].word, tuple(gate.name for gate in gates), gates)
    return Callers((agent,) if wanted == "agent" else (python, agent))


def _by_command(config: pytest.Config) -> CallerKind:
    try:
        option = config.getoption
        via = tried(option("via"), option("implementation"), option("isolation"), option("deadline"))
    except CommandError as error:
        raise pytest.UsageError(str(error)) from error
    return CallerKind("agent", 32, via.gate_names, via=via)


def needs_python(node: pytest.Item | pytest.Collector, fixtures: Iterable[str]) -> str:
    """Returns why the calls of a test can only be made by its own Python, "" if an agent can make them.

    A test that acts on its own process says so: `@pytest.mark.python("reason")`. `fixtures` are the names of those it uses.
    """
    mark = node.get_closest_marker("python")
    if mark is not None:
        return f"Python in the process that calls: {mark.args[0]}"
    for name in fixtures:
        if name in _OF_PYTHON:
            return f"Python in the process that calls: {_OF_PYTHON[name]}"
    return ""


def end_like(gone: AgentGone) -> NoReturn:
    """Ends this process as its agent has ended: a call that kills its caller kills the process of the test."""
    if os.WIFSIGNALED(gone.status):
        number = os.WTERMSIG(gone.status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(gone.status) & 0xFF)
