"""Records, in the sandbox of a test, what its agent does and what the test expects of that.

The log is a list of steps: calls, bytes written and read, pages mapped and protected. Checks refer to calls and reads by
their index. A step that a script cannot repeat ends the log, with the reason; the test itself goes on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast

from probes.entry.agent_driver import Driver
from probes.entry.agent_gate import AgentGate, AgentSpace
from probes.entry.files import LocalFiles
from probes.entry.gate import Gate, Result
from probes.entry.machine.code import LOOP
from probes.entry.memory import PAGE, PROT_NONE, PROT_READ, PROT_WRITE, Memory, OutOfMemory
from probes.report.check import Json
from probes.sandbox.namespaces import LOOPBACK_UP, SIOCSIFFLAGS
from probes.script import seen
from probes.script.log import Log, RecordedResult
from probes.script.seen import Seen
from probes.script.watch import Watch
from probes.testing import expect, procfs
from probes.testing.caller import NUMBERS, AgentCaller
from probes.testing.callers import CallerKind
from probes.testing.signals import Signals

#: By how much every address of a second recording is higher: words that differ by this are pointers.
SHIFT = 0x4000000
#: Where the second recording's first arena, and mappings at no address of the test's own, begin.
_LOW = 0x60000000
_ARENA_SIZE, _FIRST_ARENA = 64 << 20, 0x70000000
#: Descriptors that a second recording opens before the test, so that the numbers of all later ones differ.
_OPENED = 7
_DUP, _SOCKET, _IOCTL, _MMAP2, _MPROTECT, _MUNMAP = 41, 359, 54, 192, 125, 91
_WRITE, _OPEN, _CLOSE = 4, 5, 6
_MAP_FIXED = 0x32  # MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
_AF_INET, _AF_NETLINK, _SOCK_DGRAM, _CLONE_NEWNET = 2, 16, 2, 0x40000000
#: What Python does to the process that calls or to its surroundings, by audit event (sys.addaudithook).
_ACTS = {
    "socket.__new__": "makes sockets by Python", "os.fork": "forks by Python", "os.posix_spawn": "starts a program",
    "subprocess.Popen": "starts a program", "os.kill": "sends signals by Python", "os.mkdir": "changes files by Python",
    "os.rename": "changes files by Python", "os.remove": "changes files by Python", "os.link": "changes files by Python",
    "os.symlink": "changes files by Python", "os.chmod": "changes files by Python", "os.chown": "changes files by Python",
    "os.chdir": "changes its directory by Python", "resource.prlimit": "sets limits by Python",
    "resource.setrlimit": "sets limits by Python", "_thread.start_new_thread": "has threads",
}  # fmt: skip


class _Gate(AgentGate):
    """Is a gate whose calls are recorded."""

    def __init__(self, agent: Driver, name: str, log: Log, quiet: bool = False) -> None:
        super().__init__(agent, name, quiet)
        self._log = log

    def enter(
        self, eax: int, ebx: int = 0, ecx: int = 0, edx: int = 0, esi: int = 0, edi: int = 0, ebp: int | None = None,
        *, others: Mapping[str, int] | None = None, flags: int = 0,
    ) -> Result:  # fmt: skip
        """Makes one call; see Gate.enter."""
        if flags:
            self._log.stop("sets the flags register")
        words = [word & 0xFFFFFFFF for word in (eax, ebx, ecx, edx, esi, edi, ebp or 0)]
        step = self._log.add(call=words, result=None)
        result = super().enter(eax, ebx, ecx, edx, esi, edi, ebp, others=others, flags=flags)
        made = RecordedResult(int(result))
        made.__dict__.update(result.__dict__, step=step, log=self._log)
        if step >= 0:
            self._log.steps[step]["result"] = int(result)
        return made

    def quieted(self) -> Gate:
        """Returns a gate whose calls are recorded too."""
        return _Gate(self.agent, self.name, self._log, quiet=True)

    def function(self, code: Mapping[int, tuple[bytes, int]]) -> Callable[[int], None]:
        """Ends the log: a script has no machine code of a test."""
        loop = code is LOOP
        self._log.stop("sweeps a range by the loop in machine code" if loop else "runs machine code of its own")
        return super().function(code)


class _Space(AgentSpace):
    """Is an address space at addresses that a script can have too; a second recording's are higher by SHIFT."""

    def __init__(self, agent: Driver, log: Log, shift: int) -> None:
        super().__init__(agent)
        self._log, self._shift = log, shift
        self._low = 0

    def map_low(self, size: int, protection: int = PROT_READ | PROT_WRITE, /) -> int:
        """Maps zeroed pages."""
        size = -(-size // PAGE) * PAGE
        with self._log.paused():
            if not self._low:
                self._low = _LOW + self._shift
                super().map_at(self._low, _ARENA_SIZE // 2)
                super().protect(self._low, _ARENA_SIZE // 2, PROT_NONE)
            if self._low + size > _LOW + self._shift + _ARENA_SIZE // 2:
                raise OutOfMemory("a recorded test has 32 MiB of mappings")
            address = self._low
            self._low += size
            super().protect(address, size, PROT_READ | PROT_WRITE)
        if protection != PROT_READ | PROT_WRITE:
            self.protect(address, size, protection)
        return address

    def map_at(self, address: int, size: int, /) -> None:
        """Maps zeroed pages at an address: those of an arena, which a script has without a step, or the test's own."""
        if size == _ARENA_SIZE:
            if self._shift and address == _FIRST_ARENA:
                raise OutOfMemory("the first arena of a second recording is another one")
            super().map_at(address, size)
            return
        super().map_at(address, size)
        call = [_MMAP2, address, size, PROT_READ | PROT_WRITE, _MAP_FIXED, 0xFFFFFFFF, 0]
        self._log.add(call=call, result=address, setup=True)

    def unmap(self, address: int, size: int, /) -> None:
        """Unmaps pages."""
        super().unmap(address, size)
        self._log.add(call=[_MUNMAP, address, size, 0, 0, 0, 0], result=0, setup=True)

    def protect(self, address: int, size: int, protection: int, /) -> None:
        """Changes the protection of pages."""
        super().protect(address, size, protection)
        self._log.add(call=[_MPROTECT, address, size, protection, 0, 0, 0], result=0, setup=True)

    def read(self, address: int, size: int, /) -> bytes:
        """Returns bytes with their place."""
        data = super().read(address, size)
        return Seen.at(data, self._log.add(read=address, data=data.hex()))

    def write(self, address: int, data: bytes, /) -> None:
        """Writes bytes."""
        super().write(address, data)
        source = {"seen": [data.read, data.offset]} if isinstance(data, Seen) and not data.left_out else {}
        self._log.add(write=address, data=bytes(data).hex(), **source)


class RecordedCaller(AgentCaller):
    """Is an agent whose calls and memory are recorded."""

    def __init__(self, log: Log, shift: int) -> None:
        """Starts it."""
        with log.paused():
            if shift:
                # The second agent has another process id.
                os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
            super().__init__(False)
        self._log, self._shift = log, shift
        # The same object: /proc is read as for any native agent.
        procfs.local().write = self._write  # type: ignore[method-assign]
        procfs.netlink_found = self._open_netlink
        self._memory: Memory | None = None
        for _ in range(_OPENED if shift else 0):
            self._agent.call(_DUP, 0)
        log.on = True

    def unrecorded(self) -> AbstractContextManager[None]:
        """Returns a context in which nothing is recorded."""
        return self._log.paused()

    def gate(self, name: str) -> Gate:
        """Returns one of its gates."""
        return _Gate(self._agent, name, self._log)

    def memory(self) -> Memory:
        """Returns the memory of the test, one for all who ask."""
        if self._memory is None:
            self._memory = Memory(_Space(self._agent, self._log, self._shift))
        return self._memory

    def new_network(self) -> None:
        """Moves to a new network namespace, with the test's process. Its loopback link is brought up by calls."""
        self.unshare(_CLONE_NEWNET)
        request = self.memory().put(LOOPBACK_UP)
        made = self._call(_SOCKET, _AF_INET, _SOCK_DGRAM, 0)
        self._call(_IOCTL, made, SIOCSIFFLAGS, request.address)
        self._call(_CLOSE, made)

    def enter(self, pid: int, flags: int) -> None:
        """Ends the log: the process whose namespaces are entered is the suite's own."""
        self._log.stop("enters the namespaces of a process of the suite")
        super().enter(pid, flags)

    def _write(self, path: str, data: bytes, /) -> None:
        """Writes a sysctl of the network by calls of the agent; a script does so in a network of its own only."""
        if not path.startswith("/proc/sys/net/"):
            self._log.stop(f"writes {path}")
            LocalFiles.write(cast(LocalFiles, procfs.local()), path, data)
            return
        self._log.network = True
        memory = self.memory()
        name, text = memory.put(path.encode() + b"\0"), memory.put(data)
        opened = self._call(_OPEN, name.address, os.O_WRONLY)
        self._call(_WRITE, opened, text.address, text.size)
        self._call(_CLOSE, opened)

    def _open_netlink(self, protocol: int) -> None:
        """Opens a socket of a protocol: where a script's kernel does not have it, what the test expects is not judged."""
        self._call(_CLOSE, self._call(_SOCKET, _AF_NETLINK, _SOCK_DGRAM, protocol))

    def signals(self) -> Signals:
        """Ends the log: another process acts on the caller while it is blocked."""
        self._log.stop("is acted on by another process")
        return super().signals()

    def adopt(self, descriptor: int) -> int:
        """Ends the log: the descriptor is Python's."""
        self._log.stop("takes a descriptor of Python's")
        return super().adopt(descriptor)

    def _do(self, name: str, *words: int) -> int:
        return self._call(NUMBERS[name], *words)

    def _call(self, number: int, *words: int) -> int:
        registers = [word & 0xFFFFFFFF for word in (number, *words)]
        step = self._log.add(call=registers + [0] * (7 - len(registers)), result=None, setup=True)
        result = self._agent.call(*registers)
        if result < 0:
            raise OSError(-result, f"the agent's call {number}: {os.strerror(-result)}")
        if step >= 0:
            self._log.steps[step]["result"] = result
        return result


@dataclass(frozen=True)
class RecordedKind(CallerKind):
    """Is the native agent, recorded."""

    def start(self, stopped: bool, until: float | None) -> RecordedCaller:
        """Starts one, in the sandbox of its test."""
        assert _log is not None
        return RecordedCaller(_log, _shift)


#: The log of this process, and by how much its addresses are higher.
_log: Log | None = None
_shift = 0


def begin(second: bool) -> Log:
    """Begins the log of this process, the sandbox of one test."""
    global _log, _shift
    log = _log = Log()
    _shift = SHIFT if second else 0
    seen.follow()
    expect.watch(Watch(log))

    procfs.Protocols.asked = log.protocols

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if event in _ACTS:
            log.stop(_ACTS[event])
        elif event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR):
            log.stop(f"writes {args[0]}" if str(args[0]).startswith("/proc") else "writes files by Python")

    sys.addaudithook(audit)
    return log


def end(log: Log) -> dict[str, Json]:
    """Ends the log of this process, and returns it for the parent."""
    with log.paused():
        log.end_where_it_branches()
        log.files = bool(os.listdir())  # noqa: PTH208
    return log.as_json()
