"""Completes the note that a caller makes of a call of its own, where no tracer watches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from probes.abi.decode import decode
from probes.abi.operations import BY_NAME
from probes.abi.record import Record

_WORD = 32
_WORD_LIMIT = 1 << 32


def with_memory(record: Record, abi: str, words: Sequence[int], before: Mapping[str, bytes]) -> Record:
    """Return a note with the words and the memory that its call read, which `completed` decodes in another process."""
    held = {name: {"bytes": data.hex()} for name, data in before.items()}
    return replace(record, abi=abi, args=tuple(words), decoded=held)


def require_memory(record: Record) -> None:
    """Check the words and the memory of a note that another process sent. Raises ValueError, TypeError, KeyError."""
    if not all(0 <= word < _WORD_LIMIT for word in record.args):
        raise ValueError("a note's words are none")
    _memory(record)


def completed(record: Record) -> Record:
    """Return a note with its arguments decoded from the words and the memory that it carries."""
    operation, words = BY_NAME.get(record.op), record.args
    if operation is None or not words:
        return record
    if len(words) < operation.words:
        return replace(record, decoded={}, args_error=f"only {len(words)} of {operation.words} words are known")
    return replace(record, decoded=decode(operation, words, _memory(record), {}, record.ret, _WORD))


def _memory(record: Record) -> dict[str, bytes]:
    found = {}
    for name, held in record.decoded.items():
        if not isinstance(held, Mapping) or set(held) != {"bytes"} or not isinstance(held["bytes"], str):
            raise ValueError("a note's memory is not bytes")
        found[name] = bytes.fromhex(held["bytes"])
    return found
