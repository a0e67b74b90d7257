"""What makes the calls of a run: the tests' own Python, an agent, or an agent that a command runs, by --caller and --via."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import NoReturn

import pytest

from probes.entry import gate as own
from probes.entry.agent import Agent, AgentError, AgentGone
from probes.entry.agent_gate import AgentGate, gate_names
from probes.entry.gate import WORD, Gate
from probes.errors import CommandError
from probes.testing.caller import AgentCaller, Caller, PythonCaller
from probes.testing.via import Via, ViaCaller, tried

NAMES = ("python", "agent")
#: Fixtures that act on the test's own process, with what they do there.
_OF_PYTHON = {
    "meanwhile": "steps that are taken while it is blocked",
}
_GETPID = 20


@dataclass(frozen=True)
class Callers:
    """Describes the callers of a run, which are alike: their word size, and the names of their gates.

    `gates` are these as a tracer knows them; none where no tracer watches. `via` runs the agents, if a command does.
    """

    name: str
    word: int
    gate_names: tuple[str, ...]
    gates: tuple[Gate, ...] = ()
    via: Via | None = None

    @property
    def words(self) -> list[str]:
        """Returns the words of a command line that choose them."""
        if self.via is not None:
            return self.via.words
        return [] if self.name == "python" else ["--caller", self.name]

    def start(self, observed: bool, until: float | None) -> Caller:
        """Starts one, in the sandbox of its test, which ends at `until` (time.monotonic). Raises AgentError, OSError."""
        if self.via is not None:
            return ViaCaller(self.via, until)
        return PythonCaller() if self.name == "python" else AgentCaller(observed)


_CALLERS: pytest.StashKey[Callers] = pytest.StashKey()


def callers(config: pytest.Config) -> Callers:
    """Returns what makes the calls of a run, by --caller and --via. Raises UsageError: it cannot run here."""
    found = config.stash.get(_CALLERS, None)
    if found is None:
        if config.getoption("via") is not None:
            found = _by_command(config)
        else:
            found = _agents() if config.getoption("caller") == "agent" else _pythons()
        config.stash[_CALLERS] = found
    return found


def _pythons() -> Callers:
    gates = tuple(own.gate(name) for name in own.gate_names())
    return Callers("python", WORD, own.gate_names(), gates)


def _agents() -> Callers:
    try:
        with Agent() as agent:
            gates = tuple(AgentGate(agent, name) for name in gate_names(agent))
            for gate in gates:
                if gate.enter(_GETPID) != agent.info.pid:
                    raise pytest.UsageError(f"--caller agent: getpid by {gate.name} does not return the process id")
            return Callers("agent", gates[0].word, gate_names(agent), gates)
    except OSError as error:
        text = f"this kernel does not run 32-bit programs ({error.strerror}); it needs CONFIG_IA32_EMULATION"
        raise pytest.UsageError(f"--caller agent: {text}") from error
    except AgentError as error:
        raise pytest.UsageError(f"--caller agent: {error}") from error


def _by_command(config: pytest.Config) -> Callers:
    try:
        option = config.getoption
        via = tried(option("via"), option("implementation"), option("isolation"), option("deadline"))
    except CommandError as error:
        raise pytest.UsageError(str(error)) from error
    return Callers("agent", 32, via.gate_names, via=via)


def needs_python(item: pytest.Item) -> str:
    """Returns why the calls of a test can only be made by its own Python, "" if an agent can make them.

    A test that acts on its own process says so: `@pytest.mark.python("reason")`.
    """
    mark = item.get_closest_marker("python")
    if mark is not None:
        return f"Python in the process that calls: {mark.args[0]}"
    for name in getattr(item, "fixturenames", ()):
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
