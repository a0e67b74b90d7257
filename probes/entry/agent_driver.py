"""Drive an agent by requests and replies, however these reach it.

`ask` waits for the reply to its request; `post` does not, and what it requests must succeed: a failure raises at the next
`ask`. Requests posted before an `ask` go with it in one write.
"""

from __future__ import annotations

import signal
import struct
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence

from probes.abi.record import signed
from probes.entry.agent_frames import (
    ENTER,
    ENTERED,
    FORK,
    GONE,
    HEADER,
    MOST,
    OK,
    OPERATIONS,
    READ,
    REQUEST,
    RESULT,
    WRITE,
    AgentError,
    Info,
    Posted,
    Refused,
    Reply,
    error_text,
    shown,
    status_text,
)

_WRITES_KEPT = 64
_PRCTL, _PR_SET_PDEATHSIG = 172, 1


class Driver(ABC):
    """Drives an agent. `info` is what it reported when it started; its pid is that of the process that serves.

    `deadline` is in seconds for each reply, None for none; none comes later than `until` (time.monotonic).
    """

    info: Info
    #: Unanswered requests, and bytes of them, at which they are sent: what they and their replies take fits into two pipes.
    most_posted, most_queued = 100, 0x4000
    #: Bytes that are written to memory by one request at most.
    most_written = MOST

    def __init__(self, deadline: float | None, until: float | None, keeps_writes: bool) -> None:
        """Take the deadlines. `keeps_writes`: nothing else sees what its calls read."""
        self.deadline, self.until, self.keeps_writes = deadline, until, keeps_writes
        #: The newest writes to its memory by address, if they are kept.
        self.written: dict[int, bytes] = {}
        #: The ABI that the records of its calls name where no tracer watches.
        self.abi = "i386"
        #: The path of calls that no tracer stops at: see agent.s.
        self.quiet = 2
        self._queue = bytearray()
        self._posted: deque[Posted] = deque()
        self._number = 0

    @abstractmethod
    def _send(self) -> None:
        """Send what is queued. Raises AgentError."""

    @abstractmethod
    def _read_reply(self, wanted: Posted, last: Posted | None = None) -> Reply:
        """Return the reply to a request. Raises AgentError: what comes is none, or belongs to another.

        `last` is the request that was sent last, if that is another.
        """

    @abstractmethod
    def _failed(self, text: str, kind: type[AgentError] = AgentError) -> AgentError:
        """Return the error for an agent that did not reply as it should, and end what cannot go on."""

    def post(self, operation: int, what: str, first: int = 0, second: int = 0, data: bytes = b"") -> None:
        """Queue a request that must succeed; `what` says what it is for. Raises Refused: one posted before has failed."""
        self._request(operation, what, first, second, data, None)

    def post_call(self, what: str, expected: int, *registers: int) -> None:
        """Queue an untraced call that must have this result. Raises Refused: a request posted before has failed."""
        words = [register & 0xFFFFFFFF for register in registers] + [0] * (7 - len(registers))
        self._request(ENTER, what, 0, 0, ENTERED.pack(self.quiet, *words, 0, 0), expected)

    def die_with_parent(self) -> None:
        """Let the kernel kill the agent when this process ends, also from within a call. A change of user undoes it."""
        self.post_call("PR_SET_PDEATHSIG", 0, _PRCTL, _PR_SET_PDEATHSIG, signal.SIGKILL)

    def ask(self, operation: int, first: int = 0, second: int = 0, data: bytes = b"") -> Reply:
        """Make a request and return its reply. Raises AgentError, Refused if a request posted before has failed."""
        self._request(operation, OPERATIONS[operation], first, second, data, None)
        mine = self._posted.pop()
        refused = self._settle(mine)
        # Read in any case: it comes.
        reply = self._read_reply(mine)
        if refused:
            raise Refused(refused)
        return reply

    def flush(self) -> None:
        """Send what is queued, and read the replies to all requests posted. Raises AgentError, Refused."""
        refused = self._settle(self._posted[-1]) if self._posted else ""
        if refused:
            raise Refused(refused)

    def _settle(self, last: Posted) -> str:
        """Send what is queued, read the replies to all requests posted, and return what is wrong with the first.

        `last` is the request that was sent last. The agent writes the replies to several at once, so it is the one that
        was not answered if none was.
        """
        self._send()
        refused = ""
        while self._posted:
            posted = self._posted.popleft()
            reply = self._read_reply(posted, last)
            if reply.status != OK:
                refused = refused or f"{posted.what}: the agent replied {status_text(reply)}"
            elif posted.expected is not None:
                (result,) = RESULT.unpack_from(reply.data)
                if result != posted.expected & 0xFFFFFFFF:
                    refused = refused or f"{posted.what}: {error_text(signed(result))}"
        return refused

    def enter(self, path: int, registers: Sequence[int], call_id: int, flags: int = 0) -> bytes:
        """Make one call, and return its frame: see agent.s. `registers` are the seven, eax to ebp. Raises AgentError."""
        reply = self.ask(ENTER, data=ENTERED.pack(path, *registers, call_id, flags))
        if reply.status != OK:
            raise AgentError(f"enter by path {path}: the agent replied {status_text(reply)}")
        return reply.data

    def call(self, *registers: int) -> int:
        """Make one untraced call and return its result. Raises AgentError."""
        words = [register & 0xFFFFFFFF for register in registers] + [0] * (7 - len(registers))
        return signed(RESULT.unpack_from(self.enter(self.quiet, words, 0))[0])

    def read(self, address: int, size: int) -> bytes:
        """Return bytes of the agent's memory. Raises Refused: it faults."""
        parts = []
        for at in range(0, size, MOST):
            reply = self.ask(READ, address + at, min(MOST, size - at))
            if reply.status != OK:
                raise Refused(f"read {size} bytes at {address:#x}: the agent replied {status_text(reply)}")
            parts.append(reply.data)
        return b"".join(parts)

    def write(self, address: int, data: bytes) -> None:
        """Queue a write to the agent's memory. Raises Refused: a request posted before has failed."""
        for at in range(0, len(data), self.most_written):
            part = data[at : at + self.most_written]
            self.post(WRITE, f"write {len(part)} bytes at {address + at:#x}", address + at, 0, part)
            if self.keeps_writes:
                self.written.pop(address + at, None)
                self.written[address + at] = part
                if len(self.written) > _WRITES_KEPT:
                    del self.written[next(iter(self.written))]

    def wrote(self, address: int, size: int) -> bytes:
        """Return up to `size` bytes of memory as this process wrote them last, fewer where it did not."""
        found = b""
        while len(found) < size:
            at = address + len(found)
            for start, data in reversed(self.written.items()):
                if start <= at < start + len(data):
                    found += data[at - start : at - start + size - len(found)]
                    break
            else:
                break
        return found

    def fork(self) -> int:
        """Let a child of the agent serve until it ends, and return its pid. `ended` waits for its end. Raises AgentError."""
        reply = self.ask(FORK)
        if reply.status != OK:
            raise AgentError(f"fork: the agent replied {status_text(reply)}")
        self._parent = Posted(self._number, FORK, "the child's end", None)
        return reply.first

    def ended(self) -> int:
        """Wait for the end of the child made by `fork`, and return its wait status. The parent serves again.

        Requests posted before are sent; their replies are lost with the child.
        """
        self._send()
        self._posted.clear()
        reply = self._read_reply(self._parent)
        if reply.status != GONE:
            raise AgentError(f"the child's end: the agent replied {status_text(reply)}")
        return reply.first

    def _take_info(self, reply: Reply) -> None:
        """Keep what an agent reports of itself. Raises AgentError: it is no info."""
        try:
            self.info = Info.of(reply.data)
        except struct.error:
            raise self._failed(f"start: {shown(reply.data)} is no info of an agent") from None
        self.quiet = 3 if self.info.sysinfo else 2

    def _end(self) -> float | None:
        """Return the time (time.monotonic) until which a reply to a request that is made now must have come."""
        ends = [self.until] if self.until is not None else []
        if self.deadline is not None:
            ends.append(time.monotonic() + self.deadline)
        return min(ends, default=None)

    @property
    def _patience(self) -> str:
        return "the time of the test" if self.deadline is None else f"{self.deadline:g} s"

    def _request(self, operation: int, what: str, first: int, second: int, data: bytes, expected: int | None) -> None:
        if len(self._posted) >= self.most_posted or len(self._queue) >= self.most_queued:
            self.flush()
        self._number += 1
        self._queue += self._packed(HEADER.pack(REQUEST, self._number, operation, len(data), first, second) + data)
        self._posted.append(Posted(self._number, operation, what, expected))

    def _packed(self, frame: bytes) -> bytes:
        """Return a request as it is sent."""
        return frame


def left(end: float | None) -> float | None:
    """Return the seconds that are left until a time."""
    return None if end is None else max(0.0, end - time.monotonic())
