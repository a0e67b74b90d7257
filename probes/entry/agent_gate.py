"""Make calls by an agent: the gates and the memory of its process, in place of this process's."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from probes.abi.fetch import fetch
from probes.abi.note import with_memory
from probes.abi.operations import BY_NAME, SOCKETCALL, named
from probes.abi.record import Record, unsigned
from probes.entry.agent_driver import Driver
from probes.entry.agent_frames import CALL, AgentError, Refused
from probes.entry.gate import COOKIE, SIX_ARGUMENTS, FrameLayout, Gate, Result, next_call_id
from probes.entry.memory import PAGE, PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE, OutOfMemory
from probes.entry.vdso import LANDING

#: Paths of agent.s; those of a quiet gate are two further.
PATHS = {"int80": 0, "vdso": 1}
_QUIET = 2
_WORD = 32
#: The result of a call in its frame.
_RESULT, _RESULT_AT = struct.Struct("<i"), 32
_MMAP2, _MPROTECT, _MUNMAP = 192, 125, 91
_MAP_PRIVATE, _MAP_FIXED, _MAP_ANONYMOUS, _MAP_NORESERVE, _MAP_FIXED_NOREPLACE = 0x02, 0x10, 0x20, 0x4000, 0x100000
_MAP = _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE
_PRCTL, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 172, 38, 22, 2
#: Address space that is reserved at once; mappings are pieces of it, for which no answer has to be waited.
_RESERVED = 64 << 20
_VDSO_ROOM = 2 * PAGE


@dataclass(frozen=True)
class Read:
    """Holds what a call that no tracer sees reads, as the driver wrote it: its words, and what they point to."""

    words: tuple[int, ...]
    memory: Mapping[str, bytes]

    @classmethod
    def by(cls, agent: Driver, registers: Sequence[int]) -> Read:
        """Look up what a call with these registers is going to read."""
        operation = BY_NAME.get(named(registers[0], registers[1])[0])
        if operation is None:
            return cls((), {})
        words = tuple(registers[1 : 1 + operation.words])
        if registers[0] == SOCKETCALL:
            data = agent.wrote(registers[2], 4 * operation.words)
            words = struct.unpack_from(f"<{len(data) // 4}I", data)
        return cls(words, fetch(operation, words, agent.wrote, None, _WORD))


class AgentResult(Result):
    """Is the result of a call that an agent made. `frame` is its frame: see agent.s. `read`: what the call read."""

    layout: ClassVar[FrameLayout] = FrameLayout(_WORD)
    pid: int
    abi: str
    read: Read | None = None

    @property
    def caller(self) -> tuple[int, int]:
        """Return the agent's process and thread."""
        return self.pid, self.pid

    def record(self) -> Record:
        """Return a record of the call; see Result.record. One by a command's agent has words and memory as written."""
        record = super().record()
        return record if self.read is None else with_memory(record, self.abi, self.read.words, self.read.memory)

    @property
    def stack_pointers(self) -> tuple[int, int]:
        """Return esp before and after the call."""
        before, after = (int.from_bytes(self.frame[at : at + 4], "little") for at in (100, 104))
        return before, after


class AgentGate(Gate):
    """Enters the kernel in the process of an agent, by the same names as Gate.

    `ip` of the vDSO's gate is 0: where its landing pad lies differs from process to process.
    """

    def __init__(self, agent: Driver, name: str, quiet: bool = False) -> None:
        """Take an agent. Raises LookupError: it has no __kernel_vsyscall."""
        if name == "vdso" and not agent.info.sysinfo:
            raise LookupError("the agent has no __kernel_vsyscall (AT_SYSINFO)")
        self.agent, self.name, self.quiet, self.word = agent, name, quiet, _WORD
        self._path = PATHS[name] + (_QUIET if quiet else 0)
        self.page = agent.info.code.start & -PAGE
        self.returns = agent.info.vdso_return if name == "vdso" else agent.info.int80
        self.ip = agent.info.int80 if name == "int80" else 0

    def enter(
        self,
        eax: int,
        ebx: int = 0,
        ecx: int = 0,
        edx: int = 0,
        esi: int = 0,
        edi: int = 0,
        ebp: int | None = None,
        *,
        others: Mapping[str, int] | None = None,
        flags: int = 0,
    ) -> Result:
        """Make one call and return its result; see Gate.enter. There are no `others`. Raises AgentError."""
        if ebp is None:
            ebp = COOKIE if self.name == "vdso" and eax not in SIX_ARGUMENTS and not self.quiet else 0
        call_id, m = next_call_id(), 0xFFFFFFFF
        registers = (eax & m, ebx & m, ecx & m, edx & m, esi & m, edi & m, ebp & m)
        read = Read.by(self.agent, registers) if self.agent.keeps_writes else None
        try:
            frame = self.agent.enter(self._path, registers, call_id, flags)
        except AgentError as error:
            error.calling, error.quiet = error.unanswered, self.quiet
            error.call = self._unanswered(registers, call_id, read)
            raise
        result = AgentResult(_RESULT.unpack_from(frame, _RESULT_AT)[0])
        return self._noted(result, call_id, frame, read)

    def _noted(self, result: AgentResult, call_id: int, frame: bytes, read: Read | None) -> AgentResult:
        result.call_id, result.frame, result.gate, result.pid = call_id, frame, self.name, self.agent.info.pid
        result.abi, result.read = self.agent.abi, read
        return result

    def _unanswered(self, registers: Sequence[int], call_id: int, read: Read | None) -> Record:
        """Return the record of a call from which its process has not come back."""
        frame = struct.pack("<8I", *registers, call_id).ljust(AgentResult.layout.whole.size, b"\0")
        # An error: nothing was written, so nothing is decoded of the memory after it.
        record = self._noted(AgentResult(-1), call_id, frame, read).record()
        return replace(record, regs_out=None, ret=None)

    def quieted(self) -> Gate:
        """Return a quiet gate of the same name, in the same process."""
        return AgentGate(self.agent, self.name, quiet=True)

    def function(self, code: Mapping[int, tuple[bytes, int]]) -> Callable[[int], None]:
        """Load machine code into the agent: see Gate.function."""
        program, slot = code[_WORD]
        # call [cell]: gs:0x10 holds the address in programs that have a C library.
        vdso = b"\xff\x15" + self.agent.info.sysinfo_cell.to_bytes(4, "little") + b"\x90"
        entry = vdso if self.name == "vdso" else bytes.fromhex("cd80 0f1f440000")
        space = AgentSpace(self.agent)
        page = space.map_low(PAGE)
        space.write(page, program[:slot] + entry + program[slot + len(entry) :])
        space.protect(page, PAGE, PROT_READ | PROT_EXEC)

        def run(address: int) -> None:
            try:
                self.agent.ask(CALL, page, address)
            except AgentError as error:
                error.calling = error.unanswered
                raise

        return run


class AgentSpace:
    """Is the address space of an agent: see probes.entry.memory.Space.

    Only `read` and `map_at` wait for the agent. What the other methods request is sent before the next call or read,
    which raises if the agent refused it.
    """

    def __init__(self, agent: Driver) -> None:
        """Reserve nothing yet."""
        self._agent = agent
        self._next = self._end = 0

    def map_low(self, size: int, protection: int = PROT_READ | PROT_WRITE, /) -> int:
        """Map zeroed pages, and return their address. Raises OutOfMemory."""
        size = -(-size // PAGE) * PAGE
        if self._next + size > self._end:
            room = max(size, _RESERVED)
            self._next = self._map(0, room, PROT_NONE, _MAP)
            self._end = self._next + room
        address = self._next
        self._next += size
        if protection != PROT_NONE:
            self.protect(address, size, protection)
        return address

    def map_at(self, address: int, size: int, /) -> None:
        """Map zeroed pages at an address. Raises OutOfMemory: the range is in use, or not available."""
        found = self._map(address, size, PROT_READ | PROT_WRITE, _MAP | _MAP_FIXED_NOREPLACE)
        if found != address:
            self.unmap(found, size)
            raise OutOfMemory(f"mmap of {size} bytes at {address:#x}: the kernel chose {found:#x}")

    def _map(self, address: int, size: int, protection: int, flags: int) -> int:
        result = self._agent.call(_MMAP2, address, size, protection, flags, -1, 0)
        if -PAGE < result < 0:
            raise OutOfMemory(f"the agent's mmap of {size} bytes at {address:#x} fails with errno {-result}")
        return unsigned(result)

    def unmap(self, address: int, size: int, /) -> None:
        """Unmap pages."""
        self._agent.post_call(f"munmap {address:#x}", 0, _MUNMAP, address, size)

    def protect(self, address: int, size: int, protection: int, /) -> None:
        """Change the protection of pages."""
        self._agent.post_call(f"mprotect {address:#x}", 0, _MPROTECT, address, size, protection)

    def read(self, address: int, size: int, /) -> bytes:
        """Return bytes. Raises Refused: they are not readable."""
        return self._agent.read(address, size)

    def write(self, address: int, data: bytes, /) -> None:
        """Write bytes."""
        self._agent.write(address, data)


def gate_names(agent: Driver) -> tuple[str, ...]:
    """Return the names of an agent's gates: int80, and vdso where it has one."""
    return ("int80", "vdso") if agent.info.sysinfo else ("int80",)


def landing_pad(agent: Driver) -> int:
    """Return the instruction pointer of every call through the vDSO of an agent, 0 if it has none."""
    if not agent.info.sysinfo:
        return 0
    # A page may be the last.
    for size in (_VDSO_ROOM, PAGE):
        first = agent.info.sysinfo & -PAGE
        try:
            offset = agent.read(first, size).find(LANDING, agent.info.sysinfo - first)
        except Refused:
            continue
        return first + offset + 2 if offset >= 0 else 0
    return 0


def install_filter(agent: Driver, program: bytes) -> None:
    """Install a seccomp filter, a sequence of instructions, in an agent. Raises Refused, OutOfMemory."""
    page = AgentSpace(agent).map_low(PAGE)
    agent.write(page, program)
    agent.write(page + PAGE - 8, (len(program) // 8).to_bytes(4, "little") + page.to_bytes(4, "little"))
    agent.post_call("PR_SET_NO_NEW_PRIVS", 0, _PRCTL, _PR_SET_NO_NEW_PRIVS, 1)
    agent.post_call("PR_SET_SECCOMP", 0, _PRCTL, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, page + PAGE - 8)
