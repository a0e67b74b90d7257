"""Define the frames of the agent (probes/entry/machine/agent.s): requests, replies, and what can be wrong with these."""

from __future__ import annotations

import math
import os
import struct
import zlib
from dataclasses import dataclass
from typing import NamedTuple

from probes.abi.record import Record, signed

INFO, WRITE, READ, ENTER, CALL, FORK, EXIT = range(7)
OPERATIONS = ("info", "write", "read", "enter", "call", "fork", "exit")
OK, FAULT, GONE, MALFORMED, FAILED, DAMAGED = range(6)
#: The most bytes of one request or reply.
MOST = 0x8000
HEADER = struct.Struct("<4s5I")
REQUEST, REPLY = b"SCq1", b"SCr1"
ENTERED = struct.Struct("<10I")
#: Where the result lies in the frame of a call.
RESULT = struct.Struct("<32xI")
#: The checksum that follows a request or reply on a line.
TRAILER = struct.Struct("<I")
_NOISE_SHOWN = 40


class AgentError(Exception):
    """The agent did not reply as it should: the text says to what, and what came instead.

    `calling`: it has ended in a call, or one has not returned. `call` is its record, None for a loop of calls. `quiet`: the
    call is one of set-up.
    """

    calling = quiet = False
    call: Record | None = None

    @property
    def unanswered(self) -> bool:
        """Return True if nothing of a reply came."""
        return False


class AgentSilent(AgentError):
    """Nothing of a reply came within the deadline. `waited` are the seconds for which it was waited for."""

    waited = math.inf

    @property
    def unanswered(self) -> bool:
        """Return True."""
        return True


class AgentGone(AgentError):
    """The agent has ended. `status` is its wait status."""

    def __init__(self, text: str, status: int, partly: bool = False) -> None:
        """Take the wait status, and whether a part of a reply came before."""
        super().__init__(text)
        self.status, self._partly = status, partly

    @property
    def unanswered(self) -> bool:
        """Return True if nothing of a reply came."""
        return not self._partly


class Refused(AgentError):
    """A posted request failed."""


class Reply(NamedTuple):
    """Holds a reply: its status, its two values, and the bytes after its header."""

    status: int
    first: int
    second: int
    data: bytes


@dataclass(frozen=True)
class Info:
    """Holds what an agent reports of itself. `sysinfo` is the address of __kernel_vsyscall, 0 if there is no vDSO.

    `sysinfo_cell` is where that address lies in memory; `int80` is the instruction pointer of the traced int80 gate,
    `vdso_return` the return address of the traced vDSO gate; `code` are the addresses of the program's code.
    """

    pid: int
    sysinfo: int
    page_size: int
    sysinfo_cell: int
    int80: int
    vdso_return: int
    code: range

    @classmethod
    def of(cls, data: bytes) -> Info:
        """Return the info of a reply's eight words. Raises struct.error."""
        pid, sysinfo, page_size, cell, int80, vdso_return, base, size = struct.unpack("<8I", data)
        return cls(pid, sysinfo, page_size, cell, int80, vdso_return, range(base, base + size))


@dataclass(frozen=True)
class Posted:
    """Is a request without its reply. `what` says what it is for; `expected` is the result of the call that it makes."""

    number: int
    operation: int
    what: str
    expected: int | None

    def __str__(self) -> str:
        """Return the words for a message."""
        return f"request {self.number} ({self.what})"


#: Stands for the request of the first reply, which comes unasked.
START = Posted(0, INFO, "start", None)


def with_checksum(frame: bytes) -> bytes:
    """Return a frame as a line carries it."""
    return frame + TRAILER.pack(zlib.crc32(frame))


def status_text(reply: Reply) -> str:
    """Return the status of a reply in words."""
    names = {
        FAULT: "fault",
        GONE: "gone",
        MALFORMED: "malformed request",
        FAILED: error_text(signed(reply.first)),
        DAMAGED: "damaged request",
    }
    return names.get(reply.status, "success")


def error_text(result: int) -> str:
    """Return the message of a negative errno, another result as hexadecimal."""
    return os.strerror(-result) if -4096 < result < 0 else hex(result & 0xFFFFFFFF)


def shown(data: bytes | bytearray) -> str:
    """Return the beginning of some bytes for a message."""
    return repr(bytes(data[:_NOISE_SHOWN])).removeprefix("b")


def how(status: int) -> str:
    """Return a wait status in words."""
    if os.WIFSIGNALED(status):
        return f"died by signal {os.WTERMSIG(status)}"
    return f"ended with status {os.WEXITSTATUS(status)}"
