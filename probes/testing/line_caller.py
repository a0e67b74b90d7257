"""The caller of tests whose agent is on another machine, which shares nothing with the process of the test."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NoReturn

from probes.entry.agent_driver import Driver
from probes.entry.files import AgentFiles
from probes.sandbox import namespaces
from probes.testing import guest
from probes.testing.caller import NUMBERS, AgentCaller
from probes.testing.expect import not_applicable
from probes.testing.signals import Signals

_CLONE_NEWNET, _PR_SET_DUMPABLE = 0x40000000, 4
_FCNTL, _F_DUPFD = 55, 0


class LineCaller(AgentCaller):
    """Is a child of the agent of another machine. A test is not applicable if it cannot do the set-up."""

    def __init__(self, agent: Driver, implementation: str, world: guest.World) -> None:
        """Takes an agent that serves, and queues what the test needs around it."""
        self._agent, self._implementation, self._world = agent, implementation, world
        self.pid = agent.info.pid
        self.files = AgentFiles(agent, world.initial) if world.proc else None
        guest.set_up(agent, world)

    @property
    def process(self) -> int:
        """Ends the test: this kernel has no process of it."""
        self._lacks("a process that this kernel knows")

    @property
    def lends(self) -> bool:
        """Returns False: its descriptors are those of another machine."""
        return False

    def signals(self) -> Signals:
        """Ends the test: what it does while the process sleeps is done on this machine."""
        self._lacks("another process that sends it signals")

    def keep_capabilities(self, names: Iterable[str]) -> None:
        """Drops every capability but these."""
        self._set_capabilities(names)

    def drop_capability(self, name: str) -> None:
        """Drops one capability."""
        self._set_capabilities(other for other in namespaces.CAPABILITIES if other != name)

    def become(self, uid: int) -> None:
        """Changes to another user and group id."""
        self._do("setgroups32", 0, 0)
        self._do("setresgid32", uid, uid, uid)
        self._do("setresuid32", uid, uid, uid)
        self._do("prctl", _PR_SET_DUMPABLE, 1)

    def unshare(self, flags: int) -> None:
        """Leaves the namespaces of these flags."""
        self._do("unshare", flags)

    def new_network(self) -> None:
        """Moves to a new network namespace with nothing but the loopback link, which is up."""
        self.unshare(_CLONE_NEWNET)
        free = self._agent.call(_FCNTL, 0, _F_DUPFD, 0)
        self._do("close", free)
        guest.new_network(self._agent, self._world, free)

    def enter(self, pid: int, flags: int) -> None:
        """Ends the test: the process whose namespaces it wants is on this machine."""
        self._lacks("a process beside the caller")

    def adopt(self, descriptor: int) -> int:
        """Ends the test: the descriptor is one of this machine."""
        self._lacks("descriptors of the test's process")

    def lend(self, descriptor: int) -> int:
        """Ends the test: the descriptor is one of another machine."""
        self._lacks("descriptors that this kernel knows")

    def _lacks(self, what: str) -> NoReturn:
        not_applicable(f"{what}: {self._implementation} is another machine")

    def _do(self, name: str, *words: int) -> int:
        """Makes an untraced call of set-up, and returns its result."""
        result = self._agent.call(NUMBERS[name], *words)
        if result < 0:
            not_applicable(f"{name} by {self._implementation}, for set-up: {os.strerror(-result)}")
        return result
