"""Make the operations over a route: socketcall, with the words in memory, or the direct calls, with them in registers.

Every method returns the result of the kernel and raises nothing for an error: `expect` judges it, `need` insists on it.
Arguments are words, taken modulo 2**32. Where a method takes bytes it writes them to memory that ends at a page without
access, so that a kernel that reads one byte too many fails with EFAULT; an address has some readable bytes behind it.
"""

from __future__ import annotations

import builtins
import functools
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import SupportsInt

from probes.abi.operations import OPERATIONS, OTHER_CALLS, SOCKETCALL
from probes.abi.record import unsigned
from probes.entry.gate import Gate, Result
from probes.entry.memory import POISON, Block, Memory, pack_words

#: Readable bytes behind an address.
_BEHIND = 16
#: A pointer argument: an address, a block, or the bytes to point to.
Pointer = SupportsInt | bytes


class SetUpRefused(Exception):
    """Is raised when a documented call was refused on which the set-up of a test rests: the implementation deviates."""

    def __init__(self, result: Result, why: str) -> None:
        """Take the result of the refused call, and what it was for."""
        super().__init__(f"{why}: {result!r}")
        self.result, self.why = result, why


@dataclass(frozen=True)
class Output:
    """Holds the result of a call and the bytes that it wrote to memory.

    `value` is these bytes until a method converts them: a slice, `as_int`, `unpack`. It is empty if the call failed;
    `actual` is the error then, with all of the room if it was `written_by_failure`.
    """

    result: Result
    value: object
    written_by_failure: bytes = b""

    @property
    def actual(self) -> object:
        """Return what is judged: the value; or the error; or both, if the result is more than the 0 that is documented.

        A result of 1 would else be taken for a value of 1.
        """
        result = int(self.result)
        if result < 0:
            return [result, self.written_by_failure] if self.written_by_failure else result
        return [result, self.value] if result else self.value

    @property
    def bytes(self) -> bytes:
        """Return the bytes written. Raises SetUpRefused if the call failed, TypeError after a conversion."""
        if self.result:
            raise SetUpRefused(self.result, "a call whose bytes the test goes on with")
        return self._bytes

    @property
    def _bytes(self) -> builtins.bytes:
        if not isinstance(self.value, builtins.bytes):
            raise TypeError(f"the output was converted to {self.value!r} already; take its bytes before")
        return self.value

    def __getitem__(self, part: slice) -> Output:
        """Return the output with a slice of the bytes."""
        return self._with(self._bytes[part])

    def as_int(self) -> Output:
        """Return the output with the bytes as one signed little-endian number; as bytes, if no number has their size."""
        return self._as_number(signed=True)

    def as_unsigned(self) -> Output:
        """Return the output with the bytes as one unsigned little-endian number, as `as_int` does."""
        return self._as_number(signed=False)

    def _as_number(self, signed: bool) -> Output:
        data = self._bytes
        # A wrong length would not be seen in a number whose other bytes are 0.
        is_number = int(self.result) < 0 or len(data) in _NUMBER_SIZES
        return self._with(int.from_bytes(data, "little", signed=signed) if is_number else data)

    def unpack(self, layout: str) -> Output:
        """Return the output with the members of a struct layout, [] if the call failed; as bytes if of another size."""
        data = self._bytes
        if int(self.result) < 0:
            return self._with([])
        return self._with(list(struct.unpack(layout, data)) if len(data) == struct.calcsize(layout) else data)

    def without(self, chosen: builtins.bytes) -> Output:
        """Return the output with zeros for the bytes that the machine chose, where they are first found."""
        return self._with(self._bytes.replace(chosen, bytes(len(chosen)), 1))

    def with_result(self) -> Output:
        """Return the output with [result, value]."""
        return self._with([self.result, self.value])

    def _with(self, value: object) -> Output:
        return Output(self.result, value, self.written_by_failure)


#: Bytes of what can be read as a number.
_NUMBER_SIZES = (1, 2, 4, 8)


def _written(result: Result, room: Block, length: Block, may_exceed: bool) -> Output:
    """Return the bytes that a value-result length reports.

    It is all of the room and one byte more, as a room that fits would hide the length, if bytes behind these were written
    too, or if the length is more than the room, unless it `may_exceed` that: it does for names that are cut off.
    """
    poison, data = bytes([POISON]), room.read()
    if int(result) < 0:
        return Output(result, b"", data if data.strip(poison) else b"")
    size = length.words()[0]
    is_wrong = data[size:].strip(poison) or (size > len(data) and not may_exceed)
    return Output(result, data + poison if is_wrong else data[:size])


class Calls:
    """Makes calls through a gate over a route ("socketcall" or "direct")."""

    def __init__(self, gate: Gate, route: str, memory: Memory) -> None:
        """Take words and data from `memory`."""
        self.gate, self.route, self.memory = gate, route, memory

    def make(self, op: str, *words: SupportsInt) -> Result:
        """Make one of the 20 operations. Raises TypeError: the number of words is wrong."""
        return self.gate.enter(*self._entry(op, words, "words"))

    def repeated(self, use: str, op: str, *words: SupportsInt) -> Callable[[], Result]:
        """Return a function that makes an operation with these words, which are packed once, into scratch memory for `use`.

        Raises TypeError as `make`.
        """
        return functools.partial(self.gate.enter, *self._entry(op, words, use))

    def _entry(self, op: str, words: Sequence[SupportsInt], use: str) -> tuple[int, ...]:
        """Return the registers with which an operation enters, from eax on; the words of a socketcall lie in memory."""
        operation = OPERATIONS[op]
        if len(words) != operation.words:
            raise TypeError(f"{op} takes {operation.words} words, not {len(words)}")
        values = [unsigned(int(word)) for word in words]
        if self.route == "direct":
            return operation.direct, *values, *operation.fill
        return SOCKETCALL, operation.call, self.memory.scratch(pack_words(*values), use).address

    def syscall(self, name: str, *words: SupportsInt) -> Result:
        """Make another documented system call (close, read, fcntl, …), by its own number whatever the route."""
        return self.gate.enter(OTHER_CALLS[name].direct, *(unsigned(int(word)) for word in words))

    def pointer(self, value: Pointer) -> int:
        """Return the word for a pointer argument; bytes are written to scratch memory first."""
        if isinstance(value, bytes):
            return self.memory.scratch(value, "data").address
        return int(value)

    def address(self, value: Pointer) -> int:
        """Return the word for a socket address; bytes are written to scratch memory first, with readable bytes behind them.

        Nearly every test rests on an address: one behaviour judges that none of these bytes is read (bind.memory.placement),
        so that an implementation that reads one does not fail everywhere.
        """
        if isinstance(value, bytes):
            return self.memory.scratch(value, "address", _BEHIND).address
        return int(value)

    def socket(self, family: int, type: int, protocol: int = 0) -> Result:
        """Make a socket, and return its descriptor or the error."""
        return self.make("socket", family, type, protocol)

    def bind(self, fd: int, address: Pointer, length: int | None = None) -> Result:
        """Bind a socket to an address. The default length is that of the bytes or block."""
        return self.make("bind", fd, self.address(address), _length(address, length))

    def connect(self, fd: int, address: Pointer, length: int | None = None) -> Result:
        """Connect a socket to an address. The default length is that of the bytes or block."""
        return self.make("connect", fd, self.address(address), _length(address, length))

    def listen(self, fd: int, backlog: int) -> Result:
        """Mark a socket as listening."""
        return self.make("listen", fd, backlog)

    def accept(self, fd: int, address: Pointer = 0, length: Pointer = 0) -> Result:
        """Accept a connection. `address` receives the peer's name, `length` points to its value-result length."""
        return self.make("accept", fd, self.pointer(address), self.pointer(length))

    def name(self, op: str, fd: int, room: int = 128) -> Output:
        """Read a name by getsockname or getpeername into a buffer of `room` bytes."""
        address, length = self.memory.guarded(room), self.memory.words(room)
        result = self.make(op, fd, address, length)
        return _written(result, address, length, may_exceed=True)

    def setsockopt(self, fd: int, level: int, option: int, value: int | bytes) -> Result:
        """Set an option. An int value is passed as four bytes."""
        data = pack_words(value) if isinstance(value, int) else value
        return self.make("setsockopt", fd, level, option, self.pointer(data), len(data))

    def getsockopt(self, fd: int, level: int, option: int, room: int = 4) -> Output:
        """Read an option into a buffer of `room` bytes."""
        value, length = self.memory.guarded(room), self.memory.words(room)
        result = self.make("getsockopt", fd, level, option, value, length)
        return _written(result, value, length, may_exceed=False)

    def close(self, fd: int) -> Result:
        """Close a descriptor."""
        return self.syscall("close", fd)


@dataclass(frozen=True)
class Socket:
    """Is a descriptor with the calls that take it. int(socket) is the descriptor."""

    calls: Calls
    fd: int

    def __int__(self) -> int:
        """Return the descriptor."""
        return int(self.fd)

    def bind(self, address: Pointer, length: int | None = None) -> Result:
        """Bind the socket to an address."""
        return self.calls.bind(self.fd, address, length)

    def connect(self, address: Pointer, length: int | None = None) -> Result:
        """Connect the socket to an address."""
        return self.calls.connect(self.fd, address, length)

    def listen(self, backlog: int = 1) -> Result:
        """Mark the socket as listening."""
        return self.calls.listen(self.fd, backlog)

    def accept(self, address: Pointer = 0, length: Pointer = 0) -> Result:
        """Accept a connection; see Calls.accept."""
        return self.calls.accept(self.fd, address, length)

    def sockname(self) -> Output:
        """Read the name of the socket."""
        return self.calls.name("getsockname", self.fd)

    def peername(self) -> Output:
        """Read the name of its peer."""
        return self.calls.name("getpeername", self.fd)

    def setsockopt(self, level: int, option: int, value: int | bytes) -> Result:
        """Set an option; see Calls.setsockopt."""
        return self.calls.setsockopt(self.fd, level, option, value)

    def getsockopt(self, level: int, option: int, room: int = 4) -> Output:
        """Read an option into a buffer of `room` bytes."""
        return self.calls.getsockopt(self.fd, level, option, room)

    def close(self) -> Result:
        """Close the descriptor."""
        return self.calls.close(self.fd)


def _length(address: Pointer, length: int | None) -> int:
    if length is not None:
        return length
    if isinstance(address, Block):
        return address.size
    if isinstance(address, bytes):
        return len(address)
    raise TypeError("an address given as a number has no length; pass `length`")
