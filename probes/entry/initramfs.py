"""Write an initramfs whose process 1 becomes the agent: a cpio archive in the format "newc", not compressed.

Documentation/driver-api/early-userspace/buffer-format.rst of Linux describes the format.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from probes.entry.agent_start import PROGRAM
from probes.entry.machine.agent_code import BOOT

#: Process 1: boot.s.
INIT = BOOT[32][0]
#: Directories on which the machine's process 1 and the tests mount file systems.
_DIRECTORIES = ("dev", "proc", "sys", "tmp", "m")
#: Device numbers of the nodes that process 1 needs before /dev is mounted.
_CONSOLE, _NULL = (5, 1), (1, 3)
#: Modules that boot.s numbers with one digit.
_MODULES = 10


@dataclass(frozen=True)
class _Entry:
    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def initramfs(modules: Sequence[bytes] = ()) -> bytes:
    """Return an archive with /init, /agent, and modules, loaded in this order. Raises ValueError: there are too many."""
    if len(modules) > _MODULES:
        raise ValueError(f"{len(modules)} modules; boot.s loads {_MODULES}")
    return _archive(
        [
            *(_Entry(name, stat.S_IFDIR | 0o755) for name in _DIRECTORIES),
            _Entry("dev/console", stat.S_IFCHR | 0o600, device=_CONSOLE),
            _Entry("dev/null", stat.S_IFCHR | 0o666, device=_NULL),
            _Entry("init", stat.S_IFREG | 0o755, INIT),
            _Entry("agent", stat.S_IFREG | 0o755, PROGRAM),
            *(_Entry(f"m/{number}", stat.S_IFREG | 0o644, data) for number, data in enumerate(modules)),
        ]
    )


def _archive(entries: Iterable[_Entry]) -> bytes:
    parts = [_packed(number, entry) for number, entry in enumerate(entries, 1)]
    return b"".join([*parts, _packed(0, _Entry("TRAILER!!!", 0))])


def _packed(number: int, entry: _Entry) -> bytes:
    """Return an entry: inode, mode, uid, gid, links, time, size, device, device of a node, length of the name, checksum."""
    name = entry.name.encode() + b"\0"
    fields = (number, entry.mode, 0, 0, 1, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _aligned(header + name) + _aligned(entry.data)


def _aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
