"""Open a line to another machine: a terminal device, a Unix socket, or the standard streams of a command that boots one."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import socket
import stat
import struct
import subprocess
import termios
import tty
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from probes.entry.agent_driver import left
from probes.entry.agent_frames import how

_PR_SET_PDEATHSIG = 1
#: Bytes that are read at once, and those of a command's errors that are kept for a message.
_PART, _SAID = 1 << 16, 2000
_LINES = 5
#: Seconds for which connect(2) waits where others are before it.
_CONNECT = 10

_libc = ctypes.CDLL(None)


class NoLine(Exception):
    """A line cannot be opened. The text says which, and why."""


class LineEnded(Exception):
    """The machine at the other end of a line is gone. The text says how."""


class Line:
    """Carries bytes to and from another machine. `name` names it in messages."""

    def __init__(self, name: str, descriptor: int) -> None:
        """Take an open descriptor, which is made not to block."""
        self.name, self._descriptor = name, descriptor
        os.set_blocking(descriptor, False)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Return the descriptors that a process needs which uses the line."""
        return (self._descriptor,)

    def send(self, data: bytearray, end: float | None) -> bool:
        """Send bytes, which are taken from the array; return False if not all are gone at `end`. Raises LineEnded."""
        while data:
            try:
                del data[: os.write(self._descriptor, data)]
            except BlockingIOError:
                if not select.select([], [self._descriptor], [], left(end))[1]:
                    return False
            except OSError as error:
                raise LineEnded(self.ending(error)) from None
        return True

    def receive(self, end: float | None) -> bytes:
        """Return bytes as soon as there are any; b"" if there are none at `end`. Raises LineEnded."""
        while select.select([self._descriptor], [], [], left(end))[0]:
            try:
                data = os.read(self._descriptor, _PART)
            except BlockingIOError:
                continue
            except OSError as error:
                raise LineEnded(self.ending(error)) from None
            if not data:
                raise LineEnded(self.ending(None))
            return data
        return b""

    def ending(self, error: OSError | None) -> str:
        """Return how it ended, for a message."""
        return f"{self.name}: {'the other end closed it' if error is None else error.strerror}"

    def last_words(self) -> list[str]:
        """Return the last lines that the machine wrote, but not to the line."""
        return []

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)


class BootedLine(Line):
    """Carries bytes to and from a machine that a command boots: its standard input and output are the line.

    The command has a process group of its own, and dies with this process. What it writes to its standard error is kept.
    """

    def __init__(self, command: Sequence[str], name: str) -> None:
        """Start the command. Raises OSError: it cannot be started."""
        ours, its = socket.socketpair()
        #: The wait status, None until it has been ended.
        self._status: int | None = None
        self._said = os.memfd_create("socketcall-console")
        with its:
            try:
                self.process = subprocess.Popen(
                    list(command), stdin=its.fileno(), stdout=its.fileno(), stderr=self._said, start_new_session=True,
                    preexec_fn=_dies_with(os.getpid()),
                )  # fmt: skip
            except BaseException:
                ours.close()
                os.close(self._said)
                raise
        super().__init__(name, ours.detach())

    def ending(self, error: OSError | None) -> str:
        """Return how the command ended, for a message; it is ended if it has not."""
        return f"`{self.name}` {how(self._end())}"

    def last_words(self) -> list[str]:
        """Return the last lines that the command wrote to its standard error."""
        size = os.fstat(self._said).st_size
        text = os.pread(self._said, _SAID, max(0, size - _SAID)).decode(errors="replace")
        lines = ["".join(c if c.isprintable() else "?" for c in line.strip()) for line in text.splitlines()]
        return [line for line in lines if line][-_LINES:]

    def close(self) -> None:
        """End the command, and close the line."""
        super().close()
        self._end()
        os.close(self._said)

    def _end(self) -> int:
        """End the command once, since another may get its number then, and return its wait status."""
        if self._status is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self._status = 0
            # Another process than the one that started it only kills it.
            with suppress(ChildProcessError):
                _, self._status = os.waitpid(self.process.pid, 0)
                self.process.returncode = self._status
        return self._status


def _dies_with(parent: int) -> Callable[[], None]:
    def set_up() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return set_up


def open_line(path: Path) -> Line:
    """Open a terminal device, which is made raw, or connect to a Unix socket. Raises NoLine."""
    try:
        if stat.S_ISSOCK(path.stat().st_mode):
            with socket.socket(socket.AF_UNIX) as connected:
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _CONNECT, 0))
                connected.connect(str(path))
                return Line(str(path), connected.detach())
        descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise NoLine(f"{path}: {error.strerror or error}") from error
    try:
        if not os.isatty(descriptor):
            raise NoLine(f"{path} is no line; it takes a terminal device, as of a serial port, or a Unix socket")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _make_raw(descriptor)
    except BlockingIOError:
        os.close(descriptor)
        raise NoLine(f"{path} is in use by another run") from None
    except OSError as error:
        os.close(descriptor)
        raise NoLine(f"{path}: {error.strerror}") from error
    except termios.error as error:
        os.close(descriptor)
        raise NoLine(f"{path}: {error.args[-1]}") from error
    except NoLine:
        os.close(descriptor)
        raise
    return Line(str(path), descriptor)


def _make_raw(descriptor: int) -> None:
    """Set a terminal to 8 bits without parity, echo, editing and flow control, at 115200 bits per second."""
    tty.setraw(descriptor)
    settings = termios.tcgetattr(descriptor)
    settings[2] = settings[2] & ~(termios.CSTOPB | termios.CRTSCTS) | termios.CLOCAL | termios.CREAD
    settings[4] = settings[5] = termios.B115200
    termios.tcsetattr(descriptor, termios.TCSANOW, settings)
    termios.tcflush(descriptor, termios.TCIOFLUSH)
