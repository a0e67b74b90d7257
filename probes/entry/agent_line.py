"""Drive an agent over a line, where bytes get lost, damaged and mixed with others: see machine/agent.s.

The first agent stays as long as its machine does. Each test gets a child of it, `begin`, and `resume` returns to the first
agent whatever the child does: it ends by request, or by its alarm if it is blocked.
"""

from __future__ import annotations

import math
import time
import zlib
from dataclasses import replace

from probes.entry.agent_driver import Driver
from probes.entry.agent_frames import (
    DAMAGED,
    ENTER,
    EXIT,
    GONE,
    HEADER,
    MOST,
    OK,
    REPLY,
    RESULT,
    START,
    TRAILER,
    AgentError,
    AgentGone,
    AgentSilent,
    Posted,
    Reply,
    how,
    shown,
    with_checksum,
)
from probes.entry.line import Line, LineEnded

_ALARM = 27
#: Numbers of requests that `resume` makes: late replies to them are skipped.
_RESUMING = 0xFFFF0000
#: Seconds after which `resume` asks again, and those by which the alarm of a child comes after the end of its time.
_AGAIN, _GRACE = 1.5, 2
#: Bytes of noise before the first reply that are kept.
_NOISE = 1 << 16


class MachineLost(AgentError):
    """The machine at the other end of a line does not answer any more. The text says how, and what it wrote last."""


class LineAgent(Driver):
    """Drives the agents of a machine over a line.

    Fewer bytes are unanswered than a terminal's buffer takes (4096): one that is full may lose what follows.
    """

    most_queued, most_written = 1024, 2048

    def __init__(self, line: Line) -> None:
        """Take a line; `start` or `resume` comes first."""
        super().__init__(None, None, keeps_writes=True)
        self.line = line
        self._received = bytearray()
        #: What came since the last request and is no reply.
        self._noise = bytearray()
        self._resumed = 0
        self._alarm = 0.0

    def start(self, end: float) -> None:
        """Wait for the first reply of a machine that boots, until a time (time.monotonic). Raises AgentError."""
        self.until = end
        self._take_info(self._read_reply(START))

    def meet(self, end: float) -> None:
        """Find an agent that was started before, or will be, until a time (time.monotonic). Raises AgentError."""
        self.resume(end)
        self.until, self._number = end, 0
        self._take_info(self.ask(START.operation))

    def begin(self, end: float) -> None:
        """Let a child serve from now on: the requests that follow are its own. Raises AgentError: none by that time."""
        self._number, self.until = 0, end
        self.info = replace(self.info, pid=self.fork())
        self.written.clear()

    def limit(self, until: float | None) -> None:
        """Let the replies of the child come until a time (time.monotonic). An alarm ends it if it is blocked then."""
        self.until = until
        if until is not None:
            # (0 would be no alarm.)
            seconds = max(1, math.ceil(until - time.monotonic()) + _GRACE)
            self.post_call("alarm", 0, _ALARM, seconds)

    def resume(self, end: float) -> None:
        """Return to the first agent of the machine, until a time (time.monotonic). Raises AgentError: it does not answer."""
        self._queue.clear()
        self._posted.clear()
        self._received.clear()
        self._noise.clear()
        while time.monotonic() < end:
            self._resumed = (self._resumed + 1) & 0xFFFF
            number = _RESUMING + self._resumed
            self._number = number - 1
            self._request(EXIT, "end of a child", 0, 1, b"", None)
            mine = self._posted.pop()
            self.until = min(end, time.monotonic() + _AGAIN)
            try:
                self._send()
                while True:
                    reply = self._next(mine)
                    if reply[0] == number and reply[1].status == OK:
                        return
                    if reply[1].status == GONE:
                        # What a child left unread, its parent reads: the next request is behind that.
                        break
            except (AgentSilent, _Noise):
                continue
        raise MachineLost(f"{self.line.name}: no agent answers{self._said()}")

    def _packed(self, frame: bytes) -> bytes:
        return with_checksum(frame)

    def _send(self) -> None:
        try:
            if not self.line.send(self._queue, self._end()):
                raise self._failed(f"{self.line.name} takes no bytes", AgentSilent)
        except LineEnded as error:
            raise self._lost(error) from None

    def _read_reply(self, wanted: Posted, last: Posted | None = None) -> Reply:
        while True:
            number, reply = self._next(last if last is not None and not self._received else wanted)
            if number == wanted.number and reply.status not in (GONE, DAMAGED):
                break
            if number >= _RESUMING > wanted.number:
                continue
            if reply.status == GONE:
                raise AgentGone(f"{wanted}: no reply came; the agent's child {how(reply.first)}", reply.first)
            if reply.status == DAMAGED:
                raise self._failed(f"{wanted}: it was damaged on {self.line.name}: wrong checksum")
            known = "came already: it came twice or too late" if number < wanted.number else "was never asked for"
            raise self._failed(f"{wanted}: reply {number} came instead, which {known}")
        if wanted.operation == ENTER and reply.status == OK and len(reply.data) < RESULT.size:
            raise self._failed(f"{wanted}: the reply is damaged: a frame of {len(reply.data)} bytes")
        self._noise.clear()
        return reply

    def _next(self, wanted: Posted) -> tuple[int, Reply]:
        """Return the next whole reply and its number. Raises AgentError: it is damaged, or none comes in time."""
        end, began, late = self._end(), time.monotonic(), False
        while True:
            found = self._whole(wanted)
            if found is not None:
                return found
            if late:
                raise self._nothing(wanted, time.monotonic() - began)
            try:
                part = self.line.receive(end)
            except LineEnded as error:
                raise self._lost(error) from None
            self._received += part
            # A console that never falls silent has a part at any time.
            late = not part or (end is not None and time.monotonic() > end)

    def _whole(self, wanted: Posted) -> tuple[int, Reply] | None:
        """Return the first whole reply among what has come, None if there is none. Raises AgentError: it is damaged."""
        received, at = self._received, 0
        while (at := received.find(REPLY, at)) >= 0:
            rest = len(received) - at
            if rest < HEADER.size:
                break
            _, number, status, size, first, second = HEADER.unpack_from(received, at)
            whole = HEADER.size + size + TRAILER.size
            if status <= DAMAGED and size <= MOST and rest >= whole:
                frame = bytes(received[at : at + whole - TRAILER.size])
                intact = zlib.crc32(frame) == TRAILER.unpack_from(received, at + len(frame))[0]
                if not intact and wanted is not START:
                    self._drop(at + len(REPLY))
                    raise _Noise(f"{wanted}: the reply was damaged on {self.line.name}: wrong checksum")
                if intact and (wanted is not START or number == START.number):
                    self._drop(at)
                    del received[:whole]
                    return number, Reply(status, first, second, frame[HEADER.size :])
            at += 1
        if REPLY not in received:
            # The beginning of a reply may be among the last bytes.
            self._drop(max(0, len(received) - len(REPLY) + 1))
        return None

    def _drop(self, size: int) -> None:
        """Take the first bytes of what has come as noise."""
        self._noise += self._received[:size]
        del self._noise[:-_NOISE], self._received[:size]

    def _nothing(self, wanted: Posted, waited: float) -> AgentError:
        came = self._noise + self._received
        if not came:
            error = AgentSilent(f"{wanted}: no reply came within {self._patience}")
            error.waited = waited
            return error
        return _Noise(f"{wanted}: no reply came over {self.line.name} within {self._patience}, but {shown(came)}")

    def _failed(self, text: str, kind: type[AgentError] = AgentError) -> AgentError:
        return kind(text)

    def _lost(self, error: LineEnded) -> MachineLost:
        return MachineLost(f"{error}{self._said()}")

    def _said(self) -> str:
        lines = self.line.last_words()
        return f"; it wrote: {' | '.join(lines)}" if lines else ""


class _Noise(AgentError):
    """Something else than a reply came, or a damaged one."""
