"""Writes the lines of a capture to a file, a command, or a file for each thread."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from probes.trace.spawn import CANNOT_TRACE, CannotCapture

if TYPE_CHECKING:
    import subprocess


class Sink:
    """Is where lines go: standard error, a file, or the standard input of a command. Opened by `open`."""

    def __init__(self, path: str | None) -> None:
        """Takes what -o names; None is standard error."""
        self.path = path
        self._fd: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_open(self) -> bool:
        """Returns True between `open` and the end, or the first write that failed."""
        return self._fd is not None

    @property
    def process(self) -> int:
        """Returns the process id of the command that lines go to, 0 if there is none."""
        return self._process.pid if self._process else 0

    def open(self) -> None:
        """Opens it. Raises CannotCapture."""
        try:
            if self.path is None:
                self._fd = sys.stderr.fileno()
            elif self.path.startswith("|"):
                import subprocess

                self._process = subprocess.Popen(["/bin/sh", "-c", self.path[1:]], stdin=subprocess.PIPE)
                assert self._process.stdin is not None
                self._fd = self._process.stdin.fileno()
            else:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
                self._fd = os.open(self.path, flags, 0o666)
        except OSError as error:
            raise CannotCapture(
                CANNOT_TRACE, f"cannot write {self.path}: {error.strerror}; name another file with -o"
            ) from error

    def ended(self, tid: int) -> None:
        """Takes the end of a thread: nothing to do where all share a file."""

    def write(self, line: str, tid: int = 0) -> None:
        """Writes a line. Raises CannotCapture once; later lines are dropped."""
        self._put(line.encode("utf-8", "backslashreplace") + b"\n")

    def part(self, text: str) -> None:
        """Writes the beginning of a line. Raises CannotCapture once; later text is dropped."""
        self._put(text.encode("utf-8", "backslashreplace"))

    def _put(self, data: bytes) -> None:
        if self._fd is None:
            return
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            self._fd = None
            raise CannotCapture(
                CANNOT_TRACE,
                f"cannot write {self.path or 'to standard error'}: {error.strerror}; the capture ends here",
            ) from error

    def close(self) -> None:
        """Closes it, and waits for the command that reads it."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._wait(self._process)
        elif self._fd is not None and self.path is not None:
            os.close(self._fd)
        self._fd = None

    @staticmethod
    def _wait(process: subprocess.Popen[bytes]) -> None:
        """Waits for a command. A signal may come just before waitpid(2) blocks: Python handles it when that returns."""
        import subprocess

        while process.returncode is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=1)


class SplitSink(Sink):
    """Writes the lines of each thread to a file of its own, FILE.TID (-ff)."""

    def __init__(self, path: str) -> None:
        """Takes the beginning of the names."""
        super().__init__(path)
        self._files: dict[int, Sink] = {}
        self._is_open = False

    @property
    def is_open(self) -> bool:
        """Returns True between `open` and the end, or the first write that failed."""
        return self._is_open

    def open(self) -> None:
        """Opens nothing yet: the first line of a thread opens its file."""
        self._is_open = True

    def write(self, line: str, tid: int = 0) -> None:
        """Writes a line of a thread. Raises CannotCapture once; later lines are dropped."""
        if not self._is_open:
            return
        try:
            if tid not in self._files:
                self._files[tid] = Sink(f"{self.path}.{tid}")
                self._files[tid].open()
            self._files[tid].write(line)
        except CannotCapture:
            self._is_open = False
            raise

    def ended(self, tid: int) -> None:
        """Closes the file of a thread."""
        if (file := self._files.pop(tid, None)) is not None:
            file.close()

    def close(self) -> None:
        """Closes all files."""
        for tid in list(self._files):
            self.ended(tid)
