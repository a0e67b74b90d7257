"""How a sandbox tells its parent what happened: messages in shared memory.

Not a pipe: nobody reads while the parent traces, so a pipe would fill up; a test may close every descriptor it has; and
what was said stays said when the process dies.
"""

from __future__ import annotations

import json
import mmap
import struct
from typing import Any

_HEAD = struct.Struct("<Q")
_MAP_NORESERVE = 0x4000


class ChannelFull(Exception):
    """More was said than the channel holds."""


class Channel:
    """Messages (objects that JSON can carry) from one process at a time to another, in order."""

    def __init__(self, size: int = 64 << 20) -> None:
        # Pages that nobody wrote cost nothing.
        self._map = mmap.mmap(-1, size, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)
        self._size = size
        self.clear()

    def clear(self) -> None:
        """Forgets everything."""
        _HEAD.pack_into(self._map, 0, _HEAD.size)

    def say(self, message: Any) -> None:
        """Adds a message. Raises ChannelFull."""
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        (end,) = _HEAD.unpack_from(self._map)
        if end + len(line) > self._size:
            raise ChannelFull(f"a sandbox said more than {self._size >> 20} MiB")
        self._map[end : end + len(line)] = line
        # The head moves last: a process that dies here leaves whole messages only.
        _HEAD.pack_into(self._map, 0, end + len(line))

    def heard(self) -> list[Any]:
        """The messages so far."""
        (end,) = _HEAD.unpack_from(self._map)
        return [json.loads(line) for line in self._map[_HEAD.size : end].splitlines()]
