"""The process that makes the calls of a test: the test's own Python, or an agent that it starts in its sandbox."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from errno import ENOSPC, EPERM
from functools import cached_property
from typing import Protocol

from probes.entry import gate as own
from probes.entry.agent import Agent
from probes.entry.agent_driver import Driver
from probes.entry.agent_gate import AgentGate, AgentSpace, install_filter, landing_pad
from probes.entry.files import Files
from probes.entry.gate import Gate
from probes.entry.memory import Memory
from probes.sandbox import namespaces
from probes.testing import procfs
from probes.testing.expect import not_applicable
from probes.testing.signals import AgentSignals, PythonSignals, Signals
from probes.trace import ptrace, seccomp

_PR_SET_DUMPABLE, _CLONE_NEWUSER, _CLONE_NEWNET = 4, 0x10000000, 0x40000000
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _SECCOMP_MODE_FILTER = 22, 38, 2
#: System calls of the i386 table that change the caller itself.
NUMBERS = {
    "close": 6, "umask": 60, "capset": 185, "setgroups32": 206, "setresuid32": 208, "setresgid32": 210, "unshare": 310,
    "prctl": 172, "setns": 346, "pidfd_open": 434, "pidfd_getfd": 438,
}  # fmt: skip
#: Those whose success is not 0.
RETURNS_VALUE = frozenset({"umask", "pidfd_open", "pidfd_getfd"})
_CAPSET_VERSION = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class Caller(Protocol):
    """Is the process that makes the calls of a test. `pid` is its id in the sandbox, as getpid returns it to it.

    `files` reads those of its machine, None where they do not show what its calls do.
    """

    pid: int
    files: Files | None

    @property
    def lends(self) -> bool:
        """Returns True if `lend` works: this process can have the caller's files and sockets open too."""

    @property
    def process(self) -> int:
        """Returns its id as the kernel of the test's process knows it, for what is read or set by pid from outside.

        The test is not applicable where that kernel does not know it.
        """

    def unrecorded(self) -> AbstractContextManager[None]:
        """Returns a context in which what a test does only observes, and is no part of a recording of it."""

    def require_own_calls(self) -> None:
        """Ends the test as not applicable where the kernel of the test's process sees other calls than the caller makes.

        That is so under an emulator, which makes calls for it, and more of its own.
        """

    def gate(self, name: str) -> Gate:
        """Returns one of its gates."""

    def memory(self) -> Memory:
        """Returns memory of it that calls can point to."""

    def keep_capabilities(self, names: Iterable[str]) -> None:
        """Drops every capability but these; the test is not applicable if the process lacks one of them."""

    def drop_capability(self, name: str) -> None:
        """Drops one capability."""

    def become(self, uid: int) -> None:
        """Changes to another mapped user and group id, which drops every capability."""

    def unshare(self, flags: int) -> None:
        """Leaves the namespaces of these flags (unshare(2)); what the test reads of /proc is in the new ones too.

        The test is not applicable where the kernel refuses user namespaces.
        """

    def new_network(self) -> None:
        """Moves to a new network namespace with nothing but the loopback link, which is up."""

    def enter(self, pid: int, flags: int) -> None:
        """Enters the namespaces of a process that these flags name (setns(2)), with the test's process."""

    def umask(self, mask: int) -> int:
        """Sets the mask of file modes, and returns the former one."""

    def set_filter(self, program: Sequence[bytes]) -> None:
        """Installs a seccomp filter of these instructions, which stays (PR_SET_SECCOMP)."""

    def signals(self) -> Signals:
        """Returns what handles signals there. Not applicable where it is no process of this kernel."""

    def adopt(self, descriptor: int) -> int:
        """Returns a descriptor that the caller has of a file or socket that this process has open."""

    def lend(self, descriptor: int) -> int:
        """Returns a new descriptor that this process has of a file or socket that the caller has open."""


def require_capabilities(names: Iterable[str]) -> None:
    """Ends the test as not applicable if this process lacks one of these capabilities, as a container's root may."""
    permitted = namespaces.permitted()
    for name in names:
        if name not in permitted:
            not_applicable(f"the capability {name}")


@contextmanager
def refusable(flags: int) -> Iterator[None]:
    """Ends the test as not applicable if unshare(2) with these flags, made inside for set-up, is refused a user namespace.

    In a chroot it fails with EPERM, above /proc/sys/user/max_user_namespaces with ENOSPC.
    """
    try:
        yield
    except OSError as error:
        if not flags & _CLONE_NEWUSER or error.errno not in (EPERM, ENOSPC):
            raise
        not_applicable(f"user namespaces: {os.strerror(error.errno)}")


class PythonCaller:
    """Is the test's own process."""

    def __init__(self) -> None:
        """Takes this process."""
        self.pid = os.getpid()
        self.files: Files | None = procfs.local()

    @property
    def lends(self) -> bool:
        """Returns True."""
        return True

    @property
    def process(self) -> int:
        """Returns the id of this process, or of its child that runs this."""
        return os.getpid()

    def unrecorded(self) -> AbstractContextManager[None]:
        """Returns a context without effect: nothing is recorded."""
        return nullcontext()

    def require_own_calls(self) -> None:
        """Does nothing."""

    def gate(self, name: str) -> Gate:
        """Returns one of its gates."""
        return own.gate(name)

    def memory(self) -> Memory:
        """Returns memory of it that calls can point to."""
        return Memory()

    def keep_capabilities(self, names: Iterable[str]) -> None:
        """Drops every capability but these."""
        names = tuple(names)
        require_capabilities(names)
        namespaces.keep_capabilities(names)

    def drop_capability(self, name: str) -> None:
        """Drops one capability."""
        namespaces.drop_capability(name)

    def become(self, uid: int) -> None:
        """Changes to another mapped user and group id."""
        namespaces.become(uid)

    def unshare(self, flags: int) -> None:
        """Leaves the namespaces of these flags."""
        with refusable(flags):
            namespaces.unshare(flags)

    def new_network(self) -> None:
        """Moves to a new network namespace."""
        namespaces.new_network()

    def enter(self, pid: int, flags: int) -> None:
        """Enters the namespaces of a process that these flags name."""
        namespaces.enter(pid, flags)

    def umask(self, mask: int) -> int:
        """Sets the mask of file modes, and returns the former one."""
        return os.umask(mask)

    def set_filter(self, program: Sequence[bytes]) -> None:
        """Installs a seccomp filter in this process."""
        ptrace.set_filter(program)

    def signals(self) -> Signals:
        """Returns what handles signals in this process."""
        return PythonSignals()

    def adopt(self, descriptor: int) -> int:
        """Returns the descriptor itself."""
        return descriptor

    def lend(self, descriptor: int) -> int:
        """Returns a duplicate of the descriptor."""
        return os.dup(descriptor)


class AgentCaller:
    """Is an agent, a child of the test's process. What changes its privileges changes those of the test's process too."""

    def __init__(self, stopped: bool) -> None:
        """Starts it. `stopped`: it gets the filter that stops its calls at the gates for the tracer.

        The deadline is that of the sandbox. Raises AgentError, OSError.
        """
        self._agent: Driver = Agent(deadline=None)
        self.pid = self._agent.info.pid
        self.files: Files | None = procfs.local()
        if stopped:
            every = seccomp.is_filtered()
            program = seccomp.at_gates(self._agent.info.int80, landing_pad(self._agent), every=every)
            install_filter(self._agent, b"".join(program))

    @property
    def lends(self) -> bool:
        """Returns True."""
        return True

    @property
    def process(self) -> int:
        """Returns its id."""
        return self.pid

    def unrecorded(self) -> AbstractContextManager[None]:
        """Returns a context without effect: nothing is recorded."""
        return nullcontext()

    def require_own_calls(self) -> None:
        """Does nothing."""

    def gate(self, name: str) -> Gate:
        """Returns one of its gates."""
        return AgentGate(self._agent, name)

    def memory(self) -> Memory:
        """Returns memory of it that calls can point to."""
        return Memory(AgentSpace(self._agent))

    def keep_capabilities(self, names: Iterable[str]) -> None:
        """Drops every capability but these."""
        names = tuple(names)
        require_capabilities(names)
        self._set_capabilities(names)
        namespaces.keep_capabilities(names)

    def _set_capabilities(self, names: Iterable[str]) -> None:
        """Drops every capability of the agent but these."""
        mask = sum(1 << namespaces.CAPABILITIES[name] for name in names)
        low, high = mask & 0xFFFFFFFF, mask >> 32
        data = struct.pack("<Ii6I", _CAPSET_VERSION, 0, low, low, 0, high, high, 0)
        block = self._own.put(data)
        self._do("capset", block.address, block.address + 8)

    def drop_capability(self, name: str) -> None:
        """Drops one capability."""
        self.keep_capabilities(namespaces.capabilities_without(name))

    def become(self, uid: int) -> None:
        """Changes to another mapped user and group id."""
        self._do("setgroups32", 0, 0)
        self._do("setresgid32", uid, uid, uid)
        self._do("setresuid32", uid, uid, uid)
        self._agent.die_with_parent()
        # A change of user makes /proc/PID root's, which the test's process is no longer.
        self._do("prctl", _PR_SET_DUMPABLE, 1)
        namespaces.become(uid)

    def unshare(self, flags: int) -> None:
        """Leaves the namespaces of these flags, which the test's process enters then."""
        with refusable(flags):
            self._do("unshare", flags)
        namespaces.enter(self.process, flags)

    def new_network(self) -> None:
        """Moves to a new network namespace, with the test's process."""
        self.unshare(_CLONE_NEWNET)
        namespaces.bring_loopback_up()

    def enter(self, pid: int, flags: int) -> None:
        """Enters the namespaces of a process that these flags name, with the test's process."""
        process = self._do("pidfd_open", pid, 0)
        self._do("setns", process, flags)
        self._do("close", process)
        namespaces.enter(pid, flags)

    def umask(self, mask: int) -> int:
        """Sets the mask of file modes, and returns the former one."""
        return self._do("umask", mask)

    def set_filter(self, program: Sequence[bytes]) -> None:
        """Installs a seccomp filter in the agent."""
        block = self._own.put(b"".join(program))
        whole = self._own.words(len(program), block)
        self._do("prctl", _PR_SET_NO_NEW_PRIVS, 1)
        self._do("prctl", _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, whole.address)

    def signals(self) -> Signals:
        """Returns what handles signals in the agent."""
        return AgentSignals(self._agent, self.process)

    def adopt(self, descriptor: int) -> int:
        """Takes a copy of a descriptor of the test's process (pidfd_getfd(2))."""
        process = self._do("pidfd_open", os.getpid(), 0)
        taken = self._do("pidfd_getfd", process, descriptor, 0)
        self._do("close", process)
        return taken

    def lend(self, descriptor: int) -> int:
        """Takes a copy of a descriptor of the agent."""
        process = os.pidfd_open(self.process)
        try:
            taken: int = _libc.syscall(NUMBERS["pidfd_getfd"], process, descriptor, 0)
        finally:
            os.close(process)
        if taken < 0:
            raise OSError(ctypes.get_errno(), f"pidfd_getfd of {descriptor}: {os.strerror(ctypes.get_errno())}")
        return taken

    @cached_property
    def _own(self) -> Memory:
        """Memory for set-up."""
        return self.memory()

    def _do(self, name: str, *words: int) -> int:
        """Makes an untraced call, and returns its result. Raises OSError."""
        result = self._agent.call(NUMBERS[name], *words)
        if result < 0:
            raise OSError(-result, f"the agent's {name}: {os.strerror(-result)}")
        return result
