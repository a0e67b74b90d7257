"""Sends and receives messages with control data, in the i386 layouts.

Control messages are aligned to 4 (include/net/compat.h CMSG_COMPAT_ALIGN; include/linux/socket.h CMSG_ALIGN).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from probes.entry.calls import Calls
from probes.entry.gate import Result
from probes.testing import need
from probes.testing.socket_kinds import UDP, UDP6, SocketKind
from tests.transfer.exchange import Message
from tests.transfer.message_layouts import CMSGHDR, POISONED

_INT = struct.Struct("<i")
#: include/linux/socket.h: types of control messages of level SOL_SOCKET.
SCM_RIGHTS, SCM_CREDENTIALS, SCM_PIDFD = 1, 2, 4
#: The level and option of each kind that queue errors (include/uapi/linux/in.h, in6.h).
RECVERR = {UDP: (socket.IPPROTO_IP, 11), UDP6: (socket.IPPROTO_IPV6, 25)}
#: Rooms for what is received, in bytes.
DATA_ROOM, NAME_ROOM, CONTROL_ROOM = 64, 128, 256


def cmsg(level: int, type: int, data: bytes) -> bytes:
    """Packs a control message to send, and the padding behind it."""
    return CMSGHDR.pack(CMSGHDR.size + len(data), level, type) + data + bytes(-len(data) % 4)


def received(level: int, type: int, data: bytes) -> bytes:
    """Packs a control message as it is received: the padding behind it counts in msg_controllen, and is not written."""
    return CMSGHDR.pack(CMSGHDR.size + len(data), level, type) + data + POISONED * (-len(data) % 4)


def rights(*descriptors: int) -> bytes:
    """Packs a control message of SCM_RIGHTS."""
    return cmsg(socket.SOL_SOCKET, SCM_RIGHTS, struct.pack(f"<{len(descriptors)}i", *descriptors))


def extended_error(
    kind: SocketKind,
    error: int,
    origin: int,
    type: int = 0,
    code: int = 0,
    info: int = 0,
    offender: bytes | None = None,
    data: int = 0,
) -> bytes:
    """Packs a control message of IP_RECVERR or IPV6_RECVERR: struct sock_extended_err and the offender's address."""
    empty = bytes(16 if kind is UDP else 28)
    head = struct.pack("<IBBBBII", error, origin, type, code, 0, info, data)
    return cmsg(*RECVERR[kind], head + (empty if offender is None else offender))


@dataclass(frozen=True)
class Received:
    """Holds what recvmsg returned and wrote. `header` is the struct msghdr after the call, by its words.

    `data` has as many bytes as the result says; all of its room if bytes behind them were written.
    """

    result: Result
    header: tuple[int, ...]
    data: bytes
    name_room: bytes
    control_room: bytes

    @property
    def flags(self) -> int:
        """msg_flags."""
        return self.header[6]

    @property
    def name(self) -> bytes:
        """The name, as long as msg_namelen says; all of its room if bytes behind it were written."""
        return _within(self.name_room, self.header[1])

    @property
    def control(self) -> bytes:
        """The control data, as long as msg_controllen says; all of its room if bytes behind it were written."""
        return _within(self.control_room, self.header[5])

    @property
    def value(self) -> object:
        """What is judged: [result, data, control data, msg_flags]; the error of a call that failed.

        Bytes that were written behind the name that is reported are shown, too.
        """
        return self.seen(self.control)

    def seen(self, control: object) -> object:
        """Returns the value with another view of the control data."""
        if self.result < 0:
            return int(self.result)
        behind = self.name_room[self.header[1] :].strip(POISONED)
        return [self.result, self.data, control, self.flags, *(["bytes behind the name"] if behind else [])]

    @property
    def descriptors(self) -> list[int]:
        """The descriptors of the control messages of SCM_RIGHTS and SCM_PIDFD."""
        return [number for at in self._places(SCM_RIGHTS, SCM_PIDFD) for number in _INT.unpack_from(self.control, at)]

    def counted(self, free: Sequence[int] = (), pid: int | None = None) -> object:
        """Returns the value without what the machine chose.

        Descriptors are counted from the lowest free one: 0 stands for free[0], another one has 0x10000 added. The id of
        the process `pid`, which may be cut, is 1.
        """
        if self.result < 0:
            return int(self.result)
        descriptors = self._places(SCM_RIGHTS, SCM_PIDFD)
        if not descriptors and pid is None:
            return self.value
        shown = bytearray(self.control)
        for at in descriptors:
            (number,) = _INT.unpack_from(shown, at)
            shown[at : at + 4] = _INT.pack(free.index(number) if number in free else 0x10000 + number)
        for at in self._places(SCM_CREDENTIALS, part=1)[:1] if pid is not None else ():
            found = shown[at : at + 4]
            if found == _INT.pack(pid)[: len(found)]:
                shown[at : at + 4] = _INT.pack(1)[: len(found)]
        return self.seen(bytes(shown))

    def _places(self, *types: int, part: int = 4) -> list[int]:
        """Returns where the words in control messages of SOL_SOCKET of these types begin, those of `part` bytes at least."""
        places, at = [], 0
        while len(self.control) - at >= CMSGHDR.size:
            length, level, type = CMSGHDR.unpack_from(self.control, at)
            end = min(at + length, len(self.control))
            if level == socket.SOL_SOCKET and type in types:
                places += range(at + CMSGHDR.size, end - part + 1, 4)
            at += max(CMSGHDR.size, length + 3 & ~3)
        return places


def _within(room: bytes, length: int) -> bytes:
    if length > len(room):
        return room + b" is too short"
    return room if room[length:].strip(POISONED) else room[:length]


class Messages:
    """Makes sendmsg and recvmsg over a route. Everything that a call may read ends at a page without access."""

    def __init__(self, calls: Calls) -> None:
        self.calls, self._memory = calls, calls.memory

    def send(
        self,
        fd: int,
        control: bytes = b"",
        data: bytes = b"x",
        *,
        name: bytes = b"",
        flags: int = socket.MSG_NOSIGNAL,
        at: int | None = None,
        controllen: int | None = None,
    ) -> Result:
        """Sends a message. `at` and `controllen` override msg_control and msg_controllen."""
        part = self._memory.scratch(data, "data-sent")
        named = self._memory.scratch(name, "name-sent") if name else 0
        where = self._memory.scratch(control, "control-sent") if control and at is None else at or 0
        size = len(control) if controllen is None else controllen
        message = Message(
            self.calls, [(part, len(data))], name=named, namelen=len(name), control=where, controllen=size
        )  # fmt: skip
        return self.calls.make("sendmsg", fd, message, flags)

    def sent(self, fd: int, control: bytes = b"", data: bytes = b"x", *, name: bytes = b"", flags: int = 0) -> Result:
        """Sends a message for set-up: all of its data is taken. Raises SetUpRefused."""
        result = self.send(fd, control, data, name=name, flags=flags | socket.MSG_NOSIGNAL)
        need(result, "sendmsg", returns=len(data))
        return result

    def receive(
        self,
        fd: int,
        room: int = CONTROL_ROOM,
        *,
        at: int | None = None,
        size: int = DATA_ROOM,
        namelen: int = NAME_ROOM,
        flags: int = 0,
    ) -> Received:
        """Receives a message into buffers of these sizes, which hold POISON before. `room` is that of control data.

        `at` is where control data goes instead, an address that the caller may not be able to read.
        """
        part = self._memory.scratch(POISONED * size, "data-received")
        name = self._memory.scratch(POISONED * namelen, "name-received")
        control = self._memory.scratch(POISONED * (room if at is None else 0), "control-received")
        where, named = control if at is None else at, name if namelen else 0
        message = Message(self.calls, [(part, size)], name=named, namelen=namelen, control=where, controllen=room)
        result = self.calls.make("recvmsg", fd, message, flags)
        return Received(result, message.block.words(), part.written(result), name.read(), control.read())


class Descriptors:
    """Finds the lowest free descriptors of the caller, and closes descriptors, by calls that are not traced."""

    def __init__(self, calls: Calls) -> None:
        self._calls = Calls(calls.gate.quieted(), calls.route, calls.memory)

    def lowest(self, fd: int, count: int = 1) -> list[int]:
        """Returns the lowest free descriptors: `fd` is duplicated to find them. Raises SetUpRefused."""
        found = [need(self._calls.syscall("dup", fd), "dup") for _ in range(count)]
        self.close(*found)
        return found

    def close(self, *descriptors: int) -> None:
        """Closes descriptors. Raises SetUpRefused."""
        for fd in descriptors:
            need(self._calls.close(fd), "close")
