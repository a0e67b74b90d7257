"""The channel from a sandbox to its parent: messages in shared memory.

Not a pipe: the parent traces and does not read meanwhile, so a pipe would fill up; a test may close every descriptor
it has; and messages survive the death of the sender.
"""

from __future__ import annotations

import json
import mmap
import struct

from probes.sandbox.messages import Message, of_json, to_json

_HEAD = struct.Struct("<Q")
_MAP_NORESERVE = 0x4000


class ChannelFull(Exception):
    """The messages of a sandbox exceed the size of its channel."""


class Channel:
    """Carries messages from one process at a time to another, in order."""

    def __init__(self, size: int = 64 << 20) -> None:
        """Maps `size` bytes, which cost nothing until they are written."""
        # Pages that were never written cost nothing.
        self._map = mmap.mmap(-1, size, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)
        self._size = size
        self.clear()

    def clear(self) -> None:
        """Remove all messages."""
        _HEAD.pack_into(self._map, 0, _HEAD.size)

    def send(self, message: Message) -> None:
        """Append a message. Raises ChannelFull."""
        line = json.dumps(to_json(message), separators=(",", ":")).encode() + b"\n"
        (end,) = _HEAD.unpack_from(self._map)
        if end + len(line) > self._size:
            raise ChannelFull(f"a sandbox sent more than {self._size >> 20} MiB to its parent")
        self._map[end : end + len(line)] = line
        # The head moves last: a process that dies here leaves whole messages only.
        _HEAD.pack_into(self._map, 0, end + len(line))

    def received(self) -> list[Message]:
        """Return the messages sent so far."""
        (end,) = _HEAD.unpack_from(self._map)
        return [of_json(json.loads(line)) for line in self._map[_HEAD.size : end].splitlines()]
