"""Sends and receives by every operation that can, and collects what each wrote besides its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from socket import MSG_WAITALL, SHUT_WR
from typing import SupportsInt

from probes.abi.operations import OPERATIONS
from probes.entry.calls import Calls, Output
from probes.entry.gate import Result
from probes.entry.memory import Block, pack_words
from probes.testing.prepared import Prepared
from tests.transfer.message_layouts import MMSGHDR, MSGHDR, POISONED, UNSET

#: The operations that send and receive; those with flags, and those with a struct msghdr. recvmmsg_time64 differs from
#: recvmmsg by its timeout alone: test_many.py and test_time_recvmmsg.py have it.
SENDING_WITH_FLAGS = ("send", "sendto", "sendmsg", "sendmmsg")
SENDING = (*SENDING_WITH_FLAGS, "write", "writev")
RECEIVING_WITH_FLAGS = ("recv", "recvfrom", "recvmsg", "recvmmsg")
RECEIVING = (*RECEIVING_WITH_FLAGS, "read", "readv")
WITH_NAME = ("recvfrom", "recvmsg", "recvmmsg")
WITH_HEADER = ("recvmsg", "recvmmsg")
#: A datagram that shows that nothing was sent before it.
MARKER = b"marker"
#: The first byte of an IPv4 header of 20 bytes: version 4, 5 words.
_IPV4 = b"\x45"
#: Operations on an array of struct mmsghdr: the result counts messages, msg_len bytes.
MANY = ("sendmmsg", "recvmmsg")


@dataclass(frozen=True)
class Transferred(Output):
    """Holds the result of a call that sends or receives, and what it wrote; both are judged."""

    @property
    def actual(self) -> object:
        """Returns what is judged."""
        return self.value


def went(op: str, count: int) -> int | list[int]:
    """Returns what an operation must return that sends one message of `count` bytes; sendmmsg writes msg_len too."""
    return [1, count] if op in MANY else count


def came(
    op: str, data: bytes, *, length: int | None = None, flags: int = 0, name: bytes | None = None, namelen: int = -1
) -> list[object]:
    """Returns what an operation must return and write that receives one message.

    `length` is its result, or msg_len, if that is not the number of bytes written; `flags` are msg_flags; `name` is what is
    written to a room for a name, and `namelen` the length that is reported, by default the name's.
    """
    counts = [1, len(data) if length is None else length] if op in MANY else [len(data) if length is None else length]
    named = [] if name is None or op not in WITH_NAME else [name, len(name) if namelen < 0 else namelen]
    return [*counts, data, *named, *([flags] if op in WITH_HEADER else [])]


def without_head(value: object, size: int) -> object:
    """Returns what an operation has received without the first `size` bytes, the IPv4 header before a raw socket's data."""
    if not size or not isinstance(value, list):
        return value
    at = next(index for index, one in enumerate(value) if isinstance(one, bytes))
    if value[at][:1] != _IPV4:
        return value
    return [*value[: at - 1], value[at - 1] - size, value[at][size:], *value[at + 1 :]]


class Message:
    """Is a struct msghdr in the caller's memory: parts of data, a room for a name, control data, as words.

    `size` is that of the structure: 28 bytes, or 32 with msg_len behind it.
    """

    def __init__(
        self,
        calls: Calls,
        parts: Sequence[tuple[SupportsInt, int]],
        *,
        name: SupportsInt = 0,
        namelen: int = 0,
        control: SupportsInt = 0,
        controllen: int = 0,
        flags: int = UNSET,
        count: int | None = None,
        size: int = MSGHDR.size,
    ) -> None:
        """Writes the structure and its scatter/gather array. `count` overrides msg_iovlen."""
        iov = calls.memory.scratch(pack_words(*(int(word) for part in parts for word in part)), "iov") if parts else 0
        self._before = (
            int(name), namelen, int(iov), len(parts) if count is None else count, int(control), controllen, flags
        )  # fmt: skip
        words = pack_words(*self._before)
        self.block = calls.memory.scratch(words + POISONED * (size - MSGHDR.size), "message")

    def __int__(self) -> int:
        """Returns the address."""
        return self.block.address

    def changed(self) -> dict[str, int]:
        """Returns the members that are not as they were, by name."""
        names = ("name", "namelen", "iov", "iovlen", "control", "controllen", "flags")
        now = MSGHDR.unpack(self.block.read()[: MSGHDR.size])
        before = MSGHDR.unpack(pack_words(*self._before))
        return {name: new for name, new, old in zip(names, now, before, strict=True) if new != old}

    @property
    def length(self) -> int:
        """Returns msg_len of a structure of 32 bytes."""
        return int.from_bytes(self.block.read()[MSGHDR.size :], "little")


class Exchange:
    """Makes every operation that sends or receives, with one buffer, over the route of a test.

    `sending` and `receiving` are those that the run over this route judges: the run over `direct` judges all, the run over
    `socketcall` those that it carries.
    """

    def __init__(self, calls: Calls, route: str) -> None:
        """Takes the calls, and the route that the test runs over."""
        self.calls, self.route = calls, route
        self.sending, self.sending_with_flags = self.over(SENDING), self.over(SENDING_WITH_FLAGS)
        self.receiving, self.receiving_with_flags = self.over(RECEIVING), self.over(RECEIVING_WITH_FLAGS)
        self.with_name, self.with_header = self.over(WITH_NAME), self.over(WITH_HEADER)

    def over(self, ops: Sequence[str]) -> tuple[str, ...]:
        """Returns those of some operations that the run over this route judges."""
        return tuple(op for op in ops if self.route == "direct" or op in OPERATIONS)

    def make(self, op: str, *words: SupportsInt) -> Result:
        """Makes an operation, one of the 20 or another call."""
        return self.calls.make(op, *words) if op in OPERATIONS else self.calls.syscall(op, *words)

    def send(
        self, op: str, fd: SupportsInt, data: bytes | Block, flags: int = 0, *, name: bytes | None = None
    ) -> Transferred:
        """Sends one message, to `name` if it is given. Judged is what `went` returns, or the error."""
        where = self._data(data)
        size = len(data) if isinstance(data, bytes) else data.size
        to = self.calls.memory.scratch(name, "name") if name is not None else 0
        namelen = 0 if name is None else len(name)
        if op in ("sendmsg", "sendmmsg"):
            message = Message(self.calls, [(where, size)], name=to, namelen=namelen, size=MMSGHDR.size)
            if op == "sendmsg":
                return _sent(self.make(op, fd, message, flags))
            result = self.make(op, fd, message, 1, flags)
            return Transferred(result, [result, message.length] if result == 1 else result)
        if op == "sendto":
            return _sent(self.make(op, fd, where, size, flags, to, namelen))
        if op == "send":
            return _sent(self.make(op, fd, where, size, flags))
        if op == "writev":
            return _sent(self.make(op, fd, self.calls.memory.scratch(pack_words(int(where), size), "iov"), 1))
        return _sent(self.make(op, fd, where, size))

    def receive(
        self, op: str, fd: SupportsInt, room: int, flags: int = 0, *, name: int | None = None, timeout: SupportsInt = 0
    ) -> Transferred:
        """Receives one message into a room of so many bytes, and its name into a room of `name` bytes.

        Judged is what `came` returns; or the error, with everything that was written although the call failed.
        """
        memory = self.calls.memory
        buffer = memory.scratch(POISONED * room, "room")
        address = memory.scratch(POISONED * name, "name") if name is not None else None
        if op in WITH_HEADER:
            return self._receive_message(op, fd, buffer, flags, address, timeout)
        if op == "recvfrom":
            length = memory.scratch(pack_words(address.size), "length") if address is not None else None
            result = self.make(op, fd, buffer, buffer.size, flags, address or 0, length or 0)
            return _received(result, [result], buffer, result, address, length.words()[0] if length else 0)
        if op == "recv":
            result = self.make(op, fd, buffer, buffer.size, flags)
        elif op == "readv":
            result = self.make(op, fd, memory.scratch(pack_words(buffer.address, buffer.size), "iov"), 1)
        else:
            result = self.make(op, fd, buffer, buffer.size)
        return _received(result, [result], buffer, result)

    def arrived(self, end: Prepared, room: int, count: int = 1) -> list[Transferred]:
        """Receives at the peer what was sent before, up to a marker that is sent now, and returns `count` receptions.

        The marker stands for each datagram that was not sent, so none of them is waited for.
        """
        end.send(end.fd, MARKER)
        found: list[Transferred] = []
        while not found or found[-1].value != came("recv", MARKER):
            end.wait(end.peer)
            found.append(self.receive("recv", end.peer, room))
        return [found[min(at, len(found) - 1)] for at in range(count)]

    def receive_rest(self, end: Prepared, most: int) -> tuple[bytes, Result]:
        """Shuts down the sending side of a stream, and returns all that its peer receives, with the result of that call.

        `most` is more than comes.
        """
        end.shutdown(end.fd, SHUT_WR)
        room = self.calls.memory.alloc(most)
        result = self.make("recv", end.peer, room, most, MSG_WAITALL)
        return room.read()[: max(0, result)], result

    def _receive_message(
        self, op: str, fd: SupportsInt, buffer: Block, flags: int, address: Block | None, timeout: SupportsInt
    ) -> Transferred:
        message = Message(
            self.calls, [(buffer, buffer.size)], name=address or 0, namelen=address.size if address else 0,
            size=MSGHDR.size if op == "recvmsg" else MMSGHDR.size,
        )  # fmt: skip
        if op == "recvmsg":
            result = self.make(op, fd, message, flags)
            counts, count = [result], int(result)
        else:
            result = self.make(op, fd, message, 1, flags, timeout)
            counts, count = [result, message.length], message.length
        changed = message.changed()
        if result < 0:
            # What a call that failed has written shows as a change.
            return _received(result, [result], buffer, 0, address, -1 if changed else 0, changed)
        namelen = changed.pop("namelen", address.size) if address else 0
        reported = changed.pop("flags", UNSET)
        got = _received(result, counts, buffer, count, address, namelen)
        return Transferred(result, [*_list(got.value), reported, *([changed] if changed else [])])

    def _data(self, data: bytes | Block) -> Block:
        if isinstance(data, Block):
            return data
        return self.calls.memory.scratch(data, "data") if len(data) <= 4096 else self.calls.memory.put(data)


def _list(value: object) -> list[object]:
    assert isinstance(value, list)
    return value


def _sent(result: Result) -> Transferred:
    return Transferred(result, result)


def _received(
    result: Result,
    counts: list[int],
    buffer: Block,
    count: int,
    address: Block | None = None,
    namelen: int = 0,
    changed: dict[str, int] | None = None,
) -> Transferred:
    """Returns the result with what was written to the rooms for data and name."""
    if result < 0:
        rooms = [buffer, *([address] if address else [])]
        left = [block.read() for block in rooms if block.read().strip(POISONED)]
        return Transferred(result, [result, *left, changed or {}] if left or changed else result)
    name = [address.written(namelen), namelen] if address is not None else []
    return Transferred(result, [*counts, buffer.written(count), *name])
