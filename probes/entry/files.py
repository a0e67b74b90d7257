"""Read and write files: of this machine by Python, or of the machine of an agent by calls that it makes itself."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from probes.entry.agent_driver import Driver
from probes.entry.agent_gate import AgentSpace

#: System calls of the i386 table (arch/x86/entry/syscalls/syscall_32.tbl).
_READ, _WRITE, _OPEN, _CLOSE, _READLINK, _GETDENTS64 = 3, 4, 5, 6, 85, 220
_O_DIRECTORY = 0x10000
_ROOM, _PATH_MAX = 0x4000, 4096
#: struct linux_dirent64: d_ino, d_off, d_reclen, d_type; the name follows (getdents(2)).
_ENTRY = struct.Struct("<QqHB")


#: Files of /proc that show more, or are only there, in the initial network namespace (net/core/sysctl_net_core.c).
INITIAL = (
    "/proc/net/netlink", "/proc/sys/net/core/rmem_default", "/proc/sys/net/core/wmem_default",
    "/proc/sys/net/core/optmem_max", "/proc/sys/net/core/rmem_max", "/proc/sys/net/core/wmem_max",
)  # fmt: skip


class Files(Protocol):
    """Reads and writes files and directories. Each method raises OSError, and AgentError where an agent does not reply.

    `initial` has what files of INITIAL held before the test left the network namespace that it was started in.
    """

    @property
    def initial(self) -> Mapping[str, bytes]:
        """Return them by path."""

    def names(self, path: str, /) -> list[str]:
        """Return the names in a directory; of /proc/self/fd without the descriptor that it was read by."""

    def read(self, path: str, /) -> bytes:
        """Return what a file holds."""

    def link(self, path: str, /) -> str:
        """Return what a symbolic link holds."""

    def write(self, path: str, data: bytes, /) -> None:
        """Write to a file that is there, a sysctl, by one write(2)."""


class LocalFiles:
    """Reads files of this machine, as this process sees them."""

    def __init__(self) -> None:
        """Read the initial files."""
        self.initial: Mapping[str, bytes] = initial_files(self)

    def names(self, path: str, /) -> list[str]:
        """Return the names in a directory."""
        found = [entry.name for entry in Path(path).iterdir()]
        if not _own(path):
            return found
        # The listing used the lowest free descriptor, which the next open gets again.
        used = os.open("/", os.O_PATH)
        os.close(used)
        return [name for name in found if name != str(used)]

    def read(self, path: str, /) -> bytes:
        """Return what a file holds."""
        return Path(path).read_bytes()

    def link(self, path: str, /) -> str:
        """Return what a symbolic link holds."""
        return str(Path(path).readlink())

    def write(self, path: str, data: bytes, /) -> None:
        """Write to a file that is there."""
        descriptor = os.open(path, os.O_WRONLY)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)


class AgentFiles:
    """Reads files of the machine of an agent, as the agent sees them, by its open, read, getdents64 and readlink."""

    def __init__(self, agent: Driver, initial: Mapping[str, bytes] | None = None) -> None:
        """Take an agent; memory of it is mapped at the first use."""
        self._agent, self._memory = agent, 0
        self.initial: Mapping[str, bytes] = initial or {}

    def names(self, path: str, /) -> list[str]:
        """Return the names in a directory."""
        used, data = self._whole(path, os.O_RDONLY | _O_DIRECTORY, _GETDENTS64)
        found, at = list[str](), 0
        while at < len(data):
            size = _ENTRY.unpack_from(data, at)[2]
            if size <= _ENTRY.size:
                raise OSError(0, f"the entry at byte {at} of {path} has {size} bytes")
            found.append(data[at + _ENTRY.size : at + size].partition(b"\0")[0].decode(errors="surrogateescape"))
            at += size
        return [name for name in found if name not in (".", "..") and not (_own(path) and name == str(used))]

    def read(self, path: str, /) -> bytes:
        """Return what a file holds."""
        return self._whole(path, os.O_RDONLY, _READ)[1]

    def link(self, path: str, /) -> str:
        """Return what a symbolic link holds."""
        size = self._call(f"readlink {path}", _READLINK, self._named(path), self._room, _ROOM)
        return self._agent.read(self._room, size).decode(errors="surrogateescape")

    def write(self, path: str, data: bytes, /) -> None:
        """Write to a file that is there."""
        descriptor = self._call(f"open {path}", _OPEN, self._named(path), os.O_WRONLY, 0)
        try:
            self._agent.write(self._room, data)
            self._call(f"write {path}", _WRITE, descriptor, self._room, len(data))
        finally:
            self._agent.call(_CLOSE, descriptor)

    def _whole(self, path: str, flags: int, call: int) -> tuple[int, bytes]:
        """Return the descriptor that a file was opened as, and what a call reads from it until it returns 0."""
        descriptor, data = self._call(f"open {path}", _OPEN, self._named(path), flags, 0), b""
        try:
            while size := self._call(f"read {path}", call, descriptor, self._room, _ROOM):
                data += self._agent.read(self._room, size)
        finally:
            self._agent.call(_CLOSE, descriptor)
        return descriptor, data

    def _named(self, path: str) -> int:
        """Return the address of a path in the memory of the agent."""
        name = os.fsencode(path) + b"\0"
        if len(name) > _PATH_MAX:
            raise OSError(0, f"a path of {len(name)} bytes")
        if not self._memory:
            self._memory = AgentSpace(self._agent).map_low(_PATH_MAX + _ROOM)
        self._agent.write(self._memory, name)
        return self._memory

    @property
    def _room(self) -> int:
        return self._memory + _PATH_MAX

    def _call(self, what: str, number: int, *words: int) -> int:
        result = self._agent.call(number, *words)
        if result < 0:
            raise OSError(-result, f"the agent's {what}: {os.strerror(-result)}")
        if result > _ROOM:
            raise OSError(0, f"the agent's {what} returns {result:#x}")
        return result


def initial_files(files: Files) -> dict[str, bytes]:
    """Return what those of INITIAL hold now that can be read."""
    found = {}
    for path in INITIAL:
        with suppress(OSError):
            found[path] = files.read(path)
    return found


def _own(path: str) -> bool:
    return path == "/proc/self/fd"
