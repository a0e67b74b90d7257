"""Drive the agent over two pipes: a static i386 program that makes calls in its own process (machine/agent.s)."""

from __future__ import annotations

import os
import select
import shlex
import signal
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

from probes.entry import agent_start
from probes.entry.agent_driver import Driver, left
from probes.entry.agent_frames import (
    ENTER,
    ENTERED,
    FAILED,
    HEADER,
    MOST,
    OK,
    REPLY,
    REQUEST,
    RESULT,
    START,
    AgentError,
    AgentGone,
    AgentSilent,
    Posted,
    Reply,
    how,
    shown,
    status_text,
)

#: Seconds within which a reply must begin and end, unless another number is given.
DEADLINE = 10.0
_ENTER_REQUEST = struct.Struct("<4s15I")
#: Bytes of the frame of a call, of the reply that has it, and how that begins.
_FRAME = 4 * 27
_FRAME_REPLY = HEADER.size + _FRAME
_FRAME_BEGINS = struct.Struct("<4s3I")
_SAID_SHOWN = 200
#: As bytes of noise before the first reply, from a console that prints first.
_NOISE_ALLOWED = 1 << 20


class Agent(Driver):
    """Holds a running agent."""

    def __init__(
        self, command: Sequence[str] = (), deadline: float | None = DEADLINE, until: float | None = None
    ) -> None:
        """Start a command that runs the agent, or the agent itself, and wait for its first reply.

        `deadline` is in seconds for each reply, None for none; none comes later than `until` (time.monotonic). What the
        command writes to stderr is kept: its last line is part of an error. Raises AgentError; OSError: the command
        cannot be started.
        """
        super().__init__(deadline, until, keeps_writes=bool(command))
        self.command = list(command)
        self._said = os.memfd_create("socketcall-stderr") if command else -1
        self._received = bytearray()
        #: A reply must come by a time: it is waited for before it is read.
        self._waits = deadline is not None or until is not None
        self._status: int | None = None
        try:
            self.pid, self._to, self._from = agent_start.start(self.command, self._said)
        except BaseException:
            self._forget()
            raise
        try:
            self._skip_noise()
            self._take_info(self._read_reply(START))
            if not command:
                self.die_with_parent()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Agent:
        """Return the agent."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the agent."""
        self.close()

    def enter(self, path: int, registers: Sequence[int], call_id: int, flags: int = 0) -> bytes:
        """Make one call, and return its frame: see agent.s. `registers` are the seven, eax to ebp. Raises AgentError."""
        if self._posted or self._waits:
            reply = self.ask(ENTER, data=ENTERED.pack(path, *registers, call_id, flags))
        else:
            # The same in fewer steps: this is what most of a test's time goes into.
            self._number += 1
            self._queue += _ENTER_REQUEST.pack(
                REQUEST, self._number, ENTER, ENTERED.size, 0, 0, path, *registers, call_id, flags
            )
            self._send()
            data = os.read(self._from, _FRAME_REPLY)
            if len(data) == _FRAME_REPLY and data.startswith(_FRAME_BEGINS.pack(REPLY, self._number, OK, _FRAME)):
                return data[HEADER.size :]
            self._received += data
            reply = self._read_reply(Posted(self._number, ENTER, "enter", None))
        if reply.status != OK:
            raise AgentError(f"enter by path {path}: the agent replied {status_text(reply)}")
        return reply.data

    def close(self) -> None:
        """End the agent: its input ends, and it is killed. Does nothing if it has ended."""
        for descriptor in (self._to, self._from):
            with suppress(OSError):
                os.close(descriptor)
        self._to = self._from = -1
        self._kill()
        self._forget()

    def _kill(self) -> int:
        """Kill the agent if it has not ended, and return its wait status. A command is killed with its process group."""
        if self._status is None:
            with suppress(ProcessLookupError, PermissionError):
                if self.command:
                    os.killpg(self.pid, signal.SIGKILL)
                else:
                    os.kill(self.pid, signal.SIGKILL)
            try:
                _, self._status = os.waitpid(self.pid, 0)
            except ChildProcessError:
                self._status = 0
        return self._status

    def _wait(self) -> int:
        """Wait for the end of the agent, whose output has ended, and return its wait status; kill it at the deadline."""
        if self._status is None:
            end = self._end()
            with suppress(ProcessLookupError):
                process = os.pidfd_open(self.pid)
                try:
                    select.select([process], [], [], left(end))
                finally:
                    os.close(process)
        return self._kill()

    def _forget(self) -> None:
        if self._said >= 0:
            os.close(self._said)
            self._said = -1

    def _send(self) -> None:
        queue = self._queue
        while queue:
            try:
                del queue[: os.write(self._to, queue)]
            except BrokenPipeError:
                raise self._gone("before it took a request") from None

    def _read_reply(self, wanted: Posted, last: Posted | None = None) -> Reply:
        """Return the reply to a request. Raises AgentError: what comes is none, or belongs to another."""
        end = self._end()
        self._receive(HEADER.size, wanted if self._received or last is None else last, end)
        magic, number, status, size, first, second = HEADER.unpack_from(self._received)
        if magic != REPLY:
            raise self._failed(f"{wanted}: {shown(self._received)} is no reply")
        if number != wanted.number:
            known = "came already: it came twice or too late" if number < wanted.number else "was never asked for"
            raise self._failed(f"{wanted}: reply {number} came instead, which {known}")
        if status > FAILED or size > MOST:
            raise self._failed(f"{wanted}: the reply is damaged: status {status}, {size} bytes")
        self._receive(HEADER.size + size, wanted, end)
        data = bytes(self._received[HEADER.size : HEADER.size + size])
        del self._received[: HEADER.size + size]
        if wanted.operation == ENTER and status == OK and size < RESULT.size:
            raise self._failed(f"{wanted}: the reply is damaged: a frame of {size} bytes")
        return Reply(status, first, second, data)

    def _receive(self, size: int, wanted: Posted, end: float | None) -> None:
        began = time.monotonic()
        while len(self._received) < size:
            had = len(self._received)
            came = f"only {had} of {size} bytes of the reply came" if had else "no reply came"
            if not select.select([self._from], [], [], left(end))[0]:
                error = self._failed(f"{wanted}: {came} within {self._patience}", AgentError if had else AgentSilent)
                if isinstance(error, AgentSilent):
                    error.waited = time.monotonic() - began
                raise error
            part = os.read(self._from, 1 << 16)
            if not part:
                raise self._gone(f"{wanted}: {came}", bool(had))
            self._received += part

    def _skip_noise(self) -> None:
        """Drop what a console prints before the first reply. Raises AgentError: there is no first reply."""
        end = self._end()
        mark = REPLY + bytes(8)
        while (at := self._received.find(mark)) < 0:
            if len(self._received) > _NOISE_ALLOWED:
                raise self._failed(f"{START}: {shown(self._received)} … is no agent's first reply")
            try:
                self._receive(len(self._received) + 1, START, end)
            except AgentError as error:
                if not self._received:
                    raise
                text = f"{START}: no reply came, but {shown(self._received)}"
                if isinstance(error, AgentGone):
                    raise AgentGone(f"{text}, and it {how(error.status)}", error.status) from None
                raise AgentError(text) from None
        del self._received[:at]

    def _gone(self, when: str, partly: bool = False) -> AgentGone:
        status = self._wait()
        return AgentGone(f"{when}; {self._name()} {how(status)}{self._last_words()}", status, partly)

    def _failed(self, text: str, kind: type[AgentError] = AgentError) -> AgentError:
        self._kill()
        said = self._last_words()
        self.close()
        return kind(f"{text}; {self._name()} was ended{said}")

    def _name(self) -> str:
        return f"`{shlex.join(self.command)}`" if self.command else "the agent"

    def _last_words(self) -> str:
        """Return the last line that a command wrote to stderr, "" if there is none."""
        if self._said < 0:
            return ""
        size = os.fstat(self._said).st_size
        lines = os.pread(self._said, _SAID_SHOWN, max(0, size - _SAID_SHOWN)).decode(errors="replace").split("\n")
        line = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"; it wrote: {''.join(c if c.isprintable() else '?' for c in line)}" if line else ""
