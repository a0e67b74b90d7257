"""Agents that a command runs: `--via 'qemu-i386-static {agent}'`, in the sandbox of each test, without a tracer."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from probes.entry.agent import Agent, AgentError
from probes.entry.agent_gate import AgentGate, gate_names
from probes.entry.agent_start import PROGRAM
from probes.errors import CommandError
from probes.sandbox import messages, sandbox, trial
from probes.sandbox.channel import Channel
from probes.sandbox.sandbox import CannotSandbox, SandboxSpec
from probes.sandbox.work import work_directory
from probes.testing import procfs
from probes.testing.caller import NUMBERS, AgentCaller
from probes.testing.expect import not_applicable

AGENT = "{agent}"
#: The name of the agent's file in the directory of a sandbox.
_FILE = "socketcall-agent"
#: Seconds that the command has to start the agent, at the beginning of a run.
START = 20.0
_GETPID, _SOCKET, _AF_UNIX, _SOCK_STREAM = 20, 359, 1, 1
_PRCTL, _PR_SET_PDEATHSIG, _SIGKILL = 172, 1, 9


@dataclass(frozen=True)
class Via:
    """Describes a command that runs agents. `text` is its line, with {agent} for the agent's file.

    `implementation` is what answers the calls there. `hosted`: it makes its sockets in the kernel of this machine, so
    that /proc shows them.
    """

    text: str
    implementation: str
    gate_names: tuple[str, ...] = ()
    hosted: bool = True
    named: bool = False

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
            channel.send(messages.Broke(f"cannot run {first!r}: {error.strerror}"))

    try:
        with work_directory() as work:
            spec = SandboxSpec(trace="none", isolation=found.isolation)
            result = sandbox.run(body, spec, channel, work, 10 * patience)
    except CannotSandbox as error:
        raise CommandError(f"--via: no sandbox: {error}") from error
    for message in result.messages:
        if isinstance(message, messages.Report):
            gates = tuple(message.data["gates"])
            return Via(text, via.implementation, gates, bool(message.data["hosted"]), via.named)
        if isinstance(message, messages.Broke):
            raise CommandError(f"--via: {message.why}")
    raise CommandError(f"--via: `{text}` ended its sandbox, with wait status {result.status}")


def _examined(agent: Agent) -> dict[str, object]:
    """Returns the gates of an agent that work, and whether its sockets are this kernel's. Raises AgentError."""
    for name in gate_names(agent):
        if (got := AgentGate(agent, name).enter(_GETPID)) != agent.info.pid:
            raise AgentError(f"getpid by {name} returns {got!r}, the agent's process id is {agent.info.pid}")
    made = agent.call(_SOCKET, _AF_UNIX, _SOCK_STREAM, 0)
    try:
        hosted = made >= 0 and str(Path(f"/proc/{agent.info.pid}/fd/{made}").readlink()).startswith("socket:")
    except OSError:
        hosted = False
    return {"gates": list(gate_names(agent)), "hosted": hosted}


class ViaCaller(AgentCaller):
    """Is an agent that a command runs. A test is not applicable if it cannot do the set-up."""

    def __init__(self, via: Via, until: float | None) -> None:
        """Starts it. It may take until that time (time.monotonic), None for ever. Raises AgentError, OSError."""
        self._via = via
        self._agent = via.start(None, until)
        self.pid = self._agent.info.pid
        procfs.shows_sockets(via.hosted)

    def lend(self, descriptor: int) -> int:
        """Takes a copy of a descriptor of the agent."""
        if not self._via.hosted:
            not_applicable(f"descriptors of {self._via.implementation} that this kernel knows")
        return super().lend(descriptor)

    def _do(self, name: str, *words: int) -> int:
        """Makes an untraced call of set-up, and returns its result."""
        result = self._agent.call(NUMBERS[name], *words)
        if result < 0:
            not_applicable(f"{name} by {self._via.implementation}, for set-up: {os.strerror(-result)}")
        return result
