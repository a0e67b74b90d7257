"""Agents that a command runs: `--via 'qemu-i386-static {agent}'`, in the sandbox of each test, without a tracer."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from probes.entry.agent import Agent
from probes.entry.agent_driver import Driver
from probes.entry.agent_frames import AgentError
from probes.entry.agent_gate import AgentGate, gate_names, landing_pad
from probes.entry.agent_start import PROGRAM
from probes.entry.files import AgentFiles
from probes.entry.memory import OutOfMemory
from probes.errors import CommandError
from probes.sandbox import messages, sandbox, trial
from probes.sandbox.channel import Channel
from probes.sandbox.sandbox import CannotSandbox, SandboxSpec
from probes.sandbox.work import work_directory
from probes.testing import procfs
from probes.testing.caller import NUMBERS, RETURNS_VALUE, AgentCaller, Caller
from probes.testing.expect import not_applicable
from probes.testing.signals import AgentSignals, Signals

AGENT = "{agent}"
#: Linux itself, taken for genuine, and as the version that its kernel says. A port of it has a name after a hyphen.
LINUX = "linux"
#: The name of the agent's file in the directory of a sandbox.
_FILE = "socketcall-agent"
_PLACE = "name a program of this directory, of PATH, or by its absolute path"
#: Seconds that the command has to start the agent, at the beginning of a run.
START = 20.0
_GETPID, _SOCKET, _AF_UNIX, _SOCK_STREAM = 20, 359, 1, 1
_PRCTL, _PR_SET_PDEATHSIG, _SIGKILL = 172, 1, 9


@dataclass(frozen=True)
class Via:
    """Describes a command that runs agents. `text` is its line, with {agent} for the agent's file.

    `implementation` is what answers the calls there. `hosted`: it makes its sockets in the kernel of this machine, so that
    the tables of /proc/net here show them. `known`: that kernel knows the agent by the pid that getpid returns to it, and
    its descriptors by their numbers. `shows`: if not, a /proc of its own shows these. `runs_here`: this kernel executes the
    agent's file, as in a container, and is the reference.
    """

    text: str
    implementation: str
    gate_names: tuple[str, ...] = ()
    hosted: bool = True
    known: bool = True
    named: bool = False
    shows: bool = False
    runs_here: bool = False

    @property
    def facts(self) -> dict[str, object]:
        """Returns what the first line of results.jsonl has of it."""
        return {"via": self.text}

    @property
    def isolation(self) -> str:
        """Returns the isolation of tests there, "" for that of their sandboxes."""
        return ""

    @property
    def kernel(self) -> dict[str, str]:
        """Returns what is known of its kernel, {} where it is that of this machine."""
        return {}

    def caller(self, until: float | None) -> Caller:
        """Starts an agent in the sandbox of a test that ends at `until` (time.monotonic). Raises AgentError, OSError."""
        return ViaCaller(self, until)

    def __str__(self) -> str:
        """Returns what answers the calls, and whose kernel its sockets are in."""
        return f"{self.implementation}, " + ("which calls this kernel" if self.hosted else "with sockets of its own")

    @property
    def words(self) -> list[str]:
        """Returns the words of a command line that choose it."""
        return ["--via", self.text, *(["--implementation", self.implementation] if self.named else [])]

    def start(self, deadline: float | None, until: float | None = None) -> Agent:
        """Runs the command on an agent in the current directory. Raises AgentError, OSError."""
        path = Path.cwd() / _FILE
        path.write_bytes(PROGRAM)
        path.chmod(0o755)
        agent = Agent([word.replace(AGENT, str(path)) for word in split(self.text)], deadline, until)
        # It runs: tests find their directory empty.
        path.unlink()
        # Where that is refused, the end of its input ends it.
        agent.call(_PRCTL, _PR_SET_PDEATHSIG, _SIGKILL)
        return agent


def split(text: str) -> list[str]:
    """Returns the words of a command. Raises CommandError: it is none that runs the agent."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise CommandError(f"--via: {text!r}: {error}; quote it as for a shell") from error
    if not any(AGENT in word for word in words):
        raise CommandError(f"--via: {text!r} does not name {AGENT}, which stands for the program that it runs")
    return words


def tried(text: str, implementation: str | None, isolation: str | None, deadline: float | None) -> Via:
    """Runs the command once, in a sandbox, and returns what was found. Raises CommandError: it runs no agent.

    `deadline` is in seconds for its start and for each reply, None for START.
    """
    patience = deadline or START
    first = split(text)[0]
    if not implementation and AGENT in first:
        raise CommandError(f"--via: {text!r} names no command: name what answers the calls by --implementation")
    if "/" in first and Path(first).is_file() and text.startswith(first):
        # Each test starts it in a directory of its own.
        text = str(Path(first).absolute()) + text.removeprefix(first)
    via = Via(text, implementation or Path(first).name, named=implementation is not None)
    found = trial.find(isolation, calls=False)
    channel = Channel(1 << 16)

    def body() -> None:
        try:
            with via.start(patience) as agent:
                channel.send(messages.Report(_examined(agent)))
        except AgentError as error:
            channel.send(messages.Broke(str(error)))
        except OSError as error:
            channel.send(messages.Broke(f"cannot run {first!r}: {error.strerror}; {_PLACE}"))

    try:
        with work_directory() as work:
            spec = SandboxSpec(trace="none", isolation=found.isolation)
            result = sandbox.run(body, spec, channel, work, 10 * patience)
    except CannotSandbox as error:
        raise CommandError(f"--via: no sandbox: {error}") from error
    for message in result.messages:
        if isinstance(message, messages.Report):
            gates = tuple(message.data["gates"])
            hosted, known, shows, runs_here = (
                bool(message.data[name]) for name in ("hosted", "known", "shows", "runs_here")
            )
            return replace(via, gate_names=gates, hosted=hosted, known=known, shows=shows, runs_here=runs_here)
        if isinstance(message, messages.Broke):
            raise CommandError(f"--via: {message.why}")
    raise CommandError(f"--via: `{text}` ended its sandbox, with wait status {result.status}")


def _examined(agent: Agent) -> dict[str, object]:
    """Returns what `Via` says of an agent: the gates that work, and the fields of type bool. Raises AgentError."""
    gates = examined_gates(agent)
    before = procfs.open_sockets()
    made = agent.call(_SOCKET, _AF_UNIX, _SOCK_STREAM, 0)
    new = {where for inode, places in procfs.open_sockets().items() if inode not in before for where in places}
    known, shows = (agent.info.pid, made) in new, False
    if made >= 0 and not known:
        # An emulator that has no such calls may end.
        with suppress(OSError, AgentError, OutOfMemory):
            files, where = AgentFiles(agent), "/proc/self/fd"
            shows = str(made) in files.names(where) and files.link(f"{where}/{made}").startswith("socket:[")
    runs_here = any(_is_agent(pid) for pid, _ in new)
    return {"gates": list(gates), "hosted": bool(new), "known": known, "shows": shows, "runs_here": runs_here}


def _is_agent(pid: int) -> bool:
    """Returns whether a process executes the agent's file: that of an emulator or a tracer executes another."""
    try:
        return Path(f"/proc/{pid}/exe").read_bytes() == PROGRAM
    except OSError:
        return False


def examined_gates(agent: Driver) -> tuple[str, ...]:
    """Returns the names of the gates of an agent. Raises AgentError: one does not work."""
    for name in gate_names(agent):
        if (got := AgentGate(agent, name).enter(_GETPID)) != agent.info.pid:
            raise AgentError(f"getpid by {name} returns {got!r}, the agent's process id is {agent.info.pid}")
    return gate_names(agent)


class ViaCaller(AgentCaller):
    """Is an agent that a command runs. A test is not applicable if it cannot do the set-up."""

    def __init__(self, via: Via, until: float | None) -> None:
        """Starts it. It may take until that time (time.monotonic), None for ever. Raises AgentError, OSError."""
        self._via = via
        self._agent = via.start(None, until)
        self.pid = self._agent.info.pid
        here = procfs.local() if via.hosted else None
        self.files = AgentFiles(self._agent) if via.shows else here

    @property
    def process(self) -> int:
        """Returns its pid. Not applicable where this kernel does not know its process by it."""
        self._require_known()
        return self.pid

    @property
    def lends(self) -> bool:
        """Returns True if this kernel knows its process, with its descriptors."""
        return self._via.known

    def require_own_calls(self) -> None:
        """Ends the test as not applicable if the call that the agent waits for requests by is not made by its own code."""
        at, agent = AgentSignals(self._agent, self.process).idle_at, self._agent
        if at not in agent.info.code and at != landing_pad(agent):
            not_applicable(
                f"calls that this kernel sees as they are made, not as {self._via.implementation} makes them"
            )

    def set_filter(self, program: Sequence[bytes]) -> None:
        """Installs a seccomp filter in the agent."""
        self.require_own_calls()
        super().set_filter(program)

    def signals(self) -> Signals:
        """Returns what handles signals in the agent."""
        self._require_known()
        return super().signals()

    def adopt(self, descriptor: int) -> int:
        """Takes a copy of a descriptor of the test's process. Not applicable where `process` is not."""
        self._require_known()
        return super().adopt(descriptor)

    def _require_known(self) -> None:
        if not self._via.known:
            not_applicable(f"the process of {self._via.implementation}, with its descriptors, as this kernel knows it")

    def _do(self, name: str, *words: int) -> int:
        """Makes an untraced call of set-up, and returns its result."""
        result = self._agent.call(NUMBERS[name], *words)
        if result < 0:
            not_applicable(f"{name} by {self._via.implementation}, for set-up: {os.strerror(-result)}")
        if result and name not in RETURNS_VALUE:
            not_applicable(f"{name} by {self._via.implementation}, for set-up: it returns {result}, not 0")
        return result
