"""Makes the standard streams usable, whatever state they were inherited in, and reports errors on stderr."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO


def prepare() -> None:
    """Opens /dev/null in place of a standard stream that is closed, and escapes characters that a stream cannot encode.

    A file that a command opens later would have the number of the closed stream, and get its output.
    """
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        mode = os.O_WRONLY if fd else os.O_RDONLY
        try:
            os.fstat(fd)
        except OSError:
            opened = os.open(os.devnull, mode)
            if opened != fd:
                os.dup2(opened, fd)
                os.close(opened)
            os.set_inheritable(fd, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, "w" if fd else "r", encoding="utf-8", closefd=False))  # noqa: SIM115 — it stays open
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Prints a message in one line on stderr, if that can be written."""
    with suppress(OSError, ValueError):
        print(f"socketcall: {' '.join(text.split())}", file=sys.stderr, flush=True)


def abandon() -> None:
    """Drops what is buffered for stdout if it cannot be written: Python writes it at exit, and would report that."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)


class _Lasting(io.RawIOBase):
    """Writes to a descriptor until that fails, and then nothing more."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def write(self, data) -> int:  # type: ignore[no-untyped-def] # typeshed's ReadableBuffer is not there at run time
        if self.error is None:
            try:
                return os.write(self._fd, data)
            except BlockingIOError:
                select.select([], [self._fd], [])
                return 0
            except OSError as error:
                self.error = error
        return len(data)


@contextmanager
def lasting_stdout() -> Iterator[Callable[[], bool]]:
    """Lets a command whose product is files go on in a `with` block where stdout cannot be written any more.

    After the block the yielded function returns False if something was not written, and a message said so. A reader
    that has read enough (`| head`) is no failure.
    """
    before: TextIO = sys.stdout
    before.flush()
    raw = _Lasting(before.fileno())
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=before.encoding, errors="backslashreplace", line_buffering=raw.isatty()
    )
    try:
        yield lambda: raw.error is None or raw.error.errno == errno.EPIPE
    finally:
        sys.stdout.flush()
        sys.stdout = before
        if raw.error is not None and raw.error.errno != errno.EPIPE:
            say(f"cannot write to standard output: {raw.error.strerror}; the files of the report are complete")
