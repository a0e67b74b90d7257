"""What makes the calls of a run: the tests' own Python, a 32-bit agent, or an agent that a command runs.

By default a run has a caller for each word: 64-bit Python, and beside it the agent where this kernel runs it. --caller
chooses one of them; with --via there is the agent of its command alone. A test exists once for each caller.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn, Protocol, TypeVar

import pytest

from probes.entry import gate as own
from probes.entry import native_agent
from probes.entry.agent_frames import AgentGone
from probes.entry.gate import WORD, Gate
from probes.errors import CommandError
from probes.testing.behaviours import behaviour_of, needs_python
from probes.testing.caller import AgentCaller, Caller, PythonCaller
from probes.testing.via import Via, tried
from probes.testing.via_line import Machine, ViaLine, of_command, of_terminal

#: Directories of tests about the entry into the kernel itself.
DIRECTORIES_OF_GATES = ("entry", "multiplexer")
#: Beginnings of ids: of behaviours whose calls take numbers and addresses alone, and of those among them that are about
#: limits or layouts which a process of either word has for itself.
WITHOUT_WORD = ("bind.", "socket.")
WITH_WORD = ("bind.memory.", "bind.length.", "socket.pair.")


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
    def machine(self) -> Machine | None:
        """Returns the machine that a run has for all its tests, None if the agent is started for each or is here."""
        return self.via.machine if isinstance(self.via, ViaLine) else None

    @property
    def sweeps_whole(self) -> bool:
        """Returns False for an agent on this kernel: 64-bit Python, which makes its calls here too, sweeps ranges whole."""
        return self.name == "python" or self.via is not None

    @property
    def options(self) -> list[str]:
        """Returns the words of a command line that choose it alone among the callers of a target."""
        return [] if self.via is not None or (self.name, self.word) == ("python", 32) else ["--caller", self.name]

    def start(self, stopped: bool, until: float | None) -> Caller:
        """Starts one in the sandbox of its test, which ends at `until` (time.monotonic).

        A filter stops its calls for a tracer if `stopped`. Raises AgentError, OSError.
        """
        if self.via is not None:
            return self.via.caller(until)
        return PythonCaller() if self.name == "python" else AgentCaller(stopped)

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
    def machine(self) -> Machine | None:
        """Returns the machine that the run has for all its tests, None if there is none."""
        return self.kinds[0].machine

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

    def of_test(self, node: pytest.Item | pytest.Collector) -> tuple[CallerKind, ...]:
        """Returns those for which a test exists. What needs Python, and a test of the suite itself, exists once."""
        behaves = node.get_closest_marker("behaviour") is not None
        return self.kinds[:1] if not behaves or needs_python(node) else self.kinds


#: Options that say where an agent runs, by their destinations.
_REMOTE = {"via": "--via", "via_tty": "--via-tty", "boot": "--boot"}
_CALLERS: pytest.StashKey[Callers] = pytest.StashKey()


def callers(config: pytest.Config) -> Callers:
    """Returns what makes the calls of a run, by --caller and --via. Raises UsageError: it cannot run here."""
    found = config.stash.get(_CALLERS, None)
    if found is None:
        found = config.stash[_CALLERS] = _found(config, config.getoption("caller"))
    return found


def choose(config: pytest.Config, kind: CallerKind) -> None:
    """Lets one caller make all calls of a run, whatever --caller says."""
    config.stash[_CALLERS] = Callers((kind,))


def found_callers(config: pytest.Config) -> Callers | None:
    """Returns what `callers` has found, None if it was not asked."""
    return config.stash.get(_CALLERS, None)


def caller_of(item: pytest.Item) -> CallerKind:
    """Returns what makes the calls of a test."""
    made, entry = callers(item.config), entry_of(item)
    return made.kinds[0] if entry is None else made.named(entry.caller)


class _HasParameters(Protocol):
    """Is a set of parameters of a test, as pytest has it."""

    @property
    def params(self) -> Mapping[str, object]:
        """Returns the values by the names of the parameters."""


_Parameters = TypeVar("_Parameters", bound=_HasParameters)


class _Entry(Protocol):
    """Is what a test is run for: see probes.testing.fixtures.Entry."""

    route: str
    gate: str
    caller: str


def entry_of(item: pytest.Item) -> _Entry | None:
    """Returns the entry of a test, None if it makes no calls, or if the options select none of its entries."""
    callspec = getattr(item, "callspec", None)
    entry: _Entry | None = callspec.params.get("entry") if callspec is not None else None
    # pytest skips a test whose set of parameters is empty, and gives it a value of its own.
    return entry if hasattr(entry, "caller") else None


def thinned(test: pytest.Item, sets: list[_Parameters]) -> list[_Parameters]:
    """Returns the sets of parameters with which a test is judged: all over its caller's first gate, one over every other.

    What parameters and routes tell apart lies behind the entry into the kernel, where the gate is no longer known. The one
    has the first parameters and, if the test has it, the route direct, whose words are in registers. --gate asks for
    a gate with all of them, and so do the tests of DIRECTORIES_OF_GATES. What has no layout that depends on the word size
    is judged with all parameters by 64-bit Python, and by the agent beside it with the first.
    """
    groups = _groups(test)
    chosen: dict[tuple[str, ...], tuple[_Parameters, str]] = {}
    once: list[_Parameters] = []
    for one in sets:
        entry: _Entry | None = one.params.get("entry")  # type: ignore[assignment]  # of fixtures.Entry
        group = groups(entry) if entry is not None and hasattr(entry, "caller") else None
        if entry is not None and group is not None:
            once.append(one)
            _, best = chosen.setdefault(group, (one, entry.route))
            if entry.route == "direct" != best:
                chosen[group] = one, entry.route
    left_out = {id(one) for one in once} - {id(one) for one, _ in chosen.values()}
    return [one for one in sets if id(one) not in left_out]


def _groups(test: pytest.Item) -> Callable[[_Entry], tuple[str, ...] | None]:
    """Returns what says of an entry of a test what it has in common with those of which one is judged; None: all are."""
    made, this = callers(test.config), behaviour_of(test)
    every_gate = test.config.getoption("gate") is not None or test.path.parent.name in DIRECTORIES_OF_GATES
    every_word = this is None or not this.id.startswith(WITHOUT_WORD) or this.id.startswith(WITH_WORD)

    def group(entry: _Entry) -> tuple[str, ...] | None:
        kind = made.named(entry.caller)
        if entry.gate != kind.gate_names[0]:
            return None if every_gate else (entry.caller, entry.gate)
        return None if every_word or made.kinds[0].word == kind.word else (entry.caller, entry.gate, entry.route)

    return group


def _found(config: pytest.Config, wanted: str | None) -> Callers:
    asked = [name for name in _REMOTE if config.getoption(name) is not None]
    if len(asked) > 1:
        names = " and ".join(_REMOTE[name] for name in asked)
        raise pytest.UsageError(f"{names}: a run has one agent; leave out all but one")
    if asked:
        if wanted == "python":
            why = "the calls are the agent's there; leave out one of the two"
            raise pytest.UsageError(f"--caller python with {_REMOTE[asked[0]]}: {why}")
        return Callers((_remote(config, asked[0]),))
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


def _remote(config: pytest.Config, name: str) -> CallerKind:
    value, named, deadline = (config.getoption(option) for option in (name, "implementation", "deadline"))
    try:
        via: Via
        if name == "via":
            via = tried(value, named, config.getoption("isolation"), deadline)
        else:
            via = (of_terminal if name == "via_tty" else of_command)(value, named, deadline)
    except CommandError as error:
        raise pytest.UsageError(str(error)) from error
    return CallerKind("agent", 32, via.gate_names, via=via)


def end_like(gone: AgentGone) -> NoReturn:
    """Ends this process as its agent has ended: a call that kills its caller kills the process of the test."""
    if os.WIFSIGNALED(gone.status):
        number = os.WTERMSIG(gone.status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(gone.status) & 0xFF)
