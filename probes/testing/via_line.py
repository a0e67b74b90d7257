"""Agents at the other end of a line (`--via-tty PATH`) or in a machine that a command boots (`--boot COMMAND`).

The first agent of the machine lasts for the whole run, and every test gets a child of it: `Machine.begin`, `Machine.end`.
"""

from __future__ import annotations

import functools
import os
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from probes.entry.agent_frames import AgentError
from probes.entry.agent_line import LineAgent, MachineLost
from probes.entry.agent_start import PROGRAM
from probes.entry.initramfs import initramfs
from probes.entry.line import BootedLine, Line, NoLine, open_line
from probes.errors import CommandError
from probes.testing import guest
from probes.testing.caller import Caller
from probes.testing.line_caller import LineCaller
from probes.testing.via import AGENT, START, Via, examined_gates

#: Stands for an initramfs whose process 1 is the agent.
INITRD = "{initrd}"
#: Seconds that a machine may take to boot, and how many times --deadline that may be.
BOOT, _TIMES = 120.0, 10.0
#: Seconds in which an agent that is not blocked answers, and those by which a deadline is exceeded before it is lost.
_ANSWER = 10.0
#: Seconds that a call may take in a machine in which tests need no more than their usual time, the calls that are measured,
#: and the most that the time of a test is multiplied by.
_FAST, _CALLS, _SLOWEST = 0.0005, 40, 10.0
_GETPID = 20
#: How often a machine is started in a row before the run ends.
_ATTEMPTS = 2


class Machine:
    """Holds the machine of a run in this process. It is started when it is first needed, and anew after it was lost."""

    def __init__(self, open_it: Callable[[], Line], boots: bool, patience: float) -> None:
        """Take what opens the line. `patience` are the seconds that it may take until an agent answers."""
        self._open, self.boots, self.patience = open_it, boots, patience
        self.agent: LineAgent | None = None
        self._has_served = False
        #: By which factor tests take longer there, as far as that is known.
        self.slowness = 1.0

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Returns those that a process needs which uses the line."""
        return () if self.agent is None else self.agent.line.descriptors

    @property
    def longest(self) -> float:
        """Returns the seconds that `begin` and `end` may take together, beyond the time of a test."""
        return _ATTEMPTS * (self.patience + _ANSWER) + _ANSWER

    def begin(self) -> None:
        """Makes a child of the first agent serve.

        Raises MachineLost where it does not answer and cannot be started anew; NoLine, OSError where it never could.
        """
        for attempt in range(_ATTEMPTS):
            try:
                self._started().begin(time.monotonic() + _ANSWER)
                self._has_served = True
                return
            except (NoLine, OSError) as error:
                if not self._has_served:
                    raise
                raise MachineLost(f"it cannot be reached again: {error}") from None
            except AgentError as error:
                self.close()
                if attempt or not self.boots:
                    raise MachineLost(str(error)) from None

    def end(self, until: float | None) -> str:
        """Returns to the first agent after a test that had time until `until`. Returns why the machine is lost, or ""."""
        assert self.agent is not None
        now = time.monotonic()
        try:
            self.agent.resume(max(now, until or now) + _ANSWER)
        except AgentError as error:
            self.close()
            return str(error)
        return ""

    def _started(self) -> LineAgent:
        if self.agent is None:
            self.agent = LineAgent(self._open())
            end = time.monotonic() + self.patience
            if self.boots:
                self.agent.start(end)
            else:
                self.agent.meet(end)
        return self.agent

    def leave(self) -> None:
        """Leaves the line to the process that this one was forked from; a machine of its own is started if need be."""
        if self.agent is not None:
            for descriptor in self.agent.line.descriptors:
                os.close(descriptor)
        self.agent = None

    def close(self) -> None:
        """Closes the line, which ends a machine that was booted."""
        if self.agent is not None:
            self.agent.line.close()
        self.agent = None


@dataclass(frozen=True)
class ViaLine(Via):
    """Describes a machine whose agent is reached over a line. `option` names the option that `text` is the value of.

    `world` is what was found there: see probes/testing/guest.py.
    """

    option: str = "boot"
    machine: Machine = field(kw_only=True, compare=False)
    world: guest.World = field(default_factory=guest.World)

    def __str__(self) -> str:
        """Returns what answers the calls, and in what isolation."""
        return f"{self.implementation}, over a line, {self.world}"

    @property
    def words(self) -> list[str]:
        """Returns the words of a command line that choose it."""
        return [f"--{self.option}", self.text, *(["--implementation", self.implementation] if self.named else [])]

    @property
    def facts(self) -> dict[str, object]:
        """Returns what the first line of results.jsonl has of it."""
        return {self.option.replace("-", "_"): self.text}

    @property
    def isolation(self) -> str:
        """Returns the isolation of tests there."""
        return "net" if self.world.isolated else "none"

    @property
    def kernel(self) -> dict[str, str]:
        """Returns what is known of its kernel."""
        return dict(zip(("release", "version", "machine"), self.world.kernel, strict=True))

    def caller(self, until: float | None) -> Caller:
        """Takes the child that the machine has ready for the test of this process."""
        assert self.machine.agent is not None
        self.machine.agent.limit(until)
        self.machine.agent.abi = "ia32-compat" if self.world.kernel[2] == "x86_64" else "i386"
        return LineCaller(self.machine.agent, self.implementation, self.world)


def of_terminal(path: str, implementation: str | None, deadline: float | None) -> ViaLine:
    """Finds the agent at the other end of a line. Raises CommandError: there is none."""
    machine = Machine(lambda: open_line(Path(path)), False, deadline or START)
    return _tried(path, implementation or Path(path).name, implementation is not None, "via-tty", machine)


def of_command(text: str, implementation: str | None, deadline: float | None) -> ViaLine:
    """Boots the machine of a command. Raises CommandError: it does not come to an agent."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise CommandError(f"--boot: {text!r}: {error}; quote it as for a shell") from error
    if not words:
        raise CommandError("--boot: the command is empty")

    def boot() -> Line:
        command = [word.replace(INITRD, _path(initramfs())).replace(AGENT, _path(PROGRAM)) for word in words]
        return BootedLine(command, words[0])

    machine = Machine(boot, True, BOOT if deadline is None else _TIMES * deadline)
    name = implementation or Path(words[0]).name
    return _tried(text, name, implementation is not None, "boot", machine)


@functools.cache
def _path(data: bytes) -> str:
    """Returns the path of a file in memory, which other processes can open as long as this one lives."""
    descriptor = os.memfd_create("socketcall-boot")
    os.write(descriptor, data)
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def _slowness(agent: LineAgent) -> float:
    began = time.monotonic()
    for _ in range(_CALLS):
        agent.call(_GETPID)
    return min(_SLOWEST, max(1.0, (time.monotonic() - began) / _CALLS / _FAST))


def _tried(text: str, implementation: str, named: bool, option: str, machine: Machine) -> ViaLine:
    """Makes a child serve once, and returns what was found. Raises CommandError."""
    what = f"--{option}"
    try:
        machine.begin()
        agent = machine.agent
        assert agent is not None
        agent.limit(time.monotonic() + _ANSWER)
        machine.slowness = _slowness(agent)
        gates = examined_gates(agent)
        world = guest.found(agent)
        lost = machine.end(None)
    except NoLine as error:
        raise CommandError(f"{what}: {error}") from error
    except OSError as error:
        raise CommandError(f"{what}: cannot run {text!r}: {error.strerror}") from error
    except AgentError as error:
        machine.close()
        raise CommandError(f"{what}: {error}") from error
    if lost:
        raise CommandError(f"{what}: {lost}")
    return ViaLine(
        text, implementation, gates, hosted=False, known=False, named=named, shows=world.proc,
        option=option, machine=machine, world=world,
    )  # fmt: skip
