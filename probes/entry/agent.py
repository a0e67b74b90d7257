"""Drive the agent: a static i386 program that makes calls in its own process (probes/entry/machine/agent.s).

Requests and replies are frames over two pipes. `ask` waits for the reply to its request; `post` does not, and what it
requests must succeed: a failure raises at the next `ask`. Requests posted before an `ask` go with it in one write.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple

from probes.abi.record import Record, signed
from probes.entry import agent_start

#: Seconds within which a reply must begin and end, unless another number is given.
DEADLINE = 10.0
INFO, WRITE, READ, ENTER, CALL, FORK, EXIT = range(7)
_OPERATIONS = ("info", "write", "read", "enter", "call", "fork", "exit")
OK, FAULT, GONE, MALFORMED, FAILED = range(5)
#: The most bytes of one request or reply.
MOST = 0x8000
_HEADER = struct.Struct("<4s5I")
_REQUEST, _REPLY = b"SCq1", b"SCr1"
_ENTER = struct.Struct("<10I")
_ENTER_REQUEST = struct.Struct("<4s15I")
#: Bytes of the frame of a call, of the reply that has it, and how that begins.
_FRAME = 4 * 27
_FRAME_REPLY = _HEADER.size + _FRAME
_FRAME_BEGINS = struct.Struct("<4s3I")
#: Where the result lies in the frame of a call.
_RESULT = struct.Struct("<32xI")
#: Unanswered requests, and bytes of them, at which they are sent: what they and their replies take fits into two pipes.
_POSTED, _QUEUED = 100, 0x4000
_NOISE_SHOWN, _SAID_SHOWN = 40, 200
_WRITES_KEPT = 64
#: As bytes of noise before the first reply, from a console that prints first.
_NOISE_ALLOWED = 1 << 20
_PRCTL, _PR_SET_PDEATHSIG = 172, 1


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
    """Nothing of a reply came within the deadline."""

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
class _Posted:
    """Is a request without its reply. `what` says what it is for; `expected` is the result of the call that it makes."""

    number: int
    operation: int
    what: str
    expected: int | None


class Agent:
    """Holds a running agent. `info` is what it reported when it started."""

    def __init__(
        self, command: Sequence[str] = (), deadline: float | None = DEADLINE, until: float | None = None
    ) -> None:
        """Start a command that runs the agent, or the agent itself, and wait for its first reply.

        `deadline` is in seconds for each reply, None for none; none comes later than `until` (time.monotonic). What the
        command writes to stderr is kept: its last line is part of an error. Raises AgentError; OSError: the command
        cannot be started.
        """
        self.command, self.deadline, self.until = list(command), deadline, until
        #: The newest writes to its memory by address, if a command runs it: what its calls read, where nothing else sees it.
        self.written: dict[int, bytes] = {}
        self._said = os.memfd_create("socketcall-stderr") if command else -1
        #: The ABI that the records of its calls name where no tracer watches.
        self.abi = "i386"
        self._queue = bytearray()
        self._posted: deque[_Posted] = deque()
        self._received = bytearray()
        #: A reply must come by a time: it is waited for before it is read.
        self._waits = deadline is not None or until is not None
        self._number = 0
        self._status: int | None = None
        try:
            self.pid, self._to, self._from = agent_start.start(self.command, self._said)
        except BaseException:
            self._forget()
            raise
        try:
            self._skip_noise()
            self.info = self._info(self._read_reply(_Posted(0, INFO, "start", None)))
            self.quiet = 3 if self.info.sysinfo else 2
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

    def die_with_parent(self) -> None:
        """Let the kernel kill the agent when this process ends, also from within a call. A change of user undoes it."""
        self.post_call("PR_SET_PDEATHSIG", 0, _PRCTL, _PR_SET_PDEATHSIG, signal.SIGKILL)

    def post(self, operation: int, what: str, first: int = 0, second: int = 0, data: bytes = b"") -> None:
        """Queue a request that must succeed; `what` says what it is for. Raises Refused: one posted before has failed."""
        self._request(operation, what, first, second, data, None)

    def post_call(self, what: str, expected: int, *registers: int) -> None:
        """Queue an untraced call that must have this result. Raises Refused: a request posted before has failed."""
        words = [register & 0xFFFFFFFF for register in registers] + [0] * (7 - len(registers))
        self._request(ENTER, what, 0, 0, _ENTER.pack(self.quiet, *words, 0, 0), expected)

    def ask(self, operation: int, first: int = 0, second: int = 0, data: bytes = b"") -> Reply:
        """Make a request and return its reply. Raises AgentError, Refused if a request posted before has failed."""
        self._request(operation, _OPERATIONS[operation], first, second, data, None)
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

    def _settle(self, last: _Posted) -> str:
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
                refused = refused or f"{posted.what}: the agent replied {_status(reply)}"
            elif posted.expected is not None:
                (result,) = _RESULT.unpack_from(reply.data)
                if result != posted.expected & 0xFFFFFFFF:
                    refused = refused or f"{posted.what}: {_error(signed(result))}"
        return refused

    def enter(self, path: int, registers: Sequence[int], call_id: int, flags: int = 0) -> bytes:
        """Make one call, and return its frame: see agent.s. `registers` are the seven, eax to ebp. Raises AgentError."""
        if self._posted or self._waits:
            reply = self.ask(ENTER, data=_ENTER.pack(path, *registers, call_id, flags))
        else:
            # The same in fewer steps: this is what most of a test's time goes into.
            self._number += 1
            self._queue += _ENTER_REQUEST.pack(
                _REQUEST, self._number, ENTER, _ENTER.size, 0, 0, path, *registers, call_id, flags
            )
            self._send()
            data = os.read(self._from, _FRAME_REPLY)
            if len(data) == _FRAME_REPLY and data.startswith(_FRAME_BEGINS.pack(_REPLY, self._number, OK, _FRAME)):
                return data[_HEADER.size :]
            self._received += data
            reply = self._read_reply(_Posted(self._number, ENTER, "enter", None))
        if reply.status != OK:
            raise AgentError(f"enter by path {path}: the agent replied {_status(reply)}")
        return reply.data

    def call(self, *registers: int) -> int:
        """Make one untraced call and return its result. Raises AgentError."""
        words = [register & 0xFFFFFFFF for register in registers] + [0] * (7 - len(registers))
        return signed(_RESULT.unpack_from(self.enter(self.quiet, words, 0))[0])

    def read(self, address: int, size: int) -> bytes:
        """Return bytes of the agent's memory. Raises Refused: it faults."""
        parts = []
        for at in range(0, size, MOST):
            reply = self.ask(READ, address + at, min(MOST, size - at))
            if reply.status != OK:
                raise Refused(f"read {size} bytes at {address:#x}: the agent replied {_status(reply)}")
            parts.append(reply.data)
        return b"".join(parts)

    def write(self, address: int, data: bytes) -> None:
        """Queue a write to the agent's memory. Raises Refused: a request posted before has failed."""
        for at in range(0, len(data), MOST):
            part = data[at : at + MOST]
            self.post(WRITE, f"write {len(part)} bytes at {address + at:#x}", address + at, 0, part)
            if self.command:
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
            raise AgentError(f"fork: the agent replied {_status(reply)}")
        self._parent = _Posted(self._number, FORK, "the child's end", None)
        return reply.first

    def ended(self) -> int:
        """Wait for the end of the child made by `fork`, and return its wait status. The parent serves again.

        Requests posted before are sent; their replies are lost with the child.
        """
        self._send()
        self._posted.clear()
        reply = self._read_reply(self._parent)
        if reply.status != GONE:
            raise AgentError(f"the child's end: the agent replied {_status(reply)}")
        return reply.first

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
                    select.select([process], [], [], _left(end))
                finally:
                    os.close(process)
        return self._kill()

    def _forget(self) -> None:
        if self._said >= 0:
            os.close(self._said)
            self._said = -1

    def _end(self) -> float | None:
        """Return the time (time.monotonic) until which a reply to a request that is made now must have come."""
        ends = [self.until] if self.until is not None else []
        if self.deadline is not None:
            ends.append(time.monotonic() + self.deadline)
        return min(ends, default=None)

    def _request(self, operation: int, what: str, first: int, second: int, data: bytes, expected: int | None) -> None:
        if len(self._posted) >= _POSTED or len(self._queue) >= _QUEUED:
            self.flush()
        self._number += 1
        self._queue += _HEADER.pack(_REQUEST, self._number, operation, len(data), first, second) + data
        self._posted.append(_Posted(self._number, operation, what, expected))

    def _send(self) -> None:
        queue = self._queue
        while queue:
            try:
                del queue[: os.write(self._to, queue)]
            except BrokenPipeError:
                raise self._gone("before it took a request") from None

    def _read_reply(self, wanted: _Posted, last: _Posted | None = None) -> Reply:
        """Return the reply to a request. Raises AgentError: what comes is none, or belongs to another."""
        end = self._end()
        self._receive(_HEADER.size, wanted if self._received or last is None else last, end)
        magic, number, status, size, first, second = _HEADER.unpack_from(self._received)
        if magic != _REPLY:
            raise self._failed(f"{_what(wanted)}: {_shown(self._received)} is no reply")
        if number != wanted.number:
            known = "came already: it came twice or too late" if number < wanted.number else "was never asked for"
            raise self._failed(f"{_what(wanted)}: reply {number} came instead, which {known}")
        if status > FAILED or size > MOST:
            raise self._failed(f"{_what(wanted)}: the reply is damaged: status {status}, {size} bytes")
        self._receive(_HEADER.size + size, wanted, end)
        data = bytes(self._received[_HEADER.size : _HEADER.size + size])
        del self._received[: _HEADER.size + size]
        if wanted.operation == ENTER and status == OK and size < _RESULT.size:
            raise self._failed(f"{_what(wanted)}: the reply is damaged: a frame of {size} bytes")
        return Reply(status, first, second, data)

    def _receive(self, size: int, wanted: _Posted, end: float | None) -> None:
        while len(self._received) < size:
            had = len(self._received)
            came = f"only {had} of {size} bytes of the reply came" if had else "no reply came"
            if not select.select([self._from], [], [], _left(end))[0]:
                kind = AgentError if had else AgentSilent
                raise self._failed(f"{_what(wanted)}: {came} within {self._patience}", kind)
            part = os.read(self._from, 1 << 16)
            if not part:
                raise self._gone(f"{_what(wanted)}: {came}", bool(had))
            self._received += part

    def _skip_noise(self) -> None:
        """Drop what a console prints before the first reply. Raises AgentError: there is no first reply."""
        end = self._end()
        start = _Posted(0, INFO, "start", None)
        mark = _REPLY + bytes(8)
        while (at := self._received.find(mark)) < 0:
            if len(self._received) > _NOISE_ALLOWED:
                raise self._failed(f"{_what(start)}: {_shown(self._received)} … is no agent's first reply")
            try:
                self._receive(len(self._received) + 1, start, end)
            except AgentError as error:
                if not self._received:
                    raise
                text = f"{_what(start)}: no reply came, but {_shown(self._received)}"
                if isinstance(error, AgentGone):
                    raise AgentGone(f"{text}, and it {_how(error.status)}", error.status) from None
                raise AgentError(text) from None
        del self._received[:at]

    def _info(self, reply: Reply) -> Info:
        try:
            return Info.of(reply.data)
        except struct.error:
            raise self._failed(f"start: {_shown(reply.data)} is no info of an agent") from None

    def _gone(self, when: str, partly: bool = False) -> AgentGone:
        status = self._wait()
        return AgentGone(f"{when}; {self._name()} {_how(status)}{self._last_words()}", status, partly)

    def _failed(self, text: str, kind: type[AgentError] = AgentError) -> AgentError:
        self._kill()
        said = self._last_words()
        self.close()
        return kind(f"{text}; {self._name()} was ended{said}")

    def _name(self) -> str:
        return f"`{' '.join(self.command)}`" if self.command else "the agent"

    @property
    def _patience(self) -> str:
        return "the time of the test" if self.deadline is None else f"{self.deadline:g} s"

    def _last_words(self) -> str:
        """Return the last line that a command wrote to stderr, "" if there is none."""
        if self._said < 0:
            return ""
        size = os.fstat(self._said).st_size
        lines = os.pread(self._said, _SAID_SHOWN, max(0, size - _SAID_SHOWN)).decode(errors="replace").split("\n")
        line = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"; it wrote: {''.join(c if c.isprintable() else '?' for c in line)}" if line else ""


def _left(end: float | None) -> float | None:
    """Return the seconds that are left until a time."""
    return None if end is None else max(0.0, end - time.monotonic())


def _what(request: _Posted) -> str:
    return f"request {request.number} ({request.what})"


def _status(reply: Reply) -> str:
    names = {FAULT: "fault", GONE: "gone", MALFORMED: "malformed request", FAILED: _error(signed(reply.first))}
    return names.get(reply.status, "success")


def _error(result: int) -> str:
    return os.strerror(-result) if -4096 < result < 0 else hex(result & 0xFFFFFFFF)


def _shown(data: bytes | bytearray) -> str:
    return repr(bytes(data[:_NOISE_SHOWN])).removeprefix("b")


def _how(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"died by signal {os.WTERMSIG(status)}"
    return f"ended with status {os.WEXITSTATUS(status)}"
