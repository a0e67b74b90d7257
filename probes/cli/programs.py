"""Writes a program that a command makes, to a file or a descriptor."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from probes.errors import CommandError


def require_place(path: Path) -> None:
    """Raises CommandError if no file can be written there: before the work that makes it."""
    place, number = path if path.exists() else path.absolute().parent, 0
    if path.is_dir():
        number = errno.EISDIR
    elif not place.exists():
        number = errno.ENOENT
    elif not os.access(place, os.W_OK):
        number = errno.EACCES
    if number:
        raise CommandError(f"-o {path}: {os.strerror(number)}; name a file that can be written")


def write(path: Path, data: bytes, mode: int) -> None:
    """Writes a file as a shell's > does, but for the mode of a new one. Raises CommandError: it cannot be written."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    except OSError as error:
        raise CommandError(f"-o {path}: {error.strerror}; name a file that can be written") from error
    try:
        write_all(descriptor, data)
    except OSError as error:
        raise CommandError(f"-o {path}: {error.strerror}; free space, or name another file", 3) from error
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Writes bytes to a descriptor, however many a call takes. Raises OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
