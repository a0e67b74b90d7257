"""The channel from a sandbox to its parent: messages in shared memory.

Not a pipe: the parent traces and does not read meanwhile, so a pipe would fill up; a test may close every descriptor
it has; and messages survive the death of the sender.
"""

from __future__ import annotations

import json
import mmap
import struct
from dataclasses import dataclass
from typing import NoReturn

from probes.sandbox.messages import Message, of_json, to_json
from probes.sandbox.untrusted import cleaned

_HEAD = struct.Struct("<Q")
_MAP_NORESERVE = 0x4000
#: Messages of one sandbox; tests of the suite send a few hundred.
_MOST = 200_000
#: Characters of an error that are shown.
_SHOWN = 200


class ChannelFull(Exception):
    """The messages of a sandbox exceed the size of its channel."""


@dataclass(frozen=True)
class Received:
    """Holds the messages of a sandbox, and what is wrong with the channel's bytes after them, "" if nothing is."""

    messages: list[Message]
    damage: str = ""


class Channel:
    """Carries messages from one process at a time to another, in order."""

    def __init__(self, size: int = 64 << 20) -> None:
        """Maps `size` bytes, which cost nothing until they are written."""
        # Pages that were never written cost nothing.
        self._map = mmap.mmap(-1, size, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)
        self._size = size
        self.clear()

    def clear(self) -> None:
        """Remove all messages, and the pages that held them: a later sandbox must not send them again by its head."""
        self._map.madvise(mmap.MADV_REMOVE)
        _HEAD.pack_into(self._map, 0, _HEAD.size)

    def send(self, message: Message) -> None:
        """Append a message. Raises ChannelFull."""
        line = _ENCODER.encode(to_json(message)).encode() + b"\n"
        (end,) = _HEAD.unpack_from(self._map)
        if end + len(line) > self._size:
            raise ChannelFull(f"a sandbox sent more than {self._size >> 20} MiB to its parent")
        self._map[end : end + len(line)] = line
        # The head moves last: a process that dies here leaves whole messages only.
        _HEAD.pack_into(self._map, 0, end + len(line))

    def received(self) -> Received:
        """Return the messages sent so far, up to the first that is damaged. The sender may have written any bytes."""
        (end,) = _HEAD.unpack_from(self._map)
        if not _HEAD.size <= end <= self._size:
            return Received([], f"its messages end at byte {end} of {self._size}")
        # A copy: a process that the sandbox left behind may still write.
        data = self._map[_HEAD.size : end]
        messages: list[Message] = []
        at = 0
        while at < len(data):
            stop = data.find(b"\n", at)
            try:
                if stop < 0 or len(messages) == _MOST:
                    raise ValueError("it has no end" if stop < 0 else "it is one too many")
                messages.append(_read(data[at:stop]))
            except (ValueError, RecursionError) as error:
                return Received(messages, f"message {len(messages) + 1} is damaged: {str(error)[:_SHOWN]}")
            at = stop + 1
        return Received(messages)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)
#: json.dumps makes one for each message that is not in its own form.
_ENCODER = json.JSONEncoder(separators=(",", ":"))


def _read(line: bytes) -> Message:
    found = _DECODER.decode(line.decode())
    if b"\\ud" in line or b"\\uD" in line:
        found = cleaned(found)
    return of_json(found)
