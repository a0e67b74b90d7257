"""The operations, over a route: socketcall with its words in memory, or the direct calls with theirs in registers.

Every method returns the kernel's own result and raises nothing for an error: judging is `expect`'s, insisting `need`'s.
Arguments are words, taken modulo 2**32; where a method takes bytes it puts them into memory, hard against an unmapped
page, so that a kernel that reads one byte too many shows itself.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import SupportsInt

from probes.abi.operations import OPERATIONS, OTHER_CALLS, SOCKETCALL
from probes.abi.record import unsigned
from probes.entry.gate import Gate, Result
from probes.entry.memory import Block, Memory, pack_words

#: A pointer word: an address, a block, or the bytes to point to.
Pointer = SupportsInt | bytes


@dataclass(frozen=True)
class Output:
    """What a call returned that writes memory: its result, and what it wrote.

    `value` is bytes until a method narrows it: a slice, `as_int`, `unpack`. Of a refused call it is empty, and `actual` is
    the error instead.
    """

    result: Result
    value: object

    @property
    def actual(self) -> object:
        """What is judged: the value, or the error of a refused call."""
        return int(self.result) if self.result < 0 else self.value

    @property
    def bytes(self) -> bytes:
        """The bytes written. Raises TypeError if the output was narrowed to something else."""
        if not isinstance(self.value, bytes):
            raise TypeError(f"{self.value!r} is no longer bytes")
        return self.value

    def __getitem__(self, part: slice) -> Output:
        """Narrows to a part of the bytes."""
        return Output(self.result, self.bytes[part])

    def as_int(self) -> Output:
        """Narrows to the bytes as one signed little-endian number."""
        return Output(self.result, int.from_bytes(self.bytes, "little", signed=True))

    def as_unsigned(self) -> Output:
        """Narrows to the bytes as one unsigned little-endian number."""
        return Output(self.result, int.from_bytes(self.bytes, "little"))

    def unpack(self, layout: str) -> Output:
        """Narrows to the list of members of a struct layout, [] of a refused call. Raises struct.error."""
        return Output(self.result, list(struct.unpack(layout, self.bytes)) if self.result >= 0 else [])

    def with_result(self) -> Output:
        """Narrows to [result, value]."""
        return Output(self.result, [self.result, self.value])


class Calls:
    """Makes calls through a gate over a route ("socketcall" or "direct")."""

    def __init__(self, gate: Gate, route: str, memory: Memory) -> None:
        self.gate, self.route, self.memory = gate, route, memory

    def make(self, op: str, *words: SupportsInt) -> Result:
        """One of the 20 operations with exactly its words."""
        operation = OPERATIONS[op]
        if len(words) != operation.words:
            raise TypeError(f"{op} takes {operation.words} words, not {len(words)}")
        values = [unsigned(int(word)) for word in words]
        if self.route == "direct":
            return self.gate.enter(operation.direct, *values, *operation.fill)
        array = self.memory.scratch(pack_words(*values), "words")
        return self.gate.enter(SOCKETCALL, operation.call, array.address)

    def plain(self, name: str, *words: SupportsInt) -> Result:
        """A plain call of the documents (close, read, fcntl, …), by its own number on either route."""
        return self.gate.enter(OTHER_CALLS[name].direct, *(unsigned(int(word)) for word in words))

    def pointer(self, value: Pointer) -> int:
        """The word for a pointer argument."""
        if isinstance(value, bytes):
            return self.memory.scratch(value, "data").address
        return int(value)

    def socket(self, family: int, type: int, protocol: int = 0) -> Result:
        """socket(2)."""
        return self.make("socket", family, type, protocol)

    def bind(self, fd: int, address: Pointer, length: int | None = None) -> Result:
        """bind(2). The length is that of the bytes or block unless given."""
        return self.make("bind", fd, self.pointer(address), _length(address, length))

    def connect(self, fd: int, address: Pointer, length: int | None = None) -> Result:
        """connect(2)."""
        return self.make("connect", fd, self.pointer(address), _length(address, length))

    def listen(self, fd: int, backlog: int) -> Result:
        """listen(2)."""
        return self.make("listen", fd, backlog)

    def accept(self, fd: int, address: Pointer = 0, length: Pointer = 0) -> Result:
        """accept(2); `length` points to the value-result length."""
        return self.make("accept", fd, self.pointer(address), self.pointer(length))

    def name(self, op: str, fd: int, room: int = 128) -> Output:
        """getsockname(2) or getpeername(2), with the name."""
        address, length = self.memory.guarded(room), self.memory.words(room)
        result = self.make(op, fd, address, length)
        size = length.words()[0]
        return Output(result, address.read()[:size] if result >= 0 else b"")

    def setsockopt(self, fd: int, level: int, option: int, value: int | bytes) -> Result:
        """setsockopt(2); an int is the value of an int option."""
        data = pack_words(value) if isinstance(value, int) else value
        return self.make("setsockopt", fd, level, option, self.pointer(data), len(data))

    def getsockopt(self, fd: int, level: int, option: int, room: int = 4) -> Output:
        """getsockopt(2), with the value of the option."""
        value, length = self.memory.guarded(room), self.memory.words(room)
        result = self.make("getsockopt", fd, level, option, value, length)
        return Output(result, value.read()[: length.words()[0]] if result >= 0 else b"")

    def close(self, fd: int) -> Result:
        """close(2)."""
        return self.plain("close", fd)


@dataclass(frozen=True)
class Socket:
    """A descriptor with the calls to use it by. int(socket) is the descriptor."""

    calls: Calls
    fd: int

    def __int__(self) -> int:
        return self.fd

    def bind(self, address: Pointer, length: int | None = None) -> Result:
        """bind(2)."""
        return self.calls.bind(self.fd, address, length)

    def connect(self, address: Pointer, length: int | None = None) -> Result:
        """connect(2)."""
        return self.calls.connect(self.fd, address, length)

    def listen(self, backlog: int = 1) -> Result:
        """listen(2)."""
        return self.calls.listen(self.fd, backlog)

    def accept(self, address: Pointer = 0, length: Pointer = 0) -> Result:
        """accept(2)."""
        return self.calls.accept(self.fd, address, length)

    def sockname(self) -> Output:
        """getsockname(2)."""
        return self.calls.name("getsockname", self.fd)

    def peername(self) -> Output:
        """getpeername(2)."""
        return self.calls.name("getpeername", self.fd)

    def setsockopt(self, level: int, option: int, value: int | bytes) -> Result:
        """setsockopt(2)."""
        return self.calls.setsockopt(self.fd, level, option, value)

    def getsockopt(self, level: int, option: int, room: int = 4) -> Output:
        """getsockopt(2)."""
        return self.calls.getsockopt(self.fd, level, option, room)

    def close(self) -> Result:
        """close(2)."""
        return self.calls.close(self.fd)


def _length(address: Pointer, length: int | None) -> int:
    if length is not None:
        return length
    if isinstance(address, Block):
        return address.size
    if isinstance(address, bytes):
        return len(address)
    raise TypeError("an address given as a number needs its length")
